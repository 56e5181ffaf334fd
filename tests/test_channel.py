from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.talk import Talk
from txamqpx.errors import (
    AMQPError,
    ChannelClosed,
    EncodeError,
    LocalProtocolError,
    NotFound,
    NotProcessed,
    NotPublished,
    PreconditionFailed,
    RPCTimeout,
)
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicConsume,
    BasicConsumeOk,
    BasicDeliver,
    BasicNack,
    BasicProperties,
    BasicPublish,
    BasicQos,
    BasicRecover,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelFlowOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    QueueBind,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.spec.base import Method, Request
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def confirming() -> Talk:
    return Talk(confirm=True)


def test_a_channel_says_what_it_is(talk: Talk) -> None:
    channel = talk.channel
    assert repr(channel) == ("<Channel 1 of <AMQPProtocol amqp://guest@localhost:5672/%2F, open>, open>")
    assert (channel.number, channel.is_open, channel.flow_active) == (1, True, True)
    assert (channel.next_publish_seq_no, channel.unconfirmed) == (0, 0)


@pytest.mark.covers("T02", "T-CH-01", "S45")
def test_a_number_is_used_again_only_after_close_ok(talk: Talk) -> None:
    peer = talk.peer
    peer.mute = True
    closed = Watched(talk.channel.close())
    peer.expect(ChannelClose(200), 1)
    peer.mute = False
    second = peer.open_channel()
    assert second.number == 2
    assert closed.value is None
    assert not talk.channel.is_open
    assert success_of(talk.channel.when_closed()).__class__ is ChannelClosed


def test_calls_on_a_new_channel_follow_the_request_for_it(talk: Talk) -> None:
    channel = talk.peer.protocol.new_channel()
    opened = channel.when_open()
    declared = channel.queue_declare("q")
    talk.peer.wire.pump()
    talk.peer.heard.popleft()
    talk.peer.expect(QueueDeclare("q"), 2)
    assert is_pending(opened)
    talk.peer.send(2, ChannelOpenOk())
    assert success_of(opened) is channel
    talk.peer.send(2, QueueDeclareOk("q", 0, 0))
    success_of(declared)


@pytest.mark.covers("T-CLS-01", "T-CLS-02")
def test_closing_is_idempotent_at_every_stage(talk: Talk) -> None:
    first, second = Watched(talk.channel.close()), Watched(talk.channel.close())
    assert first.pending
    assert second.pending
    talk.peer.expect(ChannelClose)
    assert (first.value, second.value, success_of(talk.channel.close())) == (None, None, None)
    talk.peer.expect_nothing()


@pytest.mark.covers("T-CLS-02")
def test_a_close_that_is_not_answered_ends_for_everybody_who_asked() -> None:
    talk = Talk(close_timeout=3.0)
    talk.peer.mute = True
    first = talk.channel.close()
    talk.peer.advance(1.0)
    second = talk.channel.close()
    talk.peer.advance(2.0)
    error = failure_of(first, RPCTimeout)
    assert (error.operation, error.seconds) == ("channel.close", 3.0)
    assert is_pending(second)
    talk.peer.advance(1.0)
    failure_of(second, RPCTimeout)
    assert talk.channel.core in talk.peer.protocol.core.channels.values()  # its number is not free
    talk.peer.mute = False
    talk.peer.dataReceived(b"")
    talk.peer.wire.pump()
    assert talk.peer.protocol.core.channels == {}
    success_of(talk.channel.close())


def test_closing_says_why() -> None:
    talk = Talk()
    talk.channel.close(320, "going home")
    talk.peer.expect(ChannelClose(320, "going home"))


def test_a_reason_that_does_not_fit_is_refused_and_changes_nothing(talk: Talk) -> None:
    declared = talk.channel.queue_declare("q")
    with pytest.raises(EncodeError, match="reply_text"):
        talk.channel.close(200, "x" * 256)
    assert is_pending(declared)
    assert talk.channel.is_open


@pytest.mark.covers("T-CH-03")
def test_when_both_close_at_once_each_is_answered(talk: Talk) -> None:
    peer = talk.peer
    with peer.wire.held():
        closed = Watched(talk.channel.close())
        peer.core.channels[1].send(ChannelClose(406, "PRECONDITION_FAILED", 0, 0), "token")
        peer.dataReceived(b"")
    peer.expect(ChannelClose)
    peer.expect(ChannelCloseOk)
    peer.expect_nothing()
    assert closed.value is None
    assert type(success_of(talk.channel.when_closed())) is ChannelClosed
    assert peer.open_channel().number == 2


