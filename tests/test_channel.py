from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python import threadable
from twisted.python.failure import Failure

from tests.outcomes import Outcome, failure_of, is_pending, success_of
from tests.scripted import ScriptedPeer, scripted
from txamqpx.channel import Channel
from txamqpx.errors import (
    AlreadySettled,
    AMQPError,
    ChannelClosed,
    ConnectionForced,
    ConnectionLost,
    ConsumerTagInUse,
    EncodeError,
    LocalProtocolError,
    NotFound,
    NotProcessed,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    PreconditionFailed,
    RPCTimeout,
    UnknownDelivery,
)
from txamqpx.message import Confirmed, Delivery
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicDeliver,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    BasicNack,
    BasicProperties,
    BasicPublish,
    BasicQos,
    BasicQosOk,
    BasicRecover,
    BasicRecoverOk,
    BasicReject,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelFlowOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionUnblocked,
    QueueBind,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.spec.base import Method, Request
from txamqpx.spec.wire import encode_short_string
from txamqpx.writer import HIGH_WATER


class Talk:
    """A peer, and channel 1 of the connection with it."""

    def __init__(self, *, confirm: bool = False, **parameters: Any) -> None:
        self.peer: ScriptedPeer = scripted(**parameters)
        self.peer.open()
        self.channel: Channel = self.peer.open_channel(confirm=confirm)

    def closed_by_broker(self, code: int = 404, text: str = "NOT_FOUND", failed: Any = QueueDeclare) -> None:
        self.peer.send(1, ChannelClose(code, text, failed.index >> 16, failed.index & 0xFFFF))


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def confirming() -> Talk:
    return Talk(confirm=True)


# ----------------------------------------------------------------------- opening, closing


def test_a_channel_says_what_it_is(talk: Talk) -> None:
    channel = talk.channel
    assert repr(channel) == ("<Channel 1 of <AMQPProtocol amqp://guest@localhost:5672/%2F, open>, open>")
    assert (channel.number, channel.is_open, channel.flow_active) == (1, True, True)
    assert (channel.next_publish_seq_no, channel.unconfirmed) == (0, 0)


@pytest.mark.covers("T02", "T-CH-01", "S45")
def test_a_number_is_used_again_only_after_close_ok(talk: Talk) -> None:
    peer = talk.peer
    peer.mute = True
    closed = Outcome(talk.channel.close())
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
    first, second = Outcome(talk.channel.close()), Outcome(talk.channel.close())
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
        closed = Outcome(talk.channel.close())
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
        closed = Outcome(talk.channel.close())
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


# ----------------------------------------------------------------------- calls


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


# ----------------------------------------------------------------------- publishing


@pytest.mark.covers("T08")
def test_without_confirms_a_publish_fires_at_once(talk: Talk) -> None:
    assert success_of(talk.channel.basic_publish(b"body", exchange="e", routing_key="k")) is None
    heard = talk.peer.expect(BasicPublish("e", "k"), 1)
    assert heard.body == b"body"
    assert heard.properties == BasicProperties()


@pytest.mark.covers("T05")
@pytest.mark.parametrize("body", [bytearray(b"body"), memoryview(b"body"), memoryview(b"-b-o-d-y")[1::2]])
def test_bodies_that_can_change_are_copied(talk: Talk, body: Any) -> None:
    talk.channel.basic_publish(body, mandatory=True, properties=BasicProperties(delivery_mode=2))
    if isinstance(body, bytearray):
        body[:] = b"XXXX"
    heard = talk.peer.expect(BasicPublish(mandatory=True))
    assert heard.body == b"body"
    assert heard.properties.delivery_mode == 2


