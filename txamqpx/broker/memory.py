"""The transport of ``memory://``: two ends that carry bytes to each other, without a socket.

It behaves as Twisted's TCP does where a protocol can tell: bytes arrive in a later turn, a producer is asked
to wait above 64 KiB, ``loseConnection`` writes first what it has, ``abortConnection`` does not, and both
sides are told, in a later turn, that it is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Accept", "End", "Line", "MemoryAddress", "MemoryEndpoint"]

# Above this much a transport asks its producer to wait: Twisted's own figure.
HIGH_WATER = 64 * 1024

# What arrives at once: as much as the client's writer hands over at a time, and no more, because whoever
# gets a megabyte keeps the reactor from all others until it is dealt with.
MOST_AT_ONCE = 128 * 1024

_numbers = count(1)


@implementer(IAddress)
@frozen
class MemoryAddress:
    """One end of a line.

    Attributes:
        name: The broker's name.
        number: Which of the lines to it; 0: the broker itself.
    """

    name: str
    number: int = 0

    def __str__(self) -> str:
        return f"memory://{self.name}{f'#{self.number}' if self.number else ''}"


#: What a broker does when somebody comes from an address: it makes a protocol, or None, which is to refuse.
Accept = Callable[[MemoryAddress], IProtocol | None]


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end of a line: a protocol's transport.

    Attributes:
        line: What it is an end of.
        in_flight: How many bytes were written here and not carried yet.
        disconnecting: Whether this end is to be closed when all is carried.
        connected: Whether its protocol has not been told yet that it is over.
    """

    def __init__(self, line: Line, host: MemoryAddress, peer: MemoryAddress) -> None:
        self.protocol: IProtocol | None = None
        self.in_flight = 0
        self.disconnecting = False
        self.connected = True
        self.line = line
        self._host = host
        self._peer = peer
        self._pieces: deque[bytes | memoryview] = deque()
        self._reading = True
        self._producer: Any = None
        self._streaming = False
        self._producer_waits = False

    # --------------------------------------------------------------- what a protocol asks of its transport

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if type(data) is not bytes:
            raise TypeError(f"only bytes can be written, not {type(data).__name__}")
        if data and self.connected and not self.line.aborted_by:
            self._pieces.append(data)
            self._sent(len(data))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send each of ``data``; none of them is copied for it."""
        pieces = list(data)
        size = sum(map(len, pieces))
        if size and self.connected and not self.line.aborted_by:
            self._pieces += pieces
            self._sent(size)

    def _sent(self, size: int) -> None:
        self.in_flight += size
        self.line.wake()
        if (
            self.in_flight > HIGH_WATER
            and self._producer is not None
            and self._streaming
            and not self._producer_waits
        ):
            self._producer_waits = True
            self._producer.pauseProducing()

    def loseConnection(self) -> None:
        """Close as soon as all that was written is carried, and no producer wants to write more."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.line.wake()

    def abortConnection(self) -> None:
        """Close, and drop what is on the way, either way."""
        if self.connected:
            self.line.abort(self)

    def getHost(self) -> MemoryAddress:
        """Return where this end is."""
        return self._host

    def getPeer(self) -> MemoryAddress:
        """Return where the other one is."""
        return self._peer

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no delay."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: there is nobody between the ends who might forget them."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell ``producer`` from now on when to wait and when to go on."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} was registered and never unregistered")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_waits = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Tell nobody any more."""
        self._producer = None
        if self.disconnecting:
            self.line.wake()

    def pauseProducing(self) -> None:
        """Leave on the line what comes."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Let it come."""
        if self.connected and not self.disconnecting:
            self._reading = True
            self.line.wake()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # --------------------------------------------------------------- what the line does with it

    @property
    def held(self) -> bool:
        """Whether what comes has to wait for a protocol that does not read."""
        return not self._reading and not self.disconnecting

    @property
    def finished(self) -> bool:
        """Whether nothing keeps this end from being closed, as it was asked to be."""
        return self.disconnecting and not self.in_flight

    def take(self) -> bytes:
        """Take what is carried at once: a piece as it is, or several that are joined, or a part of one."""
        pieces = self._pieces
        first = pieces.popleft()
        size = len(first)
        if size > MOST_AT_ONCE:
            rest = memoryview(first)  # what is left of a large one is not copied again and again
            pieces.appendleft(rest[MOST_AT_ONCE:])
            first, size = rest[:MOST_AT_ONCE], MOST_AT_ONCE
        taken = [first]
        while pieces and size + len(pieces[0]) <= MOST_AT_ONCE:
            taken.append(pieces.popleft())
            size += len(taken[-1])
        self.in_flight -= size
        return first if size == len(first) and type(first) is bytes else b"".join(taken)

    def deliver(self, data: bytes) -> None:
        """Give the protocol what has come, unless it has said goodbye."""
        if self.connected and not self.disconnecting:
            assert self.protocol is not None
            self.protocol.dataReceived(data)

    def refill(self) -> None:
        """Tell a producer that waits, or that is only asked, that there is room."""
        if (
            self._producer is not None
            and (self._producer_waits or not self._streaming)
            and not self.in_flight
        ):
            self._producer_waits = False
            self._producer.resumeProducing()

    def drop(self) -> None:
        """Forget what is on the way."""
        self._pieces.clear()
        self.in_flight = 0

    def lose(self, reason: Exception) -> None:
        """Tell the protocol, once, that it is over."""
        if not self.connected:
            return
        self.connected = False
        self.drop()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(reason))


