"""Consuming, asking and answering from threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Semaphore
from typing import Any, TypeVar, Unpack

from twisted.internet.defer import Deferred, execute

from txamqpx.blocking.calls import Calls
from txamqpx.blocking.consumer import Consumer, Deliveries, Pipeline, Working
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.operation import USUAL, Timeout
from txamqpx.blocking.rpc import Caller, Server
from txamqpx.blocking.workers import Workers
from txamqpx.client import Client
from txamqpx.consuming.terms import ConsumeOptions, Terms
from txamqpx.errors import RemoteError
from txamqpx.message import Delivery as Received
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.rpc.calls import CallerOptions
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Consumption"]

W = TypeVar("W", bound=Working)


class Consumption:
    """The calls of a ``BlockingClient`` that call functions in threads, or wait for messages in loops."""

    _client: Client
    _calls: Calls
    _room: Semaphore

    def consume(
        self,
        queue: str,
        handler: Callable[[Any], object],
        *,
        timeout: Timeout = USUAL,
        **options: Unpack[ConsumeOptions],
    ) -> Consumer:
        """Call ``handler`` with each message of a queue, in threads; when it is done the message is acked.

        Args:
            queue: The queue; ``""`` is a queue of its own, named by the broker.
            handler: A function that is called with a ``Delivery``.  It may make calls that wait.  What it
                raises settles the message otherwise, as in ``Client.consume``.
            timeout: Seconds until the broker has agreed.
            **options: As for ``Client.consume``: ``prefetch``, ``ack``, ``on_error`` and others;
                ``concurrency`` is how many threads there are.  Functions among the options, such as
                ``order_by``, are called on the reactor's thread.

        Returns:
            The consumer; ``wait`` waits for its end, of which nothing else tells.

        Raises:
            TypeError: Threads cannot call the handler, such as a coroutine function.
            InvalidParameter: An option cannot be used; nothing was sent.
            ChannelClosed: The broker objects: ``NotFound``, ``AccessRefused`` and others.
            WaitTimeout: The broker has not agreed in time; the consumer is given up.
        """

        def start(workers: Workers) -> Deferred[Consumer]:
            consumer = self._client.consume(queue, workers, **options)
            return consumer.addCallback(Consumer, workers, self._calls)

        return self._work(handler, options, timeout, start)

    def consume_many(
        self,
        queues: Sequence[str],
        handler: Callable[[Any], object],
        *,
        timeout: Timeout = USUAL,
        **options: Unpack[ConsumeOptions],
    ) -> Consumer:
        """Consume several queues, whose messages share the threads; else it is as ``consume``."""

        def start(workers: Workers) -> Deferred[Consumer]:
            consumer = self._client.consume_many(queues, workers, **options)
            return consumer.addCallback(Consumer, workers, self._calls)

        return self._work(handler, options, timeout, start)

    def deliveries(
        self, queue: str, *, timeout: float | None = None, **options: Unpack[ConsumeOptions]
    ) -> Deliveries:
        """Consume a queue in a loop: ``for delivery in client.deliveries("jobs")``.

        It starts at once.  Each delivery is to be settled by whoever takes it.

        Args:
            queue: The queue.
            timeout: Seconds that the loop waits for each message before it raises ``WaitTimeout``; None: no
                limit.
            **options: As for ``consume``, but for what concerns a handler.
        """
        begun = self._calls.finish("deliveries", lambda: execute(self._client.deliveries, queue, **options))
        return Deliveries(begun, timeout, self._calls)

    def pipe(
        self,
        source: str,
        transform: Callable[[Delivery], object] | None,
        destination: str | tuple[str, str],
        *,
        timeout: Timeout = USUAL,
        **options: Unpack[ConsumeOptions],
    ) -> Pipeline:
        """Move messages from a queue to another, or to an exchange, and lose none whatever happens.

        Args:
            source: A queue.
            transform: Called in a thread with each ``Delivery``; gives what is to be published: bytes, a
                ``Message``, a list of them, or None for nothing.  None: messages pass as they are.
            destination: A queue, or an exchange and a routing key.
            timeout: Seconds until the broker has agreed.
            **options: As for ``consume``, but for ``ack`` and ``batch``.
        """

        def start(workers: Workers | None) -> Deferred[Pipeline]:
            pipeline = self._client.pipe(source, workers, destination, **options)
            return pipeline.addCallback(Pipeline, workers, self._calls)

        if transform is None:
            return self._calls.finish("pipe", lambda: start(None), timeout)
        return self._work(transform, options, timeout, start)

    # ----------------------------------------------------------------------- requests and replies

    def call(
        self,
        queue: str = "",
        body: bytes = b"",
        *,
        exchange: str = "",
        routing_key: str = "",
        timeout: float = 30.0,
        properties: BasicProperties | None = None,
        **fields: Unpack[PropertyFields],
    ) -> Delivery:
        """Send a request, and wait for its reply.

        Arguments, results and errors are those of ``txamqpx.blocking.rpc.Caller.call``.
        """

        def call() -> Deferred[Delivery]:
            reply = self._client.call(
                queue,
                body,
                exchange=exchange,
                routing_key=routing_key,
                timeout=timeout,
                properties=properties,
                **fields,
            )
            return reply.addCallback(Delivery, self._calls)

        return self._calls.finish("call", call, None)

    def caller(self, *, timeout: Timeout = USUAL, **options: Unpack[CallerOptions]) -> Caller:
        """Return a caller with a channel and limits of its own.

        Args:
            timeout: Seconds.
            **options: See the asynchronous ``Caller``.
        """
        made = self._calls.finish("caller", lambda: execute(self._client.caller, **options), timeout)
        return Caller(made, self._calls, self._room)

    def serve(
        self,
        queue: str,
        function: Callable[[Any], object],
        *,
        describe: Callable[[Exception, Received], RemoteError] | None = None,
        check_caller: bool = False,
        timeout: Timeout = USUAL,
        **options: Unpack[ConsumeOptions],
    ) -> Server:
        """Call ``function`` with each request in a queue, in threads; send what it returns to who has asked.

        Args:
            queue: The queue.
            function: Gives bytes, a text or None for a ``Delivery``.  It may make calls that wait.
            describe: What a caller gets to know of an exception; called on the reactor's thread.
            check_caller: Whether to leave requests alone for which nobody waits any more.
            timeout: Seconds until the broker has agreed.
            **options: As for ``consume``.
        """

        def start(workers: Workers) -> Deferred[Server]:
            server = self._client.serve(
                queue, workers, describe=describe, check_caller=check_caller, **options
            )
            return server.addCallback(Server, workers, self._calls)

        return self._work(function, options, timeout, start)

    def _work(
        self,
        function: Callable[[Any], object],
        options: ConsumeOptions,
        timeout: Timeout,
        start: Callable[[Workers], Deferred[W]],
    ) -> W:
        self._calls.thread.check()
        options.pop("thread", None)  # all of them are
        workers = Workers(function, Terms(**options).concurrency, self._calls)

        def started(working: W) -> W:
            working.when_over(workers.end)
            return working

        try:
            return self._calls.finish("consume", lambda: start(workers).addCallback(started), timeout)
        except BaseException:
            workers.end()
            raise
