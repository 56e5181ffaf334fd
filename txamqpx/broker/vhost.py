"""A virtual host: the names, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from txamqpx.broker.dead_letter import Burials
from txamqpx.broker.exchanges import Demand, Exchanges
from txamqpx.broker.message import Message
from txamqpx.broker.queue import Owner, Queue
from txamqpx.broker.queue_arguments import (
    assert_equivalent,
    check_arguments,
    dead_letter_exchange,
    kind_of,
)
from txamqpx.broker.quorum import QuorumQueue
from txamqpx.broker.random_name import random_name
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.reply_to import Replies, ReplyTo

__all__ = ["VirtualHost"]

_RESERVED: Final = "amq."

_KINDS: Final[Mapping[str, type[Queue]]] = {kind.kind: kind for kind in (Queue, QuorumQueue)}


class VirtualHost:
    """Exchanges, queues and bindings.

    Args:
        name: Its name.
        broker: Whose it is.
    """

    def __init__(self, name: str, broker: Owner) -> None:
        self.name = name
        self.broker = broker
        self.exchanges = Exchanges(f"vhost '{name}'", broker.profile)
        self.queues: dict[str, Queue] = {}
        #: The channels that are addressed as if they were queues.
        self.replies = Replies(name, broker.profile)
        #: Where dead letters go.
        self.burials = Burials(self.route)

    # ----------------------------------------------------------------------- queues

    def queue(self, name: str, session: object) -> Queue:
        """Return a queue that ``session`` may use.

        Raises:
            Refusal: 404, there is none; 405, it is another connection's.
        """
        queue = self._queue(name)
        self._check_owner(queue, session)
        return queue

    def _queue(self, name: str) -> Queue:
        try:
            return self.queues[name]
        except KeyError:
            raise Refusal(404, f"no {self._called(name)}") from None

    def _called(self, name: str) -> str:
        return f"queue '{name}' in vhost '{self.name}'"

    def _check_owner(self, queue: Queue, session: object) -> None:
        if queue.owner is not None and queue.owner is not session:
            raise self._locked(queue)

    def _locked(self, queue: Queue) -> Refusal:
        return Refusal(
            405,
            f"cannot obtain exclusive access to locked {self._called(queue.name)}. It could be originally "
            "declared on another connection or the exclusive property value does not match that of the "
            "original declaration.",
        )

    def declare_queue(
        self,
        name: str,
        session: object,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Mapping[str, Any],
        demand: Demand,
    ) -> Queue:
        """Return a queue, new or equivalent to the one that there is.

        Raises:
            Refusal: 403, a right is missing, or the name is not for clients; 405, the queue is another
                connection's; 406, it is there in another shape, or there can be none of this one.
        """
        kind = kind_of(arguments)
        name = self._name(name, kind)
        demand("configure", "queue", name)
        owner = session if exclusive else None
        if name in self.queues:
            queue = self.queues[name]
            if queue.owner is not owner:
                raise self._locked(queue)
            self._assert_equivalent(queue, durable, auto_delete, arguments)
            return queue
        where = self._called(name)
        letters = dead_letter_exchange(where, arguments)
        if letters is not None:
            demand("read", "queue", name)
            demand("write", "exchange", letters)
        check_arguments(where, arguments, self.broker.profile)
        if kind != "classic":
            for refused, what in (
                (auto_delete, "auto-delete"),
                (exclusive, "exclusive-owner"),
                (not durable, "non-durable"),
            ):
                if refused:
                    raise Refusal(406, f"invalid property '{what}' for {where}")
        queue = self.queues[name] = _KINDS[kind](
            name, self, durable=durable, owner=owner, auto_delete=auto_delete, arguments=arguments
        )
        return queue

    def _name(self, name: str, kind: str) -> str:
        """Return the name that a client may give to a queue, or one that the broker makes."""
        if name.startswith(_RESERVED):
            raise Refusal(403, f"queue name '{name}' contains reserved prefix 'amq.*'")
        if name:
            return name
        if kind not in self.broker.profile.queue_arguments:
            raise Refusal(406, f"unknown queue type '{kind}'")
        if kind != "classic":
            raise Refusal(406, f"Cannot declare a server-named queue for type rabbit_{kind}_queue")
        return random_name("gen")

    def _assert_equivalent(
        self, queue: Queue, durable: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> None:
        where = self._called(queue.name)
        # What lives no longer than its connection is not asked how long it would.
        for name, received, current in (
            ("durable", durable or queue.owner is not None, queue.durable or queue.owner is not None),
            ("auto_delete", auto_delete, queue.auto_delete),
        ):
            if received is not current:
                reason = f"received '{str(received).lower()}' but current is '{str(current).lower()}'"
                raise Refusal(406, f"inequivalent arg '{name}' for {where}: {reason}")
        profile, current_arguments = self.broker.profile, queue.arguments
        if profile.default_type:
            default = {"x-queue-type": "classic"}
            arguments, current_arguments = {**default, **arguments}, {**default, **current_arguments}
        elif queue.kind == kind_of(arguments) == "classic":
            arguments, current_arguments = (
                {name: value for name, value in each.items() if name != "x-queue-type"}
                for each in (arguments, current_arguments)
            )
        assert_equivalent(where, arguments, current_arguments, profile.queue_arguments[queue.kind])

    def delete_queue_if(self, name: str, session: object, *, if_unused: bool, if_empty: bool) -> int:
        """Delete a queue, if there is one; return how many messages were ready.

        Raises:
            Refusal: 405, it is another connection's; 406, a condition does not hold; 540, it is of a type for
                which there are no conditions.
        """
        if name not in self.queues:
            return 0
        queue = self.queue(name, session)
        where = self._called(name)
        for flag, what in ((if_unused, "if-unused"), (if_empty, "if-empty")):
            if flag and queue.kind != "classic":
                raise Refusal(
                    540,
                    f"cannot delete {where}. queue.delete operations with {what} flag set are not supported "
                    f"by {queue.kind} queues",
                )
        if if_empty and queue.message_count:
            raise Refusal(406, f"{where} not empty")
        if if_unused and queue.consumer_count:
            raise Refusal(406, f"{where} in use")
        return self.delete_queue(queue)

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue and its bindings; return how many messages were ready."""
        count = queue.message_count
        del self.queues[queue.name]
        self.exchanges.forget(queue)
        queue.delete()
        return count

    def delete_exclusive(self, session: object) -> None:
        """Delete the queues that end with a connection."""
        for queue in [queue for queue in self.queues.values() if queue.owner is session]:
            self.delete_queue(queue)

    # ----------------------------------------------------------------------- bindings

    def bind_queue(
        self, name: str, session: object, exchange: str, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Bind a queue to an exchange.

        Raises:
            Refusal: 403, the exchange is the default one; 404, one of the two is not there; 405, the queue is
                another connection's; 406, the exchange cannot have such a binding.
        """
        self.exchanges.refuse_default(exchange)
        source, queue = self.exchanges[exchange], self._queue(name)
        self.exchanges.check_binding(source, queue, routing_key, arguments)
        self._check_owner(queue, session)
        self.exchanges.bind(source, queue, routing_key, arguments)

    def unbind_queue(
        self, name: str, session: object, exchange: str, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Take a binding back; it need not be there, nor need what it binds.

        Raises:
            Refusal: 403, the exchange is the default one; 405, the queue is another connection's.
        """
        self.exchanges.refuse_default(exchange)
        queue = self.queues.get(name)
        if queue is None or exchange not in self.exchanges:
            return
        source = self.exchanges[exchange]
        if source.has(queue, routing_key, arguments):
            self._check_owner(queue, session)
            self.exchanges.unbind(source, queue, routing_key, arguments)

    def bind_exchange(self, name: str, exchange: str, routing_key: str, arguments: Mapping[str, Any]) -> None:
        """Bind an exchange to an exchange, which may be the same.

        Raises:
            Refusal: 403, one is the default one; 404, one is not there; 406, it cannot have such a binding.
        """
        self.exchanges.refuse_default(name, exchange)
        source, destination = self.exchanges[exchange], self.exchanges[name]
        self.exchanges.check_binding(source, destination, routing_key, arguments)
        self.exchanges.bind(source, destination, routing_key, arguments)

    def unbind_exchange(
        self, name: str, exchange: str, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Take a binding between exchanges back; it need not be there, nor need what it binds.

        Raises:
            Refusal: 403, one is the default one.
        """
        self.exchanges.refuse_default(name, exchange)
        if name in self.exchanges and exchange in self.exchanges:
            self.exchanges.unbind(self.exchanges[exchange], self.exchanges[name], routing_key, arguments)

    # ----------------------------------------------------------------------- routing

    def admit(self, exchange: str) -> None:
        """Look whether a client can publish to an exchange.

        Raises:
            Refusal: 404, there is no such exchange; 403, it is internal.
        """
        if exchange and self.exchanges[exchange].internal:
            raise Refusal(403, f"cannot publish to internal exchange '{exchange}' in vhost '{self.name}'")

    def route(self, message: Message) -> Sequence[Queue | ReplyTo]:
        """Return the queues that a message goes to, each once: none if its exchange is not there."""
        if message.exchange:
            return self.exchanges.route(message)
        queue = self.queues.get(message.routing_key)
        if queue is not None and not (message.copies or message.blind):
            return (queue,)
        found = (self.queues.get(key) or self.replies.find(key) for key in dict.fromkeys(message.keys))
        return [one for one in found if one is not None]
