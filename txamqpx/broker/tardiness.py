"""What a quorum queue has given out, and by when it has to be settled (since RabbitMQ 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txamqpx.broker.message import Entry

__all__ = ["Tardiness"]


class Dated(Protocol):
    """A message that has to be settled at some time."""

    due: float | None


class Tardiness:
    """Tells which messages are not settled in time.

    Args:
        clock: The broker's.
        unsettled: What the queue has given out.
        late: Called with messages that are late.
    """

    def __init__(
        self, clock: IReactorTime, unsettled: dict[Entry, None], late: Callable[[list[Entry]], object]
    ) -> None:
        self._clock = clock
        self._unsettled = unsettled
        self._late = late
        self._timer: IDelayedCall | None = None

    def note(self, given: Iterable[tuple[Dated, float]]) -> None:
        """Note what was given out just now, and for how many seconds."""
        now = self._clock.seconds()
        first = inf
        for entry, patience in given:
            entry.due = now + patience
            first = min(first, entry.due)
        self._arm(first)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if due == inf or (self._timer is not None and self._timer.getTime() <= due):
            return
        self.stop()
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look, due)

    def _look(self, due: float) -> None:
        self._timer = None
        # The timer's own time may differ from what it was set for by the last bit.
        now = max(self._clock.seconds(), due)
        late, first = [], inf
        for entry in self._unsettled:
            one: Any = entry
            if one.due <= now:
                late.append(entry)
            else:
                first = min(first, one.due)
        self._arm(first)
        if late:
            self._late(late)
