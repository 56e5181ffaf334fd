"""Exchanges, queues and bindings without a channel in sight: what a client declares, binds and deletes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx import lint
from txamqpx.errors import AMQPError, InvalidParameter, twin
from txamqpx.ordering import Footprint, Operations
from txamqpx.server import ServerFacts
from txamqpx.spec.amqp0_9_1 import (
    ExchangeBind,
    ExchangeBindOk,
    ExchangeDeclare,
    ExchangeDeclareOk,
    ExchangeDelete,
    ExchangeDeleteOk,
    ExchangeUnbind,
    ExchangeUnbindOk,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
    QueueUnbind,
    QueueUnbindOk,
)
from txamqpx.spec.base import Method, Request
from txamqpx.topology import Binding, Exchange, Item, Queue, Topology

__all__ = ["Declarations", "named"]

R = TypeVar("R", bound=Method)

# How many different warnings are logged: names may be made up without end.
MOST_WARNINGS = 100


def named(queue: str) -> str:
    """Return the name of a queue that has to have one.

    Raises:
        InvalidParameter: It is empty: the protocol means the queue that was declared last on the channel by
            that, and a client does not tell on which channel.
    """
    if queue == "":
        raise InvalidParameter(
            "queue", "needs a name: without a channel there is none that was declared last"
        )
    return queue


class Declarations:
    """The calls of a ``Client`` that make, bind and delete.

    They take effect in the order of the calls where that matters, awaited or not, and an error concerns only
    its own call.  Each returns a Deferred that fails with the ``ChannelClosed`` that the broker's answer
    stands for (``NotFound``, ``PreconditionFailed``, ``AccessRefused``, ``ResourceLocked``), with
    ``RPCTimeout``, or with the ``ConnectionClosed`` that ended the connection.  Cancelled before it was sent,
    a call is not sent; afterwards its answer is ignored.  What does not fit raises ``EncodeError`` at once.
    """

    log = Logger()

    #: What orders the calls.
    operations: Operations
    #: Who the broker is.
    server: ServerFacts
    #: Whether features that RabbitMQ is about to give up may be used; None: with a warning.
    allow_deprecated: bool | None
    _warned: set[str]

    @overload
    def declare(self, thing: Queue) -> Deferred[QueueDeclareOk]: ...
    @overload
    def declare(self, thing: Exchange) -> Deferred[ExchangeDeclareOk]: ...
    @overload
    def declare(self, thing: Binding) -> Deferred[QueueBindOk | ExchangeBindOk]: ...
    @overload
    def declare(self, thing: Topology) -> Deferred[Mapping[Item, Any]]: ...

    def declare(self, thing: Item | Topology) -> Deferred[Any]:
        """Make what a value describes.

        Args:
            thing: An ``Exchange``, a ``Queue``, a ``Binding``, or a ``Topology`` of them.

        Returns:
            A Deferred of the broker's answer; of a topology, of all answers by their values.  Its queues that
            the broker names have their names there.  If some of it fails, the rest is made all the same,
            and then the Deferred fails with the first error; the others are noted on it.

        Raises:
            TopologyError: RabbitMQ would close the channel or the connection over it, or do nothing of the
                kind; or a binding is for a queue that the broker names, and the queue is not there with it.
                Nothing was sent.
            TypeError: It is none of these.
        """
        if isinstance(thing, Topology):
            return self._declare_all(thing)
        if not isinstance(thing, Item):
            raise TypeError(f"a topology or a part of one is declared, {type(thing).__name__} is none")
        return self._call(thing.method())

    def _declare_all(self, topology: Topology) -> Deferred[Mapping[Item, Any]]:
        # Before any of it is sent.
        warnings = topology.check(self.server.rabbitmq, self.allow_deprecated)
        handles = {queue.handle for queue in topology.queues if queue.server_named}
        for binding in topology.bindings:
            if binding.handle not in handles:
                binding.method()  # which raises if it is for a queue that is named, but not here
        self._warn(warnings)
        named_later: dict[str, Deferred[QueueDeclareOk]] = {}
        answers: list[Deferred[Any]] = []
        for item in topology:
            if isinstance(item, Binding) and item.handle in named_later:
                # It keeps its place among the calls, though the broker is still to name its queue.
                method = QueueBind("", item.source, item.routing_key, arguments=item.arguments)
                footprint = Footprint(reads=(("exchange", item.source),))
                queue: Deferred[Any] = named_later[item.handle]
                answers.append(self.operations.call(method, footprint, after=_naming(queue, method)))
            else:
                answers.append(self.operations.call(item.method()))
                if isinstance(item, Queue) and item.server_named:
                    named_later[item.handle] = answers[-1]
        ended = DeferredList(answers, consumeErrors=True)
        return ended.addCallback(_report, tuple(topology))

    def _call(self, method: Request[R]) -> Deferred[R]:
        self._warn(lint.check(method, self.server.rabbitmq, self.allow_deprecated))
        return self.operations.call(method)

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            if warning not in self._warned and len(self._warned) < MOST_WARNINGS:
                self._warned.add(warning)
                self.log.warn("{what}", what=warning)  # trial takes a "warning" for one of Python's

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[ExchangeDeclareOk]:
        """Make an exchange, or check that there is one like that.

        Args:
            exchange: Its name.
            type: ``direct``, ``fanout``, ``topic``, ``headers``, or what a plugin adds.
            durable: Whether it outlives the broker.
            auto_delete: Whether it goes with its last binding.
            internal: Whether only other exchanges may publish to it.
            passive: Only check that there is one of that name.
            arguments: Such as ``{"alternate-exchange": "unrouted"}``.
        """
        return self._call(
            ExchangeDeclare(
                exchange=exchange,
                type=type,
                passive=passive,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments,
            )
        )

    def exchange_delete(self, exchange: str, *, if_unused: bool = False) -> Deferred[ExchangeDeleteOk]:
        """Delete an exchange with its bindings; that there is none is no error.

        Args:
            exchange: Its name.
            if_unused: Fail with ``PreconditionFailed`` if something is bound to it.
        """
        return self._call(ExchangeDelete(exchange=exchange, if_unused=if_unused))

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[ExchangeBindOk]:
        """Let what ``source`` gets under ``routing_key`` go on to ``destination``."""
        return self._call(
            ExchangeBind(destination=destination, source=source, routing_key=routing_key, arguments=arguments)
        )

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[ExchangeUnbindOk]:
        """Take back an ``exchange_bind``."""
        return self._call(
            ExchangeUnbind(
                destination=destination, source=source, routing_key=routing_key, arguments=arguments
            )
        )

    def queue_declare(
        self,
        queue: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        passive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[QueueDeclareOk]:
        """Make a queue, or check that there is one like that.

        Args:
            queue: Its name; ``""``: the broker makes one up, and the answer's ``queue`` tells it.
            durable: Whether it outlives the broker.
            exclusive: Whether it is for this connection alone, and goes with it.
            auto_delete: Whether it goes with its last consumer.
            passive: Only check that there is one of that name.
            arguments: Such as ``{"x-queue-type": "quorum"}``.

        Returns:
            A Deferred of the answer: ``queue``, ``message_count``, ``consumer_count``.

        Raises:
            InvalidParameter: A passive declare without a name.
        """
        if passive:
            named(queue)
        return self._call(
            QueueDeclare(
                queue=queue,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments,
            )
        )

    def queue_delete(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False
    ) -> Deferred[QueueDeleteOk]:
        """Delete a queue with what is in it; that there is none is no error.

        Args:
            queue: Its name.
            if_unused: Fail with ``PreconditionFailed`` if it has consumers.
            if_empty: Fail with ``PreconditionFailed`` if it has messages.

        Returns:
            A Deferred of the answer, whose ``message_count`` tells how many messages went with it.
        """
        return self._call(QueueDelete(queue=named(queue), if_unused=if_unused, if_empty=if_empty))

    def queue_purge(self, queue: str) -> Deferred[QueuePurgeOk]:
        """Drop all messages that wait in a queue; ``message_count`` of the answer tells how many."""
        return self._call(QueuePurge(queue=named(queue)))

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[QueueBindOk]:
        """Let what ``exchange`` gets under ``routing_key`` come into ``queue``."""
        return self._call(
            QueueBind(queue=named(queue), exchange=exchange, routing_key=routing_key, arguments=arguments)
        )

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[QueueUnbindOk]:
        """Take back a ``queue_bind``."""
        return self._call(
            QueueUnbind(queue=named(queue), exchange=exchange, routing_key=routing_key, arguments=arguments)
        )


def _naming(declared: Deferred[QueueDeclareOk], method: QueueBind) -> Deferred[None]:
    """Return a Deferred that fires when the queue of ``method`` has got its name, which is put in."""
    named_now: Deferred[None] = Deferred()

    def learn(answer: QueueDeclareOk) -> QueueDeclareOk:
        method.queue = answer.queue
        named_now.callback(None)
        return answer

    def give_up(failure: Failure) -> Failure:
        error = failure.value
        named_now.errback(Failure(twin(error)) if isinstance(error, AMQPError) else failure)
        return failure

    declared.addCallbacks(learn, give_up)
    return named_now


def _report(answers: list[tuple[bool, Any]], items: tuple[Item, ...]) -> Deferred[Mapping[Item, Any]]:
    failures = [(item, answer) for item, (success, answer) in zip(items, answers, strict=True) if not success]
    if not failures:
        return succeed(dict(zip(items, (answer for _, answer in answers), strict=True)))
    (_, first), *others = failures
    for item, other in others:
        first.value.add_note(f"and {item}: {other.value}")
    return fail(first)
