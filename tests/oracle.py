"""Says which queues a message goes to, by brute force: what the tests hold a broker to.

It takes the topology and the message as plain values and knows no broker and none of our code, so it can
judge any. What it says was tried on RabbitMQ 3.10, 4.0 and 4.3; where they differ, `Rules` says how.
Not said here: the consistent-hash kind and its like, policies, and the replies of `amq.rabbitmq.reply-to`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import attrs

DEFAULT_EXCHANGE = ""
NOT_FOUND, ACCESS_REFUSED, PRECONDITION_FAILED = 404, 403, 406


class Rules(Enum):
    """How a headers exchange compares values."""

    EQUAL_TERMS = "RabbitMQ 3.10"
    """By Erlang's `==`, blind to a value's tag: 1 is 1.0, and a time is its number of seconds."""

    SAME_TERMS = "RabbitMQ 4"
    """By Erlang's `=:=`: 1 is not 1.0. A message's time is a number of milliseconds by then, so a time in a
    binding equals no such time in a message."""


@attrs.frozen
class Exchange:
    """An exchange, but for its name.

    Attributes:
        kind: `direct`, `fanout`, `topic` or `headers`.
        internal: Only other exchanges can publish to it.
        alternate: The exchange that gets what matches none of this one's bindings.
    """

    kind: str
    internal: bool = False
    alternate: str | None = None


@attrs.frozen
class Binding:
    """A way from an exchange to a queue, or to another exchange."""

    source: str
    destination: str
    routing_key: str = ""
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    to_exchange: bool = False


STANDARD: Mapping[str, Exchange] = {
    "amq.direct": Exchange("direct"),
    "amq.fanout": Exchange("fanout"),
    "amq.headers": Exchange("headers"),
    "amq.match": Exchange("headers"),
    "amq.topic": Exchange("topic"),
}
"""The exchanges that are in every virtual host."""


@attrs.frozen
class Topology:
    """All that a virtual host knows about routing; the default exchange goes without saying."""

    exchanges: Mapping[str, Exchange] = STANDARD
    queues: Collection[str] = ()
    bindings: Sequence[Binding] = ()


@attrs.frozen
class Verdict:
    """What becomes of a message.

    Attributes:
        queues: The queues that get it, each one copy.
        refused: The code with which the broker closes the channel instead, or 0.
    """

    queues: frozenset[str] = frozenset()
    refused: int = 0

    @property
    def returned(self) -> bool:
        """Whether nobody gets it, so that it comes back if it is mandatory."""
        return not self.queues and not self.refused


def judge(
    topology: Topology,
    exchange: str,
    routing_key: str = "",
    headers: Mapping[str, Any] | None = None,
    *,
    rules: Rules = Rules.SAME_TERMS,
) -> Verdict:
    """Say what becomes of a message that is published to an exchange."""
    headers = headers or {}
    if exchange != DEFAULT_EXCHANGE:
        if exchange not in topology.exchanges:
            return Verdict(refused=NOT_FOUND)
        if topology.exchanges[exchange].internal:
            return Verdict(refused=ACCESS_REFUSED)
    copies = [headers[name] for name in ("CC", "BCC") if name in headers]
    if not all(isinstance(names, list | tuple) for names in copies):
        return Verdict(refused=PRECONDITION_FAILED)
    # What is not text in these arrays is passed over; BCC is gone before bindings are looked at.
    keys = {routing_key, *(key for names in copies for key in names if isinstance(key, str))}
    if exchange == DEFAULT_EXCHANGE:
        return Verdict(frozenset(keys & set(topology.queues)))
    seen_headers = {name: value for name, value in headers.items() if name != "BCC"}
    return Verdict(_spread(topology, exchange, keys, seen_headers, rules))


def _spread(
    topology: Topology, exchange: str, keys: Iterable[str], headers: Mapping[str, Any], rules: Rules
) -> frozenset[str]:
    """Follow bindings and alternates from an exchange on, through each exchange once."""
    queues: set[str] = set()
    reached, waiting = {exchange}, [exchange]
    while waiting:
        name = waiting.pop()
        matching = [
            binding
            for binding in topology.bindings
            if binding.source == name
            and _matches(topology.exchanges[name].kind, binding, keys, headers, rules)
        ]
        queues.update(binding.destination for binding in matching if not binding.to_exchange)
        further = {binding.destination for binding in matching if binding.to_exchange}
        # A binding that matches is enough to keep the alternate out, even if it leads nowhere. The default
        # exchange has no bindings, so as an alternate it leads nowhere as well.
        alternate = topology.exchanges[name].alternate
        if not matching and alternate is not None and alternate in topology.exchanges:
            further.add(alternate)
        waiting += further - reached
        reached |= further
    return frozenset(queues)


def _matches(
    kind: str, binding: Binding, keys: Iterable[str], headers: Mapping[str, Any], rules: Rules
) -> bool:
    match kind:
        case "direct":
            return binding.routing_key in keys
        case "fanout":
            return True
        case "topic":
            return any(topic_matches(binding.routing_key, key) for key in keys)
        case "headers":
            return headers_match(binding.arguments, headers, rules)
    raise ValueError(f"exchanges of the kind {kind!r} are not judged")


# --------------------------------------------------------------------------- topics


def topic_matches(pattern: str, key: str) -> bool:
    """Tell whether a routing key fits a topic binding's: `*` is any word, `#` any number of them.

    Words lie between dots and may be empty; but no text at all is no word, and not an empty one.
    """
    return _words_match(_words(pattern), _words(key))


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(_words_match(rest, words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and first in {"*", words[0]} and _words_match(rest, words[1:])


# --------------------------------------------------------------------------- headers


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any], rules: Rules) -> bool:
    """Tell whether a message's headers fit a headers binding's arguments.

    `x-match` is `all` if it is left out. Arguments whose names begin with `x-` count only where it ends in
    `-with-x`, and it never counts itself. An argument without a value asks only that the header be there.
    """
    mode = arguments.get("x-match", "all")
    asked = {
        name: value
        for name, value in arguments.items()
        if name != "x-match" and (mode.endswith("-with-x") or not name.startswith("x-"))
    }
    fits = [
        name in headers
        and (
            value is None
            or _term(value, rules) == _term(headers[name], rules, of_message=rules is Rules.SAME_TERMS)
        )
        for name, value in asked.items()
    ]
    return all(fits) if mode.startswith("all") else any(fits)


def _term(value: Any, rules: Rules, *, of_message: bool = False) -> Hashable:
    """Return something that equals another such thing if the broker's terms for the values do.

    Tags are lost from what is compared itself, but not from what it contains; an empty table and an empty
    array are both the empty list.
    """
    if value is None or isinstance(value, bool):
        return ("atom", value)
    if isinstance(value, datetime):
        return _number(int(value.timestamp()) * (1000 if of_message else 1), rules)
    if isinstance(value, int | float):
        return _number(value, rules)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Decimal):
        return ("decimal", value.as_tuple())
    if isinstance(value, list | tuple):
        return tuple((_tag(item), _term(item, rules)) for item in value)
    if isinstance(value, Mapping):
        return tuple((name, _tag(item), _term(item, rules)) for name, item in value.items())
    assert isinstance(value, bytes)
    return value


def _number(value: float, rules: Rules) -> Hashable:
    # By its text, for in newer Erlangs 0.0 is not -0.0, either.
    return ("number", value if rules is Rules.EQUAL_TERMS else repr(value))


def _tag(value: Any) -> str:
    return "table" if isinstance(value, Mapping) else type(value).__name__
