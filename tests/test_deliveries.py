from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks

from tests.consuming.log import listening
from tests.consuming.stage import Stage
from tests.logged import LoggedErrors
from txamqpx.deliveries import Deliveries
from txamqpx.errors import ConnectionLost, ConsumerCancelled, NotFound
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import BasicCancel, BasicQosOk, ChannelClose, ChannelOpenOk
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def stage() -> Stage:
    return Stage()


def deliveries(stage: Stage, **options: Any) -> Deliveries:
    made = stage.client.deliveries("q", **options)
    stage.agree()
    return made


async def bodies(source: Deliveries, stop: bytes = b"") -> list[bytes]:
    taken = []
    async for delivery in source:
        taken.append(delivery.body)
        delivery.ack()
        if delivery.body == stop:
            break
    return taken


def test_a_loop_takes_one_after_another(stage: Stage) -> None:
    source = deliveries(stage)
    taken = Watched(Deferred.fromCoroutine(bodies(source, b"3")))
    stage.deliver(b"1")
    stage.deliver(b"2", b"3", b"4")
    assert taken.value == [b"1", b"2", b"3"]
    assert success_of(source.get()).body == b"4"
    assert stage.take_settled() == [("ack", 1), ("ack", -3)]


def test_generators_take_them_too(stage: Stage) -> None:
    source = deliveries(stage)

    @inlineCallbacks
    def take_two() -> Generator[Deferred[Delivery], Delivery, list[bytes]]:
        first = yield source.get()
        second = yield source.get()
        return [first.body, second.body]

    taken = Watched(take_two())
    stage.deliver(b"1", b"2")
    assert taken.value == [b"1", b"2"]


def test_who_gives_up_takes_nothing(stage: Stage) -> None:
    source = deliveries(stage)
    first, second = source.get(), source.get()
    first.cancel()
    failure_of(first, CancelledError)
    stage.deliver(b"1")
    assert success_of(second).body == b"1"


@pytest.mark.parametrize(
    "options",
    [{"ack": "auto"}, {"ack": "early"}, {"concurrency": 2}, {"thread": True}, {"on_error": "stop"}],
)
def test_what_is_for_handlers_is_refused(stage: Stage, options: Any) -> None:
    with pytest.raises(ValueError, match="a loop"):
        stage.client.deliveries("q", **options)


@pytest.mark.covers("S28")
def test_a_queue_that_is_not_there_is_told_to_who_takes(stage: Stage) -> None:
    source = stage.client.deliveries("nope")
    early = source.get()
    stage.listen()
    text = "NOT_FOUND - no queue 'nope' in vhost '/'"
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 60, 20))
    failure_of(early, NotFound)
    failure_of(source.get(), NotFound)
    assert type(success_of(source.consumer.closed)) is NotFound


async def looped(source: Deliveries) -> None:
    async with source:
        async for delivery in source:
            delivery.ack()


def test_a_block_is_left_where_the_consumer_never_started(stage: Stage) -> None:
    loop = Watched(Deferred.fromCoroutine(looped(stage.client.deliveries("nope"))))
    stage.listen()
    text = "NOT_FOUND - no queue 'nope' in vhost '/'"
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 60, 20))
    loop.error(NotFound)


def test_cancelling_again_what_never_started_is_harmless(stage: Stage) -> None:
    source = stage.client.deliveries("q")
    stage.listen()
    assert success_of(source.cancel()) is None
    assert success_of(source.cancel()) is None


@pytest.mark.covers("S20", "T-CON-05", "P30")
def test_the_loop_ends_with_the_brokers_cancel(stage: Stage) -> None:
    source = deliveries(stage)
    taking = source.get()
    stage.deliver(b"1", b"2", b"3")
    assert success_of(taking).body == b"1"
    stage.peer.send(1, BasicCancel("ctag-1.1", True))
    stage.agree()
    error = failure_of(source.get(), ConsumerCancelled)
    assert error.queue == "q"
    assert failure_of(source.get(), ConsumerCancelled) is not error
    assert sorted(stage.settled) == [("nack requeue", 1), ("nack requeue", 2), ("nack requeue", 3)]


@pytest.mark.covers("S60", "S34")
def test_the_loop_ends_with_the_connection(stage: Stage) -> None:
    source = deliveries(stage)
    waiting = Watched(Deferred.fromCoroutine(bodies(source)))
    stage.peer.hang_up()
    waiting.error(ConnectionLost)
    failure_of(source.get(), ConnectionLost)


