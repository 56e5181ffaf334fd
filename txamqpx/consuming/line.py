"""Deliveries that wait for their turn: in order, and equal keys one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Line"]

T = TypeVar("T")


class Line(Generic[T]):
    """A queue in which nobody is called while an equal of his is at work.

    Args:
        key: Tells who is equal; None: nobody is.
    """

    def __init__(self, key: Callable[[T], Hashable] | None = None) -> None:
        self._key = key
        self._ready: deque[T] = deque()
        # Of each key that is ready or at work, who comes after it.
        self._behind: dict[Hashable, deque[T]] = {}
        self._keys: dict[int, Hashable] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        yield from self._ready
        for behind in self._behind.values():
            yield from behind

    def put(self, item: T) -> None:
        """Let ``item`` wait.

        Raises:
            Exception: What the key's function raises, or TypeError for a key that cannot be hashed;
                then it does not wait.
        """
        if self._key is not None:
            key = self._key(item)
            behind = self._behind.get(key)
            self._keys[id(item)] = key
            if behind is not None:
                behind.append(item)
                self._size += 1
                return
            self._behind[key] = deque()
        self._ready.append(item)
        self._size += 1

    def call(self) -> T | None:
        """Take out who may begin; None if nobody may."""
        if not self._ready:
            return None
        self._size -= 1
        return self._ready.popleft()

    def done(self, item: T) -> None:
        """Take note that somebody who was called has ended: an equal of his may begin."""
        if id(item) not in self._keys:
            return
        key = self._keys.pop(id(item))
        behind = self._behind[key]
        if behind:
            self._ready.append(behind.popleft())
        else:
            del self._behind[key]

    def remove(self, which: Callable[[T], bool]) -> list[T]:
        """Take out all who wait and whom ``which`` names, whether they may begin or not."""
        removed = []
        for behind in self._behind.values():
            for item in [one for one in behind if which(one)]:
                behind.remove(item)
                del self._keys[id(item)]
                removed.append(item)
        for item in [one for one in self._ready if which(one)]:
            self._ready.remove(item)
            self.done(item)
            removed.append(item)
        self._size -= len(removed)
        return removed
