"""Make frames, a client's and a broker's, sharing no code with any client, so as to be a witness."""

from __future__ import annotations

import struct
from typing import Final

METHOD: Final = 1
FRAME_HEAD: Final = struct.Struct(">BHI")
PROPERTIES: Final = b"\x90\x00\x18application/octet-stream\x01"
"""The flags and values of content_type and delivery_mode, as the peers send them."""

LARGEST_BODY: Final = 131072 - 8

QUEUE = "flood-100000-16"
TAG = "ctag-1.1"
"""The first consumer tag that a channel of txamqpx gives out."""

CHUNK = 65536
"""What one read brings; Twisted's own transports read no more at once."""


def short(text: str) -> bytes:
    """Encode a short string."""
    data = text.encode()
    return bytes([len(data)]) + data


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Encode one frame."""
    return FRAME_HEAD.pack(kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """Encode a method frame from encoded arguments."""
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def publication(queue: str, body: bytes, channel: int = 1) -> bytes:
    """Encode everything that publishes one message to a queue through the default exchange."""
    pieces = [body[at : at + LARGEST_BODY] for at in range(0, len(body), LARGEST_BODY)]
    return (
        method(channel, 60, 40, b"\0\0" + short("") + short(queue) + b"\0")
        + frame(2, channel, struct.pack(">HHQ", 60, 0, len(body)) + PROPERTIES)
        + b"".join(frame(3, channel, piece) for piece in pieces)
    )


def long(data: bytes) -> bytes:
    """Encode a long string."""
    return struct.pack(">I", len(data)) + data


def delivery(tag: int, body: bytes, consumer_tag: str = TAG) -> bytes:
    """Return one basic.deliver with its content."""
    return (
        method(1, 60, 60, short(consumer_tag) + struct.pack(">QB", tag, 0) + short("") + short(QUEUE))
        + frame(2, 1, struct.pack(">HHQ", 60, 0, len(body)) + PROPERTIES)
        + frame(3, 1, body)
    )


def confirm(tag: int, multiple: bool) -> bytes:
    """Return one basic.ack of a broker."""
    return method(1, 60, 80, struct.pack(">QB", tag, multiple))


def confirms(count: int, batch: int, *, single: bool) -> list[tuple[int, bytes]]:
    """Return how a broker confirms so many publishes: how many at a time, and the bytes of that read."""
    answers = []
    for begin in range(1, count + 1, batch):
        end = min(begin + batch, count + 1)
        tags = range(begin, end) if single else range(end - 1, end)
        answers.append((end - begin, b"".join(confirm(tag, multiple=not single) for tag in tags)))
    return answers


def deliveries(count: int, size: int) -> list[bytes]:
    """Return many deliveries as a transport hands them out: cut without regard to frames."""
    body = b"x" * size
    read, found = b"", []
    for tag in range(1, count + 1):
        read += delivery(tag, body)
        while len(read) >= CHUNK:
            found.append(read[:CHUNK])
            read = read[CHUNK:]
    return [*found, read]


def payload(frames: bytes) -> bytes:
    """Return the payload of the first of these frames."""
    size = FRAME_HEAD.unpack_from(frames)[2]
    return frames[7 : 7 + size]


_CAPABILITIES = b"".join(short(name) + b"t\x01" for name in ("publisher_confirms", "basic.nack"))
_SERVER = short("capabilities") + b"F" + long(_CAPABILITIES)
HANDSHAKE: Final = (
    method(
        0,
        10,
        10,
        b"\0\x09"
        + long(short("capabilities") + b"F" + long(_CAPABILITIES))
        + long(b"PLAIN")
        + long(b"en_US"),
    )
    + method(0, 10, 30, struct.pack(">HIH", 2047, 131072, 0))
    + method(0, 10, 41, short(""))
)
"""All that a broker says until the connection is open: start, tune, open-ok."""

CHANNEL_OPENED: Final = method(1, 20, 11, long(b""))
CONFIRM_SELECTED: Final = method(1, 85, 11)
QOS_SET: Final = method(1, 60, 11)
CONSUMING: Final = method(1, 60, 21, short(TAG))
