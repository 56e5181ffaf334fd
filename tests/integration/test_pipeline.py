"""A pipeline on a real broker: nothing is lost, whatever breaks at whatever moment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Connector,
    depth,
    drain,
    fill,
    get,
    numbered,
    soon,
    until,
    until_ready,
)
from txamqpx.channel import Channel
from txamqpx.client import Client
from txamqpx.message import Delivery
from txamqpx.pipeline import Message, Pipeline
from txamqpx.spec.amqp0_9_1 import BasicProperties

MESSAGES = 20


async def left_by_all(channel: Channel, queue: str) -> None:
    """Wait until nobody consumes a queue: then all that its consumers held is back."""
    answers: list[int] = []

    def is_left() -> bool:
        declared = channel.queue_declare(queue, passive=True)
        declared.addCallback(lambda answer: answers.append(answer.consumer_count))
        return bool(answers) and answers[-1] == 0

    await until(is_left)


async def emptied(pipeline: Pipeline, channel: Channel, queue: str) -> None:
    """Wait until all messages of a queue have passed."""
    await until_ready(channel, queue, 0)
    await until(lambda: not pipeline.consumer.waiting and not pipeline.consumer.at_work)


@pytest.mark.covers("L15")
@pytest_twisted.ensureDeferred
async def test_messages_move_and_change_on_their_way(connect: Connector, channel: Channel) -> None:
    client = Client(await connect())
    await fill(channel, "source", numbered(MESSAGES))
    await fill(channel, "odd", [])
    await fill(channel, "even", [])

    async def transform(delivery: Delivery) -> list[Message | bytes]:
        number = int(delivery.body)
        if number == 0:
            return []
        if number % 2:
            return [Message(b"odd", BasicProperties(type="t"), routing_key="odd")]
        return [delivery.body, delivery.body + b"!"]

    pipeline = await soon(client.pipe("source", transform, "even", concurrency=10))
    await until_ready(channel, "odd", 10)
    await until_ready(channel, "even", 18)
    await emptied(pipeline, channel, "source")
    await soon(pipeline.cancel())
    assert await depth(channel, "source") == 0
    odd = await get(channel, "odd")
    assert (odd.properties.type, odd.properties.delivery_mode) == ("t", 2)
    await client.close()


# Each breaks the connection at one step of a message's way; the last is between the confirm and the ack.
def before_transform(pipeline: Pipeline, crash: Callable[[], None]) -> None:
    transform = pipeline.transform

    def crashing(delivery: Delivery) -> Any:
        crash()
        return transform(delivery)

    pipeline.transform = crashing


def after_transform(pipeline: Pipeline, crash: Callable[[], None]) -> None:
    transform = pipeline.transform

    def crashing(delivery: Delivery) -> Any:
        made = transform(delivery)
        crash()
        return made

    pipeline.transform = crashing


def after_publish(pipeline: Pipeline, crash: Callable[[], None]) -> None:
    publish = pipeline.publisher.publish

    def crashing(*args: Any, **options: Any) -> Any:
        outcome = publish(*args, **options)
        crash()
        return outcome

    pipeline.publisher.publish = crashing  # type: ignore[method-assign]


def after_confirm(pipeline: Pipeline, crash: Callable[[], None]) -> None:
    publish = pipeline.publisher.publish

    def crashing(*args: Any, **options: Any) -> Any:
        def confirmed(outcome: Any) -> Any:
            crash()
            return outcome

        return publish(*args, **options).addCallback(confirmed)

    pipeline.publisher.publish = crashing  # type: ignore[method-assign]


def after_ack(pipeline: Pipeline, crash: Callable[[], None]) -> None:
    transform = pipeline.transform
    seen = count()

    def crashing(delivery: Delivery) -> Any:
        if next(seen):  # the one before it has just been acked
            crash()
        return transform(delivery)

    pipeline.transform = crashing


@pytest.mark.covers("S93")
@pytest.mark.parametrize(
    "break_at", [before_transform, after_transform, after_publish, after_confirm, after_ack]
)
@pytest_twisted.ensureDeferred
async def test_a_connection_that_breaks_at_any_step_loses_nothing(
    connect: Connector, channel: Channel, break_at: Callable[[Pipeline, Callable[[], None]], None]
) -> None:
    await fill(channel, "source", numbered(MESSAGES))
    await fill(channel, "destination", [])
    for after in (1, 3, 4):  # messages that pass before it breaks
        client = Client(await connect())
        steps = count(1)

        def crash(client: Client = client, after: int = after) -> None:
            if next(steps) == after:  # noqa: B023 - each round has its own
                client.protocol.abort()

        pipeline = Pipeline(client, "source", None, "destination", concurrency=2)
        break_at(pipeline, crash)
        await soon(pipeline.start())
        await soon(pipeline.closed)
    await left_by_all(channel, "source")
    client = Client(await connect())
    pipeline = await soon(client.pipe("source", None, "destination", concurrency=2))
    await emptied(pipeline, channel, "source")
    await soon(pipeline.cancel())
    assert await depth(channel, "source") == 0
    arrived = await drain(channel, "destination")
    assert set(arrived) == set(numbered(MESSAGES))
    assert len(arrived) <= MESSAGES + 3 * 4  # twice only what was under way
    await client.close()


PROGRAM = """
import sys

