from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import pamqp.decode
import pamqp.encode
import pika.data
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from txamqpx.errors import DecodeError, EncodeError
from txamqpx.spec.wire import (
    ENCODERS,
    MAX_DEPTH,
    RawTimestamp,
    decode_long_string,
    decode_short_string,
    decode_table,
    decode_timestamp,
    encode_bit,
    encode_bits,
    encode_long,
    encode_long_long,
    encode_long_string,
    encode_octet,
    encode_short,
    encode_short_string,
    encode_table,
    encode_timestamp,
)

few = settings(max_examples=40, deadline=None)

# --------------------------------------------------------------------------- what tables hold

moments = st.integers(0, 253402300799).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
decimals = st.builds(
    lambda unscaled, scale: Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale)),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 255),
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | moments
    | decimals
    | st.integers(253402300800, 2**64 - 1).map(RawTimestamp)
)
keys = st.text(max_size=60)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(keys, values, max_size=6)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, to the last: True is not 1, and NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


@pytest.mark.covers("T-TB-01", "T-TB-02", "T-TB-03", "T-TB-04", "T-TB-05", "T-TB-06", "T-TB-07", "T-TB-08")
@few
@given(tables)
@example({"zero": -0.0, "": None, "true": True, "one": 1})
def test_any_table_comes_back_as_it_was(table: dict[str, Any]) -> None:
    data = encode_table(table)
    found, offset = decode_table(b"before" + data + b"behind", 6)
    assert offset == 6 + len(data)
    assert same(found, table)
    assert encode_table(found) == data


def in_table(value: Any) -> bytes:
    """Return the tag and the bytes of one value in a table."""
    data = encode_table({"k": value})
    assert data[:6] == len(data[4:]).to_bytes(4, "big") + b"\x01k"
    return data[6:]


def from_table(raw: bytes) -> Any:
    table, offset = decode_table((len(raw) + 2).to_bytes(4, "big") + b"\x01k" + raw, 0)
    assert offset == len(raw) + 6
    return table["k"]


class Level(IntEnum):
    HIGH = 7


class Text(str):
    __slots__ = ()


@pytest.mark.covers("T-TB-01", "T-TB-02", "T-TB-05", "T-TB-08")
@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (True, b"t\x01"),
        (False, b"t\x00"),
        (1, b"I\x00\x00\x00\x01"),
        (-(2**31), b"I\x80\x00\x00\x00"),
        (2**31 - 1, b"I\x7f\xff\xff\xff"),
        (2**31, b"l\x00\x00\x00\x00\x80\x00\x00\x00"),
        (-(2**31) - 1, b"l\xff\xff\xff\xff\x7f\xff\xff\xff"),
        (2**63 - 1, b"l\x7f" + b"\xff" * 7),
        (-(2**63), b"l\x80" + b"\x00" * 7),
        (1.5, b"d\x3f\xf8" + b"\x00" * 6),
        ("é", b"S\x00\x00\x00\x02\xc3\xa9"),
        (b"\xff", b"x\x00\x00\x00\x01\xff"),
        (bytearray(b"\xff"), b"x\x00\x00\x00\x01\xff"),
        pytest.param(memoryview(b"\xff"), b"x\x00\x00\x00\x01\xff", id="memoryview"),
        (None, b"V"),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), b"T" + b"\x00" * 7 + b"\x01"),
        (RawTimestamp(2**64 - 1), b"T" + b"\xff" * 8),
        (Decimal("-1.50"), b"D\x02\xff\xff\xff\x6a"),
        (Decimal("1E+3"), b"D\x00\x00\x00\x03\xe8"),
        ([1, True], b"A\x00\x00\x00\x07I\x00\x00\x00\x01t\x01"),
        ((1, True), b"A\x00\x00\x00\x07I\x00\x00\x00\x01t\x01"),
        ([], b"A\x00\x00\x00\x00"),
        ({}, b"F\x00\x00\x00\x00"),
        ({"a": None}, b"F\x00\x00\x00\x03\x01aV"),
        (MappingProxyType({"a": None}), b"F\x00\x00\x00\x03\x01aV"),
        (OrderedDict(a=None), b"F\x00\x00\x00\x03\x01aV"),
        (Level.HIGH, b"I\x00\x00\x00\x07"),
        (Text("x"), b"S\x00\x00\x00\x01x"),
    ],
    ids=repr,
)
def test_each_type_has_its_tag(value: Any, raw: bytes) -> None:
    assert in_table(value) == raw


