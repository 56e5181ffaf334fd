"""What consumers on a channel get, and what they do with it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.talk import Talk
from txamqpx.errors import (
    AlreadySettled,
    ConnectionForced,
    ConsumerTagInUse,
    UnknownDelivery,
)
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
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
    ConnectionClose,
)
from txamqpx.testing import Watched, failure_of, success_of


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def confirming() -> Talk:
    return Talk(confirm=True)


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
    closes: list[Watched[None]] = []

    def handler(delivery: Delivery) -> None:
        delivery.ack()
        talk.channel.basic_publish(delivery.body, routing_key="next")
        closes.append(Watched(talk.channel.close()))

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
        told = Watched(closed.addCallback(lambda reason: (list(got), type(reason))))
    assert told.value == ([b"last"], ConnectionForced)
    failure_of(getting, ConnectionForced)
