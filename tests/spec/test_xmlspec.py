from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spec.malformed import BILLION_LAUGHS, REFUSED, amqp, in_method
from tests.spec.published import DELIBERATE_DIFFERENCES, OTHERS, USABLE, published
from txamqpx.errors import AMQPError, SpecError
from txamqpx.spec.model import ELEMENTARY_TYPES, Class, Method, Spec
from txamqpx.spec.xmlspec import BUNDLED, bundled, load, loads


def data(name: str) -> bytes:
    return (resources.files("txamqpx.spec") / "data" / f"amqp{name}.xml").read_bytes()


def one_class(inside: str, before: str = "") -> Class:
    (found,) = loads(amqp(f'{before}<class name="basic" index="60">{inside}</class>')).classes
    return found


def one_method(inside: str, attributes: str = "", before: str = "") -> Method:
    return one_class(f'<method name="qos" index="10" {attributes}>{inside}</method>', before).methods[0]


def methods(spec: Spec) -> Iterator[tuple[str, Method]]:
    return ((f"{klass.name}.{method.name}", method) for klass in spec.classes for method in klass.methods)


def facts(spec: Spec) -> set[str]:
    """Everything that a specification says, a line for each fact."""
    lines = {f"version {spec.major} {spec.minor} {spec.revision}", f"port {spec.port}"}
    lines |= {f"constant {each.name} {each.value} {each.kind}".rstrip() for each in spec.constants}
    lines |= {f"domain {each.name} {each.type}" for each in spec.domains}
    for klass in spec.classes:
        lines.add(f"class {klass.name} {klass.index}")
        properties = [f"{place} {field.name} {field.type}" for place, field in enumerate(klass.fields)]
        lines |= {f"property {klass.name} {each}" for each in properties}
    for name, method in methods(spec):
        receivers = "server " * method.to_server + "client " * method.to_client
        lines.add(
            f"method {name} {method.index} to {receivers}"
            f"{'synchronous ' * method.synchronous}{'content ' * method.content}{' '.join(method.responses)}"
        )
        for place, field in enumerate(method.fields):
            lines.add(f"field {name} {place} {field.name} {field.type}{' reserved' * field.reserved}")
    return lines


# --------------------------------------------------------------------------- what is bundled


@pytest.mark.covers("S63")
@pytest.mark.parametrize(("name", "version"), [("0-9-1", (0, 9, 1)), ("0-9", (0, 9, 0)), ("0-8", (8, 0, 0))])
def test_each_bundled_specification_loads_by_its_name(name: str, version: tuple[int, int, int]) -> None:
    spec = bundled(name)
    assert (spec.major, spec.minor, spec.revision) == version
    assert spec.port == 5672


def test_what_is_bundled_is_what_is_in_the_package() -> None:
    files = {file.name for file in (resources.files("txamqpx.spec") / "data").iterdir()}
    assert files == {f"amqp{name}.xml" for name in BUNDLED}


def test_an_unknown_bundled_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"^1-0: not bundled; there are 0-9-1, 0-9, 0-8$"):
        bundled("1-0")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_specification_is_whole(name: str) -> None:
    spec = bundled(name)
    assert {domain.type for domain in spec.domains} <= ELEMENTARY_TYPES
    for klass in spec.classes:
        assert {field.type for field in klass.fields} <= ELEMENTARY_TYPES
        for method in klass.methods:
            assert {field.type for field in method.fields} <= ELEMENTARY_TYPES
            assert method.to_server or method.to_client
            # An answer goes back to where the request came from.
            for answer in map(klass.method, method.responses):
                assert not method.to_server or answer.to_client
                assert not method.to_client or answer.to_server
    assert {"connection", "channel", "access", "exchange", "queue", "basic", "tx"} <= {
        klass.name for klass in spec.classes
    }


RABBITMQ_EXTENSIONS = {
    "connection.blocked": (10, 60, "client", (), ("reason:shortstr",)),
    "connection.unblocked": (10, 61, "client", (), ()),
    "connection.update-secret": (
        *(10, 70, "server", ("update-secret-ok",)),
        ("new-secret:longstr", "reason:shortstr"),
    ),
    "connection.update-secret-ok": (10, 71, "client", (), ()),
    "exchange.bind-ok": (40, 31, "client", (), ()),
    "exchange.unbind-ok": (40, 51, "client", (), ()),
    "basic.cancel": (60, 30, "both", ("cancel-ok",), ("consumer-tag:shortstr", "no-wait:bit")),
    "basic.cancel-ok": (60, 31, "both", (), ("consumer-tag:shortstr",)),
    "basic.ack": (60, 80, "both", (), ("delivery-tag:longlong", "multiple:bit")),
    "basic.nack": (60, 120, "both", (), ("delivery-tag:longlong", "multiple:bit", "requeue:bit")),
    "confirm.select": (85, 10, "server", ("select-ok",), ("no-wait:bit",)),
    "confirm.select-ok": (85, 11, "client", (), ()),
    **{
        f"exchange.{name}": (
            *(40, index, "server", (f"{name}-ok",)),
            (
                "destination:shortstr",
                "source:shortstr",
                "routing-key:shortstr",
                "no-wait:bit",
                "arguments:table",
            ),
        )
        for name, index in (("bind", 30), ("unbind", 40))
    },
}


