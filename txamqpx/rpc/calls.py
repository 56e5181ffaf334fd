"""What a client asks and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypedDict, Unpack

from twisted.internet.defer import Deferred

from txamqpx.consuming.terms import ConsumeOptions
from txamqpx.errors import RemoteError
from txamqpx.message import Delivery
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.rpc.caller import Caller, CallerHost
from txamqpx.rpc.server import Server, ServerHost
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["CallerOptions", "Calls"]


class CallerOptions(TypedDict, total=False):
    """How a caller shall be; see ``Caller``."""

    reply_queue: bool
    max_outstanding: int
    max_message_size: int


class _Host(CallerHost, ServerHost, Protocol):
    publishers: list[Any]
    _caller: Caller | None

    def caller(self, **options: Unpack[CallerOptions]) -> Caller:
        """Return a caller with a channel and limits of its own."""


class Calls:
    """The calls of a ``Client`` that are about requests and replies."""

    _caller: Caller | None = None

    def call(
        self: _Host,
        queue: str = "",
        body: bytes = b"",
        *,
        exchange: str = "",
        routing_key: str = "",
        timeout: float = 30.0,
        properties: BasicProperties | None = None,
        **fields: Unpack[PropertyFields],
    ) -> Deferred[Delivery]:
        """Send a request and wait for its reply: ``Caller.call``.

        It comes after everything that was called before.
        """
        if self._caller is None:
            self._caller = self.caller()
        return self._caller.call(
            queue,
            body,
            exchange=exchange,
            routing_key=routing_key,
            timeout=timeout,
            properties=properties,
            **fields,
        )

    def caller(self: _Host, **options: Unpack[CallerOptions]) -> Caller:
        """Return a caller with a channel and limits of its own.

        Args:
            **options: See ``Caller``.
        """
        caller = Caller(self, **options)
        self.publishers.append(caller)
        caller.when_closed().addCallback(lambda _: self.publishers.remove(caller))
        return caller

    def serve(
        self: _Host,
        queue: str,
        function: Callable[[Any], object],
        *,
        describe: Callable[[Exception, Delivery], RemoteError] | None = None,
        check_caller: bool = False,
        **options: Unpack[ConsumeOptions],
    ) -> Deferred[Server]:
        """Call ``function`` with each request in a queue, and send what it returns to who has asked.

        Args:
            queue: The queue.
            function: Gives bytes, a text or None for a ``Delivery``; may be a coroutine function, or return
                a Deferred.
            describe: What a caller gets to know of an exception; see ``Server``.
            check_caller: Whether to leave requests alone for which nobody waits any more.
            **options: As for ``consume``: ``prefetch``, ``concurrency``, ``thread`` and others.

        Returns:
            A Deferred of the ``Server``, which fires when the broker has agreed.  It fails as ``consume``
            does.  Cancelling it ends the server.

        Raises:
            TypeError: An option, or the function, is of the wrong kind; nothing was sent.
            ValueError: An option does not fit; nothing was sent.
        """
        return Server(self, queue, function, describe=describe, check_caller=check_caller, **options).start()
