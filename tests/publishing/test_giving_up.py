"""Messages that are given up: by who published them, or because it takes too long."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.publishing.press import BIG, Press, tag_of
from txamqpx.errors import (
    ConfirmTimeout,
    GateTimeout,
    NotPublished,
)
from txamqpx.publishing.turns import Publish
from txamqpx.spec.amqp0_9_1 import (
    ChannelFlow,
    ChannelFlowOk,
)
from txamqpx.testing import Watched, failure_of, is_pending


@pytest.fixture
def press() -> Press:
    return Press()


@pytest.mark.covers("T-PUB-09")
def test_who_cancels_in_time_is_not_published(press: Press) -> None:
    press.publish(b"1")
    waiting = press.publisher.publish(b"2")
    flushed = Watched(press.publisher.flush())
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
    flushed = Watched(press.publisher.flush())
    given_up.cancel()
    failure_of(given_up, CancelledError)
    assert flushed.value is None
    assert Watched(press.publisher.flush()).value is None


def test_a_message_that_waits_for_operations_and_is_given_up_holds_up_no_flush(press: Press) -> None:
    press.operations.begin()
    waiting = press.publisher.publish(b"1")
    flushed = Watched(press.publisher.flush())
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
    seen = Watched(second)
    press.peer.advance(6)
    press.take(b"0", b"2")
    press.nothing()
    press.ack(3)
    assert tag_of(seen) == (3, False)


def test_patience_is_over_in_order_also_for_those_that_were_moved() -> None:
    press = Press(gate_timeout=5.0)
    press.prove()
    press.prove("gone")
    Watched(press.publisher.publish(b"b", exchange="gone"))
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