@pytest.mark.covers("F6")
@pytest.mark.parametrize("name", RABBITMQ_EXTENSIONS)
def test_0_9_1_has_what_rabbitmq_added(name: str) -> None:
    class_name, _, method_name = name.partition(".")
    (klass,) = (klass for klass in bundled("0-9-1").classes if klass.name == class_name)
    method = klass.method(method_name)
    receiver = {(True, True): "both", (True, False): "server", (False, True): "client"}
    fields = tuple(f"{field.name}:{field.type}" for field in method.fields if not field.reserved)
    found = (
        *(klass.index, method.index, receiver[method.to_server, method.to_client]),
        *(method.responses, fields),
    )
    assert found == RABBITMQ_EXTENSIONS[name]


def test_exchange_declare_has_the_bits_that_0_9_1_reserved() -> None:
    declare = dict(methods(bundled("0-9-1")))["exchange.declare"]
    assert [field.name for field in declare.fields if not field.reserved] == [
        *("exchange", "type", "passive", "durable", "auto-delete", "internal", "no-wait", "arguments")
    ]


@pytest.mark.parametrize(
    ("name", "space"), [("0-9-1", "-"), ("0-9", "-"), ("0-8", " ")], ids=["0-9-1", "0-9", "0-8"]
)
def test_the_fourteen_properties_have_each_versions_own_spelling(name: str, space: str) -> None:
    (basic,) = (klass for klass in bundled(name).classes if klass.name == "basic")
    assert [field.name for field in basic.fields] == [
        *(f"content{space}type", f"content{space}encoding", "headers", f"delivery{space}mode", "priority"),
        *(f"correlation{space}id", f"reply{space}to", "expiration", f"message{space}id", "timestamp", "type"),
        *(f"user{space}id", f"app{space}id", f"cluster{space}id"),
    ]


def test_the_reply_codes_of_0_9_1_know_whom_they_close() -> None:
    constants = bundled("0-9-1").constants
    soft = {each.value for each in constants if each.kind == "soft-error"}
    hard = {each.value for each in constants if each.kind == "hard-error"}
    assert soft == {311, 312, 313, 403, 404, 405, 406}
    assert hard == {320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541}


def test_the_kinds_of_reply_codes_are_spelled_alike_in_every_version() -> None:
    assert {each.kind for each in bundled("0-8").constants} == {"", "soft-error", "hard-error"}


def test_0_8_has_the_unbind_that_rabbitmq_added() -> None:
    unbind = dict(methods(bundled("0-8")))["queue.unbind"]
    assert (unbind.index, unbind.responses) == (50, ("unbind-ok",))


def test_the_arguments_of_0_9_are_those_of_0_9_1_in_every_method_that_both_have() -> None:
    # RabbitMQ counts on it: it answers 0-9 with 0-9-1.
    old, new = (
        {(klass.index, method.index): method for klass in bundled(name).classes for method in klass.methods}
        for name in ("0-9", "0-9-1")
    )
    both = old.keys() & new.keys()
    assert len(both) > 50
    for key in both:
        assert [field.type for field in old[key].fields] == [field.type for field in new[key].fields]


# --------------------------------------------------------------------------- what others published


@pytest.mark.covers("S63")
@pytest.mark.parametrize("name", USABLE)
def test_a_published_file_loads_unchanged_from_its_path_and_from_a_string(name: str) -> None:
    path = published(name)
    spec = load(path)
    assert (spec.major, spec.minor, spec.revision) == USABLE[name]
    assert load(str(path)) == spec
    assert loads(path.read_bytes()) == spec
    assert loads(path.read_text()) == spec


@pytest.mark.covers("S63", "F13b")
@pytest.mark.parametrize("name", USABLE)
def test_recover_is_answered_wherever_there_is_a_recover_ok(name: str) -> None:
    found = dict(methods(load(published(name))))
    for request in ("basic.recover", "basic.recover-sync"):
        if f"{request}-ok" in found:
            assert found[request].responses == (f"{request}-ok".removeprefix("basic."),)
        elif request in found:
            assert found[request].responses == ()


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_protocol_is_refused_by_its_name(name: str) -> None:
    path = published(name)
    with pytest.raises(SpecError, match=f"{OTHERS[name]} is another protocol") as caught:
        load(path)
    assert caught.value.source == str(path)


