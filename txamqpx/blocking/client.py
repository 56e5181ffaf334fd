"""The client for threads: each call waits for its result."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from threading import Semaphore
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from twisted.internet.defer import Deferred, ensureDeferred, execute

from txamqpx import client as asynchronous
from txamqpx.blocking.calls import Beginning, Calls, begun
from txamqpx.blocking.consumption import Consumption
from txamqpx.blocking.declaration import Declarations
from txamqpx.blocking.delivery import Delivery, for_threads
from txamqpx.blocking.operation import PATIENCE, USUAL, Operation, Timeout
from txamqpx.blocking.publisher import Publisher, outcome_of
from txamqpx.blocking.reactor_thread import AT_EXIT, ReactorThread
from txamqpx.blocking.transaction import Transaction
from txamqpx.blocking.workers import at_work
from txamqpx.client import Client, PublisherOptions, Target
from txamqpx.errors import AMQPError
from txamqpx.interfaces import IDelegate
from txamqpx.message import Confirmed
from txamqpx.params import ConnectionParameters
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.server import ServerFacts
from txamqpx.spec.amqp0_9_1 import (
    BasicProperties,
    ExchangeBindOk,
    ExchangeDeclareOk,
    QueueBindOk,
    QueueDeclareOk,
)
from txamqpx.topology import Binding, Exchange, Item, Queue, Topology

__all__ = ["BegunCalls", "BlockingClient", "connect"]

T = TypeVar("T")

#: How many operations may be begun and not have ended: beginning more waits.
MOST_BEGUN = 10_000


class BegunCalls(Beginning[Client]):
    """The calls of a client that return an ``Operation`` at once; their arguments are the client's."""

    @overload
    def declare(self, thing: Queue) -> Operation[QueueDeclareOk]: ...
    @overload
    def declare(self, thing: Exchange) -> Operation[ExchangeDeclareOk]: ...
    @overload
    def declare(self, thing: Binding) -> Operation[QueueBindOk | ExchangeBindOk]: ...
    @overload
    def declare(self, thing: Topology) -> Operation[Mapping[Item, Any]]: ...

    def declare(self, thing: Item | Topology) -> Operation[Any]:
        """Make what a value describes."""
        made: Callable[[Any], Deferred[Any]] = self._subject.declare
        return self._begin("declare", lambda: made(thing))

    exchange_declare = begun(Client.exchange_declare)
    exchange_delete = begun(Client.exchange_delete)
    exchange_bind = begun(Client.exchange_bind)
    exchange_unbind = begun(Client.exchange_unbind)
    queue_declare = begun(Client.queue_declare)
    queue_delete = begun(Client.queue_delete)
    queue_purge = begun(Client.queue_purge)
    queue_bind = begun(Client.queue_bind)
    queue_unbind = begun(Client.queue_unbind)
    publish = begun(Client.publish)
    flush = begun(Client.flush)
    when_closed = begun(Client.when_closed)

    def get(self, queue: str, *, no_ack: bool = False) -> Operation[Delivery | None]:
        """Take one message; see ``BlockingClient.get``."""
        return self._begin(
            "get", lambda: self._subject.get(queue, no_ack=no_ack).addCallback(for_threads, self._calls)
        )

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
        """Send a request; see ``BlockingClient.call``."""

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


