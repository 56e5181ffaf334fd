"""A real broker that is short of memory or disk: it reads no more from whoever publishes."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.broker_node import BrokerNode
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    all_of,
    failure_of,
    fill,
    outcomes,
    pause,
    protocol_of,
    soon,
)
from txamqpx.connection import AMQPProtocol
from txamqpx.errors import ConnectionClosed, NotPublished, OutcomeUnknown, RPCTimeout
from txamqpx.message import Confirmed


def blocked(protocol: AMQPProtocol) -> str | None:
    """Return the reason, of which a type checker would think that it stays as it was."""
    return protocol.blocked


@pytest.mark.covers("S100", "T-BLK-01", "F11")
@pytest.mark.parametrize("source", ["memory", "disk"])
@pytest_twisted.ensureDeferred
async def test_a_publish_waits_until_the_alarm_is_over(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder, source: str
) -> None:
    channel = await own_connect.channel(delegate=told, confirms=True)
    protocol = protocol_of(channel)
    idle, consumer = Recorder(), Inbox()
    other = await own_connect.channel(delegate=idle)
    await fill(channel, "jobs", [])
    await other.basic_consume("jobs", consumer, no_ack=True)
    own_broker.set_alarm(source)
    await channel.queue_declare("jobs", passive=True)
    assert told.names() == ["connection_opened", "channel_closed"]  # nobody is told who does not publish
    # Whether the publish that has it told is read or held is the broker's luck.
    first = channel.basic_publish(b"first", routing_key="jobs")
    assert await told.next("connection_blocked") == (f"low on {source}",)
    assert blocked(protocol) == f"low on {source}"
    held = [channel.basic_publish(b"held", routing_key="jobs") for _ in range(10)]
    await other.queue_declare("others", exclusive=True)
    await own_connect.channel()
    assert not any(deferred.called for deferred in held)
    assert b"held" not in consumer.bodies
    own_broker.clear_alarm(source)
    assert await told.next("connection_unblocked") == ()
    assert blocked(protocol) is None
    assert all(isinstance(outcome, Confirmed) for outcome in await all_of([first, *held]))
    await consumer.take(11)
    assert idle.names() == ["connection_opened"]


@pytest.mark.covers("T-BLK-01")
@pytest_twisted.ensureDeferred
async def test_two_alarms_are_over_when_both_are(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    channel = await own_connect.channel(delegate=told, confirms=True)
    protocol = protocol_of(channel)
    for source in ("memory", "disk"):
        own_broker.set_alarm(source)
    sent = [channel.basic_publish(b"", routing_key="nowhere")]
    assert await told.next("connection_blocked") == ("low on disk & memory",)
    sent += [channel.basic_publish(b"", routing_key="nowhere")]
    own_broker.clear_alarm("memory")
    await own_connect.channel()
    assert blocked(protocol) == "low on disk & memory"
    own_broker.clear_alarm("disk")
    await told.next("connection_unblocked")
    assert [name for name in told.names() if "block" in name] == [
        "connection_blocked",
        "connection_unblocked",
    ]
    await all_of(sent)


@pytest.mark.covers("T-BLK-02", "T-CH-06")
@pytest_twisted.ensureDeferred
async def test_a_call_that_hangs_says_why(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    protocol = await own_connect(delegate=told, rpc_timeout=0.3)
    channel = await soon(protocol.open_channel())
    own_broker.set_alarm()
    await channel.basic_publish(b"", routing_key="nowhere")
    await told.next("connection_blocked")
    error = await failure_of(channel.queue_declare("jobs", exclusive=True), RPCTimeout)
    assert error.blocked == "low on memory"
    assert str(error).endswith("the broker has blocked the connection: low on memory")
    own_broker.clear_alarm()
    await told.next("connection_unblocked")
    assert (await soon(channel.queue_declare("jobs", passive=True))).queue == "jobs"


@pytest.mark.covers("T-HB-05", "T-BLK-02")
@pytest_twisted.ensureDeferred
async def test_a_blocked_connection_is_not_dead(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    """Both sides go on beating, though the broker reads nothing."""
    protocol = await own_connect(delegate=told, heartbeat=1)
    channel = await protocol.open_channel()
    await channel.confirm_select()
    own_broker.set_alarm()
    first = channel.basic_publish(b"", routing_key="nowhere")
    await told.next("connection_blocked")
    held = channel.basic_publish(b"", routing_key="nowhere")
    await pause(3.5)
    assert protocol.is_open
    await deferToThread(own_broker.clear_alarm)
    assert [type(outcome) for outcome in await all_of([first, held])] == [Confirmed, Confirmed]


@pytest.mark.covers("T-BLK-01", "T-BLK-02", "T-CLS-01")
@pytest_twisted.ensureDeferred
async def test_a_blocked_connection_can_be_closed(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    """The broker does not read the close, so that it takes the time that a close may take."""
    protocol = await own_connect(delegate=told, close_timeout=0.3)
    channel = await protocol.open_channel()
    await channel.confirm_select()
    own_broker.set_alarm()
    first = channel.basic_publish(b"", routing_key="nowhere")
    await told.next("connection_blocked")
    held = channel.basic_publish(b"", routing_key="nowhere")
    waiting = channel.queue_declare("jobs", exclusive=True)
    await soon(protocol.close())
    await outcomes([first])
    await failure_of(held, OutcomeUnknown, NotPublished)
    await failure_of(waiting, ConnectionClosed)
    own_broker.clear_alarm()
    renewed = await own_connect(delegate=told)
    assert blocked(renewed) is None
