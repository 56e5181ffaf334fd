"""The gate: whose turn it is, on which channel, and what becomes of whom."""

from __future__ import annotations

from threading import get_ident

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.python import threadable
from twisted.python.failure import Failure

from tests.outcomes import Outcome, failure_of, is_pending, success_of
from tests.publishing.press import BIG, Press, tag_of
from txamqpx.errors import (
    ConfirmTimeout,
    ConnectionLost,
    GateTimeout,
    Nacked,
    NoFreeChannels,
    NoRoute,
    NotFound,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed
from txamqpx.publisher import Publisher
from txamqpx.publishing.turns import Publish
from txamqpx.spec.amqp0_9_1 import (
    BasicNack,
    BasicProperties,
    BasicPublish,
    BasicReturn,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelFlowOk,
    ChannelOpen,
    ConnectionClose,
)


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
    again: list[Outcome[Confirmed | None]] = []
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


# --------------------------------------------------------------------------- the channel is closed


@pytest.mark.covers("S07", "T-PUB-10", "P25", "T-PUB-07")
def test_a_missing_exchange_costs_its_own_message_alone(press: Press) -> None:
    good, bad, after = press.publish(b"1"), press.publish(b"2", exchange="gone"), press.publish(b"3")
    press.open()
    press.take(b"1")
    press.ack()
    press.take(b"2")
    press.nothing()
    press.refuse()
    assert tag_of(good) == (1, False)
    assert bad.error(NotFound).exchange == "gone"
    press.open()
    press.take(b"3")
    press.ack()
    assert tag_of(after) == (1, False)
    assert press.publisher.moved == 0
    press.publish(b"4")
    press.take(b"4")


def _midair(press: Press) -> tuple[list[Outcome[Confirmed | None]], ...]:
    """Publish to an exchange that is deleted meanwhile, between others."""
    press.prove()
    press.prove("gone")
    before = [press.publish(b"a"), press.publish(b"b")]
    culprit = [press.publish(b"c", exchange="gone")]
    after = [press.publish(b"d"), press.publish(b"e")]
    press.take(b"a", b"b", b"c", b"d", b"e")
    return before, culprit, after


@pytest.mark.covers("T-PUB-07", "T-PUB-10")
def test_of_many_the_one_to_blame_is_found_and_those_behind_it_are_moved(press: Press) -> None:
    before, culprit, after = _midair(press)
    press.refuse()
    errors = [one.error(OutcomeUnknown) for one in before]
    assert errors[0] is not errors[1]
    culprit[0].error(NotFound)
    assert all(one.pending for one in after)
    press.open()
    press.take(b"d", b"e")
    press.ack(2, multiple=True)
    assert [tag_of(one) for one in after] == [(2, True)] * 2
    assert press.publisher.moved == 2
    press.publish(b"f", exchange="gone")
    press.publish(b"g")
    press.take(b"f")
    press.nothing()


def test_what_is_moved_stays_before_what_waits_and_what_is_published_meanwhile(press: Press) -> None:
    _, culprit, after = _midair(press)
    press.publish(b"f", exchange="new")
    flushed = press.publisher.flush()
    late = [press.publish(b"g")]
    press.refuse()
    press.open()
    press.take(b"d", b"e")
    press.nothing()
    press.ack(2, multiple=True)
    press.take(b"f")
    press.ack()
    press.take(b"g")
    assert not is_pending(flushed)
    press.ack()
    assert tag_of(late[0]) == (4, False)
    assert [tag_of(one) for one in after] == [(2, True)] * 2
    culprit[0].error(NotFound)


@pytest.mark.covers("T-CLS-07", "T-PUB-07", "S87")
def test_who_publishes_in_the_middle_of_a_channels_end_stands_behind_those_that_are_moved(
    press: Press,
) -> None:
    press.prove()
    press.prove("gone")
    culprit = press.publisher.publish(b"a", exchange="gone")
    culprit.addErrback(lambda _: press.publish(b"d"))
    press.publish(b"b")
    press.publish(b"c")
    press.take(b"a", b"b", b"c")
    press.refuse()
    press.open()
    press.take(b"b", b"c", b"d")


@pytest.mark.covers("T-CLS-07")
def test_who_flushes_in_the_middle_of_a_channels_end_waits_for_those_that_are_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    flushed: list[Outcome[None]] = []
    culprit = press.publisher.publish(b"a", exchange="gone")
    culprit.addErrback(lambda _: flushed.append(Outcome(press.publisher.flush())))
    press.publish(b"b")
    press.take(b"a", b"b")
    press.refuse()
    press.open()
    press.take(b"b")
    assert flushed[0].pending
    press.ack()
    assert flushed[0].value is None


@pytest.mark.covers("T-CLS-07")
def test_who_cancels_in_the_middle_of_a_channels_end_is_not_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    culprit = press.publisher.publish(b"a", exchange="gone")
    cancelled = press.publisher.publish(b"b")
    culprit.addErrback(lambda _: cancelled.cancel())
    moved = press.publish(b"c")
    press.take(b"a", b"b", b"c")
    press.refuse()
    failure_of(cancelled, CancelledError)
    press.open()
    press.take(b"c")
    press.ack()
    assert tag_of(moved) == (1, False)


@pytest.mark.covers("T-CLS-07")
def test_who_closes_in_the_middle_of_a_channels_end_waits_for_those_that_are_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    closed: list[Outcome[None]] = []
    culprit = press.publisher.publish(b"a", exchange="gone")
    culprit.addErrback(lambda _: closed.append(Outcome(press.publisher.close())))
    moved = press.publish(b"b")
    press.take(b"a", b"b")
    press.refuse()
    press.open()
    press.take(b"b")
    assert closed[0].pending
    press.ack()
    press.peer.expect(ChannelClose)
    assert tag_of(moved) == (1, False)
    assert closed[0].value is None
    assert press.timers() == 0


@pytest.mark.covers("T-PUB-07")
def test_a_mark_keeps_its_place_among_those_that_are_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    Outcome(press.publisher.publish(b"b", exchange="gone"))
    press.publish(b"c")
    flushed = Outcome(press.publisher.flush())
    press.publish(b"d")
    press.take(b"b", b"c", b"d")
    press.refuse()
    press.open()
    press.take(b"c", b"d")
    assert flushed.pending
    press.ack(1)
    assert flushed.value is None


@pytest.mark.covers("T-PUB-11")
def test_a_message_that_is_too_large_for_the_broker_is_blamed(press: Press) -> None:
    press.prove()
    before, culprit = press.publish(b"1"), press.publish(b"22222")
    after = press.publish(b"3")
    press.take(b"1", b"22222", b"3")
    press.refuse(406, "PRECONDITION_FAILED - message size 5 is larger than configured max size 4")
    before.error(OutcomeUnknown)
    culprit.error(PreconditionFailed)
    press.open()
    press.take(b"3")
    assert after.pending


def test_the_default_exchange_is_called_by_another_name_in_complaints(press: Press) -> None:
    press.prove()
    denied = press.publish(b"1")
    press.take(b"1")
    press.refuse(403, "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused")
    assert denied.failures
    press.publish(b"2")
    press.publish(b"3")
    press.open()
    press.take(b"2")
    press.nothing()


def test_a_close_that_names_no_exchange_leaves_all_of_them_proven(press: Press) -> None:
    press.prove()
    press.peer.send(press.channel, ChannelClose(541, "INTERNAL_ERROR", 0, 0))
    press.peer.expect(ChannelCloseOk)
    press.publish(b"1")
    press.publish(b"2")
    press.open()
    press.take(b"1", b"2")


def test_without_a_free_number_nothing_can_be_published() -> None:
    press = Press(channel_max=1)
    press.peer.open_channel()
    error = press.publish(b"1").error(NotPublished)
    assert isinstance(error.__cause__, NoFreeChannels)


@pytest.mark.parametrize("room", [-1, 5])
def test_who_finds_no_room_to_open_a_channel_is_refused(press: Press, room: int) -> None:
    other = press.peer.open_channel()
    other.basic_publish(b"x" * 100)
    outbox = press.protocol.core.outbox
    outbox.most, kept = outbox.size + room, outbox.most
    press.publish(b"1").error(OutboxFull)
    outbox.most = kept
    press.peer.expect(BasicPublish, other.number)
    if room > 0:  # enough to open it, and too little for confirms
        press.peer.expect(ChannelClose, press.peer.expect(ChannelOpen).channel)
    press.publish(b"2")
    press.open()
    press.take(b"2")


def test_a_message_that_fits_the_line_and_not_the_outbox_is_refused() -> None:
    press = Press({"max_outbox": 500})
    press.prove()
    first, second = press.publish(b"x" * 300), press.publish(b"x" * 300)
    press.take(b"x" * 300)
    second.error(OutboxFull)
    press.ack()
    assert tag_of(first) == (2, False)


# --------------------------------------------------------------------------- giving up


@pytest.mark.covers("T-PUB-09")
def test_who_cancels_in_time_is_not_published(press: Press) -> None:
    press.publish(b"1")
    waiting = press.publisher.publish(b"2")
    flushed = Outcome(press.publisher.flush())
    waiting.cancel()
    failure_of(waiting, NotPublished)
    press.open()
    press.take(b"1")
    press.ack()
    assert flushed.value is None
    press.nothing()


@pytest.mark.covers("T-PUB-09")
def test_who_cancels_late_keeps_his_number(press: Press) -> None:
    press.prove()
    given_up, other = press.publisher.publish(b"1"), press.publish(b"2")
    press.take(b"1", b"2")
    given_up.cancel()
    failure_of(given_up, CancelledError)
    press.ack(2)
    assert (other.pending, press.publisher.outstanding) == (True, 1)
    press.ack(3)
    assert tag_of(other) == (3, False)
    assert press.publisher.outstanding == 0


def test_a_flush_waits_for_nobody_who_was_given_up(press: Press) -> None:
    press.prove()
    given_up = press.publisher.publish(b"1")
    flushed = Outcome(press.publisher.flush())
    given_up.cancel()
    failure_of(given_up, CancelledError)
    assert flushed.value is None
    assert Outcome(press.publisher.flush()).value is None


def test_a_message_that_waits_for_operations_and_is_given_up_holds_up_no_flush(press: Press) -> None:
    press.operations.begin()
    waiting = press.publisher.publish(b"1")
    flushed = Outcome(press.publisher.flush())
    waiting.cancel()
    failure_of(waiting, NotPublished)
    assert flushed.value is None


def test_a_flush_can_be_given_up_anywhere(press: Press) -> None:
    press.prove()
    sent = press.publish(b"1")
    outstanding = press.publisher.flush()
    press.publish(b"2", exchange="new")
    in_line = press.publisher.flush()
    for flush in (outstanding, in_line):
        flush.cancel()
        failure_of(flush, CancelledError)
    press.take(b"1")
    press.ack()
    assert tag_of(sent) == (2, False)
    press.take(b"2")


def test_a_flush_may_be_given_up_by_who_is_told_before(press: Press) -> None:
    press.operations.begin()
    waiting = press.publisher.publish(b"1")
    one, two = press.publisher.when_ready(), press.publisher.when_ready()
    one.addCallback(lambda _: two.cancel())
    waiting.cancel()
    failure_of(waiting, NotPublished)
    failure_of(two, CancelledError)


@pytest.mark.covers("T-PUB-09")
def test_a_message_of_which_the_broker_does_not_speak_in_time_is_unknown(press: Press) -> None:
    press.prove()
    late, other = press.publish(b"1"), press.publish(b"2")
    press.take(b"1", b"2")
    press.peer.advance(20)
    press.ack(3)
    assert tag_of(other) == (3, False)
    assert late.pending
    press.peer.advance(14)
    assert late.error(ConfirmTimeout).seconds == 30.0
    assert press.publisher.outstanding == 1
    fresh = press.publish(b"3")
    press.take(b"3")
    press.ack(2)
    assert (fresh.pending, press.publisher.outstanding) == (True, 1)
    press.ack(4)
    assert tag_of(fresh) == (4, False)


def test_a_limit_holds_also_after_a_time_without_messages(press: Press) -> None:
    press.prove()
    press.peer.advance(10)
    sent = press.publish(b"1")
    press.peer.advance(34)
    sent.error(ConfirmTimeout)


def test_a_message_that_was_sent_is_kept_only_until_the_broker_has_it(press: Press) -> None:
    first = press.publisher.publish(b"1")
    second = press.publisher.publish(b"2")
    assert hasattr(second, "content")
    press.open()
    press.take(b"1")
    press.ack()
    press.take(b"2")
    assert not hasattr(first, "content")
    assert not hasattr(second, "content")


def test_what_an_errback_returned_is_not_given_up_with_its_message(press: Press) -> None:
    press.prove()
    retried: Deferred[None] = Deferred()
    cancelled = press.publisher.publish(b"1")
    cancelled.addErrback(lambda _: retried)
    cancelled.cancel()
    press.peer.advance(60)
    assert is_pending(retried)


def test_a_silent_broker_does_not_hold_up_other_exchanges() -> None:
    press = Press(gate_timeout=100.0)
    alone = press.publish(b"1", exchange="slow")
    press.open()
    press.take(b"1")
    press.publish(b"2", exchange="slow")
    press.publish(b"3", exchange="other")
    press.nothing()
    press.peer.advance(35)
    alone.error(ConfirmTimeout)
    press.take(b"2")
    press.nothing()
    press.peer.advance(35)
    press.take(b"3")


@pytest.mark.covers("T-BLK-02")
def test_while_the_broker_is_blocked_confirms_have_time(press: Press) -> None:
    press.prove()
    sent = press.publish(b"1")
    press.take(b"1")
    press.block()
    press.peer.advance(50)
    press.peer.beat()
    press.peer.advance(50)
    assert sent.pending
    press.unblock()
    press.peer.advance(29)
    assert sent.pending
    press.peer.advance(9)
    sent.error(ConfirmTimeout)


@pytest.mark.covers("T-PUB-08")
@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("blocked", "the broker has blocked the connection: low on memory"),
        ("flow", "the broker has asked for a pause (channel.flow)"),
        ("window", "1 messages wait for confirms"),
        ("operation", "an operation that was called before it has not ended"),
        ("transport", "the transport takes no more"),
        ("alone", "a message before it travels alone, as it may cost the channel"),
        ("risky", "it travels alone, as it may cost the channel, and others are on the way"),
    ],
)
def test_who_waits_too_long_is_told_for_what(why: str, reason: str) -> None:
    press = Press(gate_timeout=5.0, max_outstanding=1 if why == "window" else 10)
    press.prove()
    if why == "blocked":
        press.block()
    elif why == "flow":
        press.peer.send(press.channel, ChannelFlow(False))
        press.peer.expect(ChannelFlowOk)
    elif why == "window":
        press.publish(b"outstanding")
    elif why == "operation":
        press.operations.begin()
    elif why == "transport":
        press.stall()
        press.publish(BIG)
        press.peer.wire.pump()
        press.publish(BIG)
    elif why == "alone":
        press.publish(b"alone", exchange="new")
    else:
        press.publish(b"outstanding")
    waiting = press.publish(b"waiting", exchange="risky" if why == "risky" else "")
    press.peer.advance(1)
    later = press.publish(b"later")
    press.peer.advance(3.5)
    assert waiting.pending
    press.peer.advance(1)
    error = waiting.error(GateTimeout)
    assert (error.seconds, error.reason) == (5.0, reason)
    if why == "risky":
        press.take(b"outstanding", b"later")  # nobody is before it any more
    else:
        assert later.pending
        press.peer.advance(1)
        later.error(GateTimeout)


