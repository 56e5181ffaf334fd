"""Drive pika through its Twisted adapter."""

from __future__ import annotations

from pika import BasicProperties, URLParameters
from pika.adapters.twisted_connection import TwistedChannel, TwistedProtocolConnection
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from benchmarks.case import WINDOW
from benchmarks.peers import Session, loop

run = loop.run


def session() -> Session:
    """Make a session that is not connected yet."""
    return _Session()


class _Session:
    """One channel of one connection."""

    _protocol: TwistedProtocolConnection
    _channel: TwistedChannel

    async def open(self, url: str, *, confirm: bool, channels: int) -> None:
        from twisted.internet import reactor

        parameters = URLParameters(url)
        endpoint = TCP4ClientEndpoint(reactor, parameters.host, parameters.port)
        self._protocol = await endpoint.connect(
            Factory.forProtocol(lambda: TwistedProtocolConnection(parameters))
        )
        await self._protocol.ready
        self._channel = await self._protocol.channel()
        for _ in range(channels - 1):
            await self._protocol.channel()
        if confirm:
            await self._channel.confirm_delivery()
        await self._channel.basic_qos(prefetch_count=WINDOW)

    async def publish(self, queue: str, body: bytes, count: int) -> None:
        channel, properties = self._channel, _properties()
        await loop.publish_all(lambda: channel.basic_publish("", queue, body, properties), count, len(body))
        await channel.queue_declare(queue, passive=True)

    async def publish_confirmed(self, queue: str, body: bytes, count: int) -> None:
        channel, properties = self._channel, _properties()
        await loop.publish_window(
            lambda: channel.basic_publish("", queue, body, properties, mandatory=True), count
        )

    async def publish_one_by_one(self, queue: str, body: bytes, count: int) -> list[float]:
        channel, properties = self._channel, _properties()
        return await loop.publish_in_turn(
            lambda: channel.basic_publish("", queue, body, properties, mandatory=True), count
        )

    async def deliver(self, queue: str, count: int, *, ack: bool) -> int:
        size = 0
        messages, _tag = await self._channel.basic_consume(queue, auto_ack=not ack)
        for _ in range(count):
            channel, method, _properties, body = await messages.get()
            size += len(body)
            if ack:
                channel.basic_ack(method.delivery_tag)
        await self._channel.queue_declare(queue, passive=True)
        return size

    async def close(self) -> None:
        await self._protocol.close()


def _properties() -> BasicProperties:
    return BasicProperties(content_type="application/octet-stream", delivery_mode=1)
