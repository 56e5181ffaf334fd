"""What the time does to a queue: its messages grow old, and so does a queue that nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txamqpx.broker.line import Ready
from txamqpx.broker.message import Entry

__all__ = ["Expiry"]


class Expiry:
    """The one timer of a queue that needs one.

    Messages expire at the head only: one that is behind another that lives longer waits with it.

    Args:
        clock: The broker's.
        ready: The queue's messages that are ready.
        lease: After how many seconds without use the queue ends; None: never.
        is_used: Tells whether it has consumers, which is use without end.
        expired: Called with the messages that have expired.
        ended: Called when the lease has run out.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ready: Ready,
        *,
        lease: float | None,
        is_used: Callable[[], object],
        expired: Callable[[Sequence[Entry]], object],
        ended: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._ready = ready
        self._lease = lease
        self._is_used = is_used
        self._expired = expired
        self._ended = ended
        self._lease_ends: float | None = None
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self.renew()

    def renew(self) -> None:
        """Let the lease begin again: somebody has used the queue, or the last consumer has gone."""
        if self._lease is not None:
            self._lease_ends = self._clock.seconds() + self._lease
            self._arm(self._lease_ends)

    def time_of(self, *ttls: int | None) -> float:
        """Return when a message expires that lives for the shortest of some times, in milliseconds."""
        return self._clock.seconds() + min(ttl for ttl in ttls if ttl is not None) / 1000

    def sweep(self) -> None:
        """Take out what has expired, and look again when the next one does."""
        self._sweep(self._clock.seconds())

    def stop(self) -> None:
        """Look no more: the queue has ended."""
        self._lease = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self, now: float) -> None:
        ready = self._ready
        gone = []
        while ready:
            expires = ready[0].expires
            if expires is None:
                break
            if expires > now:
                self._arm(expires)
                break
            gone.append(ready.popleft())
        if gone:
            self._expired(gone)

    def _arm(self, due: float) -> None:
        # A timer that comes too early finds nothing and is set again, which costs less than to move it with
        # every message that leaves.
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)
        elif due < self._due:
            self._timer.reset(max(0.0, due - self._clock.seconds()))
        else:
            return
        self._due = due

    def _look(self) -> None:
        self._timer = None
        # The timer's own time may differ from what it was set for by the last bit.
        now = max(self._clock.seconds(), self._due)
        lease_ends = self._lease_ends
        if lease_ends is not None and not self._is_used():
            if now >= lease_ends:
                self._ended()
                return
            self._arm(lease_ends)
        self._sweep(now)
