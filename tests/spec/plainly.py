"""AMQP's encoding once more, as slow and plain as can be, and values to try it with."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from hypothesis import strategies as st

from txamqpx.spec import wire
from txamqpx.spec.model import ELEMENTARY_TYPES, Field

FORMATS = {"octet": ">B", "short": ">H", "long": ">I", "longlong": ">Q"}
EMPTY: dict[str, Any] = {
    **dict.fromkeys(ELEMENTARY_TYPES, 0),
    "shortstr": "",
    "longstr": b"",
    "table": {},
    "bit": False,
}


def on_the_wire(kind: str, value: Any) -> bytes:
    """Encode one value as slowly and plainly as possible."""
    if kind in FORMATS:
        return struct.pack(FORMATS[kind], value)
    if kind == "timestamp":
        return struct.pack(">Q", value if isinstance(value, int) else int(value.timestamp()))
    if kind == "shortstr":
        raw: bytes = value.encode()
        return bytes([len(raw)]) + raw
    if kind == "longstr":
        return struct.pack(">I", len(value)) + bytes(value)
    return wire.encode_table(value)  # has tests of its own


def arguments_on_the_wire(fields: tuple[Field, ...], values: Mapping[str, Any]) -> bytes:
    """Encode the arguments of a method after the letter of section 4.2.1 of 0-9-1."""
    wanted = [(field.type, EMPTY[field.type] if field.reserved else values[field.name]) for field in fields]
    result = b""
    for is_bits, run in groupby(wanted, key=lambda each: each[0] == "bit"):
        if not is_bits:
            result += b"".join(on_the_wire(kind, value) for kind, value in run)
            continue
        bits = [value for _, value in run]
        for start in range(0, len(bits), 8):  # bits are packed into octets, the first one lowest
            result += bytes([sum(int(bit) << place for place, bit in enumerate(bits[start : start + 8]))])
    return result


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.binary(max_size=8)
)
tables = st.dictionaries(
    st.text("abc-", max_size=4),
    st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("k"), inner), max_leaves=4
    ),
    max_size=3,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": integers(8),
    "short": integers(16),
    "long": integers(32),
    "longlong": integers(64),
    "shortstr": st.text(max_size=60),
    "longstr": st.binary(max_size=60),
    "timestamp": integers(37).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    "table": tables,
}
# A few values of each type, to be dealt out to all methods of a specification in turn.
hands = st.fixed_dictionaries({kind: st.lists(one, min_size=3, max_size=3) for kind, one in VALUES.items()})
