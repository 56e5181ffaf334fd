"""How long a channel may keep what it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Patience"]

# So many looks make up the timeout: a delivery is noticed that much of it late at most, and none has to bear
# the time at which it was given out.
_LOOKS = 20


class Patience:
    """Ends a channel that has kept a delivery for too long (RabbitMQ before 4.3).

    Args:
        clock: The broker's.
        timeout: How long is too long, in seconds.
        held: The delivery tags of what it has, in order.
        timed_out: Called when that is so.
    """

    def __init__(
        self, clock: IReactorTime, timeout: float, held: dict[int, Any], timed_out: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._interval = timeout / _LOOKS
        self._held = held
        self._timed_out = timed_out
        # The last tag that the channel had at each of the last looks.
        self._marks: deque[int] = deque(maxlen=_LOOKS + 1)
        self._timer: IDelayedCall | None = None

    @property
    def watching(self) -> bool:
        """Whether the time of what was given out is being told."""
        return self._timer is not None

    def start(self) -> None:
        """Look at what was given out, from now until all of it is settled."""
        self._marks.clear()
        self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        held, marks = self._held, self._marks
        if not held:
            return
        marks.append(next(reversed(held)))
        if len(marks) > _LOOKS and next(iter(held)) <= marks[0]:
            self._timed_out()
        else:
            self._timer = self._clock.callLater(self._interval, self._look)
