"""What waits to be written: whole frames, a content never apart from its method (section 4.2.6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Outbox"]


class Outbox:
    """Pieces of output in their order, each one or more whole frames.

    Args:
        most: How many bytes may wait.
        wake: Called when nothing waits and something is about to.
    """

    __slots__ = ("_pieces", "_urgent", "appended", "most", "size", "taken", "wake")

    def __init__(self, most: int, wake: Callable[[], object]) -> None:
        self.most = most
        self.wake = wake
        #: How many bytes wait.
        self.size = 0
        #: How many pieces were ever appended, and how many of them were taken: what lies between never
        #: came near the transport.
        self.appended = 0
        self.taken = 0
        self._pieces: deque[bytes] = deque()
        self._urgent: list[bytes] = []

    def append(self, frames: bytes) -> None:
        """Append whole frames."""
        pieces = self._pieces
        if not pieces:
            self.wake()
        pieces.append(frames)
        self.size += len(frames)
        self.appended += 1

    def append_urgent(self, frames: bytes) -> None:
        """Append frames of channel 0 that must not wait behind megabytes."""
        self._urgent.append(frames)

    def __bool__(self) -> bool:
        return bool(self._pieces or self._urgent)

    def take(self, most: int | None = None) -> list[bytes]:
        """Take the urgent ones, then pieces until ``most`` bytes are passed."""
        taken, self._urgent = self._urgent, []
        pieces = self._pieces
        if most is None or self.size <= most:
            self.taken += len(pieces)
            taken += pieces
            pieces.clear()
            self.size = 0
            return taken
        size = 0
        while size < most and pieces:
            piece = pieces.popleft()
            size += len(piece)
            taken.append(piece)
            self.taken += 1
        self.size -= size
        return taken
