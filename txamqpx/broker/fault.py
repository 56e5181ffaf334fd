"""A fault: what goes wrong, whether it has, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from twisted.internet.defer import Deferred, succeed

from txamqpx.broker.stream import method_index
from txamqpx.broker.tap import Tap
from txamqpx.broker.wire_log import BROKER, CLIENT
from txamqpx.spec.dialect import AMQP_0_9_1

__all__ = ["ALL", "NEXT", "Fault", "Scope", "Spot"]

#: Any connection: those that there are, and those to come.
ALL: Final = "all"
#: The next connection that is made, and no other.
NEXT: Final = "next"

#: Which connections a fault concerns.
Scope = Literal["all", "next"] | Tap


class Fault:
    """Something that goes wrong, now or later.

    Args:
        what: What it is, for people.
        on: Which connections it concerns.
        times: How often it strikes; None: until it is lifted.

    Attributes:
        what: What it is.
        on: Which connections it concerns; the next one becomes that connection.
        struck: How often it has.
        lifted: Whether it was taken back.
    """

    def __init__(self, what: str, on: Scope = ALL, times: int | None = 1) -> None:
        if times is not None and times < 1:
            raise ValueError("a fault strikes once at least")
        self.what = what
        self.on: Scope = on
        self.struck = 0
        self.lifted = False
        self._times = times
        self._waiting: list[Deferred[Fault]] = []
        self._undo: list[tuple[Tap | None, Callable[[], object]]] = []

    def __repr__(self) -> str:
        state = "lifted" if self.lifted else "over" if self.over else "active"
        return f"<Fault: {self.what}; {state}, struck {self.struck}x>"

    @property
    def over(self) -> bool:
        """Whether it will strike no more."""
        return self.lifted or (self._times is not None and self.struck >= self._times)

    def concerns(self, tap: Tap) -> bool:
        """Return whether it may strike a connection."""
        return not self.over and (self.on == ALL or self.on is tap)

    def strike(self) -> bool:
        """Note that it strikes; return False if it does so no more."""
        if self.over:
            return False
        self.struck += 1
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self)
        return True

    def when_struck(self) -> Deferred[Fault]:
        """Return a Deferred that fires with the fault once it has struck."""
        if self.struck:
            return succeed(self)
        deferred: Deferred[Fault] = Deferred(self._waiting.remove)
        self._waiting.append(deferred)
        return deferred

    def lift(self) -> None:
        """Take it back: it strikes no more, and what it holds up goes on; what it has broken is broken."""
        self.lifted = True
        undo, self._undo = self._undo, []
        for _, call in undo:
            call()

    def undo(self, call: Callable[[], object], tap: Tap | None = None) -> None:
        """Have something called when it is lifted, as long as a connection is there."""
        self._undo.append((tap, call))

    def forget(self, tap: Tap) -> None:
        """Forget a connection that is gone."""
        self._undo = [one for one in self._undo if one[0] is not tap]


class Spot:
    """Where in what is said a fault strikes, as a caller names it.

    Args:
        frame: The number of a frame.
        at: The name of a method.
        byte: The number of a byte.
        sent_by: Who says it.
    """

    def __init__(self, frame: int | None, at: str | None, byte: int | None, sent_by: str | None) -> None:
        self.method = 0 if at is None else method_index(at)
        self.frame = 1 if frame is None and at is not None else frame
        self.byte = byte or 0
        if self.frame is not None and self.frame < 1:
            raise ValueError("frames are counted from 1")
        if self.frame is None and self.byte < 0:
            raise ValueError("what has no end yet cannot be counted from there")
        self.sent_by = sent_by or self._sender(at)
        if self.sent_by not in (CLIENT, BROKER):
            raise ValueError(f"who says something is {CLIENT!r} or {BROKER!r}, not {sent_by!r}")
        which = f"frame {self.frame}" if at is None else f"{at} {self.frame}"
        self._text = f"at byte {self.byte}" if self.frame is None else f"at {which}, byte {self.byte},"

    def _sender(self, at: str | None) -> str:
        if at is None:
            return BROKER
        method = AMQP_0_9_1.by_name[at]
        if method.to_server and method.to_client:
            raise ValueError(f"{at} is said by both sides: sent_by={CLIENT!r} or sent_by={BROKER!r}?")
        return CLIENT if method.to_server else BROKER

    def __str__(self) -> str:
        return f"{self._text} of what the {self.sent_by} says"
