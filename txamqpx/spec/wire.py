"""The elementary types of AMQP 0-9-1 on the wire, and RabbitMQ's field table.

Encoders take a value and return bytes, or raise ``EncodeError``.  Decoders take the
buffer and an offset and return the value and the next offset.  They may run past the
end of the frame that they read, because the buffer holds more than one frame: whoever
calls them compares the last offset with the end once, which costs less than a check for
each field.

Table tags follow RabbitMQ and not the specification's errata-ridden section 4.2.5.5:
``t b B s u I i l L f d D S x A T F V``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from txamqpx.errors import DecodeError, EncodeError

__all__ = [
    "ENCODERS",
    "MAX_DEPTH",
    "RawTimestamp",
    "decode_long_string",
    "decode_short_string",
    "decode_table",
    "decode_timestamp",
    "encode_bit",
    "encode_bits",
    "encode_long",
    "encode_long_long",
    "encode_long_string",
    "encode_octet",
    "encode_short",
    "encode_short_string",
    "encode_table",
    "encode_timestamp",
]

MAX_DEPTH = 32  # deeper than any header seen (x-death is 2); bounds recursion on hostile input and on cycles

_short = struct.Struct(">H")
_long = struct.Struct(">I")
_long_long = struct.Struct(">Q")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class RawTimestamp(int):
    """A timestamp in seconds that ``datetime`` cannot hold: most often somebody sent milliseconds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"RawTimestamp({int(self)})"


# --------------------------------------------------------------------------- encoding


def encode_bit(value: object) -> bytes:
    """Check that ``value`` can stand for a bit; bits are packed by whoever has all of a run."""
    if value is not True and value is not False:
        raise EncodeError(f"must be True or False, not {value!r:.80}")
    return b"\x01" if value else b"\x00"


def encode_bits(*values: object) -> bytes:
    """Pack a run of bits, the first one lowest, into as many octets as it takes (0-9-1 section 4.2.5.2)."""
    packed = 0
    for position, value in enumerate(values):
        if value:
            if value is not True:
                encode_bit(value)
            packed |= 1 << position
        elif value is not False:
            encode_bit(value)
    return packed.to_bytes((len(values) + 7) // 8, "little")


def _integer(value: Any, most: int) -> int:
    # A bool is an int to Python, but a prefetch of True is somebody's slip.
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
        raise EncodeError(f"must be an int, not {type(value).__name__}")
    if not 0 <= value <= most:
        raise EncodeError(f"must be from 0 to {most}, not {value}")
    return int(value)


def encode_octet(value: int) -> bytes:
    """Encode an unsigned integer of 8 bits."""
    return bytes((_integer(value, 0xFF),))


def encode_short(value: int) -> bytes:
    """Encode an unsigned integer of 16 bits."""
    return _short.pack(_integer(value, 0xFFFF))


def encode_long(value: int) -> bytes:
    """Encode an unsigned integer of 32 bits."""
    return _long.pack(_integer(value, 0xFFFFFFFF))


def encode_long_long(value: int) -> bytes:
    """Encode an unsigned integer of 64 bits."""
    return _long_long.pack(_integer(value, 0xFFFFFFFFFFFFFFFF))


def encode_short_string(value: str) -> bytes:
    """Encode text as one octet of length and UTF-8 (0-9-1 section 4.2.5.3).

    The limit is 255 *bytes*.  NUL is let through: the specification forbids it, RabbitMQ does not.
    """
    if not isinstance(value, str):
        raise EncodeError(f"must be str, not {type(value).__name__}")
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"cannot be encoded as UTF-8: {error.reason}") from None
    if len(raw) > 255:
        raise EncodeError(f"is {len(raw)} bytes long in UTF-8, at most 255 fit")
    return bytes((len(raw),)) + raw


def encode_long_string(value: bytes | str) -> bytes:
    """Encode bytes, or text as UTF-8, after four octets of length."""
    if isinstance(value, str):
        try:
            value = value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"cannot be encoded as UTF-8: {error.reason}") from None
    elif not isinstance(value, bytes):
        raise EncodeError(f"must be bytes or str, not {type(value).__name__}")
    return _long.pack(len(value)) + value


