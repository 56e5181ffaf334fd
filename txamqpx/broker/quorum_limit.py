"""How much may lie in a quorum queue."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

from txamqpx.broker.line import Ready
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.overflow import Limit

__all__ = ["QuorumLimit"]

# A queue that has refused takes messages again when no more than this share of the limit is left.
_LOW = 0.8


class QuorumLimit(Limit):
    """The most that may be ready in a quorum queue.

    One that refuses notices too late that it is full, and refuses until there is much room again.

    Args:
        count: How many messages; None: any number.
        weight: How many bytes in their bodies; None: any number.
        overflow: Who has to go; what it does not know means the oldest.
        waiting: What is not ready but counts.
    """

    __slots__ = ("_full", "_waiting")

    def __init__(self, count: int | None, weight: int | None, overflow: str, waiting: Sized) -> None:
        super().__init__(count, weight, overflow if overflow == "reject-publish" else "drop-head")
        self._waiting = waiting
        self._full = False

    @classmethod
    def beside(cls, waiting: Sized, arguments: Mapping[str, Any]) -> QuorumLimit | None:
        """Return the limit that a queue's arguments set, if they set one."""
        count, weight = arguments.get("x-max-length"), arguments.get("x-max-length-bytes")
        if count is None and weight is None:
            return None
        return cls(count, weight, arguments.get("x-overflow", "drop-head"), waiting)

    def has_room(self, ready: Ready, message: Message) -> bool:
        """Return whether one more message is taken."""
        self._full = self._full and self._exceeds(ready, _LOW)
        return not self._full

    def excess(self, ready: Ready) -> list[Entry]:
        """Take out what is too much, from the head; or note that it is, if nothing is taken out."""
        if self.refuses:
            self._full = self._full or self._exceeds(ready, 1)
            return []
        dropped = []
        while ready and self._exceeds(ready, 1):
            dropped.append(ready.popleft())
        return dropped

    def _exceeds(self, ready: Ready, share: float) -> bool:
        count, weight = self._count, self._weight
        if count is not None and len(ready) + len(self._waiting) > int(count * share):
            return True
        return weight is not None and ready.weight > int(weight * share)
