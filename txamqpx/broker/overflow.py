"""How much may lie in a queue, and who has to go if it is more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from txamqpx.broker.line import Ready
from txamqpx.broker.message import Entry, Message

__all__ = ["Limit"]


class Limit:
    """The most that may be ready in a queue.

    Args:
        count: How many messages; None: any number.
        weight: How many bytes in their bodies; None: any number.
        overflow: Who has to go: the oldest (``drop-head``) or the new one (``reject-publish``), which may be
            made a dead letter (``reject-publish-dlx``).

    Attributes:
        refuses: Whether a message that does not fit is refused.
        buries: Whether one that is refused becomes a dead letter.
        weighs: Whether the bytes matter.
    """

    __slots__ = ("_count", "_weight", "buries", "refuses", "weighs")

    def __init__(self, count: int | None, weight: int | None, overflow: str = "drop-head") -> None:
        self._count = count
        self._weight = weight
        self.refuses = overflow != "drop-head"
        self.buries = overflow == "reject-publish-dlx"
        self.weighs = weight is not None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Limit | None:
        """Return the limit that a queue's arguments set, if they set one."""
        count, weight = arguments.get("x-max-length"), arguments.get("x-max-length-bytes")
        if count is None and weight is None:
            return None
        return cls(count, weight, arguments.get("x-overflow", "drop-head"))

    def has_room(self, ready: Ready, message: Message) -> bool:
        """Return whether one more message fits."""
        if self._count is not None and len(ready) >= self._count:
            return False
        return self._weight is None or ready.weight + len(message.body) <= self._weight

    def excess(self, ready: Ready) -> list[Entry]:
        """Take out what is too much, from the head."""
        dropped = []
        while (self._count is not None and len(ready) > self._count) or (
            self._weight is not None and ready.weight > self._weight
        ):
            dropped.append(ready.popleft())
        return dropped