@pytest.mark.covers("T-TB-01", "T-TB-03", "T-TB-06")
@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xff", -1),
        (b"u\xff\xff", 65535),
        (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 2**32 - 1),
        (b"l" + b"\xff" * 8, -1),
        (b"L" + b"\xff" * 8, -1),
        (b"f\x3f\xc0\x00\x00", 1.5),
        (b"d\x3f\xf8" + b"\x00" * 6, 1.5),
        (b"d\x7f\xf8" + b"\x00" * 6, math.nan),
        (b"f\xff\x80\x00\x00", -math.inf),
        (b"t\x02", True),
        (b"T" + b"\x00" * 8, datetime(1970, 1, 1, tzinfo=UTC)),
        (b"T" + b"\xff" * 8, RawTimestamp(2**64 - 1)),
        (b"D\xff\x80\x00\x00\x00", Decimal("-2147483648E-255")),
        (b"S\x00\x00\x00\x02\xc3\xa9", "é"),
    ],
)
def test_every_tag_is_understood(raw: bytes, value: Any) -> None:
    assert same(from_table(raw), value)


@pytest.mark.covers("T-TB-05")
def test_text_that_is_not_utf_8_comes_as_bytes() -> None:
    assert from_table(b"S\x00\x00\x00\x01\xff") == b"\xff"


@pytest.mark.covers("T-TB-07")
def test_the_last_of_equal_keys_wins() -> None:
    assert decode_table(b"\x00\x00\x00\x08\x01at\x00\x01at\x01", 0) == ({"a": True}, 12)


@pytest.mark.covers("T-TB-07")
def test_keys_may_have_255_bytes_and_keep_their_order() -> None:
    table = {"é" * 127 + "x": 1, "b": 2, "a": 3}
    found, _ = decode_table(encode_table(table), 0)
    assert list(found) == list(table)


def test_no_table_is_an_empty_one() -> None:
    assert encode_table(None) == encode_table({}) == b"\0\0\0\0"


# --------------------------------------------------------------------------- refused on the way out

CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
LOOP: list[Any] = []
LOOP.append(LOOP)


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth - 1):
        table = {"k": table}
    return table


def listed(depth: int) -> dict[str, Any]:
    value: list[Any] = []
    for _ in range(depth - 2):
        value = [value]
    return {"k": value}


@pytest.mark.covers("T-TB-01", "T-TB-04", "T-TB-06", "T-TB-07")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**63, "does not fit 64 bits"),
        (-(2**63) - 1, "does not fit 64 bits"),
        pytest.param(object(), "a object has no form in a table", id="object"),
        ({1, 2}, "a set has no form"),
        (1j, "a complex has no form"),
        (timedelta(1), "a timedelta has no form"),
        ("\ud800", "surrogates not allowed"),
        (datetime(2020, 1, 1), "naive"),  # noqa: DTZ001 - that is the point
        (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "before 1970"),
        (RawTimestamp(-1), "from 0 to 18446744073709551615"),
        (RawTimestamp(2**64), "from 0 to 18446744073709551615"),
        (math.nan, "nan is a number that RabbitMQ cannot read"),
        (-math.inf, "-inf is a number that RabbitMQ cannot read"),
        (Decimal("Infinity"), "no form as a decimal"),
        (Decimal("NaN"), "no form as a decimal"),
        (Decimal("1E-256"), "exponent beyond 255"),
        (Decimal("1E+256"), "exponent beyond 255"),
        (Decimal(2147483648), "more digits"),
        (Decimal(-2147483649), "more digits"),
        (Decimal("1E+10"), "more digits"),
        (Decimal("1" * 11), "more digits"),
        (Decimal("1" * 9000), "more digits"),
        (CYCLE, "nested more than 32 deep"),
        (LOOP, "nested more than 32 deep"),
        ({1: "x"}, "must be str, not int"),
        ({"k" * 256: "x"}, "is 256 bytes long"),
    ],
    ids=lambda value: (
        f"{value!r:.40}" if not isinstance(value, str) else value[:20].encode("ascii", "replace").decode()
    ),
)
def test_what_no_tag_stands_for_is_refused(value: Any, words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        encode_table({"k": value})


@pytest.mark.parametrize("value", [0, "", [], "text", 5, [("a", 1)]], ids=repr)
def test_what_is_no_table_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match=f"must be a mapping, not {type(value).__name__}"):
        encode_table(value)


