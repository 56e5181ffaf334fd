"""Faults as clients meet them: the client is the library's own, on the broker's ``Clock``."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.broker.company import Company, protocol_of, struck
from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import (
    AuthenticationError,
    ConnectionClosed,
    ConnectionLost,
    ConnectionRefused,
    HandshakeTimeout,
    HeartbeatTimeout,
    Nacked,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed, Delivery
from txamqpx.testing.outcomes import success_of


class Told(Delegate):
    """Notes what it is told of."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def consumer_cancelled(self, channel: Channel, consumer_tag: str) -> None:
        self.events.append(("cancelled", consumer_tag))

    def connection_blocked(self, protocol: AMQPProtocol, reason: str) -> None:
        self.events.append(("blocked", reason))

    def connection_unblocked(self, protocol: AMQPProtocol) -> None:
        self.events.append("unblocked")


@pytest.fixture
def company() -> Company:
    return Company()


def queue_of(company: Company, name: str = "jobs") -> Channel:
    """Return a channel in confirm mode, and let there be a queue."""
    channel = company.channel(confirms=True)
    company.do(channel.queue_declare(name, durable=True))
    return channel


def end_of(protocol: AMQPProtocol) -> BaseException | None:
    """Return why a connection is over, or None if it is not."""
    ended: list[BaseException] = []
    protocol.when_closed().addCallback(ended.append)
    return ended[0] if ended else None


# --------------------------------------------------------------------------- drop


def test_a_connection_dies_instead_of_a_confirm(company: Company) -> None:
    channel = queue_of(company)
    fault = company.broker.faults.drop(at="basic.ack", sent_by="broker")
    assert not struck(fault)
    publishing = company.watch(channel.basic_publish(b"taken", routing_key="jobs"))
    publishing.error(OutcomeUnknown)
    assert struck(fault) == 1
    assert fault.over
    assert [message.body for message in company.broker.queue("jobs").messages] == [b"taken"]
    assert company.broker.connections == []
    other = company.channel(confirms=True)
    assert isinstance(company.do(other.basic_publish(b"again", routing_key="jobs")), Confirmed)


def test_a_connection_dies_before_a_publish_arrives(company: Company) -> None:
    channel = queue_of(company)
    company.broker.faults.drop(at="basic.publish", frame=2)
    first = company.watch(channel.basic_publish(b"first", routing_key="jobs"))
    assert isinstance(first.value, Confirmed)
    company.watch(channel.basic_publish(b"second", routing_key="jobs")).error(OutcomeUnknown)
    assert [message.body for message in company.broker.queue("jobs").messages] == [b"first"]


def test_what_came_before_the_place_is_answered(company: Company) -> None:
    channel = queue_of(company)
    company.broker.faults.drop(frame=3, sent_by="client")
    first, second = channel.queue_declare("a"), channel.queue_declare("b")
    third = channel.queue_declare("c")
    assert company.do(first).queue == "a"
    assert company.do(second).queue == "b"
    company.watch(third).error()
    assert "c" not in company.broker.vhosts["/"].queues


@pytest.mark.parametrize("byte", [0, 3, 9, 12])
def test_a_frame_is_cut_in_two(company: Company, byte: int) -> None:
    channel = queue_of(company)
    tap = company.broker.connections[0].tap
    before = tap.passed
    company.broker.faults.drop(at="queue.declare-ok", byte=byte)
    company.watch(channel.queue_declare("a")).error()
    error = end_of(protocol_of(channel))
    assert isinstance(error, ConnectionLost)
    assert ("in the middle of a frame" in str(error)) == (byte > 0)
    line = str(company.broker.wire_log).splitlines()[-1]
    assert "QueueDeclare(" in line
    assert tap.passed > before