@pytest.mark.parametrize(("name", "ours"), list(zip(DELIBERATE_DIFFERENCES, BUNDLED, strict=True)))
def test_our_data_says_what_the_published_files_say(name: str, ours: str) -> None:
    mine, theirs = facts(bundled(ours)), facts(load(published(name)))
    found = {f"+ {line.strip()}" for line in mine - theirs} | {f"- {line.strip()}" for line in theirs - mine}
    expected = {line.strip() for line in DELIBERATE_DIFFERENCES[name].splitlines() if line.strip()}
    assert found == expected


def test_the_answer_to_recover_is_repaired_in_the_published_0_9_1_and_written_in_ours() -> None:
    # Compared by the text: after loading they are the same.
    def recover(text: str) -> str:
        (found,) = re.findall(r'<method name="recover".*?</method>', text, re.DOTALL)
        return str(found)

    theirs = published("0-9-1-rabbit/amqp0-9-1.stripped.extended.xml").read_text()
    assert '<response name="recover-ok"/>' not in recover(theirs)
    assert '<response name="recover-ok"/>' in recover(data("0-9-1").decode())


# --------------------------------------------------------------------------- reading


@pytest.mark.covers("S63")
def test_path_and_text_say_the_same() -> None:
    with resources.as_file(resources.files("txamqpx.spec") / "data" / "amqp0-8.xml") as path:
        assert load(path) == load(str(path)) == loads(path.read_bytes()) == loads(path.read_text())
        assert load(path) == bundled("0-8")


def test_types_are_followed_through_domains_of_domains() -> None:
    chain = '<domain name="a" type="b"/><domain name="b" type="c"/><domain name="c" type="long"/>'
    method = one_method('<field name="size" domain="a"/>', before=chain)
    assert method.fields[0].type == "long"


def test_a_domain_may_be_named_with_a_space_here_and_with_a_dash_there() -> None:
    # Qpid's 0-9 file does that.
    method = one_method(
        '<field name="queue" domain="queue name"/>', before='<domain name="queue-name" type="shortstr"/>'
    )
    assert method.fields[0].type == "shortstr"


def test_the_compound_content_of_0_9_becomes_its_two_fields() -> None:
    method = one_method('<field name="body" domain="content"/>')
    assert [(field.name, field.type) for field in method.fields] == [
        *(("body-kind", "octet"), ("body", "longstr"))
    ]


def test_a_domain_called_content_is_what_the_file_says() -> None:
    method = one_method(
        '<field name="body" domain="content"/>', before='<domain name="content" type="longstr"/>'
    )
    assert [(field.name, field.type) for field in method.fields] == [("body", "longstr")]


@pytest.mark.parametrize(
    ("chassis", "receivers"),
    [
        ('<chassis name="server" implement="MUST"/>', (True, False)),
        ('<chassis name="client" implement="MAY"/>', (False, True)),
        ('<chassis name="client"/><chassis name="server"/>', (True, True)),
        ("", (True, True)),
    ],
)
def test_who_may_receive_a_method_is_in_its_chassis(chassis: str, receivers: tuple[bool, bool]) -> None:
    method = one_method(chassis)
    assert (method.to_server, method.to_client) == receivers


def test_the_flags_of_methods_and_fields_are_read() -> None:
    method = one_method('<field name="ticket" type="short" reserved="1"/>', 'content="1" synchronous="0"')
    assert (method.content, method.synchronous, method.fields[0].reserved) == (True, False, True)


def test_a_reply_waits_for_nothing_though_the_published_files_call_it_synchronous() -> None:
    klass = one_class(
        '<method name="get" index="70" synchronous="1"><response name="get-empty"/></method>'
        '<method name="get-empty" index="72" synchronous="1"/>'
    )
    assert [method.synchronous for method in klass.methods] == [True, False]


def test_a_method_that_has_an_ok_is_answered_by_it() -> None:
    klass = one_class('<method name="bound" index="22"/><method name="bound-ok" index="23"/>')
    assert klass.methods[0].responses == ("bound-ok",)
    assert klass.methods[0].synchronous
    assert klass.methods[1].responses == ()


def test_answers_that_the_file_names_are_left_alone() -> None:
    klass = one_class(
        '<method name="get" index="70"><response name="got"/></method>'
        '<method name="got" index="71"/><method name="get-ok" index="72"/>'
    )
    assert klass.methods[0].responses == ("got",)


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ('major="8" minor="0" port="5672"', (8, 0, 0)),
        ('major="0" minor="8" port="5672"', (8, 0, 0)),
        ('major="0" minor="9" port="5672"', (0, 9, 0)),
        ('major="0" minor="9" revision="1" port="5672"', (0, 9, 1)),
        ('major="0" minor="91" port="5672"', (0, 9, 1)),
    ],
)
def test_a_version_may_be_written_in_several_ways(written: str, version: tuple[int, int, int]) -> None:
    spec = loads(amqp('<class name="tx" index="90"/>', written))
    assert (spec.major, spec.minor, spec.revision) == version