@pytest.mark.covers("T-CH-03")
def test_after_our_close_everything_else_is_discarded(talk: Talk) -> None:
    got: list[Delivery] = []
    talk.channel.basic_consume("q", got.append, consumer_tag="c")
    talk.peer.expect(BasicConsume)
    talk.peer.send(1, BasicConsumeOk("c"))
    with talk.peer.wire.held():
        talk.peer.deliver(1, "c", 1, b"x" * 200_000)
        talk.peer.wire.server.carry(100_000)  # half of it arrives before the close
        closed = Watched(talk.channel.close())
    assert closed.value is None
    assert got == []


@pytest.mark.covers("S41", "T-CH-02")
@pytest.mark.parametrize("closer", ["we", "the broker"])
def test_a_closed_channel_refuses_by_itself_and_the_connection_lives(talk: Talk, closer: str) -> None:
    kind: type[AMQPError]
    if closer == "we":
        talk.channel.close()
        kind = ChannelClosed
    else:
        talk.closed_by_broker()
        kind = NotFound
    talk.peer.wire.pump()
    talk.peer.heard.clear()
    calls: list[Callable[[], Deferred[Any]]] = [
        lambda: talk.channel.queue_declare("q"),
        lambda: talk.channel.basic_publish(b"x"),
        lambda: talk.channel.basic_ack(1),
        lambda: talk.channel.basic_consume("q"),
        lambda: talk.channel.basic_get("q"),
        talk.channel.confirm_select,
    ]
    errors = [failure_of(call(), kind) for call in calls]
    assert len({id(error) for error in errors}) == len(calls)
    talk.peer.expect_nothing()
    assert talk.peer.protocol.is_open
    talk.peer.open_channel()


@pytest.mark.covers("T-CH-05", "T-CH-08", "T26", "K01", "K10")
def test_calls_are_pipelined_and_answered_in_their_order(talk: Talk) -> None:
    calls = [talk.channel.queue_declare(f"q{number}") for number in range(5)]
    for number in range(5):
        talk.peer.expect(QueueDeclare(f"q{number}"))
    for number in range(5):
        talk.peer.send(1, QueueDeclareOk(f"q{number}", number, 0))
    assert [success_of(call).message_count for call in calls] == list(range(5))


@pytest.mark.covers("S45", "T-CH-08", "T-CH-12", "T-CLS-03")
def test_the_broker_closes_over_one_call_and_the_others_were_not_processed(talk: Talk) -> None:
    other = talk.peer.open_channel()
    calls: list[Deferred[Any]] = [
        talk.channel.queue_declare("a"),
        talk.channel.queue_bind("a", "e"),
        talk.channel.queue_declare("b"),
        talk.channel.queue_declare("c"),
    ]
    talk.peer.wire.pump()
    talk.peer.send(1, QueueDeclareOk("a", 0, 0))
    talk.closed_by_broker(404, "NOT_FOUND - no exchange 'e' in vhost '/'", QueueBind)
    success_of(calls[0])
    culprit = failure_of(calls[1], NotFound)
    assert (culprit.exchange, culprit.operation) == ("e", "queue.bind")
    innocent = [failure_of(call, NotProcessed) for call in calls[2:]]
    assert len({id(error) for error in innocent}) == 2
    assert all(type(error.__cause__) is NotFound for error in innocent)
    assert type(success_of(talk.channel.when_closed())) is NotFound
    assert other.is_open
    # Numbers go round about, so that late frames seldom meet a new channel.
    assert [talk.peer.protocol.new_channel().number for _ in range(3)] == [3, 4, 5]


@pytest.mark.covers("S47", "T-CH-06", "T-CLS-07")
def test_a_cancelled_call_swallows_its_answer_and_the_next_gets_its_own(talk: Talk) -> None:
    first, second = talk.channel.queue_declare("one"), talk.channel.queue_declare("two")
    first.cancel()
    failure_of(first, CancelledError)
    talk.peer.wire.pump()
    talk.peer.send(1, QueueDeclareOk("one", 1, 0))
    assert is_pending(second)
    talk.peer.send(1, QueueDeclareOk("two", 2, 0))
    assert success_of(second).queue == "two"


@pytest.mark.covers("T-CLS-07")
def test_a_cancelled_call_and_a_close_leave_nobody_waiting(talk: Talk) -> None:
    calls = [talk.channel.queue_declare(str(number)) for number in range(7)]
    for cancelled in calls[::3]:
        cancelled.cancel()
        failure_of(cancelled, CancelledError)
    talk.peer.wire.pump()
    talk.peer.send(1, QueueDeclareOk("0", 0, 0))
    talk.closed_by_broker(406, "no", QueueDeclare)
    failure_of(calls[1], PreconditionFailed)
    for call in (calls[2], calls[4], calls[5]):
        failure_of(call, NotProcessed)