def test_a_stream_is_cut_at_a_byte(company: Company) -> None:
    channel = queue_of(company)
    company.broker.faults.drop(byte=20)
    tap = company.broker.connections[0].tap
    said: list[bytes] = []
    company.broker.wire_log.clear()
    company.watch(channel.queue_declare("a" * 200)).error()
    said = [b"".join(piece.data) for piece in company.broker.wire_log._pieces if piece.sent_by == "broker"]
    assert len(b"".join(said)) == 20
    assert tap.dropped


def test_connections_die_at_once(company: Company) -> None:
    first, second = company.connect(), company.connect()
    fault = company.broker.faults.drop()
    company.settle()
    assert struck(fault) == 2
    assert fault.over
    assert isinstance(end_of(first), ConnectionLost)
    assert isinstance(end_of(second), ConnectionLost)
    assert company.connect().is_open


def test_one_connection_dies(company: Company) -> None:
    first, second = company.connect(), company.connect()
    company.broker.faults.drop(on=company.broker.connections[0])
    company.settle()
    assert not first.is_open
    assert second.is_open


def test_the_next_connection_dies(company: Company) -> None:
    first = company.connect()
    fault = company.broker.faults.drop(on="next")
    assert not struck(fault)
    company.connecting().error()
    assert struck(fault) == 1
    assert company.connect().is_open
    assert first.is_open


@pytest.mark.parametrize("frame", range(1, 6))
def test_a_connection_dies_at_each_frame_of_the_handshake(company: Company, frame: int) -> None:
    fault = company.broker.faults.drop(frame=frame, sent_by="client", on="next")
    connecting = company.connecting("?connection_timeout=1000")
    if frame <= 3:
        connecting.error()
        assert struck(fault)
        assert company.broker.connections == []
    else:
        assert connecting.value.is_open
    assert company.connect().is_open


def test_a_session_is_told_even_if_the_client_does_not_read(company: Company) -> None:
    protocol = company.connect()
    protocol.pause_reading()
    tap = company.broker.connections[0].tap
    tap.session.core.heartbeat()
    tap.session._writer.flush()
    company.broker.faults.drop()
    company.settle()
    assert company.broker.sessions == set()
    assert end_of(protocol) is None
    company.broker.advance(1)
    assert end_of(protocol) is not None
    assert company.broker.connections == []


def test_a_fault_that_is_lifted_does_not_strike(company: Company) -> None:
    channel = queue_of(company)
    for sent_by in ("client", "broker"):
        company.broker.faults.drop(frame=1, sent_by=sent_by).lift()
    lifted = company.broker.faults.drop(frame=1, on="next")
    lifted.lift()
    assert company.do(channel.queue_declare("a")).queue == "a"
    assert company.connect().is_open
    assert not struck(lifted)
    assert company.broker.faults._waiting == []


def test_a_fault_strikes_on_the_first_of_all_that_gets_there(company: Company) -> None:
    channels = [queue_of(company), queue_of(company)]
    fault = company.broker.faults.drop(at="queue.declare")
    company.watch(channels[1].queue_declare("a")).error()
    assert company.do(channels[0].queue_declare("a")).queue == "a"
    assert struck(fault) == 1


# --------------------------------------------------------------------------- black hole


def test_a_broker_that_never_answers(company: Company) -> None:
    fault = company.broker.faults.black_hole()
    connecting = company.connecting("?connection_timeout=5000")
    assert connecting.pending
    company.broker.advance(5)
    connecting.error(HandshakeTimeout)
    assert struck(fault) == 1
    fault.lift()
    company.settle()
    assert company.connect().is_open
    assert len(company.broker.connections) == 1


def test_a_connection_that_goes_silent_is_seen_by_its_heartbeats(company: Company) -> None:
    protocol = company.connect("?heartbeat=10")
    company.broker.advance(60)
    assert protocol.is_open
    fault = company.broker.faults.black_hole(on=company.broker.connections[0])
    company.broker.advance(25)
    assert isinstance(end_of(protocol), HeartbeatTimeout)
    assert company.broker.sessions == set()
    fault.lift()
    company.settle()
    assert company.broker.connections == []


