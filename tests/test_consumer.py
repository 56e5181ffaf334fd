"""The life of a consumer: how it starts, what the broker does to it, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.consuming.stage import Stage
from tests.logged import LoggedErrors
from txamqpx.connection import AMQPProtocol
from txamqpx.consumer import Consumer
from txamqpx.consuming import StopConsuming
from txamqpx.errors import (
    ConnectionClosed,
    ConnectionLost,
    ConsumerCancelled,
    InvalidParameter,
    NotFound,
    PreconditionFailed,
    RPCTimeout,
)
from txamqpx.message import Delivery, Settlement
from txamqpx.ordering import Operations
from txamqpx.spec.amqp0_9_1 import (
    BasicCancel,
    BasicConsume,
    BasicConsumeOk,
    BasicQos,
    BasicQosOk,
    BasicRecoverOk,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    QueueBind,
    QueueDeclare,
)
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def stage() -> Stage:
    return Stage()


def ignore(delivery: Delivery) -> None:
    pass


# --------------------------------------------------------------------------- starting


@pytest.mark.covers("T-CON-01", "T-QOS-01", "P26")
def test_all_is_sent_at_once_and_the_limit_first(stage: Stage) -> None:
    starting = stage.client.consume("q", ignore, prefetch=7, priority=2, arguments={"a": 1}, exclusive=True)
    stage.listen()
    assert stage.asked == [
        ChannelOpen(),
        BasicQos(0, 7, False),
        BasicConsume("q", "ctag-1.1", False, False, True, False, {"x-priority": 2, "a": 1}),
    ]
    assert is_pending(starting)
    stage.agree()
    consumer = success_of(starting)
    assert (consumer.queue, consumer.consumer_tag, consumer.is_active) == ("q", "ctag-1.1", True)
    assert repr(consumer) == "<Consumer of 'q', running>"


@pytest.mark.covers("T-CON-01", "T-ACK-05")
def test_a_message_may_come_before_the_answer_and_without_acks_there_is_no_limit(stage: Stage) -> None:
    got: list[Delivery] = []
    starting = stage.client.consume("q", got.append, ack="none")
    stage.listen()
    assert not any(isinstance(method, BasicQos) for method in stage.asked)
    assert stage.asked[-1] == BasicConsume("q", "ctag-1.1", False, True, False, False, {})
    stage.peer.send(1, ChannelOpenOk())
    stage.deliver(b"early")
    assert is_pending(starting)
    assert got[0].settled
    stage.peer.send(1, BasicConsumeOk("ctag-1.1"))
    assert success_of(starting).channel is got[0].channel


def test_no_limit_has_to_be_asked_for(stage: Stage) -> None:
    stage.consume(ignore, prefetch=None)
    assert not any(isinstance(method, BasicQos) for method in stage.asked)


@pytest.mark.covers("S28")
def test_a_queue_that_is_not_there_fails_the_start_alone(stage: Stage) -> None:
    starting = stage.client.consume("nope", ignore)
    stage.listen()
    text = "NOT_FOUND - no queue 'nope' in vhost '/'"
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 60, 20))
    error = failure_of(starting, NotFound)
    assert (error.queue, error.operation) == ("nope", "basic.consume")
    assert stage.consume(ignore).is_active


def test_a_start_may_fail_while_it_is_being_cancelled(stage: Stage) -> None:
    consumer = Consumer(stage.client, "nope", ignore)
    starting = Watched(consumer.start())
    cancelling = consumer.cancel()
    stage.listen()
    text = "NOT_FOUND - no queue 'nope' in vhost '/'"
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 60, 20))
    starting.error(NotFound)
    assert success_of(cancelling) is None
    assert not is_pending(consumer.closed)


def test_of_several_failures_the_cause_is_told(stage: Stage) -> None:
    starting = stage.client.consume("q", ignore, exchange="nope", binding_keys=["a", "b"])
    stage.listen()
    text = "NOT_FOUND - no exchange 'nope' in vhost '/'"
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 50, 20))
    assert failure_of(starting, NotFound).exchange == "nope"


@pytest.mark.covers("S28", "P27")
def test_of_several_queues_the_one_that_is_not_there_is_told(stage: Stage) -> None:
    starting = stage.client.consume_many(["a", "nope"], ignore)
    stage.listen()
    text = "NOT_FOUND - no queue 'nope' in vhost '/'"
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 60, 20))
    assert failure_of(starting, NotFound).queue == "nope"


def test_a_silent_broker_fails_the_start(stage: Stage) -> None:
    starting = Watched(stage.client.consume("q", ignore))
    stage.listen()
    stage.peer.advance(stage.peer.protocol.parameters.rpc_timeout)
    starting.error(RPCTimeout)
    stage.agree()
    assert isinstance(stage.asked[-1], ChannelClose)


@pytest.mark.covers("T-CON-10")
def test_cancelling_the_start_gives_back_what_comes(stage: Stage) -> None:
    got: list[Delivery] = []
    starting = stage.client.consume("q", got.append)
    stage.listen()
    starting.cancel()
    failure_of(starting, CancelledError)
    stage.agree()
    assert [type(method) for method in stage.asked[-2:]] == [BasicConsume, ChannelClose]
    assert got == []
    assert stage.peer.protocol.core.channels == {}


@pytest.mark.covers("T-CON-01")
def test_a_handler_may_stop_a_consumer_that_has_not_quite_started(stage: Stage) -> None:
    stop, got = StopConsuming("at once"), list[bytes]()

    def handle(delivery: Delivery) -> None:
        got.append(delivery.body)
        raise stop

    starting = stage.client.consume("q", handle)
    stage.listen()
    stage.peer.send(1, ChannelOpenOk())
    stage.deliver(b"1", b"2")
    assert stage.take_settled() == [("nack requeue", 1)]
    stage.answered(ChannelOpen)
    stage.agree()
    consumer = success_of(starting)
    assert success_of(consumer.closed) is stop
    assert got == [b"1"]
    assert stage.settled == [("nack requeue", 2)]
    assert stage.names()[-2:] == ["basic.cancel", "channel.close"]


def test_nothing_starts_on_a_client_that_closes(stage: Stage) -> None:
    starting = stage.client.consume("q", ignore)
    stage.listen()
    stage.client._closing = True
    stage.agree()
    failure_of(starting, ConnectionClosed)


@pytest.mark.covers("S94", "L07")
def test_a_queue_of_its_own_is_declared_and_bound_to_each_key(stage: Stage) -> None:
    consumer = stage.consume(ignore, "", exchange="x", binding_keys=["a.#", None])
    assert consumer.queue == "amq.gen-1"
    assert stage.asked[2:] == [
        QueueDeclare("", exclusive=True, arguments={}),
        QueueBind("amq.gen-1", "x", "a.#", arguments={}),
        QueueBind("amq.gen-1", "x", "amq.gen-1", arguments={}),
        BasicConsume("amq.gen-1", "ctag-1.1", arguments={}),
    ]


@pytest.mark.covers("S94")
def test_a_queue_with_a_name_is_bound_to_its_name(stage: Stage) -> None:
    stage.consume(ignore, exchange="x")
    (bind,) = [method for method in stage.asked if isinstance(method, QueueBind)]
    assert (bind.queue, bind.exchange, bind.routing_key) == ("q", "x", "q")


async def one_block(stage: Stage) -> Consumer:
    async with await stage.client.consume("q", ignore) as consumer:
        pass
    return consumer


def test_a_block_ends_its_consumer(stage: Stage) -> None:
    done = Deferred.fromCoroutine(one_block(stage))
    stage.agree()
    consumer = success_of(done)
    assert repr(consumer) == "<Consumer of 'q', over>"
    assert stage.names()[-2:] == ["basic.cancel", "channel.close"]


# --------------------------------------------------------------------------- prefetch


@pytest.mark.covers("S23", "T-QOS-01", "P28", "F12")
def test_a_new_limit_lets_exactly_so_many_more_come(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume(got.append, ack="manual", prefetch=1)
    stage.deliver(b"1")
    stage.asked.clear()
    changed = consumer.set_prefetch(2)
    stage.agree()
    assert success_of(changed) is None
    assert stage.asked == [
        BasicQos(0, 2, False),
        BasicConsume("q", "ctag-1.2", arguments={}),
        BasicCancel("ctag-1.1"),
    ]
    assert (consumer.consumer_tag, consumer.terms.prefetch) == ("ctag-1.2", 2)
    stage.deliver(b"2", b"3", tag="ctag-1.2")
    assert [one.body for one in got] == [b"1", b"2"]
    got[0].ack()
    stage.listen()
    assert [one.body for one in got] == [b"1", b"2", b"3"]
    assert consumer.queue_of(got[0]) == consumer.queue_of(got[2]) == "q"
    consumer.set_prefetch(1)
    stage.agree()
    stage.deliver(b"4", tag="ctag-1.3")
    got[1].ack()
    stage.listen()
    assert len(got) == 3
    got[2].reject()
    stage.listen()
    assert [one.body for one in got[3:]] == [b"4"]


def test_a_limit_that_rises_hands_out_what_waits(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume_many(["a", "b", "c"], got.append, ack="manual", prefetch=1)
    for number in (1, 2, 3):
        stage.deliver(b"%d" % number, tag=f"ctag-1.{number}")
    assert len(got) == 1
    consumer.set_prefetch(3)
    stage.agree()
    assert [consumer.queue_of(one) for one in got] == ["a", "b", "c"]
    for one in got:
        one.ack()
    for _ in range(4):
        stage.deliver(b"more", tag=consumer.consumer_tag)
    assert len(got) == 6


@pytest.mark.covers("T-QOS-01")
def test_an_exclusive_consumer_leaves_before_it_comes_again(stage: Stage) -> None:
    consumer = stage.consume(ignore, exclusive=True)
    stage.asked.clear()
    changes = [consumer.set_prefetch(5), consumer.set_prefetch(6)]
    stage.agree()
    assert [success_of(change) for change in changes] == [None, None]
    assert stage.names() == ["basic.qos", "basic.cancel", "basic.consume"] * 2


@pytest.mark.covers("T-QOS-03", "T-QOS-04")
def test_a_limit_that_cannot_be_is_refused(stage: Stage) -> None:
    consumer = stage.consume(ignore, concurrency=5)
    wrong: Any = None
    with pytest.raises(TypeError, match="prefetch is an int, not NoneType"):
        consumer.set_prefetch(wrong)
    with pytest.raises(ValueError, match="of 4 never lets 5 handlers"):
        consumer.set_prefetch(4)
    with pytest.raises(ValueError, match="unknown to the broker where nothing is acked"):
        stage.consume(ignore, ack="none").set_prefetch(10)
    with pytest.raises(ValueError, match="would begin at its offset again"):
        stage.consume(ignore, arguments={"x-stream-offset": 5}).set_prefetch(10)


def test_a_new_limit_for_a_consumer_that_leaves_or_is_over_is_nothing(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    consumer.cancel()
    changed = consumer.set_prefetch(5)
    stage.agree()
    assert success_of(changed) is None
    assert BasicQos(0, 5, False) not in stage.asked


@pytest.mark.covers("T-ACK-01")
def test_a_channel_that_ends_over_a_new_limit_ends_the_consumer(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    changed = consumer.set_prefetch(5)
    stage.listen()
    stage.answer(ChannelClose(406, "PRECONDITION_FAILED", 60, 10))
    failure_of(changed, PreconditionFailed)
    assert isinstance(success_of(consumer.closed), PreconditionFailed)


# --------------------------------------------------------------------------- several queues


@pytest.mark.covers("S22", "S25", "P27", "F12")
def test_several_queues_share_one_limit_and_keep_their_order(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume_many(["b", "a"], got.append, ack="manual", prefetch=1, consumer_tag="tag")
    consumes = [method for method in stage.asked if isinstance(method, BasicConsume)]
    assert [(one.queue, one.consumer_tag) for one in consumes] == [("b", "tag"), ("a", "tag.2")]
    stage.deliver(b"from b", tag="tag")
    stage.deliver(b"from a", tag="tag.2")
    assert [one.body for one in got] == [b"from b"]
    got[0].ack()
    stage.listen()
    assert [(one.body, consumer.queue_of(one)) for one in got] == [(b"from b", "b"), (b"from a", "a")]


@pytest.mark.covers("P27")
def test_none_is_not_several_and_one_name_neither(stage: Stage) -> None:
    with pytest.raises(ValueError, match="there is none to consume from"):
        stage.client.consume_many([], ignore)
    with pytest.raises(TypeError, match="takes several queues"):
        stage.client.consume_many("queue", ignore)


def test_a_delivery_of_somebody_else_has_no_queue_here(stage: Stage) -> None:
    got: list[Delivery] = []
    stage.consume(got.append)
    other = stage.consume(ignore)
    stage.deliver(b"1")
    with pytest.raises(LookupError, match="is not of <Consumer of 'q'"):
        other.queue_of(got[0])


@pytest.mark.covers("S19", "P29")
def test_all_queues_are_cancelled_at_once(stage: Stage) -> None:
    consumer = stage.consume_many(["a", "b", "c"], ignore)
    stage.asked.clear()
    cancelled = consumer.cancel()
    stage.agree()
    assert success_of(cancelled) is None
    assert stage.names() == ["basic.cancel"] * 3 + ["channel.close"]
    assert all(success_of(one.closed) is None for one in consumer.subscriptions)


@pytest.mark.covers("S21", "P30")
def test_a_queue_that_the_broker_ends_leaves_its_siblings_alone(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume_many(["a", "b", "c"], got.append, ack="manual")
    first, second, third = consumer.subscriptions
    stage.deliver(b"of a", tag="ctag-1.1")
    stage.deliver(b"of b", tag="ctag-1.2")
    stage.peer.send(1, BasicCancel("ctag-1.2", True))
    stage.agree()
    error = success_of(second.closed)
    assert isinstance(error, ConsumerCancelled)
    assert (error.queue, error.consumer_tag) == ("b", "ctag-1.2")
    assert is_pending(consumer.closed)
    assert not consumer.is_active
    assert stage.settled == [("nack requeue", 2)]
    assert (got[0].ack(), got[1].ack()) == (Settlement.SENT, Settlement.STALE)
    stage.deliver(b"still", tag="ctag-1.1")
    assert len(got) == 3
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.peer.send(1, BasicCancel("ctag-1.3", True))
    stage.agree()
    assert isinstance(success_of(consumer.closed), ConsumerCancelled)
    assert stage.names()[-1] == "channel.close"
    assert third.is_closed
    assert first.is_closed


# --------------------------------------------------------------------------- ended by the broker


@pytest.mark.covers("T-CON-05", "T-CON-06", "S20")
def test_a_tag_that_the_broker_has_ended_is_parted_with_properly(stage: Stage) -> None:
    got: list[Delivery] = []
    work: list[Deferred[None]] = []

    def handle(delivery: Delivery) -> Deferred[None]:
        got.append(delivery)
        work.append(Deferred())
        return work[-1]

    consumer = stage.consume(handle)
    stage.deliver(b"at work", b"waits")
    assert (consumer.at_work, consumer.waiting) == (1, 1)
    stage.asked.clear()
    closed = Watched(consumer.closed)
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.listen()
    assert stage.asked == [BasicCancel("ctag-1.1", False)]
    assert stage.take_settled() == [("nack requeue", 2)]
    stage.deliver(b"RabbitMQ 4.3 goes on")
    assert stage.take_settled() == [("nack requeue", 3)]
    assert closed.pending
    stage.agree()
    assert stage.settled == [("nack requeue", 1)]
    assert isinstance(closed.value, ConsumerCancelled)
    assert got[0].ack() is Settlement.STALE
    work[0].callback(None)
    assert len(got) == 1
    assert stage.names()[-1] == "channel.close"


@pytest.mark.covers("T-CON-06")
def test_a_broker_that_does_not_answer_does_not_keep_us(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.listen()
    assert is_pending(consumer.closed)
    stage.peer.advance(stage.peer.protocol.parameters.rpc_timeout)
    assert isinstance(success_of(consumer.closed), ConsumerCancelled)


@pytest.mark.covers("T-CON-05")
def test_a_cancel_of_nobodys_tag_is_nothing(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    stage.peer.send(1, BasicCancel("other", True))
    stage.agree()
    assert consumer.is_active


@pytest.mark.covers("T-CON-12")
def test_without_acks_what_came_before_the_brokers_cancel_is_handled(stage: Stage) -> None:
    work: list[Deferred[None]] = []

    def handle(delivery: Delivery) -> Deferred[None]:
        work.append(Deferred())
        return work[-1]

    consumer = stage.consume(handle, ack="none")
    stage.deliver(b"1", b"2")
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    assert isinstance(success_of(consumer.closed), ConsumerCancelled)
    work[0].callback(None)
    assert len(work) == 2
    work[1].callback(None)


@pytest.mark.covers("T-ACK-04")
def test_what_the_broker_takes_back_makes_room(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume_many(["a", "b"], got.append, ack="manual", prefetch=1)
    stage.deliver(b"1")
    assert consumer.channel is not None
    consumer.channel.basic_recover()
    stage.listen()
    stage.answer(BasicRecoverOk())
    stage.deliver(b"1")
    assert len(got) == 2


@pytest.mark.covers("T-CON-06", "T-CON-08", "S96")
def test_it_resumes_under_a_fresh_tag_once_the_queue_is_there(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume(got.append, resume=True, consumer_tag="w")
    stage.peer.send(1, BasicCancel("w", True))
    stage.agree()
    assert is_pending(consumer.closed)
    stage.asked.clear()
    stage.peer.advance(0.5)
    stage.listen()
    assert [method.name for method in stage.asked] == ["channel.open", "queue.declare"]
    text = "NOT_FOUND - no queue 'q' in vhost '/'"
    stage.answer(ChannelOpenOk(), ChannelClose(404, text, 50, 10))
    stage.asked.clear()
    stage.advance(0.9)
    assert stage.asked == []
    stage.advance(0.1)
    assert stage.names() == ["channel.open", "queue.declare", "channel.close", "basic.consume"]
    assert consumer.is_active
    assert consumer.consumer_tag == "w.2"
    stage.deliver(b"again", tag="w.2")
    assert len(got) == 1


@pytest.mark.covers("T-CON-07")
def test_it_resumes_on_a_new_channel_when_its_own_was_closed(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume_many(["a", "b"], got.append, resume=True, ack="manual", prefetch=1)
    stage.deliver(b"held")
    stage.close_channel(text="PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out")
    assert got[0].ack() is Settlement.STALE
    active = [consumer.is_active]
    stage.asked.clear()
    stage.advance(0.5)
    assert [*active, consumer.is_active] == [False, True]
    assert consumer.channel is not got[0].channel
    assert stage.names().count("basic.consume") == 2
    assert consumer.channel is not None
    number = consumer.channel.number
    stage.deliver(b"1", b"2", channel=number, tag=consumer.consumer_tag)
    assert len(got) == 2  # the limit is in force there, too
    got[1].ack()
    stage.listen()
    assert len(got) == 3


def test_a_queue_of_its_own_gets_another_name_when_it_resumes(stage: Stage) -> None:
    consumer = stage.consume(ignore, "", resume=True)
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    stage.asked.clear()
    stage.advance(0.5)
    assert consumer.is_active
    assert stage.names() == ["queue.declare", "basic.consume"]


def test_each_queue_is_tried_by_itself(stage: Stage) -> None:
    consumer = stage.consume_many(["a", "b"], ignore, resume=True)
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    stage.close_channel()
    stage.asked.clear()
    stage.advance(0.5)
    assert consumer.is_active
    assert stage.names().count("basic.consume") == 2


@pytest.mark.covers("T-CON-07", "S16")
def test_without_resume_the_end_of_the_channel_is_the_end(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    other = stage.consume(ignore)
    stage.close_channel()
    error = success_of(consumer.closed)
    assert isinstance(error, PreconditionFailed)
    assert success_of(consumer.closed) is error
    assert success_of(consumer.cancel()) is None
    assert other.is_active


def test_who_tries_to_resume_can_be_cancelled(stage: Stage) -> None:
    consumer = stage.consume(ignore, resume=True)
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    stage.asked.clear()
    cancelled = consumer.cancel()
    stage.agree()
    assert success_of(cancelled) is None
    assert success_of(consumer.closed) is None
    stage.advance(60)
    assert stage.names() == ["channel.close"]


@pytest.mark.covers("S34", "S60")
def test_the_end_of_the_connection_is_told_once_also_to_who_resumes(stage: Stage) -> None:
    waiting = stage.consume(ignore, resume=True)
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    running = stage.consume(ignore, resume=True)
    told: list[object] = []
    for consumer in (waiting, running):
        consumer.closed.addCallback(told.append)
    stage.peer.hang_up()
    assert [type(reason) for reason in told] == [ConnectionLost, ConnectionLost]
    assert success_of(running.cancel()) is None
    assert not [call for call in stage.peer.clock.getDelayedCalls() if call.getTime() > 0.5]


# --------------------------------------------------------------------------- ended by us


@pytest.mark.covers("S18", "P29", "S33")
def test_what_was_handed_out_can_be_settled_after_the_end(stage: Stage) -> None:
    got: list[Delivery] = []
    consumer = stage.consume(got.append, ack="manual")
    stage.deliver(b"1", b"2")
    cancelled = consumer.cancel()
    stage.agree()
    assert success_of(cancelled) is None
    assert success_of(consumer.closed) is None
    stage.asked.clear()
    assert got[0].ack() is Settlement.SENT
    stage.agree()
    assert stage.asked == []
    assert got[1].nack() is Settlement.SENT
    stage.agree()
    assert stage.settled == [("ack", 1), ("nack requeue", 2)]
    assert stage.names() == ["channel.close"]


def test_cancelling_twice_or_late_is_harmless(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    first, second = consumer.cancel(), consumer.cancel()
    stage.agree()
    assert [success_of(first), success_of(second), success_of(consumer.cancel())] == [None] * 3
    assert stage.names().count("basic.cancel") == 1


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), "x"])
def test_a_time_that_is_none_cancels_nothing(stage: Stage, timeout: Any) -> None:
    consumer = stage.consume(ignore)
    stage.names()
    with pytest.raises((InvalidParameter, TypeError)):
        consumer.cancel(timeout)
    assert consumer.is_active
    stage.deliver(b"1")
    assert stage.settled == [("ack", 1)]
    left = consumer.cancel()
    stage.agree()
    assert success_of(left) is None


@pytest.mark.covers("S34", "S33")
def test_closing_the_client_drains_its_consumers(stage: Stage) -> None:
    got: list[Delivery] = []
    work: Deferred[None] = Deferred()

    def handle(delivery: Delivery) -> Deferred[None]:
        got.append(delivery)
        return work

    consumer = stage.consume(handle)
    stage.deliver(b"1", b"2")
    closed = stage.client.close()
    stage.agree()
    assert stage.settled == [("nack requeue", 2)]
    assert is_pending(closed)
    work.callback(None)
    stage.agree()
    assert stage.settled == [("nack requeue", 2), ("ack", 1)]
    assert success_of(consumer.closed) is None
    stage.agree()
    assert success_of(closed) is None


@pytest.mark.covers("S34")
def test_a_handler_that_never_ends_does_not_keep_the_client(stage: Stage) -> None:
    consumer = stage.consume(lambda delivery: Deferred())
    stage.deliver(b"1")
    closed = Watched(stage.client.close(timeout=10.0))
    stage.agree()
    stage.advance(9)
    assert closed.value is None
    assert stage.settled == [("nack requeue", 1)]
    assert success_of(consumer.closed) is None


@pytest.mark.covers("S34")
def test_an_abrupt_end_is_told_once(stage: Stage) -> None:
    consumer = stage.consume(ignore)
    told: list[object] = []
    consumer.closed.addCallback(told.append)
    stage.peer.protocol.close()
    stage.agree()
    assert [type(reason) for reason in told] == [ConnectionClosed]
    assert success_of(consumer.drain(None)) is None


@pytest.mark.covers("T-CON-05")
def test_a_brokers_cancel_while_we_leave_changes_nothing(stage: Stage) -> None:
    consumer = stage.consume(ignore, resume=True)
    cancelled = consumer.cancel()
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    assert success_of(cancelled) is None
    assert success_of(consumer.closed) is None
    stage.advance(60)
    assert stage.names().count("basic.consume") == 1


def test_a_mistake_of_our_own_is_logged_and_keeps_nobody(stage: Stage, logged_errors: LoggedErrors) -> None:
    consumer = stage.consume(ignore)

    def fails(thing: Any) -> None:
        raise KeyError("release")

    consumer._client = Host(stage.peer.protocol, fails)
    cancelled = consumer.cancel()
    stage.agree()
    assert success_of(cancelled) is None
    assert success_of(consumer.closed) is None
    assert len(logged_errors.flush(KeyError)) == 1


class Host:
    """A client that knows little."""

    def __init__(self, protocol: AMQPProtocol, release: Callable[[Any], None]) -> None:
        self.protocol = protocol
        self.operations = Operations(protocol)
        self.release = release

    def adopt(self, thing: Any) -> None:
        pass
