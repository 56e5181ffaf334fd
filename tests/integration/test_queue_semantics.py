"""What a queue does with its messages: how long it keeps them, how many, in which order; and when it ends."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.queues import SHORT, TO_DEAD, dead_letters, queue, send, short_time
from tests.integration.support import (
    Connector,
    Inbox,
    all_of,
    another,
    depth,
    drain,
    failure_of,
    get,
    is_since,
    outcomes,
    protocol_of,
    until_ready,
)
from txamqpx.channel import Channel
from txamqpx.errors import Nacked, PreconditionFailed
from txamqpx.message import Confirmed, Delivery
from txamqpx.spec.amqp0_9_1 import BasicProperties


async def taken(channel: Channel, name: str, count: int) -> list[Delivery]:
    """Get so many messages, and hold them."""
    return [await get(channel, name, no_ack=False) for _ in range(count)]


# --------------------------------------------------------------------------- time


@pytest_twisted.ensureDeferred
async def test_a_message_lives_for_the_shorter_of_two_times(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "short", message_ttl=SHORT)
    await send(publisher, "short", b"none")
    await send(publisher, "short", b"less", expiration="1")
    await send(publisher, "short", b"more", expiration="600000")
    await dead.take(3)
    assert dead.bodies == [b"none", b"less", b"more"]
    await queue(publisher, "long", message_ttl=600000)
    await send(publisher, "long", b"own", expiration=str(SHORT))
    (own,) = await dead.take()
    assert own.body == b"own"
    await send(publisher, "long", b"kept", expiration="600001")
    kept = await get(publisher, "long")
    assert (kept.body, kept.properties.expiration) == (b"kept", "600001")


@pytest_twisted.ensureDeferred
async def test_a_message_of_no_time_is_for_who_waits(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    for name, arguments, expiration in (("own", {}, "0"), ("all", {"message_ttl": 0}, None)):
        await queue(publisher, name, **arguments)
        (outcome,) = await send(publisher, name, b"missed", expiration=expiration)
        assert isinstance(outcome, Confirmed)
        (missed,) = await dead.take()
        assert missed.body == b"missed"
        assert await depth(publisher, name) == 0
        waiting = Inbox()
        await publisher.basic_consume(name, waiting, no_ack=True)
        await send(publisher, name, b"caught", expiration=expiration)
        (caught,) = await waiting.take()
        assert (caught.body, caught.properties.expiration) == (b"caught", expiration)
    assert dead.bodies == [b"missed", b"missed"]


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("abc", "no_integer"),
        ("", "no_integer"),
        (" 5", "no_integer"),
        ("٣", "no_integer"),
        ("5 ", '{leftover_string," "}'),
        ("1.5", '{leftover_string,".5"}'),
        ("5abc", '{leftover_string,"abc"}'),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_expiration_that_is_no_time(publisher: Channel, text: str, reason: str) -> None:
    """Another client may send it."""
    raw = text.encode()
    wrong = BasicProperties._of({"expiration": text}, b"\x01\x00" + bytes([len(raw)]) + raw)
    await queue(publisher, "jobs")
    error = await failure_of(
        publisher.basic_publish(b"", routing_key="jobs", properties=wrong), PreconditionFailed
    )
    assert error.reply_text == f"PRECONDITION_FAILED - invalid expiration '{text}': {reason}"


@pytest_twisted.ensureDeferred
async def test_numbers_that_are_written_oddly(vhost: Vhost, publisher: Channel) -> None:
    """RabbitMQ 4 keeps the number, 3 the text; ten years are the most."""
    await queue(publisher, "jobs")
    for text, number in (("0060000", "60000"), ("+60000", "60000"), ("315360000000", "315360000000")):
        raw = text.encode()
        odd = BasicProperties._of({"expiration": text}, b"\x01\x00" + bytes([len(raw)]) + raw)
        await publisher.basic_publish(b"", routing_key="jobs", properties=odd)
        expected = number if is_since(vhost.node, "4.0") else text
        assert (await get(publisher, "jobs")).properties.expiration == expected


@pytest_twisted.ensureDeferred
async def test_messages_expire_only_at_the_head(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "jobs")
    await send(publisher, "jobs", b"head")
    await send(publisher, "jobs", b"middle", expiration=str(SHORT))
    await send(publisher, "jobs", b"tail")
    await short_time(publisher)
    assert await depth(publisher, "jobs") == 3
    head = await get(publisher, "jobs", no_ack=False)
    assert (head.body, head.message_count) == (b"head", 1)
    (middle,) = await dead.take()
    assert middle.body == b"middle"
    head.nack()
    assert await drain(publisher, "jobs") == [b"head", b"tail"]


@pytest_twisted.ensureDeferred
async def test_what_somebody_has_does_not_expire_before_it_comes_back(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "jobs")
    deliveries = []
    for body in (b"acked", b"back", b"left"):
        await send(publisher, "jobs", body, expiration="60")
        deliveries += await taken(await another(publisher), "jobs", 1)
    await short_time(publisher)
    await short_time(publisher)
    assert dead.got == []
    deliveries[0].ack()
    deliveries[1].nack()
    await dead.take()
    await deliveries[2].channel.close()
    await dead.take()
    assert dead.bodies == [b"back", b"left"]


# --------------------------------------------------------------------------- limits


@pytest_twisted.ensureDeferred
async def test_the_oldest_make_room(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "few", max_length=2)
    await send(publisher, "few", b"a", b"b", b"c", b"d")
    await dead.take(2)
    assert dead.bodies == [b"a", b"b"]
    assert await drain(publisher, "few") == [b"c", b"d"]
    await queue(publisher, "small", max_length_bytes=10)
    sent = await send(publisher, "small", b"aaaa", b"bbbbbb", b"c", b"d" * 11, b"e")
    assert all(isinstance(outcome, Confirmed) for outcome in sent)
    await dead.take(4)
    assert dead.bodies[2:] == [b"aaaa", b"bbbbbb", b"c", b"d" * 11]
    assert await drain(publisher, "small") == [b"e"]
    await queue(publisher, "both", max_length=2, max_length_bytes=3)
    await send(publisher, "both", b"a", b"b", b"c", b"ddd")
    await dead.take(3)
    assert await drain(publisher, "both") == [b"ddd"]


@pytest_twisted.ensureDeferred
async def test_nothing_fits_into_a_queue_of_no_length_but_what_somebody_waits_for(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "none", max_length=0)
    await send(publisher, "none", b"dropped")
    await dead.take()
    assert await depth(publisher, "none") == 0
    inbox = Inbox()
    await publisher.basic_consume("none", inbox, no_ack=True)
    await send(publisher, "none", b"given")
    (given,) = await inbox.take()
    assert given.body == b"given"


@pytest_twisted.ensureDeferred
async def test_what_comes_back_to_a_full_queue_is_the_oldest(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "few", max_length=2)
    await send(publisher, "few", b"a", b"b")
    first, second = await taken(publisher, "few", 2)
    await send(publisher, "few", b"c", b"d")
    assert await depth(publisher, "few") == 2
    second.nack()
    await dead.take()
    first.nack()
    await dead.take()
    assert dead.bodies == [b"b", b"a"]
    assert await drain(publisher, "few") == [b"c", b"d"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
@pytest_twisted.ensureDeferred
async def test_a_full_queue_may_refuse(publisher: Channel, overflow: str) -> None:
    dead = await dead_letters(publisher)
    expected: list[bytes] = []
    await queue(publisher, "few", max_length=1, overflow=overflow)
    first, second = await send(publisher, "few", b"a", b"b")
    assert isinstance(first, Confirmed)
    assert isinstance(second, Nacked)
    expected += [b"b"]
    (held,) = await taken(publisher, "few", 1)
    assert isinstance((await send(publisher, "few", b"c"))[0], Confirmed)
    held.nack()  # and now there are two
    assert isinstance((await send(publisher, "few", b"d"))[0], Nacked)
    expected += [b"d"]
    unconfirmed = await another(publisher)
    await unconfirmed.basic_publish(b"e", routing_key="few")
    assert await depth(unconfirmed, "few") == 2
    expected += [b"e"]
    assert await drain(publisher, "few") == [b"a", b"c"]
    await queue(publisher, "small", max_length_bytes=4, overflow=overflow)
    small = await send(publisher, "small", b"12345", b"1234", b"")
    assert [type(outcome) for outcome in small] == [Nacked, Confirmed, Confirmed]
    expected += [b"12345"]
    await queue(publisher, "none", max_length=0, overflow=overflow)
    await publisher.basic_consume("none", Inbox(), no_ack=True)
    assert isinstance((await send(publisher, "none", b"nobody gets it"))[0], Nacked)
    expected += [b"nobody gets it"]
    if overflow == "reject-publish":
        expected = []
    await queue(publisher, "end", message_ttl=0)
    await send(publisher, "end", b"the end")
    await dead.take(len(expected) + 1)
    assert sorted(dead.bodies) == sorted([*expected, b"the end"])


@pytest_twisted.ensureDeferred
async def test_one_queue_that_refuses_is_enough_for_a_nack(publisher: Channel) -> None:
    await queue(publisher, "few", max_length=1, overflow="reject-publish")
    await queue(publisher, "many")
    for name in ("few", "many"):
        await publisher.queue_bind(name, "amq.fanout")
    sent = [publisher.basic_publish(body, exchange="amq.fanout", mandatory=True) for body in (b"a", b"b")]
    assert [type(outcome) for outcome in await outcomes(sent)] == [Confirmed, Nacked]
    assert await drain(publisher, "few") == [b"a"]
    assert await drain(publisher, "many") == [b"a", b"b"]


# --------------------------------------------------------------------------- order


@pytest_twisted.ensureDeferred
async def test_what_matters_comes_first(publisher: Channel) -> None:
    """A priority above the most is the most, and none is 0; what was sent is what comes."""
    await queue(publisher, "jobs", max_priority=5)
    priorities = (None, 0, 1, 9, 5, 3, None, 255, 5)
    for number, priority in enumerate(priorities):
        await send(publisher, "jobs", str(number).encode(), priority=priority)
    deliveries = await taken(publisher, "jobs", len(priorities))
    order = [b"3", b"4", b"7", b"8", b"5", b"2", b"0", b"1", b"6"]
    assert [delivery.body for delivery in deliveries] == order
    assert [delivery.properties.priority for delivery in deliveries] == [9, 5, 255, 5, 3, 1, None, 0, None]
    for delivery in deliveries[::2] + deliveries[1::2]:
        delivery.nack()
    assert await depth(publisher, "jobs") == 9
    assert await drain(publisher, "jobs") == order


@pytest_twisted.ensureDeferred
async def test_a_queue_of_no_priorities(vhost: Vhost, publisher: Channel) -> None:
    """RabbitMQ 4 makes it two, 0 and the others."""
    await queue(publisher, "jobs", max_priority=0)
    for priority in (None, 2, 0, 1):
        await send(publisher, "jobs", b"%r" % priority, priority=priority)
    new = is_since(vhost.node, "4.0")
    assert await drain(publisher, "jobs") == (
        [b"2", b"1", b"None", b"0"] if new else [b"None", b"2", b"0", b"1"]
    )


@pytest_twisted.ensureDeferred
async def test_with_each_ack_a_consumer_gets_what_matters_most_then(publisher: Channel) -> None:
    await queue(publisher, "jobs", max_priority=9)
    for priority in (1, 2, 3):
        await send(publisher, "jobs", b"%d" % priority, priority=priority)
    inbox = Inbox()
    await publisher.basic_qos(1)
    await publisher.basic_consume("jobs", inbox)
    (delivery,) = await inbox.take()
    await send(publisher, "jobs", b"9", priority=9)
    for _ in range(3):
        delivery.ack()
        (delivery,) = await inbox.take()
    assert inbox.bodies == [b"3", b"9", b"2", b"1"]


@pytest_twisted.ensureDeferred
async def test_the_first_in_line_is_the_first_to_make_room_and_to_expire(publisher: Channel) -> None:
    """However much it matters; and behind it nothing expires."""
    dead = await dead_letters(publisher)
    await queue(publisher, "few", max_priority=5, max_length=2)
    for priority in (0, 5, 3):
        await send(publisher, "few", b"%d" % priority, priority=priority)
    await dead.take()
    assert dead.bodies == [b"5"]
    assert await drain(publisher, "few") == [b"3", b"0"]
    await queue(publisher, "jobs", max_priority=5)
    await send(publisher, "jobs", b"low", priority=0, expiration=str(SHORT))
    await send(publisher, "jobs", b"high", priority=5)
    await short_time(publisher)
    assert await depth(publisher, "jobs") == 2
    high = await get(publisher, "jobs", no_ack=False)
    (low,) = await dead.take()
    assert (high.body, low.body) == (b"high", b"low")


@pytest.mark.covers("T-ACK-01")
@pytest_twisted.ensureDeferred
async def test_what_comes_back_has_its_old_place(publisher: Channel) -> None:
    await queue(publisher, "jobs")
    await send(publisher, "jobs", *(b"%d" % number for number in range(8)))
    held = await another(publisher)
    deliveries = await taken(held, "jobs", 6)
    deliveries[0].ack()
    deliveries[3].nack()
    deliveries[1].reject()
    deliveries[5].nack()
    assert await depth(held, "jobs") == 5
    again = await taken(publisher, "jobs", 5)
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [
        (b"1", True),
        (b"3", True),
        (b"5", True),
        (b"6", False),
        (b"7", False),
    ]
    await held.close()
    again += await taken(publisher, "jobs", 2)
    assert [(delivery.body, delivery.redelivered) for delivery in again[5:]] == [(b"2", True), (b"4", True)]
    await publisher.basic_recover()
    await depth(publisher, "jobs")
    assert await drain(publisher, "jobs") == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]


@pytest_twisted.ensureDeferred
async def test_what_a_consumer_gives_back_is_the_next_that_it_gets(publisher: Channel) -> None:
    await queue(publisher, "jobs")
    await send(publisher, "jobs", b"0", b"1", b"2", b"3")
    inbox = Inbox()
    await publisher.basic_qos(2)
    await publisher.basic_consume("jobs", inbox)
    _, second = await inbox.take(2)
    second.nack()
    await inbox.take()
    seen = [(delivery.body, delivery.redelivered) for delivery in inbox.got]
    assert seen == [(b"0", False), (b"1", False), (b"1", True)]


# --------------------------------------------------------------------------- counts, and the end


@pytest_twisted.ensureDeferred
async def test_who_asks_is_told_what_is_ready_and_how_many_wait(publisher: Channel) -> None:
    await queue(publisher, "jobs")
    await send(publisher, "jobs", b"a", b"b", b"c")
    assert (await get(publisher, "jobs", no_ack=False)).message_count == 2
    inbox = Inbox()
    await publisher.basic_qos(1)
    await publisher.basic_consume("jobs", inbox)
    await inbox.take()
    ok = await publisher.queue_declare("jobs", durable=True, arguments=TO_DEAD)
    assert (ok.queue, ok.message_count, ok.consumer_count) == ("jobs", 1, 1)
    assert (await publisher.queue_delete("jobs")).message_count == 1


@pytest.mark.parametrize("settle", ["ack", "nack", "reject", "discard"])
@pytest_twisted.ensureDeferred
async def test_what_is_held_when_its_queue_goes_may_be_settled_all_the_same(
    publisher: Channel, settle: str
) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "jobs")
    await send(publisher, "jobs", b"held")
    (held,) = await taken(publisher, "jobs", 1)
    assert (await publisher.queue_delete("jobs", if_empty=True)).message_count == 0
    getattr(held, settle)()
    await queue(publisher, "jobs", message_ttl=0)
    await send(publisher, "jobs", b"later")
    await dead.take()
    assert dead.bodies == [b"later"]
    assert publisher.is_open


@pytest_twisted.ensureDeferred
async def test_what_is_purged_or_deleted_is_no_dead_letter(publisher: Channel) -> None:
    dead = await dead_letters(publisher)
    await queue(publisher, "jobs")
    await send(publisher, "jobs", b"purged")
    assert (await publisher.queue_purge("jobs")).message_count == 1
    await send(publisher, "jobs", b"deleted")
    await publisher.queue_delete("jobs")
    await queue(publisher, "jobs", message_ttl=0)
    await send(publisher, "jobs", b"expired")
    await dead.take()
    assert dead.bodies == [b"expired"]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_goes_gives_everything_back(publisher: Channel, connect: Connector) -> None:
    await queue(publisher, "jobs")
    await send(publisher, "jobs", b"a", b"b", b"c")
    lost = await connect.channel()
    await taken(lost, "jobs", 2)
    protocol_of(lost).abort()
    await until_ready(publisher, "jobs", 3)
    again = await taken(publisher, "jobs", 3)
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [
        (b"a", True),
        (b"b", True),
        (b"c", False),
    ]
    await all_of([publisher.basic_recover()])