def test_what_was_said_in_the_silence_arrives_after_it(company: Company) -> None:
    channel = queue_of(company)
    got: list[bytes] = []
    company.do(channel.basic_consume("jobs", lambda delivery: got.append(delivery.body), no_ack=True))
    fault = company.broker.faults.black_hole()
    publishing = company.watch(channel.basic_publish(b"x" * 300_000, routing_key="jobs"))
    assert publishing.pending
    assert company.broker.queue("jobs").ready == 0
    fault.lift()
    company.settle()
    assert isinstance(publishing.value, Confirmed)
    assert got == [b"x" * 300_000]


@pytest.mark.parametrize("sent_by", ["client", "broker"])
def test_silence_in_the_midst_of_a_frame(company: Company, sent_by: str) -> None:
    channel = queue_of(company)
    at = "queue.declare" if sent_by == "client" else "queue.declare-ok"
    fault = company.broker.faults.black_hole(at=at, byte=10)
    declaring = company.watch(channel.queue_declare("a"))
    behind = company.watch(channel.queue_declare("b"))
    assert struck(fault) == 1
    assert declaring.pending
    company.broker.advance(30)
    fault.lift()
    company.settle()
    assert declaring.value.queue == "a"
    assert behind.value.queue == "b"


def test_silence_falls_on_the_first_that_gets_there(company: Company) -> None:
    channels = [queue_of(company), queue_of(company)]
    fault = company.broker.faults.black_hole(at="queue.declare", times=1)
    assert company.watch(channels[1].queue_declare("a")).pending
    assert company.do(channels[0].queue_declare("a")).queue == "a"
    assert struck(fault) == 1


def test_a_client_that_leaves_a_silent_broker_is_forgotten(company: Company) -> None:
    protocol = company.connect()
    company.broker.faults.black_hole()
    protocol.abort()
    company.settle()
    assert company.broker.connections == []
    assert company.broker.sessions == set()


def test_a_session_that_gives_its_client_up_in_the_silence_hangs_up_after_it(company: Company) -> None:
    protocol = company.connect("?heartbeat=0")
    fault = company.broker.faults.black_hole()
    company.broker.faults.close_connection(320, "CONNECTION_FORCED - bye")
    company.broker.advance(60)
    assert company.broker.sessions == set()
    assert protocol.is_open
    fault.lift()
    company.settle()
    assert isinstance(end_of(protocol), ConnectionLost)


def test_what_is_dropped_in_the_silence_stays_so(company: Company) -> None:
    protocol = company.connect()
    fault = company.broker.faults.black_hole()
    company.broker.faults.drop()
    company.settle()
    assert end_of(protocol) is not None
    fault.lift()
    assert company.broker.connections == []


# --------------------------------------------------------------------------- corrupt


def test_the_octet_that_ends_a_frame_is_wrong(company: Company) -> None:
    channel = queue_of(company)
    fault = company.broker.faults.corrupt(at="queue.declare-ok", byte=-1)
    company.watch(channel.queue_declare("a")).error()
    assert struck(fault) == 1
    assert "ends in 0x31 instead of 0xce" in str(end_of(protocol_of(channel)))


def test_a_byte_of_the_client_s_is_wrong(company: Company) -> None:
    channel = queue_of(company)
    company.broker.faults.corrupt(at="queue.declare", byte=-1, change=0x01)
    company.watch(channel.queue_declare("a")).error()
    assert end_of(protocol_of(channel)) is not None
    assert "a" not in company.broker.vhosts["/"].queues


def test_a_byte_of_a_body_is_wrong_and_nobody_notices(company: Company) -> None:
    channel = queue_of(company)
    # The method, the header, and then the body, of which it is the second byte.
    company.broker.faults.corrupt(frame=3, byte=8, sent_by="client", change=0x20)
    company.do(channel.basic_publish(b"HELLO", routing_key="jobs"))
    assert [message.body for message in company.broker.queue("jobs").messages] == [b"HeLLO"]


