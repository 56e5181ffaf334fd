"""When a message that came back is given out again: quorum queues of RabbitMQ 4.3 can take their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Any, Self

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txamqpx.broker.message import Entry

__all__ = ["Delayed", "RetryPolicy"]


@frozen
class RetryPolicy:
    """Which messages wait before they are given out again, and for how long.

    Attributes:
        failed: Whether those do with which somebody has failed.
        released: Whether those do with which nobody has.
        least: How long the first time, in milliseconds; as much more each time that somebody fails.
        most: How long at most.
    """

    failed: bool
    released: bool
    least: int
    most: int

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self | None:
        """Return the policy in a queue's arguments; None: there is none, or none that makes sense."""
        kind, least = arguments.get("x-delayed-retry-type"), arguments.get("x-delayed-retry-min")
        most = arguments.get("x-delayed-retry-max")
        if kind not in {"all", "failed", "returned"} or type(least) is not int or least <= 0:
            return None
        if type(most) is not int or most <= 0:
            most = least
        return cls(kind in {"all", "failed"}, kind in {"all", "returned"}, least, most)

    def delay(self, *, failed: bool, failures: int) -> float | None:
        """Return how many seconds a message waits; None: not at all.

        Args:
            failed: Whether somebody has failed with it this time.
            failures: How often somebody has.
        """
        if not (self.failed if failed else self.released):
            return None
        return min(self.least * max(1, failures), self.most) / 1000


class Delayed:
    """Messages that wait for their time.

    Args:
        clock: The broker's.
        due: Called with messages whose time has come.
    """

    def __init__(self, clock: IReactorTime, due: Callable[[list[Entry]], object]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[float, int, Entry]] = []
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for _, _, entry in sorted(self._heap, key=lambda one: one[:2]))

    def add(self, entry: Entry, delay: float) -> None:
        """Keep a message for so many seconds; of those that are due together the oldest is first."""
        heappush(self._heap, (self._clock.seconds() + delay, entry.position, entry))
        self._arm()

    def clear(self) -> None:
        """Drop all."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due = self._heap[0][0]
        delay = max(0.0, due - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._look, due)
        elif self._timer.getTime() > due:
            self._timer.cancel()
            self._timer = self._clock.callLater(delay, self._look, due)

    def _look(self, due: float) -> None:
        self._timer = None
        ready = []
        # The timer's own time may differ from what it was set for by the last bit.
        now = max(self._clock.seconds(), due)
        while self._heap and self._heap[0][0] <= now:
            ready.append(heappop(self._heap)[2])
        if self._heap:
            self._arm()
        self._due(ready)
