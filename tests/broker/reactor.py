"""A reactor's time, in the hands of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
class Reactor:
    """A reactor's time: a turn makes it pass, and what a call asks for waits for the next turn."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[DelayedCall] = []
        self.asked = 0

    def seconds(self) -> float:
        return self.now

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        self.asked += 1
        call = DelayedCall(
            self.now + delay, callable, args, kw, self.calls.remove, lambda _: None, self.seconds
        )
        self.calls.append(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        return self.calls

    def turn(self, seconds: float = 0) -> None:
        self.now += seconds
        for call in sorted(self.calls, key=lambda call: call.getTime()):
            if call.active() and call.getTime() <= self.now:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
