"""The exchanges of a virtual host: names, bindings, and the ways that messages take."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

from txamqpx.broker.exchange import Exchange, route
from txamqpx.broker.message import Message
from txamqpx.broker.profile import Profile
from txamqpx.broker.queue import Queue
from txamqpx.broker.queue_arguments import assert_equivalent
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.terms import printed, type_name
from txamqpx.broker.topics import MANY, words_of

__all__ = ["Demand", "Exchanges"]

Demand = Callable[[str, str, str], None]
"""Looks whether a client has a right: which, to what sort of thing, and its name. Raises a ``Refusal``."""

_RESERVED: Final = "amq."
_ALTERNATE: Final = "alternate-exchange"
_MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")

_PREDECLARED: Final = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
_TRACE: Final = "amq.rabbitmq.trace"

# Keys can be anything, so what is known of them must not grow with them.
_MOST_ROUTES: Final = 10_000


class Exchanges:
    """All exchanges but the default one, which is there for no more than to find queues by their names.

    Args:
        place: The virtual host, in the words of a reply text.
        profile: Which RabbitMQ the broker can be taken for.
    """

    def __init__(self, place: str, profile: Profile) -> None:
        self._place = place
        self._profile = profile
        self._by_name: dict[str, Exchange] = {}
        # Where a message with a key goes from an exchange, if that depends on nothing else.
        self._routes: dict[tuple[str, str], Sequence[Queue]] = {}
        for name, kind in _PREDECLARED.items():
            self._add(name, kind, durable=True)
        self._add(_TRACE, "topic", durable=True, internal=True)

    def __getitem__(self, name: str) -> Exchange:
        """Return an exchange.

        Raises:
            Refusal: 404, there is none of that name.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise Refusal(404, f"no {self._called(name)}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def _called(self, name: str) -> str:
        return f"exchange '{name}' in {self._place}"

    # ----------------------------------------------------------------------- exchanges

    def declare(
        self,
        name: str,
        kind: str,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Mapping[str, Any],
        demand: Demand,
    ) -> None:
        """Make an exchange, or find that the one that is there is the same.

        Raises:
            Refusal: 403, a right is missing, or the name is not for clients; 406, it is there in another
                shape, or its alternate is no name; 406 or 503, there is no such type.
        """
        self.check_type(kind)
        self.refuse_default(name)
        demand("configure", "exchange", name)
        exchange = self._by_name.get(name)
        if exchange is None:
            if name.startswith(_RESERVED):
                raise Refusal(403, f"exchange name '{name}' contains reserved prefix 'amq.*'")
            if _ALTERNATE in arguments:
                alternate = arguments[_ALTERNATE]
                if not isinstance(alternate, str):
                    reason = f"invalid type '{type_name(alternate)}' for arg '{_ALTERNATE}'"
                    raise Refusal(406, f"{reason} in {self._called(name)}")
                demand("read", "exchange", name)
                demand("write", "exchange", alternate)
            self._add(
                name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
            )
            return
        where = f"for {self._called(name)}"
        for property_, received, current in (
            ("type", _atom(kind), _atom(exchange.kind)),
            ("durable", _boolean(durable), _boolean(exchange.durable)),
            ("auto_delete", _boolean(auto_delete), _boolean(exchange.auto_delete)),
            ("internal", _boolean(internal), _boolean(exchange.internal)),
        ):
            if received != current:
                reason = f"received '{received}' but current is '{current}'"
                raise Refusal(406, f"inequivalent arg '{property_}' {where}: {reason}")
        assert_equivalent(self._called(name), arguments, exchange.arguments, [_ALTERNATE])

    def check_type(self, kind: str) -> None:
        """Look whether there is a type of exchanges.

        Raises:
            Refusal: 406 or 503, there is not.
        """
        if kind not in self._profile.exchange_types:
            word = "unknown" if kind else "invalid"
            raise Refusal(self._profile.unknown_type, f"{word} exchange type '{kind}'")

    def _add(self, name: str, kind: str, **features: Any) -> None:
        self._by_name[name] = Exchange(name, kind, exact_headers=self._profile.exact_headers, **features)
        self._routes.clear()

    def delete(self, name: str, *, if_unused: bool, demand: Demand) -> None:
        """Delete an exchange with all its bindings; there may be none.

        Raises:
            Refusal: 403, it is not this client's to delete, or not any client's; 406, it is in use.
        """
        self.refuse_default(name)
        if name.startswith(_RESERVED):
            raise Refusal(403, f"deletion of system {self._called(name)} not allowed")
        demand("configure", "exchange", name)
        exchange = self._by_name.get(name)
        if exchange is None:
            return
        if if_unused and exchange.is_used:
            raise Refusal(406, f"{self._called(name)} in use")
        self._drop(exchange)

    def _drop(self, exchange: Exchange) -> None:
        del self._by_name[exchange.name]
        self._routes.clear()
        self.forget(exchange)

    def refuse_default(self, *names: str) -> None:
        """Keep the default exchange from what can be done to all others.

        Raises:
            Refusal: 403, it is among the names.
        """
        if "" in names:
            raise Refusal(403, "operation not permitted on the default exchange")

    # ----------------------------------------------------------------------- bindings

    def check_binding(
        self, source: Exchange, destination: Hashable, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Look whether an exchange can have a binding.

        Raises:
            Refusal: 406, it cannot.
        """
        reason = None
        if source.kind == "headers":
            reason = _wrong_match(arguments.get("x-match", "all"))
        elif source.kind == "topic":
            most, count = self._profile.most_wildcards, words_of(routing_key).count(MANY)
            if most is not None and count > most:
                reason = f"Topic binding key '{routing_key}' uses {count} '#' wildcards"
                reason += f", at most {most} are allowed"
        elif source.kind == "x-local-random":
            reason = _not_local(destination, routing_key)
        if reason is not None:
            raise Refusal(406, reason)

    def bind(
        self, source: Exchange, destination: Hashable, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Make a binding, if it is not there."""
        if source.bind(destination, routing_key, arguments):
            self._routes.clear()

    def unbind(
        self, source: Exchange, destination: Hashable, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Take back a binding, if it is there, and the exchange too if it was to go with its last one."""
        if source.unbind(destination, routing_key, arguments):
            self._routes.clear()
            if source.auto_delete and not source.is_used:
                self._drop(source)

    def forget(self, destination: Hashable) -> None:
        """Drop the bindings to what is gone, and the exchanges that were there for no more than those."""
        gone = [destination]
        for one in gone:
            for exchange in [*self._by_name.values()]:
                if exchange.forget(one):
                    self._routes.clear()
                    if exchange.auto_delete and not exchange.is_used:
                        del self._by_name[exchange.name]
                        gone.append(exchange)

    # ----------------------------------------------------------------------- routing

    def route(self, message: Message) -> Sequence[Queue]:
        """Return the queues that a message goes to, each once: none if its exchange is not there."""
        way = (message.exchange, message.routing_key)
        has_copies = message.copies or message.blind
        if not has_copies and way in self._routes:
            return self._routes[way]
        start = self._by_name.get(message.exchange)
        if start is None:
            return ()
        found = route(start, message.keys, lambda: message.headers, self._by_name.get)
        if not has_copies and not found.is_fickle:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[way] = found.queues
        return found.queues


def _boolean(value: bool) -> str:
    return str(value).lower()


def _atom(name: str) -> str:
    # To Erlang types are atoms, which it puts into quotes if there is a hyphen in them.
    return f"'{name}'" if "-" in name else name


def _wrong_match(match: Any) -> str | None:
    if not isinstance(match, str):
        return f"Invalid x-match field type {type_name(match)} (value {printed(match)}); expected longstr"
    if match not in _MATCHES:
        return f"Invalid x-match field value {printed(match)}; expected all, any, all-with-x, or any-with-x"
    return None


def _not_local(destination: Hashable, routing_key: str) -> str | None:
    if routing_key:
        return f"Non empty binding '{routing_key}' key not permitted"
    if not isinstance(destination, Queue):
        return "Destination not found"
    if destination.kind != "classic":
        return f"Queue type rabbit_{destination.kind}_queue not valid for this exchange type"
    return None
