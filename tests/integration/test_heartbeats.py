"""Heartbeats with a real broker, awake and frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.faults import FaultProxy
from tests.integration.support import (
    CLOCK,
    Connector,
    Inbox,
    Recorder,
    failure_of,
    fill,
    get,
    outcomes,
    pause,
    soon,
)
from txamqpx.channel import Channel
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import (
    ConnectionLost,
    HandshakeTimeout,
    HeartbeatTimeout,
    NotPublished,
    OutcomeUnknown,
    RPCTimeout,
)
from txamqpx.message import Settlement

# --------------------------------------------------------------------------- awake


@pytest.mark.covers("T-HS-02", "T-HB-01")
@pytest.mark.parametrize(("ours", "agreed"), [(7, 7), (None, 60), (0, 0), (120, 60)])
@pytest_twisted.ensureDeferred
async def test_the_shorter_interval_wins_and_nothing_is_nothing(
    vhost: Vhost, connect: Connector, ours: int | None, agreed: int
) -> None:
    protocol = await connect(heartbeat=ours)
    assert protocol.tuning.heartbeat == agreed
    (row,) = [row for row in vhost.node.list_connections() if row["vhost"] == vhost.name]
    assert row["timeout"] == agreed
    assert protocol.parameters.heartbeat == ours


@pytest.mark.covers("S31", "T-HB-01")
@pytest_twisted.ensureDeferred
async def test_an_idle_connection_stays(
    vhost: Vhost, connect: Connector, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """For longer than two intervals of silence, after which either side gives the other up."""
    port = vhost.node.ports["amqp"]
    proxy = fault_proxy(port)
    protocol = await connect(url=vhost.url.replace(f":{port}/", f":{proxy.port}/"), heartbeat=1)
    channel = await protocol.open_channel()
    await channel.queue_declare("jobs", exclusive=True)
    (link,) = proxy.links
    before = link.client.passed, link.broker.passed
    await pause(3.5)
    sent, came = link.client.passed - before[0], link.broker.passed - before[1]
    assert sent % 8 == came % 8 == 0  # nothing but heartbeats, of eight octets each
    assert sent >= 8 * 3
    assert came >= 8 * 3
    await channel.basic_publish(b"still here", routing_key="jobs", mandatory=True)
    assert (await get(channel, "jobs")).body == b"still here"


@pytest.mark.covers("T-HB-06")
@pytest_twisted.ensureDeferred
async def test_who_does_not_listen_blames_nobody(connect: Connector) -> None:
    protocol = await connect(heartbeat=1)
    channel = await protocol.open_channel()
    protocol.pause_reading()
    declared = channel.queue_declare("jobs", exclusive=True)
    await pause(3.5)
    assert not declared.called
    protocol.resume_reading()
    assert (await soon(declared)).queue == "jobs"


# --------------------------------------------------------------------------- frozen


@pytest.mark.covers("S44", "T-HB-01", "T-HB-02", "T-PUB-08", "T-CLS-05")
@pytest_twisted.ensureDeferred
async def test_a_frozen_broker_is_given_up_after_two_intervals(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    protocol = await own_connect(heartbeat=1, delegate=told)
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await fill(channel, "jobs", [b"held"])
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox)
    (held,) = await inbox.take()
    since = CLOCK.seconds()
    await channel.queue_declare("jobs", passive=True)
    own_broker.freeze()
    calls: list[Deferred[Any]] = [channel.queue_declare("other", durable=True), channel.basic_get("jobs")]
    sent = [channel.basic_publish(b"", routing_key="jobs") for _ in range(10)]
    reason = await soon(protocol.when_closed())
    assert isinstance(reason, HeartbeatTimeout)
    assert CLOCK.seconds() - since >= 2
    for error in await outcomes(calls):
        assert isinstance(error, ConnectionLost)
    assert {type(error) for error in await outcomes(sent)} <= {OutcomeUnknown, NotPublished}
    assert held.ack() is Settlement.STALE
    await failure_of(channel.basic_publish(b""), ConnectionLost)
    await told.next("connection_closed")
    assert told.names()[-2:] == ["channel_closed", "connection_closed"]
    await soon(protocol.close())
    own_broker.thaw()
    renewed = await own_connect.channel()
    again = Inbox()
    await renewed.basic_consume("jobs", again)
    while b"held" not in again.bodies:  # behind what was sent into the silence, and is there after all
        (delivery,) = await again.take()
    assert delivery.redelivered


@pytest.mark.covers("T-HS-09", "S30")
@pytest_twisted.ensureDeferred
async def test_a_frozen_broker_accepts_and_does_not_greet(own_broker: BrokerNode) -> None:
    own_broker.freeze()
    error = await failure_of(connect_protocol(f"{own_broker.url()}?connection_timeout=300"), HandshakeTimeout)
    assert error.seconds == 0.3
    own_broker.thaw()
    protocol = await soon(connect_protocol(own_broker.url()))
    await protocol.close()


@pytest.mark.covers("T-CH-06", "T-BLK-02")
@pytest_twisted.ensureDeferred
async def test_a_call_to_a_frozen_broker_ends_and_the_channel_lives_on(
    own_connect: Connector, own_broker: BrokerNode
) -> None:
    protocol = await own_connect(heartbeat=0, rpc_timeout=0.3)
    channel: Channel = await soon(protocol.open_channel())
    own_broker.freeze()
    error = await failure_of(channel.queue_declare("late", exclusive=True), RPCTimeout)
    assert (error.operation, error.seconds, error.blocked) == ("queue.declare", 0.3, None)
    opened = await failure_of(protocol.open_channel(), RPCTimeout)
    assert opened.operation == "channel.open"
    own_broker.thaw()
    own = await own_connect.channel()
    await own.queue_declare("other", durable=True)
    for _ in range(100):  # as long as a loaded broker needs to catch up
        (answer,) = await outcomes([channel.queue_declare("other", passive=True)])
        if not isinstance(answer, RPCTimeout):
            break
    assert answer.queue == "other"


@pytest.mark.covers("T-CLS-01", "S43")
@pytest_twisted.ensureDeferred
async def test_a_close_to_a_frozen_broker_ends(own_connect: Connector, own_broker: BrokerNode) -> None:
    protocol = await own_connect(close_timeout=0.3)
    channel = await protocol.open_channel()
    own_broker.freeze()
    await failure_of(channel.close(), RPCTimeout)
    ended = protocol.close()
    await soon(ended)
    await soon(protocol.close())