def test_a_corruption_that_was_used_up_elsewhere_changes_nothing(company: Company) -> None:
    channels = [queue_of(company), queue_of(company)]
    fault = company.broker.faults.corrupt(frame=1, byte=-1)
    company.watch(channels[0].queue_declare("a")).error()
    assert company.do(channels[1].queue_declare("a")).queue == "a"
    assert struck(fault) == 1


def test_to_change_nothing_is_a_mistake(company: Company) -> None:
    for change in (0, 256):
        with pytest.raises(ValueError, match="1 to 255"):
            company.broker.faults.corrupt(frame=1, change=change)


def test_on_is_one_of_three(company: Company) -> None:
    with pytest.raises(ValueError, match="'all', on the 'next' connection"):
        company.broker.faults.drop(on="last")


def test_what_is_done_at_once_is_not_for_a_connection_to_come(company: Company) -> None:
    faults = company.broker.faults
    for fault in (
        faults.pause,
        faults.close_connection,
        faults.cancel_consumer,
        partial(faults.close_channel, 404, ""),
    ):
        with pytest.raises(ValueError, match="this one is done at once"):
            fault(on="next")


# --------------------------------------------------------------------------- doors


def test_a_connection_is_refused(company: Company) -> None:
    fault = company.broker.faults.refuse(times=2)
    for _ in range(2):
        company.connecting().error(ConnectionRefused)
    assert company.connect().is_open
    assert struck(fault) == 2


def test_a_login_is_refused(company: Company) -> None:
    fault = company.broker.faults.refuse_login()
    company.connecting().error(AuthenticationError)
    assert company.connect().is_open
    assert struck(fault) == 1


def test_the_login_of_one_user_is_refused() -> None:
    company = Company(users={"guest": "guest", "other": "other"})
    company.broker.faults.refuse_login(user="other", times=None)
    assert company.connect().is_open
    url = company.broker.url.replace("://", "://other:other@")
    company.watch(connect_protocol(url, reactor=company.clock)).error(AuthenticationError)


# --------------------------------------------------------------------------- confirms


def test_publishes_are_nacked(company: Company) -> None:
    channel = queue_of(company)
    fault = company.broker.faults.nack(2)
    publishing = [
        company.watch(channel.basic_publish(body, routing_key="jobs")) for body in (b"1", b"2", b"3")
    ]
    publishing[0].error(Nacked)
    publishing[1].error(Nacked)
    assert isinstance(publishing[2].value, Confirmed)
    assert struck(fault) == 2
    assert [message.body for message in company.broker.queue("jobs").messages] == [b"3"]
    assert [message.body for message in company.broker.published()] == [b"3"]


def test_only_some_publishes_are_nacked(company: Company) -> None:
    channel = queue_of(company)
    company.do(channel.queue_declare("b"))
    plain = company.channel(protocol_of(channel))
    fault = company.broker.faults.nack(None, exchange="", routing_key="jobs")
    company.watch(channel.basic_publish(b"", routing_key="jobs")).error(Nacked)
    company.do(channel.basic_publish(b"", routing_key="b"))
    company.do(channel.basic_publish(b"", exchange="amq.fanout", routing_key="jobs"))
    company.do(plain.basic_publish(b"unconfirmed", routing_key="jobs"))
    assert company.broker.queue("jobs").ready == 1
    fault.lift()
    company.do(channel.basic_publish(b"", routing_key="jobs"))


def test_publishes_on_the_next_connection_are_nacked(company: Company) -> None:
    first = queue_of(company)
    company.broker.faults.nack(on="next")
    second = queue_of(company)
    company.do(first.basic_publish(b"", routing_key="jobs"))
    company.watch(second.basic_publish(b"", routing_key="jobs")).error(Nacked)