def encode_timestamp(value: datetime | RawTimestamp) -> bytes:
    """Encode an aware ``datetime`` as whole seconds since 1970 in UTC; a fraction is cut off."""
    if isinstance(value, RawTimestamp):
        return encode_long_long(int(value))
    if not isinstance(value, datetime):
        raise EncodeError(f"must be an aware datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise EncodeError("must be an aware datetime: a naive one means another moment on each machine")
    seconds = (value - _EPOCH) // _SECOND  # not by timestamp(): a float may round up what is to be cut off
    if seconds < 0:
        raise EncodeError("must not be before 1970")
    return _long_long.pack(seconds)


def encode_table(value: Mapping[str, Any] | None) -> bytes:
    """Encode a field table; None is an empty one.

    Raises:
        EncodeError: A key is not text of 1 to 255 bytes, a value is of a type that no tag stands
            for or beyond the tag's range, or tables are nested more than ``MAX_DEPTH`` deep,
            which a table that contains itself always is.
    """
    if not value:
        if value is None or isinstance(value, Mapping):
            return b"\0\0\0\0"
        raise EncodeError(f"must be a mapping, not {type(value).__name__}")
    return _encode_table(value, 1)


def _encode_table(table: Mapping[Any, Any], depth: int) -> bytes:
    if not isinstance(table, Mapping):
        raise EncodeError(f"must be a mapping, not {type(table).__name__}")
    pieces: list[bytes] = []
    for key, value in table.items():
        try:
            pieces += (encode_short_string(key), _encode_value(value, depth))
        except EncodeError as error:
            raise EncodeError(
                error.reason, f"{key!r:.80}{' > ' if error.field else ''}{error.field}"
            ) from None
    raw = b"".join(pieces)
    return _long.pack(len(raw)) + raw


def _encode_value(value: Any, depth: int) -> bytes:
    encode = _VALUE_ENCODERS.get(type(value))
    if encode is None:  # a subclass counts as the first type that it is an instance of
        encode = next((encode for kind, encode in _VALUE_ENCODERS.items() if isinstance(value, kind)), None)
    if encode is None:
        raise EncodeError(f"a {type(value).__name__} has no form in a table")
    return encode(value, depth)


def _encode_int(value: int, depth: int) -> bytes:
    # Only signed tags: old brokers read the unsigned ones as signed.
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return struct.pack(">ci", b"I", value)
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return struct.pack(">cq", b"l", value)
    raise EncodeError(f"{value} does not fit 64 bits with a sign")


def _encode_float(value: float, depth: int) -> bytes:
    # Erlang has no float for them: RabbitMQ's reader fails, and with it the connection (541, or no word).
    if not math.isfinite(value):
        raise EncodeError(f"{value} is a number that RabbitMQ cannot read")
    return struct.pack(">cd", b"d", value)


def _encode_decimal(value: Decimal, depth: int) -> bytes:
    if not value.is_finite():
        raise EncodeError(f"{value} has no form as a decimal")
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # only infinities and NaN have a letter there
    if abs(exponent) > 255:
        raise EncodeError(f"{value} has an exponent beyond 255")
    # Ten digits are all that 32 bits hold, and Python refuses to make an int of very many.
    unscaled = int("".join(map(str, digits[:11]))) * (10 ** max(exponent, 0)) * (-1 if sign else 1)
    if not -0x80000000 <= unscaled <= 0x7FFFFFFF:
        raise EncodeError(f"{value} has more digits than 32 bits hold")
    return struct.pack(">cBi", b"D", max(-exponent, 0), unscaled)


def _encode_array(value: list[Any] | tuple[Any, ...], depth: int) -> bytes:
    _check_depth(depth)
    raw = b"".join([_encode_value(item, depth + 1) for item in value])
    return b"A" + _long.pack(len(raw)) + raw


def _encode_nested(value: Mapping[Any, Any], depth: int) -> bytes:
    _check_depth(depth)
    return b"F" + _encode_table(value, depth + 1)


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise EncodeError(f"is nested more than {MAX_DEPTH} deep, or contains itself")


_VALUE_ENCODERS: dict[type, Callable[[Any, int], bytes]] = {
    bool: lambda value, depth: b"t\x01" if value else b"t\x00",  # before int: a bool is one
    RawTimestamp: lambda value, depth: b"T" + encode_timestamp(value),
    int: _encode_int,
    str: lambda value, depth: b"S" + encode_long_string(value),
    bytes: lambda value, depth: b"x" + encode_long_string(value),
    float: _encode_float,
    type(None): lambda value, depth: b"V",
    datetime: lambda value, depth: b"T" + encode_timestamp(value),
    Decimal: _encode_decimal,
    dict: _encode_nested,
    list: _encode_array,
    tuple: _encode_array,
    bytearray: lambda value, depth: b"x" + encode_long_string(bytes(value)),
    memoryview: lambda value, depth: b"x" + encode_long_string(bytes(value)),
    Mapping: _encode_nested,
}

#: The encoder of each elementary type, for whoever walks over fields by their types.
ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "bit": encode_bit,
    "octet": encode_octet,
    "short": encode_short,
    "long": encode_long,
    "longlong": encode_long_long,
    "shortstr": encode_short_string,
    "longstr": encode_long_string,
    "timestamp": encode_timestamp,
    "table": encode_table,
}


# --------------------------------------------------------------------------- decoding


