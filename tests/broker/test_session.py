"""A connection from its greeting to its end, whoever ends it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.broker.visitor import GREETING, UNDERSTANDS, Visitor, methods, publish
from tests.logged import LoggedErrors
from txamqpx.broker import Broker
from txamqpx.broker.fields import HEADERS, properties_of, table
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.session import CLOSING, HANDSHAKE, SILENCE, Session
from txamqpx.protocol.frames import BODY, HEARTBEAT_FRAME, frame, header_frame
from txamqpx.spec import amqp0_9_1 as amqp

DECLARE = amqp.QueueDeclare("q", exclusive=True)
UNKNOWN = frame(5, 1, b"abc")


@pytest.fixture
def visitor() -> Visitor:
    return Visitor().open(1)


def nothing_is_left(visitor: Visitor) -> None:
    visitor.leave()
    assert visitor.clock.getDelayedCalls() == []
    assert visitor.broker.sessions == set()


# --------------------------------------------------------------------------- coming in


def test_everything_at_once_is_taken_in_order() -> None:
    visitor = Visitor()
    visitor.write(
        GREETING
        + methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest", "en_US"))
        + methods(0, amqp.ConnectionTuneOk(2047, 131072, 0), amqp.ConnectionOpen("/"))
        + methods(1, amqp.ChannelOpen(), amqp.ConfirmSelect(), DECLARE)
        + publish("q", b"x")
        + methods(1, amqp.ChannelClose(200, ""))
        + methods(0, amqp.ConnectionClose(200, "bye"))
    )
    assert visitor.names() == [
        "connection.start",
        "connection.tune",
        "connection.open-ok",
        "channel.open-ok",
        "confirm.select-ok",
        "queue.declare-ok",
        "basic.ack",
        "channel.close-ok",
        "connection.close-ok",
    ]
    assert visitor.is_sent_away()
    nothing_is_left(visitor)


def test_a_client_that_does_not_log_in_is_dropped() -> None:
    visitor = Visitor()
    visitor.write(GREETING)
    visitor.clock.advance(HANDSHAKE - 1)
    assert not visitor.is_dropped()
    visitor.clock.advance(1)
    assert visitor.is_dropped()
    nothing_is_left(visitor)


def test_a_client_that_is_in_has_all_the_time(visitor: Visitor) -> None:
    assert visitor.is_in()
    assert visitor.clock.getDelayedCalls() == []


def test_another_protocol_is_refused_at_once() -> None:
    visitor = Visitor(Broker(profile="rabbitmq-3.10", clock=Clock()))
    visitor.write(b"GET / HTTP/1.1\r\n\r\n")
    assert visitor.hear() == [GREETING]
    assert visitor.is_sent_away()
    nothing_is_left(visitor)


# --------------------------------------------------------------------------- breaches


def test_a_breach_is_told_when_what_came_before_is_answered(visitor: Visitor) -> None:
    visitor.write(
        methods(1, amqp.ConfirmSelect(), DECLARE)
        + publish("q")
        + UNKNOWN
        + methods(1, DECLARE)
        + publish("q")
    )
    heard = visitor.hear()
    assert [one.name for one in heard] == [
        "confirm.select-ok",
        "queue.declare-ok",
        "basic.ack",
        "connection.close",
    ]
    assert (heard[-1].reply_code, heard[-1].class_id) == (501, 0)
    visitor.write(UNKNOWN[:3])
    visitor.write(UNKNOWN[3:])
    assert not visitor.is_sent_away()
    visitor.send(0, amqp.ConnectionCloseOk())
    assert visitor.hear() == []
    assert visitor.is_sent_away()
    nothing_is_left(visitor)


def test_a_client_that_does_not_answer_a_close_is_dropped(visitor: Visitor) -> None:
    visitor.write(UNKNOWN)
    visitor.clock.advance(CLOSING)
    assert visitor.is_dropped()
    nothing_is_left(visitor)


def test_frames_that_cannot_be_told_apart_are_the_last(visitor: Visitor) -> None:
    visitor.write(methods(1, DECLARE) + HEARTBEAT_FRAME[:-1] + b"x" + methods(1, DECLARE))
    assert visitor.names() == ["queue.declare-ok", "connection.close"]
    visitor.send(0, amqp.ConnectionCloseOk())
    visitor.clock.advance(SILENCE - 1)
    assert not visitor.is_sent_away()
    visitor.clock.advance(1)
    assert visitor.is_sent_away()
    nothing_is_left(visitor)


def test_the_last_word_does_not_wait_for_who_reads_nothing(visitor: Visitor) -> None:
    slow(visitor)
    visitor.write(HEARTBEAT_FRAME[:-1] + b"x")
    assert visitor.names() == ["connection.close"]


def test_a_stranger_is_told_nothing() -> None:
    visitor = Visitor()
    visitor.write(GREETING)
    visitor.hear()
    visitor.write(UNKNOWN)
    assert visitor.hear() == []
    visitor.clock.advance(SILENCE)
    assert visitor.is_sent_away()
    nothing_is_left(visitor)


def test_what_came_before_a_hard_refusal_is_the_last_that_counts(visitor: Visitor) -> None:
    visitor.write(
        methods(1, amqp.ConfirmSelect(), DECLARE)
        + publish("q")
        + methods(1, amqp.BasicQos(1, 1), amqp.QueuePurge("q"))
        + methods(0, amqp.ConnectionClose(200, ""))
    )
    assert visitor.names() == [
        "confirm.select-ok",
        "queue.declare-ok",
        "basic.ack",
        "connection.close",
        "connection.close-ok",
    ]
    nothing_is_left(visitor)


def test_what_comes_behind_a_hard_refusal_is_not_done(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    visitor.write(
        methods(1, amqp.BasicQos(1, 1)) + methods(2, amqp.ChannelOpen(), amqp.QueueDelete("q")) + publish("q")
    )
    assert visitor.names() == ["queue.declare-ok", "connection.close"]
    assert list(visitor.broker.vhosts["/"].queues) == ["q"]
    nothing_is_left(visitor)


def test_a_connection_is_refused_once(visitor: Visitor) -> None:
    for _ in range(2):
        visitor.session.refuse(Refusal(541, "x"))
    assert visitor.names() == ["connection.close"]


# --------------------------------------------------------------------------- faults of our own


def test_an_error_of_the_brokers_ends_one_connection(
    visitor: Visitor, logged_errors: LoggedErrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = Visitor(visitor.broker).open(1)

    def failing(queue: object) -> None:
        raise ZeroDivisionError

    visitor.send(1, DECLARE)
    visitor.session.at_end(lambda: None)
    core: Any = visitor.session.core.channels[1]
    core.owner.requested = failing
    visitor.send(1, DECLARE)
    assert visitor.refusal() == (541, "INTERNAL_ERROR")
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    neighbour.send(1, amqp.QueueDeclare("other", exclusive=True))
    assert neighbour.names() == ["queue.declare-ok"]
    visitor.session.at_end(lambda: failing(None))
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert visitor.hear() == []


def test_properties_that_are_none_are_the_clients_fault(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    visitor.write(publish("q", properties=b"\x80\0\x09t"))
    assert visitor.refusal() == (541, "INTERNAL_ERROR")


PAYLOADS = st.binary(max_size=20) | st.sampled_from([one().encode() for one in amqp.METHODS])
FRAMES = st.builds(frame, st.integers(0, 9), st.integers(0, 3), PAYLOADS) | st.binary(max_size=10)


@settings(max_examples=50)
@given(st.lists(FRAMES, max_size=8), st.integers(1, 40))
def test_rubbish_ends_one_connection_and_harms_no_other(frames: list[bytes], size: int) -> None:
    """However it is cut; and what is raised by it would be logged, and fail this test."""
    visitor = Visitor().open(1)
    neighbour = Visitor(visitor.broker).open(1)
    data = b"".join(frames)
    for start in range(0, len(data), size):
        visitor.write(data[start : start + size])
    neighbour.send(1, DECLARE)
    assert neighbour.names() == ["queue.declare-ok"]
    visitor.leave()
    neighbour.leave()
    assert visitor.clock.getDelayedCalls() == []


# --------------------------------------------------------------------------- alarms


def test_who_publishes_during_an_alarm_is_not_heard_until_it_is_over(visitor: Visitor) -> None:
    visitor.send(1, amqp.ConfirmSelect(), DECLARE)
    visitor.hear()
    visitor.broker.set_alarm()
    visitor.broker.set_alarm("disk")
    visitor.write(publish("q") + publish("q") + methods(1, DECLARE))
    blocked, ack = visitor.hear()
    assert blocked.reason == "low on disk & memory"
    assert ack.delivery_tag == 1
    assert visitor.session.is_blocked
    assert not visitor.is_heard()
    visitor.send(1, DECLARE)
    visitor.broker.clear_alarm()
    assert visitor.hear() == []
    visitor.broker.clear_alarm("disk")
    visitor.broker.clear_alarm("disk")
    assert visitor.names() == [
        "connection.unblocked",
        "queue.declare-ok",
        "queue.declare-ok",
        "basic.ack",
    ]
    assert visitor.is_heard()


def test_who_cannot_be_told_of_an_alarm_is_blocked_as_well() -> None:
    visitor = Visitor().open(1, properties={})
    visitor.broker.set_alarm()
    visitor.write(publish("q") + methods(1, DECLARE))
    assert visitor.hear() == []
    visitor.broker.clear_alarm()
    assert visitor.names() == ["queue.declare-ok"]


def test_what_a_blocked_client_has_sent_goes_with_it(visitor: Visitor) -> None:
    visitor.send(1, amqp.QueueDeclare("kept", durable=True))
    visitor.broker.set_alarm()
    visitor.write(publish("kept") + publish("kept"))
    nothing_is_left(visitor)
    visitor.broker.clear_alarm()
    other = Visitor(visitor.broker).open(1)
    other.send(1, amqp.QueueDeclare("kept", passive=True))
    assert [one.message_count for one in other.hear()] == [1]


def test_a_blocked_client_can_be_sent_away(visitor: Visitor) -> None:
    visitor.broker.set_alarm()
    visitor.write(publish("q") + methods(1, DECLARE))
    visitor.hear()
    assert visitor.broker.close_connections("enough") == 1
    assert visitor.refusal() == (320, "CONNECTION_FORCED - enough")
    assert visitor.is_heard()
    visitor.broker.clear_alarm()
    visitor.send(0, amqp.ConnectionCloseOk())
    assert visitor.hear() == []
    assert visitor.is_sent_away()
    nothing_is_left(visitor)


def test_nobody_is_blamed_for_silence_who_is_not_heard() -> None:
    visitor = Visitor().open(1, heartbeat=2)
    visitor.broker.set_alarm()
    visitor.write(publish("q"))
    for _ in range(10):
        visitor.clock.advance(1)
    assert visitor.is_in()
    visitor.broker.clear_alarm()
    for _ in range(4):
        visitor.clock.advance(1)
    assert not visitor.is_in()
    assert visitor.is_dropped()


# --------------------------------------------------------------------------- pace


def slow(visitor: Visitor) -> Session:
    """Let a client's transport take nothing more."""
    visitor.session._writer.pauseProducing()
    return visitor.session