def test_a_channel_that_ends_is_a_reason_too(press: Press) -> None:
    press.prove()
    first = press.publisher.publish(b"1", exchange="gone")
    waiting = press.publisher.publish(b"2")
    assert isinstance(waiting, Publish)
    reasons: list[str] = []

    def ask(_: Failure) -> None:
        reasons.append(press.publisher._gate.why(waiting))

    first.addErrback(ask)
    press.take(b"1")
    press.refuse()
    assert reasons == ["the channel is being replaced"]
    press.open()
    press.take(b"2")


def test_who_is_given_up_may_let_others_pass_or_go() -> None:
    press = Press(gate_timeout=5.0)
    press.prove()
    press.publish(b"0")
    first = press.publisher.publish(b"1", exchange="new")
    second = press.publisher.publish(b"2")
    third = press.publisher.publish(b"3", exchange="new")
    third.addErrback(lambda _: None)
    first.addErrback(lambda _: third.cancel())
    seen = Outcome(second)
    press.peer.advance(6)
    press.take(b"0", b"2")
    press.nothing()
    press.ack(3)
    assert tag_of(seen) == (3, False)


def test_patience_is_over_in_order_also_for_those_that_were_moved() -> None:
    press = Press(gate_timeout=5.0)
    press.prove()
    press.prove("gone")
    Outcome(press.publisher.publish(b"b", exchange="gone"))
    moved = press.publish(b"c")
    waiting = press.publish(b"d", exchange="new")
    press.peer.advance(2)
    press.take(b"b", b"c")
    press.block()
    press.refuse()
    press.peer.advance(2.5)
    assert moved.pending
    press.peer.advance(0.5)
    moved.error(GateTimeout)
    waiting.error(GateTimeout)


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


def test_a_foreign_thread_changes_nothing(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    press.prove()
    press.publish(b"1", exchange="new")
    press.take(b"1")
    monkeypatch.setattr(threadable, "ioThread", get_ident() + 1)
    with pytest.raises(RuntimeError):
        press.publisher.publish(b"2")
    monkeypatch.undo()
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
    flushed = Outcome(press.publisher.flush())
    waiting = press.publish(b"3", exchange="new")
    press.operations.begin()
    held = press.publish(b"4")
    ready = Outcome(press.publisher.when_ready())
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
