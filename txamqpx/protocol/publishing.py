"""Publishes as bytes: the hot path of whoever sends much."""

from __future__ import annotations

from txamqpx.errors import EncodeError
from txamqpx.protocol.frames import BODY, END, METHOD, body_frames, frame, header_frame, pack_head
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import BasicPublish
from txamqpx.spec.base import Properties

__all__ = ["PublishFrames", "content_header"]

_END = bytes((END,))

# Below this a copy costs less than what it takes to carry three parts.
_WORTH_PARTS = 8192

# Method frames are kept per exchange and routing key; keys without end are not.
_MAX_KEPT = 512


def content_header(channel: int, class_id: int, properties: Properties, size: int, tuning: Tuning) -> bytes:
    """Return a content header frame.

    Raises:
        EncodeError: A property does not fit, or all together do not fit a frame: a header cannot be
            split, and the peer would close the connection (501).
    """
    header = header_frame(channel, class_id, properties.encode(), size)
    if tuning.frame_max and len(header) > tuning.frame_max:
        raise EncodeError(
            f"take {len(header)} bytes with the frame around them, frame_max is {tuning.frame_max}",
            f"{properties.name} properties",
        )
    return header


class PublishFrames:
    """Encodes the publishes of one channel; what was the same in the last one is not encoded again.

    Args:
        channel: The channel's number.
        tuning: The limits in force.
        payload_max: The largest payload of a frame.
    """

    __slots__ = ("_channel", "_header", "_methods", "_payload_max", "_properties", "_size", "_tuning")

    def __init__(self, channel: int, tuning: Tuning, payload_max: int) -> None:
        self._channel = channel
        self._tuning = tuning
        self._payload_max = payload_max
        self._methods: dict[tuple[str, str, bool], bytes] = {}
        self._properties: Properties | None = None
        self._size = -1
        self._header = b""

    def encode(
        self, body: bytes, exchange: str, routing_key: str, properties: Properties, mandatory: bool
    ) -> bytes | tuple[bytes, ...]:
        """Return the frames of one publish: method, header and bodies; a large one in parts.

        Raises:
            EncodeError: A name or a property does not fit.
        """
        method = self._methods.get((exchange, routing_key, mandatory))
        if method is None:
            method = self._method(exchange, routing_key, mandatory)
        size = len(body)
        if size != self._size or properties is not self._properties:
            self._remember(properties, size)
        if 0 < size <= self._payload_max:
            if size > _WORTH_PARTS:
                return method + self._header, body, _END
            return b"".join((method, self._header, body, _END))
        return b"".join((method, self._header, body_frames(self._channel, body, self._tuning.frame_max)))

    def _method(self, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        payload = BasicPublish(exchange, routing_key, mandatory).encode()
        if len(self._methods) >= _MAX_KEPT:
            self._methods.clear()
        kept = self._methods[exchange, routing_key, mandatory] = frame(METHOD, self._channel, payload)
        return kept

    def _remember(self, properties: Properties, size: int) -> None:
        header = content_header(self._channel, properties.class_id, properties, size, self._tuning)
        if 0 < size <= self._payload_max:
            header += pack_head(BODY, self._channel, size)
        self._header, self._properties, self._size = header, properties, size
