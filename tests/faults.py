"""A TCP proxy that breaks connections on purpose, in the reactor of the test that uses it."""

import random
from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IListeningPort,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.ports import reserve_port

Ending = Literal["rst", "fin"]
"""How a connection ends: at once and with an error at the far side, or in order after what was written."""


class FaultProxy:
    """Forward TCP connections to a port, until told to do worse.

    Clients connect to `port`; "up" is from the client to the broker. Orders about octets hold for connections
    that are made after them, all others take effect at once.

    Args:
        reactor: The reactor of the test.
        target: The port on 127.0.0.1 to forward to.
        seed: Makes the lengths that are drawn the same in every run.

    Attributes:
        port: Where clients connect, on 127.0.0.1; nobody else gets it while connections are refused.
        links: The connections of now, oldest first.
        accepted: How many connections were accepted so far.
    """

    def __init__(self, reactor: Any, target: int, *, seed: int = 0) -> None:
        self.reactor = reactor
        self.target = target
        self.random = random.Random(seed)
        self.links: list[Link] = []
        self.accepted = 0
        self.stalled = False
        self.longest_piece: int | None = None
        self.limits: tuple[int | None, int | None] = (None, None)
        self.ending: Ending = "rst"
        self._stopping: Deferred[None] | None = None
        self._reserved = reserve_port()
        self.port: int = self._reserved.getsockname()[1]
        self._listener: IListeningPort | None = None
        self.accept()

    # Orders -----------------------------------------------------------------------------------

    def accept(self) -> None:
        """Accept connections, as at the beginning."""
        if self._listener is None:
            self._listener = self.reactor.listenTCP(self.port, _Clients(self), interface="127.0.0.1")

    def refuse(self) -> Deferred[None]:
        """Refuse new connections; those of now go on. Fires when the port is closed."""
        if self._listener is None:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        done, self._listener = self._listener.stopListening(), None
        (done or succeed(None)).addCallback(lambda _: closed.callback(None))
        return closed

    def cut(self, ending: Ending = "rst") -> None:
        """End all connections of now, on both sides."""
        for link in list(self.links):
            link.cut(ending)

    def cut_after(self, *, up: int | None = None, down: int | None = None, ending: Ending = "rst") -> None:
        """End each later connection when exactly so many octets have passed in a direction.

        Args:
            up: Octets from the client to the broker; no limit when left out.
            down: Octets from the broker to the client; no limit when left out.
            ending: How it ends, on both sides.
        """
        self.limits = (up, down)
        self.ending = ending

    def shred(self, longest: int | None) -> None:
        """Forward in pieces of random length, each in a turn of the reactor of its own.

        Args:
            longest: The most octets in a piece; nothing ends the shredding.
        """
        self.longest_piece = longest

    def stall(self) -> None:
        """Forward and read nothing, so that each side's writes back up; new connections are accepted."""
        self.stalled = True
        self._forward()

    def resume(self) -> None:
        """End the stall; what had backed up arrives."""
        self.stalled = False
        self._forward()

    def stop(self) -> Deferred[None]:
        """Refuse and end everything; fires when no connection is left."""
        stopped: Deferred[None] = Deferred()
        self._stopping = stopped
        self.refuse().addCallback(lambda _: self._abort_all())
        return stopped

    # What links say ---------------------------------------------------------------------------

    def forget(self, link: "Link") -> None:
        """Drop a link, both of whose connections are gone."""
        self.links.remove(link)
        self._check_stopped()

    def _forward(self) -> None:
        for link in list(self.links):
            link.client.forward()
            link.broker.forward()

    def _abort_all(self) -> None:
        for link in list(self.links):
            link.abort()
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopping is not None and self._listener is None and not self.links:
            self._reserved.close()
            stopping, self._stopping = self._stopping, None
            stopping.callback(None)


class Link:
    """Hold the two connections of one client through the proxy.

    Attributes:
        client: The connection that the client made; it counts what passed up.
        broker: The connection to the broker; it counts what passed down.
        is_joined: Whether the broker's connection is made, too.
        is_over: Whether forwarding has ended for good.
    """

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.client, self.broker = (End(self, limit) for limit in proxy.limits)
        self.client.other, self.broker.other = self.broker, self.client
        self.is_joined = False
        self.is_over = False
        self._ending: Ending = proxy.ending
        self._connector: IConnector | None = None

    def accepted(self) -> None:
        """Connect to the broker; until that is done nothing is read from the client."""
        self.proxy.accepted += 1
        self.proxy.links.append(self)
        self._connector = self.proxy.reactor.connectTCP("127.0.0.1", self.proxy.target, _Brokers(self))

    def joined(self) -> None:
        """Begin to forward."""
        self._connector = None
        self.is_joined = True
        for end in (self.client, self.broker):
            end.other.transport.registerProducer(end, True)
        for end in (self.client, self.broker):
            end.forward()

    def not_joined(self) -> None:
        """End the client's connection: the broker cannot be reached."""
        self._connector = None
        self.abort()
        self.lost()

    def cut(self, ending: Ending | None = None) -> None:
        """End both connections; what was forwarded before still arrives, and nothing after it."""
        self._end(lambda end: end.finish(ending or self._ending))

    def abort(self) -> None:
        """End both connections without waiting for anything."""
        self._end(lambda end: end.transport.abortConnection())

    def lost(self) -> None:
        """Have the proxy forget this link when both connections are gone, or were never made."""
        if not (self.client.is_open or self.broker.is_open) and self in self.proxy.links:
            self.proxy.forget(self)

    def _end(self, how: Callable[["End"], None]) -> None:
        self.is_over = True
        if self._connector is not None:
            self._connector.disconnect()
        for end in (self.client, self.broker):
            if end.is_open:
                how(end)


