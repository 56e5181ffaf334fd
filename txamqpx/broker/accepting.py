"""What a broker looks at in the properties of a message before it takes it, and what it changes there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from txamqpx.broker.fields import (
    EXPIRATION,
    HEADERS,
    Fields,
    Parts,
    array_items,
    parts_of,
    properties_of,
    short_text,
    table,
    table_fields,
)
from txamqpx.broker.message import Elaborate, Message
from txamqpx.broker.profile import Profile
from txamqpx.broker.refusal import Refusal
from txamqpx.errors import DecodeError

__all__ = ["LONGEST", "accept", "milliseconds"]

_LOOKED_AT: Final = (HEADERS | EXPIRATION) >> 8

# Properties that are well formed and ask for nothing: most publishers send the same ones again and again.
_PLAIN: Final[set[bytes]] = set()
_MOST: Final = 500

LONGEST: Final = 10 * 365 * 24 * 60 * 60 * 1000
"""Ten years, in milliseconds: the longest time that RabbitMQ takes."""

_NUMBER = re.compile(r"[+-]?[0-9]+")

_KINDS: Final = {
    b"t": "bool",
    b"b": "byte",
    b"B": "unsignedbyte",
    b"s": "short",
    b"u": "unsignedshort",
    b"I": "signedint",
    b"i": "unsignedint",
    b"l": "long",
    b"L": "long",
    b"f": "float",
    b"d": "double",
    b"D": "decimal",
    b"S": "longstr",
    b"x": "binary",
    b"T": "timestamp",
    b"F": "table",
    b"V": "void",
}


def accept(message: Message, profile: Profile) -> Message:
    """Return a message as it is routed and kept.

    Its time is told, its copies are addressed, and those that are blind are struck out of its headers.

    Args:
        message: What a client has published.
        profile: Which RabbitMQ takes it.

    Raises:
        Refusal: 406, its expiration is no time, or one of those headers no list; 541, its properties are
            none, which RabbitMQ notices with a crash.
    """
    header = message.header
    if header in _PLAIN:
        return message
    try:
        return _accepted(message, parts_of(header), profile)
    except DecodeError:
        raise Refusal(541, "") from None


def _accepted(message: Message, parts: Parts, profile: Profile) -> Message:
    header = message.header
    if not header[0] & _LOOKED_AT:
        if len(_PLAIN) >= _MOST:
            _PLAIN.clear()
        _PLAIN.add(header)
        return message
    ttl: int | None = None
    copies: Sequence[str] = ()
    blind: Sequence[str] = ()
    changed = False
    if EXPIRATION in parts:
        ttl = milliseconds(parts[EXPIRATION][1:].decode("utf-8", "surrogateescape"))
        if profile.numeric_expiration:
            parts[EXPIRATION] = short_text(str(ttl))
            changed = True
    if HEADERS in parts:
        fields = table_fields(parts[HEADERS])
        if b"CC" in fields or b"BCC" in fields:
            copies, blind = [[*_routes(fields, name)] for name in (b"CC", b"BCC")]
            changed = fields.pop(b"BCC", None) is not None or changed
        names = sorted(fields) if profile.sorted_headers else [*fields]
        if changed or names != [*fields]:
            parts[HEADERS] = table({name: fields[name] for name in names})
            changed = True
    if not changed and ttl is None and not copies:
        return message
    accepted = Elaborate.of(
        message.exchange,
        message.routing_key,
        properties_of(parts) if changed else header,
        message.body,
        ttl=ttl,
        copies=copies,
        blind=blind,
    )
    accepted.flags = message.flags
    return accepted


def _routes(fields: Fields, name: bytes) -> Iterator[str]:
    """Yield the routing keys in a header; what is no text among them does not count."""
    value = fields.get(name)
    if value is None:
        return
    if value[:1] != b"A":
        kind = _KINDS[value[:1]]
        raise Refusal(406, f'invalid message: {{unacceptable_type_in_header,"{name.decode()}",{kind}}}')
    for item in array_items(value):
        if item[:1] == b"S":
            yield item[5:].decode("utf-8", "surrogateescape")


def milliseconds(text: str) -> int:
    """Read an expiration as Erlang reads numbers.

    Raises:
        Refusal: 406, it is none, with Erlang's words for why.
    """
    match = _NUMBER.match(text)
    if match is None:
        raise _no_time(text, "no_integer")
    if match.end() != len(text):
        raise _no_time(text, f"{{leftover_string,{_erlang(text[match.end() :])}}}")
    value = int(match[0])
    if value < 0:
        raise _no_time(text, f"{{value_negative,{value}}}")
    if value > LONGEST:
        raise _no_time(text, f"{{value_too_large,{value}}}")
    return value


def _no_time(text: str, reason: str) -> Refusal:
    return Refusal(406, f"invalid expiration '{text}': {reason}")


def _erlang(text: str) -> str:
    """Write bytes as Erlang does: as text if it can be read as Latin-1, else as a list of numbers."""
    raw = text.encode("utf-8", "surrogateescape")
    shown = raw.decode("latin-1")
    if not shown.isprintable():
        return f"[{','.join(map(str, raw))}]"
    escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