@pytest.mark.covers("T-CH-06", "T-BLK-02")
@pytest.mark.parametrize("reason", [None, "low on memory"])
def test_a_call_ends_in_time_and_its_late_answer_is_swallowed(reason: str | None) -> None:
    talk = Talk(rpc_timeout=20.0)
    if reason is not None:
        talk.peer.send(0, ConnectionBlocked(reason))
    first = talk.channel.queue_declare("one")
    talk.peer.advance(19.9)
    assert is_pending(first)
    second = talk.channel.queue_declare("two")
    talk.peer.advance(0.1)
    error = failure_of(first, RPCTimeout)
    assert (error.operation, error.seconds, error.blocked) == ("queue.declare", 20.0, reason)
    talk.peer.send(1, QueueDeclareOk("one", 0, 0))
    talk.peer.send(1, QueueDeclareOk("two", 0, 0))
    assert success_of(second).queue == "two"
    talk.peer.beat()
    assert len([call for call in talk.peer.clock.getDelayedCalls() if call.getTime() > 100]) == 0


def test_a_call_can_have_a_limit_of_its_own(talk: Talk) -> None:
    declared = talk.channel.call(QueueDeclare("q"), timeout=2.0)
    talk.peer.advance(2.0)
    assert failure_of(declared, RPCTimeout).seconds == 2.0


def test_the_answer_takes_the_deadline_away(talk: Talk) -> None:
    before = len(talk.peer.clock.getDelayedCalls())
    declared = talk.channel.queue_declare("q")
    talk.peer.expect(QueueDeclare)
    assert len(talk.peer.clock.getDelayedCalls()) == before + 1
    talk.peer.send(1, QueueDeclareOk("q", 0, 0))
    success_of(declared)
    assert len(talk.peer.clock.getDelayedCalls()) == before


def test_what_is_not_answered_fires_at_once(talk: Talk) -> None:
    declared: Deferred[Any] = talk.channel.call(QueueDeclare("q", no_wait=True))
    assert success_of(declared) is None
    talk.peer.expect(QueueDeclare("q", no_wait=True))


WRONG: dict[str, Callable[[Any], object]] = {
    "a name of 258 bytes": lambda channel: channel.queue_declare("\N{SNOWMAN}" * 86),
    "an argument of no type": lambda channel: channel.queue_declare("q", arguments={"x": object()}),
    "no name": lambda channel: channel.queue_declare(None),
    "a name in bytes": lambda channel: channel.queue_declare(b"q"),
    "a lone surrogate": lambda channel: channel.queue_declare("\ud800"),
    "a prefetch beyond 16 bits": lambda channel: channel.basic_qos(65536),
    "a negative prefetch": lambda channel: channel.basic_qos(-1),
    "a long consumer tag": lambda channel: channel.basic_consume("q", consumer_tag="t" * 256),
    "a long queue": lambda channel: channel.basic_get("q" * 256),
    "a negative tag": lambda channel: channel.basic_ack(-1),
    "a tag beyond 64 bits": lambda channel: channel.basic_ack(2**64),
    "a tag in text": lambda channel: channel.basic_ack("1"),
    "a body of text": lambda channel: channel.basic_publish("text"),
    "no body": lambda channel: channel.basic_publish(None),
    "a long key": lambda channel: channel.basic_publish(b"", routing_key="\N{SNOWMAN}" * 86),
    "no exchange": lambda channel: channel.basic_publish(b"", exchange=None),
    "a key in bytes": lambda channel: channel.basic_publish(b"", routing_key=b"k"),
    "properties in a dict": lambda channel: channel.basic_publish(b"", properties={"delivery_mode": 2}),
    "an empty dict": lambda channel: channel.basic_publish(b"", properties={}),
    "a priority of 256": lambda channel: channel.basic_publish(b"", properties=BasicProperties(priority=256)),
    "headers beyond a frame": lambda channel: channel.basic_publish(
        b"", properties=BasicProperties(headers={"x": "y" * 200_000})
    ),
    "headers in a circle": lambda channel: channel.basic_publish(
        b"", properties=BasicProperties(headers=cycle())
    ),
}


