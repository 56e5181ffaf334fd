"""A connection without channels in sight: what most programs use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack, cast

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.consumption import Consumption
from txamqpx.declaration import Declarations, named
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AMQPError, ConnectionClosed, InvalidParameter, NoBrokerReached
from txamqpx.interfaces import IDelegate
from txamqpx.message import Confirmed, Delivery
from txamqpx.once import Once
from txamqpx.ordering import Footprint, Operations
from txamqpx.params import ConnectionParameters
from txamqpx.publisher import Publisher
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.queue_types import QueueTypes
from txamqpx.rpc.caller import Caller
from txamqpx.rpc.calls import Calls
from txamqpx.server import ServerFacts
from txamqpx.spec.amqp0_9_1 import BasicGet, BasicProperties
from txamqpx.transaction import Transaction

__all__ = ["Client", "connect"]

# Seconds that a broker has to confirm what it already has, although somebody's handler does not end.
LEAST = 1.0

Target = str | ConnectionParameters | IStreamClientEndpoint


class PublisherOptions(TypedDict, total=False):
    """How a publisher shall be; see ``Publisher``."""

    confirm: bool
    mandatory: bool
    persistent: bool
    message_ids: bool
    impersonate: bool
    max_outstanding: int
    max_waiting: int
    confirm_timeout: float
    gate_timeout: float
    max_message_size: int | None


class Adopted(Protocol):
    """What a client ends before its connection: a consumer, a server of calls."""

    def drain(self, timeout: float) -> Deferred[None]:
        """Take no more, and fire when what was taken is done."""


class Client(Declarations, Consumption, Calls):
    """One connection to a broker, and everything that is done on it.

    ``txamqpx.connect`` makes one.

    Attributes:
        protocol: The connection.
        server: Who the broker is.
        confirms: Whether the broker tells what becomes of what is published.
        operations: What orders the calls that name no channel.
        publishers: Those that are in use.
    """

    log = Logger()

    def __init__(
        self,
        protocol: AMQPProtocol,
        *,
        confirms: bool | None = None,
        allow_deprecated: bool | None = None,
    ) -> None:
        self.protocol = protocol
        self.server = ServerFacts.from_properties(protocol.server_properties)
        self.allow_deprecated = allow_deprecated
        self.confirms = "publisher_confirms" in self.server.capabilities if confirms is None else confirms
        self.operations = Operations(protocol, self._publishes_before, queue_types=QueueTypes(self.server))
        self.publishers: list[Publisher | Caller] = []
        self._publisher: Publisher | None = None
        self._adopted: list[Adopted] = []
        self._warned: set[str] = set()
        self._closing = False
        self._closed: Once[None] = Once()

    def __repr__(self) -> str:
        return f"<Client of {self.protocol!r}>"

    @property
    def is_open(self) -> bool:
        """Whether the connection is up, and nobody has asked to close it."""
        return self.protocol.is_open and not self._closing

    def when_closed(self) -> Deferred[AMQPError]:
        """Return a Deferred that fires with the reason once the connection is over, whoever ended it."""
        return self.protocol.when_closed()

    async def __aenter__(self) -> Self:
        """Use the client for a block; it is closed at its end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    def _publishes_before(self, footprint: Footprint) -> Deferred[None] | None:
        waits = [publisher.affected_by(footprint) for publisher in self.publishers]
        pending = [wait for wait in waits if wait is not None]
        if not pending:
            return None
        return DeferredList(pending, consumeErrors=True).addCallback(_to_none)

    # ----------------------------------------------------------------------- publishing

    def publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool = True,
        timeout: float | None = None,
        **fields: Unpack[PropertyFields],
    ) -> Deferred[Confirmed | None]:
        """Publish a message, with exactly the properties that are given: ``Publisher.publish``.

        It comes after everything that was called before, and reaches the broker or says why not.
        """
        if self._publisher is None:
            self._publisher = self.publisher(persistent=False)
        return self._publisher.publish(
            body,
            exchange=exchange,
            routing_key=routing_key,
            properties=properties,
            mandatory=mandatory,
            timeout=timeout,
            **fields,
        )

    def publisher(self, **options: Unpack[PublisherOptions]) -> Publisher:
        """Return a publisher with a channel and limits of its own; its messages are persistent.

        Args:
            **options: See ``Publisher``; ``confirm`` is as the client is.
        """
        options.setdefault("confirm", self.confirms)
        publisher = Publisher(self, **options)
        self.publishers.append(publisher)
        publisher.when_closed().addCallback(lambda _: self.publishers.remove(publisher))
        return publisher

    def flush(self) -> Deferred[None]:
        """Return a Deferred that fires once each publish so far has its outcome; it never fails."""
        flushed: Deferred[None] = Deferred()  # not the list's own, which fires also when it is cancelled
        flushes = DeferredList([publisher.flush() for publisher in self.publishers])
        flushes.addCallback(lambda _: flushed.callback(None))
        return flushed

    def transaction(self) -> Transaction:
        """Return a transaction, to be used in an ``async with`` block."""
        return Transaction(self)

    # ----------------------------------------------------------------------- taking messages

    def get(self, queue: str, *, no_ack: bool = False) -> Deferred[Delivery | None]:
        """Take one message out of a queue.

        Gets from one queue are answered in their order.  There is no end to how many messages may be
        unsettled.

        Args:
            queue: Its name.
            no_ack: The broker forgets the message as soon as it is sent.

        Returns:
            A Deferred of the message, which is to be settled, or None if the queue is empty.  If it is
            cancelled after the call was sent, the message is given back.  It fails with ``TopologyError`` if
            this client has declared the queue as a stream, which gives no single messages.

        Raises:
            InvalidParameter: The name is empty.
        """
        # A queue's gets have a channel of their own: should the queue be missing, the broker closes it.
        answer: Deferred[Any] = self.operations.call(
            BasicGet(named(queue), no_ack), place=("get", queue), undo=_give_back
        )
        return answer.addCallback(_none_if_empty)

    # ----------------------------------------------------------------------- channels

    def channel(self) -> Deferred[Channel]:
        """Open a channel, for what needs one.

        The calls on it are not ordered with those of the client, and closing it is the caller's.
        """
        return self.protocol.open_channel()

    def adopt(self, thing: Adopted) -> None:
        """Have ``thing`` drained when the client is closed.

        Raises:
            ConnectionClosed: The client is being closed.
        """
        if self._closing:
            raise ConnectionClosed("the client is being closed", by_peer=False)
        self._adopted.append(thing)

    def release(self, thing: Adopted) -> None:
        """Take note that ``thing`` has ended."""
        if thing in self._adopted:
            self._adopted.remove(thing)

    def close(self, timeout: float = 30.0) -> Deferred[None]:
        """End everything in order: consumers and their handlers, publishes, calls, the connection.

        Handlers may publish to the last.  Closing twice is harmless.

        Args:
            timeout: Seconds for all that is to be waited for; what has not ended then is logged, and ends
                with the connection.  If handlers take all of it, publishes and calls get a second more,
                and the connection has its ``close_timeout``.

        Returns:
            A Deferred that fires when the connection is gone; it never fails.

        Raises:
            InvalidParameter: ``timeout`` is no number of seconds; nothing is closed.
        """
        if not 0 <= timeout < inf:
            raise InvalidParameter("timeout", "must be a number of seconds from 0 on")
        if not self._closing:
            self._closing = True
            Deferred.fromCoroutine(self._close(timeout)).addBoth(self._closed.fire)
        return self._closed.wait()

    async def _close(self, timeout: float) -> None:
        clock = self.protocol.clock
        end = clock.seconds() + timeout

        async def wait_for(what: str, ends: Iterable[Callable[[float], Deferred[None]]]) -> None:
            left = max(min(timeout, LEAST), end - clock.seconds())
            ended = DeferredList([maybeDeferred(finish, left) for finish in ends], consumeErrors=True)
            in_time: Deferred[Any] = Deferred()
            ended.addCallback(in_time.callback)
            try:
                for success, failure in await in_time.addTimeout(left, clock):
                    if not success:
                        self.log.failure("while closing: {what}", failure, what=what)
            except LateError:
                self.log.warn(
                    "while closing: {what} had no end after {seconds} s", what=what, seconds=timeout
                )

        await wait_for("consumers", [thing.drain for thing in self._adopted])
        await wait_for("publishers", [publisher.close for publisher in self.publishers])
        await wait_for("calls", [lambda left: self.operations.when_idle()])
        await self.protocol.close()


