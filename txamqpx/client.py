"""A connection without channels in sight: what most programs use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IStreamClientEndpoint

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.declaration import Declarations, named
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AMQPError, ConnectionClosed, InvalidParameter, NoBrokerReached
from txamqpx.interfaces import IDelegate
from txamqpx.message import Delivery
from txamqpx.once import Once
from txamqpx.ordering import Footprint, Operations
from txamqpx.params import ConnectionParameters
from txamqpx.server import ServerFacts
from txamqpx.spec.amqp0_9_1 import BasicGet

__all__ = ["Client", "connect"]

Target = str | ConnectionParameters | IStreamClientEndpoint


class Publishing(Protocol):
    """What a client needs of its publishers."""

    def affected_by(self, footprint: Footprint) -> Deferred[None] | None:
        """Return what an operation has to wait for, or None."""

    def flush(self) -> Deferred[None]:
        """Fire when each publish so far has its outcome."""

    def close(self, timeout: float) -> Deferred[None]:
        """Take no more, wait for the outcomes, and end."""


class Adopted(Protocol):
    """What a client ends before its connection: a consumer, a server of calls."""

    def drain(self, timeout: float) -> Deferred[None]:
        """Take no more, and fire when what was taken is done."""


class Client(Declarations):
    """One connection to a broker, and everything that is done on it.

    ``txamqpx.connect`` makes one.

    Attributes:
        protocol: The connection.
        server: Who the broker is.
        confirms: Whether the broker tells what becomes of what is published.
        operations: What orders the calls that name no channel.
        publishers: Those that are in use.
    """

    def __init__(self, protocol: AMQPProtocol, *, confirms: bool | None = None) -> None:
        self.protocol = protocol
        self.server = ServerFacts.from_properties(protocol.server_properties)
        self.confirms = "publisher_confirms" in self.server.capabilities if confirms is None else confirms
        self.operations = Operations(protocol, self._publishes_before)
        self.publishers: list[Publishing] = []
        self._adopted: list[Adopted] = []
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
            cancelled after the call was sent, the message is given back.

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
        """Close the connection, once what was begun is done."""
        if not self._closing:
            self._closing = True
            Deferred.fromCoroutine(self._close(timeout)).addBoth(lambda _: self._closed.fire(None))
        return self._closed.wait()

    async def _close(self, timeout: float) -> None:
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
) -> Deferred[Client]:
    """Connect to a broker.

    Args:
        target: A URL, ``ConnectionParameters``, an endpoint or Twisted's description of one; or several of
            them, which are tried in order until one answers.
        reactor: None: the global one, which is imported, and so installed, now.
        delegate: Who hears of what happens unasked.
        parameters: How to behave, where the target is an endpoint, which says only where to go.
        confirms: Whether the broker shall tell what becomes of what is published; None: if it can.

    Returns:
        A Deferred of a ``Client``.  It fails as ``connect_protocol`` does; of several targets with
        ``NoBrokerReached``, which holds the error of each.  Cancelled, it tries no more.

    Raises:
        URLError: A single target cannot be understood; nothing was tried.
        InvalidParameter: There is no target.
    """
    if isinstance(target, str | ConnectionParameters) or IStreamClientEndpoint.providedBy(target):
        targets: Sequence[Target] = (target,)
    else:
        targets = tuple(target)

    def attempt(one: Target) -> Deferred[AMQPProtocol]:
        return connect_protocol(one, delegate=delegate, reactor=reactor, parameters=parameters)

    if not targets:
        raise InvalidParameter("target", "there is none")
    connecting = (
        attempt(targets[0]) if len(targets) == 1 else Deferred.fromCoroutine(_first(attempt, targets))
    )
    return connecting.addCallback(lambda protocol: Client(protocol, confirms=confirms))


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