def test_a_refusal_names_the_way_to_the_value() -> None:
    with pytest.raises(EncodeError) as caught:
        encode_table({"a": {"b": [1, {"c": object()}]}})
    assert caught.value.field == "'a' > 'b' > 'c'"


@pytest.mark.covers("T-TB-07")
@pytest.mark.parametrize("make", [nested, listed])
def test_tables_and_lists_may_be_nested_32_deep_both_ways(make: Any) -> None:
    value = make(MAX_DEPTH)
    assert decode_table(encode_table(value), 0)[0] == value
    with pytest.raises(EncodeError, match="nested more than 32 deep"):
        encode_table(make(MAX_DEPTH + 1))


# --------------------------------------------------------------------------- refused on the way in


def raw_nested(depth: int) -> bytes:
    data = b"\0\0\0\0"
    for _ in range(depth - 1):
        data = (len(data) + 3).to_bytes(4, "big") + b"\x01kF" + data
    return data


def raw_listed(depth: int) -> bytes:
    data = b"\0\0\0\0"
    for _ in range(depth - 2):
        data = (len(data) + 1).to_bytes(4, "big") + b"A" + data
    return (len(data) + 3).to_bytes(4, "big") + b"\x01kA" + data


@pytest.mark.covers("T-FR-06", "T-TB-07")
@pytest.mark.parametrize(("make", "words"), [(raw_nested, "tables"), (raw_listed, "arrays")])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, MAX_DEPTH + 2, 15_000])
def test_what_is_nested_too_deep_is_refused(make: Any, words: str, depth: int) -> None:
    decode_table(make(MAX_DEPTH), 0)
    with pytest.raises(DecodeError, match=f"{words} are nested more than 32 deep"):
        decode_table(make(depth), 0)


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short"),
        (b"\0\0\0", "cut short"),
        (b"\0\0\0\x01", "cut short"),
        (b"\0\0\0\x03\x01aI", "cut short"),
        (b"\0\0\0\x04\x01aI\0", "cut short"),
        (b"\0\0\0\x04\x01at\0\0", None),
        (b"\0\0\0\x03\x01at\0", "ends 1 bytes beyond"),
        (b"\0\0\0\x03\x01aQ", r"unknown tag b'Q'"),
        (b"\0\0\0\x08\x01aA\0\0\0\x01t\0", "an array's content ends 1 bytes beyond"),
        (b"\0\0\0\x09\x01aA\0\0\0\x05tt", "cut short"),
        (b"\xff\xff\xff\xff\x01at\0", "cut short"),
        (b"\0\0\0\x0a\x01aS\xff\xff\xff\xffabc", "beyond its length"),
    ],
)
def test_a_malformed_table_is_refused(data: bytes, words: str | None) -> None:
    if words is None:
        assert decode_table(data, 0) == ({"a": False}, 8)
        return
    with pytest.raises(DecodeError, match=words):
        decode_table(data, 0)


@pytest.mark.covers("T-FR-06")
@given(
    st.binary(max_size=200) | st.builds(lambda raw: len(raw).to_bytes(4, "big") + raw, st.binary(max_size=80))
)
def test_garbage_is_a_table_or_a_decode_error(data: bytes) -> None:
    try:
        table, _ = decode_table(data, 0)
    except DecodeError:
        return
    assert isinstance(table, dict)


@pytest.mark.covers("T-FR-06")
@few
@given(tables, st.data())
def test_a_table_with_one_byte_changed_is_a_table_or_a_decode_error(
    table: dict[str, Any], data: st.DataObject
) -> None:
    raw = bytearray(encode_table(table))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        found, _ = decode_table(bytes(raw[:cut]), 0)
    except DecodeError:
        return
    assert isinstance(found, dict)


