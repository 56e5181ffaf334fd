"""aio-pika sees the broker, from an asyncio loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import (
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionClosed,
    DeliveryError,
    PublishError,
    QueueEmpty,
)
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ProbableAuthenticationError
from pamqp.commands import Basic

from tests.brokers_plugin import Vhost
from tests.integration.support import PATIENCE
from tests.interop import MOMENT, PROPERTIES

Story = Callable[[AbstractConnection], Awaitable[None]]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """Open a connection, and give what happens on it an end."""
    async with asyncio.timeout(PATIENCE), await aio_pika.connect(url) as connection:
        yield connection


def tell(vhost: Vhost, story: Story) -> None:
    """Run a story on a connection to the test's virtual host."""

    async def run() -> None:
        async with connected(vhost.url) as connection:
            await story(connection)

    asyncio.run(run())


async def publish(channel: AbstractChannel, queue: AbstractQueue | str, *bodies: bytes) -> None:
    """Publish to a queue, and wait for the confirms."""
    for body in bodies:
        await channel.default_exchange.publish(Message(body), str(queue))


async def bodies_in(queue: AbstractQueue) -> list[bytes]:
    """Take all that is ready in a queue."""
    bodies = []
    while (message := await queue.get(no_ack=True, fail=False)) is not None:
        bodies.append(message.body)
    return bodies


async def until(happens: Callable[[], Awaitable[object]]) -> None:
    """Wait for what nobody tells us about; the connection's timeout is its end."""
    while not await happens():
        await asyncio.sleep(0.02)


async def until_ready(queue: AbstractQueue, count: int) -> None:
    async def has_so_many() -> bool:
        declared = await (await queue.channel.get_underlay_channel()).queue_declare(queue.name, passive=True)
        return declared.message_count == count

    await until(has_so_many)


def test_a_wrong_password_is_refused(vhost: Vhost) -> None:
    async def log_in() -> None:
        async with connected(vhost.node.url(vhost.name, password="wrong")):
            pass

    with pytest.raises(ProbableAuthenticationError):
        asyncio.run(log_in())


