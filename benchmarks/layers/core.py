"""The core: a client's connection without I/O, fed with what a broker would send."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import wire
from benchmarks.case import LARGE, WINDOW
from benchmarks.layers import Work, layer

if TYPE_CHECKING:
    from txamqpx.protocol.channel import ChannelCore
    from txamqpx.protocol.connection import Connection

SIZES = (16, LARGE)
BATCH = WINDOW // 2
"""Publishes before each write, as when half a window has been confirmed."""


@layer("core: publish", sizes=SIZES)
def _publish(size: int, count: int) -> Work:
    core, channel = opened()
    publish = publisher(channel, size)
    outbox, before = core.outbox, core.outbox.taken

    def work() -> int:
        for begin in range(0, count, BATCH):
            for token in range(min(BATCH, count - begin)):
                publish(token)
            outbox.take()
        return outbox.taken - before

    return work


@layer("core: publish + confirm", sizes=SIZES)
def _publish_and_confirm(size: int, count: int) -> Work:
    return confirmed(size, wire.confirms(count, BATCH, single=False))


@layer("core: publish + single acks")
def _publish_and_confirm_singly(size: int, count: int) -> Work:
    return confirmed(size, wire.confirms(count, BATCH, single=True))


@layer("core: deliver + ack", sizes=SIZES)
def _deliver_and_ack(size: int, count: int) -> Work:
    from txamqpx.protocol.events import Delivered

    core, channel, reads = consuming(size, count, no_ack=False)

    def work() -> int:
        done = 0
        for data in reads:
            for delivery in core.receive_data(data):
                assert type(delivery) is Delivered
                channel.ack(delivery.delivery_tag)
                done += len(delivery.body) == size
            core.outbox.take()
        return done

    return work


@layer("core: deliver, auto-ack", sizes=SIZES)
def _deliver(size: int, count: int) -> Work:
    from txamqpx.protocol.events import Delivered

    core, _channel, reads = consuming(size, count, no_ack=True)

    def work() -> int:
        done = 0
        for data in reads:
            for delivery in core.receive_data(data):
                assert type(delivery) is Delivered
                done += len(delivery.body) == size
        return done

    return work


def opened() -> tuple[Connection, ChannelCore]:
    """Return a connection whose handshake is over, with one open channel and nothing to send."""
    from txamqpx.protocol.auth import Plain
    from txamqpx.protocol.connection import Connection
    from txamqpx.protocol.handshake import ClientHandshake

    core = Connection(ClientHandshake([Plain("guest", "guest")]), max_outbox=1 << 40)
    core.start()
    core.receive_data(wire.HANDSHAKE)
    channel = core.open_channel("opened")
    core.receive_data(wire.CHANNEL_OPENED)
    core.outbox.take()
    return core, channel


def publisher(channel: ChannelCore, size: int) -> Callable[[int], object]:
    """Return a function that publishes one message under a token."""
    from txamqpx.spec.amqp0_9_1 import BasicProperties

    properties = BasicProperties(content_type="application/octet-stream", delivery_mode=1)
    body = b"x" * size
    return lambda token: channel.publish(token, body, "", wire.QUEUE, properties, True)


def confirmed(size: int, answers: list[tuple[int, bytes]]) -> Work:
    """Return work that publishes what each answer confirms, and counts the tokens that come back."""
    from txamqpx.protocol.events import Confirmed
    from txamqpx.spec.amqp0_9_1 import ConfirmSelect

    core, channel = opened()
    channel.send(ConfirmSelect(), "selected")
    core.receive_data(wire.CONFIRM_SELECTED)
    publish = publisher(channel, size)

    def work() -> int:
        done = 0
        for batch, answer in answers:
            for token in range(batch):
                publish(token)
            core.outbox.take()
            for event in core.receive_data(answer):
                if type(event) is Confirmed:
                    done += len(event.tokens)
        return done

    return work


def consuming(size: int, count: int, *, no_ack: bool) -> tuple[Connection, ChannelCore, list[bytes]]:
    """Return a connection with a consumer, and what a broker sends it, as it is read."""
    from txamqpx.spec.amqp0_9_1 import BasicConsume

    core, channel = opened()
    channel.send(BasicConsume(wire.QUEUE, wire.TAG, no_ack=no_ack), "consumer")
    core.receive_data(wire.CONSUMING)
    core.outbox.take()
    return core, channel, wire.deliveries(count, size)