def test_confirms_are_withheld_until_they_are_let_go(company: Company) -> None:
    channel = queue_of(company)
    fault = company.broker.faults.withhold_confirms()
    publishing = [company.watch(channel.basic_publish(b"", routing_key="jobs")) for _ in range(3)]
    company.broker.advance(20)
    assert all(one.pending for one in publishing)
    assert company.broker.queue("jobs").ready == 3
    assert company.do(channel.queue_declare("others flow", passive=False)).message_count == 0
    assert struck(fault) == 3
    fault.lift()
    company.settle()
    assert all(isinstance(one.value, Confirmed) for one in publishing)
    company.do(channel.basic_publish(b"", routing_key="jobs"))


def test_confirms_are_late(company: Company) -> None:
    channel = queue_of(company)
    fault = company.broker.faults.delay_confirms(5, on="next")
    company.do(channel.basic_publish(b"", routing_key="jobs"))
    late = queue_of(company)
    first = company.watch(late.basic_publish(b"", routing_key="jobs"))
    company.broker.advance(3)
    second = company.watch(late.basic_publish(b"", routing_key="jobs"))
    assert first.pending
    company.broker.advance(2)
    assert isinstance(first.value, Confirmed)
    assert second.pending
    fault.lift()
    company.settle()
    assert isinstance(second.value, Confirmed)


def test_withheld_confirms_of_a_channel_that_is_closed_are_never_said(company: Company) -> None:
    channel = queue_of(company)
    protocol = protocol_of(channel)
    fault = company.broker.faults.withhold_confirms()
    publishing = company.watch(channel.basic_publish(b"", routing_key="jobs"))
    company.do(channel.close())
    publishing.error()
    fault.lift()
    company.settle()
    assert protocol.is_open
    assert "BasicAck" not in str(company.broker.wire_log)


# --------------------------------------------------------------------------- the broker's own


def test_clients_are_blocked(company: Company) -> None:
    told = Told()
    protocol = company.connect(delegate=told)
    channel = company.channel(protocol)
    fault = company.broker.faults.block("low on patience")
    company.settle()
    assert told.events == [("blocked", "low on patience")]
    later = Told()
    other = company.channel(company.connect(delegate=later))
    assert later.events == []
    company.watch(other.basic_publish(b"first", routing_key="nowhere"))
    assert later.events == [("blocked", "low on patience")]
    company.watch(other.basic_publish(b"second", routing_key="nowhere"))
    company.watch(channel.basic_publish(b"third", routing_key="nowhere"))
    assert [message.body for message in company.broker.published()] == [b"first"]
    assert struck(fault) == 2
    fault.lift()
    company.settle()
    assert told.events[1:] == later.events[1:] == ["unblocked"]
    assert {message.body for message in company.broker.published()} == {b"first", b"second", b"third"}


def test_who_is_blocked_already_is_blocked_once(company: Company) -> None:
    told = Told()
    channel = company.channel(company.connect("?heartbeat=0", told))
    other = company.channel()
    fault = company.broker.faults.block(on="next")
    later = Told()
    channel = company.channel(company.connect("?heartbeat=0", later))
    company.broker.set_alarm("disk")
    company.watch(channel.basic_publish(b"first", routing_key="nowhere"))
    company.watch(other.basic_publish(b"second", routing_key="nowhere"))
    assert later.events == [("blocked", "low on disk")]
    assert struck(fault) == 0
    company.broker.clear_alarm("disk")
    company.watch(channel.basic_publish(b"third", routing_key="nowhere"))
    assert later.events[1:] == ["unblocked", ("blocked", "low on memory")]
    assert struck(fault) == 1
    assert told.events == []


def test_one_client_is_blocked(company: Company) -> None:
    channels = company.channel(), company.channel()
    company.broker.faults.block(on=company.broker.connections[1])
    company.settle()
    assert [protocol_of(channel).blocked for channel in channels] == [None, "low on memory"]
    company.do(channels[0].basic_publish(b"", routing_key="nowhere"))
    assert protocol_of(channels[0]).blocked is None