def decode_short_string(data: bytes, offset: int) -> tuple[str, int]:
    """Decode a short string; bytes that are not UTF-8 come out as surrogate escapes, so none is lost."""
    stop = offset + 1 + data[offset]
    return data[offset + 1 : stop].decode("utf-8", "surrogateescape"), stop


def decode_long_string(data: bytes, offset: int) -> tuple[bytes, int]:
    """Decode a long string."""
    stop = offset + 4 + _long.unpack_from(data, offset)[0]
    return data[offset + 4 : stop], stop


def decode_timestamp(data: bytes, offset: int) -> tuple[datetime | RawTimestamp, int]:
    """Decode seconds since 1970 to an aware ``datetime``, or a ``RawTimestamp`` beyond its range."""
    (seconds,) = _long_long.unpack_from(data, offset)
    try:
        return datetime.fromtimestamp(seconds, UTC), offset + 8
    except (ValueError, OverflowError, OSError):
        return RawTimestamp(seconds), offset + 8


def decode_table(data: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """Decode a field table: order is kept, the last of equal keys wins.

    Raises:
        DecodeError: The table is cut short, or has an unknown tag or a wrong length inside, or is
            nested more than ``MAX_DEPTH`` deep.
    """
    try:
        return _decode_table(data, offset, 1)
    except (IndexError, struct.error):
        raise DecodeError("a table is cut short") from None


def _decode_table(data: bytes, offset: int, depth: int) -> tuple[dict[str, Any], int]:
    if depth > MAX_DEPTH:
        raise DecodeError(f"tables are nested more than {MAX_DEPTH} deep")
    stop = offset + 4 + _long.unpack_from(data, offset)[0]
    offset += 4
    table: dict[str, Any] = {}
    while offset < stop:
        key, offset = decode_short_string(data, offset)
        table[key], offset = _decode_value(data, offset, depth)
    if offset != stop:
        raise DecodeError(f"a table's content ends {offset - stop} bytes beyond its length")
    return table, offset


def _decode_array(data: bytes, offset: int, depth: int) -> tuple[list[Any], int]:
    if depth >= MAX_DEPTH:
        raise DecodeError(f"arrays are nested more than {MAX_DEPTH} deep")
    stop = offset + 4 + _long.unpack_from(data, offset)[0]
    offset += 4
    array: list[Any] = []
    while offset < stop:
        value, offset = _decode_value(data, offset, depth + 1)
        array.append(value)
    if offset != stop:
        raise DecodeError(f"an array's content ends {offset - stop} bytes beyond its length")
    return array, offset


def _decode_value(data: bytes, offset: int, depth: int) -> tuple[Any, int]:
    try:
        decode = _VALUE_DECODERS[data[offset]]
    except KeyError:
        raise DecodeError(f"unknown tag {data[offset : offset + 1]!r} in a table") from None
    return decode(data, offset + 1, depth)


def _fixed(code: str) -> Callable[[bytes, int, int], tuple[Any, int]]:
    unpack_from, size = struct.Struct(">" + code).unpack_from, struct.calcsize(">" + code)

    def decode(data: bytes, offset: int, depth: int) -> tuple[Any, int]:
        return unpack_from(data, offset)[0], offset + size

    return decode


def _decode_decimal(data: bytes, offset: int, depth: int) -> tuple[Decimal, int]:
    scale, unscaled = struct.unpack_from(">Bi", data, offset)
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((1 if unscaled < 0 else 0, digits, -scale)), offset + 5


def _decode_text(data: bytes, offset: int, depth: int) -> tuple[str | bytes, int]:
    raw, offset = decode_long_string(data, offset)
    try:
        return raw.decode(), offset
    except UnicodeDecodeError:
        return raw, offset  # headers may hold anything; lossless beats tidy


_VALUE_DECODERS: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    ord("t"): lambda data, offset, depth: (data[offset] != 0, offset + 1),
    ord("b"): _fixed("b"),
    ord("B"): _fixed("B"),
    ord("s"): _fixed("h"),
    ord("u"): _fixed("H"),
    ord("I"): _fixed("i"),
    ord("i"): _fixed("I"),
    ord("l"): _fixed("q"),
    ord("L"): _fixed("q"),  # RabbitMQ reads both as signed
    ord("f"): _fixed("f"),
    ord("d"): _fixed("d"),
    ord("D"): _decode_decimal,
    ord("S"): _decode_text,
    ord("x"): lambda data, offset, depth: decode_long_string(data, offset),
    ord("A"): _decode_array,
    ord("T"): lambda data, offset, depth: decode_timestamp(data, offset),
    ord("F"): lambda data, offset, depth: _decode_table(data, offset, depth + 1),
    ord("V"): lambda data, offset, depth: (None, offset),
}
