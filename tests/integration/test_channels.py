"""Channels of a real broker: their numbers, their calls and answers, and their ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from tests.faults import FaultProxy
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    all_of,
    another,
    depth,
    drain,
    failure_of,
    fill,
    get,
    outcomes,
    protocol_of,
    soon,
    until,
    until_ready,
)
from txamqpx.channel import Channel
from txamqpx.errors import (
    AMQPNotImplemented,
    ChannelClosed,
    ConnectionClosed,
    EncodeError,
    LocalProtocolError,
    NoFreeChannels,
    NotFound,
    NotProcessed,
    PreconditionFailed,
    RPCTimeout,
)
from txamqpx.message import Delivery, Settlement
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicConsumeOk, ChannelFlow, QueueDeclare, QueueDeclareOk

# --------------------------------------------------------------------------- numbers


@pytest.mark.covers("T-CH-01", "S45")
@pytest_twisted.ensureDeferred
async def test_numbers_are_used_again_whoever_closed_the_channel(connect: Connector) -> None:
    """With three numbers for a hundred channels; too early an open would cost the connection (504)."""
    protocol = await connect(channel_max=3)
    for turn in range(34):
        channels = await all_of(protocol.open_channel() for _ in range(3))
        assert sorted(channel.number for channel in channels) == [1, 2, 3]
        refused = channels[turn % 3].queue_declare("missing", passive=True)
        await all_of(channel.close() for channel in channels if channel is not channels[turn % 3])
        await failure_of(refused, NotFound)
    assert protocol.is_open


@pytest.mark.covers("T-CH-02")
@pytest_twisted.ensureDeferred
async def test_when_all_numbers_are_in_use_it_is_said_and_one_close_helps(connect: Connector) -> None:
    """The broker does not watch over channel_max, so we have to."""
    protocol = await connect(channel_max=0)
    assert protocol.tuning.channel_max == 2047
    channels = await all_of(protocol.open_channel() for _ in range(2047))
    assert {channel.number for channel in channels} == {*range(1, 2048)}
    error = await failure_of(protocol.open_channel(), NoFreeChannels)
    assert error.retryable
    closing = channels[1000].close()
    await failure_of(protocol.open_channel(), NoFreeChannels)  # free only when the broker has agreed
    await closing
    channel = await soon(protocol.open_channel())
    assert channel.number == 1001
    await channel.queue_declare("", exclusive=True)


@pytest.mark.covers("T-CH-03", "T-CLS-02")
@pytest_twisted.ensureDeferred
async def test_closes_that_cross(connect: Connector) -> None:
    """The broker closes over a call while our own close is on its way."""
    protocol = await connect(channel_max=2)
    for _ in range(30):
        channel = await soon(protocol.open_channel())
        refused = channel.queue_declare("missing", passive=True)
        closed = channel.close()
        error = await failure_of(refused, ChannelClosed)
        assert not error.by_peer
        await soon(closed)
        assert not channel.is_open
    assert protocol.is_open


@pytest.mark.covers("T-CH-04")
@pytest_twisted.ensureDeferred
async def test_deliveries_that_are_late_for_a_closed_channel(connect: Connector, publisher: Channel) -> None:
    await fill(publisher, "jobs", [b"x" * 1000] * 500)
    protocol = await connect(channel_max=1)
    for _ in range(5):
        channel = await soon(protocol.open_channel())
        await channel.basic_consume("jobs", Inbox())
        await channel.close()
    channel = await soon(protocol.open_channel())
    assert await depth(channel, "jobs") == 500


# --------------------------------------------------------------------------- calls and answers


@pytest.mark.covers("S02", "T-CH-05", "T-CH-08")
@pytest_twisted.ensureDeferred
async def test_a_thousand_declares_at_once_and_a_thousand_deletes(channel: Channel) -> None:
    names = [f"jobs {number}" for number in range(1000)]
    declared = await all_of(channel.queue_declare(name, exclusive=True) for name in names)
    assert [answer.queue for answer in declared] == names
    deleted = await all_of(channel.queue_delete(name) for name in names)
    assert [answer.message_count for answer in deleted] == [0] * 1000


@pytest.mark.covers("T-CH-08", "T-CH-12", "T-CH-11")
@pytest_twisted.ensureDeferred
async def test_an_error_in_the_middle_of_many_calls(channel: Channel) -> None:
    calls: list[Deferred[Any]] = [
        channel.queue_declare(f"jobs {number}", durable=True, passive=number == 7) for number in range(20)
    ]
    results = await outcomes(calls)
    assert [result.queue for result in results[:7]] == [f"jobs {number}" for number in range(7)]
    culprit, *innocent = results[7:]
    assert type(culprit) is NotFound
    assert (culprit.operation, culprit.queue) == ("queue.declare", "jobs 7")
    assert {type(error) for error in innocent} == {NotProcessed}
    assert len({id(error) for error in innocent}) == 12
    assert all(error.__cause__.queue == "jobs 7" for error in innocent)
    other = await another(channel)
    assert await depth(other, "jobs 6") == 0
    await failure_of(other.queue_declare("jobs 8", passive=True), NotFound)


@pytest.mark.covers("S05", "T-CH-09")
@pytest_twisted.ensureDeferred
async def test_three_thousand_gets_at_once(channel: Channel) -> None:
    bodies = [str(number).encode() for number in range(2990)]
    await fill(channel, "jobs", bodies)
    got = await all_of(channel.basic_get("jobs") for _ in range(3000))
    assert [delivery.body if delivery else None for delivery in got] == [*bodies, *[None] * 10]
    await channel.basic_ack(0, multiple=True)
    assert await depth(channel, "jobs") == 0


@pytest.mark.covers("T-CH-09")
@pytest_twisted.ensureDeferred
async def test_a_get_that_fails_fails_alone(channel: Channel) -> None:
    await fill(channel, "jobs", [b"1", b"2"])
    first, missing, second = await outcomes(
        channel.basic_get(name, no_ack=True) for name in ("jobs", "missing", "jobs")
    )
    assert isinstance(first, Delivery)
    assert isinstance(missing, NotFound)
    assert isinstance(second, NotProcessed)
    other = await another(channel)
    assert (await get(other, "jobs")).body == b"2"


@pytest.mark.covers("S47", "T-CH-06", "T-CLS-07", "F13")
@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_takes_nobodys_answer(channel: Channel) -> None:
    await channel.queue_declare("jobs", exclusive=True)
    calls = [channel.queue_declare(name, exclusive=True) for name in ("a", "b", "c")]
    calls[1].cancel()
    await failure_of(calls[1], CancelledError)
    answers = await all_of([calls[0], calls[2], channel.queue_declare("jobs", passive=True)])
    assert [answer.queue for answer in answers] == ["a", "c", "jobs"]
    await channel.close()


@pytest.mark.covers("T-CH-06")
@pytest_twisted.ensureDeferred
async def test_a_call_that_is_out_of_time_leaves_the_channel_in_step(
    connect: Connector, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """What it did meanwhile is taken back where it would be in the way: a message, a consumer."""
    vhost = connect.vhost
    proxy = fault_proxy(vhost.node.ports["amqp"])
    protocol = await connect(url=vhost.url.replace(f":{vhost.node.ports['amqp']}/", f":{proxy.port}/"))
    channel = await protocol.open_channel()
    await fill(channel, "jobs", [b"precious"])
    proxy.stall()
    late: Deferred[QueueDeclareOk] = channel.call(QueueDeclare("late", exclusive=True), timeout=0.05)
    error = await failure_of(late, RPCTimeout)
    assert str(error) == "no answer to queue.declare within 0.05 s"
    got = channel.basic_get("jobs")
    consumed = channel.basic_consume("jobs", Inbox(), consumer_tag="late")
    got.cancel()
    consumed.cancel()
    for deferred in (got, consumed):
        await failure_of(deferred, CancelledError)
    proxy.resume()
    answer = await soon(channel.queue_declare("late", passive=True))
    assert answer.queue == "late"
    # Nothing is left behind: the consumer is cancelled when its answer comes.
    other = await another(channel)
    await until(lambda: not channel.core.consumers)
    await until_ready(other, "jobs", 1)
    assert (await get(other, "jobs")).body == b"precious"


@pytest.mark.covers("T-CH-06")
@pytest_twisted.ensureDeferred
async def test_opening_a_channel_can_be_given_up(connect: Connector) -> None:
    protocol = await connect(channel_max=1)
    for _ in range(10):
        given_up = protocol.open_channel()
        given_up.cancel()
        await failure_of(given_up, CancelledError)
        await until(lambda: not protocol.core.channels)
    channel = await soon(protocol.open_channel())
    assert channel.number == 1


@pytest.mark.covers("T-CH-08")
@pytest_twisted.ensureDeferred
async def test_calls_need_not_wait_for_the_channel(connect: Connector) -> None:
    protocol = await connect()
    channel = protocol.new_channel()
    declared = channel.queue_declare("jobs", exclusive=True)
    sent = channel.basic_publish(b"early", routing_key="jobs")
    got = channel.basic_get("jobs", no_ack=True)
    assert not channel.is_open
    assert (await soon(declared)).queue == "jobs"
    await soon(sent)
    delivery = await soon(got)
    assert delivery is not None
    assert delivery.body == b"early"
    assert await soon(channel.when_open()) is channel


@pytest.mark.covers("T-CH-05", "T-CH-08")
@pytest_twisted.ensureDeferred
async def test_the_answers_about_consumers_may_be_late(channel: Channel) -> None:
    """RabbitMQ lets the queue give them, while the channel goes on with the calls behind."""
    await all_of(channel.queue_declare(name, exclusive=True) for name in ("a", "b"))
    tags = [f"{name} {number}" for number in range(50) for name in "ab"]
    calls: list[Deferred[Any]] = []
    for tag in tags:
        calls += [channel.basic_consume(tag[0], Inbox(), consumer_tag=tag)]
        calls += [channel.queue_declare(f"jobs {tag}", exclusive=True)]
    answers = await all_of(calls)
    assert [answer.consumer_tag for answer in answers[::2]] == tags
    assert [answer.queue for answer in answers[1::2]] == [f"jobs {tag}" for tag in tags]
    calls = []
    for tag in tags:
        calls += [channel.basic_cancel(tag), channel.queue_purge(f"jobs {tag}")]
    answers = await all_of(calls)
    assert [answer.consumer_tag for answer in answers[::2]] == tags


@pytest.mark.covers("T-CON-10")
@pytest_twisted.ensureDeferred
async def test_a_consumer_is_not_cancelled_before_it_is_there(channel: Channel) -> None:
    """It would cost the connection on RabbitMQ 3.10, and the answer on 4.3."""
    await channel.queue_declare("jobs", exclusive=True)
    consumed = channel.basic_consume("jobs", Inbox(), consumer_tag="early")
    with pytest.raises(LocalProtocolError):
        channel.basic_cancel("early")
    await soon(consumed)
    assert (await soon(channel.basic_cancel("early"))).consumer_tag == "early"


@pytest.mark.covers("T-CH-08", "T-CH-11", "S28")
@pytest_twisted.ensureDeferred
async def test_a_consumer_whose_answer_is_late_is_not_blamed_for_another(channel: Channel) -> None:
    await channel.queue_declare("jobs", exclusive=True)
    good = [channel.basic_consume("jobs", Inbox()) for _ in range(3)]
    bad = channel.basic_consume("missing", Inbox())
    rest = channel.queue_declare("late", exclusive=True)
    results = await outcomes([*good, bad, rest])
    assert {type(result) for result in results[:3]} <= {BasicConsumeOk, NotProcessed}
    assert (type(results[3]), results[3].queue) == (NotFound, "missing")
    assert type(results[4]) is NotProcessed


@pytest.mark.covers("T-CH-07")
@pytest_twisted.ensureDeferred
async def test_a_call_that_wants_no_answer_fails_at_the_cost_of_others(channel: Channel) -> None:
    asked: Deferred[Any] = channel.call(QueueDeclare("missing", passive=True, no_wait=True))
    assert await soon(asked) is None
    error = await failure_of(channel.queue_declare("jobs", exclusive=True), NotProcessed)
    assert error.retryable
    reason = await soon(channel.when_closed())
    assert isinstance(reason, NotFound)
    assert reason.queue == "missing"


# --------------------------------------------------------------------------- what is refused


@pytest.mark.covers("S41", "T-CLS-02")
@pytest_twisted.ensureDeferred
async def test_a_closed_channel_refuses_and_the_connection_lives(channel: Channel) -> None:
    other = await another(channel)
    closing = channel.close()
    for refused in (
        channel.queue_declare("jobs"),
        channel.basic_publish(b""),
        channel.basic_get("jobs"),
        channel.basic_ack(1),
    ):
        assert refused.called
        error = await failure_of(refused, ChannelClosed)
        assert not error.by_peer
    await soon(closing)
    await failure_of(channel.queue_declare("jobs"), ChannelClosed)
    await soon(channel.close())
    assert (await soon(other.queue_declare("", exclusive=True))).queue.startswith("amq.gen-")


@pytest.mark.covers("S41")
@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_over_refuses(connect: Connector) -> None:
    protocol = await connect()
    channel = await protocol.open_channel()
    await protocol.close()
    await failure_of(protocol.open_channel(), ConnectionClosed)
    await failure_of(channel.queue_declare("jobs"), ConnectionClosed)
    await failure_of(channel.basic_publish(b""), ConnectionClosed)
    await soon(channel.close())


@pytest.mark.covers("T-CH-10", "T-CH-11", "T-CH-12")
@pytest_twisted.ensureDeferred
async def test_what_the_broker_does_not_implement_costs_the_connection(
    connect: Connector, told: Recorder
) -> None:
    """So it is not sent; and if it is, all the same, everybody is told what it was."""
    protocol = await connect(delegate=told)
    channel = await protocol.open_channel()
    innocent = await protocol.open_channel()
    flow = ChannelFlow(False)
    with pytest.raises(LocalProtocolError):
        channel.call(flow)
    assert channel.is_open
    channel.core.connection.outbox.append(frame(METHOD, channel.number, flow.encode()))
    behind = channel.queue_declare("jobs", exclusive=True)
    error = await failure_of(behind, AMQPNotImplemented)
    assert (error.reply_code, error.operation, error.by_peer) == (540, "channel.flow", True)
    await outcomes([innocent.basic_get("jobs")])
    reason = await soon(protocol.when_closed())
    assert isinstance(reason, AMQPNotImplemented)
    assert reason is not error
    await told.next("connection_closed")
    assert told.names() == ["connection_opened", "channel_closed", "channel_closed", "connection_closed"]
    await failure_of(protocol.open_channel(), AMQPNotImplemented)


@pytest.mark.covers("T-CH-11", "T-QOS-03")
@pytest_twisted.ensureDeferred
async def test_a_window_that_does_not_fit_is_refused_at_once(channel: Channel) -> None:
    for count in (-1, 65536, True, 1.5):
        with pytest.raises(EncodeError):
            channel.basic_qos(count)  # type: ignore[arg-type]
    await channel.basic_qos(65535)
    await channel.basic_qos(0)


@pytest.mark.covers("T-FR-08")
@pytest_twisted.ensureDeferred
async def test_an_argument_that_does_not_fit_is_refused_at_once(channel: Channel) -> None:
    with pytest.raises(EncodeError) as caught:
        channel.queue_declare("ü" * 128)
    assert "queue" in caught.value.field
    with pytest.raises(EncodeError):
        channel.queue_declare("jobs", durable=1)  # type: ignore[arg-type]
    with pytest.raises(EncodeError):
        channel.queue_declare("jobs", arguments={"x-large": "x" * 131072})
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(EncodeError):
        channel.queue_declare("jobs", arguments=loop)
    answer = await channel.queue_declare("ü" * 127, exclusive=True)
    assert answer.queue == "ü" * 127


# --------------------------------------------------------------------------- settling


@pytest.mark.covers("S16", "T-ACK-02", "T-CH-11")
@pytest_twisted.ensureDeferred
async def test_a_wrong_ack_is_stopped_here_and_survived_there(channel: Channel, publisher: Channel) -> None:
    await fill(channel, "jobs", [b"1"])
    other = await another(channel)
    inbox, innocent = Inbox(), Inbox()
    await channel.basic_consume("jobs", inbox)
    await other.queue_declare("others", exclusive=True)
    await other.basic_consume("others", innocent, no_ack=True)
    (delivery,) = await inbox.take()
    with pytest.raises(LocalProtocolError) as caught:
        channel.basic_ack(999)
    assert caught.value.reply_code == 406
    assert channel.is_open
    # Behind our own back, as a broker with other ideas about tags might see it:
    channel.core.connection.outbox.append(frame(METHOD, channel.number, BasicAck(999).encode()))
    reason = await soon(channel.when_closed())
    assert isinstance(reason, PreconditionFailed)
    assert (reason.operation, reason.reply_code) == ("basic.ack", 406)
    assert delivery.ack() is Settlement.STALE
    await publisher.queue_declare("rest", exclusive=True)
    await other.basic_publish(b"alive", routing_key="others")
    assert [one.body for one in await innocent.take()] == [b"alive"]
    renewed = await another(other)
    await renewed.basic_consume("jobs", inbox)
    (delivery,) = await inbox.take()
    assert delivery.redelivered
    assert delivery.ack() is Settlement.SENT
    await renewed.close()
    assert await drain(other, "jobs") == []
    assert protocol_of(other).is_open
