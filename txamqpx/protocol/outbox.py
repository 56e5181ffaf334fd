"""What waits to be written: whole frames, a content never apart from its method (section 4.2.6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["HIGH_WATER", "Outbox"]

# When more waits, whoever publishes does better to wait.
HIGH_WATER = 1024 * 1024


class Outbox:
    """Pieces of output in their order, each one or more whole frames.

    Args:
        most: How many bytes may wait.
        wake: Called when nothing waits and something is about to.
    """

    __slots__ = (
        "_late",
        "_pieces",
        "_split",
        "_urgent",
        "appended",
        "high_water",
        "most",
        "size",
        "taken",
        "wake",
    )

    def __init__(self, most: int, wake: Callable[[], object]) -> None:
        self.most = most
        #: How many bytes may wait before a publisher does better to wait: well before any is refused.
        self.high_water = min(HIGH_WATER, most // 2)
        self.wake = wake
        #: How many bytes wait.
        self.size = 0
        #: How many pieces were ever appended, and how many of them were taken: what lies between never
        #: came near the transport.
        self.appended = 0
        self.taken = 0
        self._pieces: deque[bytes | tuple[bytes, ...]] = deque()
        # How many of them are in parts.
        self._split = 0
        self._urgent: list[bytes] = []
        self._late: list[Callable[[], bytes]] = []

    def append(self, frames: bytes | tuple[bytes, ...], size: int | None = None) -> None:
        """Append whole frames, or the parts of them: joining a large body would copy it for nothing.

        Args:
            frames: The bytes.
            size: How many they are; needed for parts.
        """
        pieces = self._pieces
        if not pieces:
            self.wake()
        pieces.append(frames)
        if type(frames) is tuple:
            self._split += 1
        self.size += len(frames) if size is None else size
        self.appended += 1

    def append_urgent(self, frames: bytes) -> None:
        """Append frames of channel 0 that must not wait behind megabytes; what waits is not repeated."""
        if frames not in self._urgent:  # a peer that stops reading for hours needs one heartbeat afterwards
            self._urgent.append(frames)

    def append_last(self, make: Callable[[], bytes]) -> None:
        """Have ``make`` called for frames when the next bytes are taken: it may say less by then."""
        if not self._late and not self._pieces:
            self.wake()
        self._late.append(make)

    def gather(self) -> None:
        """Append now what was to come last: something follows that must not overtake it."""
        late, self._late = self._late, []
        for make in late:
            frames = make()
            if frames:
                self.append(frames)

    def discard(self) -> None:
        """Forget what waits, but for the urgent: nobody will hear it any more."""
        self._late.clear()
        self._pieces.clear()
        self._split = self.size = 0

    def __bool__(self) -> bool:
        return bool(self._pieces or self._urgent or self._late)

    def take(self, most: int | None = None) -> list[bytes]:
        """Take the urgent ones, then pieces until ``most`` bytes are passed."""
        if self._late:
            self.gather()
        taken, self._urgent = self._urgent, []
        pieces = self._pieces
        if not self._split and (most is None or self.size <= most):
            self.taken += len(pieces)
            taken += pieces  # type: ignore[arg-type]  # none of them is in parts
            pieces.clear()
            self.size = 0
            return taken
        size = 0
        while pieces and (most is None or size < most):
            piece = pieces.popleft()
            if type(piece) is tuple:
                self._split -= 1
                taken += piece
                size += sum(map(len, piece))
            else:
                assert type(piece) is bytes
                taken.append(piece)
                size += len(piece)
            self.taken += 1
        self.size -= size
        return taken
