"""Exchanges: what is bound to them, and where a message goes from there."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from txamqpx.broker.headers import HeadersPattern
from txamqpx.broker.terms import Term, exact_term, exact_term_of_message, term_by_value
from txamqpx.broker.topics import Topics

__all__ = ["KINDS", "Binding", "Exchange", "Headers", "Way", "route"]

Headers = Callable[[], Mapping[str, Any]]
"""Decodes a message's headers, which few exchanges ask for."""


@attrs.frozen
class Binding:
    """A way out of an exchange.

    Attributes:
        source: The exchange's name.
        destination: A queue or an exchange: the very object.
        routing_key: The key or the pattern.
        arguments: What a headers exchange compares; to the others it is just part of the binding.
    """

    source: str
    destination: Hashable
    routing_key: str
    arguments: Mapping[str, Any]

    @property
    def identity(self) -> tuple[str, str]:
        """What tells it from other bindings of the same two: the key, and the arguments in any order."""
        # By their texts, for to the broker 1 is neither True nor 1.0.
        return self.routing_key, repr(sorted(self.arguments.items()))


class _Ways(Protocol):
    """Finds destinations, each kind of exchange in its own way. A destination may come more than once."""

    def add(self, binding: Binding) -> None: ...

    def remove(self, binding: Binding) -> None: ...

    def find(self, keys: Iterable[str], headers: Headers) -> Iterable[Hashable]: ...


