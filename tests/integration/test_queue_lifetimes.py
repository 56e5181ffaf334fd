"""How a queue ends: with its lease, its last consumer, its connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import pytest_twisted

from tests.integration.queues import SHORT, dead_letters, queue, send, short_time
from tests.integration.support import (
    CLOCK,
    Connector,
    Inbox,
    another,
    pause,
    protocol_of,
)
from txamqpx.channel import Channel
from txamqpx.errors import NotFound, Unroutable
from txamqpx.message import Confirmed

# --------------------------------------------------------------------------- leases


async def _get(channel: Channel, name: str) -> None:
    await channel.basic_get(name)


async def _look(channel: Channel, name: str) -> None:
    await channel.queue_declare(name, passive=True)


async def _declare(channel: Channel, name: str) -> None:
    await channel.queue_declare(name, durable=True, arguments={"x-expires": 400})


async def _consume(channel: Channel, name: str) -> None:
    inbox = Inbox()
    await channel.basic_cancel((await channel.basic_consume(name, inbox)).consumer_tag)


@pytest.mark.parametrize("use", [_get, _look, _declare, _consume])
@pytest_twisted.ensureDeferred
async def test_a_queue_in_use_does_not_expire(
    publisher: Channel, use: Callable[[Channel, str], Awaitable[None]]
) -> None:
    lease = {"x-expires": 400}
    for _ in range(20):  # on a machine that holds us up for longer than a lease, it proves nothing
        for name in ("used", "unused"):
            await publisher.queue_declare(name, durable=True, arguments=lease)
        used, prompt, there = CLOCK.seconds(), True, True
        while there:
            await use(publisher, "used")
            prompt, used = prompt and CLOCK.seconds() - used < 0.3, CLOCK.seconds()
            (there,) = [
                isinstance(outcome, Confirmed) for outcome in await send(publisher, "unused", b"no use")
            ]
            await pause(0.02)
        if prompt:
            break
    assert prompt
    assert isinstance((await send(publisher, "used", b""))[0], Confirmed)


@pytest_twisted.ensureDeferred
async def test_to_publish_to_bind_and_to_purge_is_no_use(publisher: Channel) -> None:
    """And with a queue that has expired its messages are gone: they are no dead letters."""
    dead = await dead_letters(publisher)
    names = ("published", "bound", "purged")
    for name in names:
        await queue(publisher, name, expires=200)
    others = {name: await another(publisher) for name in names}
    gone: list[str] = []
    while len(gone) < len(names):
        for name, call in (
            ("published", lambda: send(publisher, "published", b"lost")),
            ("bound", lambda: others["bound"].queue_bind("bound", "amq.fanout")),
            ("purged", lambda: others["purged"].queue_purge("purged")),
        ):
            if name in gone:
                continue
            try:
                answer = await call()
            except NotFound:
                gone.append(name)
            else:
                gone += [name] if isinstance(answer, list) and isinstance(answer[0], Unroutable) else []
        await pause(0.02)
    await queue(publisher, "jobs", message_ttl=0)
    await send(publisher, "jobs", b"a real one")
    await dead.take()
    assert dead.bodies == [b"a real one"]


@pytest_twisted.ensureDeferred
async def test_a_queue_with_a_consumer_stays_until_it_has_gone(publisher: Channel) -> None:
    inbox = Inbox()
    await queue(publisher, "jobs", expires=SHORT)
    tag = (await publisher.basic_consume("jobs", inbox, no_ack=True)).consumer_tag
    for _ in range(3):
        await short_time(publisher)
    await send(publisher, "jobs", b"hello")
    await inbox.take()
    await publisher.basic_cancel(tag)
    while isinstance((await send(publisher, "jobs", b"no use"))[0], Confirmed):
        await pause(0.02)


# --------------------------------------------------------------------------- those who use it


@pytest.mark.parametrize("end", ["cancel", "channel", "connection"])
@pytest_twisted.ensureDeferred
async def test_a_queue_may_end_with_its_last_consumer(
    publisher: Channel, connect: Connector, end: str
) -> None:
    await publisher.queue_declare("jobs", durable=True, auto_delete=True)
    await publisher.basic_get("jobs")
    first = await connect.channel()
    last = await connect.channel()
    tags = [(await each.basic_consume("jobs", Inbox())).consumer_tag for each in (first, last)]
    await first.basic_cancel(tags[0])
    assert (await publisher.queue_declare("jobs", passive=True)).consumer_count == 1
    if end == "cancel":
        await last.basic_cancel(tags[1])
    elif end == "channel":
        await last.close()
    else:
        await protocol_of(last).close()
    while isinstance((await send(publisher, "jobs", b""))[0], Confirmed):
        await pause(0.02)


@pytest.mark.covers("S24")
@pytest_twisted.ensureDeferred
async def test_an_exclusive_queue_ends_with_its_connection(publisher: Channel, connect: Connector) -> None:
    owner = await connect.channel()
    other = await another(owner)
    await owner.queue_declare("mine", exclusive=True)
    await owner.close()
    assert (await other.queue_declare("mine", passive=True)).queue == "mine"
    await protocol_of(owner).close()
    while isinstance((await send(publisher, "mine", b""))[0], Confirmed):
        await pause(0.02)
