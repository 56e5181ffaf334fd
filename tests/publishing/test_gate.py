"""The gate: whose turn it is, and what holds it up."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs

from tests.publishing.press import BIG, Press, tag_of
from tests.talk import elsewhere
from txamqpx.errors import (
    ConnectionLost,
    Nacked,
    NoRoute,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
)
from txamqpx.message import Confirmed
from txamqpx.publisher import Publisher
from txamqpx.spec.amqp0_9_1 import (
    BasicNack,
    BasicProperties,
    BasicReturn,
    ChannelFlow,
    ChannelFlowOk,
    ConnectionClose,
)
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def press() -> Press:
    return Press()


# --------------------------------------------------------------------------- one after the other


@pytest.mark.covers("T-PUB-01", "T-PUB-13")
def test_messages_go_out_in_the_order_of_the_calls(press: Press) -> None:
    first = press.publish(b"1")
    rest = [press.publish(body) for body in (b"2", b"3")]
    assert (press.publisher.outstanding, press.publisher.waiting) == (1, 2)
    press.open()
    press.take(b"1")
    press.nothing()
    press.ack()
    assert tag_of(first) == (1, False)
    press.take(b"2", b"3")
    press.ack(3, multiple=True)
    assert [tag_of(one) for one in rest] == [(3, True)] * 2
    assert (press.publisher.outstanding, press.publisher.waiting) == (0, 0)


def test_the_first_message_to_each_exchange_travels_alone(press: Press) -> None:
    press.prove()
    press.publish(b"1")
    press.publish(b"2", exchange="logs")
    press.publish(b"3")
    press.take(b"1")
    press.nothing()
    press.ack()
    press.take(b"2")
    press.nothing()
    press.ack()
    press.take(b"3")
    press.publish(b"4", exchange="logs")
    press.take(b"4")


def test_a_large_message_travels_alone() -> None:
    press = Press({"max_outbox": 1 << 30})
    press.prove()
    small = press.publish(b"small")
    large = b"x" * (16 * 1024 * 1024 + 1)
    press.publish(large)
    press.publish(b"next")
    press.take(b"small")
    press.nothing()
    press.ack()
    assert tag_of(small) == (2, False)
    press.take(large)
    press.nothing()
    press.ack()
    press.take(b"next")


@pytest.mark.parametrize("answer", ["nack", "return"])
def test_any_answer_proves_an_exchange(press: Press, answer: str) -> None:
    alone, after = press.publish(b"1", exchange="logs"), press.publish(b"2", exchange="logs")
    press.open()
    press.take(b"1")
    if answer == "nack":
        press.peer.send(press.channel, BasicNack(1, False, False))
        alone.error(Nacked)
    else:
        press.peer.send(press.channel, BasicReturn(312, "NO_ROUTE", "logs", ""), b"1", _persistent())
        press.ack()
        assert alone.error(NoRoute).message.body == b"1"
    press.publish(b"3", exchange="logs")
    press.take(b"2", b"3")
    assert after.pending


def _persistent() -> BasicProperties:
    return BasicProperties(delivery_mode=2)


def test_who_publishes_when_a_confirm_comes_does_not_keep_others_from_flying_together(press: Press) -> None:
    """In the callback the ledger is empty already; that the exchange is proven is to be known there."""
    deferred = press.publisher.publish(b"1")
    again: list[Watched[Confirmed | None]] = []
    deferred.addCallback(lambda _: again.extend((press.publish(b"2"), press.publish(b"3"))))
    press.open()
    press.take(b"1")
    press.ack()
    press.take(b"2", b"3")
    assert len(again) == 2


@pytest.mark.covers("K05")
def test_the_window_bounds_how_many_are_outstanding() -> None:
    press = Press(max_outstanding=2)
    press.prove()
    for body in (b"1", b"2", b"3", b"4"):
        press.publish(body)
    press.take(b"1", b"2")
    press.nothing()
    assert press.publisher.waiting == 2
    press.ack(2)
    press.take(b"3")
    press.nothing()
    press.ack(4)
    press.take(b"4")


@pytest.mark.covers("K05")
def test_a_channel_on_which_the_broker_asks_for_a_pause_is_spared(press: Press) -> None:
    press.prove()
    press.peer.send(press.channel, ChannelFlow(False))
    press.peer.expect(ChannelFlowOk)
    waits = press.publish(b"1")
    press.nothing()
    press.peer.send(press.channel, ChannelFlow(True))
    press.peer.expect(ChannelFlowOk)
    press.take(b"1")
    press.ack()
    assert tag_of(waits) == (2, False)


@pytest.mark.covers("S100", "T-BLK-01", "K05")
def test_a_blocked_connection_gets_no_publish_and_not_even_a_channel(press: Press) -> None:
    press.block()
    press.publish(b"1")
    press.nothing()
    press.unblock()
    press.open()
    press.take(b"1")
    press.block()
    press.publish(b"2")
    press.nothing()
    press.ack()
    press.nothing()
    press.unblock()
    press.take(b"2")


@pytest.mark.covers("T-BLK-02", "K13", "T-PUB-15")
def test_who_publishes_more_than_the_transport_takes_waits_for_it(press: Press) -> None:
    press.prove()
    press.stall()
    for _ in range(3):
        press.publish(BIG)
    last = press.publish(b"last")
    assert press.publisher.waiting > 0
    assert press.protocol.core.outbox.size < 2 * len(BIG)
    press.flow_again()
    press.take(BIG, BIG, BIG, b"last")
    press.ack(5, multiple=True)
    assert tag_of(last) == (5, True)


def test_who_waits_for_the_transport_is_told_of_the_end_of_the_connection(press: Press) -> None:
    press.prove()
    press.stall()
    written, waiting = press.publish(BIG), press.publish(b"last")
    press.peer.wire.client.lose(ConnectionLost())
    assert isinstance(written.failures[0].value, OutcomeUnknown | NotPublished)
    waiting.error(NotPublished)


# --------------------------------------------------------------------------- operations before it


@pytest.mark.covers("T-PUB-13")
def test_a_publish_waits_for_the_operations_before_it(press: Press) -> None:
    press.prove()
    one, two = press.operations.begin(), press.operations.begin()
    press.publish(b"1")
    press.publish(b"2")
    three = press.operations.begin()
    press.publish(b"3")
    press.operations.end(one)
    press.nothing()
    press.operations.end(two)
    press.take(b"1", b"2")
    press.nothing()
    press.operations.end(three)
    press.take(b"3")
    press.publish(b"4")
    press.take(b"4")


def test_operations_that_have_just_ended_hold_nobody(press: Press) -> None:
    press.prove()
    one = press.operations.begin()
    press.publish(b"1")
    press.operations.end(one)
    press.take(b"1")
    two = press.operations.begin()
    press.publish(b"2")
    press.nothing()
    press.operations.end(two)
    press.take(b"2")


# --------------------------------------------------------------------------- limits of the line


@pytest.mark.covers("T-BLK-01")
def test_the_line_has_an_end() -> None:
    press = Press(max_waiting=2)
    press.block()
    kept = [press.publish(b"1"), press.publish(b"2")]
    press.publish(b"3").error(OutboxFull)
    assert all(one.pending for one in kept)


def test_the_line_is_limited_in_bytes_too() -> None:
    press = Press({"max_outbox": 100})
    press.block()
    one = press.publisher.publish(b"x" * 150)
    assert is_pending(one)
    press.publish(b"x").error(OutboxFull)
    one.cancel()
    failure_of(one, NotPublished)
    assert press.publish(b"x" * 50).pending
    assert press.publish(b"x" * 50).pending
    press.publish(b"x").error(OutboxFull)


def test_a_foreign_thread_changes_nothing(press: Press) -> None:
    press.prove()
    press.publish(b"1", exchange="new")
    press.take(b"1")
    assert isinstance(elsewhere(lambda: press.publisher.publish(b"2")), RuntimeError)
    assert press.publisher.waiting == 0


# --------------------------------------------------------------------------- without confirms


def test_without_confirms_a_publish_fires_as_soon_as_it_is_on_its_way() -> None:
    press = Press(confirm=False)
    first = press.publish(b"1", exchange="e")
    assert first.value is None
    press.open()
    assert press.publish(b"2", exchange="e").value is None
    press.take(b"1", b"2")
    assert success_of(press.publisher.flush()) is None


def test_without_confirms_nobody_overtakes_who_publishes_from_a_callback() -> None:
    press = Press(confirm=False)
    press.prove()
    press.block()

    def more(_: object) -> None:
        press.publish(b"2", exchange="new")
        press.publish(b"3")

    press.publisher.publish(b"1").addCallback(more)
    press.unblock()
    press.take(b"1", b"2", b"3")


def test_without_confirms_who_is_told_finds_the_gate_open() -> None:
    press = Press(confirm=False)
    press.prove()
    press.block()
    waited: list[int] = []

    def more(_: object) -> None:
        press.publish(b"2")
        waited.append(press.publisher.waiting)

    press.publisher.publish(b"1").addCallback(more)
    press.unblock()
    press.take(b"1", b"2")
    assert waited == [0]  # a loop of publishes would stand in the line with each of them


def test_without_confirms_one_that_was_sent_can_still_be_given_up() -> None:
    press = Press(confirm=False)
    press.prove()
    press.block()
    first = press.publisher.publish(b"1")
    second = press.publisher.publish(b"2")
    first.addCallback(lambda _: second.cancel())
    press.unblock()
    press.take(b"1", b"2")
    failure_of(second, CancelledError)


def test_without_confirms_a_loss_is_logged() -> None:
    press = Press(confirm=False)
    press.prove()
    with capturedLogs() as logged:
        press.publish(b"1", exchange="gone")
        press.take(b"1")
        press.refuse()
    (event,) = [event for event in logged if event["log_namespace"] == "txamqpx.publishing.gate.Gate"]
    assert event["reason"].exchange == "gone"
    press.publish(b"2", exchange="gone")
    press.open()
    press.take(b"2")
    press.lose()


# --------------------------------------------------------------------------- the end


@pytest.mark.covers("T-PUB-08", "T-CLS-07")
def test_with_the_connection_everything_ends(press: Press) -> None:
    press.prove()
    sent = press.publish(b"1")
    press.publish(b"2", exchange="new")
    flushed = Watched(press.publisher.flush())
    waiting = press.publish(b"3", exchange="new")
    press.operations.begin()
    held = press.publish(b"4")
    ready = Watched(press.publisher.when_ready())
    press.take(b"1")
    press.lose()
    sent.error(OutcomeUnknown)
    errors = [one.error(NotPublished) for one in (waiting, held)]
    assert errors[0] is not errors[1]
    assert (flushed.value, ready.value) == (None, None)
    assert press.timers() == 0
    press.publish(b"5").error(NotPublished)
    assert success_of(press.publisher.flush()) is None
    press.operations.end(1)


@pytest.mark.covers("T-PUB-08")
def test_what_never_left_is_not_published_when_the_broker_ends_the_connection(press: Press) -> None:
    press.prove()
    press.stall()
    large = press.publish(BIG)
    press.peer.wire.pump()
    unheard = [press.publish(b"1"), press.publish(b"2")]
    assert press.publisher.outstanding == 3
    press.peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    large.error(OutcomeUnknown)
    errors = [one.error(NotPublished) for one in unheard]
    assert errors[0] is not errors[1]
    assert press.publisher.moved == 0
    press.flow_again()


def test_a_publisher_of_a_dead_connection_publishes_nothing(press: Press) -> None:
    press.lose()
    late = Publisher(press)
    failure_of(late.publish(b"1"), NotPublished)
    assert success_of(late.close()) is None


def test_who_flushes_while_the_end_is_told_is_told_last(press: Press) -> None:
    press.block()
    order: list[str] = []

    def first_failed(_: object) -> None:
        press.publisher.flush().addCallback(lambda _: order.append("flush"))
        order.append("first")

    press.publisher.publish(b"1").addErrback(first_failed)
    press.publisher.publish(b"2").addErrback(lambda _: order.append("second"))
    closed = press.publisher.close(0.0)
    press.peer.advance(0)
    assert order == ["first", "second", "flush"]
    assert success_of(closed) is None
