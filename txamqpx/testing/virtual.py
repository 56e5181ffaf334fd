"""Virtual time: turns follow each other by themselves, and time passes when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import get_ident
from typing import Any, cast

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.internet.task import Clock
from zope.interface import implementer

from txamqpx.testing.threads import HandPool

__all__ = ["VirtualClock"]

# More turns than anything takes that comes to an end: what needs more goes round in circles.
MOST_TURNS = 100_000

# How long a thread is listened to, in seconds, before somebody else has his turn.
GLANCE = 0.05

# So many glances at a thread that says nothing: half a minute.
MOST_SILENCE = 600

#: Arranges a call in the next turn of whatever turns.
Turns = Callable[[Callable[[], object]], object]


@implementer(IReactorFromThreads)
class VirtualClock(Clock):
    """What stands in for the reactor where time is virtual: a ``Clock`` that turns by itself, with threads.

    Calls that are due are made turn by turn, as a reactor makes them: what they ask for without delay is for
    the next turn.  Threads run one at a time, each until it ends or wants something of the reactor's thread.

    Args:
        turns: Arranges a call in the next turn of what drives this.
        from_thread: The same, from any thread; None: ``turns`` can be called from all of them.

    Attributes:
        closed: Whether it turns no more.
    """

    def __init__(self, turns: Turns, from_thread: Turns | None = None) -> None:
        super().__init__()
        self._turns = turns
        self._from_thread = from_thread or turns
        self._turning = False
        self._home = get_ident()
        self._pool = _Pool(self)
        self.closed = False

    # ----------------------------------------------------------------------- what a reactor has

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        """Arrange a call, in so many seconds of virtual time."""
        call = cast(DelayedCall, super().callLater(delay, callable, *args, **kw))
        call.resetter = lambda call: self._wake()  # what is made earlier may be due now
        self._wake()
        return call

    def getThreadPool(self) -> HandPool:  # noqa: N802
        """Return what runs tasks in threads, one at a time."""
        return self._pool

    def callFromThread(  # noqa: N802
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """Have a call made in the reactor's thread."""
        if get_ident() == self._home:
            self.callLater(0, callable, *args, **kwargs)
        else:
            self._pool.callFromThread(callable, *args, **kwargs)
            self._from_thread(self._wake)

    # ----------------------------------------------------------------------- turns

    @property
    def busy(self) -> bool:
        """Whether something is left to do before time passes."""
        return bool(self._due()) or self._pool.busy

    def close(self) -> None:
        """Turn no more."""
        self.closed = True

    def _due(self) -> list[DelayedCall]:
        self.calls.sort(key=DelayedCall.getTime)  # a call that was put off stands where it stood
        return [call for call in self.calls if call.getTime() <= self.rightNow]

    def _wake(self) -> None:
        if not self._turning and not self.closed and self.busy:
            self._turning = True
            self._turns(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self.closed:
            return
        try:
            self._make_due()
            if self._pool.busy:
                self._pool.step(0 if self._due() else GLANCE)
        finally:
            self._wake()

    def _make_due(self) -> None:
        for call in self._due():
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def _next(self) -> float:
        return min((call.getTime() for call in self.calls), default=inf)

    # ----------------------------------------------------------------------- time

    def advance(self, amount: float) -> None:
        """Let time pass at once, for who takes this for no more than a ``Clock``; threads do nothing.

        As in ``pass_time`` each call is made at its time, and what it causes before time goes on.

        Args:
            amount: How many seconds; not negative.

        Raises:
            AssertionError: There is no end to what is to be done at some time.
            ValueError: It is negative.
        """
        if amount < 0:
            raise ValueError("time does not go backwards")
        end, turns = self.rightNow + amount, 0
        while (due := self._next()) <= end:
            turns = turns + 1 if due <= self.rightNow else 0
            if turns > MOST_TURNS:
                raise AssertionError(_endless())
            self.rightNow = max(self.rightNow, due)
            self._make_due()
        self.rightNow = max(self.rightNow, end)

    async def settle(self) -> None:
        """Wait until nothing is left to do.

        Raises:
            AssertionError: There is no end to it.
        """
        silence = 0
        for _ in range(MOST_TURNS):
            quiet = not self.busy
            silence = silence + 1 if self._pool.silent and not self._due() else 0
            if silence > MOST_SILENCE:
                raise AssertionError(
                    f"a thread has not ended in {silence * GLANCE:.0f} s: does it wait for time to pass, "
                    "which stands still while a thread is at work?"
                )
            await self._next_turn()  # what drives this may have brought something
            if quiet and not self.busy:
                return
        raise AssertionError(_endless())

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; whatever is due at one time is settled before time goes on.

        Args:
            seconds: How many; not negative.

        Raises:
            AssertionError: There is no end to what is to be done at some time.
        """
        end = self.rightNow + seconds
        await self.settle()
        while (due := self._next()) <= end:
            self.rightNow = max(self.rightNow, due)
            self._wake()
            await self.settle()
        self.rightNow = max(self.rightNow, end)

    def _next_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._turns(lambda: turn.callback(None))
        return turn


def _endless() -> str:
    return (
        f"there is something to do still after {MOST_TURNS} turns: does a message go round in circles, "
        "as one does that is requeued whenever it comes?"
    )


class _Pool(HandPool):
    """Threads whose turns are those of a clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    @property
    def busy(self) -> bool:
        """Whether a task is at work, or waits, or a thread wants something."""
        return self.at_work or bool(self.tasks) or self.called

    @property
    def silent(self) -> bool:
        """Whether a task is at work, and wants nothing."""
        return self.at_work and not self.called

    def callInThreadWithCallback(  # noqa: N802
        self, done: Callable[[bool, Any], object], call: Callable[..., Any], *args: Any, **options: Any
    ) -> None:
        """Keep a task until its turn."""
        super().callInThreadWithCallback(done, call, *args, **options)
        self._clock.callLater(0, lambda: None)