class BlockingClient(Declarations, Consumption):
    """One connection to a broker, for any number of threads.

    ``txamqpx.blocking.connect`` makes one.  Each call waits for its result and raises what went wrong, as
    the asynchronous ``Client`` does.  Its ``timeout`` is in seconds, None for no limit; what takes longer
    raises ``WaitTimeout`` and is given up.

    Calls of one thread take effect in their order.

    Attributes:
        begin: The same calls, each of which returns an ``Operation`` at once.
        server: Who the broker is.
    """

    def __init__(self, client: Client, calls: Calls) -> None:
        self.server: ServerFacts = client.server
        self._room = room = Semaphore(MOST_BEGUN)
        self.begin = BegunCalls(client, calls, room)
        self._client = client
        self._calls = calls
        calls.thread.closers.add(self._close_at_exit)
        client.when_closed().addCallback(lambda _: calls.thread.closers.discard(self._close_at_exit))

    def __repr__(self) -> str:
        return f"<BlockingClient of {self._client.protocol!r}>"

    def __enter__(self) -> Self:
        """Use the client for a block; it is closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection is up, and nobody has asked to close it."""
        return self._client.is_open

    def run(
        self,
        function: Callable[[Client], Deferred[T] | Coroutine[Deferred[Any], Any, T]],
        *,
        timeout: Timeout = USUAL,
    ) -> T:
        """Call a function with the asynchronous client on the reactor's thread; wait for what it returns.

        For what this class has no call for, such as a raw channel.

        Args:
            function: A coroutine function, or one that returns a Deferred.  It must not block.
            timeout: Seconds.

        Raises:
            WaitTimeout: It took too long, and was cancelled.
            Exception: What it failed with.
        """

        def start() -> Deferred[T]:
            return ensureDeferred(function(self._client))

        return self._calls.finish("the function", start, timeout)

    # ----------------------------------------------------------------------- publishing

    def publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool = True,
        timeout: Timeout = USUAL,
        **fields: Unpack[PropertyFields],
    ) -> Confirmed | None:
        """Publish a message with exactly the properties that are given, and wait for its outcome.

        Arguments, results and errors are those of ``txamqpx.blocking.Publisher.publish``.
        """
        begun = self._calls.thread.begin(
            "publish",
            lambda: self._client.publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=mandatory,
                **fields,
            ),
        )
        return outcome_of(begun, self._calls.seconds(timeout))

    def publisher(self, *, timeout: Timeout = USUAL, **options: Unpack[PublisherOptions]) -> Publisher:
        """Return a publisher with a channel and limits of its own; its messages are persistent.

        Args:
            timeout: Seconds.
            **options: See the asynchronous ``Publisher``; ``confirm`` is as the client is.
        """
        made = self._calls.finish("publisher", lambda: execute(self._client.publisher, **options), timeout)
        return Publisher(made, self._calls, self._room)

    def flush(self, *, timeout: Timeout = USUAL) -> None:
        """Wait until each publish so far has its outcome, whatever it is.

        Args:
            timeout: Seconds.

        Raises:
            WaitTimeout: Some have none in time; they go on, and it may be called again.
        """
        self._calls.finish("flush", self._client.flush, timeout)

    def transaction(self) -> Transaction:
        """Return a transaction, to be used in a ``with`` block."""
        return Transaction(self._client.transaction(), self._calls)

    # ----------------------------------------------------------------------- taking messages

    def get(self, queue: str, *, no_ack: bool = False, timeout: Timeout = USUAL) -> Delivery | None:
        """Take one message out of a queue, or None if there is none.

        Args:
            queue: Its name.
            no_ack: The broker forgets the message as soon as it is sent.
            timeout: Seconds; a message that comes later is given back.

        Raises:
            WaitTimeout: The broker has not answered in time.
            NotFound: There is no such queue.
            ChannelClosed: What else the broker objects to, such as ``AccessRefused``.
        """

        def get() -> Deferred[Delivery | None]:
            return self._client.get(queue, no_ack=no_ack).addCallback(for_threads, self._calls)

        return self._calls.finish("get", get, timeout)

    # ----------------------------------------------------------------------- the end

    def when_closed(self, timeout: float | None = None) -> AMQPError:
        """Wait until the connection is over, whoever ended it; return the reason.

        Args:
            timeout: Seconds; None: no limit.

        Raises:
            WaitTimeout: It is not over yet.
        """
        return self._calls.finish("the connection", self._client.when_closed, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """End everything in order: consumers and their handlers, publishes, calls, the connection.

        At the end of the process it is done for each client that is open.  Closing twice is harmless.

        Args:
            timeout: Seconds for all that is to be waited for; what has not ended then is logged, and ends
                with the connection.  The connection itself has its ``close_timeout``.

        Raises:
            WrongThread: This is a handler of a consumer; it may raise ``StopConsuming``.
        """
        workers = at_work()
        if workers is not None and workers.calls is self._calls:
            workers.refuse_to_wait("close")
        self._calls.finish("close", lambda: self._client.close(timeout), None)

    def _close_at_exit(self) -> Deferred[None]:
        return self._client.close(AT_EXIT)


def connect(
    target: Target | Iterable[Target],
    *,
    timeout: float | None = 30.0,
    call_timeout: float | None = PATIENCE,
    delegate: IDelegate | None = None,
    parameters: ConnectionParameters | None = None,
    confirms: bool | None = None,
    allow_deprecated: bool | None = None,
) -> BlockingClient:
    """Connect to a broker; the first time in a process, start the reactor in a thread of its own.

    If the reactor runs already, as in a Twisted application, that one is used; but nothing may wait on its
    thread.

    Args:
        target: A URL, or what else ``txamqpx.connect`` takes.
        timeout: Seconds until the connection is open; None: only its own ``connection_timeout``.
        call_timeout: Seconds that each call waits which is not told otherwise; None: no limit.
        delegate: Who hears of what happens unasked, on the reactor's thread.
        parameters: How to behave, where the target is an endpoint, which says only where to go.
        confirms: Whether the broker shall tell what becomes of what is published; None: if it can.
        allow_deprecated: Whether features that RabbitMQ is about to give up may be used; None: with a
            warning in the log.

    Raises:
        WaitTimeout: It took too long.
        ConnectError: No connection came about; and whatever else ``txamqpx.connect`` fails with.
        WrongThread: This is the reactor's thread.
        ForkedProcess: The reactor belongs to the process that this one was forked from.
        ReactorStopped: The reactor has run before, and has ended.
    """
    thread = ReactorThread.current()
    calls = Calls(thread, call_timeout)

    def start() -> Deferred[BlockingClient]:
        connecting = asynchronous.connect(
            target,
            reactor=thread.reactor,
            delegate=delegate,
            parameters=parameters,
            confirms=confirms,
            allow_deprecated=allow_deprecated,
        )
        return connecting.addCallback(BlockingClient, calls)

    return thread.begin("connect", start).finish(timeout)
