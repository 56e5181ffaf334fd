"""How connections to a real broker end: by us, by the broker, by its death."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.broker_node import BrokerNode
from tests.faults import FaultProxy
from tests.integration.support import (
    PERSISTENT,
    Connector,
    Inbox,
    Recorder,
    all_of,
    drain,
    failure_of,
    fill,
    lasting,
    outcomes,
    pause,
    protocol_of,
    soon,
    until,
    until_ready,
)
from txamqpx.channel import Channel
from txamqpx.errors import (
    ChannelClosed,
    ConnectionClosed,
    ConnectionForced,
    ConnectionLost,
    ConnectionRefused,
    NotPublished,
    OutcomeUnknown,
)
from txamqpx.message import Confirmed, Settlement
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import ConnectionCloseOk, QueueDeclareOk

# --------------------------------------------------------------------------- by us


@pytest.mark.covers("T-CLS-01", "T-CLS-05", "F9")
@pytest_twisted.ensureDeferred
async def test_what_was_published_before_a_close_is_there(connect: Connector, channel: Channel) -> None:
    """Without confirms, and not waited for."""
    await fill(channel, "jobs", [])
    protocol = await connect()
    publisher = await protocol.open_channel()
    bodies = [str(number).encode() * 100 for number in range(3000)]
    for body in bodies:
        publisher.basic_publish(body, routing_key="jobs")
    await soon(protocol.close())
    # The broker reads what was written before the close, and puts it into the queue after it has answered.
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, no_ack=True)
    assert [delivery.body for delivery in await inbox.take(3000)] == bodies


@pytest.mark.covers("T-CLS-01", "T-CLS-05", "T-CLS-07", "S34")
@pytest_twisted.ensureDeferred
async def test_a_close_ends_everything_once_and_in_order(connect: Connector, told: Recorder) -> None:
    protocol = await connect(delegate=told)
    channels = await all_of(protocol.open_channel() for _ in range(3))
    for channel in channels:
        await channel.confirm_select()
        await channel.queue_declare("", exclusive=True)
        await channel.basic_consume("", Inbox())
    ends = [channel.when_closed() for channel in channels]
    sent = [channel.basic_publish(b"", routing_key="nowhere") for channel in channels]
    calls = [channel.basic_get("") for channel in channels]
    closes = [protocol.close(), protocol.close(), channels[0].close()]
    refused = protocol.open_channel()
    assert refused.called
    await failure_of(refused, ConnectionClosed)
    await all_of(closes)
    for outcome in await outcomes(sent):
        assert isinstance(outcome, OutcomeUnknown | NotPublished)
    for error in await outcomes(calls):
        assert isinstance(error, ConnectionClosed)
        assert not error.by_peer
    reasons = await all_of(ends)
    assert all(isinstance(reason, ConnectionClosed) for reason in reasons)
    assert told.names() == ["connection_opened", *["channel_closed"] * 3, "connection_closed"]
    reason = await soon(protocol.when_closed())
    assert isinstance(reason, ConnectionClosed)
    assert (reason.reply_code, reason.by_peer) == (200, False)
    await soon(protocol.close())


@pytest.mark.covers("T-CLS-07")
@pytest_twisted.ensureDeferred
async def test_a_callback_may_close_everything(connect: Connector) -> None:
    """An answer, a confirm, a delivery: whoever hears of it may end the channel or the connection there."""
    protocol = await connect()
    closed: list[Deferred[None]] = []
    channel = await protocol.open_channel()
    await channel.queue_declare("jobs", exclusive=True)
    channel.queue_declare("jobs", passive=True).addCallback(lambda _: closed.append(channel.close()))
    behind = channel.queue_declare("jobs", passive=True)
    await until(lambda: closed)
    (answer,) = await outcomes([behind])
    assert isinstance(answer, QueueDeclareOk | ChannelClosed)
    await soon(closed[0])
    channel = await protocol.open_channel()
    await channel.confirm_select()
    sent = [channel.basic_publish(b"", routing_key="jobs") for _ in range(100)]
    sent[0].addCallback(lambda _: closed.append(protocol.close()))
    results = await outcomes(sent[1:])
    assert {type(result) for result in results} <= {Confirmed, OutcomeUnknown, NotPublished}
    await until(lambda: len(closed) == 2)
    await soon(closed[1])


@pytest.mark.covers("T-CLS-04")
@pytest_twisted.ensureDeferred
async def test_a_close_amid_deliveries(connect: Connector, channel: Channel) -> None:
    await fill(channel, "jobs", [b"x" * 5000] * 1000)
    consumer = await connect.channel()
    inbox = Inbox()
    await consumer.basic_consume("jobs", inbox)
    await inbox.take(1)
    await soon(protocol_of(consumer).close())
    seen = len(inbox.got)
    assert {delivery.ack() for delivery in inbox.got} == {Settlement.STALE}
    assert len(inbox.got) == seen
    await until_ready(channel, "jobs", 1000)


# --------------------------------------------------------------------------- by the broker


@pytest.mark.covers("S42", "T-CLS-03", "T-CLS-05", "T-PUB-08", "F13")
@pytest_twisted.ensureDeferred
async def test_the_broker_forces_all_connections_out(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    protocol = await own_connect(delegate=told)
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await fill(channel, "jobs", [b"held"])
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox)
    (held,) = await inbox.take()
    over = protocol.when_closed()
    ended = channel.when_closed()
    protocol.pause_reading()
    waiting = channel.queue_declare("other", durable=True)
    sent = channel.basic_publish(b"", routing_key="jobs")
    await pause(0)  # so that they are written
    assert own_broker.close_all_connections("enough\nof it") == 1
    protocol.resume_reading()
    reason = await soon(over)
    assert isinstance(reason, ConnectionForced)
    assert (reason.reply_code, reason.by_peer, reason.retryable) == (320, True, True)
    assert "enough" in reason.reply_text
    assert "\n" not in reason.reply_text
    (outcome,) = await outcomes([waiting])
    assert isinstance(outcome, ConnectionForced) or outcome.queue == "other"
    (published,) = await outcomes([sent])
    assert isinstance(published, OutcomeUnknown | NotPublished | Confirmed)
    end = await soon(ended)
    assert isinstance(end, ConnectionForced)
    assert held.ack() is Settlement.STALE
    await failure_of(channel.basic_get("jobs"), ConnectionForced)
    await failure_of(protocol.open_channel(), ConnectionForced)
    await told.next("connection_closed")
    assert told.names()[-2:] == ["channel_closed", "connection_closed"]
    await soon(protocol.close())


@pytest.mark.covers("S42", "T-CLS-03")
@pytest_twisted.ensureDeferred
async def test_the_last_word_of_a_forced_close_is_its_answer(
    own_connect: Connector, own_broker: BrokerNode, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    port = own_broker.ports["amqp"]
    proxy = fault_proxy(port)
    protocol = await own_connect(url=own_connect.vhost.url.replace(f":{port}/", f":{proxy.port}/"))
    (link,) = proxy.links
    before = link.client.passed
    over = protocol.when_closed()
    own_broker.close_all_connections()
    await soon(over)
    await soon(protocol.close())
    await until(lambda: not proxy.links)
    assert link.client.passed - before == len(frame(METHOD, 0, ConnectionCloseOk().encode()))


# --------------------------------------------------------------------------- by its death


@pytest.mark.covers("T-PUB-08", "T-CLS-05")
@pytest_twisted.ensureDeferred
async def test_the_broker_is_killed_amid_publishes(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    """Each publish ends once, and what each end says of the message is true."""
    protocol = await own_connect(delegate=told)
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await channel.queue_declare("jobs", durable=True)
    own_broker.sync_metadata()
    ends: list[list[Any]] = []
    number = 0

    def publish(count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            end: list[Any] = []
            ends.append(end)
            deferred = channel.basic_publish(
                str(number).encode(), routing_key="jobs", properties=PERSISTENT, mandatory=True
            )
            deferred.addBoth(end.append)

    over = protocol.when_closed()
    publish(500)
    await until(lambda: sum(map(len, ends)) >= 100)
    publish(500)
    own_broker.kill9()
    publish(500)
    reason = await soon(over)
    assert isinstance(reason, ConnectionLost)
    assert reason.retryable
    publish(10)
    assert [len(end) for end in ends] == [1] * 1510
    kinds: dict[str, set[bytes]] = {"Confirmed": set(), "OutcomeUnknown": set(), "NotPublished": set()}
    for position, (end,) in enumerate(ends[:1500], 1):
        kind = type(end if isinstance(end, Confirmed) else end.value).__name__
        kinds[kind].add(str(position).encode())
    assert {type(end.value) for (end,) in ends[1500:]} == {ConnectionLost}
    assert len(kinds["Confirmed"]) >= 100
    assert kinds["OutcomeUnknown"] | kinds["NotPublished"]
    await told.next("connection_closed")
    assert told.names()[-2:] == ["channel_closed", "connection_closed"]

    error = await failure_of(Deferred.fromCoroutine(own_connect()))
    assert isinstance(error, ConnectionRefused)
    own_broker.start()
    survivor = await own_connect.channel()
    lasting(own_broker)
    there = await drain(survivor, "jobs")
    assert len(there) == len(set(there))
    assert kinds["Confirmed"] <= set(there)
    assert not kinds["NotPublished"] & set(there)


@pytest.mark.covers("T-CLS-03")
@pytest_twisted.ensureDeferred
async def test_the_broker_shuts_down_in_order(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    """It says why: 320, as to whoever is forced out."""
    protocol = await own_connect(delegate=told)
    over = protocol.when_closed()
    own_broker.shut_down()
    reason = await soon(over)
    assert isinstance(reason, ConnectionForced)
    assert reason.reply_code == 320
    own_broker.kill9()
