"""Messages that are ready in a quorum queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from txamqpx.broker.line import Line, PriorityLine, Ready, WeighedLine
from txamqpx.broker.message import Entry

__all__ = ["QuorumLine"]

_HIGHEST = 31
_USUAL = 4


class QuorumLine:
    """What came back first, in the order in which it did, and then what has not been given out before.

    Args:
        priorities: Whether a message's priority counts.
        weighed: Whether anybody minds how many bytes there are.
    """

    __slots__ = ("_fresh", "_returned")

    def __init__(self, *, priorities: bool, weighed: bool) -> None:
        self._returned = WeighedLine() if weighed else Line()
        self._fresh: Ready = WeighedLine() if weighed else Line()
        if priorities:
            self._fresh = PriorityLine(_HIGHEST, _USUAL, weighed=weighed)

    @property
    def weight(self) -> int:
        """How many bytes all bodies have."""
        return self._returned.weight + self._fresh.weight

    def __len__(self) -> int:
        return len(self._returned) + len(self._fresh)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._returned
        yield from self._fresh

    def __getitem__(self, index: int, /) -> Entry:
        return (self._returned or self._fresh)[index]

    def append(self, entry: Entry, /) -> None:
        """Take a new one."""
        self._fresh.append(entry)

    def popleft(self) -> Entry:
        """Take out the first one."""
        return (self._returned or self._fresh).popleft()

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take some back, behind those that came back before."""
        for entry in entries:
            self._returned.append(entry)

    def clear(self) -> None:
        """Drop all."""
        self._returned.clear()
        self._fresh.clear()
