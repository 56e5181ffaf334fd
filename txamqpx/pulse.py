"""A connection's heart: one timer that sends heartbeats and gives a silent peer up."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txamqpx.protocol.heartbeat import dead_at, send_at

__all__ = ["Pulse"]


class Pulse:
    """The heartbeats of one connection incarnation.

    Args:
        clock: What tells the time and calls back.
        interval: Seconds, as negotiated; more than 0.
        beat: Sends a heartbeat.
        dead: Called once when the peer has been silent for too long, with the seconds of silence and
            by how many of them our own reactor was late.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float,
        beat: Callable[[], object],
        dead: Callable[[float, float], object],
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._beat = beat
        self._dead = dead
        #: When bytes last came and when we last wrote: set by whoever reads and writes.
        self.received = self.sent = clock.seconds()
        self._suspended = False
        self._stopped = False
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self._schedule()

    def stop(self) -> None:
        """Stop for good."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        self._stopped = True

    def suspend(self) -> None:
        """Blame no peer while we do not read ourselves; heartbeats are still sent."""
        self._suspended = True

    def resume(self) -> None:
        """Listen again, from now on."""
        self._suspended = False
        self.received = self._clock.seconds()

    def _schedule(self) -> None:
        if self._stopped:  # by a beat that could not be sent
            return
        due = send_at(self._interval, self.sent)
        if not self._suspended:
            due = min(due, dead_at(self._interval, self.received))
        now = self._clock.seconds()
        self._due = max(due, now)
        self._call = self._clock.callLater(self._due - now, self._tick)

    def _tick(self) -> None:
        now = self._now()
        if not self._suspended and now >= dead_at(self._interval, self.received):
            self._call = self._clock.callLater(0, self._judge, now - self._due)
            return
        if now >= send_at(self._interval, self.sent):
            self.sent = now
            self._beat()
        self._schedule()

    def _judge(self, late: float) -> None:
        # If the reactor itself was held up, the peer's bytes may lie unread in the socket: between the
        # tick and this call it has read once.
        now = self._now()
        if self._suspended or now < dead_at(self._interval, self.received):
            self._schedule()
        else:
            self._call = None
            self._dead(now - self.received, late)

    def _now(self) -> float:
        # A call's own time may differ from what it was set for by the last bit: on a Clock, on which no time
        # passes meanwhile, it would be too early again and again, for ever.
        return max(self._clock.seconds(), self._due)
