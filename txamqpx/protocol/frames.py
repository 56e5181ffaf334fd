"""Frames: seven octets of head, a payload, and 0xCE (0-9-1 section 4.2.3)."""

from __future__ import annotations

import struct

from txamqpx.errors import NotAMQP, ProtocolVersionMismatch, RemoteProtocolError

__all__ = [
    "BODY",
    "END",
    "HEADER",
    "HEARTBEAT",
    "HEARTBEAT_FRAME",
    "METHOD",
    "OVERHEAD",
    "FrameReader",
    "Silent",
    "body_frames",
    "check_end",
    "check_greeting",
    "frame",
    "header_frame",
    "pack_head",
    "unpack_head",
]

METHOD = 1
HEADER = 2
BODY = 3
HEARTBEAT = 8  # section 4.2.3's own figure, 4, is an error that nobody ever followed
END = 0xCE
OVERHEAD = 8  # head and end

_END = bytes((END,))
_head = struct.Struct(">BHI")
_content_head = struct.Struct(">BHIHHQ")

pack_head = _head.pack
unpack_head = _head.unpack_from

HEARTBEAT_FRAME = pack_head(HEARTBEAT, 0, 0) + _END


class Silent(RemoteProtocolError):
    """A breach after which section 4.2.3 forbids to send anything more: the framing itself is lost."""


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return one frame."""
    return b"".join((pack_head(kind, channel, len(payload)), payload, _END))


def header_frame(channel: int, class_id: int, properties: bytes, size: int) -> bytes:
    """Return the content header frame that announces ``size`` bytes of body."""
    return _content_head.pack(HEADER, channel, 12 + len(properties), class_id, 0, size) + properties + _END


def body_frames(channel: int, body: bytes, frame_max: int) -> bytes:
    """Return ``body`` in as many frames as it takes: none at all for an empty one.

    A ``frame_max`` of 0 still cuts, at 128 KiB, so that other channels get their turn at the peer.
    """
    room = (frame_max or 131072) - OVERHEAD
    size = len(body)
    if size <= room:
        return b"".join((pack_head(BODY, channel, size), body, _END)) if size else b""
    pieces: list[bytes] = []
    for start in range(0, size, room):
        piece = body[start : start + room]
        pieces += (pack_head(BODY, channel, len(piece)), piece, _END)
    return b"".join(pieces)


class FrameReader:
    """Keeps the beginning of a frame whose end has not arrived.

    Whatever the split, a byte is copied at most twice, and a large body only once: pieces are kept as
    they came and joined when the last one is there.
    """

    __slots__ = ("_kind", "_number", "_pieces", "_rest", "missing", "pending")

    def __init__(self) -> None:
        #: How many bytes are kept.
        self.pending = 0
        self._rest = b""
        self._pieces: list[bytes] = []
        self._kind = 0
        self._number = 0
        #: How many bytes of the frame that was begun are to come, if its head is there.
        self.missing = 0

    def keep(self, data: bytes, offset: int) -> None:
        """Keep what is left of ``data`` from ``offset`` on: the beginning of one frame, or nothing."""
        self.pending = len(data) - offset
        if self.pending < 7:
            self._rest = data[offset:]
        else:
            self._kind, self._number, length = unpack_head(data, offset)
            self._pieces = [data[offset + 7 :]]
            self.missing = length + OVERHEAD - self.pending

    def hold(self, data: bytes) -> None:
        """Keep ``data``, which is less than can be understood."""
        self._rest = data
        self.pending = len(data)

    def begun(self) -> bytes:
        """Return what is kept, as it came."""
        if not self._pieces:
            return self._rest
        length = self.pending + self.missing - OVERHEAD
        return b"".join((pack_head(self._kind, self._number, length), *self._pieces))

    def prepend(self, data: bytes) -> bytes:
        """Return ``data`` behind what was kept, if that was less than a frame's head."""
        if self._rest:
            data, self._rest, self.pending = self._rest + data, b"", 0
        return data

    def fill(self, data: bytes) -> int:
        """Add ``data`` to the frame that was begun; return how much it took of it, 0 if it wants more.

        Raises:
            Silent: The frame is complete and does not end in 0xCE.
        """
        missing = self.missing
        if len(data) < missing:
            self._pieces.append(data)
            self.missing -= len(data)
            self.pending += len(data)
            return 0
        check_end(data[missing - 1])
        self._pieces.append(data[: missing - 1])
        self.pending = 0
        return missing

    def take(self) -> tuple[int, int, bytes]:
        """Return type, channel and payload of the frame that is complete now."""
        pieces, self._pieces = self._pieces, []
        return self._kind, self._number, b"".join(pieces)


def check_end(octet: int) -> None:
    """Check a frame's last octet (section 4.2.3), before anything in the frame is believed.

    Raises:
        Silent: It is not 0xCE; what follows cannot be told apart any more.
    """
    if octet != END:
        raise Silent(f"a frame ends in {octet:#04x} instead of {END:#04x}", reply_code=501)


def check_greeting(data: bytes) -> None:
    """Check the first bytes of a server, which has to begin with a method frame on channel 0.

    Args:
        data: What came so far, at least one byte.

    Raises:
        ProtocolVersionMismatch: It sent a protocol header: it speaks another version (section 4.2.2).
        NotAMQP: It is no AMQP server; the text says what it looks like.
    """
    first = data[:8]
    if first[0] == METHOD or (first[0] == ord("A") and b"AMQP".startswith(first[:4]) and len(first) < 8):
        return
    if first.startswith(b"AMQP"):
        raise ProtocolVersionMismatch(bytes(first))
    if first[0] in (0x15, 0x16):  # a TLS alert, or a handshake
        raise NotAMQP("the server speaks TLS on this port: use amqps, or its plain port")
    if b"HTTP/".startswith(first[:5]):
        raise NotAMQP("the server speaks HTTP on this port")
    raise NotAMQP(f"what answers is no AMQP server, its first bytes are {bytes(first)!r}")
