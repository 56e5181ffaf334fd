"""Frames in a stream of bytes that comes cut anywhere, and the places in it where something is to happen."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from txamqpx.protocol.frames import METHOD, OVERHEAD, unpack_head
from txamqpx.spec.dialect import AMQP_0_9_1

__all__ = ["FrameScanner", "Place", "Seen", "Stream", "method_index"]

# "AMQP" and four numbers: what a client says first, and a server to who speaks something else.
_HEADER = ord("A")
_HEADER_SIZE = 8

# As much as tells a method: the head, and the numbers of class and method.
_METHOD_HEAD = 11


def method_index(name: str) -> int:
    """Return the index of the method called ``name``, such as ``"basic.ack"``.

    Raises:
        ValueError: There is none.
    """
    method = AMQP_0_9_1.by_name.get(name)
    if method is None:
        raise ValueError(f"there is no method {name!r}; they are called as in the specification: 'basic.ack'")
    return method.index


@frozen
class Seen:
    """A frame that has begun to come.

    Attributes:
        start: How many bytes of the stream are before it.
        size: How many it has.
        method: Its index; 0: it is no method.
    """

    start: int
    size: int
    method: int


class FrameScanner:
    """Finds the frames of a stream by their heads, and looks no further.

    Args:
        begun: What has come of a frame already.

    Attributes:
        seen: How many bytes have come, ``begun`` among them.
    """

    def __init__(self, begun: bytes = b"") -> None:
        self.seen = 0
        self._next = 0
        self._head = b""
        self._begun = False
        for _ in self.feed(begun):
            pass  # it had begun before anybody looked
        self._begun = bool(self._head)

    @property
    def unclear(self) -> int:
        """How many bytes, at the end of what has come, begin a frame that cannot be told yet."""
        return len(self._head)

    def feed(self, data: bytes) -> Iterator[Seen]:
        """Take bytes, and yield the frames that begin in them."""
        base = self.seen - len(self._head)
        self.seen += len(data)
        data = self._head + data
        position = self._next - base
        while (rest := len(data) - position) > 0:
            if data[position] == _HEADER:
                position += _HEADER_SIZE
                continue
            if rest < 7 or (data[position] == METHOD and rest < _METHOD_HEAD):
                break
            kind, _, length = unpack_head(data, position)
            method = (
                int.from_bytes(data[position + 7 : position + _METHOD_HEAD], "big") if kind == METHOD else 0
            )
            if not self._begun:
                yield Seen(base + position, length + OVERHEAD, method)
            self._begun = False
            position += length + OVERHEAD
        self._next = base + position
        self._head = data[position:]


class Place:
    """A place in a stream: at the nth frame from now, or at the nth of a method, or at a byte.

    Args:
        frame: The number of the frame, from 1; None: it is not about frames.
        method: Which frames count, by their index; 0: all.
        byte: With a frame, how many of its bytes come before the place, counted from its end if it is
            negative; without, how many bytes of the stream.

    Attributes:
        at: How many bytes of the stream come before it, once that is known.
    """

    def __init__(self, frame: int | None, method: int, byte: int) -> None:
        self._left = frame
        self._method = method
        self._byte = byte
        self.at: int | None = None

    def start(self, seen: int) -> None:
        """Count from here on: ``seen`` bytes are over."""
        if self._left is None:
            self.at = seen + self._byte

    def look(self, frame: Seen) -> None:
        """Look at a frame that has begun to come."""
        if self._left and self._method in (0, frame.method):
            self._left -= 1
            if not self._left:
                self.at = frame.start + self._byte + (frame.size if self._byte < 0 else 0)


class Stream:
    """One direction of a connection, as long as something is to happen in it.

    Args:
        begun: What has come of a frame already.
    """

    def __init__(self, begun: bytes = b"") -> None:
        self.places: list[Place] = []
        self._scanner = FrameScanner(begun)
        self._held = b""

    @property
    def idle(self) -> bool:
        """Whether nothing is to happen any more, and nothing is held back."""
        return not self.places and not self._held

    def add(self, place: Place) -> None:
        """Let something happen at a place."""
        place.start(self._scanner.seen)
        self.places.append(place)

    def feed(self, data: bytes) -> tuple[bytes, list[tuple[int, Place]]]:
        """Take what comes.

        Returns:
            What goes on, which begins with what was held back and lacks the beginning of a frame that cannot
            be told yet; and the places that are in it, in their order, with the bytes of it before each.
        """
        data, before = self._held + data, self._scanner.seen - len(self._held)
        for frame in self._scanner.feed(data[len(self._held) :]):
            for place in self.places:
                place.look(frame)
        end = max(0, len(data) - self._scanner.unclear) if self.places else len(data)
        data, self._held = data[:end], data[end:]
        found = [
            (place.at - before, place)
            for place in self.places
            if place.at is not None and place.at < before + end
        ]
        for _, place in found:
            self.places.remove(place)
        return data, sorted(found, key=lambda one: one[0])
