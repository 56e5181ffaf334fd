"""The publisher as its user sees it; what stands behind it is tested in `publishing/`."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.publishing.press import Press, tag_of
from txamqpx.errors import (
    ConfirmTimeout,
    EncodeError,
    GateTimeout,
    InvalidParameter,
    NoRoute,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed
from txamqpx.ordering import Footprint
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicProperties,
    BasicPublish,
    BasicReturn,
    ChannelClose,
    ChannelCloseOk,
)
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def press() -> Press:
    return Press()


# --------------------------------------------------------------------------- what goes out


@pytest.mark.covers("S12", "P21", "T-PUB-04", "L02", "L03")
def test_a_message_goes_out_as_it_is_and_nothing_is_added(press: Press) -> None:
    press.publish(b"1", exchange="e", routing_key="k", headers={"h": 1}, content_type="text/plain")
    press.open()
    (heard,) = press.take(b"1")
    assert heard.method == BasicPublish("e", "k", mandatory=True)
    assert heard.properties == BasicProperties(content_type="text/plain", headers={"h": 1}, delivery_mode=2)


@pytest.mark.covers("T-PUB-05")
def test_messages_are_mandatory_unless_they_say_otherwise(press: Press) -> None:
    press.prove()
    press.publish(b"1")
    press.publish(b"2", mandatory=False)
    assert [heard.method.mandatory for heard in press.take(b"1", b"2")] == [True, False]
    relaxed = Press(mandatory=False)
    relaxed.prove()
    relaxed.publish(b"1")
    relaxed.publish(b"2", mandatory=True)
    assert [heard.method.mandatory for heard in relaxed.take(b"1", b"2")] == [False, True]


@pytest.mark.covers("S11")
def test_a_publisher_may_leave_the_delivery_mode_alone() -> None:
    press = Press(persistent=False)
    press.publish(b"1")
    press.open()
    assert press.take(b"1")[0].properties == BasicProperties()


@pytest.mark.parametrize("body", [bytearray(b"body"), memoryview(b"body"), memoryview(b"-b-o-d-y")[1::2]])
def test_bodies_that_can_change_are_copied(press: Press, body: Any) -> None:
    press.publish(body)
    if isinstance(body, bytearray):
        body[:] = b"XXXX"
    press.open()
    press.take(b"body")


def test_an_empty_body_is_a_body(press: Press) -> None:
    press.prove()
    press.publish(b"")
    press.take(b"")


@pytest.mark.covers("S13")
@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "😀" * 63])
def test_names_may_have_255_bytes(press: Press, name: str) -> None:
    press.publish(b"1", exchange=name, routing_key=name)
    press.open()
    (heard,) = press.take(b"1")
    assert (heard.method.exchange, heard.method.routing_key) == (name, name)


@pytest.mark.covers("T-PUB-02", "T-PUB-11")
@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {"body": "text"},
        {"body": None},
        {"exchange": "a" * 256},
        {"exchange": "é" * 128},
        {"routing_key": "é" * 128},
        {"routing_key": "\ud800"},
        {"routing_key": 1},
        {"properties": {"type": "t"}},
        {"user_id": "other"},
        {"expiration": "soon"},
        {"headers": {"large": "x" * 200_000}},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
    ],
)
def test_the_callers_mistake_is_raised_and_leaves_no_trace(
    press: Press, proven: bool, arguments: dict[str, Any]
) -> None:
    if proven:
        press.prove()
    with pytest.raises((EncodeError, InvalidParameter)):
        press.publisher.publish(**{"body": b"body", **arguments})
    press.nothing()
    assert (press.publisher.outstanding, press.publisher.waiting) == (0, 0)
    press.prove("after")


def test_a_body_that_is_too_large_for_the_publisher_is_refused() -> None:
    press = Press(max_message_size=5)
    press.prove()
    press.publish(b"12345")
    with pytest.raises(EncodeError, match="has 6 bytes, the publisher allows 5"):
        press.publisher.publish(b"123456")
    press.take(b"12345")


@pytest.mark.parametrize(
    "option",
    [
        {"max_outstanding": 0},
        {"max_outstanding": 1.5},
        {"max_waiting": 0},
        {"max_message_size": 0},
        {"max_message_size": 1.5},
        {"confirm_timeout": 0},
        {"confirm_timeout": float("inf")},
        {"gate_timeout": -1.0},
        {"gate_timeout": float("nan")},
    ],
)
def test_limits_that_make_no_sense_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(option))):
        Press(**option)


def test_each_message_gets_an_id_if_that_is_wanted() -> None:
    press = Press(message_ids=True)
    press.prove()
    press.publish(b"1")
    press.publish(b"2")
    one, two = (heard.properties.message_id for heard in press.take(b"1", b"2"))
    assert one is not None
    assert one != two


@pytest.mark.covers("T-PUB-11")
def test_a_message_under_a_foreign_name_travels_alone_also_to_a_proven_exchange() -> None:
    press = Press(impersonate=True)
    press.prove()
    foreign = press.publish(b"1", user_id="other")
    after = press.publish(b"2")
    press.publish(b"3")
    press.take(b"1")
    press.nothing()
    press.refuse(406, "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'x'")
    foreign.error(PreconditionFailed)
    press.open()
    press.take(b"2", b"3")
    assert after.pending


def test_one_who_logged_in_by_certificate_may_be_anybody() -> None:
    press = Press()
    press.protocol.parameters = type(press.protocol.parameters)(mechanism="EXTERNAL")
    certified = type(press.publisher)(press)
    Watched(certified.publish(b"0"))
    press.open()
    press.take(b"0")
    press.ack()
    certified.publish(b"1", user_id="somebody")
    certified.publish(b"2")
    press.take(b"1")
    press.nothing()


# --------------------------------------------------------------------------- what becomes of it


@pytest.mark.covers("S08", "T-PUB-04", "P24", "L05", "S88")
def test_a_message_that_came_back_is_held_by_its_own_error(press: Press) -> None:
    press.prove()
    good, lost, same = (press.publish(body, routing_key="k") for body in (b"1", b"2", b"3"))
    press.take(b"1", b"2", b"3")
    properties = BasicProperties(delivery_mode=2)
    press.peer.send(press.channel, BasicReturn(312, "NO_ROUTE", "", "k"), b"2", properties)
    assert lost.pending
    press.peer.send(press.channel, BasicAck(4, multiple=True))
    assert tag_of(good) == tag_of(same) == (4, True)
    error = lost.error(NoRoute)
    assert (error.message.body, error.reply_code) == (b"2", 312)


@pytest.mark.covers("S09", "T-PUB-03")
def test_confirms_may_come_in_any_order_and_for_several(press: Press) -> None:
    press.prove()
    published = [press.publish(b"%d" % number) for number in range(4)]
    press.take(b"0", b"1", b"2", b"3")
    press.ack(3)
    press.ack(99)
    press.ack(4, multiple=True)
    assert [one.pending for one in published] == [False, False, False, True]
    press.ack(0, multiple=True)
    assert not published[3].pending


@pytest.mark.covers("S87", "L04", "T-CLS-07")
def test_a_callback_may_publish_and_may_fail(press: Press) -> None:
    press.prove()
    chained: list[Watched[Confirmed | None]] = []

    def again(_: object) -> None:
        chained.append(press.publish(b"2"))
        raise RuntimeError("in a callback")

    first = press.publisher.publish(b"1")
    first.addCallback(again)
    neighbour = press.publish(b"n")
    press.take(b"1", b"n")
    press.ack(3, multiple=True)
    failure_of(first, RuntimeError)
    assert tag_of(neighbour) == (3, True)
    press.take(b"2")
    press.ack()
    assert tag_of(chained[0]) == (4, False)


@pytest.mark.covers("T-PUB-09")
def test_a_limit_of_its_own_ends_one_message(press: Press) -> None:
    sent = press.publish(b"1", timeout=5.0)
    waiting = press.publish(b"2", timeout=3.0)
    in_time = press.publish(b"3", timeout=7.0)
    press.open()
    press.take(b"1")
    press.peer.advance(4)
    error = waiting.error(GateTimeout)
    assert (error.seconds, "travels alone" in error.reason) == (3.0, True)
    press.peer.advance(1)
    assert sent.error(ConfirmTimeout).seconds == 5.0
    press.ack()
    press.take(b"3")
    press.ack()
    assert tag_of(in_time) == (2, False)
    before = press.timers()
    press.peer.advance(10)
    assert press.timers() <= before


def test_a_limit_of_its_own_leaves_no_timer_when_it_is_not_needed(press: Press) -> None:
    press.prove()
    timers = press.timers()
    done = press.publish(b"1", timeout=5.0)
    press.take(b"1")
    assert press.timers() == timers + 1
    press.ack()
    assert not done.pending
    assert press.timers() == timers
    cancelled = press.publisher.publish(b"2", timeout=5.0)
    cancelled.cancel()
    failure_of(cancelled, CancelledError)
    assert press.timers() == timers


def test_a_publisher_tells_how_many_there_are(press: Press) -> None:
    press.publish(b"1")
    press.publish(b"2")
    assert "1 outstanding, 1 waiting" in repr(press.publisher)


@pytest.mark.covers("T-PUB-12", "S97")
def test_each_publisher_has_a_channel_of_its_own_on_the_same_connection(press: Press) -> None:
    press.prove()
    first = press.channel
    other = type(press.publisher)(press)
    other.publish(b"1")
    press.open()
    assert press.channel != first
    press.take(b"1")


# --------------------------------------------------------------------------- flush


@pytest.mark.covers("J06", "L06")
def test_a_flush_waits_for_what_was_published_before_it(press: Press) -> None:
    assert success_of(press.publisher.flush()) is None
    press.prove()
    press.publish(b"1")
    flushed = press.publisher.flush()
    press.publish(b"2")
    press.take(b"1", b"2")
    press.ack(3)
    assert is_pending(flushed)
    press.ack(2)
    assert success_of(flushed) is None


def test_a_flush_waits_also_for_those_that_wait(press: Press) -> None:
    press.publish(b"1")
    press.publish(b"2")
    ready, flushed = press.publisher.when_ready(), press.publisher.flush()
    press.open()
    press.take(b"1")
    assert is_pending(ready)
    press.ack()
    assert success_of(ready) is None
    press.take(b"2")
    assert is_pending(flushed)
    press.ack()
    assert success_of(flushed) is None


@pytest.mark.covers("T-PUB-13")
@pytest.mark.parametrize(
    ("footprint", "exchange", "waits"),
    [
        (Footprint((("queue", "q"),)), "", True),
        (Footprint((), (("queue", "q"),)), "", True),
        (Footprint((("queue", "other"),)), "", False),
        (Footprint((("queue", "other"),)), "e", True),
        (Footprint((("binding", "other", "e"),)), "e", True),
        (Footprint((("binding", "other", "e"),)), "", False),
        (Footprint((), (("exchange", "e"),)), "e", False),
        (Footprint(), "e", False),
    ],
)
def test_an_operation_waits_for_the_publishes_that_it_may_concern(
    press: Press, footprint: Footprint, exchange: str, waits: bool
) -> None:
    press.prove()
    press.prove(exchange)
    assert press.publisher.affected_by(footprint) is None
    press.publish(b"1", exchange=exchange, routing_key="q")
    affected = press.publisher.affected_by(footprint)
    press.take(b"1")
    assert (affected is not None) == waits
    press.ack()
    assert press.publisher.affected_by(footprint) is None
    if affected is not None:
        assert success_of(affected) is None
    press.operations.begin()
    press.publish(b"2", exchange=exchange, routing_key="q")
    assert (press.publisher.affected_by(footprint) is not None) == waits


# --------------------------------------------------------------------------- close


@pytest.mark.covers("S86", "L06")
def test_to_close_is_to_wait_for_what_was_published(press: Press) -> None:
    press.publish(b"1")
    press.publish(b"2", exchange="e")
    ended = press.publisher.when_closed()
    closed, again = press.publisher.close(), press.publisher.close()
    late = press.publish(b"3")
    assert late.error(NotPublished).__cause__ is not None
    press.open()
    press.take(b"1")
    press.ack()
    press.take(b"2")
    assert is_pending(closed)
    press.ack()
    press.peer.expect(ChannelClose)
    press.peer.wire.pump()
    assert success_of(closed) is None
    assert success_of(again) is None
    assert success_of(ended) is None
    assert success_of(press.publisher.close()) is None
    assert press.timers() == 0
    assert success_of(press.publisher.flush()) is None


@pytest.mark.covers("L06", "T-CLS-07")
@pytest.mark.parametrize("timeout", [5.0, 0.0])
def test_what_has_no_outcome_by_then_is_told_so(press: Press, timeout: float) -> None:
    press.prove()
    sent = press.publish(b"1")
    waiting = press.publish(b"2", exchange="new")
    flushed = Watched(press.publisher.flush())
    press.take(b"1")
    closed = press.publisher.close(timeout)
    clock = press.peer.clock
    assert all(call.getTime() >= clock.seconds() for call in clock.getDelayedCalls())
    press.peer.advance(timeout)
    sent.error(OutcomeUnknown)
    waiting.error(NotPublished)
    assert flushed.value is None
    press.peer.expect(ChannelClose)
    assert success_of(closed) is None
    assert press.timers() == 0


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), None, "x"])
def test_a_time_that_is_none_closes_nothing(press: Press, timeout: Any) -> None:
    press.prove()
    with pytest.raises((InvalidParameter, TypeError)):
        press.publisher.close(timeout)
    sent = press.publish(b"1")
    press.take(b"1")
    press.ack()
    assert sent.value is not None
    closed = press.publisher.close()
    press.peer.wire.pump()
    assert success_of(closed) is None


def test_a_flush_is_told_of_the_end_after_the_messages_before_it(press: Press) -> None:
    press.prove()
    order: list[str] = []
    press.publisher.publish(b"1").addErrback(lambda _: order.append("outstanding"))
    press.publisher.publish(b"2", exchange="new").addErrback(lambda _: order.append("waiting"))
    press.publisher.flush().addCallback(lambda _: order.append("flush"))
    press.publisher.close(1.0)
    press.peer.advance(1)
    assert sorted(order[:2]) == ["outstanding", "waiting"]
    assert order[2:] == ["flush"]


def test_a_confirm_that_comes_while_the_channel_is_closed_starts_nothing(press: Press) -> None:
    press.prove()
    sent = [press.publish(b"1"), press.publish(b"2")]
    press.take(b"1", b"2")
    closed = press.publisher.close(1.0)
    press.stall()
    press.peer.advance(1)
    press.ack(2)
    assert is_pending(closed)
    assert press.timers() == 1  # the limit for the answer
    for one in sent:
        one.error(OutcomeUnknown)
    press.flow_again()
    press.peer.expect(ChannelClose)
    assert success_of(closed) is None
    assert press.timers() == 0


def test_a_broker_that_reads_nothing_does_not_keep_a_publisher_from_closing(press: Press) -> None:
    press.prove()
    press.block()
    waiting = press.publish(b"1")
    press.peer.mute = True
    closed = press.publisher.close(5.0)
    press.peer.advance(5)
    waiting.error(NotPublished)
    press.peer.advance(10)
    assert success_of(closed) is None
    assert press.timers() == 0


def test_a_publisher_that_never_published_closes_at_once(press: Press) -> None:
    assert success_of(press.publisher.close()) is None
    press.nothing()
    assert press.timers() == 0


@pytest.mark.covers("T-PUB-08")
def test_a_close_ends_with_the_connection(press: Press) -> None:
    press.prove()
    sent = press.publish(b"1")
    closed = press.publisher.close()
    press.take(b"1")
    press.lose()
    sent.error(OutcomeUnknown)
    assert success_of(closed) is None
    assert press.timers() == 0


def test_closed_publishers_are_not_kept_by_their_connection(press: Press) -> None:
    listeners = len(press.protocol.on_blocked)
    for _ in range(3):
        success_of(type(press.publisher)(press).close())
    assert len(press.protocol.on_blocked) == listeners
    gc.collect()
    assert len(press.protocol._closed._waiters) == 1


@pytest.mark.covers("T-CLS-07")
def test_a_callback_may_close_the_publisher(press: Press) -> None:
    press.prove()
    closed: list[Deferred[None]] = []
    press.publisher.publish(b"1").addCallback(lambda _: closed.append(press.publisher.close()))
    neighbour = press.publish(b"2")
    press.take(b"1", b"2")
    press.ack(3, multiple=True)
    assert tag_of(neighbour) == (3, True)
    press.peer.expect(ChannelClose)
    press.peer.wire.pump()
    assert success_of(closed[0]) is None


def test_the_channel_may_be_closed_over_a_message_while_the_publisher_closes(press: Press) -> None:
    press.prove()
    press.prove("gone")
    culprit = press.publish(b"1", exchange="gone")
    moved = press.publish(b"2")
    press.take(b"1", b"2")
    closed = press.publisher.close()
    press.peer.send(press.channel, ChannelClose(404, "NOT_FOUND - no exchange 'gone' in vhost '/'", 60, 40))
    press.peer.expect(ChannelCloseOk)
    assert culprit.failures
    press.open()
    press.take(b"2")
    press.ack()
    assert tag_of(moved) == (1, False)
    press.peer.expect(ChannelClose)
    press.peer.wire.pump()
    assert success_of(closed) is None


def test_a_flush_within_a_callback_waits_for_all_whom_the_same_ack_covers(press: Press) -> None:
    order: list[str] = []
    press.prove()

    def tell(_: object, name: str) -> None:
        order.append(name)
        if name == "1":
            press.publisher.flush().addCallback(tell, "flush")

    for name in "123":
        press.publisher.publish(name.encode()).addCallback(tell, name)
    press.take(b"1", b"2", b"3")
    press.ack(multiple=True)
    assert order == ["1", "2", "3", "flush"]


def test_a_flush_within_a_callback_can_be_cancelled(press: Press) -> None:
    press.prove()
    flushes: list[Deferred[None]] = []

    def tell(_: object) -> None:
        flushes.append(press.publisher.flush())
        flushes[-1].cancel()

    for body in (b"1", b"2"):
        press.publisher.publish(body).addCallback(tell)
    press.take(b"1", b"2")
    press.ack(multiple=True)
    for flush in flushes:
        failure_of(flush, CancelledError)
    assert len(flushes) == 2
