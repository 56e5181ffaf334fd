"""Exchanges, queues and bindings without a channel in sight: what a client declares, binds and deletes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from txamqpx.errors import InvalidParameter
from txamqpx.ordering import Operations
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

__all__ = ["Declarations", "named"]


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

    #: What orders the calls.
    operations: Operations

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
        return self.operations.call(
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
        return self.operations.call(ExchangeDelete(exchange=exchange, if_unused=if_unused))

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[ExchangeBindOk]:
        """Let what ``source`` gets under ``routing_key`` go on to ``destination``."""
        return self.operations.call(
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
        return self.operations.call(
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
        return self.operations.call(
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
        return self.operations.call(QueueDelete(queue=named(queue), if_unused=if_unused, if_empty=if_empty))

    def queue_purge(self, queue: str) -> Deferred[QueuePurgeOk]:
        """Drop all messages that wait in a queue; ``message_count`` of the answer tells how many."""
        return self.operations.call(QueuePurge(queue=named(queue)))

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[QueueBindOk]:
        """Let what ``exchange`` gets under ``routing_key`` come into ``queue``."""
        return self.operations.call(
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
        return self.operations.call(
            QueueUnbind(queue=named(queue), exchange=exchange, routing_key=routing_key, arguments=arguments)
        )
