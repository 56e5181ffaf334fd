"""Drive txamqpx as most programs use it: a client, its publishers and its consumers."""

from __future__ import annotations

from twisted.internet.defer import Deferred

import txamqpx
from benchmarks.case import WINDOW
from benchmarks.peers import Session, loop
from txamqpx import Client
from txamqpx.message import Delivery
from txamqpx.publisher import Publisher
from txamqpx.spec.amqp0_9_1 import BasicProperties

run = loop.run


def session() -> Session:
    """Make a session that is not connected yet."""
    return _Session()


class _Session:
    """One client; its publisher and its consumers have channels of their own."""

    _client: Client
    _publisher: Publisher

    async def open(self, url: str, *, confirm: bool, channels: int) -> None:
        self._client = await txamqpx.connect(url)
        self._publisher = self._client.publisher(max_outstanding=WINDOW)
        for _ in range(channels - 1):
            await self._client.channel()

    async def publish(self, queue: str, body: bytes, count: int) -> None:
        publisher, properties = self._client.publisher(confirm=False, mandatory=False), _properties()
        await loop.publish_all(
            lambda: publisher.publish(body, routing_key=queue, properties=properties), count, len(body)
        )
        await publisher.close()

    async def publish_confirmed(self, queue: str, body: bytes, count: int) -> None:
        publisher, properties = self._publisher, _properties()
        await loop.publish_window(
            lambda: publisher.publish(body, routing_key=queue, properties=properties), count
        )

    async def publish_one_by_one(self, queue: str, body: bytes, count: int) -> list[float]:
        publisher, properties = self._publisher, _properties()
        return await loop.publish_in_turn(
            lambda: publisher.publish(body, routing_key=queue, properties=properties), count
        )

    async def deliver(self, queue: str, count: int, *, ack: bool) -> int:
        size = 0
        left = count
        finished: Deferred[None] = Deferred()

        def take(delivery: Delivery) -> None:
            nonlocal size, left
            size += len(delivery.body)
            left -= 1
            if not left:
                finished.callback(None)

        consumer = await self._client.consume(queue, take, prefetch=WINDOW, ack="auto" if ack else "none")
        await finished
        await consumer.cancel()
        return size

    async def close(self) -> None:
        await self._client.close()


def _properties() -> BasicProperties:
    return BasicProperties(content_type="application/octet-stream", delivery_mode=1)
