"""Deliveries that a handler has left to somebody, and that nobody settles."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txamqpx.message import Delivery

__all__ = ["Forgotten"]

# How finely the time is told since when a delivery is left; it costs nothing while deliveries come and go.
_PARTS = 4


class Forgotten:
    """Warns of each delivery that is unsettled for too long after its handler has ended.

    Args:
        clock: What tells the time.
        limit: Seconds; what is left is warned of after that, and a quarter later at the latest.
        left: Gives the deliveries that are unsettled and at nobody's hands.
        handler: The handler's name.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, limit: float, left: Callable[[], Iterable[Delivery]], handler: str
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._left = left
        self._handler = handler
        # None: it was warned of.
        self._since: dict[Delivery, float | None] = {}
        self._timer: IDelayedCall | None = clock.callLater(limit / _PARTS, self._tick)

    def _tick(self) -> None:
        self._timer = self._clock.callLater(self._limit / _PARTS, self._tick)
        self._warn(self._limit)

    def _warn(self, limit: float) -> None:
        """Warn of what is left for so long, and forget what is not left any more."""
        now = self._clock.seconds()
        self._since = {delivery: self._since.get(delivery, now) for delivery in self._left()}
        for delivery, since in self._since.items():
            if since is None or now - since < limit:
                continue
            self._since[delivery] = None
            self.log.warn(
                "{handler} has left {delivery} unsettled for {seconds:.1f} s",
                handler=self._handler,
                delivery=delivery,
                seconds=now - since,
            )

    def stop(self) -> None:
        """Warn of all that is left now, and watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._warn(0.0)
