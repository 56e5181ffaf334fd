from __future__ import annotations

import builtins
import inspect
import keyword
import struct
from collections.abc import Mapping
from itertools import cycle
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.spec.made import SPECS, dialect_of, method_with, methods, properties_with, spec_of, spec_with
from tests.spec.plainly import FORMATS, VALUES, arguments_on_the_wire, hands, on_the_wire
from txamqpx.errors import DecodeError, EncodeError, SpecError
from txamqpx.spec import base
from txamqpx.spec.base import Properties
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect, from_spec
from txamqpx.spec.model import Class, Constant, Field, Method
from txamqpx.spec.modulegen import module_source
from txamqpx.spec.naming import class_name, python_name
from txamqpx.spec.xmlspec import BUNDLED, bundled, loads

# --------------------------------------------------------------------------- methods


def check_round_trip(dialect: Dialect, klass: Class, method: Method, values: Mapping[str, Any]) -> None:
    made = dialect.by_name[f"{klass.name}.{method.name}"]
    visible = [field for field in method.fields if not field.reserved]
    value = made(**{python_name(field.name): values[field.name] for field in visible})
    encoded = value.encode()
    assert encoded == struct.pack(">HH", klass.index, method.index) + arguments_on_the_wire(
        method.fields, values
    )
    # Whatever stands before and behind the payload belongs to somebody else.
    for before, behind in ((b"", b""), (b"\xff" * 3, b"\xff" * 9)):
        buffer = before + encoded + behind
        decoded = made.decode(buffer, len(before) + 4, len(before) + len(encoded))
        assert decoded == value
        assert all(
            type(getattr(decoded, python_name(field.name))) is type(values[field.name]) for field in visible
        )


@pytest.mark.covers("S63")
@pytest.mark.parametrize("name", SPECS)
def test_every_method_of_every_version_makes_the_round_trip(name: str) -> None:
    spec, dialect = spec_of(name), dialect_of(name)

    @settings(max_examples=20)
    @given(hands)
    def check(hand: dict[str, list[Any]]) -> None:
        deal = {kind: cycle(values) for kind, values in hand.items()}
        for klass, method in methods(spec):
            check_round_trip(
                dialect, klass, method, {field.name: next(deal[field.type]) for field in method.fields}
            )

    check()


@st.composite
def made_up_methods(draw: st.DrawFn) -> tuple[Method, dict[str, Any]]:
    kinds = draw(st.lists(st.tuples(st.sampled_from(sorted(VALUES)), st.booleans()), max_size=24))
    fields = [
        Field(name=f"field {place}", type=kind, reserved=reserved)
        for place, (kind, reserved) in enumerate(kinds)
    ]
    return Method(name="thing", index=8, fields=tuple(fields)), {
        field.name: draw(VALUES[field.type]) for field in fields
    }


@settings(max_examples=60, deadline=None)
@given(made_up_methods())
def test_any_sequence_of_fields_makes_the_round_trip(drawn: tuple[Method, dict[str, Any]]) -> None:
    method, values = drawn
    klass = Class(name="some", index=7, methods=(method,))
    check_round_trip(from_spec(spec_with(klass)), klass, method, values)


@pytest.mark.covers("T-FR-09")
def test_more_than_eight_bits_take_a_second_octet() -> None:
    names = [f"b{place}" for place in range(10)]
    made = method_with(*(Field(name=name, type="bit") for name in names))
    value = made(**dict.fromkeys(["b0", "b7", "b9"], True))
    assert value.encode()[4:] == b"\x81\x02"
    assert made.decode(b"\x81\x02", 0, 2) == value


@pytest.mark.covers("T-FR-09")
def test_a_bit_behind_another_field_begins_a_new_octet() -> None:
    made = method_with(
        Field(name="a", type="bit"), Field(name="b", type="octet"), Field(name="c", type="bit")
    )
    assert made(a=True, b=9, c=True).encode()[4:] == b"\x01\x09\x01"
    assert made.decode(b"\x01\x09\x01", 0, 3) == made(a=True, b=9, c=True)


# --------------------------------------------------------------------------- properties


def normal(name: str, value: Any) -> Any:
    """A value that this property may have: two of them are choosier than their types."""
    return {"delivery_mode": 2, "expiration": "60000"}.get(python_name(name), value)