@pytest.mark.covers("T-PUB-01", "T-PUB-03", "J06", "K11")
def test_each_publish_gets_its_own_confirm(confirming: Talk) -> None:
    channel = confirming.channel
    published = [channel.basic_publish(b"%d" % number) for number in range(6)]
    assert (channel.next_publish_seq_no, channel.unconfirmed) == (7, 6)
    confirming.peer.wire.pump()
    confirming.peer.send(1, BasicAck(2))
    assert [is_pending(deferred) for deferred in published] == [True, False, True, True, True, True]
    confirming.peer.send(1, BasicAck(2, True))
    confirming.peer.send(1, BasicAck(99))
    confirming.peer.send(1, BasicAck(4, True))
    confirming.peer.send(1, BasicAck(0, True))
    confirms: list[Any] = [success_of(deferred) for deferred in published]
    assert [(one.delivery_tag, one.multiple) for one in confirms] == [
        (2, True),
        (2, False),
        (4, True),
        (4, True),
        (0, True),
        (0, True),
    ]
    assert channel.unconfirmed == 0


@pytest.mark.covers("T-PUB-09")
def test_a_publish_that_nobody_waits_for_still_takes_its_confirm(confirming: Talk) -> None:
    first, second = confirming.channel.basic_publish(b"1"), confirming.channel.basic_publish(b"2")
    first.cancel()
    failure_of(first, CancelledError)
    confirming.peer.expect(BasicPublish)
    confirming.peer.expect(BasicPublish)
    assert confirming.channel.unconfirmed == 2
    confirming.peer.send(1, BasicAck(1))
    assert is_pending(second)
    confirming.peer.send(1, BasicAck(2))
    assert isinstance(success_of(second), Confirmed)
    assert confirming.channel.unconfirmed == 0


