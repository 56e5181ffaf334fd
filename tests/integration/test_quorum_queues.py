"""Quorum queues: what they count, when they have had enough, and in which order messages come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    CLOCK,
    Connector,
    Inbox,
    Recorder,
    all_of,
    another,
    drain,
    failure_of,
    fill,
    get,
    headers_of,
    is_since,
    needs,
    numbered,
    outcomes,
    protocol_of,
    soon,
    until_ready,
)
from txamqpx.channel import Channel
from txamqpx.errors import AMQPNotImplemented, CommandInvalid, Nacked, PreconditionFailed, ResourceLocked
from txamqpx.message import Confirmed, Delivery
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import BasicCancelOk, BasicConsume, BasicProperties
from txamqpx.spec.base import Method

QUORUM = {"x-queue-type": "quorum"}
SINGLE = {**QUORUM, "x-single-active-consumer": True}

NEVER = 3_600_000
"""Milliseconds after which no test is still there."""


def counts(delivery: Delivery) -> tuple[Any, Any]:
    """Return how often somebody failed with a message, and how often it came back, as its headers say."""
    headers = delivery.properties.headers or {}
    return headers.get("x-delivery-count"), headers.get("x-acquired-count")


async def feed(channel: Channel, queue: str, *bodies: bytes) -> None:
    """Publish one after the other to a queue that is there."""
    publisher = await another(channel, confirms=True)
    await all_of(publisher.basic_publish(body, routing_key=queue) for body in bodies)
    await publisher.close()


async def consuming(channel: Channel, queue: str, prefetch: int = 0, **options: Any) -> Inbox:
    """Start a consumer with a window of its own, and return what it gets."""
    inbox = Inbox()
    await channel.basic_qos(prefetch)
    await channel.basic_consume(queue, inbox, **options)
    return inbox


async def counted(channel: Channel, queue: str) -> tuple[int, int]:
    """Return how many messages and consumers a queue says that it has."""
    answer = await channel.queue_declare(queue, passive=True)
    return answer.message_count, answer.consumer_count


async def until_counted(channel: Channel, queue: str, messages: int, consumers: int) -> None:
    """Wait until a queue has so many: it is told of nothing in the turn in which it happens."""
    deadline = CLOCK.seconds() + 60
    while (found := await counted(channel, queue)) != (messages, consumers):
        assert CLOCK.seconds() < deadline, f"it has {found}"


def say(channel: Channel, method: Method) -> None:
    """Send what our own client would not."""
    channel.core.connection.outbox.append(frame(METHOD, channel.number, method.encode()))


# --------------------------------------------------------------------------- counts


@pytest.mark.covers("T-ACK-06")
@pytest.mark.parametrize(
    ("how", "fails"), [("nack", False), ("reject", True), ("recover", False), ("close", True), ("drop", True)]
)
@pytest_twisted.ensureDeferred
async def test_what_counts(vhost: Vhost, connect: Connector, channel: Channel, how: str, fails: bool) -> None:
    """Until 4.3 all that comes back counts as a failure; now there is a second count, for all that does."""
    await fill(channel, "q", [b"1"], QUORUM)
    seen = []
    for _ in range(3):
        holder = await connect.channel()
        (delivery,) = await (await consuming(holder, "q", 1, consumer_tag="t")).take()
        seen.append((delivery.redelivered, *counts(delivery)))
        await holder.basic_cancel("t")
        if how == "recover":
            await holder.basic_recover()
        elif how == "close":
            await holder.close()
        elif how == "drop":
            protocol_of(holder).abort()
        else:
            getattr(delivery, how)()
        await until_counted(channel, "q", 1, 0)
    if is_since(vhost.node, "4.3"):
        assert seen == [
            (False, None, None),
            (True, 1 if fails else None, 1),
            (True, 2 if fails else None, 2),
        ]
    else:
        assert seen == [(False, None, None), (True, 1, None), (True, 2, None)]


@pytest_twisted.ensureDeferred
async def test_counts_of_what_is_fetched(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", [b"1"], {**QUORUM, "x-delivery-limit": 5})
    seen = []
    for _ in range(3):
        delivery = await get(channel, "q", no_ack=False)
        seen.append((delivery.redelivered, *counts(delivery)))
        delivery.reject()
        await until_ready(channel, "q", 1)
    if is_since(vhost.node, "4.3"):
        assert seen == [(False, None, None), (True, 1, 1), (True, 2, 2)]
    else:
        assert seen == [(False, 0, None), (True, 1, None), (True, 2, None)]


@pytest_twisted.ensureDeferred
async def test_counts_that_a_publisher_made_up(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", [], {**QUORUM, "x-delivery-limit": 5})
    made_up = BasicProperties(headers={"x-delivery-count": 9, "x-acquired-count": 8, "y": 1, "mine": 1})
    publisher = await another(channel, confirms=True)
    await publisher.basic_publish(b"1", routing_key="q", properties=made_up)
    first = await get(channel, "q", no_ack=False)
    assert counts(first) == ((9, 8) if is_since(vhost.node, "4.3") else (0, 8))
    assert not first.redelivered
    first.reject()
    await until_ready(channel, "q", 1)
    again = await get(channel, "q")
    assert counts(again) == ((1, 1) if is_since(vhost.node, "4.3") else (1, 8))
    assert [*headers_of(again)] == ["mine", "x-acquired-count", "x-delivery-count", "y"]


# --------------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [0, 1, 3])
@pytest_twisted.ensureDeferred
async def test_after_so_many_failures_a_message_is_a_dead_letter(
    vhost: Vhost, channel: Channel, limit: int
) -> None:
    await channel.queue_declare("dead", durable=True)
    arguments = {
        **QUORUM,
        "x-delivery-limit": limit,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    await fill(channel, "q", [b"1"], arguments)
    inbox = await consuming(channel, "q")
    seen = []
    for _ in range(limit + 1):
        (delivery,) = await inbox.take()
        seen.append(counts(delivery)[0])
        delivery.reject()
    assert seen == [None, *range(1, limit + 1)]
    await until_ready(channel, "dead", 1)
    letter = await get(channel, "dead")
    (death,) = headers_of(letter)["x-death"]
    assert (death["reason"], death["queue"], death["count"]) == ("delivery_limit", "q", 1)
    assert counts(letter) == (None, None)
    assert letter.redelivered is is_since(vhost.node, "4.0")
    assert len(inbox.got) == limit + 1


@pytest_twisted.ensureDeferred
async def test_a_dead_letter_that_somebody_waits_for_is_new_to_the_queue(channel: Channel) -> None:
    await channel.queue_declare("dead", durable=True)
    inbox = await consuming(channel, "dead")
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await fill(channel, "q", [b"1"], {**QUORUM, **letters, "x-delivery-limit": 0})
    (await get(channel, "q", no_ack=False)).reject()
    (letter,) = await inbox.take()
    assert not letter.redelivered


@pytest_twisted.ensureDeferred
async def test_a_nack_is_no_failure_any_more(vhost: Vhost, channel: Channel) -> None:
    """Who gives back what it did not look at may do so for ever from 4.3 on."""
    await fill(channel, "q", [b"1"], {**QUORUM, "x-delivery-limit": 1})
    delivery = await get(channel, "q", no_ack=False)
    for _ in range(3):
        delivery.nack()
        again = await next_one(channel, "q")
        if again is None:
            break
        delivery = again
    assert (again is not None) is is_since(vhost.node, "4.3")


async def next_one(channel: Channel, queue: str) -> Delivery | None:
    """Get what was given back just now, or None when it is dropped."""
    while (delivery := await channel.basic_get(queue)) is None:
        if await counted(channel, queue) == (0, 0):
            return None
    return delivery


@pytest_twisted.ensureDeferred
async def test_without_a_word_there_is_a_limit_of_twenty(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", [b"1"], QUORUM)
    inbox = await consuming(channel, "q", consumer_tag="t")
    for number in range(21):
        (delivery,) = await inbox.take()
        assert counts(delivery)[0] == (number or None)
        delivery.reject()
    if is_since(vhost.node, "4.0"):
        await channel.basic_cancel("t")
        await until_counted(channel, "q", 0, 0)
        assert len(inbox.got) == 21
    else:
        await inbox.take()


@pytest_twisted.ensureDeferred
async def test_a_limit_below_nothing(vhost: Vhost, channel: Channel) -> None:
    """It is none since 4.0; before, it is one that any message exceeds that comes back."""
    await fill(channel, "q", [b"1"], {**QUORUM, "x-delivery-limit": -1})
    for _ in range(3):
        (await get(channel, "q", no_ack=False)).reject()
        await until_counted(channel, "q", int(is_since(vhost.node, "4.0")), 0)
        if not is_since(vhost.node, "4.0"):
            break


@pytest_twisted.ensureDeferred
async def test_a_dead_letter_that_nobody_takes_is_kept(vhost: Vhost, channel: Channel) -> None:
    """It is purged with the rest since 4.0, and out of reach before."""
    arguments = {
        **QUORUM,
        "x-dead-letter-exchange": "missing",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    await fill(channel, "q", [b"1", b"2"], arguments)
    (await get(channel, "q", no_ack=False)).reject(requeue=False)
    await until_counted(channel, "q", 1, 0)
    purged = await channel.queue_purge("q")
    assert purged.message_count == (2 if is_since(vhost.node, "4.0") else 1)


# --------------------------------------------------------------------------- order


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("how", ["one by one", "together", "close"])
@pytest_twisted.ensureDeferred
async def test_in_which_order_messages_come_back(
    vhost: Vhost, channel: Channel, connect: Connector, limited: bool, how: str
) -> None:
    """They come before those that nobody has seen; in a queue without a limit, before 4.0, after them."""
    arguments = {**QUORUM, "x-delivery-limit": 5} if limited else QUORUM
    await fill(channel, "q", [], arguments)
    await feed(channel, "q", *numbered(6))
    holder = await connect.channel()
    inbox = await consuming(holder, "q", 4, consumer_tag="t")
    await inbox.take(4)
    await holder.basic_cancel("t")
    returned = numbered(4)
    if how == "one by one":
        returned.reverse()
        for delivery in reversed(inbox.got):
            delivery.nack()
    elif how == "together":
        await holder.basic_nack(0, multiple=True)
    else:
        await holder.close()
    await until_counted(channel, "q", 6, 0)
    fresh = [b"4", b"5"]
    last = not limited and not is_since(vhost.node, "4.0") and how != "close"
    if last and how == "one by one":
        return  # each goes by a way of its own, and they may overtake each other
    assert await drain(channel, "q") == ([*fresh, *returned] if last else [*returned, *fresh])


@pytest_twisted.ensureDeferred
async def test_the_messages_of_one_consumer_come_back_together(
    vhost: Vhost, channel: Channel, connect: Connector
) -> None:
    await fill(channel, "q", [], QUORUM)
    holder = await connect.channel()
    inboxes = [await consuming(holder, "q", consumer_tag=tag) for tag in ("z", "a")]
    for body in numbered(6):
        await feed(channel, "q", body)
    for inbox in inboxes:
        await inbox.take(3)
    await holder.close()
    await until_counted(channel, "q", 6, 0)
    one, other = [b"0", b"2", b"4"], [b"1", b"3", b"5"]
    since = is_since(vhost.node, "4.0")
    assert await drain(channel, "q") == ([*one, *other] if since else [*other, *one])


@pytest_twisted.ensureDeferred
async def test_priorities_of_messages(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", [], QUORUM)
    publisher = await another(channel, confirms=True)
    priorities = (None, 0, 1, 4, 5, 9, 30, 31, 32, 200)
    for priority in priorities:
        properties = BasicProperties(priority=priority)
        await publisher.basic_publish(str(priority).encode(), routing_key="q", properties=properties)
    order: tuple[int | None, ...] = priorities
    if is_since(vhost.node, "4.3"):
        order = (31, 32, 200, 30, 9, 5, None, 4, 1, 0)
    assert await drain(channel, "q") == [str(priority).encode() for priority in order]


# --------------------------------------------------------------------------- room


@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses_until_there_is_much_room(channel: Channel) -> None:
    arguments = {**QUORUM, "x-max-length": 4, "x-overflow": "reject-publish"}
    await channel.queue_declare("q", durable=True, arguments=arguments)
    publisher = await another(channel, confirms=True)

    async def publish() -> type:
        (outcome,) = await outcomes([publisher.basic_publish(b"1", routing_key="q")])
        return type(outcome)

    assert [await publish() for _ in range(7)] == [Confirmed] * 5 + [Nacked] * 2
    await get(channel, "q")
    assert await publish() is Nacked
    await get(channel, "q")
    await get(channel, "q")
    assert (await counted(channel, "q"))[0] == 2


@pytest_twisted.ensureDeferred
async def test_what_came_back_is_the_first_to_go(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", [], {**QUORUM, "x-max-length": 2})
    await feed(channel, "q", *numbered(4))
    for body in (b"2", b"3"):
        assert (await get(channel, "q", no_ack=False)).body == body
    await feed(channel, "q", b"a", b"b", b"c")
    await channel.basic_nack(0, multiple=True)
    await until_counted(channel, "q", 2, 0)
    assert await drain(channel, "q") == ([b"b", b"c"] if is_since(vhost.node, "4.0") else [b"2", b"3"])


# --------------------------------------------------------------------------- consumers


@pytest_twisted.ensureDeferred
async def test_consumers_take_turns(channel: Channel) -> None:
    await fill(channel, "q", [], QUORUM)
    low = await consuming(channel, "q", 2, arguments={"x-priority": -1})
    equals = [await consuming(channel, "q", 2) for _ in range(2)]
    high = await consuming(channel, "q", 2, arguments={"x-priority": 5})
    for body in numbered(8):
        await feed(channel, "q", body)
    expected = [[b"0", b"1"], [b"2", b"4"], [b"3", b"5"], [b"6", b"7"]]
    for inbox, bodies in zip((high, *equals, low), expected, strict=True):
        assert [delivery.body for delivery in await inbox.take(2)] == bodies


@pytest.mark.covers("T-QOS-01")
@pytest_twisted.ensureDeferred
async def test_what_the_former_holder_of_a_tag_has_counts_for_the_next_one(
    vhost: Vhost, channel: Channel
) -> None:
    needs(vhost.node, "4.0", "is the first to go on delivering to who takes over a tag")
    await fill(channel, "q", numbered(6), QUORUM)
    former = await consuming(channel, "q", 2, consumer_tag="t")
    await former.take(2)
    await channel.basic_cancel("t")
    inbox = await consuming(channel, "q", 3, consumer_tag="t")
    await inbox.take(1)
    await until_counted(channel, "q", 3, 1)
    former.got[0].ack()
    await inbox.take(1)
    await until_counted(channel, "q", 2, 1)


@pytest_twisted.ensureDeferred
async def test_no_window_is_one_of_two_thousand(channel: Channel, connect: Connector) -> None:
    await fill(channel, "q", [], QUORUM)
    publisher = await another(channel, confirms=True)
    await all_of(publisher.basic_publish(b"", routing_key="q") for _ in range(2010))
    holder = await connect.channel()
    inbox = await consuming(holder, "q", 0)
    await inbox.take(2000)
    await until_counted(channel, "q", 10, 1)
    inbox.got[0].ack()
    await inbox.take(1)
    free = await consuming(channel, "q", 0, no_ack=True)
    await free.take(9)


@pytest_twisted.ensureDeferred
async def test_who_holds_something_counts_as_a_consumer(channel: Channel, connect: Connector) -> None:
    await fill(channel, "q", numbered(4), QUORUM)
    holder = await connect.channel()
    inbox = await consuming(holder, "q", 1, consumer_tag="t")
    await inbox.take()
    fetched = [await get(holder, "q", no_ack=False) for _ in range(2)]
    await until_counted(channel, "q", 1, 3)
    await holder.basic_cancel("t")
    await until_counted(channel, "q", 1, 3)
    fetched[0].ack()
    await until_counted(channel, "q", 1, 2)
    inbox.got[0].nack()
    await until_counted(channel, "q", 2, 1)
    await holder.close()
    await until_counted(channel, "q", 3, 0)


@pytest.mark.covers("T-CON-09")
@pytest_twisted.ensureDeferred
async def test_nobody_is_alone(channel: Channel) -> None:
    await fill(channel, "q", numbered(2), QUORUM)
    first = await consuming(channel, "q", 1, exclusive=True)
    second = await consuming(channel, "q", 1, exclusive=True)
    await first.take()
    await second.take()


@pytest.mark.covers("T-QOS-02")
@pytest_twisted.ensureDeferred
async def test_the_window_of_a_channel_is_not_for_it(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", numbered(3), QUORUM)
    early = await consuming(channel, "q", 2)
    await early.take(2)
    await channel.basic_qos(1, global_=True)
    early.got[0].ack()
    await early.take(1)
    consumed = channel.basic_consume("q", Inbox())
    if is_since(vhost.node, "4.3"):  # it is that of a consumer
        await soon(consumed)
        return
    error = await failure_of(consumed, AMQPNotImplemented)
    assert error.reply_text == (
        f"NOT_IMPLEMENTED - queue 'q' in vhost '{protocol_of(channel).parameters.virtual_host}' does not "
        "support global qos"
    )
    assert not protocol_of(channel).is_open


@pytest.mark.parametrize(
    ("argument", "value", "wrong"),
    [
        ("x-priority", "1", '"expected integer, got longstr"'),
        ("x-consumer-timeout", "1", '"expected integer, got longstr"'),
        ("x-consumer-timeout", -1, "{value_negative,-1}"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_arguments_of_consumers(
    vhost: Vhost, channel: Channel, argument: str, value: object, wrong: str
) -> None:
    await fill(channel, "q", [], QUORUM)
    consumed = channel.basic_consume("q", Inbox(), arguments={argument: value})
    if argument == "x-consumer-timeout" and not is_since(vhost.node, "4.3"):
        await soon(consumed)
        return
    error = await failure_of(consumed, PreconditionFailed)
    place = f"queue 'q' in vhost '{protocol_of(channel).parameters.virtual_host}'"
    assert error.reply_text == f"PRECONDITION_FAILED - invalid arg '{argument}' for {place}: {wrong}"


# --------------------------------------------------------------------------- one at a time


@pytest.mark.covers("T-CON-14")
@pytest_twisted.ensureDeferred
async def test_a_single_active_consumer_of_a_higher_priority(
    vhost: Vhost, channel: Channel, connect: Connector
) -> None:
    """Since 4.0 it takes over, once the active one has settled what it has."""
    await fill(channel, "q", numbered(4), SINGLE)
    old = await consuming(channel, "q", 2, consumer_tag="old")
    await old.take(2)
    others = [await connect.channel() for _ in range(2)]
    equal = await consuming(others[0], "q", 2)
    high = await consuming(others[1], "q", 2, arguments={"x-priority": 10})
    await until_counted(channel, "q", 2, 1)
    for delivery in old.got:
        delivery.ack()
    heir = high if is_since(vhost.node, "4.0") else old
    assert [delivery.body for delivery in await heir.take(2)] == [b"2", b"3"]
    for delivery in heir.got[-2:]:
        delivery.ack()
    await channel.basic_cancel("old")
    await feed(channel, "q", b"4")
    last = high if is_since(vhost.node, "4.0") else equal
    assert [delivery.body for delivery in await last.take()] == [b"4"]


@pytest.mark.covers("T-CON-14")
@pytest_twisted.ensureDeferred
async def test_the_next_single_active_consumer(channel: Channel, connect: Connector) -> None:
    await fill(channel, "q", numbered(3), SINGLE)
    first = await consuming(channel, "q", 1, consumer_tag="first")
    await first.take()
    second = await consuming(await connect.channel(), "q", 1)
    holder = await connect.channel()
    third = await consuming(holder, "q", 1)
    await channel.basic_cancel("first")  # what it has stays where it is
    assert [delivery.body for delivery in await second.take()] == [b"1"]
    await holder.close()
    first.got[0].ack()
    second.got[0].ack()
    assert [delivery.body for delivery in await second.take()] == [b"2"]
    assert third.got == []


@pytest_twisted.ensureDeferred
async def test_nothing_is_fetched_behind_a_single_active_consumer_s_back(
    vhost: Vhost, channel: Channel
) -> None:
    await fill(channel, "q", [b"1"], SINGLE)
    error = await failure_of(channel.basic_get("q"), ResourceLocked)
    kind = '<<"quorum">>' if is_since(vhost.node, "4.0") else "quorum"
    place = f"queue 'q' in vhost '{protocol_of(channel).parameters.virtual_host}'"
    assert error.reply_text.startswith(
        f"RESOURCE_LOCKED - cannot obtain access to locked {place}. basic.get operations are not supported "
        f"by {kind} queues with single"
    )
    await soon((await another(channel)).basic_consume("q", Inbox(), exclusive=True))


# --------------------------------------------------------------------------- too late


@pytest.fixture
def since_releases(vhost: Vhost) -> Iterator[None]:
    """Skip what is only since quorum queues take back what is not settled in time."""
    needs(vhost.node, "4.3", "is the first to take back what is not settled in time")
    return iter(())


@pytest.mark.covers("T-CON-06")
@pytest.mark.parametrize("where", ["queue", "consumer"])
@pytest_twisted.ensureDeferred
async def test_a_late_consumer_gets_more_once_it_has_settled_all(
    since_releases: None, channel: Channel, connect: Connector, where: str
) -> None:
    own = {"x-consumer-timeout": 1000}
    told = Recorder()
    await fill(
        channel, "q", numbered(2), {**QUORUM, **(own if where == "queue" else {"x-consumer-timeout": NEVER})}
    )
    slow = await connect.channel(delegate=told)
    inbox = await consuming(slow, "q", 2, consumer_tag="t", arguments=own if where == "consumer" else None)
    held = await inbox.take(2)
    assert await told.next("consumer_cancelled") == ("t",)
    await until_counted(channel, "q", 2, 1)
    held[1].reject(requeue=False)  # nothing is dropped: it is not its own any more
    await slow.basic_qos(1)
    assert len(inbox.got) == 2
    held[0].ack()
    again = await inbox.take(2)
    assert [(one.body, one.redelivered, *counts(one)) for one in again] == [
        (b"0", True, None, 1),
        (b"1", True, None, 1),
    ]
    assert slow.is_open


@pytest.mark.covers("T-CON-06")
@pytest_twisted.ensureDeferred
async def test_another_consumer_gets_what_one_has_kept_for_too_long(
    since_releases: None, channel: Channel, connect: Connector
) -> None:
    told = Recorder()
    await fill(channel, "q", numbered(2), {**SINGLE, "x-consumer-timeout": 1000})
    slow = await connect.channel(delegate=told)
    held = await consuming(slow, "q", 1, consumer_tag="t")
    await held.take()
    quick = await consuming(channel, "q", 1, arguments={"x-consumer-timeout": NEVER})
    assert [delivery.body for delivery in await quick.take()] == [b"0"]
    assert await told.next("consumer_cancelled") == ("t",)
    held.got[0].ack()
    quick.got[0].ack()
    assert [delivery.body for delivery in await quick.take()] == [b"1"]


@pytest.mark.covers("T-CON-06")
@pytest_twisted.ensureDeferred
async def test_a_client_agrees_that_a_consumer_is_over(
    since_releases: None, channel: Channel, connect: Connector
) -> None:
    told = Recorder()
    await fill(channel, "q", [b"1"], {**QUORUM, "x-consumer-timeout": 1000})
    slow = await connect.channel(delegate=told)
    inbox = await consuming(slow, "q", 1, consumer_tag="t")
    (held,) = await inbox.take()
    assert await told.next("consumer_cancelled") == ("t",)
    say(slow, BasicCancelOk("t"))
    await slow.basic_qos(1)
    held.ack()
    await until_counted(channel, "q", 1, 0)
    say(slow, BasicConsume("q", "t", False, True, False, True))
    assert [counts(delivery) for delivery in await inbox.take()] == [(None, 1)]
    assert slow.is_open


@pytest.mark.covers("T-CON-06")
@pytest.mark.parametrize("how", ["unable", "fetched", "cancelled"])
@pytest_twisted.ensureDeferred
async def test_who_cannot_be_told_loses_the_channel(
    since_releases: None, channel: Channel, connect: Connector, how: str
) -> None:
    await fill(channel, "q", [b"1"], {**QUORUM, "x-consumer-timeout": 1000})
    understands = {"capabilities": {"consumer_cancel_notify": how != "unable"}}
    slow = await (await connect(client_properties=understands)).open_channel()
    if how == "fetched":
        await get(slow, "q", no_ack=False)
    else:
        inbox = await consuming(slow, "q", 1, consumer_tag="t")
        await inbox.take()
        if how == "cancelled":
            await slow.basic_cancel("t")
    reason = await soon(slow.when_closed())
    assert isinstance(reason, PreconditionFailed)
    assert reason.reply_text.startswith(
        f"PRECONDITION_FAILED - delivery acknowledgement on channel {slow.number} timed out. Timeout value "
        "used: -1 ms. "
    )
    assert protocol_of(slow).is_open
    assert counts(await get(channel, "q"))[1] == 1


@pytest_twisted.ensureDeferred
async def test_nobody_else_agrees_to_a_cancel(vhost: Vhost, channel: Channel) -> None:
    await fill(channel, "q", [], QUORUM)
    await channel.basic_consume("q", Inbox(), consumer_tag="t")
    say(channel, BasicCancelOk("t"))
    if is_since(vhost.node, "4.3"):
        await until_counted(channel, "q", 0, 0)
        return
    reason = await soon(channel.when_closed())
    assert isinstance(reason, CommandInvalid)
    assert reason.reply_text == "COMMAND_INVALID - unimplemented method"


# --------------------------------------------------------------------------- later


@pytest.fixture
def since_delays(vhost: Vhost) -> Iterator[None]:
    """Skip what is only since quorum queues can let messages wait that came back."""
    needs(vhost.node, "4.3", "is the first to let messages wait that came back")
    return iter(())


def waits(kind: str, least: int, most: int | None = None) -> dict[str, Any]:
    """Return the arguments of a queue that lets messages wait."""
    arguments = {**QUORUM, "x-delayed-retry-type": kind, "x-delayed-retry-min": least}
    return arguments if most is None else {**arguments, "x-delayed-retry-max": most}


@pytest.mark.parametrize("kind", ["all", "failed", "returned", "disabled"])
@pytest.mark.parametrize("how", ["nack", "reject", "close"])
@pytest_twisted.ensureDeferred
async def test_what_has_to_wait(
    since_delays: None, channel: Channel, connect: Connector, kind: str, how: str
) -> None:
    await fill(channel, "q", [b"1"], waits(kind, NEVER))
    holder = await connect.channel()
    delivery = await get(holder, "q", no_ack=False)
    if how == "close":
        await holder.close()
    else:
        getattr(delivery, how)()
    delayed = kind == "all" or kind == ("returned" if how == "nack" else "failed")
    await until_counted(channel, "q", 0 if delayed else 1, 0)
    assert (await channel.basic_get("q") is None) is delayed
    assert (await channel.queue_purge("q")).message_count == int(delayed)
    await until_counted(channel, "q", 0, 0 if delayed else 1)


@pytest.mark.parametrize("bounded", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_fails_again_waits_longer(since_delays: None, channel: Channel, bounded: bool) -> None:
    most = 250 if bounded else None  # which is the least, if nothing else is said
    await fill(channel, "q", [b"1"], waits("failed", 100, most))
    inbox = await consuming(channel, "q")
    (delivery,) = await inbox.take()
    for least in (0.1, 0.2, 0.25, 0.25) if bounded else (0.1, 0.1):
        begun = CLOCK.seconds()
        delivery.reject()
        (delivery,) = await inbox.take()
        assert CLOCK.seconds() - begun > least - 0.02  # the broker counts in its own milliseconds


@pytest_twisted.ensureDeferred
async def test_who_has_waited_comes_before_who_is_new(since_delays: None, channel: Channel) -> None:
    await fill(channel, "q", [], waits("all", 200))
    await feed(channel, "q", *numbered(4))
    held = [await get(channel, "q", no_ack=False) for _ in range(2)]
    await channel.basic_nack(held[1].delivery_tag, multiple=True)
    await until_counted(channel, "q", 4, 0)
    assert await drain(channel, "q") == numbered(4)


@pytest_twisted.ensureDeferred
async def test_who_waits_takes_up_room_and_does_not_grow_old(since_delays: None, channel: Channel) -> None:
    await channel.queue_declare("dead", durable=True)
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await fill(channel, "full", [b"1"], {**waits("all", NEVER), **letters, "x-max-length": 1})
    (await get(channel, "full", no_ack=False)).nack()
    await until_counted(channel, "full", 0, 0)
    await feed(channel, "full", b"no room")
    (letter,) = await (await consuming(channel, "dead", 1, consumer_tag="t")).take()
    await channel.basic_cancel("t")
    assert (letter.body, headers_of(letter)["x-death"][0]["reason"]) == (b"no room", "maxlen")
    letter.ack()
    await fill(channel, "old", [b"1"], {**waits("all", NEVER), **letters, "x-message-ttl": 200})
    (await get(channel, "old", no_ack=False)).nack()
    await fill(channel, "short", [b"2"], {**QUORUM, **letters, "x-message-ttl": 300})
    (letter,) = await (await consuming(channel, "dead")).take()
    assert letter.body == b"2"
    assert (await channel.queue_purge("old")).message_count == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-delayed-retry-type": "all"},
        {"x-delayed-retry-min": NEVER},
        {"x-delayed-retry-type": "some", "x-delayed-retry-min": NEVER},
        {"x-delayed-retry-type": "all", "x-delayed-retry-min": 0},
        {"x-delayed-retry-type": "all", "x-delayed-retry-min": "1"},
    ],
    ids=repr,
)
@pytest_twisted.ensureDeferred
async def test_what_makes_no_sense_means_no_delay(
    since_delays: None, channel: Channel, arguments: dict[str, Any]
) -> None:
    await fill(channel, "q", [b"1"], {**QUORUM, **arguments})
    (await get(channel, "q", no_ack=False)).reject()
    await until_counted(channel, "q", 1, 0)
