"""The way from the core's outbox to the transport: one write per turn, and never too much at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.task import Clock
from twisted.python import threadable
from zope.interface import implementer

from txamqpx.errors import AMQPError
from txamqpx.protocol.outbox import Outbox

__all__ = ["MAX_IN_TRANSPORT", "Writer"]

# More than this much in the transport only costs copies, and makes heartbeats wait behind it.
MAX_IN_TRANSPORT = 128 * 1024

# The transport looks at each piece, which costs more than joining them where they are small.
MANY = 32


@implementer(IPushProducer)
class Writer:
    """Feeds a transport from an outbox.

    Args:
        outbox: What is to be written.
        clock: Gives the clock; asked when something has to wait for the end of the turn.
        wrote: Called after each write.
    """

    def __init__(
        self, outbox: Outbox, clock: Callable[[], IReactorTime], wrote: Callable[[], object]
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._wrote = wrote
        self._transport: Any = None
        self._direct = False
        self._sending = False
        self._paused = False
        self._held = False
        self._later: IDelayedCall | None = None
        # Who waits, and for how much there is to be no more of.
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self._end: Callable[[], AMQPError] | None = None
        # The thread of a clock that stands in for the reactor; None: the reactor's, whichever that is.
        self._thread: int | None = None

    def start(self, transport: Any) -> None:
        """Write to ``transport`` from now on, at the pace that it can take."""
        self._transport = transport
        if isinstance(self._clock(), Clock):
            self._thread = get_ident()
        if isinstance(transport, FileDescriptor):  # not what TLS lets through to the socket below it
            self._direct = True
        transport.registerProducer(self, True)

    def wake(self) -> None:
        """Arrange that what is about to be appended is written at the end of this turn.

        Raises:
            RuntimeError: This is not the reactor's thread; nothing was appended.
        """
        thread: int | None = self._thread or threadable.ioThread  # None until a reactor runs
        if thread is not None and thread != get_ident():
            raise RuntimeError("txamqpx was called outside the reactor's thread: use reactor.callFromThread")
        if not self._held and self._later is None and not self._paused and self._transport is not None:
            self._later = self._clock().callLater(0, self._flush_later)

    def hold(self) -> None:
        """Gather what is appended until the next ``flush``: more is about to come."""
        self._held = True

    def flush(self) -> None:
        """Write what waits, as far as the transport takes it."""
        self._held = False
        if self._transport is None:
            return
        outbox = self._outbox
        if outbox and not self._paused:
            while outbox and not self._paused:
                pieces = outbox.take(MAX_IN_TRANSPORT)
                if len(pieces) > MANY:
                    self._transport.write(b"".join(pieces))
                else:
                    self._transport.writeSequence(pieces)
            self._send_at_once()
            self._wrote()
        while self._waiting and outbox.size <= self._waiting[0][0]:  # who is told may write so much that ...
            self._waiting.popleft()[1].callback(None)  # ... the others wait on

    def _send_at_once(self) -> None:
        # A socket would wait for the reactor to say that it can be written to, which it nearly always can:
        # that is a system call and a turn more for each message that somebody waits for.  What fails or ends
        # here does so again when the reactor comes round to it, and is dealt with there.
        transport = self._transport
        if self._direct and not transport.disconnecting and not self._paused and not self._sending:
            self._sending = True  # a socket that is done asks for more at once, from within
            try:
                if transport.doWrite() is not None:
                    transport.startWriting()
            finally:
                self._sending = False

    def _flush_later(self) -> None:
        self._later = None
        self.flush()

    def finish(self) -> None:
        """Hand the transport what is urgent, whatever its pace, with what it takes of the rest."""
        transport = self._transport
        if transport is not None:
            self._paused = False
            self.flush()
            transport.unregisterProducer()
        self.stop()

    def stop(self) -> None:
        """Write nothing more."""
        self._transport = None
        self._paused = True  # for a flush that this interrupts
        self._direct = False
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None

    @property
    def writable(self) -> bool:
        """False while so much waits that a publisher does better to wait."""
        return self._outbox.size <= self._outbox.high_water

    def when_writable(self, most: int | None = None) -> Deferred[None]:
        """Return a Deferred that fires once what is too much has been taken, or fails with the end.

        Args:
            most: How many bytes are not too much; None: as ``writable`` sees it.
        """
        limit = self._outbox.high_water if most is None else most
        if self._end is not None:
            return fail(self._end())
        if self._outbox.size <= limit:
            return succeed(None)
        deferred: Deferred[None] = Deferred(lambda _: self._waiting.remove(place))  # who gives up is not kept
        place = limit, deferred
        self._waiting.append(place)
        return deferred

    def fail(self, error: Callable[[], AMQPError]) -> None:
        """Let everybody who waits fail, now or later, each with an ``error`` of its own."""
        self._end = error
        while self._waiting:
            self._waiting.popleft()[1].errback(error())

    def pauseProducing(self) -> None:
        """Keep what is to be written: the transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write on."""
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        """Write nothing more: the transport is going."""
        self.stop()
