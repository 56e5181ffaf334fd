"""Transactions of a real broker: what is published and settled takes effect together, or not at all."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.integration.support import (
    Recorder,
    another,
    depth,
    drain,
    failure_of,
    fill,
    get,
)
from txamqpx.channel import Channel
from txamqpx.errors import AlreadySettled, LocalProtocolError, NotFound
from txamqpx.message import Settlement


async def transaction(channel: Channel) -> Channel:
    """Open a channel in transaction mode next to another."""
    opened = await another(channel)
    await opened.tx_select()
    return opened


@pytest.mark.covers("S55")
@pytest_twisted.ensureDeferred
async def test_what_is_published_is_there_after_the_commit(channel: Channel) -> None:
    await fill(channel, "jobs", [])
    tx = await transaction(channel)
    for body in (b"1", b"2"):
        assert await tx.basic_publish(body, routing_key="jobs") is None
    await tx.queue_declare("jobs", passive=True)
    assert await depth(channel, "jobs") == 0
    await tx.tx_commit()
    assert await drain(channel, "jobs") == [b"1", b"2"]


@pytest.mark.covers("S55")
@pytest_twisted.ensureDeferred
async def test_what_is_rolled_back_was_never_published(channel: Channel) -> None:
    await fill(channel, "jobs", [])
    tx = await transaction(channel)
    await tx.basic_publish(b"never", routing_key="jobs")
    await tx.tx_rollback()
    await tx.basic_publish(b"kept", routing_key="jobs")
    await tx.tx_commit()
    await tx.tx_commit()
    assert await drain(channel, "jobs") == [b"kept"]


@pytest.mark.covers("S55")
@pytest_twisted.ensureDeferred
async def test_an_ack_that_is_rolled_back_can_be_given_again(channel: Channel) -> None:
    await fill(channel, "jobs", [b"1", b"2", b"3"])
    tx = await transaction(channel)
    first, second, third = [await get(tx, "jobs", no_ack=False) for _ in range(3)]
    first.ack()
    third.nack(requeue=False)
    with pytest.raises(AlreadySettled):
        first.ack()
    await tx.tx_rollback()
    assert not first.settled
    assert first.ack() is Settlement.SENT
    await tx.tx_commit()
    with pytest.raises(AlreadySettled):
        first.ack()
    second.ack()
    third.ack()
    # Not committed: they come again.
    await tx.close()
    assert await drain(await another(channel), "jobs") == [b"2", b"3"]


@pytest.mark.covers("S55", "T-ACK-03")
@pytest_twisted.ensureDeferred
async def test_acks_that_overlap(channel: Channel) -> None:
    await fill(channel, "jobs", [b"1", b"2", b"3", b"4"])
    tx = await transaction(channel)
    deliveries = [await get(tx, "jobs", no_ack=False) for _ in range(4)]
    deliveries[1].ack()
    await tx.basic_ack(deliveries[2].delivery_tag, multiple=True)
    await tx.basic_publish(b"done", routing_key="jobs")
    await tx.tx_commit()
    await tx.close()
    assert sorted(await drain(await another(channel), "jobs")) == [b"4", b"done"]


@pytest.mark.covers("S55")
@pytest_twisted.ensureDeferred
async def test_a_mandatory_message_comes_back_at_the_commit(channel: Channel, told: Recorder) -> None:
    tx = await transaction(channel)
    await tx.basic_publish(b"lost", routing_key="nowhere", mandatory=True)
    await tx.queue_declare("", exclusive=True)
    assert "message_returned" not in told.names()
    await tx.tx_commit()
    (message,) = await told.next("message_returned")
    assert (message.body, message.reply_code) == (b"lost", 312)


@pytest.mark.covers("S55", "T-CH-11")
@pytest_twisted.ensureDeferred
async def test_an_error_ends_the_transaction_with_its_channel(channel: Channel) -> None:
    await fill(channel, "jobs", [b"1"])
    tx = await transaction(channel)
    delivery = await get(tx, "jobs", no_ack=False)
    delivery.ack()
    await tx.basic_publish(b"never", routing_key="jobs")
    await tx.basic_publish(b"", exchange="missing")
    error = await failure_of(tx.tx_commit())
    reason = await tx.when_closed()
    assert isinstance(reason, NotFound)
    assert error.__cause__ is reason or isinstance(error, NotFound)
    assert delivery.ack() is Settlement.STALE
    other = await another(channel)
    again = await get(other, "jobs")
    assert (again.body, again.redelivered) == (b"1", True)
    assert await drain(other, "jobs") == []


@pytest.mark.covers("S55")
@pytest_twisted.ensureDeferred
async def test_a_commit_needs_a_transaction(channel: Channel) -> None:
    for call in (channel.tx_commit, channel.tx_rollback):
        with pytest.raises(LocalProtocolError) as caught:
            call()
        assert caught.value.reply_code == 406
    assert channel.is_open
    await channel.tx_select()
    await channel.tx_select()
    await channel.tx_commit()