def _to_none(_: object) -> None:
    return None


def _none_if_empty(answer: Any) -> Delivery | None:
    return answer if isinstance(answer, Delivery) else None


def _give_back(answer: Any) -> None:
    if isinstance(answer, Delivery) and not answer.settled:
        answer.nack()


# --------------------------------------------------------------------------- connecting


def connect(
    target: Target | Iterable[Target],
    *,
    reactor: Any = None,
    delegate: IDelegate | None = None,
    parameters: ConnectionParameters | None = None,
    confirms: bool | None = None,
    allow_deprecated: bool | None = None,
) -> Deferred[Client]:
    """Connect to a broker.

    Args:
        target: A URL, ``ConnectionParameters``, an endpoint or Twisted's description of one; or several of
            them, which are tried in order until one answers.
        reactor: None: the global one, which is imported, and so installed, now.
        delegate: Who hears of what happens unasked.
        parameters: How to behave, where the target is an endpoint, which says only where to go.
        confirms: Whether the broker shall tell what becomes of what is published; None: if it can.
        allow_deprecated: Whether features that RabbitMQ is about to give up may be used; None: with a
            warning in the log.

    Returns:
        A Deferred of a ``Client``.  It fails as ``connect_protocol`` does; of several targets with
        ``NoBrokerReached``, which holds the error of each.  Cancelled, it tries no more.

    Raises:
        URLError: A single target cannot be understood; nothing was tried.
        InvalidParameter: There is no target.
        TypeError: It is nothing that could be one.
    """
    if isinstance(target, str | ConnectionParameters) or IStreamClientEndpoint.providedBy(target):
        targets: Sequence[Target] = (target,)
    else:
        if not isinstance(target, Iterable):
            raise TypeError(f"nothing leads from a {type(target).__name__} to a broker: give a URL")
        targets = tuple(target)

    def attempt(one: Target) -> Deferred[AMQPProtocol]:
        return connect_protocol(one, delegate=delegate, reactor=reactor, parameters=parameters)

    if not targets:
        raise InvalidParameter("target", "there is none")
    connecting = (
        attempt(targets[0]) if len(targets) == 1 else Deferred.fromCoroutine(_first(attempt, targets))
    )
    return connecting.addCallback(
        lambda protocol: Client(protocol, confirms=confirms, allow_deprecated=allow_deprecated)
    )


async def _first(attempt: Any, targets: Sequence[Target]) -> AMQPProtocol:
    errors: list[AMQPError] = []
    for target in targets:
        try:
            return cast(AMQPProtocol, await attempt(target))
        except InvalidParameter:
            raise
        except AMQPError as error:
            errors.append(error)
    raise NoBrokerReached(errors)