@implementer(IPushProducer)
class End(Protocol):
    """Be one of the two connections of a link: what comes in here goes out at the other.

    Attributes:
        other: The other connection of the link.
        passed: How many octets came in here and went out there.
        held: What came in here and still has to go.
        is_open: Whether the connection is made and not yet lost.
    """

    transport: Connection
    other: "End"

    def __init__(self, link: Link, limit: int | None) -> None:
        self.passed = 0
        self.held = bytearray()
        self.is_open = False
        self._link = link
        self._limit = limit
        self._turn_is_coming = False
        self._must_wait = False
        self._input_ended = False

    def connectionMade(self) -> None:
        """Take part in the link."""
        self.is_open = True
        self.transport.setTcpNoDelay(True)
        self._steer()
        if self is self._link.client:
            self._link.accepted()
        else:
            self._link.joined()

    def dataReceived(self, data: bytes) -> None:
        """Forward what came, or drop it when the link is over: left unread it would make a FIN an RST."""
        if not self._link.is_over:
            self.held += data
            self.forward()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """End the other connection in the same way."""
        self.is_open = False
        if not self._link.is_over:
            if reason.check(ConnectionDone):
                self._input_ended = True
                self.forward()
            else:
                self._link.abort()
        self._link.lost()

    def forward(self) -> None:
        """Forward what is held, as far as the proxy's orders go."""
        if self._link.is_joined and not self._turn_is_coming:
            self._forward()
        self._steer()

    def finish(self, ending: Ending) -> None:
        """End this connection when what was written to it is on its way."""
        self.held.clear()
        self.transport.unregisterProducer()
        self._steer()
        if ending == "fin":
            self.transport.loseWriteConnection()
        else:
            _Reset(self.transport)

    def pauseProducing(self) -> None:
        """Read no more: the other connection takes nothing now."""
        self._must_wait = True
        self._steer()

    def resumeProducing(self) -> None:
        """Read again."""
        self._must_wait = False
        self._steer()

    def stopProducing(self) -> None:
        """Do nothing: the other connection's own loss ends the link."""

    def _forward(self) -> None:
        link, proxy = self._link, self._link.proxy
        if self.held and not (proxy.stalled or link.is_over or self.passed == self._limit):
            size = len(self.held)
            if proxy.longest_piece is not None:
                size = min(size, proxy.random.randint(1, proxy.longest_piece))
            if self._limit is not None:
                size = min(size, self._limit - self.passed)
            self.other.transport.write(bytes(self.held[:size]))
            del self.held[:size]
            self.passed += size
        if link.is_over:
            return
        if self.passed == self._limit:
            link.cut()
        elif self.held and not proxy.stalled:
            self._turn_is_coming = True
            proxy.reactor.callLater(0, self._take_turn)
        elif self._input_ended and not self.held:
            link.is_over = True
            self.other.transport.unregisterProducer()
            self.other.transport.loseConnection()

    def _take_turn(self) -> None:
        self._turn_is_coming = False
        self.forward()

    def _steer(self) -> None:
        """Read only what can go on at once; what is over is read to be dropped."""
        if not self.is_open:
            return
        link = self._link
        waits = self._must_wait or self.held or link.proxy.stalled or not link.is_joined
        if waits and not link.is_over:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()


@implementer(IPullProducer)
class _Reset:
    """Abort a connection as soon as everything that was written to it has left.

    A pull producer is asked for more when it is registered, and again when nothing is left to write.
    """

    def __init__(self, transport: Connection) -> None:
        self._transport = transport
        self._is_registered = False
        transport.registerProducer(self, False)
        self._is_registered = True
        transport.startWriting()

    def resumeProducing(self) -> None:
        if self._is_registered:
            self._transport.unregisterProducer()
            self._transport.abortConnection()

    def stopProducing(self) -> None:
        """Do nothing: the connection is gone already."""


class _Clients(Factory):
    noisy = False

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    def buildProtocol(self, addr: IAddress | None) -> End:
        return Link(self._proxy).client


class _Brokers(ClientFactory):
    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> End:
        return self._link.broker

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._link.not_joined()
