"""The arguments of queues, exchanges and bindings: a value for a table of them, and which RabbitMQ knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from txamqpx.errors import EncodeError, TopologyError
from txamqpx.spec.wire import encode_short_string, encode_table

__all__ = [
    "Arguments",
    "CHOICES",
    "Duration",
    "FOREIGN",
    "LATER",
    "MATCHES",
    "MAX_AGE",
    "NUMBERS",
    "NUMBERS_SINCE_4_3",
    "OFFSET",
    "OF_QUORUM",
    "RETRY_TYPES",
    "TEXTS",
    "UNCHECKED_NUMBERS",
    "age",
    "milliseconds",
    "short_text",
    "whole",
]

#: A ``timedelta``, or whole milliseconds.
Duration = timedelta | int

_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)


class Arguments(Mapping[str, Any]):
    """A read-only table, a deep copy of the one it is made from, that hashes.

    Two are equal if they are the same on the wire, whatever the order of their keys: to the broker ``True``
    is not ``1``, and neither is ``1.0``.

    Args:
        table: Names and values, of the types that a field table can hold.
        where: What the table belongs to, for an error.

    Raises:
        TopologyError: A key or a value has no form on the wire.
    """

    __slots__ = ("_encoded", "_table")

    def __init__(self, table: Mapping[str, Any] | None = None, where: str = "arguments") -> None:
        try:
            encode_table(table)  # before the copy, which would follow a table that contains itself for ever
            self._table: dict[str, Any] = _sorted(table or {})
            self._encoded = encode_table(self._table)
        except EncodeError as error:
            raise TopologyError(", ".join(filter(None, (where, error.field))), error.reason) from None

    def __getitem__(self, name: str) -> Any:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Arguments):
            return self._encoded == other._encoded
        if not isinstance(other, Mapping):
            return NotImplemented
        try:
            return self._encoded == Arguments(other)._encoded
        except TopologyError:
            return False

    def __hash__(self) -> int:
        return hash(self._encoded)

    def __repr__(self) -> str:
        return repr(self._table)


def _sorted(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _frozen(table[name]) for name in sorted(table)}


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Arguments(value)
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value


def milliseconds(where: str, value: Duration, *, least: int = 0) -> int:
    """Return a duration in whole milliseconds, rounded up: what is more than nothing stays so.

    Raises:
        TopologyError: It is no duration, or less than ``least`` milliseconds.
    """
    if isinstance(value, timedelta):
        value = -(-value // _MILLISECOND)
    return whole(where, value, least=least, what="a timedelta or a whole number of milliseconds")


def whole(where: str, value: object, *, least: int, what: str = "a whole number") -> int:
    """Return a whole number of at least ``least``.

    Raises:
        TopologyError: It is less, or something else. A bool is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise TopologyError(where, f"must be {what}, at least {least}, not {value!r:.80}")
    return value


def age(where: str, value: timedelta | str) -> str:
    """Return an age as streams write it: a number and one of the letters ``YMDhms``; seconds, rounded up.

    Raises:
        TopologyError: It is not above 0.
    """
    if not isinstance(value, timedelta):
        return value  # the broker's own form, which the lint knows
    seconds = -(-value // _SECOND)
    if seconds <= 0:
        raise TopologyError(where, "must be longer than nothing")
    return f"{seconds}s"


def short_text(where: str, value: object) -> str:
    """Return a text that fits into a short string: 255 bytes of UTF-8.

    Raises:
        TopologyError: It is longer, or no text.
    """
    try:
        encode_short_string(value)  # type: ignore[arg-type]  # it says what else it is
    except EncodeError as error:
        raise TopologyError(where, error.reason) from None
    assert isinstance(value, str)
    return value


# --------------------------------------------------------------------------- those that RabbitMQ knows

#: Ten years in milliseconds: the longest time to live or to idle that RabbitMQ takes.
_LONGEST: Final = 10 * 365 * 24 * 60 * 60 * 1000

#: Arguments that are whole numbers: the least, and the most if there is one.
NUMBERS: Final[Mapping[str, tuple[int, int | None]]] = {
    "x-message-ttl": (0, _LONGEST),
    "x-expires": (1, _LONGEST),
    "x-max-length": (0, None),
    "x-max-length-bytes": (0, None),
    "x-max-priority": (0, 255),
    "x-queue-version": (1, None),
    "x-quorum-initial-group-size": (1, None),
    "x-initial-cluster-size": (1, None),
    "x-stream-max-segment-size-bytes": (0, 3_000_000_000),
}
NUMBERS_SINCE_4_3: Final[Mapping[str, tuple[int, int | None]]] = {
    "x-consumer-timeout": (0, None),
    "x-stream-filter-size-bytes": (16, 255),
}
#: Those at which the broker does not look before it uses them.
UNCHECKED_NUMBERS: Final = ("x-delivery-limit", "x-delayed-retry-min", "x-delayed-retry-max")
TEXTS: Final = ("x-queue-type", "x-dead-letter-exchange", "x-dead-letter-routing-key")
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx"),
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
    "x-queue-leader-locator": ("client-local", "balanced", "random", "least-leaders", "min-masters"),
}
RETRY_TYPES: Final = ("disabled", "all", "failed", "returned")
MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")
MAX_AGE: Final = re.compile("0*[1-9][0-9]*[YMDhms]")
OFFSET: Final = re.compile("first|last|next|[0-9]+[YMDhms]")

OF_QUORUM: Final = frozenset(
    {
        "x-delivery-limit",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-quorum-initial-group-size",
        "x-dead-letter-strategy",
    }
)
_OF_STREAMS: Final = frozenset({"x-initial-cluster-size", "x-max-age", "x-stream-max-segment-size-bytes"})
_OF_CLASSIC: Final = frozenset(
    {"x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator"}
)
_OF_CONSUMED: Final = frozenset(
    {
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-overflow",
        "x-single-active-consumer",
    }
)
#: Queue type -> the arguments that a broker of any release refuses there.
FOREIGN: Final[Mapping[str, frozenset[str]]] = {
    "classic": OF_QUORUM | _OF_STREAMS,
    "quorum": _OF_CLASSIC | _OF_STREAMS,
    "stream": _OF_CLASSIC | OF_QUORUM | _OF_CONSUMED,
}
#: Arguments that came later, the release, and the type that has them: older brokers ignore them, and
#: from 4.3 on other types refuse them.
LATER: Final[Mapping[str, tuple[tuple[int, int], str]]] = {
    "x-consumer-timeout": ((3, 12), "quorum"),
    "x-consumer-disconnected-timeout": ((4, 3), "quorum"),
    "x-delayed-retry-type": ((4, 3), "quorum"),
    "x-delayed-retry-min": ((4, 3), "quorum"),
    "x-delayed-retry-max": ((4, 3), "quorum"),
    "x-stream-filter-size-bytes": ((3, 13), "stream"),
}
