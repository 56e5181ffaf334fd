"""The protocol over memory: all of what a program calls, on a transport that drops what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.task import Clock
from zope.interface import implementer

from benchmarks import wire
from benchmarks.case import LARGE, WINDOW, turn
from benchmarks.layers import Work, layer

if TYPE_CHECKING:
    from txamqpx.channel import Channel
    from txamqpx.connection import AMQPProtocol
    from txamqpx.message import Delivery

SIZES = (16, LARGE)
BATCH = WINDOW // 2
ACK = wire.confirm(1, multiple=False)
PIKA = "pika-twisted"
Receive = Callable[[bytes], None]
Publish = Callable[[], "Deferred[Any]"]


@implementer(ITransport)
class Hole:
    """Take everything and keep nothing but the number of bytes; nothing is ever too much, or lost."""

    disconnecting = False
    written = 0

    def write(self, data: bytes) -> None:
        """Count it and drop it."""
        self.written += len(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Count it and drop it."""
        self.written += sum(map(len, data))

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never call it."""

    def unregisterProducer(self) -> None:
        """Go on as before."""

    def loseConnection(self) -> None:
        """Stay."""

    def abortConnection(self) -> None:
        """Stay."""

    def getPeer(self) -> Any:
        """Return what stands for an address."""
        return "nobody"

    def getHost(self) -> Any:
        """Return what stands for an address."""
        return "nowhere"


@layer("protocol: publish", sizes=SIZES)
def _publish(size: int, count: int) -> Work:
    protocol, channel, clock = opened()
    return published(protocol.dataReceived, clock, publisher(channel, size), unanswered(count, size))


@layer("protocol: publish", PIKA, SIZES)
def _publish_with_pika(size: int, count: int) -> Work:
    protocol, channel, clock = opened_by_pika()
    return published(protocol.dataReceived, clock, publisher_of_pika(channel, size), unanswered(count, size))


@layer("protocol: publish + confirm", sizes=SIZES)
def _publish_and_confirm(size: int, count: int) -> Work:
    return confirmed(size, wire.confirms(count, BATCH, single=False))


@layer("protocol: publish + confirm", PIKA, SIZES)
def _publish_and_confirm_with_pika(size: int, count: int) -> Work:
    return confirmed_by_pika(size, wire.confirms(count, BATCH, single=False))


@layer("protocol: publish + single acks")
def _publish_and_confirm_singly(size: int, count: int) -> Work:
    return confirmed(size, wire.confirms(count, BATCH, single=True))


@layer("protocol: publish + single acks", PIKA)
def _publish_and_confirm_singly_with_pika(size: int, count: int) -> Work:
    return confirmed_by_pika(size, wire.confirms(count, BATCH, single=True))


@layer("protocol: deliver + ack", sizes=SIZES)
def _deliver_and_ack(size: int, count: int) -> Work:
    return consumed(size, count, ack=True)


@layer("protocol: deliver + ack", PIKA, SIZES)
def _deliver_and_ack_with_pika(size: int, count: int) -> Work:
    return consumed_by_pika(size, count, ack=True)


@layer("protocol: deliver, auto-ack", sizes=SIZES)
def _deliver(size: int, count: int) -> Work:
    return consumed(size, count, ack=False)


@layer("protocol: deliver, auto-ack", PIKA, SIZES)
def _deliver_with_pika(size: int, count: int) -> Work:
    return consumed_by_pika(size, count, ack=False)


# What both have in common ---------------------------------------------------------------------


def unanswered(count: int, size: int) -> list[tuple[int, bytes]]:
    """Return batches that nobody confirms, each as large as one turn of the loop takes."""
    batch = turn(size)
    return [(min(batch, count - begin), b"") for begin in range(0, count, batch)]


def published(receive: Receive, clock: Clock, publish: Publish, answers: list[tuple[int, bytes]]) -> Work:
    """Return work that publishes what each answer confirms, and counts the Deferreds that fire."""

    def work() -> int:
        done = 0

        def one_more(_: object) -> None:
            nonlocal done
            done += 1

        for batch, answer in answers:
            for _ in range(batch):
                publish().addCallback(one_more)
            clock.advance(0)
            if answer:
                receive(answer)
        return done

    return work


def consuming(protocol: Any, count: int, size: int, taken: Callable[[], int], *, ack: bool) -> Work:
    """Return work that feeds a protocol with deliveries, and counts those that were taken (and acked)."""
    reads = wire.deliveries(count, size)
    hole: Hole = protocol.transport

    def work() -> int:
        before = hole.written
        for data in reads:
            protocol.dataReceived(data)
        return min(taken(), (hole.written - before) // len(ACK)) if ack else taken()

    return work


def _connect(protocol: Any) -> None:
    protocol.makeConnection(Hole())
    protocol.dataReceived(wire.HANDSHAKE)


# txamqpx --------------------------------------------------------------------------------------


def opened() -> tuple[AMQPProtocol, Channel, Clock]:
    """Return a connected protocol of txamqpx with an open channel, and its clock."""
    from txamqpx.connection import AMQPClientFactory

    clock = Clock()
    protocol = AMQPClientFactory(clock=clock).buildProtocol(None)
    _connect(protocol)
    channel = protocol.new_channel()
    protocol.dataReceived(wire.CHANNEL_OPENED)
    clock.advance(0)
    return protocol, channel, clock


def publisher(channel: Channel, size: int) -> Publish:
    """Return a function that publishes one message."""
    from txamqpx.spec.amqp0_9_1 import BasicProperties

    properties = BasicProperties(content_type="application/octet-stream", delivery_mode=1)
    body = b"x" * size
    return lambda: channel.basic_publish(body, routing_key=wire.QUEUE, mandatory=True, properties=properties)


def confirmed(size: int, answers: list[tuple[int, bytes]]) -> Work:
    """Return work in confirm mode."""
    protocol, channel, clock = opened()
    channel.confirm_select()
    protocol.dataReceived(wire.CONFIRM_SELECTED)
    return published(protocol.dataReceived, clock, publisher(channel, size), answers)


def consumed(size: int, count: int, *, ack: bool) -> Work:
    """Return work that takes deliveries in a function."""
    protocol, channel, _clock = opened()
    done = 0

    def take(delivery: Delivery) -> None:
        nonlocal done
        done += len(delivery.body) == size
        if ack:
            delivery.ack()

    channel.basic_consume(wire.QUEUE, take, no_ack=not ack, consumer_tag=wire.TAG)
    protocol.dataReceived(wire.CONSUMING)
    return consuming(protocol, count, size, lambda: done, ack=ack)


# pika's Twisted adapter -----------------------------------------------------------------------


def opened_by_pika() -> tuple[Any, Any, Clock]:
    """Return a connected protocol of pika with an open channel, and its clock."""
    from pika import ConnectionParameters
    from pika.adapters.twisted_connection import TwistedProtocolConnection

    clock = Clock()
    protocol = TwistedProtocolConnection(ConnectionParameters(heartbeat=0), custom_reactor=clock)
    _connect(protocol)
    channels: list[Any] = []
    protocol.channel().addCallback(channels.append)
    protocol.dataReceived(wire.CHANNEL_OPENED)
    return protocol, channels[0], clock


def publisher_of_pika(channel: Any, size: int) -> Publish:
    """Return a function that publishes one message."""
    from pika import BasicProperties

    properties = BasicProperties(content_type="application/octet-stream", delivery_mode=1)
    body = b"x" * size
    return lambda: channel.basic_publish("", wire.QUEUE, body, properties, mandatory=True)


def confirmed_by_pika(size: int, answers: list[tuple[int, bytes]]) -> Work:
    """Return work in confirm mode."""
    protocol, channel, clock = opened_by_pika()
    channel.confirm_delivery()
    protocol.dataReceived(wire.CONFIRM_SELECTED)
    return published(protocol.dataReceived, clock, publisher_of_pika(channel, size), answers)


def consumed_by_pika(size: int, count: int, *, ack: bool) -> Work:
    """Return work that takes deliveries from pika's DeferredQueue."""
    protocol, channel, _clock = opened_by_pika()
    done = 0

    async def take() -> None:
        nonlocal done
        messages, _tag = await channel.basic_consume(wire.QUEUE, auto_ack=not ack, consumer_tag=wire.TAG)
        while done < count:
            source, method, _properties, body = await messages.get()
            done += len(body) == size
            if ack:
                source.basic_ack(method.delivery_tag)

    Deferred.fromCoroutine(take())
    protocol.dataReceived(wire.CONSUMING)
    return consuming(protocol, count, size, lambda: done, ack=ack)
