"""Deliveries whose properties no decent client writes."""

from __future__ import annotations

import struct

from txamqpx.protocol.frames import BODY, HEADER, METHOD, frame
from txamqpx.spec.amqp0_9_1 import BasicDeliver
from txamqpx.testing import ScriptedPeer


def deliver_raw(
    peer: ScriptedPeer, channel: int, consumer_tag: str, delivery_tag: int, properties: bytes
) -> None:
    """Send a ``basic.deliver`` with these bytes as its properties, flags and all."""
    method = BasicDeliver(consumer_tag, delivery_tag, False, "", "q").encode()
    header = struct.pack(">HHQ", 60, 0, 1) + properties
    pieces = ((METHOD, method), (HEADER, header), (BODY, b"x"))
    peer.write(b"".join(frame(kind, channel, payload) for kind, payload in pieces))
