"""What becomes of messages, and of others, when a connection ends; and what nobody can make grow."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.broker.visitor import Visitor, methods, publish
from txamqpx.broker import Broker
from txamqpx.broker.session import CLOSING, SILENCE
from txamqpx.protocol.frames import BODY, frame, header_frame
from txamqpx.spec import amqp0_9_1 as amqp

DECLARE = amqp.QueueDeclare("q", durable=True)
CONSUME = amqp.BasicConsume("q", "c")
CONSUME_NO_ACK = amqp.BasicConsume("q", "d", no_ack=True)
NOTIFIED = {"capabilities": {"consumer_cancel_notify": True}}

DEEP = b"\1aV"
for _ in range(200):
    DEEP = b"\1aF" + len(DEEP).to_bytes(4) + DEEP
DEEP = b"\x20\0" + len(DEEP).to_bytes(4) + DEEP


@pytest.fixture
def broker() -> Broker:
    return Broker(clock=Clock(), vhosts=("/", "other"))


@pytest.fixture
def publisher(broker: Broker) -> Visitor:
    publisher = Visitor(broker).open(1)
    publisher.send(1, DECLARE)
    publisher.hear()
    return publisher


# --------------------------------------------------------------------------- the operator's end


def test_who_is_forced_out_gives_back_what_it_has_at_once(broker: Broker, publisher: Visitor) -> None:
    consumer = Visitor(broker).open(1)
    consumer.send(1, CONSUME)
    publisher.write(publish("q", b"x"))
    assert broker.queue("q").unacked == 1
    consumer.session.force("maintenance")
    assert (broker.queue("q").ready, broker.queue("q").unacked) == (1, 0)


def test_who_is_forced_out_gets_nothing_more(broker: Broker, publisher: Visitor) -> None:
    consumer = Visitor(broker).open(1)
    consumer.send(1, CONSUME_NO_ACK)
    consumer.hear()
    consumer.session.force("maintenance")
    publisher.write(publish("q", b"x"))
    assert consumer.names() == ["connection.close"]
    assert broker.queue("q").ready == 1


def test_consumers_of_a_virtual_host_go_before_its_queues(broker: Broker) -> None:
    consumer = Visitor(broker).open(1, vhost="other", properties=NOTIFIED)
    consumer.send(1, DECLARE, CONSUME)
    consumer.hear()
    broker.delete_vhost("other")
    assert consumer.names() == ["connection.close"]


# --------------------------------------------------------------------------- channels that end together


def two_consumers(broker: Broker, publisher: Visitor) -> Visitor:
    """Return a client of which one channel has a message, and another one waits for messages."""
    visitor = Visitor(broker).open(1, 2)
    visitor.send(1, CONSUME)
    publisher.write(publish("q", b"x"))
    visitor.send(2, CONSUME_NO_ACK)
    assert visitor.names()[-1] == "basic.consume-ok"
    return visitor


def test_a_channel_does_not_get_what_another_one_leaves_that_ends_with_it(
    broker: Broker, publisher: Visitor
) -> None:
    two_consumers(broker, publisher).leave()
    assert broker.queue("q").ready == 1


def test_nothing_is_delivered_behind_a_goodbye(broker: Broker, publisher: Visitor) -> None:
    visitor = two_consumers(broker, publisher)
    visitor.send(1, amqp.BasicQos(5))
    assert visitor.names() == ["connection.close"]
    assert broker.queue("q").ready == 1


def test_a_connection_that_is_lost_over_its_goodbye_ends_once(broker: Broker) -> None:
    broker.limits.vhost_connections["/"] = 1
    visitor = Visitor(broker).open(1)
    broker.set_alarm()
    visitor.write(publish("q") + methods(0, amqp.ConnectionClose(200, "")))  # which is read, and put off
    visitor.leave()
    broker.clear_alarm()
    Visitor(broker).open()
    third = Visitor(broker)
    third.log_in()
    third.send(0, amqp.ConnectionTuneOk(2047, 131072, 0), amqp.ConnectionOpen("/"))
    assert third.refusal()[0] == 530


def test_nobody_opens_a_channel_who_is_not_in(broker: Broker) -> None:
    visitor = Visitor(broker)
    visitor.log_in()
    visitor.send(0, amqp.ConnectionTuneOk(2047, 131072, 0))
    visitor.send(1, amqp.ChannelOpen())
    code, text = visitor.refusal()
    assert (code, text.split(" - ")[0]) == (505, "UNEXPECTED_FRAME")


# --------------------------------------------------------------------------- who reads nothing


def test_who_does_not_read_what_it_is_given_back_is_asked_for_no_more(publisher: Visitor) -> None:
    publisher.session._writer.pauseProducing()
    body = b"x" * 100_000
    head = methods(1, amqp.BasicPublish("", "nowhere", mandatory=True))
    for _ in range(20):
        publisher.write(head + header_frame(1, 60, b"\0\0", len(body)) + frame(BODY, 1, body))
    assert not publisher.is_heard()
    publisher.session._writer.resumeProducing()
    assert publisher.is_heard()
    assert publisher.names() == ["basic.return", "header", "body"] * 20


def test_who_is_hung_up_on_and_stays_is_dropped(broker: Broker) -> None:
    visitor = Visitor(broker).open(1)
    visitor.write(frame(BODY, 1, b"x")[:-1] + b"\0")
    assert visitor.names() == ["connection.close"]
    visitor.clock.advance(SILENCE)
    assert visitor.is_sent_away()
    assert not visitor.is_dropped()
    visitor.clock.advance(CLOSING)
    assert visitor.is_dropped()


# --------------------------------------------------------------------------- what others have published


def test_nobody_is_blamed_for_headers_of_others(broker: Broker, publisher: Visitor) -> None:
    publisher.write(publish("q", properties=DEEP))
    visitor = Visitor(broker).open(1)
    visitor.send(1, amqp.BasicGet("q"))
    assert visitor.names() == ["basic.get-ok", "header"]


def test_what_is_given_back_is_as_it_came(publisher: Visitor) -> None:
    head = methods(1, amqp.BasicPublish("", "nowhere", mandatory=True))
    publisher.write(head + header_frame(1, 60, DEEP, 0))
    publisher.clock.advance(0)
    said: bytes = publisher.transport.value()  # type: ignore[no-untyped-call]
    assert said.endswith(header_frame(1, 60, DEEP, 0))


def buried_under_a_long_key(broker: Broker) -> Visitor:
    """Return a client that has rejected a message; nobody can be given the dead letter that it became."""
    visitor = Visitor(broker).open(1)
    arguments = {"x-dead-letter-exchange": "amq.fanout", "x-dead-letter-routing-key": "k" * 256}
    visitor.send(1, amqp.QueueDeclare("jobs", durable=True, arguments=arguments))
    visitor.send(1, amqp.QueueBind("q", "amq.fanout", ""))
    visitor.write(publish("jobs", b"x"))
    visitor.send(1, amqp.BasicGet("jobs"), amqp.BasicReject(1, requeue=False))
    return visitor


def test_what_cannot_be_delivered_ends_who_would_get_it_and_nobody_else(
    broker: Broker, publisher: Visitor
) -> None:
    consumers = [Visitor(broker).open(1), Visitor(broker).open(1)]
    for consumer in consumers:
        consumer.send(1, CONSUME)
        consumer.hear()
    assert buried_under_a_long_key(broker).is_in()
    assert [consumer.refusal() for consumer in consumers] == [(541, "INTERNAL_ERROR")] * 2
    assert (broker.queue("q").ready, broker.queue("q").unacked) == (1, 0)


def test_what_cannot_be_fetched_ends_who_fetches_it(broker: Broker, publisher: Visitor) -> None:
    buried_under_a_long_key(broker)
    publisher.send(1, amqp.BasicGet("q"))
    assert publisher.refusal() == (541, "INTERNAL_ERROR")
    assert (broker.queue("q").ready, broker.queue("q").unacked) == (1, 0)
