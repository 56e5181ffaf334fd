"""Messages that are ready, in the order in which they are to be given out."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Protocol

from txamqpx.broker.message import Entry

__all__ = ["Line", "PriorityLine", "Ready", "WeighedLine"]

_position = attrgetter("position")

# So many are put back one by one; more are merged with what stands before the last of them.
_FEW = 20

# The flag of that property, in the first octet of the flags.
_PRIORITY = 0x08


class Ready(Protocol):
    """A line, whatever its order."""

    @property
    def weight(self) -> int:
        """How many bytes all bodies have; 0 if nobody minds."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Entry]: ...

    def __getitem__(self, index: int, /) -> Entry:
        """Return the first one, for ``index`` 0."""

    def append(self, entry: Entry, /) -> None:
        """Take one at the end."""

    def popleft(self) -> Entry:
        """Take out the first one."""

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take some back to the places that they had."""

    def clear(self) -> None:
        """Drop all."""


class Line(deque[Entry]):
    """First come, first served."""

    __slots__ = ()

    weight = 0

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take some back to the places that they had, which are seldom far from the head."""
        back = sorted(entries, key=_position)
        if len(back) <= _FEW:  # or each of many that come one by one would move all that came before
            for entry in back:
                insort(self, entry, key=_position)
            return
        last = back[-1].position
        while self and self[0].position < last:
            back.append(deque.popleft(self))
        back.sort(key=_position)
        self.extendleft(reversed(back))


class WeighedLine(Line):
    """A line that knows how many bytes stand in it."""

    __slots__ = ("weight",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0

    def append(self, entry: Entry, /) -> None:
        """Take one at the end."""
        self.weight += len(entry.message.body)
        super().append(entry)

    def popleft(self) -> Entry:
        """Take out the first one."""
        entry = super().popleft()
        self.weight -= len(entry.message.body)
        return entry

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take some back to the places that they had."""
        back = list(entries)
        self.weight += sum(len(entry.message.body) for entry in back)
        super().restore(back)

    def clear(self) -> None:
        """Drop all."""
        self.weight = 0
        super().clear()


class PriorityLine:
    """Those of the highest priority first, and equals in turn.

    Args:
        highest: What a higher priority counts as.
        default: What none counts as.
        weighed: Whether anybody minds how many bytes there are.
    """

    __slots__ = ("_count", "_default", "_highest", "_lines", "_top")

    def __init__(self, highest: int, default: int = 0, *, weighed: bool = False) -> None:
        self._highest = highest
        self._default = default
        self._lines: list[Line] = [WeighedLine() if weighed else Line() for _ in range(highest + 1)]
        # Nothing is above it.
        self._top = 0
        self._count = 0

    @property
    def weight(self) -> int:
        """How many bytes all bodies have."""
        return sum(line.weight for line in self._lines)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        for line in reversed(self._lines):
            yield from line

    def __getitem__(self, index: int, /) -> Entry:
        return self._first()[index]

    def append(self, entry: Entry, /) -> None:
        """Take one at the end of those of its priority."""
        level = self._level(entry)
        self._lines[level].append(entry)
        self._top = max(self._top, level)
        self._count += 1

    def popleft(self) -> Entry:
        """Take out the first one."""
        entry = self._first().popleft()
        self._count -= 1
        return entry

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take some back to the places that they had."""
        levels: dict[int, list[Entry]] = {}
        for entry in entries:
            levels.setdefault(self._level(entry), []).append(entry)
        for level, back in levels.items():
            self._lines[level].restore(back)
            self._top = max(self._top, level)
            self._count += len(back)

    def clear(self) -> None:
        """Drop all."""
        for line in self._lines:
            line.clear()
        self._count = 0

    def _level(self, entry: Entry) -> int:
        message = entry.message
        if not message.header[0] & _PRIORITY:  # most have none, and need not be decoded for that
            return self._default
        return min(message.properties.priority or 0, self._highest)

    def _first(self) -> Line:
        lines = self._lines
        while self._top and not lines[self._top]:
            self._top -= 1
        return lines[self._top]