@pytest.mark.covers("S63", "T-FR-10")
@pytest.mark.parametrize("name", SPECS)
def test_every_property_of_every_version_makes_the_round_trip(name: str) -> None:
    spec, dialect = spec_of(name), dialect_of(name)

    @settings(max_examples=20)
    @given(hands, st.lists(st.booleans(), min_size=5, max_size=5))
    def check(hand: dict[str, list[Any]], present: list[bool]) -> None:
        deal, wanted = {kind: cycle(values) for kind, values in hand.items()}, cycle(present)
        for klass in spec.classes:
            if not klass.fields:
                continue
            values = {
                field.name: normal(field.name, next(deal[field.type]))
                for field in klass.fields
                if next(wanted)
            }
            flags = sum(0x8000 >> place for place, field in enumerate(klass.fields) if field.name in values)
            expected = struct.pack(">H", flags) + b"".join(
                on_the_wire(field.type, values[field.name]) for field in klass.fields if field.name in values
            )
            made = dialect.properties[klass.index]
            value = made(**{python_name(key): each for key, each in values.items()})
            assert value.encode() == expected
            decoded = made.decode(b"\xff" + expected + b"\xff" * 9, 1, 1 + len(expected))
            assert decoded == value
            assert {python_name(key) for key in values} == decoded.as_dict().keys()

    check()


@pytest.mark.covers("S63")
@pytest.mark.parametrize("name", SPECS)
def test_properties_go_by_their_names_in_every_spelling(name: str) -> None:
    made: Any = dialect_of(name).properties[60]
    expected = made(delivery_mode=2, content_type="text/plain", correlation_id="7")
    for space in ("_", "-", " "):
        named = made.named(
            {f"delivery{space}mode": 2, f"content{space}type": "text/plain", f"correlation{space}id": "7"}
        )
        assert named == expected
        assert (named.delivery_mode, named.content_type, named.reply_to) == (2, "text/plain", None)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_a_property_may_be_of_any_width(kind: str) -> None:
    made = properties_with(Field(name="first", type=kind), Field(name="second", type="shortstr"))
    value = made(first=0xA5, second="x")
    assert made.decode(value.encode(), 0, len(value.encode())) == value
    with pytest.raises(DecodeError, match="some properties is cut short"):
        made.decode(value.encode(), 0, 3 if kind != "octet" else 2)


def test_a_table_among_the_properties_is_read_only_either_way() -> None:
    made = properties_with(Field(name="headers", type="table"))
    for value in (made(headers={"a": 1}), made.decode(made(headers={"a": 1}).encode(), 0, 99)):
        with pytest.raises(TypeError):
            value.headers["a"] = 2


@pytest.mark.covers("T-FR-10")
def test_flags_of_unknown_properties_are_passed_over() -> None:
    made = properties_with(Field(name="priority", type="octet"))
    # Two words of flags: the last bit of a word says that another one follows.
    encoded = bytes.fromhex("8001 8000 07 0909")
    assert made.decode(encoded, 0, len(encoded)) == made(priority=7)


def test_flags_without_end_are_refused() -> None:
    made = properties_with(Field(name="priority", type="octet"))
    encoded = bytes.fromhex("8001 8001 8000 07")
    with pytest.raises(DecodeError, match="more than two words of flags"):
        made.decode(encoded, 0, len(encoded))


@pytest.mark.parametrize("size", range(12))
def test_properties_that_are_cut_short_are_refused(size: int) -> None:
    made = properties_with(Field(name="priority", type="octet"), Field(name="kind", type="shortstr"))
    encoded = made(priority=7, kind="12345678").encode()
    assert len(encoded) == 12
    with pytest.raises(DecodeError, match="some properties is cut short"):
        made.decode(encoded, 0, size)


def test_a_class_whose_methods_carry_content_has_properties_even_if_there_are_none() -> None:
    # AMQP 0-8 has such a class, called test.
    made = from_spec(
        spec_with(Class(name="some", index=7, methods=(Method(name="thing", index=8, content=True),)))
    )
    assert made.properties[7]().encode() == b"\0\0"
    assert made.properties[7].decode(b"\0\0", 0, 2) == made.properties[7]()


@pytest.mark.parametrize(
    "fields",
    [
        [Field(name=f"p{place}", type="octet") for place in range(16)],
        [Field(name="urgent", type="bit")],
        [Field(name="class id", type="short")],
    ],
    ids=["sixteen", "a bit", "a class id"],
)
def test_properties_that_one_word_of_flags_cannot_hold_are_refused(fields: list[Field]) -> None:
    with pytest.raises(
        SpecError, match="more than 15 properties, or a bit or a class id among them"
    ) as caught:
        properties_with(*fields)
    assert caught.value.where == "some"


# --------------------------------------------------------------------------- names


def taken_words() -> list[str]:
    """Every word that means something to Python, to the base classes, or to the generated code."""
    module = ModuleType("generated")
    exec(module_source(bundled("0-9-1")), module.__dict__)
    locals_ = {
        word
        for made in (module.QueueDeclare, module.BasicProperties)
        for function in (made.__init__, made.encode, made.decode)
        for word in (*function.__code__.co_varnames, *function.__code__.co_names)
    }
    words = {
        *keyword.kwlist,
        *keyword.softkwlist,
        *dir(builtins),
        *dir(base.Method),
        *dir(Properties),
        *locals_,
    }
    words |= {*base.Method.__annotations__, *Properties.__annotations__, *vars(module), "bits2", "bits3"}
    return sorted(word for word in words if not word.startswith("_"))


