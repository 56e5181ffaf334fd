"""The codec: methods and properties to payloads and back, against pamqp."""

from __future__ import annotations

from benchmarks import wire
from benchmarks.layers import Work, layer

QUEUE, TAG = wire.QUEUE, wire.TAG
DELIVER = wire.payload(wire.delivery(1, b"x"))
ACK = wire.payload(wire.confirm(1, multiple=False))


@layer("codec: encode basic.publish")
def _encode_publish(size: int, count: int) -> Work:
    from txamqpx.spec.amqp0_9_1 import BasicPublish

    def work() -> int:
        return sum(BasicPublish("", QUEUE, True).encode() != b"" for _ in range(count))

    return work


@layer("codec: encode basic.publish", "pamqp")
def _encode_publish_with_pamqp(size: int, count: int) -> Work:
    from pamqp.commands import Basic

    def work() -> int:
        return sum(
            Basic.Publish(exchange="", routing_key=QUEUE, mandatory=True).marshal() != b""
            for _ in range(count)
        )

    return work


@layer("codec: decode basic.deliver")
def _decode_deliver(size: int, count: int) -> Work:
    from txamqpx.spec.amqp0_9_1 import BasicDeliver

    def work() -> int:
        decode, end = BasicDeliver.decode, len(DELIVER)
        return sum(decode(DELIVER, 4, end).delivery_tag for _ in range(count))

    return work


@layer("codec: decode basic.deliver", "pamqp")
def _decode_deliver_with_pamqp(size: int, count: int) -> Work:
    from pamqp.commands import Basic

    def work() -> int:
        done = 0
        for _ in range(count):
            deliver = Basic.Deliver()
            deliver.unmarshal(DELIVER[4:])
            done += deliver.delivery_tag or 0
        return done

    return work


@layer("codec: encode basic.ack")
def _encode_ack(size: int, count: int) -> Work:
    from txamqpx.spec.amqp0_9_1 import BasicAck

    def work() -> int:
        return sum(BasicAck(tag).encode() != b"" for tag in range(1, count + 1))

    return work


@layer("codec: encode basic.ack", "pamqp")
def _encode_ack_with_pamqp(size: int, count: int) -> Work:
    from pamqp.commands import Basic

    def work() -> int:
        return sum(Basic.Ack(tag).marshal() != b"" for tag in range(1, count + 1))

    return work


@layer("codec: decode basic.ack")
def _decode_ack(size: int, count: int) -> Work:
    from txamqpx.spec.amqp0_9_1 import BasicAck

    def work() -> int:
        return sum(BasicAck.decode(ACK, 4, len(ACK)).delivery_tag for _ in range(count))

    return work


@layer("codec: decode basic.ack", "pamqp")
def _decode_ack_with_pamqp(size: int, count: int) -> Work:
    from pamqp.commands import Basic

    def work() -> int:
        done = 0
        for _ in range(count):
            ack = Basic.Ack()
            ack.unmarshal(ACK[4:])
            done += ack.delivery_tag
        return done

    return work


@layer("codec: encode properties")
def _encode_properties(size: int, count: int) -> Work:
    from txamqpx.spec.amqp0_9_1 import BasicProperties

    def work() -> int:
        return sum(
            BasicProperties(content_type="application/octet-stream", delivery_mode=1).encode()
            == wire.PROPERTIES
            for _ in range(count)
        )

    return work


@layer("codec: encode properties", "pamqp")
def _encode_properties_with_pamqp(size: int, count: int) -> Work:
    from pamqp.commands import Basic

    def work() -> int:
        return sum(
            Basic.Properties(content_type="application/octet-stream", delivery_mode=1).marshal()
            == wire.PROPERTIES
            for _ in range(count)
        )

    return work


@layer("codec: decode properties")
def _decode_properties(size: int, count: int) -> Work:
    from txamqpx.spec.amqp0_9_1 import BasicProperties

    def work() -> int:
        decode, end = BasicProperties.decode, len(wire.PROPERTIES)
        return sum(decode(wire.PROPERTIES, 0, end).delivery_mode == 1 for _ in range(count))

    return work


@layer("codec: decode properties", "pamqp")
def _decode_properties_with_pamqp(size: int, count: int) -> Work:
    from pamqp.commands import Basic

    def work() -> int:
        done = 0
        for _ in range(count):
            properties = Basic.Properties()
            properties.unmarshal(0x9000, wire.PROPERTIES[2:])
            done += properties.delivery_mode == 1
        return done

    return work