def test_other_elements_and_a_document_type_without_entities_are_passed_over() -> None:
    # The unabridged files are full of documentation and rules; some name a DTD.
    text = '<!DOCTYPE amqp SYSTEM "amqp.dtd">' + amqp(
        "AMQ Protocol<doc>what it is</doc>"
        '<class name="tx" index="90" label="of work"><doc><![CDATA[a & b]]></doc><rule name="r"/></class>'
    )
    assert [klass.name for klass in loads(text).classes] == ["tx"]


# --------------------------------------------------------------------------- refusing


@pytest.mark.parametrize(("text", "where", "reason"), REFUSED)
def test_what_does_not_add_up_is_refused_with_the_place(text: str, where: str, reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    assert (caught.value.source, caught.value.where, caught.value.reason) == ("<string>", where, reason)


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        (BILLION_LAUGHS, "a"),
        ('<!DOCTYPE amqp [\n<!ENTITY secret SYSTEM "file:///etc/hostname">]>' + amqp("&secret;"), "secret"),
        ('<!DOCTYPE amqp [<!ENTITY % more SYSTEM "http://localhost/more.dtd"> %more;]>' + amqp(""), "more"),
    ],
    ids=["billion laughs", "external", "parameter"],
)
def test_entities_are_refused_where_they_are_declared(text: str, entity: str) -> None:
    with pytest.raises(SpecError, match=r"entities are refused") as caught:
        loads(text)
    assert caught.value.reason == f"entity {entity!r}: entities are refused"
    assert caught.value.where == ("line 2" if "\n" in text else "line 1")


def test_an_external_document_type_is_not_fetched(tmp_path: Path) -> None:
    dtd = tmp_path / "amqp.dtd"
    dtd.write_text('<!ENTITY name "basic">')
    text = f'<!DOCTYPE amqp SYSTEM "{dtd.as_uri()}">' + amqp('<class name="tx" index="90"/><doc>&name;</doc>')
    # The reference stays unresolved; had the file been read, its entity would have been refused.
    assert len(loads(text).classes) == 1


@pytest.mark.parametrize(
    "text",
    [
        b'<?xml version="1.0" encoding="no-such-encoding"?><amqp/>',
        b'<?xml version="1.0" encoding="shift_jis"?><amqp/>',
        b"<amqp>\xae</amqp>",
        "<amqp>\ud800</amqp>",
    ],
    ids=["unknown encoding", "encoding of several bytes", "not UTF-8", "lone surrogate"],
)
def test_text_that_cannot_be_decoded_is_refused(text: str | bytes) -> None:
    with pytest.raises(SpecError, match=r"^<string>: is not well-formed XML: "):
        loads(text)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent.xml", "No such file or directory"), ("", "Is a directory"), ("a\0b", "embedded null byte")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    with pytest.raises(SpecError) as caught:
        load(path)
    assert caught.value.source == str(path)
    assert caught.value.reason == f"cannot be read: {reason}"


def test_an_error_of_a_file_begins_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.xml"
    path.write_text(in_method('<field name="size" domain="huge"/>'))
    with pytest.raises(SpecError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: basic.qos.size: unknown type 'huge'"


def test_a_spec_error_is_one_of_ours_and_a_value_error() -> None:
    assert issubclass(SpecError, AMQPError)
    assert issubclass(SpecError, ValueError)


# --------------------------------------------------------------------------- properties


@given(st.one_of(st.text(), st.binary()))
def test_anything_at_all_is_read_or_refused(text: str | bytes) -> None:
    with pytest.raises(SpecError):
        loads(text)


def damaged(text: bytes) -> st.SearchStrategy[bytes]:
    """The text with a few places overwritten by what is likely to hurt."""
    hurts = st.sampled_from(
        [b"", b"<", b'"', b"/>", b"0", b"-1", b"bit", b"&a;", b"\xff", b"</class>", b'" name="']
    )
    place = st.tuples(st.integers(0, len(text)), st.integers(0, 12), hurts)

    def damage(places: list[tuple[int, int, bytes]]) -> bytes:
        result = text
        for start, length, replacement in places:
            result = result[:start] + replacement + result[start + length :]
        return result

    return st.lists(place, min_size=1, max_size=3).map(damage)


@given(damaged(data("0-9-1")))
def test_a_damaged_file_is_read_or_refused(text: bytes) -> None:
    with suppress(SpecError):
        spec = loads(text)
        assert {field.type for _, method in methods(spec) for field in method.fields} <= ELEMENTARY_TYPES
