"""Waiting until a broker has nothing left to do."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred, succeed

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.tap import Tap

__all__ = ["advance", "settled"]

# So many turns in which nothing happens have to follow each other: what a client's own turn leads to, such
# as a Deferred that is fired by one without delay, is seen in the one after it.
_QUIET_TURNS = 2

# More turns than anything takes that comes to an end: what needs more goes round in circles.
MOST_TURNS = 100_000

#: The connections that there are, now and later.
Taps = Collection[Tap]


class _Settling:
    """Watches turn after turn of a reactor."""

    def __init__(self, clock: BrokerClock, taps: Taps) -> None:
        self._clock = clock
        self._taps = taps
        self._quiet = 0
        self._turns = 0
        self._passed = -1
        self.done: Deferred[None] = Deferred(lambda _: self._turn.cancel())
        self._turn = clock.base.callLater(0, self._look)

    def _look(self) -> None:
        passed = sum(tap.passed for tap in self._taps)
        if passed != self._passed or self._is_busy():
            self._quiet = 0
        else:
            self._quiet += 1
        self._passed = passed
        if self._quiet >= _QUIET_TURNS:
            self.done.callback(None)
        elif self._turns == MOST_TURNS:
            self.done.errback(
                AssertionError(
                    f"there is something to do still after {MOST_TURNS} turns: does a message go round in "
                    "circles, as one does that is requeued whenever it comes?"
                )
            )
        else:
            self._turns += 1
            self._turn = self._clock.base.callLater(0, self._look)

    def _is_busy(self) -> bool:
        base = self._clock.base
        now = base.seconds()
        return any(call.getTime() <= now for call in base.getDelayedCalls()) or any(
            tap.session.core.outbox and not tap.paused for tap in self._taps
        )


def settled(clock: BrokerClock, taps: Taps) -> Deferred[None]:
    """Return a Deferred that fires when nothing is left to do; on a ``Clock`` it is done at once.

    Args:
        clock: The broker's time.
        taps: The connections that there are.

    Returns:
        The Deferred; on a reactor it fails with ``AssertionError`` if there is no end to it.
    """
    if clock.virtual:
        clock.advance(0)
        return succeed(None)
    return _Settling(clock, taps).done


def advance(clock: BrokerClock, taps: Taps, seconds: float) -> Deferred[None]:
    """Let the broker's time pass, and settle whatever becomes due before it goes on.

    Args:
        clock: The broker's time.
        taps: The connections that there are.
        seconds: How long.

    Returns:
        A Deferred that fires when all is over and settled, and fails as that of ``settled``; on a ``Clock``
        it has fired.
    """
    if seconds < 0:
        raise ValueError("time does not go backwards")
    if clock.virtual:
        clock.advance(seconds)
        return succeed(None)
    return Deferred.fromCoroutine(_advance(clock, taps, clock.seconds() + seconds))


async def _advance(clock: BrokerClock, taps: Taps, end: float) -> None:
    await settled(clock, taps)
    while (due := clock.next_due()) is not None and due <= end:
        clock.advance(max(0.0, due - clock.seconds()))
        await settled(clock, taps)
    clock.advance(max(0.0, end - clock.seconds()))
    await settled(clock, taps)
