"""Properties and tables as bytes: taken apart and put together again, with each value as it came.

A broker hands on what it does not understand, so a number keeps its width, and text its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from txamqpx.errors import DecodeError

__all__ = [
    "EXPIRATION",
    "HEADERS",
    "Fields",
    "Parts",
    "array",
    "array_items",
    "number",
    "parts_of",
    "properties_of",
    "short_text",
    "table",
    "table_fields",
    "text",
    "timestamp",
]

Fields = dict[bytes, bytes]
"""The values of a table by their names, each with its tag in front; of equal names the first counts."""

Parts = dict[int, bytes]
"""Properties by their flags, in order (section 2.3.5.2)."""

HEADERS: Final = 0x2000
EXPIRATION: Final = 0x0100

_short = struct.Struct(">H")
_long = struct.Struct(">I")

# What each property is: text with an octet of length, a table, or so many bytes.
_TEXT, _TABLE = 0, -1
_KINDS: Final = {
    **dict.fromkeys((0x8000, 0x4000), _TEXT),
    HEADERS: _TABLE,
    **dict.fromkeys((0x1000, 0x0800), 1),
    **dict.fromkeys((0x0400, 0x0200, EXPIRATION, 0x0080), _TEXT),
    0x0040: 8,
    **dict.fromkeys((0x0020, 0x0010, 0x0008, 0x0004), _TEXT),
}

_SIZES: Final = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    ord("D"): 5,
    **dict.fromkeys(b"lLdT", 8),
    ord("V"): 0,
}
_LONG: Final = b"SxAF"
_NESTED: Final = b"AF"
_FIELDS: Final = ord("F")


# --------------------------------------------------------------------------- properties


def parts_of(header: bytes) -> Parts:
    """Take encoded properties apart.

    Raises:
        DecodeError: They are no properties.
    """
    parts: Parts = {}
    try:
        (flags,) = _short.unpack_from(header)
        offset = 2
        for flag, kind in _KINDS.items():
            if flags & flag:
                if kind == _TEXT:
                    end = offset + 1 + header[offset]
                elif kind == _TABLE:
                    end = offset + 4 + _long.unpack_from(header, offset)[0]
                else:
                    end = offset + kind
                parts[flag] = header[offset:end]
                offset = end
    except (IndexError, struct.error):
        raise DecodeError("the properties are cut off") from None
    if offset != len(header) or flags & 1:
        raise DecodeError("the properties are not as long as they say")
    return parts


def properties_of(parts: Mapping[int, bytes]) -> bytes:
    """Put properties together."""
    flags = sum(parts)
    return _short.pack(flags) + b"".join(parts[flag] for flag in _KINDS if flag in parts)


# --------------------------------------------------------------------------- tables and arrays


def table_fields(data: bytes) -> Fields:
    """Take a table apart, which begins with its length.

    Raises:
        DecodeError: It is none.
    """
    fields: Fields = {}
    offset, end = 4, len(data)
    try:
        while offset < end:
            start = offset + 1 + data[offset]
            name = data[offset + 1 : start]
            size = _SIZES.get(data[start])
            offset = _end(data, start) if size is None else start + 1 + size
            fields.setdefault(name, data[start:offset])
    except (IndexError, struct.error):
        raise DecodeError("a table is cut off") from None
    if offset != end:
        raise DecodeError("a table is not as long as it says")
    return fields


def array_items(value: bytes) -> list[bytes]:
    """Take an array's value apart, from its tag on; whoever has it from a table knows that it is one."""
    items = []
    offset, end = 5, len(value)
    while offset < end:
        start, offset = offset, _end(value, offset)
        items.append(value[start:offset])
    return items


def _end(data: bytes, offset: int) -> int:
    """Return where the value ends whose tag is at ``offset``, when all that is in it is well formed."""
    end, inner = _step(data, offset)
    if not inner:
        return end
    # Whoever nests deeper than Python does is not to be refused for that, nor to end the process.
    outer = [(end, data[offset])]
    position = offset + 5
    while outer:
        stop, tag = outer[-1]
        if position == stop:
            outer.pop()
            continue
        if tag == _FIELDS:
            position += 1 + data[position]
        after, inner = _step(data, position)
        if after > stop:
            raise DecodeError("a value is longer than what it is in")
        if inner:
            outer.append((after, data[position]))
            position += 5
        else:
            position = after
    return end


def _step(data: bytes, offset: int) -> tuple[int, bool]:
    """Return where a value ends, and whether there are values in it."""
    tag = data[offset]
    size = _SIZES.get(tag)
    if size is not None:
        return offset + 1 + size, False
    if tag not in _LONG:
        raise DecodeError(f"unknown tag {data[offset : offset + 1]!r} in a table")
    length: int = _long.unpack_from(data, offset + 1)[0]
    return offset + 5 + length, tag in _NESTED


# --------------------------------------------------------------------------- values


def table(fields: Mapping[bytes, bytes]) -> bytes:
    """Return a table, which begins with its length: a value is ``b"F"`` and that."""
    raw = b"".join([bytes((len(name),)) + name + value for name, value in fields.items()])
    return _long.pack(len(raw)) + raw


def array(items: Iterable[bytes]) -> bytes:
    """Return an array's value."""
    raw = b"".join(items)
    return b"A" + _long.pack(len(raw)) + raw


def text(value: str) -> bytes:
    """Return a text's value."""
    raw = value.encode("utf-8", "surrogateescape")
    return b"S" + _long.pack(len(raw)) + raw


def number(value: int) -> bytes:
    """Return a number's value, as wide as RabbitMQ makes those of its own."""
    return struct.pack(">cq", b"l", value)


def timestamp(seconds: int) -> bytes:
    """Return a point in time's value."""
    return struct.pack(">cQ", b"T", seconds)


def short_text(value: str) -> bytes:
    """Return a property's text."""
    raw = value.encode()
    return bytes((len(raw),)) + raw
