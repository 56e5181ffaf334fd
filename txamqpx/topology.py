"""Exchanges, queues and bindings as values: made in one place, declared any number of times.

A value is frozen, hashes, and is checked when it is made, so a mistake shows at start-up and not at the
first message. ``method()`` gives the request that declares it; ``check()`` says what a certain broker will
make of it. A ``Topology`` puts any number of them into an order in which they can be declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from txamqpx import lint
from txamqpx.arguments import Arguments, Duration, short_text
from txamqpx.entities import Exchange, Key, Queue, name_of
from txamqpx.errors import TopologyError
from txamqpx.spec.amqp0_9_1 import ExchangeBind, QueueBind

__all__ = ["Arguments", "Binding", "Duration", "Exchange", "Item", "Key", "Queue", "Topology"]

Kind = Literal["queue", "exchange"]


@attrs.frozen(init=False)
class Binding:
    """A way for messages from an exchange to a queue, or to another exchange.

    Two are equal, and the same binding to the broker, if all of this is the same.

    Attributes:
        source: The name of the exchange that messages come from.
        destination: The name of what they go to; empty for a queue that the broker names.
        kind: ``queue`` or ``exchange``: what the destination is.
        routing_key: What the source compares with a message's routing key.
        arguments: What it compares besides, such as headers.
        handle: What a queue that the broker names is known by. Empty for others.
    """

    source: str
    destination: str
    kind: Kind
    routing_key: str
    arguments: Mapping[str, Any]
    handle: str

    def __init__(
        self,
        source: Exchange | str,
        destination: Queue | Exchange | str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        *,
        kind: Kind | None = None,
    ) -> None:
        """Make a binding.

        Args:
            source: The exchange that messages come from.
            destination: What they go to; a bare name needs ``kind``.
            routing_key: What the source compares with a message's routing key.
            arguments: What it compares besides, such as headers.
            kind: What the destination is, where its value does not tell.

        Raises:
            TopologyError: No broker would take it.
        """
        kind = _kind(destination, kind)
        name = short_text("binding, destination", name_of(destination))
        handle = destination.handle if isinstance(destination, Queue) else ""
        where = f"binding of {kind} {name!r}"
        if kind == "queue" and not name and not handle:
            raise TopologyError(where, "needs the name of the queue, or its value if the broker names it")
        self.__attrs_init__(
            short_text(f"{where}, source", name_of(source)),
            name,
            kind,
            short_text(f"{where}, routing_key", routing_key),
            Arguments(arguments, where),
            handle,
        )
        lint.check(self._method(name))

    @classmethod
    def to_queue(
        cls,
        source: Exchange | str,
        destination: Queue | str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> Binding:
        """Make one to a queue."""
        return cls(source, destination, routing_key, arguments, kind="queue")

    @classmethod
    def to_exchange(
        cls,
        source: Exchange | str,
        destination: Exchange | str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> Binding:
        """Make one to an exchange."""
        return cls(source, destination, routing_key, arguments, kind="exchange")

    @property
    def key(self) -> Key:
        """What it is known by: all of it."""
        end = (self.destination, self.handle) if self.handle else (self.destination,)
        return ("binding", self.kind, *end, self.source, self.routing_key, self.arguments)

    def method(self, name: str | None = None) -> QueueBind | ExchangeBind:
        """Return the request that makes it.

        Args:
            name: The name that the broker gave to the queue, if it chose one.

        Raises:
            TopologyError: The broker names the queue, and ``name`` does not say how.
        """
        if self.handle and not name:
            raise TopologyError(
                str(self), "needs the name that the broker gave to the queue; declare it first"
            )
        return self._method(name if name and self.handle else self.destination)

    def check(
        self, server_version: tuple[int, ...] | None = None, allow_deprecated: bool | None = None
    ) -> list[str]:
        """Return what ``lint.check`` has to say about it."""
        return lint.check(self._method(self.destination), server_version, allow_deprecated)

    def _method(self, name: str) -> QueueBind | ExchangeBind:
        if self.kind == "queue":
            return QueueBind(name, self.source, self.routing_key, arguments=self.arguments)
        return ExchangeBind(name, self.source, self.routing_key, arguments=self.arguments)

    def __str__(self) -> str:
        end = f"{self.destination!r}" + f" ({self.handle})" * bool(self.handle)
        return f"binding of {self.kind} {end} to exchange {self.source!r}"


def _kind(destination: Queue | Exchange | str, kind: Kind | None) -> Kind:
    known: Kind | None = (
        "queue"
        if isinstance(destination, Queue)
        else "exchange"
        if isinstance(destination, Exchange)
        else None
    )
    found = known or kind
    if found not in ("queue", "exchange"):
        raise TopologyError(
            f"binding of {destination!r:.80}",
            "a name alone does not tell what it is of: use Binding.to_queue or Binding.to_exchange",
        )
    if kind not in (None, found):
        raise TopologyError(f"binding of {destination}", f"is no {kind}")
    return found


Item = Exchange | Queue | Binding


@attrs.frozen(init=False, eq=False, repr=False)
class Topology:
    """Exchanges, queues and bindings that belong together, in an order in which they can be declared.

    First exchanges, an alternate exchange before those that have it; then queues; then bindings, those
    between exchanges first, so that nothing that is published meanwhile is lost behind a binding. Apart
    from that everything stays in the order in which it was given. Items that are given twice count once.

    Args:
        items: Values, other topologies, or iterables of them.

    Attributes:
        exchanges: All exchanges, in order.
        queues: All queues.
        bindings: All bindings, in order.

    Raises:
        TopologyError: Two items of one name differ. One that is passive agrees with any other.
    """

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def __init__(self, *items: Item | Iterable[Any]) -> None:
        found: dict[Key, Item] = {}
        for item in _flat(items):
            there = found.setdefault(item.key, item)
            found[item.key] = _agreed(there, item)
        bindings = [item for item in found.values() if isinstance(item, Binding)]
        self.__attrs_init__(
            _alternates_first([item for item in found.values() if isinstance(item, Exchange)]),
            tuple(item for item in found.values() if isinstance(item, Queue)),
            tuple(sorted(bindings, key=lambda binding: binding.kind != "exchange")),
        )

    def __iter__(self) -> Iterator[Item]:
        yield from self.exchanges
        yield from self.queues
        yield from self.bindings

    def __len__(self) -> int:
        return len(self.exchanges) + len(self.queues) + len(self.bindings)

    def __add__(self, other: Topology | Item) -> Topology:
        if not isinstance(other, Topology | Exchange | Queue | Binding):
            return NotImplemented
        return Topology(self, other)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return set(self) == set(other)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"Topology({', '.join(map(repr, self))})"

    def check(
        self, server_version: tuple[int, ...] | None = None, allow_deprecated: bool | None = None
    ) -> list[str]:
        """Return what ``lint.check`` has to say about all of it."""
        return [warning for item in self for warning in item.check(server_version, allow_deprecated)]


def _flat(items: Iterable[Any]) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Exchange | Queue | Binding):
            yield item
        elif isinstance(item, Iterable) and not isinstance(item, str | bytes):
            yield from _flat(item)
        else:
            raise TopologyError(
                "topology", f"holds exchanges, queues and bindings, not {type(item).__name__} {item!r:.80}"
            )


def _agreed(one: Item, other: Item) -> Item:
    """Return what two items of one key come down to."""
    if one == other or isinstance(one, Binding) or isinstance(other, Binding):
        return one
    if one.passive or other.passive:
        return other if one.passive else one
    differ = [
        field.name
        for field in attrs.fields(type(one))
        if getattr(one, field.name) != getattr(other, field.name)
    ]
    raise TopologyError(
        str(one), f"is declared twice, and not alike: {', '.join(differ)} differ; keep one of them"
    )


def _alternates_first(exchanges: list[Exchange]) -> tuple[Exchange, ...]:
    """Sort exchanges so that whoever has an alternate exchange comes behind it."""
    by_name = {exchange.name: exchange for exchange in exchanges}
    ordered: dict[str, Exchange] = {}
    for exchange in exchanges:
        chain: list[Exchange] = []
        behind: Exchange | None = exchange
        while behind is not None and behind.name not in ordered and behind not in chain:
            chain.append(behind)
            behind = by_name.get(behind.alternate_exchange or "")
        ordered.update({each.name: each for each in reversed(chain)})
    return tuple(ordered.values())
