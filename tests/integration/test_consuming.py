"""Getting messages from a real broker: consumers, their windows, and settling."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

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
    numbered,
    outcomes,
    protocol_of,
    soon,
    until,
    until_ready,
)
from tests.logged import LoggedErrors
from txamqpx.channel import Channel
from txamqpx.errors import (
    AccessRefused,
    ChannelClosed,
    ConnectionClosed,
    ConsumerTagInUse,
    NotFound,
)
from txamqpx.message import Delivery, Settlement
from txamqpx.spec.amqp0_9_1 import BasicProperties

# --------------------------------------------------------------------------- from beginning to end


@pytest.mark.covers("S01")
@pytest_twisted.ensureDeferred
async def test_a_message_there_and_back(publisher: Channel) -> None:
    await publisher.queue_declare("test", durable=True)
    await publisher.basic_publish(b"hello", routing_key="test")
    declared = await publisher.queue_declare("test", passive=True)
    assert (declared.queue, declared.message_count, declared.consumer_count) == ("test", 1, 0)
    inbox = Inbox()
    consumed = await publisher.basic_consume("test", inbox)
    (delivery,) = await inbox.take()
    assert (delivery.body, delivery.routing_key, delivery.exchange) == (b"hello", "test", "")
    assert (delivery.consumer_tag, delivery.channel) == (consumed.consumer_tag, publisher)
    assert delivery.ack() is Settlement.SENT
    cancelled = await publisher.basic_cancel(consumed.consumer_tag)
    assert cancelled.consumer_tag == consumed.consumer_tag
    assert await depth(publisher, "test") == 0
    await publisher.close()


@pytest.mark.covers("S04")
@pytest_twisted.ensureDeferred
async def test_gets_come_in_order_and_are_acked_in_any(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(4))
    got = [await get(channel, "jobs", no_ack=False) for _ in range(4)]
    assert [delivery.body for delivery in got] == numbered(4)
    assert [delivery.message_count for delivery in got] == [3, 2, 1, 0]
    assert not any(delivery.redelivered for delivery in got)
    assert await channel.basic_get("jobs") is None
    for index in (2, 0, 3, 1):
        got[index].ack()
    await channel.close()
    other = await another(channel)
    assert await depth(other, "jobs") == 0


@pytest.mark.covers("S33", "T-CLS-01")
@pytest_twisted.ensureDeferred
async def test_what_was_acked_before_a_close_stays_acked(connect: Connector, channel: Channel) -> None:
    await fill(channel, "jobs", numbered(1000))
    consumer = await connect.channel()
    inbox = Inbox()
    await consumer.basic_consume("jobs", inbox)
    for delivery in await inbox.take(1000):
        delivery.ack()
    await protocol_of(consumer).close()
    await until_ready(channel, "jobs", 0)


@pytest.mark.covers("T-CON-01")
@pytest_twisted.ensureDeferred
async def test_deliveries_that_come_together_with_the_answer(connect: Connector, channel: Channel) -> None:
    await fill(channel, "jobs", numbered(100))
    consumer = await connect.channel()
    protocol = protocol_of(consumer)
    protocol.pause_reading()
    inbox = Inbox()
    consumed = consumer.basic_consume("jobs", inbox, no_ack=True)
    await until_ready(channel, "jobs", 0)
    assert not consumed.called
    protocol.resume_reading()
    assert [delivery.body for delivery in await inbox.take(100)] == numbered(100)
    await soon(consumed)


@pytest_twisted.ensureDeferred
async def test_a_consumer_without_a_function_tells_the_delegate(channel: Channel, told: Recorder) -> None:
    await fill(channel, "jobs", [b"hello"])
    await channel.basic_consume("jobs")
    (delivery,) = await told.next("message_delivered")
    assert delivery.body == b"hello"
    delivery.ack()


@pytest.mark.covers("T-CON-13")
@pytest_twisted.ensureDeferred
async def test_a_consumer_that_fails_is_logged_and_goes_on(
    channel: Channel, logged_errors: LoggedErrors
) -> None:
    await fill(channel, "jobs", numbered(6))
    inbox = Inbox()

    async def later(delivery: Delivery) -> None:
        raise ZeroDivisionError(delivery.body)

    def fail(delivery: Delivery) -> object:
        inbox(delivery)
        if delivery.delivery_tag % 2:
            return later(delivery)
        raise ZeroDivisionError(delivery.body)

    await channel.basic_consume("jobs", fail)
    await inbox.take(6)
    await depth(channel, "jobs")
    assert len(logged_errors.flush(ZeroDivisionError)) == 6
    assert channel.is_open
    await channel.basic_ack(0, multiple=True)


# --------------------------------------------------------------------------- the end of a consumer


@pytest.mark.covers("S18", "T-CON-03")
@pytest_twisted.ensureDeferred
async def test_a_cancelled_consumer_gets_no_more_and_can_settle_what_it_has(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(4))
    await channel.basic_qos(2)
    inbox = Inbox()
    tag = (await channel.basic_consume("jobs", inbox)).consumer_tag
    first, second = await inbox.take(2)
    await channel.basic_cancel(tag)
    first.ack()
    second.ack()
    assert await depth(channel, "jobs") == 2
    assert inbox.bodies == [b"0", b"1"]
    assert await drain(channel, "jobs") == [b"2", b"3"]


@pytest.mark.covers("T-CON-03", "T-CON-12")
@pytest_twisted.ensureDeferred
async def test_nothing_is_lost_between_a_cancel_and_its_answer(channel: Channel) -> None:
    """What the broker need not keep is already gone when it comes: it still goes to its consumer."""
    await fill(channel, "jobs", numbered(5000))
    inbox = Inbox()
    tag = (await channel.basic_consume("jobs", inbox, no_ack=True)).consumer_tag
    await inbox.take(1)
    await channel.basic_cancel(tag)
    at_the_end = len(inbox.got)
    left = await drain(channel, "jobs")
    assert len(inbox.got) == at_the_end
    assert [*inbox.bodies, *left] == numbered(5000)


@pytest.mark.covers("T-CON-10")
@pytest_twisted.ensureDeferred
async def test_a_consumer_that_was_given_up_before_its_answer_keeps_nothing(
    channel: Channel, publisher: Channel, told: Recorder
) -> None:
    await fill(publisher, "jobs", numbered(10))
    await channel.basic_qos(3)
    inbox = Inbox()
    consumed = channel.basic_consume("jobs", inbox)
    consumed.cancel()
    await failure_of(consumed, CancelledError)
    await until(lambda: not channel.core.consumers)
    await until_ready(publisher, "jobs", 10)
    assert inbox.got == []
    assert (await publisher.queue_declare("jobs", passive=True)).consumer_count == 0
    assert {name for name, *_ in told.told} <= {"connection_opened", "unhandled"}


@pytest.mark.covers("T-CON-04")
@pytest_twisted.ensureDeferred
async def test_what_comes_for_nobody_is_given_back(channel: Channel, told: Recorder) -> None:
    """It would take up the window for ever, and nobody would know."""
    await fill(channel, "jobs", [])
    inbox = Inbox()
    await channel.basic_qos(1)
    await channel.basic_consume("jobs", inbox, consumer_tag="forgotten")
    channel.core.consumers.clear()
    await fill(channel, "jobs", [b"precious"])
    (stray,) = await told.next("unhandled")
    assert (stray.consumer_tag, stray.body) == ("forgotten", b"precious")
    await channel.basic_cancel("forgotten")
    await until_ready(channel, "jobs", 1)
    assert inbox.got == []


@pytest.mark.covers("S20", "T-CON-05", "T-CON-08", "T-HS-08", "F6")
@pytest_twisted.ensureDeferred
async def test_a_consumer_whose_queue_is_deleted_hears_of_it(
    channel: Channel, publisher: Channel, told: Recorder
) -> None:
    await fill(channel, "jobs", [b"held"])
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, consumer_tag="mine")
    (delivery,) = await inbox.take()
    await publisher.queue_delete("jobs")
    assert await told.next("consumer_cancelled") == ("mine",)
    assert delivery.ack() is Settlement.SENT  # to nobody, and nobody minds
    assert channel.is_open
    # The tag is taken until we agree that it is over: some brokers go on delivering for it (T-CON-06).
    with pytest.raises(ConsumerTagInUse):
        channel.basic_consume("jobs", inbox, consumer_tag="mine")
    await channel.basic_cancel("mine")
    await fill(channel, "jobs", [b"again"])
    await channel.basic_consume("jobs", inbox, consumer_tag="mine")
    assert [one.body for one in await inbox.take()] == [b"again"]


@pytest.mark.covers("S53", "T-CON-02")
@pytest_twisted.ensureDeferred
async def test_a_tag_is_good_for_one_consumer_of_a_channel(channel: Channel) -> None:
    for name in "ab":
        await fill(channel, name, [name.encode()])
    mine, others = Inbox(), Inbox()
    await channel.basic_consume("a", mine, consumer_tag="tag")
    with pytest.raises(ConsumerTagInUse) as caught:
        channel.basic_consume("b", mine, consumer_tag="tag")
    assert caught.value.reply_code == 530
    other = await another(channel)
    await other.basic_consume("b", others, consumer_tag="tag")
    assert [delivery.body for delivery in await mine.take()] == [b"a"]
    assert [delivery.body for delivery in await others.take()] == [b"b"]


@pytest.mark.covers("S54")
@pytest_twisted.ensureDeferred
async def test_to_cancel_twice_or_nobody_is_no_error(channel: Channel) -> None:
    await channel.queue_declare("jobs", exclusive=True)
    await channel.basic_consume("jobs", Inbox(), consumer_tag="tag")
    answers = await all_of(channel.basic_cancel(tag) for tag in ("tag", "tag", "never there"))
    assert [answer.consumer_tag for answer in answers] == ["tag", "tag", "never there"]


@pytest.mark.covers("S60")
@pytest_twisted.ensureDeferred
async def test_a_consumer_that_waits_when_the_client_closes(connect: Connector) -> None:
    channel = await connect.channel()
    await channel.queue_declare("jobs", exclusive=True)
    await channel.basic_consume("jobs", Inbox())
    ended = channel.when_closed()
    await protocol_of(channel).close()
    reason = await soon(ended)
    assert isinstance(reason, ConnectionClosed)
    assert not reason.by_peer
    await failure_of(channel.basic_get("jobs"), ConnectionClosed)


# --------------------------------------------------------------------------- who may consume


@pytest.mark.covers("S28", "S58")
@pytest_twisted.ensureDeferred
async def test_a_queue_that_is_not_there(channel: Channel) -> None:
    error = await failure_of(channel.basic_consume("missing", Inbox()), NotFound)
    assert (error.reply_code, error.queue, error.operation) == (404, "missing", "basic.consume")
    other = await another(channel)
    await failure_of(other.basic_get("missing"), NotFound)
    other = await another(channel)
    await failure_of(other.basic_consume("", Inbox()), NotFound)  # none was declared before
    assert protocol_of(channel).is_open


@pytest.mark.covers("S24", "T-CON-09")
@pytest_twisted.ensureDeferred
async def test_an_exclusive_consumer_is_alone(channel: Channel) -> None:
    await channel.queue_declare("jobs", durable=True)
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, exclusive=True, consumer_tag="only")
    for exclusive in (False, True):
        other = await another(channel)
        error = await failure_of(other.basic_consume("jobs", Inbox(), exclusive=exclusive), AccessRefused)
        assert (error.reply_code, error.queue) == (403, "jobs")
    assert channel.is_open
    await channel.basic_cancel("only")
    other = await another(channel)
    await other.basic_consume("jobs", Inbox(), exclusive=True)


@pytest.mark.covers("T-CON-16")
@pytest_twisted.ensureDeferred
async def test_answers_straight_to_who_asked(channel: Channel, connect: Connector) -> None:
    await channel.queue_declare("rpc", exclusive=False, durable=True)
    asking = await connect.channel(confirms=True)
    replies, requests = Inbox(), Inbox()
    await asking.basic_consume("amq.rabbitmq.reply-to", replies, no_ack=True)
    await channel.basic_consume("rpc", requests, no_ack=True)
    properties = BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    await asking.basic_publish(b"2 + 2", routing_key="rpc", properties=properties, mandatory=True)
    (request,) = await requests.take()
    reply_to = request.properties.reply_to
    assert reply_to is not None
    assert reply_to.startswith("amq.rabbitmq.reply-to.")
    answer = BasicProperties(correlation_id=request.properties.correlation_id)
    await channel.basic_publish(b"4", routing_key=reply_to, properties=answer)
    (reply,) = await replies.take()
    assert (reply.body, reply.properties.correlation_id, reply.settled) == (b"4", "7", True)
    # One such consumer per channel, and never without no_ack.
    error = await failure_of(asking.basic_consume("amq.rabbitmq.reply-to", replies, no_ack=True))
    assert isinstance(error, ChannelClosed)
    assert error.reply_code == 406


@pytest.mark.covers("T-CON-12", "T-CLS-07")
@pytest_twisted.ensureDeferred
async def test_gets_and_consumers_on_a_channel_that_the_broker_closes(channel: Channel) -> None:
    await fill(channel, "jobs", numbered(3))
    doomed = await another(channel)
    inbox = Inbox()
    await doomed.basic_consume("jobs", inbox)
    held = await inbox.take(3)
    results = await outcomes(
        [doomed.queue_declare("missing", passive=True), doomed.basic_get("jobs"), doomed.basic_recover()]
    )
    assert [result.reply_code for result in results] == [404, 0, 0]
    assert {delivery.ack() for delivery in held} == {Settlement.STALE}
    other = await another(channel)
    assert [(one.body, one.redelivered) for one in [await get(other, "jobs") for _ in range(3)]] == [
        (body, True) for body in numbered(3)
    ]