@pytest.mark.covers("T-CON-12")
def test_without_acks_what_has_come_is_taken_before_the_end(stage: Stage) -> None:
    source = deliveries(stage, ack="none")
    stage.deliver(b"1", b"2", b"3")
    stage.peer.hang_up()
    assert [success_of(source.get()).body for _ in range(3)] == [b"1", b"2", b"3"]
    failure_of(source.get(), ConnectionLost)


@pytest.mark.covers("P29", "S18")
def test_our_own_cancel_ends_the_loop_and_gives_back_what_was_not_taken(stage: Stage) -> None:
    source = deliveries(stage)
    taken = success_of_first(source, stage)
    cancelled = source.cancel()
    stage.listen()
    assert sorted(stage.settled) == [("nack requeue", 2), ("nack requeue", 3)]
    assert success_of(Deferred.fromCoroutine(bodies(source))) == []
    failure_of(source.get(), StopAsyncIteration)
    stage.agree()
    assert success_of(cancelled) is None
    taken.ack()
    stage.agree()
    assert ("ack", 1) in stage.settled
    assert stage.names()[-1] == "channel.close"


def success_of_first(source: Deliveries, stage: Stage) -> Delivery:
    taking = source.get()
    stage.deliver(b"1", b"2", b"3")
    return success_of(taking)


def test_what_comes_while_the_limit_changes_is_given_back_too(stage: Stage) -> None:
    source = deliveries(stage)
    source.consumer.set_prefetch(5)
    stage.listen()
    stage.deliver(b"1", b"2")
    source.cancel()
    stage.deliver(b"3")
    stage.agree()
    assert sorted(stage.settled) == [("nack requeue", 1), ("nack requeue", 2), ("nack requeue", 3)]
    assert stage.names()[-2:] == ["basic.cancel", "channel.close"]


@pytest.mark.covers("T-CON-12")
def test_without_acks_a_cancelled_loop_goes_on_until_nothing_is_left(stage: Stage) -> None:
    source = deliveries(stage, ack="none")
    stage.deliver(b"1", b"2")
    cancelled = source.cancel()
    stage.agree()
    assert is_pending(cancelled)
    assert [success_of(source.get()).body for _ in range(2)] == [b"1", b"2"]
    stage.agree()
    assert success_of(cancelled) is None
    failure_of(source.get(), StopAsyncIteration)


async def one_turn(source: Deliveries) -> bytes:
    async with source as inside:
        async for delivery in inside:
            return delivery.body
    raise AssertionError


def test_a_block_gives_back_what_was_not_taken(stage: Stage) -> None:
    source = deliveries(stage)
    done = Watched(Deferred.fromCoroutine(one_turn(source)))
    stage.deliver(b"1", b"2")
    stage.advance(0.1)
    assert done.value == b"1"
    assert stage.settled == [("nack requeue", 2)]


@pytest.mark.covers("T-CON-12")
def test_a_block_without_acks_says_what_it_loses(stage: Stage) -> None:
    with listening() as ear:
        source = deliveries(stage, ack="none")
        done = Watched(Deferred.fromCoroutine(one_turn(source)))
        stage.deliver(b"1", b"2", b"3")
        stage.advance(0.1)
    assert done.value == b"1"
    assert [event["count"] for event in ear.said("need no ack")] == [1]


@pytest.mark.covers("T-CON-10")
def test_it_can_be_cancelled_before_it_has_started(stage: Stage) -> None:
    source = stage.client.deliveries("q")
    waiting = source.get()
    assert success_of(source.cancel()) is None
    failure_of(waiting, StopAsyncIteration)
    stage.agree()
    assert stage.names()[-1] == "channel.close"


def test_what_nobody_has_begun_can_be_cancelled(stage: Stage) -> None:
    source = Deliveries(stage.client, "q")
    assert success_of(source.cancel()) is None
    failure_of(source.get(), StopAsyncIteration)


def test_a_start_that_fails_oddly_is_no_secret_and_keeps_nobody(
    stage: Stage, logged_errors: LoggedErrors
) -> None:
    source = Deliveries(stage.client, "q")
    starting: Deferred[Any] = Deferred()
    source.begin(starting)
    waiting = source.get()
    starting.errback(KeyError("odd"))
    failure_of(waiting, StopAsyncIteration)
    failure_of(starting, KeyError)