def test_a_client_that_reads_nothing_is_asked_nothing_more(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    for _ in range(20):
        visitor.write(publish("q", b"x" * 120_000))
    visitor.hear()
    session = slow(visitor)
    visitor.write(methods(1, amqp.BasicGet("q", no_ack=True)) * 20)
    assert not visitor.is_heard()
    assert session.core.outbox.size < 1_300_000
    session._writer.resumeProducing()
    assert visitor.names().count("basic.get-ok") == 20
    assert visitor.is_heard()


def test_deliveries_wait_in_their_queue_for_a_client_that_reads_nothing(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    session = slow(visitor)
    visitor.send(1, amqp.BasicConsume("q", "c", no_ack=True))
    for _ in range(20):
        visitor.write(publish("q", b"x" * 120_000))
    assert not session.writable
    assert session.core.outbox.size < 500_000
    session._writer.resumeProducing()
    assert visitor.names().count("basic.deliver") == 20


def test_deliveries_of_several_queues_wait(visitor: Visitor) -> None:
    names = ("a", "b")
    for name in names:
        visitor.send(1, amqp.QueueDeclare(name, exclusive=True), amqp.BasicConsume(name, name))
    session = slow(visitor)
    for number in range(20):
        visitor.write(publish(names[number % 2], b"x" * 120_000))
    visitor.hear()
    session._writer.resumeProducing()
    tags = [one.delivery_tag for one in visitor.hear() if isinstance(one, amqp.BasicDeliver)]
    assert len(tags) == 20
    visitor.send(1, amqp.BasicAck(max(tags), True))
    assert visitor.hear() == []


def test_a_client_may_be_held_up_for_two_reasons(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    visitor.write(publish("q", b"x" * 130_000))
    visitor.hear()
    session = slow(visitor)
    visitor.write(methods(1, amqp.BasicGet("q"), amqp.BasicRecover(True)) * 10)
    session.block("low on memory")
    session._writer.resumeProducing()
    assert not visitor.is_heard()
    session.unblock()
    assert visitor.is_heard()


def test_who_leaves_while_something_waits_is_forgotten(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    slow(visitor)
    for _ in range(20):
        visitor.write(publish("q", b"x" * 120_000))
    visitor.write(methods(1, amqp.BasicGet("q", no_ack=True)) * 20)
    visitor.send(1, amqp.BasicConsume("q", "c", no_ack=True))
    nothing_is_left(visitor)


# --------------------------------------------------------------------------- heartbeats


def test_heartbeats_both_ways() -> None:
    visitor = Visitor().open(heartbeat=2)
    for _ in range(6):
        visitor.clock.advance(1)
        visitor.write(HEARTBEAT_FRAME)
    assert set(visitor.hear()) == {"heartbeat"}
    for _ in range(5):
        visitor.clock.advance(1)
    assert visitor.is_dropped()
    nothing_is_left(visitor)


# --------------------------------------------------------------------------- the end


def test_too_much_for_one_message_ends_the_channel() -> None:
    visitor = Visitor(Broker(clock=Clock(), max_message_size=10)).open(1)
    head = methods(1, amqp.BasicPublish("", "q")) + header_frame(1, 60, b"\0\0", 11)
    for _ in range(2):
        visitor.write(head + frame(BODY, 1, b"x" * 6) + frame(BODY, 1, b"x" * 5))
    text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10"
    assert visitor.refusal() == (406, text)
    visitor.send(1, amqp.ChannelCloseOk())
    visitor.send(1, amqp.ChannelOpen())
    visitor.write(head + frame(BODY, 1, b"x" * 11) + head + frame(BODY, 1, b"x" * 11))
    assert visitor.refusal() == (406, text)


def test_closes_of_a_channel_that_cross(visitor: Visitor) -> None:
    visitor.send(1, amqp.QueueDeclare("missing", passive=True), amqp.ChannelClose(200, ""))
    assert visitor.names() == ["channel.close", "channel.close-ok"]
    visitor.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen(), DECLARE)
    assert visitor.names() == ["channel.open-ok", "queue.declare-ok"]
    visitor.send(1, amqp.ChannelClose(200, ""), amqp.ChannelCloseOk(), DECLARE, amqp.ChannelClose(200, ""))
    assert visitor.names() == ["channel.close-ok", "channel.close-ok"]
    visitor.send(1, amqp.ChannelOpen())
    assert visitor.names() == ["channel.open-ok"]


def test_a_close_that_crosses_the_end_of_the_connection(visitor: Visitor) -> None:
    visitor.send(1, amqp.BasicQos(1, 1), amqp.ChannelClose(200, ""))
    assert visitor.names() == ["connection.close"]


def test_a_long_reason_is_cut(visitor: Visitor) -> None:
    visitor.session.force("ü" * 200)
    code, text = visitor.refusal()
    assert code == 320
    assert len(text.encode()) <= 255


def test_who_is_not_in_yet_is_forced_out_without_a_word() -> None:
    visitor = Visitor()
    visitor.session.force("enough")
    visitor.session.force("enough")
    assert visitor.hear() == []
    assert visitor.is_dropped()
    nothing_is_left(visitor)


def test_exclusive_queues_end_with_their_connection(visitor: Visitor) -> None:
    visitor.send(1, DECLARE)
    nothing_is_left(visitor)
    assert visitor.broker.vhosts["/"].queues == {}


def test_the_other_capabilities_are_kept() -> None:
    visitor = Visitor().open(properties={**UNDERSTANDS, "product": "x"})
    assert visitor.session.capabilities == {"authentication_failure_close", "connection.blocked"}
    assert visitor.session.client_properties["product"] == "x"
    assert visitor.session.mechanism == "PLAIN"


def test_nobody_is_to_blame_for_headers_too_deep_to_be_read(visitor: Visitor) -> None:
    """RabbitMQ takes them, so they may lie in a queue, die there, and come to an exchange that reads them."""
    visitor.send(1, amqp.ExchangeDeclare("graves", "headers"), amqp.QueueDeclare("dead"))
    visitor.send(1, amqp.QueueBind("dead", "graves", "", arguments={"x-match": "all"}))
    visitor.send(1, amqp.QueueDeclare("q", arguments={"x-dead-letter-exchange": "graves"}))
    deep = table({})
    for _ in range(100):
        deep = table({b"a": b"F" + deep})
    visitor.write(publish("q", properties=properties_of({HEADERS: deep})))
    visitor.hear()
    (held,) = visitor.broker.queue("q").messages
    assert held.headers == {}
    assert len(visitor.broker.published()) == 1
    visitor.send(1, amqp.BasicGet("q"), amqp.BasicReject(1, False), amqp.BasicGet("dead"))
    assert visitor.names() == ["basic.get-ok", "header", "basic.get-ok", "header"]