def test_a_connection_is_closed(company: Company) -> None:
    protocol = company.connect()
    fault = company.broker.faults.close_connection(599, "OUT_OF_COFFEE - none left")
    company.settle()
    error = end_of(protocol)
    assert isinstance(error, ConnectionClosed)
    assert (error.reply_code, error.reply_text) == (599, "OUT_OF_COFFEE - none left")
    assert struck(fault) == 1


def test_only_what_is_open_is_closed(company: Company) -> None:
    protocol = company.connect()
    channel = company.channel(protocol)
    company.do(channel.queue_declare("a"))
    company.do(channel.basic_consume("a", Delivery.ack))
    protocol.pause_reading()
    faults = company.broker.faults
    assert faults.close_channel(404, "NOT_FOUND - at all").struck == 1
    assert faults.close_channel(404, "NOT_FOUND - at all").struck == 0
    assert faults.cancel_consumer().struck == 0
    assert faults.close_connection().struck == 1
    assert faults.close_connection().struck == 0


def test_a_channel_is_closed(company: Company) -> None:
    protocol = company.connect()
    first, second = company.channel(protocol), company.channel(protocol)
    fault = company.broker.faults.close_channel(406, "PRECONDITION_FAILED - it rains", channel=second.number)
    company.settle()
    error = success_of(second.when_closed())
    assert isinstance(error, PreconditionFailed)
    assert error.reply_text == "PRECONDITION_FAILED - it rains"
    assert struck(fault) == 1
    assert company.do(first.queue_declare("a")).queue == "a"
    company.broker.faults.close_channel(406, "PRECONDITION_FAILED - it pours")
    company.settle()
    assert isinstance(success_of(first.when_closed()), PreconditionFailed)
    assert protocol.is_open


def test_a_consumer_is_cancelled(company: Company) -> None:
    told = Told()
    channel = company.channel(company.connect(delegate=told))
    for name in ("a", "b"):
        company.do(channel.queue_declare(name))
        company.do(channel.basic_consume(name, lambda delivery: None, consumer_tag=f"of {name}"))
    company.channel()
    fault = company.broker.faults.cancel_consumer(queue="a")
    company.settle()
    assert told.events == [("cancelled", "of a")]
    assert [company.broker.queue(name).consumers for name in ("a", "b")] == [0, 1]
    company.broker.faults.cancel_consumer(tag="of b")
    company.settle()
    assert told.events[1:] == [("cancelled", "of b")]
    assert struck(fault) == 1
    company.do(channel.basic_consume("a", Delivery.ack))


# --------------------------------------------------------------------------- pause


def test_publishers_are_asked_to_pause(company: Company) -> None:
    channel, other = queue_of(company), company.channel(confirms=True)
    second = company.channel(protocol_of(channel), confirms=True)
    fault = company.broker.faults.pause(channel=1)
    company.settle()
    assert struck(fault) == 2
    for one in (channel, other):
        company.watch(one.basic_publish(b"", routing_key="jobs")).error(NotPublished)
    assert isinstance(company.do(second.basic_publish(b"", routing_key="jobs")), Confirmed)
    company.do(other.close())
    fault.lift()
    company.settle()
    assert isinstance(company.do(channel.basic_publish(b"", routing_key="jobs")), Confirmed)


def test_a_pause_of_one_connection(company: Company) -> None:
    channel, other = queue_of(company), company.channel(confirms=True)
    fault = company.broker.faults.pause(on=company.broker.connections[1])
    company.settle()
    assert struck(fault) == 1
    company.watch(other.basic_publish(b"", routing_key="jobs")).error(NotPublished)
    assert isinstance(company.do(channel.basic_publish(b"", routing_key="jobs")), Confirmed)