# --------------------------------------------------------------------------- strings


@pytest.mark.covers("T-FR-08")
@given(st.text())
def test_short_text_comes_back_as_it_was(text: str) -> None:
    if len(text.encode()) > 255:
        with pytest.raises(EncodeError, match="at most 255 fit"):
            encode_short_string(text)
        return
    data = encode_short_string(text)
    assert decode_short_string(b"x" + data + b"x", 1) == (text, 1 + len(data))


@pytest.mark.covers("T-FR-08")
def test_the_limit_of_short_text_is_in_bytes() -> None:
    assert encode_short_string("é" * 127 + "x") == b"\xff" + b"\xc3\xa9" * 127 + b"x"
    with pytest.raises(EncodeError, match="is 256 bytes long in UTF-8, at most 255 fit"):
        encode_short_string("é" * 128)


@pytest.mark.parametrize("value", [None, b"bytes", 5, True])
def test_short_text_is_text(value: Any) -> None:
    with pytest.raises(EncodeError, match=f"must be str, not {type(value).__name__}"):
        encode_short_string(value)


def test_a_nul_is_let_through_and_a_lone_surrogate_is_not() -> None:
    assert encode_short_string("a\0b") == b"\x03a\0b"
    for lone in ("\ud800", "\udcff"):
        with pytest.raises(EncodeError, match="cannot be encoded as UTF-8"):
            encode_short_string(lone)
        with pytest.raises(EncodeError, match="cannot be encoded as UTF-8"):
            encode_long_string(lone)


def test_short_text_that_is_not_utf_8_loses_nothing() -> None:
    text, offset = decode_short_string(b"\x03a\xffb", 0)
    assert offset == 4
    assert text.encode("utf-8", "surrogateescape") == b"a\xffb"


@given(st.binary())
def test_long_strings_come_back_as_bytes(data: bytes) -> None:
    encoded = encode_long_string(data)
    assert encoded == len(data).to_bytes(4, "big") + data
    assert decode_long_string(b"x" + encoded + b"x", 1) == (data, 1 + len(encoded))


def test_a_long_string_may_be_text() -> None:
    assert encode_long_string("é") == b"\0\0\0\x02\xc3\xa9"


@pytest.mark.parametrize("value", [None, 5, bytearray(b"x")])
def test_a_long_string_is_bytes_or_text(value: Any) -> None:
    with pytest.raises(EncodeError, match=f"must be bytes or str, not {type(value).__name__}"):
        encode_long_string(value)


# --------------------------------------------------------------------------- numbers and bits


@pytest.mark.parametrize(
    ("encode", "size"), [(encode_octet, 1), (encode_short, 2), (encode_long, 4), (encode_long_long, 8)]
)
def test_numbers_have_their_width(encode: Any, size: int) -> None:
    most = 256**size - 1
    assert encode(0) == b"\0" * size
    assert encode(most) == b"\xff" * size
    assert encode(Level.HIGH) == b"\0" * (size - 1) + b"\x07"
    for beyond in (-1, most + 1):
        with pytest.raises(EncodeError, match=f"must be from 0 to {most}, not {beyond}"):
            encode(beyond)
    for kind in (True, 1.0, "1", None):
        with pytest.raises(EncodeError, match=f"must be an int, not {type(kind).__name__}"):
            encode(kind)


def test_a_bit_is_true_or_false_and_nothing_else() -> None:
    assert (encode_bit(True), encode_bit(False)) == (b"\x01", b"\x00")
    for value in (1, 0, None, "yes", ""):
        with pytest.raises(EncodeError, match="must be True or False"):
            encode_bit(value)
        with pytest.raises(EncodeError, match="must be True or False"):
            encode_bits(True, value)


