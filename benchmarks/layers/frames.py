"""The frames: one publish to bytes, and one delivery from bytes, with the codec below them, against pamqp."""

from __future__ import annotations

from benchmarks import wire
from benchmarks.case import LARGE
from benchmarks.layers import Work, layer

SIZES = (16, LARGE)


@layer("frames: write a publish", sizes=SIZES)
def _write(size: int, count: int) -> Work:
    from txamqpx.protocol.frames import METHOD, body_frames, frame, header_frame
    from txamqpx.spec.amqp0_9_1 import BasicProperties, BasicPublish

    properties = BasicProperties(content_type="application/octet-stream", delivery_mode=1)
    body = b"x" * size
    expected = len(wire.publication(wire.QUEUE, body))

    def work() -> int:
        return sum(
            len(
                frame(METHOD, 1, BasicPublish("", wire.QUEUE, True).encode())
                + header_frame(1, 60, properties.encode(), size)
                + body_frames(1, body, 131072)
            )
            == expected
            for _ in range(count)
        )

    return work


@layer("frames: write a publish", "pamqp", SIZES)
def _write_with_pamqp(size: int, count: int) -> Work:
    from pamqp.body import ContentBody
    from pamqp.commands import Basic
    from pamqp.frame import marshal
    from pamqp.header import ContentHeader

    properties = Basic.Properties(content_type="application/octet-stream", delivery_mode=1)
    body = b"x" * size
    expected = len(wire.publication(wire.QUEUE, body))

    def work() -> int:
        return sum(
            len(
                marshal(Basic.Publish(exchange="", routing_key=wire.QUEUE, mandatory=True), 1)
                + marshal(ContentHeader(0, size, properties), 1)
                + marshal(ContentBody(body), 1)
            )
            == expected
            for _ in range(count)
        )

    return work


@layer("frames: read a delivery", sizes=SIZES)
def _read(size: int, count: int) -> Work:
    from txamqpx.protocol.content import whole_content
    from txamqpx.protocol.frames import unpack_head
    from txamqpx.spec.amqp0_9_1 import BasicDeliver

    data = wire.delivery(1, b"x" * size)

    def work() -> int:
        done = 0
        for _ in range(count):
            _kind, number, length = unpack_head(data, 0)
            deliver = BasicDeliver.decode(data, 11, 7 + length)
            content = whole_content(data, 8 + length, number, 60, 131064, 131064)
            if content is not None and len(content[1]) == size:
                done += deliver.delivery_tag
        return done

    return work


@layer("frames: read a delivery", "pamqp", SIZES)
def _read_with_pamqp(size: int, count: int) -> Work:
    from pamqp.body import ContentBody
    from pamqp.commands import Basic
    from pamqp.frame import unmarshal

    data = wire.delivery(1, b"x" * size)

    def work() -> int:
        done = 0
        for _ in range(count):
            consumed, _channel, deliver = unmarshal(data)
            read, _channel, _header = unmarshal(data[consumed:])
            _read, _channel, body = unmarshal(data[consumed + read :])
            if isinstance(deliver, Basic.Deliver) and isinstance(body, ContentBody) and len(body) == size:
                done += deliver.delivery_tag or 0
        return done

    return work