@pytest.mark.covers("T-PUB-07", "T-PUB-10")
def test_the_broker_closes_over_one_publish_and_each_gets_its_own_outcome(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    before = channel.basic_publish(b"1")
    culprit = channel.basic_publish(b"2", exchange="none")
    after = channel.basic_publish(b"3")
    for _ in range(3):
        peer.expect(BasicPublish)
    with peer.wire.held():
        confirming.closed_by_broker(404, "NOT_FOUND - no exchange 'none' in vhost '/'", BasicPublish)
        unwritten = channel.basic_publish(b"4")
    assert type(failure_of(before, OutcomeUnknown).__cause__) is NotFound
    assert failure_of(culprit, NotFound).exchange == "none"
    assert type(failure_of(after, NotPublished).__cause__) is NotFound
    failure_of(unwritten, NotPublished)
    failure_of(channel.basic_publish(b"5"), NotFound)


@pytest.mark.covers("T-PUB-08", "T-CH-12")
def test_a_lost_connection_leaves_publishes_in_doubt_and_says_so(confirming: Talk) -> None:
    written = [confirming.channel.basic_publish(b"x") for _ in range(3)]
    confirming.peer.wire.pump()
    with confirming.peer.wire.held():
        confirming.peer.hang_up()
        unwritten = confirming.channel.basic_publish(b"y")
        confirming.peer.wire.server.hang_up()
    errors = [failure_of(deferred, OutcomeUnknown) for deferred in written]
    assert len({id(error) for error in errors}) == 3
    assert type(errors[0].__cause__) is ConnectionLost
    failure_of(unwritten, NotPublished)


@pytest.mark.covers("T-PUB-08")
@pytest.mark.parametrize("who", ["channel", "connection"])
def test_what_waits_in_front_of_our_own_close_is_written_so_its_outcome_is_unknown(
    confirming: Talk, who: str
) -> None:
    published = confirming.channel.basic_publish(b"x")
    closing = (confirming.channel if who == "channel" else confirming.peer.protocol).close()
    error = failure_of(published, OutcomeUnknown)
    assert isinstance(error.__cause__, AMQPError)
    confirming.peer.expect(BasicPublish)
    success_of(closing)


@pytest.mark.covers("T-CLS-07")
def test_a_publish_inside_a_confirm_and_a_close_inside_a_failure(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    second: list[Outcome[Any]] = []

    def publish_again(_: object) -> None:
        second.append(Outcome(channel.basic_publish(b"2")))

    channel.basic_publish(b"1").addCallback(publish_again)
    peer.expect(BasicPublish)
    peer.send(1, BasicAck(1))
    assert peer.expect(BasicPublish).body == b"2"
    peer.send(1, BasicAck(2))
    assert isinstance(second[0].value, Confirmed)

    closes: list[Outcome[None]] = []

    def close(failure: Failure) -> None:
        closes.append(Outcome(channel.close()))
        closes.append(Outcome(peer.protocol.close()))

    failing = [channel.queue_declare("q").addErrback(close) for _ in range(3)]
    peer.wire.pump()
    confirming.closed_by_broker()
    assert [success_of(deferred) for deferred in failing] == [None] * 3
    assert [close.value for close in closes] == [None] * 6
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("J06")
def test_waiting_for_the_confirms_of_what_was_published_so_far(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    assert success_of(channel.wait_for_confirms()) is None
    published: list[Deferred[Any]] = [channel.basic_publish(b"%d" % number) for number in range(3)]
    so_far = Outcome(channel.wait_for_confirms())
    published.append(channel.basic_publish(b"later"))
    all_of_it = Outcome(channel.wait_for_confirms())
    peer.wire.pump()
    peer.send(1, BasicAck(3))
    peer.send(1, BasicNack(1))
    assert so_far.pending
    peer.send(1, BasicAck(2))
    assert so_far.value is None
    assert all_of_it.pending
    peer.send(1, BasicAck(4))
    assert all_of_it.value is None
    for deferred in published:
        deferred.addErrback(lambda _: None)


@pytest.mark.covers("J06", "T-PUB-09")
def test_waiting_for_confirms_has_an_end_and_leaves_nothing(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    published = channel.basic_publish(b"1")
    for _ in range(10):
        waiting = channel.wait_for_confirms(timeout=1.0)
        peer.advance(1.0)
        assert failure_of(waiting, RPCTimeout).operation == "confirms"
    assert channel._confirmed == []
    waiting = channel.wait_for_confirms()
    confirming.closed_by_broker()
    failure_of(waiting, NotFound)
    failure_of(published, OutcomeUnknown)
    failure_of(channel.wait_for_confirms(), NotFound)


@pytest.mark.covers("T-CH-10", "K05")
def test_flow_is_answered_and_shown(talk: Talk) -> None:
    for active in (False, True):
        talk.peer.send(1, ChannelFlow(active))
        talk.peer.expect(ChannelFlowOk(active))
        assert talk.channel.flow_active is active


# ----------------------------------------------------------------------- back-pressure


@pytest.mark.covers("T-BLK-03", "T-PUB-15", "K13")
def test_a_flood_against_a_socket_that_takes_nothing_stays_bounded() -> None:
    talk = Talk(confirm=True, max_outbox=1_000_000)
    talk.peer.wire.server.pauseProducing()
    refused = 0
    published: list[Deferred[Any]] = []
    for _ in range(300):
        deferred = talk.channel.basic_publish(b"x" * 10_000)
        talk.peer.clock.advance(0)
        if is_pending(deferred):
            published.append(deferred)
        else:
            refused += 1
            error = failure_of(deferred, OutboxFull)
            assert "the limit is 1000000" in str(error)
    outbox = talk.peer.protocol.core.outbox
    assert refused > 150
    assert outbox.size <= 1_000_000
    assert len(talk.peer.wire.client.unsent) <= 300_000
    assert talk.channel.unconfirmed == len(published)
    talk.peer.wire.server.resumeProducing()
    talk.peer.wire.pump()
    assert outbox.size == 0
    assert len(talk.peer.heard) == len(published)
    talk.peer.send(1, BasicAck(0, True))
    for deferred in published:
        success_of(deferred)


def fill(talk: Talk) -> list[Deferred[Any]]:
    """Publish against a stalled socket until publishers are asked to wait; return those that wait."""
    talk.peer.wire.server.pauseProducing()
    waiting: list[Deferred[Any]] = []
    while len(waiting) < 3:
        deferred = talk.channel.basic_publish(b"x" * 100_000)
        talk.peer.clock.advance(0)
        if is_pending(deferred):
            waiting.append(deferred)
    return waiting


@pytest.mark.covers("T-BLK-03")
def test_without_confirms_a_publisher_is_made_to_wait(talk: Talk) -> None:
    waiting = fill(talk)
    assert talk.peer.protocol.core.outbox.size > HIGH_WATER
    waiting[0].cancel()
    failure_of(waiting[0], CancelledError)
    talk.peer.wire.server.resumeProducing()
    talk.peer.wire.pump()
    assert [success_of(deferred) for deferred in waiting[1:]] == [None, None]
    bodies = {heard.body for heard in talk.peer.heard}
    assert bodies == {b"x" * 100_000}


@pytest.mark.covers("T-PUB-08", "T-BLK-03")
def test_a_publisher_that_waits_when_the_connection_ends_learns_whether_its_bytes_were_taken(
    talk: Talk,
) -> None:
    waiting = fill(talk)
    end = talk.peer.wire.client
    while talk.peer.protocol.core.outbox.size > HIGH_WATER + 100_000:
        end.unsent.clear()
        end._producer_waits = False
        talk.peer.protocol._writer.resumeProducing()
    more = talk.channel.basic_publish(b"x" * 1_000_000)
    outbox = talk.peer.protocol.core.outbox
    while outbox.appended - outbox.taken > 2:
        end.unsent.clear()
        end._producer_waits = False
        talk.peer.protocol._writer.resumeProducing()
    assert is_pending(more)
    talk.peer.protocol.abort()
    talk.peer.wire.pump()
    assert type(failure_of(waiting[0], OutcomeUnknown).__cause__) is NotPublished
    failure_of(more, NotPublished)
    for deferred in waiting[1:]:
        deferred.addErrback(lambda _: None)
    failure_of(talk.peer.protocol.when_writable(), NotPublished)


# ----------------------------------------------------------------------- consuming


@pytest.mark.covers("T-CON-01", "T06")
def test_a_delivery_in_the_same_segment_as_consume_ok_finds_its_consumer(talk: Talk) -> None:
    got: list[Delivery] = []
    consuming = talk.channel.basic_consume("q", got.append, no_ack=True, exclusive=True, arguments={"x": 1})
    method = talk.peer.expect(BasicConsume).method
    assert method == BasicConsume("q", "ctag-1.1", False, True, True, False, {"x": 1})
    with talk.peer.wire.held():
        talk.peer.deliver(1, "ctag-1.1", 1, b"first")
        talk.peer.send(1, BasicConsumeOk("ctag-1.1"))
        talk.peer.deliver(1, "ctag-1.1", 2, b"second")
    assert success_of(consuming).consumer_tag == "ctag-1.1"
    assert [delivery.body for delivery in got] == [b"first", b"second"]


@pytest.mark.covers("S53", "T-CON-02")
def test_a_tag_is_used_once_on_a_channel(talk: Talk) -> None:
    first = talk.channel.basic_consume("q", consumer_tag="c")
    with pytest.raises(ConsumerTagInUse, match="channel 1 has a consumer 'c' already"):
        talk.channel.basic_consume("q2", consumer_tag="c")
    talk.peer.expect(BasicConsume)
    talk.peer.expect_nothing()
    talk.peer.send(1, BasicConsumeOk("c"))
    success_of(first)
    other = talk.peer.open_channel()
    other.basic_consume("q", consumer_tag="c")
    talk.peer.expect(BasicConsume, 2)
    assert talk.peer.protocol.is_open


class Quiet:
    """A consumer that is false, as a container with nothing in it."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []

    def __len__(self) -> int:
        return len(self.got)

    def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)


def test_a_handler_is_whatever_can_be_called(talk: Talk) -> None:
    wrong: Any = "consumer-tag"
    with pytest.raises(TypeError, match="a handler is called with each delivery, str cannot be"):
        talk.channel.basic_consume("q", wrong)
    talk.peer.expect_nothing()
    quiet = Quiet()
    talk.channel.basic_consume("q", quiet, consumer_tag="c")
    talk.peer.expect(BasicConsume)
    talk.peer.send(1, BasicConsumeOk("c"))
    talk.peer.deliver(1, "c", 1)
    assert len(quiet) == 1


@pytest.mark.covers("T-CON-03")
def test_cancelling_a_consumer(talk: Talk) -> None:
    got: list[Delivery] = []
    talk.channel.basic_consume("q", got.append, consumer_tag="c")
    talk.peer.expect(BasicConsume)
    talk.peer.send(1, BasicConsumeOk("c"))
    cancelled = talk.channel.basic_cancel("c")
    talk.peer.expect(BasicCancel("c"))
    talk.peer.deliver(1, "c", 1)
    talk.peer.send(1, BasicCancelOk("c"))
    assert success_of(cancelled).consumer_tag == "c"
    got[0].ack()
    talk.peer.expect(BasicAck(1))
    talk.peer.deliver(1, "c", 2)
    talk.peer.expect(BasicNack(2, False, True))
    assert len(got) == 1


@pytest.mark.covers("T-CLS-07")
def test_a_publish_and_a_close_inside_a_consumer(talk: Talk) -> None:
    closes: list[Outcome[None]] = []

    def handler(delivery: Delivery) -> None:
        delivery.ack()
        talk.channel.basic_publish(delivery.body, routing_key="next")
        closes.append(Outcome(talk.channel.close()))

    talk.channel.basic_consume("q", handler, consumer_tag="c")
    talk.peer.expect(BasicConsume)
    talk.peer.send(1, BasicConsumeOk("c"))
    with talk.peer.wire.held():
        talk.peer.deliver(1, "c", 1)
    talk.peer.expect(BasicAck(1))
    talk.peer.expect(BasicPublish("", "next"))
    talk.peer.expect(ChannelClose)
    assert closes[0].value is None


@pytest.mark.covers("T-CH-09")
def test_gets_are_answered_in_their_order(talk: Talk) -> None:
    gets = [talk.channel.basic_get(f"q{number}", no_ack=number == 1) for number in range(3)]
    for number in range(3):
        talk.peer.expect(BasicGet(f"q{number}", number == 1))
    talk.peer.send(1, BasicGetOk(1, True, "e", "k", 5), b"", BasicProperties(type="t"))
    talk.peer.send(1, BasicGetEmpty())
    talk.peer.send(1, BasicGetOk(2, False, "", "q2", 0), b"body")
    first, second, third = (success_of(get) for get in gets)
    assert first is not None
    assert third is not None
    assert second is None
    assert (first.body, first.redelivered, first.exchange, first.message_count) == (b"", True, "e", 5)
    assert (first.consumer_tag, first.properties.type) == ("", "t")
    third.ack()
    talk.peer.expect(BasicAck(2))


@pytest.mark.covers("T-ACK-02", "T-ACK-03", "T-ACK-05", "T-CH-11")
def test_settling_by_number(talk: Talk) -> None:
    channel, peer = talk.channel, talk.peer
    channel.basic_consume("q", lambda delivery: None, consumer_tag="c")
    channel.basic_consume("q", lambda delivery: None, consumer_tag="auto", no_ack=True)
    for tag in range(1, 8):
        peer.deliver(1, "c", tag)
    peer.deliver(1, "auto", 8)
    peer.heard.clear()
    for settle, said in (
        (channel.basic_ack(1), BasicAck(1, False)),
        (channel.basic_ack(3, multiple=True), BasicAck(3, True)),
        (channel.basic_nack(4), BasicNack(4, False, True)),
        (channel.basic_nack(5, multiple=True, requeue=False), BasicNack(5, True, False)),
        (channel.basic_reject(6), BasicReject(6, True)),
        (channel.basic_reject(7, requeue=False), BasicReject(7, False)),
    ):
        assert success_of(settle) is None
        peer.expect(said)
    for tag in (1, 2, 8):
        with pytest.raises(AlreadySettled):
            channel.basic_ack(tag)
    for tag in (0, 9):
        with pytest.raises(UnknownDelivery):
            channel.basic_reject(tag)
    peer.expect_nothing()
    assert channel.is_open


def test_qos_and_recover(talk: Talk) -> None:
    qos, recovered = talk.channel.basic_qos(10, global_=True), talk.channel.basic_recover()
    talk.peer.expect(BasicQos(0, 10, True))
    talk.peer.expect(BasicRecover(True))
    talk.peer.send(1, BasicQosOk())
    talk.peer.send(1, BasicRecoverOk())
    assert success_of(qos) == BasicQosOk()
    assert success_of(recovered) == BasicRecoverOk()


@pytest.mark.covers("S60", "T-CON-12")
def test_what_waits_for_a_message_ends_with_the_connection(talk: Talk) -> None:
    got: list[bytes] = []
    talk.channel.basic_consume("q", lambda delivery: got.append(delivery.body), consumer_tag="c", no_ack=True)
    talk.peer.expect(BasicConsume)
    talk.peer.send(1, BasicConsumeOk("c"))
    getting, closed = talk.channel.basic_get("q"), talk.channel.when_closed()
    with talk.peer.wire.held():  # what came before the end is delivered before the end is told
        talk.peer.deliver(1, "c", 1, b"last")
        talk.peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
        told = Outcome(closed.addCallback(lambda reason: (list(got), type(reason))))
    assert told.value == ([b"last"], ConnectionForced)
    failure_of(getting, ConnectionForced)


# ----------------------------------------------------------------------- other threads


@pytest.fixture
def io_thread() -> Iterator[None]:
    before = threadable.ioThread
    threadable.registerAsIOThread()
    yield
    threadable.ioThread = before


def elsewhere(call: Callable[[], object]) -> BaseException | None:
    """Make a call in another thread; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.usefixtures("io_thread")
def test_calls_from_another_thread_are_refused_and_leave_no_trace(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    peer.deliver(1, "c", 1)
    waiting = channel.queue_declare("q")
    peer.expect(QueueDeclare)
    calls: list[Callable[[], object]] = [
        lambda: channel.queue_declare("x"),
        lambda: channel.basic_publish(b""),
        lambda: channel.basic_consume("q", got.append, consumer_tag="new"),
        lambda: channel.basic_ack(1),
        got[0].ack,
        got[0].nack,
        got[0].reject,
        channel.close,
        peer.protocol.close,
        peer.protocol.open_channel,
    ]
    for call in calls:
        error = elsewhere(call)
        assert isinstance(error, RuntimeError)
        assert "reactor.callFromThread" in str(error)
    peer.expect_nothing()
    assert (channel.unconfirmed, channel.next_publish_seq_no) == (0, 1)
    assert set(channel.core.consumers) == {encode_short_string("c")[1:]}
    assert is_pending(waiting)
    assert channel.is_open
    got[0].ack()
    peer.expect(BasicAck(1))
    peer.send(1, QueueDeclareOk("q", 0, 0))
    success_of(waiting)


@pytest.mark.covers("T-BLK-01")
def test_blocked_and_unblocked_are_shown(talk: Talk) -> None:
    shown = [talk.peer.protocol.blocked]
    for method in (ConnectionBlocked("low on disk"), ConnectionUnblocked()):
        talk.peer.send(0, method)
        shown.append(talk.peer.protocol.blocked)
    assert shown == [None, "low on disk", None]


@pytest.mark.covers("T-CLS-02")
def test_a_full_outbox_lets_a_channel_close_all_the_same() -> None:
    talk = Talk(max_outbox=100_000, close_timeout=1.0)
    outbox = talk.peer.protocol.core.outbox
    talk.peer.wire.server.pauseProducing()
    while outbox.size <= outbox.most:
        talk.channel.queue_declare("q" * 200).addErrback(lambda _: None)
        talk.peer.clock.advance(0)
    failure_of(talk.channel.queue_declare("q"), OutboxFull)
    failure_of(talk.channel.basic_publish(b""), OutboxFull)
    failure_of(talk.peer.protocol.open_channel(), OutboxFull)
    assert list(talk.peer.protocol.core.channels) == [1]
    closing = talk.channel.close()
    talk.peer.clock.advance(1.0)
    failure_of(closing, RPCTimeout)
