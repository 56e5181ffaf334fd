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
    """Keeps the bytes of a frame that has not arrived in full.

    Whatever the split, each byte is copied at most twice: a partial frame grows in place and
    nothing looks at it again until it can be whole.
    """

    __slots__ = ("_needed", "_partial")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._needed = 0

    @property
    def pending(self) -> int:
        """How many bytes of an incomplete frame are waiting."""
        return len(self._partial)

    def feed(self, data: bytes) -> bytes:
        """Return what can be read now: ``data`` with what was kept before it, or nothing yet."""
        if not self._partial:
            return data
        self._partial += data
        if len(self._partial) < self._needed:
            return b""
        whole = bytes(self._partial)
        self._partial.clear()
        return whole

    def keep_greeting(self, data: bytes) -> None:
        """Keep the beginning of a protocol header, which is no frame."""
        self._partial += data
        self._needed = 0

    def keep(self, data: bytes, offset: int) -> None:
        """Keep what is left of ``data`` from ``offset`` on: the beginning of a frame, or nothing."""
        left = len(data) - offset
        if left:
            self._partial += data[offset:] if offset else data
            self._needed = OVERHEAD if left < 7 else OVERHEAD + unpack_head(data, offset)[2]


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
