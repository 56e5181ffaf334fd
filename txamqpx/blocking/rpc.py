"""Asking and answering from threads."""

from __future__ import annotations

from threading import Semaphore
from types import TracebackType
from typing import Self, Unpack

from twisted.internet.defer import Deferred

from txamqpx.blocking.calls import Beginning, Calls
from txamqpx.blocking.consumer import Working
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.operation import Operation
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.rpc import caller, server
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["BegunRequests", "Caller", "Server"]


class BegunRequests(Beginning[caller.Caller]):
    """The calls of a caller that return an ``Operation`` at once."""

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
    ) -> Operation[Delivery]:
        """Send a request; see the asynchronous ``Caller.call``."""

        def call() -> Deferred[Delivery]:
            reply = self._subject.call(
                queue,
                body,
                exchange=exchange,
                routing_key=routing_key,
                timeout=timeout,
                properties=properties,
                **fields,
            )
            return reply.addCallback(Delivery, self._calls)

        return self._begin("call", call)


class Caller:
    """Sends requests on a channel of its own; ``BlockingClient.caller`` makes it.

    Attributes:
        begin: The same calls, each of which returns an ``Operation`` at once.
    """

    def __init__(self, made: caller.Caller, calls: Calls, room: Semaphore) -> None:
        self.begin = BegunRequests(made, calls, room)
        self._caller = made
        self._calls = calls

    def __repr__(self) -> str:
        return repr(self._caller)

    def __enter__(self) -> Self:
        """Call for a block; the caller is closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def outstanding(self) -> int:
        """How many calls wait for their replies."""
        return self._caller.outstanding

    @property
    def late(self) -> int:
        """How many replies nobody waited for."""
        return self._caller.late

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
        """Send a request, and wait for its reply; see the asynchronous ``Caller.call``.

        Args:
            queue: The queue from which it is served.
            body: The request.
            exchange: In the place of a queue: where to publish to.
            routing_key: For the exchange.
            timeout: Seconds until the call fails, whatever it waits for.
            properties: What else goes with it.
            **fields: Properties by name, which stand above those in ``properties``.

        Raises:
            RemoteError: A server says that its function failed.
            CallTimeout: No reply came; ``sent`` says whether somebody may have the request.
            AMQPError: Nobody has the request, or the reply was lost.
        """
        begun = self.begin.call(
            queue,
            body,
            exchange=exchange,
            routing_key=routing_key,
            timeout=timeout,
            properties=properties,
            **fields,
        )
        return begun.finish(None)

    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until each call so far has ended.

        Args:
            timeout: Seconds; None: no limit, since each call has its own.

        Raises:
            WaitTimeout: Some have not ended in time; they go on.
        """
        self._calls.finish("flush", self._caller.flush, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Take no more calls, let those that were made end, and close the channel.

        Args:
            timeout: Seconds; what has no reply by then fails.
        """
        self._calls.finish("close", lambda: self._caller.close(timeout), None)


class Server(Working):
    """Answers requests with a function in threads of its own; ``BlockingClient.serve`` makes it."""

    _name = "the server"
    _working: server.Server

    def __enter__(self) -> Self:
        """Serve for a block; the server is closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def replied(self) -> int:
        """How many replies the broker has taken, those that tell of a failure among them."""
        return self._working.replied

    @property
    def failed(self) -> int:
        """How many requests the function has failed on."""
        return self._working.failed

    @property
    def undeliverable(self) -> int:
        """How many replies reached nobody."""
        return self._working.undeliverable

    @property
    def abandoned(self) -> int:
        """How many requests were not looked at, because nobody waited for the reply."""
        return self._working.abandoned

    def close(self, timeout: float = 30.0) -> None:
        """Take no more requests, and let those that were begun be answered.

        Args:
            timeout: Seconds after which requests whose function is at work are given back.

        Raises:
            WrongThread: This is the function; it may raise ``StopConsuming``.
        """
        self._finish("close", lambda: self._working.close(timeout))
