"""One timer for the confirms of all publishes of a channel, instead of one for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["ConfirmDeadlines"]

# Publishes are told apart by when they were made as finely as this part of the limit: a timer for each would
# cost more than the publish itself.
_PARTS = 8

# Seconds: eight parts of a limit may add up to a little less than the limit.
_ROUNDING = 1e-6


class ConfirmDeadlines:
    """Tells which publishes have waited too long.

    Every so often it notes the number that the next publish will get.  When a note is as old as the
    limit, all below that number are too late: a publish is given up after the limit at the earliest,
    and an eighth of it later at the latest.  The time in which the broker does not read, or our own reactor
    stands still and what the broker said lies unread, does not count.

    Args:
        clock: What tells the time.
        limit: Seconds.
        position: Gives the number of the next publish; 0 if none is outstanding.
        expired: Called with a number when all below it are too late.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limit: float,
        position: Callable[[], int],
        expired: Callable[[int], object],
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._position = position
        self._expired = expired
        self._notes: deque[tuple[float, int]] = deque()
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._suspended: float | None = None

    @property
    def running(self) -> bool:
        """Whether publishes that are made now will be noted."""
        return self._timer is not None or self._suspended is not None

    def start(self) -> None:
        """Begin to take notes, if that is not so already."""
        if not self.running:
            part = self._limit / _PARTS
            self._due = self._clock.seconds() + part
            self._timer = self._clock.callLater(part, self._tick)

    def stop(self) -> None:
        """Forget everything."""
        self._notes.clear()
        self._suspended = None
        self._cancel()

    def suspend(self) -> None:
        """Let the time stand still: the broker does not read, so nothing can be said of its silence."""
        if self._suspended is None:
            self.start()
            self._suspended = self._clock.seconds()
            self._cancel()

    def resume(self) -> None:
        """Let the time go on."""
        if self._suspended is not None:
            now = self._clock.seconds()
            lost = now - self._suspended
            self._forgive(lost)
            self._suspended = None
            # Not from the start of the tick: it would never end where the broker stops again and again.
            self._due += lost
            self._timer = self._clock.callLater(max(0.0, self._due - now), self._tick)

    def _forgive(self, lost: float) -> None:
        self._notes = deque((when + lost, number) for when, number in self._notes)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        number = self._position()
        if not number:
            self._notes.clear()
            return
        now = self._clock.seconds()
        late = now - self._due
        if late > self._limit / _PARTS:
            self._forgive(late)
        self._notes.append((now, number))
        self.start()
        expired = 0
        while self._notes[0][0] + self._limit <= now + _ROUNDING:
            expired = self._notes.popleft()[1]
        if expired:
            self._expired(expired)