def test_connections_and_channels_open_and_close(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channels = [await connection.channel() for _ in range(10)]
        assert [channel.number for channel in channels] == list(range(1, 11))
        for channel in channels:
            await channel.close()
        assert not connection.is_closed
        await connection.update_secret("another secret", reason="it is time")
        await connection.close()
        assert connection.is_closed

    tell(vhost, story)


def test_it_lives_on_heartbeats(vhost: Vhost) -> None:
    async def idle() -> None:
        async with connected(f"{vhost.url}?heartbeat=1") as connection:
            await asyncio.sleep(3.5)
            await (await connection.channel()).declare_queue(exclusive=True)

    asyncio.run(idle())


@pytest.mark.parametrize(
    ("kind", "binding", "match", "other"),
    [
        (ExchangeType.DIRECT, {"routing_key": "a"}, "a", "b"),
        (ExchangeType.TOPIC, {"routing_key": "*.b.#"}, "a.b", "b.a"),
        (ExchangeType.HEADERS, {"routing_key": "", "arguments": {"x-match": "any", "k": "a"}}, "a", "b"),
        (ExchangeType.FANOUT, {"routing_key": ""}, "a", None),
    ],
    ids=str,
)
def test_each_type_of_exchange_routes(
    vhost: Vhost, kind: ExchangeType, binding: dict[str, Any], match: str, other: str | None
) -> None:
    """The key is a header, too, for the exchange that looks at those."""

    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.declare_exchange("x", kind, auto_delete=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, **binding)
        await exchange.publish(Message(b"match", headers={"k": match}), match)
        if other is not None:
            with pytest.raises(DeliveryError):
                await exchange.publish(Message(b"other", headers={"k": other}), other)
        assert await bodies_in(queue) == [b"match"]
        source = await channel.declare_exchange("source", ExchangeType.FANOUT)
        await exchange.bind(source, routing_key="")
        await source.publish(Message(b"through", headers={"k": match}), match)
        assert await bodies_in(queue) == [b"through"]
        await queue.unbind(exchange, **binding)
        with pytest.raises(ChannelNotFoundEntity):
            await channel.get_exchange("x")

    tell(vhost, story)


def test_errors_end_the_channel_and_no_more(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        first = await connection.channel()
        await first.declare_queue("q", exclusive=True)
        errors: list[tuple[type[Exception], Callable[[AbstractChannel], Awaitable[object]]]] = [
            (ChannelNotFoundEntity, lambda channel: channel.get_queue("missing", ensure=True)),
            (
                ChannelPreconditionFailed,
                lambda channel: channel.declare_queue("q", exclusive=True, arguments={"x-max-length": 1}),
            ),
            (ChannelAccessRefused, lambda channel: channel.declare_queue("amq.mine")),
            (ChannelAccessRefused, lambda channel: channel.exchange_delete("amq.direct")),
        ]
        for error, call in errors:
            channel = await connection.channel()
            with pytest.raises(error):
                await call(channel)
            assert channel.is_closed
        async with await aio_pika.connect(vhost.url) as other:
            with pytest.raises(ChannelLockedResource):
                await (await other.channel()).declare_queue("q", exclusive=True)
        assert not first.is_closed
        await publish(first, "q", b"still here")

    tell(vhost, story)


def test_publishes_are_confirmed_returned_or_refused(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel(on_return_raises=True)
        queue = await channel.declare_queue("jobs", exclusive=True)
        confirmed = await channel.default_exchange.publish(Message(b"1"), "jobs")
        assert isinstance(confirmed, Basic.Ack)
        with pytest.raises(PublishError) as returned:
            await channel.default_exchange.publish(Message(b"2", headers={"k": 1}), "nowhere")
        message = returned.value.message
        assert isinstance(message, DeliveredMessage)
        assert message.header.properties.headers is not None
        assert message.body == b"2"
        await channel.default_exchange.publish(Message(b"3"), "nowhere", mandatory=False)
        await asyncio.gather(
            *(channel.default_exchange.publish(Message(b"%d" % number), "jobs") for number in range(500))
        )
        assert await bodies_in(queue) == [b"1", *(b"%d" % number for number in range(500))]
        small = await channel.declare_queue(
            "small", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await publish(channel, "small", b"1")
        with pytest.raises(DeliveryError):
            await publish(channel, "small", b"2")
        assert await bodies_in(small) == [b"1"]
        with pytest.raises((ChannelClosed, ChannelNotFoundEntity)):
            await (await channel.get_exchange("missing", ensure=False)).publish(Message(b""), "")

    tell(vhost, story)


def test_a_message_is_what_it_was(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        told = {name: value for name, value in PROPERTIES.items() if name != "cluster_id"}
        told["expiration"] = int(told["expiration"]) / 1000
        told["headers"] = {
            "true": True,
            "int": 2**40,
            "text": "grün",
            "none": None,
            "list": [1, "two", [3]],
            "table": {"deep": {"er": "é"}},
            "time": MOMENT,
        }
        body = bytes(range(256)) * 5000
        await channel.default_exchange.publish(Message(body, **told), queue.name)
        message = await queue.get()
        assert message.body == body
        assert (message.exchange, message.routing_key, message.redelivered) == ("", queue.name, False)
        assert (message.delivery_tag, message.message_count) == (1, 0)
        assert {name: getattr(message, name) for name in told} == told
        await message.ack()

    tell(vhost, story)


def test_what_was_got_is_settled(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        with pytest.raises(QueueEmpty):
            await queue.get()
        await publish(channel, queue, b"1", b"2", b"3")
        first, second, third = [await queue.get() for _ in range(3)]
        await first.ack()
        await second.nack(requeue=True)
        await third.reject(requeue=True)
        await until_ready(queue, 2)
        again = [await queue.get() for _ in range(2)]
        assert [(message.body, message.redelivered) for message in again] == [(b"2", True), (b"3", True)]
        await again[1].reject(requeue=False)
        await channel.close()
        channel = await connection.channel()
        queue = await channel.get_queue(queue.name)
        await until_ready(queue, 1)
        await publish(channel, queue, b"4")
        assert (await queue.purge()).message_count == 2

    tell(vhost, story)


def test_the_prefetch_count_holds(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=2)
        queue = await channel.declare_queue(exclusive=True)
        await publish(channel, queue, *(b"%d" % number for number in range(6)))
        seen: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        tag = await queue.consume(seen.put)
        first, second = await seen.get(), await seen.get()
        await until_ready(queue, 4)
        assert seen.empty()
        await second.ack(multiple=True)
        third, _ = await seen.get(), await seen.get()
        assert (first.body, third.body, third.delivery_tag) == (b"0", b"2", 3)
        await queue.cancel(tag)
        await channel.close()
        queue = await (await connection.channel()).get_queue(queue.name)
        await until_ready(queue, 4)
        assert await bodies_in(queue) == [b"2", b"3", b"4", b"5"]

    tell(vhost, story)


def test_a_loop_over_a_queue_ends(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        queue = await channel.declare_queue("jobs", exclusive=True)
        await publish(channel, queue, *(b"%d" % number for number in range(10)))
        seen = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    seen.append(message.body)
                if len(seen) == 10:
                    break
        assert seen == [b"%d" % number for number in range(10)]
        with pytest.raises(ZeroDivisionError):
            async with queue.iterator(no_ack=True):
                raise ZeroDivisionError
        assert (await queue.delete()).message_count == 0

    tell(vhost, story)


def test_a_late_message_is_dead_lettered(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        dead = await channel.declare_queue("dead", exclusive=True)
        arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        jobs = await channel.declare_queue("jobs", exclusive=True, arguments=arguments)
        await channel.default_exchange.publish(Message(b"late", expiration=0.05), "jobs")
        await until_ready(dead, 1)
        await publish(channel, jobs, b"rejected")
        await (await jobs.get()).reject(requeue=False)
        await until_ready(dead, 2)
        found = [await dead.get(no_ack=True) for _ in range(2)]
        assert [message.body for message in found] == [b"late", b"rejected"]
        assert [message.headers["x-first-death-reason"] for message in found] == ["expired", "rejected"]

    tell(vhost, story)


def test_a_transaction_is_committed_or_rolled_back(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue(exclusive=True)
        async with channel.transaction():
            await publish(channel, queue, b"1", b"2")
            await until_ready(queue, 0)
        assert await bodies_in(queue) == [b"1", b"2"]
        transaction = channel.transaction()
        await transaction.select()
        await publish(channel, queue, b"3")
        await transaction.rollback()
        assert await bodies_in(queue) == []

    tell(vhost, story)


def test_a_call_is_answered_through_the_direct_reply_queue(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        rpc = await channel.declare_queue("rpc", exclusive=True)

        async def serve(message: AbstractIncomingMessage) -> None:
            assert message.reply_to is not None
            answer = Message(message.body.upper(), correlation_id=message.correlation_id)
            await channel.default_exchange.publish(answer, message.reply_to)
            await message.ack()

        await rpc.consume(serve)
        caller = await connection.channel()
        replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        to = "amq.rabbitmq.reply-to"
        await (await caller.get_queue(to, ensure=False)).consume(replies.put, no_ack=True)
        asked = Message(b"question", reply_to=to, correlation_id="7")
        await caller.default_exchange.publish(asked, "rpc")
        reply = await replies.get()
        assert (reply.body, reply.correlation_id) == (b"QUESTION", "7")

    tell(vhost, story)


def test_the_broker_closes_the_connection(vhost: Vhost) -> None:
    async def story(connection: AbstractConnection) -> None:
        channel = await connection.channel()
        ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        connection.close_callbacks.add(lambda _, error: ended.set_result(error))
        await asyncio.to_thread(vhost.node.close_all_connections, "enough")
        error = await ended
        assert isinstance(error, ConnectionClosed)
        assert "enough" in str(error)
        assert channel.is_closed

    async def run() -> None:
        async with asyncio.timeout(PATIENCE):
            connection = await aio_pika.connect(vhost.url)
            await story(connection)

    asyncio.run(run())
