"""What stands between a session and its transport: it notes what passes, and is where faults strike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IDelayedCall, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txamqpx.broker.session import Session
from txamqpx.broker.stream import Place, Stream
from txamqpx.broker.wire_log import BROKER, CLIENT, WireLog

__all__ = ["Tap", "Trap"]

# What a client that a fault has cut off gets to read what was said before.
_FAREWELL = 1.0


class Trap(Place):
    """What happens to a stream at a place in it.

    Args:
        frame: See ``Place``.
        method: See ``Place``.
        byte: See ``Place``.
        spring: Called with the tap when the place has come, and all before it has passed; it returns whether
            the trap still stands.
        change: What to change then in the byte that follows, by exclusive or.
    """

    def __init__(
        self, frame: int | None, method: int, byte: int, spring: Callable[[Tap], bool], change: int = 0
    ) -> None:
        super().__init__(frame, method, byte)
        self.spring = spring
        self.change = change


@implementer(ITransport, IConsumer)
class Tap(Protocol):
    """A protocol to the transport, and a transport to the session.

    Args:
        session: What it stands before.
        number: The connection's, for people.
        log: Where to note what passes.
        made: Called when the connection is there, before the session hears of it.
        closed: Called when it is over.
    """

    transport: Any

    def __init__(
        self,
        session: Session,
        number: int,
        log: WireLog,
        *,
        made: Callable[[Tap], object],
        closed: Callable[[Tap], object],
    ) -> None:
        self.session = session
        self.number = number
        #: How many bytes have passed, either way.
        self.passed = 0
        #: Changes what the session writes; called with whole frames.
        self.filters: list[Callable[[bytes], bytes]] = []
        #: Whether nothing passes any more: the connection was dropped.
        self.dropped = False
        #: Whether nothing passes for the time being, either way; see ``swallow``.
        self.swallowed = False
        self._log = log
        self._made = made
        self._closed = closed
        self._in: Stream | None = None
        self._out: Stream | None = None
        self._over = False
        self._deadline: IDelayedCall | None = None
        # What has come, or was written, and may not pass.
        self._unheard = b""
        self._unsaid: list[bytes] = []
        self._producer: Any = None
        self._producer_waits = False
        self._reading = True

    def __repr__(self) -> str:
        return f"<connection #{self.number}>"

    def __getattr__(self, name: str) -> Any:
        # Options of sockets, certificates: whatever else the transport can do.
        return getattr(self.transport, name)

    # ----------------------------------------------------------------------- to the transport

    def makeConnection(self, transport: ITransport) -> None:
        """Let the session begin."""
        self.transport = transport
        self._made(self)
        session: Any = self.session
        session.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        """Let the session have what comes."""
        self.passed += len(data)
        self._log.note(self.number, CLIENT, not self.session.core.reader.pending, (data,))
        if self.dropped:
            return
        if self.swallowed:
            self._keep_unheard(data)
            return
        if self._in is not None:
            data = self._spring(self._in, data, self.session.dataReceived, self._keep_unheard)
        if data:
            self.session.dataReceived(data)

    def _keep_unheard(self, data: bytes) -> None:
        self._unheard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the session, unless a fault has."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        try:
            self._end(reason)
        finally:
            self._closed(self)

    def _end(self, reason: Failure) -> None:
        if not self._over:
            self._over = True
            self.session.connectionLost(reason)

    def _end_soon(self) -> None:
        # Not at once: this may be in the midst of something that the session does.
        self.session.clock.callLater(0, self._end, Failure(ConnectionLost()))

    @property
    def paused(self) -> bool:
        """Whether the session has to wait before it writes on."""
        return self._producer_waits or self.swallowed

    def pause(self) -> None:
        """Let the session write no more for the moment: the transport has enough."""
        self._producer_waits = True
        if self._producer is not None and not self.swallowed:
            self._producer.pauseProducing()

    def resume(self) -> None:
        """Let it write on."""
        self._producer_waits = False
        if self._producer is not None and not self.swallowed:
            self._producer.resumeProducing()

    def stop(self) -> None:
        """Let it write never more."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    # ----------------------------------------------------------------------- to the session

    def write(self, data: bytes) -> None:
        """Send ``data``, which is whole frames."""
        self.writeSequence((data,))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send each of ``data``, which together are whole frames."""
        if self.dropped:
            return
        if self.swallowed:
            self._unsaid += data
            return
        pieces: Sequence[bytes] = tuple(data)
        if self.filters or self._out is not None:
            joined = b"".join(pieces)
            for change in tuple(self.filters):
                joined = change(joined)
            if self._out is not None:
                joined = self._spring(self._out, joined, self._say, self._unsaid.append)
            pieces = (joined,)
        self._write(pieces)

    def say(self, data: bytes) -> None:
        """Send whole frames past all filters."""
        if self.swallowed:
            self._unsaid.append(data)
        elif not self.dropped:
            self._say(data)

    def _say(self, data: bytes) -> None:
        self._write((data,))

    def _write(self, pieces: Sequence[bytes]) -> None:
        size = sum(map(len, pieces))
        if size:
            self.passed += size
            self._log.note(self.number, BROKER, True, pieces)
            self.transport.writeSequence(pieces)

    def loseConnection(self) -> None:
        """Close when all is sent."""
        if self.dropped or self.swallowed:
            self._end_soon()  # the session has had enough, and its client is not to know
        else:
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        if self.dropped or self.swallowed:
            self._end_soon()
        else:
            self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """Leave with the transport what comes."""
        self._reading = False
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Let it come."""
        self._reading = True
        if not self.swallowed:
            self.transport.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the session know when to wait."""
        self._producer = producer
        self.transport.registerProducer(_Valve(self), streaming)
        if self.swallowed:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Let it know no more."""
        self._producer = None
        self.transport.unregisterProducer()

    def getPeer(self) -> IAddress:
        """Return where the client is."""
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """Return where this end is."""
        host: IAddress = self.transport.getHost()
        return host

    # ----------------------------------------------------------------------- faults

    def arm(self, sent_by: str, trap: Trap) -> None:
        """Lay a trap into what one side says."""
        if sent_by == CLIENT:
            if self._in is None:
                self._in = Stream(self.session.core.reader.begun())
            self._in.add(trap)
        else:
            if self._out is None:
                self._out = Stream()
            self._out.add(trap)

    def disarm(self, trap: Trap) -> None:
        """Take a trap away."""
        for stream in (self._in, self._out):
            if stream is not None and trap in stream.places:
                stream.places.remove(trap)

    def _spring(
        self,
        stream: Stream,
        data: bytes,
        go_on: Callable[[bytes], object],
        keep: Callable[[bytes], object],
    ) -> bytes:
        """Let happen what is to happen in ``data``; return what is left of it to go on."""
        data, found = stream.feed(data)
        done = 0
        for at, trap in found:
            assert isinstance(trap, Trap)
            if trap.change:
                if trap.spring(self):
                    data = data[:at] + bytes((data[at] ^ trap.change,)) + data[at + 1 :]
                continue
            if at > done:
                go_on(data[done:at])
                done = at
            trap.spring(self)
            if self.swallowed or self.dropped:
                break
        self._in, self._out = _needed(self._in), _needed(self._out)
        if self.swallowed:
            keep(data[done:])
        return b"" if self.swallowed or self.dropped else data[done:]

    def drop(self) -> None:
        """Drop the connection: what was said before arrives, and nothing after it."""
        if not self.dropped:
            self.dropped, self.swallowed = True, False
            self.unregisterProducer()
            self.transport.loseConnection()
            self._deadline = self.session.clock.callLater(_FAREWELL, self._give_up)
            self._end_soon()

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abortConnection()

    def swallow(self) -> None:
        """Let nothing pass, either way, as if a cable were cut that nobody looks after."""
        if not self.swallowed and not self.dropped:
            self.swallowed = True
            self.transport.pauseProducing()
            if self._producer is not None and not self._producer_waits:
                self._producer.pauseProducing()

    def spit_out(self) -> None:
        """Let pass again, and first what could not."""
        if not self.swallowed:
            return
        self.swallowed = False
        if self._over:
            self.transport.abortConnection()  # the session has given its client up meanwhile
            return
        said, self._unsaid = self._unsaid, []
        self._write(said)
        if self._producer is not None and not self._producer_waits:
            self._producer.resumeProducing()
        heard, self._unheard = self._unheard, b""
        if heard:
            self.session.dataReceived(heard)
        if self._reading:
            self.transport.resumeProducing()


def _needed(stream: Stream | None) -> Stream | None:
    return None if stream is None or stream.idle else stream


@implementer(IPushProducer)
class _Valve:
    """Tells a tap what the transport tells its producer; the tap's own such methods are about reading."""

    def __init__(self, tap: Tap) -> None:
        self.pauseProducing = tap.pause
        self.resumeProducing = tap.resume
        self.stopProducing = tap.stop
