from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from txamqpx.errors import AlreadySettled, EncodeError
from txamqpx.message import Delivery, Settlement
from txamqpx.spec.amqp0_9_1 import BasicProperties, BasicPublish, QueueDeclare
from txamqpx.testing import RecordedDelivery, Settled, delivery


def test_a_delivery_is_real() -> None:
    message = delivery(
        b"body",
        exchange="e",
        routing_key="k",
        redelivered=True,
        consumer_tag="c",
        delivery_tag=7,
        headers={"a": [1, None]},
        message_id="m",
    )
    assert isinstance(message, Delivery)
    assert (message.body, message.exchange, message.routing_key) == (b"body", "e", "k")
    assert (message.redelivered, message.consumer_tag, message.delivery_tag) == (True, "c", 7)
    assert message.properties == BasicProperties(headers={"a": [1, None]}, message_id="m")
    assert message.channel.is_open
    assert repr(message) == (
        "<RecordedDelivery 7 of 'c', exchange 'e', routing key 'k', 4 bytes, redelivered>"
    )


def test_most_of_it_need_not_be_said() -> None:
    message = delivery()
    assert (message.body, message.exchange, message.routing_key) == (b"", "", "")
    assert (message.redelivered, message.settled, message.settlement) == (False, False, None)
    assert message.properties == BasicProperties()


def test_fields_go_before_properties() -> None:
    message = delivery(properties=BasicProperties(priority=1, type="t"), priority=2)
    assert message.properties == BasicProperties(priority=2, type="t")


WAYS: dict[str, tuple[Callable[[Delivery], object], Settled]] = {
    "ack": (lambda message: message.ack(), "ack"),
    "nack": (lambda message: message.nack(), "nack requeue"),
    "nack without requeue": (lambda message: message.nack(requeue=False), "nack"),
    "reject": (lambda message: message.reject(), "reject requeue"),
    "reject without requeue": (lambda message: message.reject(requeue=False), "reject"),
    "release": (lambda message: message.release(), "nack requeue"),
    "fail": (lambda message: message.fail(), "reject requeue"),
    "discard": (lambda message: message.discard(), "reject"),
    "ack by the channel": (lambda message: message.channel.basic_ack(1, multiple=True), "ack"),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_knows_what_it_was_settled_with(way: str) -> None:
    settle, settlement = WAYS[way]
    message = delivery(b"body")
    settle(message)
    assert message.settled
    assert message.settlement == settlement


def test_settling_twice_is_the_mistake_that_it_is() -> None:
    message = delivery()
    assert message.ack() is Settlement.SENT
    with pytest.raises(AlreadySettled):
        message.reject()
    assert message.settlement == "ack"


def test_what_needs_no_settling_must_not_be_settled() -> None:
    message = delivery(no_ack=True)
    assert message.settled
    with pytest.raises(AlreadySettled):
        message.ack()
    assert message.settlement is None


def test_each_has_a_channel_of_its_own() -> None:
    first, second = delivery(b"1"), delivery(b"2")
    first.ack()
    assert (first.settlement, second.settlement) == ("ack", None)


def test_what_a_handler_asks_of_the_channel_can_be_looked_at() -> None:
    def handle(message: RecordedDelivery) -> None:
        message.channel.basic_publish(b"copy", routing_key="copies")
        message.ack()
        message.channel.queue_declare("q")

    message = delivery(b"body")
    handle(message)
    assert message.settlement == "ack"
    assert message.peer.expect(BasicPublish).body == b"copy"
    assert message.settlement == "ack"
    assert [type(heard.method) for heard in message.peer.heard][-1] is QueueDeclare


def test_what_does_not_fit_on_the_wire_is_no_delivery() -> None:
    with pytest.raises(EncodeError, match="message_id"):
        delivery(message_id="m" * 256)
    wrong: Any = {"message_id": "m"}
    with pytest.raises(EncodeError, match="body: must be bytes, not str"):
        delivery("text")  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="must be BasicProperties, not dict"):
        delivery(properties=wrong)