@pytest.mark.covers("T-FR-09")
@given(st.lists(st.booleans(), max_size=20))
def test_bits_are_packed_the_first_one_lowest(bits: list[bool]) -> None:
    data = encode_bits(*bits)
    assert len(data) == (len(bits) + 7) // 8
    assert [bool(data[place // 8] >> place % 8 & 1) for place in range(len(bits))] == bits


# --------------------------------------------------------------------------- timestamps


@pytest.mark.covers("T-TB-06")
@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.timezones()))  # noqa: DTZ001 - hypothesis wants it so
@example(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
def test_a_moment_is_whole_seconds_in_utc_wherever_it_was_seen(moment: datetime) -> None:
    found, offset = decode_timestamp(encode_timestamp(moment), 0)
    assert offset == 8
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert int.from_bytes(encode_timestamp(moment), "big") == exact
    if isinstance(found, datetime):
        assert found.tzinfo is UTC
        assert timedelta(0) <= moment - found < timedelta(seconds=1)
    else:
        assert exact > 253402300799


@pytest.mark.covers("T-TB-06")
def test_another_time_zone_is_the_same_moment() -> None:
    moment = datetime(2020, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert decode_timestamp(encode_timestamp(moment), 0)[0] == datetime(2020, 6, 1, 10, tzinfo=UTC)


@pytest.mark.covers("T-TB-06")
@pytest.mark.parametrize("seconds", [253402300800, 1_700_000_000_000_000, 2**63, 2**64 - 1])
def test_what_no_datetime_holds_comes_as_a_number_and_goes_back_as_it_came(seconds: int) -> None:
    data = seconds.to_bytes(8, "big")
    found, _ = decode_timestamp(data, 0)
    assert isinstance(found, RawTimestamp)
    assert found == seconds
    assert repr(found) == f"RawTimestamp({seconds})"
    assert encode_timestamp(found) == data


@pytest.mark.parametrize("value", [0, 1.5, None, "now"])
def test_a_timestamp_is_a_datetime(value: Any) -> None:
    with pytest.raises(EncodeError, match=f"must be an aware datetime, not {type(value).__name__}"):
        encode_timestamp(value)


def test_a_zone_that_does_not_know_its_offset_is_none() -> None:
    class Nowhere(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta | None:
            return None

        dst = utcoffset

        def tzname(self, moment: datetime | None) -> str | None:
            return None

    with pytest.raises(EncodeError, match="naive"):
        encode_timestamp(datetime(2020, 1, 1, tzinfo=Nowhere()))


def test_there_is_an_encoder_for_each_elementary_type() -> None:
    assert ENCODERS["shortstr"]("x") == b"\x01x"
    assert all(callable(encode) for encode in ENCODERS.values())


# --------------------------------------------------------------------------- agreement with others


def common(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=20), inner, max_size=4)


# What both can say: they write no float alike, cut no moment, and take no int for I where it is small.
PIKA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), -1)
    | st.integers(2**31, 2**63 - 1)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    lambda inner: st.lists(inner, max_size=3) | common(inner),
    max_leaves=8,
)


def naive(value: Any) -> Any:
    """Return a value as pika reads it: moments without a zone."""
    if isinstance(value, Mapping):
        return {key: naive(one) for key, one in value.items()}
    if isinstance(value, list):
        return [naive(one) for one in value]
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@few
@given(common(PIKA))
def test_pika_reads_what_we_write(table: dict[str, Any]) -> None:
    data = encode_table(table)
    found, offset = pika.data.decode_table(data, 0)
    assert offset == len(data)
    assert naive(found) == naive(table)


@few
@given(common(PIKA))
def test_we_read_what_pika_writes(table: dict[str, Any]) -> None:
    pieces: list[bytes] = []
    pika.data.encode_table(pieces, naive(table))
    found, _ = decode_table(b"".join(pieces), 0)
    assert naive(found) == naive(table)


PAMQP = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False, width=32)  # it writes no others
    | st.text(max_size=20)
    | st.binary(max_size=20).map(bytearray)
    | st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    lambda inner: st.lists(inner, max_size=3) | common(inner),
    max_leaves=8,
)


@few
@given(common(PAMQP))
def test_pamqp_writes_the_same_and_reads_what_we_write(table: dict[str, Any]) -> None:
    data = encode_table(table)
    consumed, found = pamqp.decode.field_table(data)
    assert consumed == len(data)
    assert found == table
    assert decode_table(pamqp.encode.field_table(table), 0)[0] == decode_table(data, 0)[0]