def test_no_name_of_a_field_gets_in_the_way_of_the_generated_code() -> None:
    words = [word for word in taken_words() if word != "class_id"]
    assert {"self", "offset", "error", "property", "values", "encode_bits", "name"} <= {*words}
    # Seventeen bits need three locals; the table behind them needs the offset to be right.
    bits = [Field(name=f"x bit {place}", type="bit") for place in range(17)]
    behind = (Field(name="x number", type="long"), Field(name="x table", type="table"))
    for word in words:
        made = method_with(Field(name=word, type="shortstr"), *bits, *behind)
        wanted = {python_name(word): "60", "x_bit_16": True, "x_number": 5, "x_table": {"k": "v"}}
        value = made(**wanted)
        assert made.decode(value.encode(), 4, len(value.encode())) == value, word
        assert (value.name, value.index, value.expects_reply) == ("some.thing", 0x00070008, False), word
        with pytest.raises(EncodeError, match=r"some\.thing x_number"):
            made(**{**wanted, "x_number": -1}).encode()
        with pytest.raises(DecodeError, match=r"some\.thing is cut short"):
            made.decode(b"", 0, 0)

        made = properties_with(Field(name=word, type="shortstr"), *behind)
        del wanted["x_bit_16"]
        some = made(**wanted)
        assert made.decode(some.encode(), 0, len(some.encode())) == some, word
        assert some.as_dict() == wanted, word


@pytest.mark.parametrize(
    ("klass", "method"), [("a-b", "c"), ("raw", "timestamp"), ("some", "properties"), ("encode", "error")]
)
def test_two_things_of_one_name_are_refused(klass: str, method: str) -> None:
    spec = spec_with(
        Class(name="a", index=1, methods=(Method(name="b-c", index=1),)),
        Class(name="some", index=2, fields=(Field(name="p", type="octet"),)),
        Class(name=klass, index=3, methods=(Method(name=method, index=1),)),
    )
    with pytest.raises(SpecError, match=class_name(klass, method)):
        module_source(spec)


@pytest.mark.parametrize("name", ["methods", "PORT", "hard errors"])
def test_a_constant_may_not_take_a_name_of_the_module(name: str) -> None:
    with pytest.raises(SpecError, match=name.upper().replace(" ", "_")):
        module_source(spec_with(constants=(Constant(name=name, value=1),)))


# --------------------------------------------------------------------------- signatures and facts


@pytest.mark.covers("S63")
@pytest.mark.parametrize(
    ("spec", "method", "expected"),
    [
        (
            "0-8",
            "queue.declare",
            (
                "ticket=0, queue='', passive=False, durable=False, exclusive=False, auto_delete=False, "
                "nowait=False, arguments=None"
            ),
        ),
        (
            "0-9",
            "basic.consume",
            (
                "ticket=0, queue='', consumer_tag='', no_local=False, no_ack=False, exclusive=False, "
                "nowait=False, filter=None"
            ),
        ),
        (
            "0-9-1",
            "exchange.declare",
            (
                "exchange='', type='direct', passive=False, durable=False, auto_delete=False, "
                "internal=False, no_wait=False, arguments=None"
            ),
        ),
        (
            "0-9-1/amqp0-9-1.stripped.xml",
            "basic.qos",
            "prefetch_size=0, prefetch_count=0, global_=False",
        ),
        ("0-9-1", "basic.recover", "requeue=False"),
        ("0-9-1", "tx.select", ""),
    ],
)
def test_a_method_takes_what_its_version_has(spec: str, method: str, expected: str) -> None:
    signature = inspect.signature(dialect_of(spec).by_name[method])
    assert ", ".join(f"{name}={each.default!r}" for name, each in signature.parameters.items()) == expected


@pytest.mark.covers("S63")
@pytest.mark.parametrize("name", SPECS)
def test_the_classes_know_what_the_specification_says(name: str) -> None:
    spec, dialect = spec_of(name), dialect_of(name)
    assert len(dialect.methods) == len(list(methods(spec)))
    for klass, method in methods(spec):
        made = dialect.methods[klass.index << 16 | method.index]
        assert made is dialect.by_name[f"{klass.name}.{method.name}"]
        assert made.__doc__ == f"``{klass.name}.{method.name}``."
        assert made.content == method.content
        assert (made.to_server, made.to_client) == (method.to_server, method.to_client)
        assert [dialect.methods[index].name for index in made.responses] == [
            f"{klass.name}.{response}" for response in method.responses
        ]
        assert issubclass(made, base.Request) == bool(method.responses)
        assert [kind for _, kind in made.fields] == [
            field.type for field in method.fields if not field.reserved
        ]
        if method.content:
            assert dialect.properties[klass.index].class_id == klass.index


