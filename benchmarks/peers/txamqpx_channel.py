"""Drive txamqpx at the level of a protocol and its channels."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from benchmarks.case import WINDOW
from benchmarks.peers import Session, loop
from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.endpoints import connect_protocol
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import BasicProperties

run = loop.run


def session() -> Session:
    """Make a session that is not connected yet."""
    return _Session()


class _Session:
    """One channel of one connection."""

    _protocol: AMQPProtocol
    _channel: Channel

    async def open(self, url: str, *, confirm: bool, channels: int) -> None:
        self._protocol = await connect_protocol(url)
        self._channel = await self._protocol.open_channel()
        for _ in range(channels - 1):
            await self._protocol.open_channel()
        if confirm:
            await self._channel.confirm_select()
        await self._channel.basic_qos(prefetch_count=WINDOW)

    async def publish(self, queue: str, body: bytes, count: int) -> None:
        channel, properties = self._channel, _properties()
        await loop.publish_all(
            lambda: channel.basic_publish(body, routing_key=queue, mandatory=False, properties=properties),
            count,
            len(body),
        )
        await channel.queue_declare(queue, passive=True)

    async def publish_confirmed(self, queue: str, body: bytes, count: int) -> None:
        channel, properties = self._channel, _properties()
        await loop.publish_window(
            lambda: channel.basic_publish(body, routing_key=queue, mandatory=True, properties=properties),
            count,
        )

    async def publish_one_by_one(self, queue: str, body: bytes, count: int) -> list[float]:
        channel, properties = self._channel, _properties()
        return await loop.publish_in_turn(
            lambda: channel.basic_publish(body, routing_key=queue, mandatory=True, properties=properties),
            count,
        )

    async def deliver(self, queue: str, count: int, *, ack: bool) -> int:
        size = 0
        left = count
        finished: Deferred[None] = Deferred()

        def take(delivery: Delivery) -> None:
            nonlocal size, left
            size += len(delivery.body)
            if ack:
                delivery.ack()
            left -= 1
            if not left:
                finished.callback(None)

        await self._channel.basic_consume(queue, take, no_ack=not ack)
        await finished
        await self._channel.queue_declare(queue, passive=True)
        return size

    async def close(self) -> None:
        await self._protocol.close()


def _properties() -> BasicProperties:
    return BasicProperties(content_type="application/octet-stream", delivery_mode=1)
