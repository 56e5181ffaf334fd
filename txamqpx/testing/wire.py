"""A wire in memory between two protocols, which carries bytes when it is pumped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["End", "Wire"]

#: Above this much a transport asks its producer to wait, as Twisted's TCP transport does.
HIGH_WATER = 64 * 1024


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end of a wire: a transport that keeps what is written until the wire is pumped.

    Args:
        protocol: Who is at this end.

    Attributes:
        protocol: Who is at this end.
        other: The other end.
        unsent: What was written and not carried yet.
        reading: Whether the protocol wants to be told what comes.
        lost: Why it is over, once the protocol was told.
        aborted: Whether this end was dropped without regard to what was unsent.
        options: What was set on the socket.
    """

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.other: End = self
        self.unsent = bytearray()
        self.reading = True
        self.disconnecting = False
        self.aborted = False
        self.lost: Failure | None = None
        self.options: dict[str, bool] = {}
        self.producer: Any = None
        self._producer_waits = False

    # What a protocol asks of its transport.

    def write(self, data: bytes) -> None:
        """Keep ``data`` to be sent; nothing is kept once the end was closed."""
        assert isinstance(data, bytes)
        if self.disconnecting or self.lost:
            return
        self.unsent += data
        if len(self.unsent) > HIGH_WATER and self.producer is not None and not self._producer_waits:
            self._producer_waits = True
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        """Keep all of it."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close as soon as what was written has been carried."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Close at once; what was written is lost, on both sides."""
        self.aborted = self.disconnecting = True
        self.unsent.clear()

    def getPeer(self) -> IPv4Address:
        """Return where the other end is."""
        return IPv4Address("TCP", "127.0.0.1", 5672)

    def getHost(self) -> IPv4Address:
        """Return where this end is."""
        return IPv4Address("TCP", "127.0.0.1", 50000)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Note it."""
        self.options["no delay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Note it."""
        self.options["keep alive"] = enabled

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell ``producer`` from now on when to wait."""
        assert self.producer is None
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Tell nobody any more."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Leave on the wire what comes."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        assert not self.lost
        self.reading = True

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # What the wire does.

    def carry(self, most: int | None = None) -> bool:
        """Bring what was written to the other end.

        Args:
            most: How many bytes at most; None: all.

        Returns:
            Whether anything moved.
        """
        if self.lost or self.other.lost or not self.other.reading or not self.unsent:
            return False
        piece = bytes(self.unsent[:most])
        del self.unsent[:most]
        if not self.unsent and self._producer_waits and self.producer is not None:
            self._producer_waits = False
            self.producer.resumeProducing()
        self.other.protocol.dataReceived(piece)
        return True

    def hang_up(self) -> bool:
        """Tell both protocols if this end was closed and nothing is left to carry.

        Returns:
            Whether that was so.
        """
        if self.lost or not self.disconnecting or self.unsent:
            return False
        self.lose(ConnectionAborted() if self.aborted else ConnectionDone())
        self.other.lose(ConnectionLost() if self.aborted else ConnectionDone())
        return True

    def lose(self, reason: Exception) -> None:
        """Tell the protocol, once, that it is over."""
        if self.lost is None:
            self.lost = Failure(reason)
            if self.producer is not None:
                self.producer.stopProducing()
                self.producer = None
            self.protocol.connectionLost(self.lost)


class Wire:
    """Joins two protocols, and connects them at once.

    Args:
        client: One of them; it is told first.
        server: The other.
        clock: Its zero-second calls run with every pump: the end of a reactor's turn.

    Attributes:
        client: The client's end.
        server: The server's end.
        clock: As above.
        chunk: How many bytes the client gets at a time; None: whatever is there.
    """

    def __init__(self, client: Any, server: Any, clock: Clock) -> None:
        self.client = End(client)
        self.server = End(server)
        self.client.other, self.server.other = self.server, self.client
        self.clock = clock
        self.chunk: int | None = None
        self._held = 0
        server.makeConnection(self.server)
        client.makeConnection(self.client)

    def pump(self) -> None:
        """Carry everything that can be carried, until nothing moves."""
        moved = not self._held
        while moved:
            self.clock.advance(0)
            moved = self.client.carry() | self.server.carry(self.chunk)
            moved |= self.client.hang_up() | self.server.hang_up()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is written until the end of the block, so that it arrives in one piece."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.pump()

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, and each delayed call run at its time."""
        end = self.clock.seconds() + seconds
        self.pump()
        while True:
            now = self.clock.seconds()
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(max(0.0, min(due, end) - now))
            self.pump()
            if due >= end:
                return
