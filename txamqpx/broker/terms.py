"""Values of tables as RabbitMQ sees them: as Erlang terms, which are less than what is on the wire.

Text and bytes are both binaries, and a timestamp is a number. The releases compare them in different ways.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from txamqpx.spec.wire import RawTimestamp

__all__ = [
    "Term",
    "are_same",
    "exact_term",
    "exact_term_of_message",
    "printed",
    "shown",
    "term_by_value",
    "type_name",
]

Term = Callable[[Any], Hashable]
"""Makes of a value something that equals another such thing if RabbitMQ finds the values equal."""

_NAMES: Final[Mapping[type, str]] = {
    type(None): "void",
    bool: "bool",
    float: "double",
    str: "longstr",
    bytes: "binary",
    Decimal: "decimal",
    RawTimestamp: "timestamp",
    datetime: "timestamp",
    dict: "table",
    list: "array",
}


def type_name(value: Any) -> str:
    """Return what RabbitMQ calls a value's type where it complains of it."""
    if type(value) is int:
        return "signedint" if -(2**31) <= value < 2**31 else "long"
    return _NAMES[type(value)]


def printed(value: Any) -> str:
    """Return a value as Erlang prints it, for a reply text that quotes what was wrong."""
    seconds = _seconds(value)
    if seconds is not None:
        return str(seconds)
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | bytes):
        return f"<<{_quoted(value)}>>" if value else "<<>>"
    if isinstance(value, Mapping):
        fields = [f"{{{printed(name)},{type_name(item)},{printed(item)}}}" for name, item in value.items()]
        return f"[{','.join(fields)}]"
    if isinstance(value, list):
        return f"[{','.join(f'{{{type_name(item)},{printed(item)}}}' for item in value)}]"
    return str(value)


def shown(value: Any) -> str:
    """Return a value as RabbitMQ shows an argument: like `printed`, but text as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else printed(value)


def _quoted(value: str | bytes) -> str:
    escaped = shown(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def are_same(one: Any, other: Any) -> bool:
    """Tell whether two arguments of a declaration are the same.

    They are if their values are, and both are numbers, or both are text in some form: how wide a number came
    does not count, but an integer is no float, and `True` is not 1.
    """
    return _class(one) == _class(other) and exact_term(one) == exact_term(other)


def _class(value: Any) -> str:
    name = type_name(value)
    return {"signedint": "number", "long": "number", "longstr": "text", "binary": "text"}.get(name, name)


def term_by_value(value: Any) -> Hashable:
    """Return what RabbitMQ 3 compares by `==`: 1 is 1.0, and a timestamp is its number of seconds."""
    return _term(value, _number)


def exact_term(value: Any) -> Hashable:
    """Return what RabbitMQ 4 compares by `=:=` on the side of a binding: 1 is not 1.0, nor is 0.0 -0.0."""
    return _term(value, _exact_number)


def exact_term_of_message(value: Any) -> Hashable:
    """Return what RabbitMQ 4 compares on the side of a message, whose timestamps are in milliseconds by then.

    So no timestamp of a binding equals the same one of a message, unless they are inside of an array.
    """
    seconds = _seconds(value)
    return exact_term(value) if seconds is None else _exact_number(seconds * 1000)


def _term(value: Any, number: Term) -> Hashable:
    # A value's own tag does not count, but those of what it contains do. An empty table and an empty array
    # are both the empty list.
    seconds = _seconds(value)
    if seconds is not None:
        return number(seconds)
    if value is None or isinstance(value, bool):
        return "atom", value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return tuple((name, _tag(item), _term(item, number)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return tuple((_tag(item), _term(item, number)) for item in value)
    if isinstance(value, Decimal):
        return "decimal", value.as_tuple()
    return number(value) if isinstance(value, int | float) else bytes(value)


def _number(value: float) -> Hashable:
    return "number", value


def _exact_number(value: float) -> Hashable:
    return "number", repr(value)


def _seconds(value: Any) -> int | None:
    if isinstance(value, datetime):
        return int(value.timestamp())
    return int(value) if isinstance(value, RawTimestamp) else None


def _tag(value: Any) -> str:
    return "timestamp" if _seconds(value) is not None else type(value).__name__