class Line:
    """Joins two protocols.

    In each turn of the clock in which there is something to do, first the broker gets what the client wrote,
    up to a limit, and then the client what the broker wrote, which may be the answer.

    Args:
        clock: Whose turns they are.
        name: The broker's name.

    Attributes:
        client: The transport of the one who came.
        broker: The transport of the broker.
        aborted_by: The end that was aborted, if one was.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, name: str) -> None:
        here, there = MemoryAddress(name, next(_numbers)), MemoryAddress(name)
        self.client = End(self, here, there)
        self.broker = End(self, there, here)
        self.aborted_by: End | None = None
        self._clock = clock
        self._turn: IDelayedCall | None = None

    @property
    def in_flight(self) -> int:
        """How many bytes are on the way, either way."""
        return self.client.in_flight + self.broker.in_flight

    @property
    def idle(self) -> bool:
        """Whether all is carried, but for what is held up by a protocol that does not read."""
        return self._turn is None

    def join(self, client: IProtocol, broker: IProtocol) -> None:
        """Let them talk; the broker hears first of it."""
        self.client.protocol, self.broker.protocol = client, broker
        broker.makeConnection(self.broker)
        client.makeConnection(self.client)

    def wake(self) -> None:
        """Have everything looked at in the next turn."""
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._carry)

    def abort(self, end: End) -> None:
        """Drop what is on the way, and tell both in the next turn."""
        if self.aborted_by is None:
            self.aborted_by = end
            self.client.drop()
            self.broker.drop()
            self.wake()

    def _carry(self) -> None:
        self._turn = None
        ends = ((self.client, self.broker), (self.broker, self.client))
        for end, other in ends:
            if end.in_flight and not other.held and not self.aborted_by:
                data = end.take()
                self._safely(other, other.deliver, data)
                self._safely(end, end.refill)
        for end, other in ends:
            if self.aborted_by is end or (end.finished and not self.aborted_by):
                aborted = self.aborted_by is end
                self._safely(end, end.lose, ConnectionAborted() if aborted else ConnectionDone())
                self._safely(other, other.lose, ConnectionLost() if aborted else ConnectionDone())
        if self._can_move():
            self.wake()
        elif not self.client.connected:
            self._rest()

    def _rest(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _can_move(self) -> bool:
        client, broker = self.client, self.broker
        return (client.in_flight > 0 and not broker.held) or (broker.in_flight > 0 and not client.held)

    def _safely(self, end: End, call: Callable[..., object], *arguments: Any) -> None:
        """Do as a reactor does with a protocol that raises: log it, and drop the connection."""
        try:
            call(*arguments)
        except Exception:
            self.log.failure("a protocol on {address} failed", address=end.getHost())
            end.abortConnection()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Leads to a broker in this process.

    Args:
        clock: Whose turns carry the bytes.
        name: The broker's name.
        accept: Called when somebody connects.
    """

    def __init__(self, clock: IReactorTime, name: str, accept: Accept) -> None:
        self._clock = clock
        self._name = name
        self._accept = accept

    def __repr__(self) -> str:
        return f"<MemoryEndpoint {MemoryAddress(self._name)}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of the factory, in the next turn.

        Returns:
            A Deferred of the protocol.  It fails with ``ConnectionRefusedError`` or ``NoProtocol``; to
            cancel it asks nobody for anything.
        """

        def cancelled(deferred: Deferred[IProtocol]) -> None:
            turn.cancel()
            deferred.errback(ConnectingCancelledError(MemoryAddress(self._name)))

        connecting: Deferred[IProtocol] = Deferred(cancelled)
        turn = self._clock.callLater(0, self._connect, protocolFactory, connecting)
        return connecting

    def _connect(self, factory: IProtocolFactory, connecting: Deferred[IProtocol]) -> None:
        line = Line(self._clock, self._name)
        try:
            broker = self._accept(line.client.getHost())
            if broker is None:
                raise ConnectionRefusedError(f"{self._name} refuses it")
            client = factory.buildProtocol(line.client.getPeer())
            if client is None:
                raise NoProtocol
            line.join(client, broker)
        except Exception:
            line.client.abortConnection()
            connecting.errback()
        else:
            connecting.callback(client)
