"""Drive aio-pika in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from benchmarks.case import WINDOW
from benchmarks.peers import Session

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a fresh asyncio loop."""
    return asyncio.run(main())


def session() -> Session:
    """Make a session that is not connected yet."""
    return _Session()


class _Session:
    """One channel of one connection."""

    _connection: AbstractConnection
    _channel: AbstractChannel

    async def open(self, url: str, *, confirm: bool, channels: int) -> None:
        self._connection = await aio_pika.connect(url)
        self._channel = await self._connection.channel(publisher_confirms=confirm)
        for _ in range(channels - 1):
            await self._connection.channel()
        await self._channel.set_qos(prefetch_count=WINDOW)

    async def publish(self, queue: str, body: bytes, count: int) -> None:
        exchange = self._channel.default_exchange
        for _ in range(count):
            await exchange.publish(_message(body), queue, mandatory=False)
        await self._channel.declare_queue(queue, passive=True)

    async def publish_confirmed(self, queue: str, body: bytes, count: int) -> None:
        exchange = self._channel.default_exchange
        left = count

        async def publish_in_turn() -> None:
            nonlocal left
            while left:
                left -= 1
                await exchange.publish(_message(body), queue, mandatory=True)

        await asyncio.gather(*(publish_in_turn() for _ in range(min(WINDOW, count))))

    async def publish_one_by_one(self, queue: str, body: bytes, count: int) -> list[float]:
        exchange = self._channel.default_exchange
        seconds = []
        for _ in range(count):
            begun = perf_counter()
            await exchange.publish(_message(body), queue, mandatory=True)
            seconds.append(perf_counter() - begun)
        return seconds

    async def deliver(self, queue: str, count: int, *, ack: bool) -> int:
        size, left = 0, count
        finished = asyncio.get_running_loop().create_future()

        async def take(message: AbstractIncomingMessage) -> None:
            nonlocal size, left
            size += len(message.body)
            if ack:
                await message.ack()
            left -= 1
            if not left:
                finished.set_result(None)

        source = await self._channel.declare_queue(queue, passive=True)
        await source.consume(take, no_ack=not ack)
        await finished
        await self._channel.declare_queue(queue, passive=True)
        return size

    async def close(self) -> None:
        await self._connection.close()


def _message(body: bytes) -> aio_pika.Message:
    """Make a message for one publish: published twice, it would send the same message id twice."""
    return aio_pika.Message(
        body, content_type="application/octet-stream", delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT
    )
