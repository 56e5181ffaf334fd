from __future__ import annotations

from collections.abc import Callable

import pytest

from txamqpx.channel import Channel
from txamqpx.errors import AlreadySettled, DecodeError
from txamqpx.message import Confirmed, Delivery, ReturnedMessage, Settlement
from txamqpx.protocol.events import Returned
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    BasicNack,
    BasicProperties,
    BasicReject,
    ChannelClose,
)
from txamqpx.testing import ScriptedPeer, scripted


class Consumer:
    """A consumer on channel 1 of a new connection, and what it got."""

    def __init__(self, *, no_ack: bool = False) -> None:
        self.peer: ScriptedPeer = scripted()
        self.peer.open()
        self.channel: Channel = self.peer.open_channel()
        self.got: list[Delivery] = []
        self.channel.basic_consume("q", self.got.append, consumer_tag="c", no_ack=no_ack)
        self.peer.expect(BasicConsume)
        self.peer.send(1, BasicConsumeOk("c"))

    def deliver(self, delivery_tag: int = 1) -> Delivery:
        self.peer.deliver(1, "c", delivery_tag)
        return self.got[-1]


SETTLE: dict[str, tuple[Callable[[Delivery], Settlement], BasicAck | BasicNack | BasicReject]] = {
    "ack": (lambda delivery: delivery.ack(), BasicAck(7, False)),
    "nack": (lambda delivery: delivery.nack(), BasicNack(7, False, True)),
    "nack without requeue": (lambda delivery: delivery.nack(requeue=False), BasicNack(7, False, False)),
    "reject": (lambda delivery: delivery.reject(), BasicReject(7, True)),
    "reject without requeue": (lambda delivery: delivery.reject(requeue=False), BasicReject(7, False)),
}


@pytest.fixture(params=SETTLE)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_delivery_has_all_that_came_with_it() -> None:
    consumer = Consumer()
    consumer.peer.deliver(
        1,
        "c",
        3,
        b"\x00body",
        BasicProperties(headers={"a": 1}, priority=0),
        exchange="e",
        routing_key="k",
        redelivered=True,
    )
    (delivery,) = consumer.got
    assert (delivery.body, delivery.properties) == (
        b"\x00body",
        BasicProperties(headers={"a": 1}, priority=0),
    )
    assert (delivery.exchange, delivery.routing_key, delivery.redelivered) == ("e", "k", True)
    assert (delivery.delivery_tag, delivery.consumer_tag, delivery.message_count) == (3, "c", None)
    assert delivery.channel is consumer.channel
    assert repr(delivery) == ("<Delivery 3 of 'c', exchange 'e', routing key 'k', 5 bytes, redelivered>")


def test_a_delivery_is_settled_once(way: str) -> None:
    settle, said = SETTLE[way]
    consumer = Consumer()
    delivery = consumer.deliver(7)
    assert settle(delivery) is Settlement.SENT
    consumer.peer.expect(said, 1)
    for again, _ in SETTLE.values():
        with pytest.raises(AlreadySettled, match=r"<Delivery 7 .*> is settled, or needed no settling"):
            again(delivery)
    consumer.peer.expect_nothing()
    assert consumer.channel.is_open


def test_what_came_with_no_ack_cannot_be_settled(way: str) -> None:
    consumer = Consumer(no_ack=True)
    with pytest.raises(AlreadySettled):
        SETTLE[way][0](consumer.deliver(7))
    consumer.peer.expect_nothing()


def test_on_a_channel_that_the_broker_closed_it_is_stale(way: str) -> None:
    consumer = Consumer()
    delivery = consumer.deliver(7)
    consumer.peer.send(1, ChannelClose(406, "PRECONDITION_FAILED", 60, 80))
    consumer.peer.heard.clear()
    assert SETTLE[way][0](delivery) is Settlement.STALE
    assert SETTLE[way][0](delivery) is Settlement.STALE
    consumer.peer.expect_nothing()


def test_on_a_channel_that_we_are_closing_it_is_stale(way: str) -> None:
    consumer = Consumer()
    delivery = consumer.deliver(7)
    consumer.channel.close()
    assert SETTLE[way][0](delivery) is Settlement.STALE
    consumer.peer.expect(ChannelClose)
    assert SETTLE[way][0](delivery) is Settlement.STALE
    consumer.peer.expect_nothing()


def test_on_a_connection_that_is_gone_it_is_stale(way: str) -> None:
    consumer = Consumer()
    delivery = consumer.deliver(7)
    consumer.peer.hang_up()
    assert SETTLE[way][0](delivery) is Settlement.STALE


def test_what_another_delivery_settled_with_it_is_settled() -> None:
    consumer = Consumer()
    deliveries = [consumer.deliver(tag) for tag in (1, 2, 3)]
    consumer.channel.basic_ack(2, multiple=True)
    consumer.peer.expect(BasicAck(2, True))
    for delivery in deliveries[:2]:
        with pytest.raises(AlreadySettled):
            delivery.ack()
    assert deliveries[2].ack() is Settlement.SENT


@pytest.mark.covers("T-FR-06")
def test_properties_that_another_client_made_wrong_hurt_only_who_looks_at_them() -> None:
    consumer = Consumer()
    wrong = b"\x80\x00\xff"  # a content type of 255 bytes that are not there
    consumer.peer.deliver(1, "c", 1, b"body", BasicProperties._of({}, wrong))
    (delivery,) = consumer.got
    with pytest.raises(DecodeError, match="basic properties is cut short"):
        delivery.properties.as_dict()
    assert delivery.header == wrong
    assert delivery.ack() is Settlement.SENT
    consumer.peer.expect(BasicAck(1))


def test_a_confirm_says_what_the_broker_said() -> None:
    assert repr(Confirmed(3, False)) == "Confirmed(3)"
    assert repr(Confirmed(4, True)) == "Confirmed(4, multiple)"
    assert (Confirmed(4, True).delivery_tag, Confirmed(4, True).multiple) == (4, True)


def test_a_returned_message_is_the_event_that_brought_it() -> None:
    assert ReturnedMessage is Returned
