"""Queues with ways of their own: quorum queues, streams, those of one active consumer, and impatient ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    another,
    failure_of,
    fill,
    headers_of,
    is_since,
    needs,
    protocol_of,
    soon,
    streaming,
)
from txamqpx.channel import Channel
from txamqpx.client import connect as connect_client
from txamqpx.errors import (
    AMQPNotImplemented,
    ConsumerTagInUse,
    NotAllowed,
    PreconditionFailed,
    TopologyError,
)
from txamqpx.message import Settlement
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import BasicConsume
from txamqpx.topology import Queue, Topology

QUORUM = {"x-queue-type": "quorum"}


@pytest.mark.covers("T-ACK-06")
@pytest_twisted.ensureDeferred
async def test_what_counts_as_a_failed_delivery_of_a_quorum_queue(vhost: Vhost, channel: Channel) -> None:
    """Since 4.3 a nack does not and a reject does, so the two are kept apart here; before, both did."""
    await fill(channel, "jobs", [b"hello"], QUORUM)
    inbox = Inbox()
    await channel.basic_qos(1)
    await channel.basic_consume("jobs", inbox)
    seen = []
    for give_back in ("nack", "nack", "reject", "reject", "ack"):
        (delivery,) = await inbox.take()
        seen.append((delivery.properties.headers or {}).get("x-delivery-count"))
        getattr(delivery, give_back)()
    assert seen == ([None, None, None, 1, 2] if is_since(vhost.node, "4.3") else [None, 1, 2, 3, 4])


@pytest_twisted.ensureDeferred
async def test_a_quorum_queue_is_never_exclusive(channel: Channel) -> None:
    refused = channel.queue_declare("jobs", durable=True, exclusive=True, arguments=QUORUM)
    error = await failure_of(refused, PreconditionFailed)
    assert error.operation == "queue.declare"


@pytest.mark.covers("T-CON-14")
@pytest_twisted.ensureDeferred
async def test_of_many_consumers_one_is_active(channel: Channel) -> None:
    await fill(channel, "jobs", [b"1", b"2"], {"x-single-active-consumer": True})
    first, second = Inbox(), Inbox()
    standby = await another(channel)
    await channel.basic_consume("jobs", first, consumer_tag="first")
    await standby.basic_consume("jobs", second, consumer_tag="second")
    for delivery in await first.take(2):
        delivery.ack()
    await channel.basic_cancel("first")
    await fill_more(channel, "jobs", b"3")
    assert [one.body for one in await second.take()] == [b"3"]
    assert first.bodies == [b"1", b"2"]


async def fill_more(channel: Channel, queue: str, *bodies: bytes) -> None:
    publisher = await another(channel, confirms=True)
    for body in bodies:
        await publisher.basic_publish(body, routing_key=queue, mandatory=True)


@pytest.mark.covers("T-CON-15")
@pytest_twisted.ensureDeferred
async def test_a_stream_is_read_from_wherever_one_likes(vhost: Vhost, channel: Channel) -> None:
    streaming(vhost.node)
    await fill(channel, "log", [str(number).encode() for number in range(10)], {"x-queue-type": "stream"})
    await channel.basic_qos(100)
    for offset, first in (("first", 0), (7, 7), (0, 0)):
        inbox = Inbox()
        arguments = {"x-stream-offset": offset}
        tag = (await channel.basic_consume("log", inbox, arguments=arguments)).consumer_tag
        deliveries = await inbox.take(10 - first)
        assert [int(delivery.body) for delivery in deliveries] == [*range(first, 10)]
        assert [headers_of(delivery)["x-stream-offset"] for delivery in deliveries] == [*range(first, 10)]
        for delivery in deliveries:
            delivery.ack()
        await channel.basic_cancel(tag)


@pytest.mark.covers("T-CON-15", "T-QOS-03")
@pytest_twisted.ensureDeferred
async def test_a_stream_wants_a_window_and_acks(vhost: Vhost, channel: Channel) -> None:
    streaming(vhost.node)
    await fill(channel, "log", [b"hello"], {"x-queue-type": "stream"})
    other = await another(channel)
    error = await failure_of(other.basic_consume("log", Inbox()))
    assert (type(error), error.operation) == (PreconditionFailed, "basic.consume")
    await channel.basic_qos(10)
    error = await failure_of(channel.basic_consume("log", Inbox(), no_ack=True))
    assert (type(error), error.reply_code) == (AMQPNotImplemented, 540)
    assert not protocol_of(channel).is_open


@pytest.mark.covers("T-CON-06")
@pytest_twisted.ensureDeferred
async def test_a_slow_consumer_of_a_quorum_queue_is_cancelled_and_its_tag_kept(
    vhost: Vhost, channel: Channel, connect: Connector, told: Recorder
) -> None:
    """What the broker cancelled goes on until we cancel it, too, and then the tag is free."""
    needs(vhost.node, "4.3", "is the first to cancel slow consumers")
    await fill(channel, "jobs", [b"1", b"2"], {**QUORUM, "x-consumer-timeout": 5000})
    inbox = Inbox()
    await channel.basic_qos(1)
    await channel.basic_consume("jobs", inbox, consumer_tag="slow")
    (held,) = await inbox.take()
    assert await told.next("consumer_cancelled") == ("slow",)
    assert channel.is_open
    assert held.ack() is Settlement.SENT
    # The consumer that is dead by its cancel is served again, as it has settled what it held.
    (again,) = await inbox.take()
    assert again.consumer_tag == "slow"
    with pytest.raises(ConsumerTagInUse):
        channel.basic_consume("jobs", inbox, consumer_tag="slow")
    again.nack()
    await channel.basic_cancel("slow")
    for late in inbox.got[2:]:  # what came back may have been given out once more before the cancel
        late.nack()
    fresh = Inbox()
    await channel.basic_consume("jobs", fresh, consumer_tag="slow")
    (delivery,) = await fresh.take()
    delivery.ack()
    # The broker, had we asked it with the tag that it cancelled but kept:
    other = await connect.channel(delegate=told)
    await other.basic_consume("jobs", inbox, consumer_tag="taken")
    payload = BasicConsume("jobs", "taken").encode()
    other.core.connection.outbox.append(frame(METHOD, other.number, payload))
    reason = await soon(protocol_of(other).when_closed())
    assert isinstance(reason, NotAllowed)
    assert reason.reply_code == 530


@pytest.fixture
def impatient(vhost: Vhost) -> Iterator[BrokerNode]:
    """Have the broker bear slow consumers for a second."""
    with vhost.node.impatient(1):
        yield vhost.node


@pytest.mark.covers("T-CON-07")
@pytest_twisted.ensureDeferred
async def test_a_slow_consumer_of_a_classic_queue_costs_its_channel(
    vhost: Vhost, impatient: BrokerNode, connect: Connector, told: Recorder
) -> None:
    if is_since(impatient, "4.3"):
        pytest.skip("RabbitMQ 4.3 and later have a timeout only for consumers of quorum queues")
    channel = await connect.channel(delegate=told)
    await fill(channel, "jobs", [b"hello"])
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox)
    (held,) = await inbox.take()
    (reason,) = await told.next("channel_closed")
    if not isinstance(reason, PreconditionFailed):  # that of the channel which filled the queue
        (reason,) = await told.next("channel_closed")
    assert isinstance(reason, PreconditionFailed)
    assert "timed out" in reason.reply_text
    assert held.ack() is Settlement.STALE
    other = await another(channel)
    again = await other.basic_get("jobs", no_ack=True)
    assert again is not None
    assert again.redelivered


@pytest_twisted.ensureDeferred
async def test_a_client_does_not_end_its_connection_over_a_queue_that_it_has_declared(vhost: Vhost) -> None:
    streaming(vhost.node)

    def ignore(delivery: object) -> None:
        pass

    async with await soon(connect_client(vhost.url)) as client:
        declared = client.declare(Topology(Queue.stream("st"), Queue.quorum("qq")))
        refused: list[Deferred[Any]] = [
            client.get("st"),
            client.queue_purge("st"),
            client.queue_delete("qq", if_unused=True),
            client.queue_delete("qq", if_empty=True),
            client.consume("st", ignore, ack="none"),
            client.consume("st", ignore, prefetch=None),
            client.consume("st", ignore, priority=1),
        ]
        await soon(declared)
        for each in refused:
            await failure_of(each, TopologyError)
        assert client.is_open
        await soon(client.consume("st", ignore))
        await soon(client.queue_purge("qq"))
        await soon(client.queue_delete("qq"))
        await soon(client.declare(Queue.classic("qq")))
        await soon(client.queue_delete("qq", if_unused=True))
