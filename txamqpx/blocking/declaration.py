"""Exchanges, queues and bindings for threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

from twisted.internet.defer import Deferred

from txamqpx.blocking.calls import Calls
from txamqpx.blocking.operation import USUAL, Timeout
from txamqpx.client import Client
from txamqpx.spec.amqp0_9_1 import (
    ExchangeBindOk,
    ExchangeDeclareOk,
    ExchangeDeleteOk,
    ExchangeUnbindOk,
    QueueBindOk,
    QueueDeclareOk,
    QueueDeleteOk,
    QueuePurgeOk,
    QueueUnbindOk,
)
from txamqpx.topology import Binding, Exchange, Item, Queue, Topology

__all__ = ["Declarations"]


class Declarations:
    """The calls of a ``BlockingClient`` that make, bind and delete: each is the ``Client``'s, and waits.

    Each raises ``WaitTimeout`` if the broker has not answered within its ``timeout``: what was sent by then
    may still take effect, and may be asked for again.
    """

    _client: Client
    _calls: Calls

    @overload
    def declare(self, thing: Queue, *, timeout: Timeout = USUAL) -> QueueDeclareOk: ...
    @overload
    def declare(self, thing: Exchange, *, timeout: Timeout = USUAL) -> ExchangeDeclareOk: ...
    @overload
    def declare(self, thing: Binding, *, timeout: Timeout = USUAL) -> QueueBindOk | ExchangeBindOk: ...
    @overload
    def declare(self, thing: Topology, *, timeout: Timeout = USUAL) -> Mapping[Item, Any]: ...

    def declare(self, thing: Item | Topology, *, timeout: Timeout = USUAL) -> Any:
        """Make what a value describes.

        Arguments, results and errors are those of ``Client.declare``; ``timeout`` is in seconds.
        """
        made: Callable[[Any], Deferred[Any]] = self._client.declare
        return self._calls.finish("declare", lambda: made(thing), timeout)

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
        timeout: Timeout = USUAL,
    ) -> ExchangeDeclareOk:
        """Make an exchange, or check that there is one like that.

        Arguments, results and errors are those of ``Client.exchange_declare``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "exchange_declare",
            lambda: self._client.exchange_declare(
                exchange,
                type,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                passive=passive,
                arguments=arguments,
            ),
            timeout,
        )

    def exchange_delete(
        self, exchange: str, *, if_unused: bool = False, timeout: Timeout = USUAL
    ) -> ExchangeDeleteOk:
        """Delete an exchange with its bindings; that there is none is no error.

        Arguments, results and errors are those of ``Client.exchange_delete``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "exchange_delete", lambda: self._client.exchange_delete(exchange, if_unused=if_unused), timeout
        )

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        timeout: Timeout = USUAL,
    ) -> ExchangeBindOk:
        """Let what ``source`` gets under ``routing_key`` go on to ``destination``.

        Arguments, results and errors are those of ``Client.exchange_bind``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "exchange_bind",
            lambda: self._client.exchange_bind(destination, source, routing_key, arguments=arguments),
            timeout,
        )

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        timeout: Timeout = USUAL,
    ) -> ExchangeUnbindOk:
        """Take back an ``exchange_bind``.

        Arguments, results and errors are those of ``Client.exchange_unbind``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "exchange_unbind",
            lambda: self._client.exchange_unbind(destination, source, routing_key, arguments=arguments),
            timeout,
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
        timeout: Timeout = USUAL,
    ) -> QueueDeclareOk:
        """Make a queue, or check that there is one like that.

        Arguments, results and errors are those of ``Client.queue_declare``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "queue_declare",
            lambda: self._client.queue_declare(
                queue,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                passive=passive,
                arguments=arguments,
            ),
            timeout,
        )

    def queue_delete(
        self, queue: str, *, if_unused: bool = False, if_empty: bool = False, timeout: Timeout = USUAL
    ) -> QueueDeleteOk:
        """Delete a queue with what is in it; that there is none is no error.

        Arguments, results and errors are those of ``Client.queue_delete``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "queue_delete",
            lambda: self._client.queue_delete(queue, if_unused=if_unused, if_empty=if_empty),
            timeout,
        )

    def queue_purge(self, queue: str, *, timeout: Timeout = USUAL) -> QueuePurgeOk:
        """Drop all messages that wait in a queue; ``message_count`` of the answer tells how many.

        Arguments, results and errors are those of ``Client.queue_purge``; ``timeout`` is in seconds.
        """
        return self._calls.finish("queue_purge", lambda: self._client.queue_purge(queue), timeout)

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        timeout: Timeout = USUAL,
    ) -> QueueBindOk:
        """Let what ``exchange`` gets under ``routing_key`` come into ``queue``.

        Arguments, results and errors are those of ``Client.queue_bind``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "queue_bind",
            lambda: self._client.queue_bind(queue, exchange, routing_key, arguments=arguments),
            timeout,
        )

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: Mapping[str, Any] | None = None,
        timeout: Timeout = USUAL,
    ) -> QueueUnbindOk:
        """Take back a ``queue_bind``.

        Arguments, results and errors are those of ``Client.queue_unbind``; ``timeout`` is in seconds.
        """
        return self._calls.finish(
            "queue_unbind",
            lambda: self._client.queue_unbind(queue, exchange, routing_key, arguments=arguments),
            timeout,
        )
