"""Messages for clients as bytes, as their publishers have encoded them: the hot path of a broker."""

from __future__ import annotations

import struct

from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.frames import BODY, END, METHOD, OVERHEAD, body_frames, frame, header_frame, pack_head
from txamqpx.spec.amqp0_9_1 import BasicDeliver
from txamqpx.spec.base import Method
from txamqpx.spec.wire import encode_short_string

__all__ = ["DeliverFrames", "hand_over"]

_pack_head = struct.Struct(">BHII").pack
_pack_tag = struct.Struct(">QB").pack

_END = bytes((END,))

# Below this a copy costs less than what it takes to carry parts.
_WORTH_PARTS = 8192

# Heads and tails of method frames are kept per consumer and target; routing keys without end are not.
_MAX_KEPT = 512


def hand_over(core: ChannelCore, method: Method, header: bytes, body: bytes) -> None:
    """Write a message that comes with another method than ``basic.deliver``.

    Args:
        core: The channel, which is open.
        method: The method.
        header: The message's properties in their encoded form: who gets them is not to blame for them.
        body: Its body.
    """
    number, connection = core.number, core.connection
    head = frame(METHOD, number, method.encode()) + header_frame(number, 60, header, len(body))
    connection.outbox.append(head + body_frames(number, body, connection.tuning.frame_max))


class DeliverFrames:
    """Writes the deliveries of one channel; what was the same in the last one is not encoded again.

    Args:
        core: The channel, which is open.
    """

    __slots__ = ("_channel", "_core", "_frame_max", "_header", "_kept", "_lead", "_room", "_size")

    def __init__(self, core: ChannelCore) -> None:
        self._core = core
        self._channel = core.number
        self._frame_max = core.connection.tuning.frame_max
        self._room = (self._frame_max or 131072) - OVERHEAD
        self._kept: dict[tuple[str, str, str], tuple[bytes, bytes]] = {}
        self._header: bytes | None = None
        self._size = -1
        self._lead = b""

    def send(
        self,
        consumer_tag: str,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
    ) -> None:
        """Write one.

        Args:
            consumer_tag: Whom it is for.
            delivery_tag: By what it will be settled.
            redelivered: Whether it may have been given out before.
            exchange: Where it was published to.
            routing_key: With what.
            header: Its properties in their encoded form.
            body: Its body.
        """
        kept = self._kept.get((consumer_tag, exchange, routing_key))
        if kept is None:
            kept = self._keep(consumer_tag, exchange, routing_key)
        size = len(body)
        if size != self._size or header != self._header:
            self._lead = header_frame(self._channel, 60, header, size)
            if 0 < size <= self._room:
                self._lead += pack_head(BODY, self._channel, size)
            self._header, self._size = header, size
        front = b"".join((kept[0], _pack_tag(delivery_tag, redelivered), kept[1], self._lead))
        outbox = self._core.connection.outbox
        if 0 < size <= self._room:
            if size > _WORTH_PARTS:
                outbox.append((front, body, _END), len(front) + size + 1)
            else:
                outbox.append(b"".join((front, body, _END)))
        else:
            outbox.append(front + body_frames(self._channel, body, self._frame_max))

    def _keep(self, consumer_tag: str, exchange: str, routing_key: str) -> tuple[bytes, bytes]:
        before = encode_short_string(consumer_tag)
        after = encode_short_string(exchange) + encode_short_string(routing_key)
        length = 4 + len(before) + 9 + len(after)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        head = _pack_head(METHOD, self._channel, length, BasicDeliver.index) + before
        kept = self._kept[consumer_tag, exchange, routing_key] = head, after + _END
        return kept
