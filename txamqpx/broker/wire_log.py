"""What went over the wire, in lines for people: kept as bytes, and read only when somebody asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from txamqpx.errors import DecodeError
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT, METHOD, OVERHEAD, unpack_head
from txamqpx.spec.dialect import AMQP_0_9_1

__all__ = ["CLIENT", "BROKER", "WireLine", "WireLog"]

#: Who says something.
CLIENT = "client"
BROKER = "broker"

#: How many bytes are kept.
MOST = 1024 * 1024

# What a piece costs besides its bytes, so that many small ones are bounded as well.
_PIECE = 200

# A line is for the eye.
_LONGEST = 400


@frozen
class WireLine:
    """One frame.

    Attributes:
        time: When it passed, by the broker's clock.
        connection: The number of the connection.
        sent_by: ``"client"`` or ``"broker"``.
        channel: The number of the channel.
        text: What it says: the method and its arguments, but for credentials; of content only the
            properties and sizes.
    """

    time: float
    connection: int
    sent_by: str
    channel: int
    text: str

    def __str__(self) -> str:
        arrow = "->" if self.sent_by == CLIENT else "<-"
        return f"{self.time:.3f} #{self.connection}/{self.channel} {arrow} {self.text}"


@frozen
class _Piece:
    time: float
    connection: int
    sent_by: str
    whole: bool
    data: Sequence[bytes]
    size: int


class WireLog:
    """The last frames of all connections.

    Args:
        seconds: Tells the time.
        most: How many bytes are kept.
    """

    def __init__(self, seconds: Callable[[], float], most: int = MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._pieces: deque[_Piece] = deque()
        self._size = 0
        #: Whether older frames were forgotten.
        self.cut = False

    def __repr__(self) -> str:
        return f"<WireLog, {self._size} bytes>"

    def note(self, connection: int, sent_by: str, whole: bool, data: Sequence[bytes]) -> None:
        """Keep what passes.

        Args:
            connection: Where.
            sent_by: Who says it.
            whole: Whether it begins with a frame, and not in the midst of one.
            data: The bytes.
        """
        size = sum(map(len, data)) + _PIECE
        self._pieces.append(_Piece(self._seconds(), connection, sent_by, whole, data, size))
        self._size += size
        while self._size > self._most and len(self._pieces) > 1:
            self._size -= self._pieces.popleft().size
            self.cut = True

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._size = 0
        self.cut = False

    def __iter__(self) -> Iterator[WireLine]:
        """Read it, oldest first."""
        rests: dict[tuple[int, str], bytes] = {}
        for piece in list(self._pieces):
            key = piece.connection, piece.sent_by
            if key not in rests and not piece.whole:
                continue  # the beginning of the frame was forgotten
            data = rests.get(key, b"") + b"".join(piece.data)
            read = 0
            for channel, text, end in _frames(data):
                yield WireLine(piece.time, piece.connection, piece.sent_by, channel, text)
                read = end
            rests[key] = data[read:]

    def __str__(self) -> str:
        lines = [str(line) for line in self]
        return "\n".join(["... older frames are forgotten", *lines] if self.cut else lines)


def _frames(data: bytes) -> Iterator[tuple[int, str, int]]:
    """Yield the channel, the text and the end of each frame that is complete."""
    offset = 0
    while len(data) - offset >= 7:
        if data.startswith(b"AMQP", offset):
            if len(data) - offset < 8:
                return
            offset += 8
            yield 0, f"AMQP {'-'.join(map(str, data[offset - 4 : offset]))}", offset
            continue
        kind, channel, length = unpack_head(data, offset)
        start, offset = offset + 7, offset + length + OVERHEAD
        if offset > len(data):
            return
        yield channel, _shortened(_describe(kind, data[start : offset - 1])), offset


def _describe(kind: int, payload: bytes) -> str:
    try:
        if kind == METHOD:
            method = AMQP_0_9_1.methods.get(int.from_bytes(payload[:4], "big"))
            if method is not None:
                return repr(method.decode(payload, 4, len(payload)))
        elif kind == HEADER:
            size = int.from_bytes(payload[4:12], "big")
            properties = AMQP_0_9_1.properties[60].decode(payload, 12, len(payload))
            return f"header: a body of {size} bytes, {properties!r}"
        elif kind == BODY:
            return f"body: {len(payload)} bytes"
        elif kind == HEARTBEAT:
            return "heartbeat"
    except DecodeError:
        pass
    # Not shown: nobody knows whether there is a password in it.
    return f"a frame of type {kind} that cannot be read, {len(payload)} bytes"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