from twisted.internet.task import react

import txamqpx


async def main(reactor):
    client = await txamqpx.connect(sys.argv[1])

    def transform(delivery):
        print(delivery.body.decode(), flush=True)
        return delivery.body

    pipeline = await client.pipe("source", transform, "destination", concurrency=2)
    await pipeline.closed


react(main)
"""


def run_and_kill(url: str, after: int) -> int:
    """Run a pipeline in a process, and kill it when it has begun with so many messages."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        for _ in range(after):
            process.stdout.readline()
        process.kill()
    return process.wait()


@pytest.mark.covers("S93")
@pytest_twisted.ensureDeferred
async def test_a_process_that_is_killed_loses_nothing(
    connect: Connector, vhost: Vhost, channel: Channel
) -> None:
    bodies = numbered(100)
    await fill(channel, "source", bodies)
    await fill(channel, "destination", [])
    for after in (1, 2, 5, 17):
        assert await soon(deferToThread(run_and_kill, vhost.url, after)) == -9
    await left_by_all(channel, "source")
    client = Client(await connect())
    pipeline = await soon(client.pipe("source", None, "destination"))
    await emptied(pipeline, channel, "source")
    await soon(pipeline.cancel())
    assert await depth(channel, "source") == 0
    assert set(await drain(channel, "destination")) == set(bodies)
    await client.close()


@pytest.mark.covers("S93", "T-ACK-07")
@pytest_twisted.ensureDeferred
async def test_what_finds_no_place_stays_at_its_source_and_does_not_run_hot(
    connect: Connector, channel: Channel
) -> None:
    client = Client(await connect())
    await fill(channel, "source", [b"1"])
    tried: list[bool] = []

    def transform(delivery: Delivery) -> bytes:
        tried.append(delivery.redelivered)
        return delivery.body

    pipeline = await soon(client.pipe("source", transform, "not yet there"))
    await until(lambda: tried == [False, True])  # after a second
    await fill(channel, "not yet there", [])
    await until_ready(channel, "not yet there", 1)
    assert tried == [False, True, True]
    await emptied(pipeline, channel, "source")
    await soon(pipeline.cancel())
    assert await depth(channel, "source") == 0
    await client.close()


@pytest.mark.covers("S93")
@pytest_twisted.ensureDeferred
async def test_a_full_destination_refuses_and_nothing_is_lost(connect: Connector, channel: Channel) -> None:
    client = Client(await connect())
    await fill(channel, "source", numbered(2))
    await fill(channel, "full", [], {"x-max-length": 1, "x-overflow": "reject-publish"})
    pipeline = await soon(client.pipe("source", None, "full"))
    await until_ready(channel, "full", 1)
    first = await get(channel, "full")
    await until_ready(channel, "full", 1)
    assert {first.body, (await get(channel, "full")).body} == set(numbered(2))
    await emptied(pipeline, channel, "source")
    await soon(pipeline.cancel())
    await client.close()