@pytest.mark.covers("T-FR-08", "T-PUB-02", "T-FR-02", "T-TB-07", "T-QOS-03")
@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_sent(confirming: Talk, what: str) -> None:
    before = len(confirming.peer.clock.getDelayedCalls())
    with pytest.raises(EncodeError):
        WRONG[what](confirming.channel)
    confirming.peer.expect_nothing()
    assert (confirming.channel.next_publish_seq_no, confirming.channel.unconfirmed) == (1, 0)
    assert confirming.channel.core.consumers == {}
    assert len(confirming.peer.clock.getDelayedCalls()) <= before
    published = confirming.channel.basic_publish(b"")
    confirming.peer.expect(BasicPublish)
    confirming.peer.send(1, BasicAck(1))
    success_of(published)


def cycle() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["itself"] = table
    return table


@pytest.mark.covers("T-PUB-12")
def test_confirms_and_transactions_exclude_each_other(confirming: Talk) -> None:
    with pytest.raises(LocalProtocolError, match="not allowed in confirm mode"):
        confirming.channel.tx_select()
    talk = Talk()
    with pytest.raises(LocalProtocolError, match="not allowed in plain mode"):
        talk.channel.tx_commit()
    talk.channel.tx_select()
    with pytest.raises(LocalProtocolError, match="not allowed in transaction mode"):
        talk.channel.confirm_select()


def test_what_is_no_business_of_a_channel_is_refused(talk: Talk) -> None:
    methods: list[Any] = [ConnectionClose(200, "", 0, 0), ChannelOpen()]
    for method in methods:
        with pytest.raises(LocalProtocolError, match="is not allowed on channel 1"):
            talk.channel.call(method)
    contents: list[Any] = [BasicDeliver("c", 1, False, "", ""), BasicPublish("", "q")]
    for method in contents:
        with pytest.raises(LocalProtocolError, match="needs a content"):
            talk.channel.call(method)
    talk.peer.expect_nothing()


@pytest.mark.parametrize(
    "method",
    [
        BasicQos(prefetch_size=1),
        ChannelFlow(False),
        BasicRecover(False),
        BasicConsume("q", "c", no_wait=True),
        BasicCancel("c", no_wait=True),
    ],
)
def test_what_would_cost_the_connection_is_refused(talk: Talk, method: Request[Method]) -> None:
    with pytest.raises(LocalProtocolError, match=method.name):
        talk.channel.call(method)
    talk.peer.expect_nothing()


def test_a_consumer_by_a_plain_call_is_the_delegates(talk: Talk) -> None:
    talk.channel.call(BasicConsume("q", "c"))
    talk.peer.expect(BasicConsume)
    talk.peer.deliver(1, "c", 1, b"hello")
    talk.peer.expect_nothing()  # no nack of what nobody wants: the delegate has it


@pytest.mark.covers("T-ACK-03", "T-ACK-04")
@pytest.mark.parametrize("settle", ["basic_ack", "basic_nack"])
def test_all_means_all_that_have_come(talk: Talk, settle: str) -> None:
    channel, peer = talk.channel, talk.peer
    channel.basic_consume("q", lambda delivery: None, consumer_tag="c")
    peer.expect(BasicConsume)
    success_of(getattr(channel, settle)(0, multiple=True))
    peer.expect_nothing()
    for tag in (1, 2, 3):
        peer.deliver(1, "c", tag, b"hello")
    success_of(getattr(channel, settle)(0, multiple=True))
    peer.expect(BasicAck(3, True) if settle == "basic_ack" else BasicNack(3, True, True))


@pytest.mark.covers("T-CH-10", "K05")
def test_nothing_is_published_while_the_broker_asks_for_a_pause(talk: Talk) -> None:
    talk.peer.send(1, ChannelFlow(False))
    talk.peer.expect(ChannelFlowOk(False))
    failure_of(talk.channel.basic_publish(b"1", routing_key="q"), NotPublished)
    talk.peer.expect_nothing()
    talk.peer.send(1, ChannelFlow(True))
    talk.peer.expect(ChannelFlowOk(True))
    success_of(talk.channel.basic_publish(b"1", routing_key="q"))


def test_waiting_for_confirms_without_confirm_mode_is_a_mistake(talk: Talk) -> None:
    with pytest.raises(LocalProtocolError, match=r"without confirm\.select"):
        talk.channel.wait_for_confirms()


@pytest.mark.covers("T-ACK-08")
def test_acking_all_on_a_dead_channel_is_no_success(talk: Talk) -> None:
    talk.closed_by_broker()
    failure_of(talk.channel.basic_ack(0, multiple=True), NotFound)
    failure_of(talk.channel.basic_nack(0, multiple=True), NotFound)
