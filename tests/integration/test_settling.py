"""Settling what a real broker delivered, and how much of it may wait for that."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Inbox,
    another,
    depth,
    drain,
    fill,
    get,
    headers_of,
    is_since,
    numbered,
)
from txamqpx.channel import Channel
from txamqpx.errors import (
    AlreadySettled,
    UnknownDelivery,
)
from txamqpx.message import Settlement

# --------------------------------------------------------------------------- settling


@pytest.mark.covers("S14")
@pytest_twisted.ensureDeferred
async def test_a_rejected_message_comes_again_or_is_gone(channel: Channel) -> None:
    await fill(channel, "jobs", [b"hello"])
    (await get(channel, "jobs", no_ack=False)).reject()
    delivery = await get(channel, "jobs", no_ack=False)
    assert delivery.redelivered
    delivery.nack()
    delivery = await get(channel, "jobs", no_ack=False)
    assert delivery.redelivered
    delivery.reject(requeue=False)
    assert await depth(channel, "jobs") == 0
    await fill(channel, "jobs", [b"a", b"b", b"c"])
    for _ in range(3):
        last = await get(channel, "jobs", no_ack=False)
    await channel.basic_nack(last.delivery_tag, multiple=True, requeue=False)
    await channel.close()
    other = await another(channel)
    assert await depth(other, "jobs") == 0


@pytest.mark.covers("S15", "F3")
@pytest_twisted.ensureDeferred
async def test_a_dead_letter_says_why(channel: Channel) -> None:
    await channel.queue_declare("dead", durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await fill(channel, "jobs", [b"hello"], arguments)
    (await get(channel, "jobs", no_ack=False)).reject(requeue=False)
    inbox = Inbox()
    await channel.basic_consume("dead", inbox, no_ack=True)
    (delivery,) = await inbox.take()
    (death,) = headers_of(delivery)["x-death"]
    assert (death["reason"], death["queue"], death["count"]) == ("rejected", "jobs", 1)
    assert death["routing-keys"] == ["jobs"]
    assert death["time"].tzinfo is not None


@pytest.mark.covers("S17", "T-ACK-02", "T-ACK-03", "T-ACK-05")
@pytest_twisted.ensureDeferred
async def test_settling_twice_is_our_own_error_and_costs_nothing(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(4))
    first, second, third = [await get(channel, "jobs", no_ack=False) for _ in range(3)]
    forgotten = await get(channel, "jobs")
    first.ack()
    for again in (first.ack, first.nack, first.reject, forgotten.ack, forgotten.nack):
        with pytest.raises(AlreadySettled):
            again()
    for tag in (first.delivery_tag, forgotten.delivery_tag):
        with pytest.raises(AlreadySettled):
            channel.basic_ack(tag)
    for tag, multiple in ((999, False), (999, True), (0, False)):
        with pytest.raises(UnknownDelivery):
            channel.basic_ack(tag, multiple=multiple)
    await channel.basic_ack(third.delivery_tag, multiple=True)
    with pytest.raises(AlreadySettled):
        second.ack()
    await channel.basic_ack(0, multiple=True)  # all there are, which is none
    assert await depth(channel, "jobs") == 0
    assert channel.is_open


@pytest.mark.covers("T-ACK-01", "T-ACK-08")
@pytest_twisted.ensureDeferred
async def test_a_delivery_of_a_channel_that_is_gone_is_stale(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(2))
    old = await another(channel)
    delivery = await get(old, "jobs", no_ack=False)
    await old.close()
    renewed = await another(channel)
    again = await get(renewed, "jobs", no_ack=False)
    assert (again.body, again.delivery_tag, again.redelivered) == (b"0", delivery.delivery_tag, True)
    for settle in (delivery.ack, delivery.nack, delivery.reject):
        assert settle() is Settlement.STALE
    assert again.ack() is Settlement.SENT
    assert await drain(renewed, "jobs") == [b"1"]


@pytest.mark.covers("S50", "T-ACK-03", "T-ACK-04")
@pytest_twisted.ensureDeferred
async def test_recover_gives_out_again_what_is_unsettled(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(5))
    old, new = Inbox(), Inbox()
    tag = (await channel.basic_consume("jobs", old)).consumer_tag
    deliveries = await old.take(5)
    await channel.basic_ack(deliveries[1].delivery_tag, multiple=True)
    deliveries[3].ack()
    await channel.basic_cancel(tag)
    await channel.basic_consume("jobs", new)
    await channel.basic_recover()
    again = await new.take(2)
    assert sorted((delivery.body, delivery.redelivered) for delivery in again) == [(b"2", True), (b"4", True)]
    assert deliveries[2].ack() is Settlement.STALE
    for delivery in again:
        delivery.ack()
    assert await depth(channel, "jobs") == 0
    assert len(old.got) == 5


@pytest.mark.covers("S52")
@pytest_twisted.ensureDeferred
async def test_only_what_was_not_acked_comes_back(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(40))
    for number in range(40):
        delivery = await get(channel, "jobs", no_ack=number < 20)
        assert delivery.body == str(number).encode()
        if number >= 20 and (number < 30 or number % 2):
            delivery.ack()
    assert await channel.basic_get("jobs") is None
    await channel.basic_recover()
    await depth(channel, "jobs")
    assert sorted(await drain(channel, "jobs")) == [b"30", b"32", b"34", b"36", b"38"]


# --------------------------------------------------------------------------- windows


@pytest.mark.covers("S51", "T-QOS-01")
@pytest_twisted.ensureDeferred
async def test_no_more_than_the_window_is_unsettled(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(10))
    await channel.basic_qos(5)
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox)
    first = await inbox.take(5)
    assert await depth(channel, "jobs") == 5
    assert len(inbox.got) == 5
    await channel.basic_ack(first[-1].delivery_tag, multiple=True)
    await inbox.take(5)
    assert inbox.bodies == numbered(10)


@pytest.mark.covers("T-QOS-01")
@pytest_twisted.ensureDeferred
async def test_a_window_is_for_consumers_that_come_after_it(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(10))
    await channel.basic_qos(1)
    small, large = Inbox(), Inbox()
    tag = (await channel.basic_consume("jobs", small)).consumer_tag
    await small.take(1)
    await channel.basic_qos(4)
    assert await depth(channel, "jobs") == 9
    assert len(small.got) == 1
    await channel.basic_consume("jobs", large)
    await large.take(4)
    assert await depth(channel, "jobs") == 5
    assert (len(small.got), len(large.got)) == (1, 4)
    await channel.basic_cancel(tag)


@pytest.mark.covers("T-QOS-02")
@pytest_twisted.ensureDeferred
async def test_a_window_for_the_whole_channel(vhost: Vhost, channel: Channel) -> None:
    """RabbitMQ 4.3 says yes, and takes it for one of each consumer: the feature is not permitted any more."""
    names = ("a", "b")
    for name in names:
        await fill(channel, name, numbered(2))
    await channel.basic_qos(1, global_=True)
    inbox = Inbox()
    for name in names:
        await channel.basic_consume(name, inbox)
    left = sum([await depth(channel, name) for name in names])
    assert left == (2 if is_since(vhost.node, "4.3") else 3)
    assert len(inbox.got) == 4 - left
    for delivery in await inbox.take(4 - left):
        delivery.ack()
    await inbox.take(1)


@pytest.mark.covers("T-ACK-03")
@pytest_twisted.ensureDeferred
async def test_an_ack_of_many_is_for_all_consumers_of_the_channel(channel: Channel) -> None:
    inboxes = [Inbox(), Inbox()]
    for name, inbox in zip("ab", inboxes, strict=True):
        await fill(channel, name, numbered(2))
        await channel.basic_consume(name, inbox)
        await inbox.take(2)
    await channel.basic_ack(inboxes[1].got[-1].delivery_tag, multiple=True)
    for inbox in inboxes:
        for delivery in inbox.got:
            assert delivery.settled
    await channel.close()
    other = await another(channel)
    assert [await depth(other, name) for name in "ab"] == [0, 0]
