"""Properties and tables as bytes: `txamqpx.broker.fields`."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.strategies import HEADER_VALUES, MOMENT
from txamqpx.broker.fields import (
    EXPIRATION,
    HEADERS,
    array,
    array_items,
    number,
    parts_of,
    properties_of,
    short_text,
    table,
    table_fields,
    text,
    timestamp,
)
from txamqpx.errors import DecodeError
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.spec.wire import decode_table, encode_table

FULL = BasicProperties(
    content_type="a",
    content_encoding="b",
    headers={"c": [1, {"d": None}], "e": 2.5},
    delivery_mode=2,
    priority=3,
    correlation_id="f",
    reply_to="g",
    expiration="4",
    message_id="h",
    timestamp=None,
    type="i",
    user_id="j",
    app_id="k",
    cluster_id="l",
).encode()


def length(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def test_properties_are_put_together_as_they_were() -> None:
    parts = parts_of(FULL)
    assert properties_of(parts) == FULL
    assert parts[EXPIRATION] == short_text("4")
    del parts[EXPIRATION]
    assert BasicProperties.decode(properties_of(parts), 0, 99999).expiration is None
    assert parts_of(b"\x00\x00") == {}
    stamped = BasicProperties(timestamp=MOMENT).encode()
    assert properties_of(parts_of(stamped)) == stamped


@given(st.dictionaries(st.text(max_size=5), HEADER_VALUES, max_size=5))
def test_tables_are_put_together_as_they_were(headers: dict[str, object]) -> None:
    raw = encode_table(headers)
    fields = table_fields(raw)
    assert table(fields) == raw
    assert [name.decode() for name in fields] == [*headers]


@given(st.lists(HEADER_VALUES, max_size=5))
def test_arrays_are_put_together_as_they_were(items: list[object]) -> None:
    value = table_fields(encode_table({"a": items}))[b"a"]
    assert len(array_items(value)) == len(items)
    assert array(array_items(value)) == value


def test_of_equal_names_the_first_counts() -> None:
    assert table_fields(length(b"\x01at\x01\x01at\x00")) == {b"a": b"t\x01"}


def test_values_of_our_own() -> None:
    fields = {b"t": text("é\udcff"), b"n": number(-1), b"s": timestamp(86400), b"a": array([text("x")])}
    told, _ = decode_table(table(fields), 0)
    assert told["t"] == "é".encode() + b"\xff"
    assert (told["n"], told["s"].day, told["a"]) == (-1, 2, ["x"])


def test_nesting_has_no_end() -> None:
    raw = b"\x01at\x01"
    for number_of in range(2000):
        raw = b"\x01aF" + length(raw) if number_of % 2 else b"\x01aA" + length(b"F" + length(raw))
    assert table(table_fields(length(raw))) == length(raw)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x00",
        b"\x00\x00more",
        b"\x10\x00",
        b"\x80\x00",
        b"\x80\x00\x09short",
        b"\x20\x00\x00\x00",
        b"\x20\x00\x00\x00\x00\x09",
        b"\x20\x01\x00\x00\x00\x00\x00\x00",
    ],
)
def test_what_are_no_properties(header: bytes) -> None:
    with pytest.raises(DecodeError):
        parts_of(header)


@pytest.mark.parametrize(
    "fields",
    [
        b"\x01",
        b"\x01a",
        b"\x01aZ\x00",
        b"\x01aI\x00",
        b"\x01aS\x00\x00",
        b"\x01aF" + length(b"\x01bZ"),
        b"\x01aF" + length(b"\x01"),
        b"\x01aF" + length(b"\x01bI\x00") + b"\x00\x00\x00",
        b"\x01aA" + length(b"S\x00\x00\x00\x09short") + b"    ",
        b"\x01aA" + struct.pack(">I", 99),
    ],
)
def test_what_is_no_table(fields: bytes) -> None:
    with pytest.raises(DecodeError):
        table_fields(length(fields))


def test_headers_are_found_among_properties() -> None:
    assert decode_table(parts_of(FULL)[HEADERS], 0)[0] == {"c": [1, {"d": None}], "e": 2.5}