@pytest.mark.covers("S63")
@pytest.mark.parametrize("name", SPECS)
def test_a_method_that_says_no_wait_in_either_spelling_expects_no_reply(name: str) -> None:
    flags = set()
    for made in dialect_of(name).methods.values():
        flag = {"no_wait", "nowait"} & {field for field, _ in made.fields}
        assert made().expects_reply is bool(made.responses)
        for each in flag:
            assert made(**{each: True}).expects_reply is False
        flags |= flag
    assert flags


def test_a_no_wait_in_a_method_that_nobody_answers_changes_nothing() -> None:
    made = method_with(Field(name="nowait", type="bit"))
    assert made(nowait=True).expects_reply is False
    assert made(nowait=False).expects_reply is False


@pytest.mark.parametrize("name", BUNDLED)
def test_credentials_show_in_no_repr(name: str) -> None:
    dialect = dialect_of(name)
    start_ok = dialect.new("connection.start-ok", response=b"\0guest\0hunter2", mechanism="PLAIN")
    assert "hunter2" not in repr(start_ok)
    assert "PLAIN" in repr(start_ok)
    assert "hunter2" not in repr(dialect.new("connection.secure-ok", response=b"hunter2"))


def test_a_new_secret_shows_in_no_repr() -> None:
    assert "hunter2" not in repr(AMQP_0_9_1.new("connection.update-secret", new_secret=b"hunter2"))


@pytest.mark.parametrize("name", SPECS)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_field(name: str) -> None:
    bad = {"bit": 2, "shortstr": "x" * 256, "longstr": 7, "timestamp": 7, "table": 7}
    for made in dialect_of(name).methods.values():
        for field, kind in made.fields:
            with pytest.raises(EncodeError) as caught:
                made(**{field: bad.get(kind, -1)}).encode()
            assert caught.value.field == f"{made.name} {field}"


@pytest.mark.parametrize("name", SPECS)
def test_arguments_that_are_cut_short_are_refused(name: str) -> None:
    # Zeros make every string and table empty and every number 0: the shortest form of each method.
    for made in dialect_of(name).methods.values():
        encoded = made().encode()
        if not made.fields:
            continue
        assert made.decode(encoded, 4, len(encoded)).name == made.name
        for behind in (b"", b"\0" * 64):  # the frame may be the last of the buffer, or not
            with pytest.raises(DecodeError, match=r"is cut short|beyond its length"):
                made.decode(encoded[:-1] + behind, 4, len(encoded) - 1)


def test_names_and_reserved_runs_may_be_long() -> None:
    name = "-".join(["long"] * 30)
    kinds = ["bit", "shortstr", *["bit"] * 12, "long"]
    fields = [Field(name=f"{name}-{place}", type=kind) for place, kind in enumerate(kinds)]
    zeros = [Field(name=f"zero-{place}", type="longlong", reserved=True) for place in range(12)]
    made = method_with(*zeros, *fields, *(attrs.evolve(zero, name=f"{zero.name}-more") for zero in zeros))
    value = made(**{python_name(f"{name}-1"): "s", python_name(f"{name}-13"): True})
    assert value.encode()[4:] == bytes(96) + b"\0" + b"\x01s" + b"\x00\x08" + bytes(4) + bytes(96)
    assert made.decode(value.encode(), 4, len(value.encode())) == value


def test_bytes_left_over_are_tolerated() -> None:
    made = method_with(Field(name="queue", type="shortstr"))
    assert made.decode(b"\x01q\x05\x05", 0, 4) == made(queue="q")


# --------------------------------------------------------------------------- the source


@pytest.mark.parametrize("name", BUNDLED)
def test_the_source_exports_what_it_makes(name: str) -> None:
    module = ModuleType("generated")
    exec(module_source(spec_of(name)), module.__dict__)
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)
    assert {made.__name__ for made in module.METHODS} <= set(module.__all__)
    assert (module.PORT, module.FRAME_END) == (5672, 206)


def test_reply_codes_are_sorted_by_whom_they_close() -> None:
    dialect = dialect_of("0-8")
    assert dialect.soft_errors[404] == "not found"
    assert dialect.hard_errors[541] == "internal error"
    assert not dialect.soft_errors.keys() & dialect.hard_errors.keys()
    assert 200 not in {**dialect.soft_errors, **dialect.hard_errors}


def test_a_specification_without_constants_and_properties_is_enough() -> None:
    dialect = from_spec(loads('<amqp major="0" minor="9" port="1"><class name="tx" index="90"/></amqp>'))
    assert (dialect.methods, dialect.properties, dialect.soft_errors, dialect.hard_errors) == ({}, {}, {}, {})


# --------------------------------------------------------------------------- the command