class _Direct:
    """By equal keys."""

    def __init__(self) -> None:
        self._ways: dict[str, Counter[Hashable]] = {}

    def add(self, binding: Binding) -> None:
        self._ways.setdefault(binding.routing_key, Counter())[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        ways = self._ways[binding.routing_key]
        _take(ways, binding.destination)
        if not ways:
            del self._ways[binding.routing_key]

    def find(self, keys: Iterable[str], headers: Headers) -> Iterator[Hashable]:
        for key in keys:
            yield from self._ways.get(key, ())


class _Fanout:
    """Everybody."""

    def __init__(self) -> None:
        self._ways: Counter[Hashable] = Counter()

    def add(self, binding: Binding) -> None:
        self._ways[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        _take(self._ways, binding.destination)

    def find(self, keys: Iterable[str], headers: Headers) -> Iterable[Hashable]:
        return self._ways


class _Random(_Fanout):
    """Anybody: RabbitMQ 4's `x-local-random`."""

    def find(self, keys: Iterable[str], headers: Headers) -> Iterable[Hashable]:
        return [random.choice([*self._ways])] if self._ways else []


class _Topic:
    """By words and wildcards."""

    def __init__(self) -> None:
        self._ways: Topics[Hashable] = Topics()

    def add(self, binding: Binding) -> None:
        self._ways.add(binding.routing_key, binding.destination)

    def remove(self, binding: Binding) -> None:
        self._ways.remove(binding.routing_key, binding.destination)

    def find(self, keys: Iterable[str], headers: Headers) -> Iterator[Hashable]:
        for key in keys:
            yield from self._ways.matching(key)


class _ByHeaders:
    """By headers, and not by keys."""

    def __init__(self, of_binding: Term, of_message: Term) -> None:
        self._of_binding, self._of_message = of_binding, of_message
        self._ways: dict[tuple[Hashable, tuple[str, str]], HeadersPattern] = {}

    def add(self, binding: Binding) -> None:
        pattern = HeadersPattern.of(binding.arguments, self._of_binding)
        self._ways[binding.destination, binding.identity] = pattern

    def remove(self, binding: Binding) -> None:
        del self._ways[binding.destination, binding.identity]

    def find(self, keys: Iterable[str], headers: Headers) -> Iterator[Hashable]:
        if not self._ways:
            return
        terms = {name: self._of_message(value) for name, value in headers().items()}
        for (destination, _), pattern in self._ways.items():
            if pattern.fits(terms):
                yield destination


def _take(ways: Counter[Hashable], destination: Hashable) -> None:
    ways[destination] -= 1
    if not ways[destination]:
        del ways[destination]


_MAKERS: Final[Mapping[str, Callable[[], _Ways]]] = {
    "direct": _Direct,
    "fanout": _Fanout,
    "topic": _Topic,
    "x-local-random": _Random,
}

KINDS: Final = frozenset({*_MAKERS, "headers"})
"""All kinds that there are; RabbitMQ 3 has no `x-local-random`."""

_FICKLE: Final = frozenset({"headers", "x-local-random"})


class Exchange:
    """An exchange, with the bindings that lead from it.

    Args:
        name: Its name.
        kind: One of `KINDS`.
        durable: Whether it would outlive a restart.
        auto_delete: Whether it goes with its last binding.
        internal: Whether only other exchanges can publish to it.
        arguments: What it was declared with.
        exact_headers: Whether a headers exchange compares values with their types, as RabbitMQ 4 does.

    Attributes:
        alternate: The exchange that gets what matches none of its bindings.
        is_fickle: Whether the same key may lead to something else the next time.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
        exact_headers: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments: Mapping[str, Any] = arguments or {}
        self.alternate: str | None = self.arguments.get("alternate-exchange")
        self.is_fickle = kind in _FICKLE
        if kind == "headers":
            terms = (exact_term, exact_term_of_message) if exact_headers else (term_by_value, term_by_value)
            self._ways: _Ways = _ByHeaders(*terms)
        else:
            self._ways = _MAKERS[kind]()
        self._bindings: dict[Hashable, dict[tuple[str, str], Binding]] = {}

    def __repr__(self) -> str:
        return f"<Exchange {self.name!r} ({self.kind})>"

    @property
    def is_used(self) -> bool:
        """Whether something is bound to it."""
        return bool(self._bindings)

    def bindings(self) -> Iterator[Binding]:
        """Return all bindings that lead from here."""
        for bindings in self._bindings.values():
            yield from bindings.values()

    def has(self, destination: Hashable, routing_key: str, arguments: Mapping[str, Any]) -> bool:
        """Tell whether there is a binding."""
        identity = Binding(self.name, destination, routing_key, arguments).identity
        return identity in self._bindings.get(destination, {})

    def bind(self, destination: Hashable, routing_key: str, arguments: Mapping[str, Any]) -> bool:
        """Make a binding; False means that it was there already."""
        binding = Binding(self.name, destination, routing_key, arguments)
        bindings = self._bindings.setdefault(destination, {})
        if binding.identity in bindings:
            return False
        bindings[binding.identity] = binding
        self._ways.add(binding)
        return True

    def unbind(self, destination: Hashable, routing_key: str, arguments: Mapping[str, Any]) -> bool:
        """Take a binding back; False means that it was not there."""
        identity = Binding(self.name, destination, routing_key, arguments).identity
        bindings = self._bindings.get(destination, {})
        if identity not in bindings:
            return False
        self._ways.remove(bindings.pop(identity))
        if not bindings:
            del self._bindings[destination]
        return True

    def forget(self, destination: Hashable) -> bool:
        """Drop all bindings to what is gone; False means that there was none."""
        bindings = self._bindings.pop(destination, {})
        for binding in bindings.values():
            self._ways.remove(binding)
        return bool(bindings)

    def matching(self, routing_keys: Iterable[str], headers: Headers) -> list[Hashable]:
        """Return where a message goes from here, each destination once."""
        return [*dict.fromkeys(self._ways.find(routing_keys, headers))]


@attrs.frozen
class Way:
    """Where a message goes.

    Attributes:
        queues: Where it arrives, each once.
        is_fickle: Whether another message with the same key may go elsewhere, though nothing has changed.
    """

    queues: Sequence[Any]
    is_fickle: bool


def route(
    start: Exchange,
    routing_keys: Sequence[str],
    headers: Headers,
    find_exchange: Callable[[str], Exchange | None],
) -> Way:
    """Find where a message goes, through each exchange once.

    An alternate exchange is asked where no binding matches. One that matches keeps it out even if it leads
    nowhere, and so does none that is missing; the default exchange has no bindings, so it is none to find.

    Args:
        start: The exchange that it is published to.
        routing_keys: Its key, and those of its copies.
        headers: Its headers, but for BCC.
        find_exchange: Finds an exchange by its name, but not the default one.
    """
    queues: dict[Any, None] = {}
    reached: dict[Exchange, None] = {start: None}
    waiting = [start]
    for exchange in waiting:
        matching = exchange.matching(routing_keys, headers)
        if not matching and exchange.alternate is not None:
            alternate = find_exchange(exchange.alternate)
            matching = [] if alternate is None else [alternate]
        for destination in matching:
            if not isinstance(destination, Exchange):
                queues[destination] = None
            elif destination not in reached:
                reached[destination] = None
                waiting.append(destination)
    return Way([*queues], any(exchange.is_fickle for exchange in reached))
