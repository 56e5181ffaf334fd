from __future__ import annotations

import pytest

from tests.spec.published import USABLE, published
from txamqpx.errors import SpecError
from txamqpx.spec import amqp0_9_1
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect, from_spec
from txamqpx.spec.model import Class, Field, Method, Spec
from txamqpx.spec.xmlspec import bundled, load


@pytest.fixture(scope="module")
def old() -> Dialect:
    return from_spec(bundled("0-8"))


# --------------------------------------------------------------------------- versions


@pytest.mark.covers("T21")
@pytest.mark.parametrize(
    ("name", "header", "text"),
    [
        ("0-9-1", b"AMQP\x00\x00\x09\x01", "<AMQP 0-9-1>"),
        ("0-9", b"AMQP\x01\x01\x00\x09", "<AMQP 0-9>"),
        ("0-8", b"AMQP\x01\x01\x08\x00", "<AMQP 8-0>"),
    ],
)
def test_each_version_has_its_own_header(name: str, header: bytes, text: str) -> None:
    dialect = from_spec(bundled(name))
    assert dialect.header == header
    assert repr(dialect) == text
    assert dialect.port == 5672


@pytest.mark.covers("T21")
@pytest.mark.parametrize("name", USABLE)
def test_every_published_file_becomes_a_dialect_of_its_version(name: str) -> None:
    dialect = from_spec(load(published(name)))
    assert (dialect.major, dialect.minor, dialect.revision) == USABLE[name]
    assert dialect.header[:4] == b"AMQP"
    assert len(dialect.header) == 8
    assert dialect.by_name["basic.publish"].content


def test_the_checked_in_module_and_a_compiled_one_speak_the_same() -> None:
    compiled = from_spec(bundled("0-9-1"))
    assert compiled.header == AMQP_0_9_1.header
    assert compiled.methods.keys() == AMQP_0_9_1.methods.keys()
    assert compiled.responses == AMQP_0_9_1.responses
    assert compiled.soft_errors == AMQP_0_9_1.soft_errors
    assert compiled.hard_errors == AMQP_0_9_1.hard_errors
    assert compiled.properties.keys() == AMQP_0_9_1.properties.keys() == {60}
    for index, made in compiled.methods.items():
        assert made is not AMQP_0_9_1.methods[index]
        assert made().encode() == AMQP_0_9_1.methods[index]().encode()


# --------------------------------------------------------------------------- look-up


def test_the_methods_of_0_9_1_are_the_typed_classes() -> None:
    assert AMQP_0_9_1.by_name["queue.declare"] is amqp0_9_1.QueueDeclare
    assert AMQP_0_9_1.methods[50 << 16 | 10] is amqp0_9_1.QueueDeclare
    assert AMQP_0_9_1.properties[60] is amqp0_9_1.BasicProperties


def test_every_method_is_found_by_its_index_and_by_its_name() -> None:
    assert len(AMQP_0_9_1.by_name) == len(AMQP_0_9_1.methods) == len(amqp0_9_1.METHODS)
    for index, made in AMQP_0_9_1.methods.items():
        assert made.index == index
        assert AMQP_0_9_1.by_name[made.name] is made


def test_the_responses_are_all_the_methods_that_answer_something() -> None:
    names = {AMQP_0_9_1.methods[index].name for index in AMQP_0_9_1.responses}
    assert {"queue.declare-ok", "basic.get-ok", "basic.get-empty", "basic.recover-ok"} <= names
    assert all(name.endswith("-ok") or name == "basic.get-empty" for name in names)
    assert not {"basic.deliver", "basic.ack", "connection.start", "basic.cancel"} & names


def test_the_reply_codes_know_their_names() -> None:
    assert AMQP_0_9_1.soft_errors[404] == "not-found"
    assert AMQP_0_9_1.hard_errors[530] == "not-allowed"


# --------------------------------------------------------------------------- making methods


def test_a_method_is_made_by_its_name() -> None:
    made = AMQP_0_9_1.new("queue.declare", queue="jobs", durable=True)
    assert made == amqp0_9_1.QueueDeclare(queue="jobs", durable=True)


def test_what_a_version_does_not_know_is_left_out(old: Dialect) -> None:
    arguments = {"virtual_host": "/", "capabilities": "x", "insist": True}
    assert AMQP_0_9_1.new("connection.open", **arguments) == amqp0_9_1.ConnectionOpen(virtual_host="/")
    assert old.new("connection.open", **arguments).encode() == b"\x00\x0a\x00\x28\x01/\x01x\x01"


def test_a_method_that_a_version_does_not_have_is_a_key_error(old: Dialect) -> None:
    with pytest.raises(KeyError, match=r"confirm\.select"):
        old.new("confirm.select")


def test_a_field_may_be_called_name() -> None:
    klass = Class(
        name="some",
        index=7,
        methods=(Method(name="thing", index=8, fields=(Field(name="name", type="octet"),)),),
    )
    spec = Spec(major=0, minor=9, revision=1, port=1, constants=(), domains=(), classes=(klass,))
    assert from_spec(spec).new("some.thing", name_=5).encode() == b"\x00\x07\x00\x08\x05"


# --------------------------------------------------------------------------- refusing


def test_what_cannot_be_generated_is_refused() -> None:
    klass = Class(name="some", index=7, fields=(Field(name="urgent", type="bit"),))
    spec = Spec(major=0, minor=9, revision=1, port=1, constants=(), domains=(), classes=(klass,))
    with pytest.raises(SpecError, match="more than 15 properties, or a bit"):
        from_spec(spec)
