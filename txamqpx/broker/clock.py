"""The broker's time: on a ``Clock`` all of it is virtual, on a reactor it can be made to run ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, cast

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["BrokerClock"]

# So many cancelled calls are kept before it is worth the while to throw them out.
FEW = 50


@implementer(IReactorTime)
class BrokerClock:
    """What all the broker's timers run on.

    On a ``Clock`` this is no more than the Clock: what else runs on it, such as a client's timers, happens
    in its order with ours.  On a reactor the timers are kept here, earliest first, with one real timer for
    the first of them, so that many cost the reactor no more than one, and so that `advance` need not wait.

    Args:
        base: A reactor, or a ``Clock``; None: the reactor, which is imported when it is first needed.
    """

    log = Logger()

    def __init__(self, base: IReactorTime | None = None) -> None:
        self._base = base
        self._clock = _as_clock(base)
        self._passing = False
        self._ahead = 0.0
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._numbers = count()
        self._cancelled = 0
        self._timer: IDelayedCall | None = None

    @property
    def base(self) -> IReactorTime:
        """What drives the broker; its time never runs ahead, so it is what a peer's silence is told by."""
        if self._base is None:
            from twisted.internet import reactor  # not before somebody needs it

            self._base = cast(IReactorTime, reactor)
        return self._base

    @property
    def virtual(self) -> bool:
        """Whether time passes only when it is told to."""
        return self._clock is not None

    def seconds(self) -> float:
        """Return the time."""
        return self.base.seconds() + self._ahead

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        """Arrange a call, in ``delay`` seconds."""
        if self._clock is not None:
            return self._clock.callLater(delay, callable, *args, **kw)
        assert delay >= 0, f"{delay} s is in the past"
        due = self.seconds() + delay
        call = DelayedCall(due, callable, args, kw, self._forget, self._reorder, self.seconds)
        self._push(call)
        if self._heap[0][2] is call:
            self._arm()
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Return the calls that are still to come; those on a ``Clock`` are not only ours."""
        if self._clock is not None:
            return self._clock.getDelayedCalls()
        return [call for _, _, call in sorted(self._heap) if call.active()]

    def next_due(self) -> float | None:
        """Return the time of the next call, or None if there is none."""
        if self._clock is not None:
            return min((call.getTime() for call in self._clock.getDelayedCalls()), default=None)
        call = self._first()
        return None if call is None else call.time

    def advance(self, seconds: float) -> None:
        """Let time pass at once: the calls that become due are made in order, each at its own time.

        On a ``Clock`` whatever is due at one time settles before time goes on: calls without delay, which
        are the next turns of a reactor, with all that they cause.  On a reactor it is our own time alone
        that passes, and turns of the reactor lie behind it; what is not due yet keeps its distance.

        Args:
            seconds: How far; not negative.

        Raises:
            RuntimeError: It passes on a ``Clock`` already, and who called has been called by it.
        """
        if seconds < 0:
            raise ValueError("time does not go backwards")
        end = self.seconds() + seconds
        if self._clock is not None:
            self._pass_time(self._clock, end)
            return
        while (call := self._first()) is not None and call.time <= end:
            self._skip_to(call.time)
            self._make(call)
        self._skip_to(end)
        self._arm()

    def _pass_time(self, clock: Clock, end: float) -> None:
        if self._passing:  # whoever waits here keeps the one who carries the bytes from carrying them
            raise RuntimeError(
                "time passes already: what runs on a Clock cannot make it go on from within a call of its "
                "own; txamqpx.testing.running() has time for coroutines"
            )
        self._passing = True
        try:
            clock.advance(0)
            while (due := self.next_due()) is not None and due <= end:
                clock.rightNow = max(clock.rightNow, due)  # a sum could miss it by the last bit
                clock.advance(0)
            clock.rightNow = max(clock.rightNow, end)
        finally:
            self._passing = False

    # --------------------------------------------------------------------- on a reactor

    def _push(self, call: DelayedCall) -> None:
        heappush(self._heap, (call.time, next(self._numbers), call))

    def _first(self) -> DelayedCall | None:
        """Return the call to be made next, which is the first of the heap then."""
        heap = self._heap
        while heap:
            call = heap[0][2]
            if call.cancelled:
                heappop(heap)
                self._cancelled -= 1
            elif call.delayed_time:
                heappop(heap)
                call.activate_delay()
                self._push(call)
            else:
                return call
        return None

    def _forget(self, call: DelayedCall) -> None:
        """Note that a call is being cancelled."""
        self._cancelled += 1
        if self._cancelled == len(self._heap) or self._cancelled > max(FEW, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[2].active() and entry[2] is not call]
            heapify(self._heap)
            self._cancelled = 0
            self._arm()  # without calls no timer is left: a reactor that is to stop, or a test, would mind

    def _reorder(self, call: DelayedCall) -> None:
        """Note that a call is to be made earlier."""
        self._heap = [entry for entry in self._heap if entry[2] is not call]
        heapify(self._heap)
        self._push(call)
        self._arm()

    def _arm(self) -> None:
        """Have the reactor call when the first call is due; a call too early only looks again."""
        call = self._first()
        timer = self._timer
        if call is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        delay = max(0.0, call.time - self.seconds())
        if timer is None:
            self._timer = self.base.callLater(delay, self._tick)
        elif timer.getTime() > self.base.seconds() + delay:
            timer.reset(delay)

    def _tick(self) -> None:
        self._timer = None
        now = self.seconds()
        turn = next(self._numbers)  # what the calls ask for is for the next turn, however soon it is due
        while (call := self._first()) is not None and call.time <= now and self._heap[0][1] < turn:
            self._make(call)
        self._arm()

    def _make(self, call: DelayedCall) -> None:
        heappop(self._heap)
        call.called = 1
        try:
            call.func(*call.args, **call.kw)
        except Exception:
            self.log.failure("while a timer of the broker ran out")

    def _skip_to(self, time: float) -> None:
        self._ahead = max(self._ahead, time - self.base.seconds())


def _as_clock(base: Any) -> Clock | None:
    return base if isinstance(base, Clock) else None
