"""What is seen of queues and connections."""

from __future__ import annotations

import pytest

from tests.broker.company import Company
from txamqpx.broker.inspection import view_of_connection, view_of_queue
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import BasicProperties


def test_a_queue_shows_its_messages_and_who_has_them() -> None:
    company = Company()
    channel = company.channel()
    company.do(channel.queue_declare("jobs"))
    for body in (b"1", b"2", b"3"):
        properties = BasicProperties(headers={"n": int(body)}, message_id="m")
        company.do(channel.basic_publish(body, routing_key="jobs", properties=properties))
    got: list[Delivery] = []
    company.do(channel.basic_qos(prefetch_count=1))
    company.do(channel.basic_consume("jobs", got.append))
    company.settle()
    view = company.broker.queue("jobs")
    assert (view.name, view.vhost, view.ready, view.unacked, view.consumers) == ("jobs", "/", 2, 1, 1)
    assert repr(view) == "<QueueView 'jobs' in '/': 2 ready, 1 unacked, 0 delayed, 1 consumers>"
    assert [message.body for message in view.messages] == [b"2", b"3"]
    (message,) = view.unacked_messages
    assert (message.body, message.exchange, message.routing_key) == (b"1", "", "jobs")
    assert (message.redelivered, message.delivery_count) == (False, 0)
    assert message.headers == {"n": 1}
    assert message.properties.message_id == "m"
    got[0].nack(requeue=True)
    company.do(channel.basic_cancel(got[0].consumer_tag))
    company.do(channel.close())
    assert [one.redelivered for one in company.broker.queue("jobs").messages] == [True, False, False]
    assert view.ready == 2
    company.watch(company.channel().queue_declare("plain"))
    company.broker.queue("plain")


def test_a_message_without_headers_has_none() -> None:
    company = Company()
    channel = company.channel()
    company.do(channel.queue_declare("jobs"))
    company.do(channel.basic_publish(b"", routing_key="jobs"))
    (message,) = company.broker.queue("jobs").messages
    assert message.headers == {}
    queue = company.broker.vhosts["/"].queues["jobs"]
    assert view_of_queue(queue, "/") == company.broker.queue("jobs")


def test_a_quorum_queue_counts_deliveries() -> None:
    company = Company()
    channel = company.channel()
    company.do(channel.queue_declare("jobs", durable=True, arguments={"x-queue-type": "quorum"}))
    company.do(channel.basic_publish(b"", routing_key="jobs"))
    for count in range(3):
        (message,) = company.broker.queue("jobs").messages
        assert message.acquired_count == count
        assert message.delivery_count == (count + 1) // 2
        delivery = company.do(channel.basic_get("jobs"))
        assert delivery is not None
        # RabbitMQ 4.3 takes a reject for a failure, and a nack for a change of mind.
        if count % 2:
            delivery.nack(requeue=True)
        else:
            delivery.reject(requeue=True)
        company.settle()


def test_a_message_that_waits_for_its_retry_is_neither_ready_nor_unacked() -> None:
    company = Company()
    channel = company.channel()
    arguments = {"x-queue-type": "quorum", "x-delayed-retry-type": "all", "x-delayed-retry-min": 5000}
    company.do(channel.queue_declare("jobs", durable=True, arguments=arguments))
    company.do(channel.basic_publish(b"", routing_key="jobs"))
    delivery = company.do(channel.basic_get("jobs"))
    assert delivery is not None
    delivery.reject(requeue=True)
    company.settle()
    view = company.broker.queue("jobs")
    assert (view.ready, view.unacked, view.delayed) == (0, 0, 1)
    company.broker.advance(5)
    view = company.broker.queue("jobs")
    assert (view.ready, view.unacked, view.delayed) == (1, 0, 0)


def test_a_queue_that_is_not_there_is_named_with_those_that_are() -> None:
    company = Company()
    company.do(company.channel().queue_declare("jobs"))
    with pytest.raises(KeyError, match=r"no queue 'job' in vhost '/', only \['jobs'\]"):
        company.broker.queue("job")
    with pytest.raises(KeyError, match=r"no vhost 'test', only \['/'\]"):
        company.broker.queue("jobs", "test")


def test_connections_show_who_they_are() -> None:
    company = Company(vhosts=["/", "other"])
    protocol = company.connect("?connection_name=billing")
    company.channel(protocol)
    company.connect("/other")
    first, second = company.broker.connections
    assert (first.number, first.user, first.vhost, first.name) == (1, "guest", "/", "billing")
    assert (first.channels, first.is_open) == ([1], True)
    assert (second.number, second.vhost, second.channels) == (2, "other", [])
    assert "tap" not in repr(first)
    company.do(protocol.close())
    assert [view.number for view in company.broker.connections] == [2]
    assert view_of_connection(first.tap).is_open is False


def test_a_connection_that_has_not_logged_in_shows_nothing_yet() -> None:
    company = Company()
    company.broker.faults.black_hole(at="connection.start-ok")
    assert company.connecting().pending
    (view,) = company.broker.connections
    assert (view.user, view.vhost, view.name, view.channels, view.is_open) == ("", "", "", [], False)
