"""What a test asks of a broker."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from tests.broker.company import Company
from txamqpx.broker import Broker
from txamqpx.broker.names import names
from txamqpx.broker.scheme import open_memory
from txamqpx.connection import AMQPClientFactory, AMQPProtocol
from txamqpx.errors import ConnectionClosed
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.testing.outcomes import success_of


def end_of(protocol: AMQPProtocol) -> BaseException:
    return success_of(protocol.when_closed())


@pytest.fixture
def company() -> Company:
    return Company()


def test_what_was_published_is_found_and_asserted(company: Company) -> None:
    channel = company.channel(confirms=True)
    company.do(channel.queue_declare("jobs"))
    company.do(channel.basic_publish(b"1", routing_key="jobs"))
    properties = BasicProperties(headers={"id": 7})
    company.do(channel.basic_publish(b"2", exchange="amq.topic", routing_key="a.b", properties=properties))
    broker = company.broker
    assert [message.body for message in broker.published()] == [b"1", b"2"]
    assert [message.body for message in broker.published(exchange="")] == [b"1"]
    (message,) = broker.assert_published(routing_key="a.b", headers={"id": 7})
    assert (message.exchange, message.vhost) == ("amq.topic", "/")
    broker.assert_published(count=0, body=b"3")
    with pytest.raises(AssertionError, match="no message with body=b'3' was published"):
        broker.assert_published(body=b"3")
    with pytest.raises(AssertionError, match=r"^2 messages with vhost='/' were published, not 1"):
        broker.assert_published(count=1, vhost="/")
    broker.history.clear()
    assert broker.published() == []


def test_what_goes_to_no_exchange_was_not_published(company: Company) -> None:
    channel = company.channel(confirms=True)
    company.watch(channel.basic_publish(b"", exchange="nowhere")).error()
    assert company.broker.published() == []


def test_what_is_published_in_a_transaction_is_known(company: Company) -> None:
    channel = company.channel()
    company.do(channel.queue_declare("jobs"))
    company.do(channel.tx_select())
    company.do(channel.basic_publish(b"1", routing_key="jobs"))
    assert company.broker.queue("jobs").ready == 0
    company.do(channel.tx_commit())
    company.broker.assert_published(count=1, routing_key="jobs")
    assert company.broker.queue("jobs").ready == 1


def test_ten_minutes_pass_at_once(company: Company) -> None:
    channel = company.channel()
    retry = {"x-message-ttl": 60_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "jobs"}
    company.do(channel.queue_declare("jobs"))
    company.do(channel.queue_declare("retry", arguments=retry))
    got: list[float] = []

    def consume(delivery: object) -> None:
        got.append(company.broker.clock.seconds())
        channel.basic_publish(b"again", routing_key="retry")

    company.do(channel.basic_consume("jobs", consume, no_ack=True))
    company.do(channel.basic_publish(b"once", routing_key="jobs"))
    assert company.broker.advance(600).called
    assert got == [60.0 * number for number in range(11)]


def test_a_broker_that_is_closed_says_goodbye_and_is_forgotten(company: Company) -> None:
    broker = company.broker
    open_, silent = company.connect(), company.connect()
    company.do(company.channel(open_).queue_declare("jobs", arguments={"x-expires": 1000}))
    broker.faults.black_hole(on=broker.connections[1])
    broker.faults.black_hole(at="connection.start-ok")
    connecting = company.connecting()
    assert len(broker.connections) == 3
    closing = company.watch(broker.close())
    assert closing.value is None
    error = end_of(open_)
    assert isinstance(error, ConnectionClosed)
    assert "broker forced connection closure with reason 'shutdown'" in str(error)
    end_of(silent)
    connecting.error()
    assert broker.connections == []
    assert names.find(broker.name) is None
    assert company.watch(broker.close()).value is None
    assert company.clock.getDelayedCalls() == []


def test_a_broker_that_is_closed_lets_nobody_in(company: Company) -> None:
    endpoint, parameters = open_memory(company.broker.url, company.clock)
    assert company.broker.close().called
    connecting = company.watch(endpoint.connect(AMQPClientFactory(parameters, clock=company.clock)))
    connecting.error()
    assert company.clock.getDelayedCalls() == []


def test_a_client_that_does_not_answer_the_goodbye_is_not_waited_for(company: Company) -> None:
    protocol = company.connect("?heartbeat=0")
    protocol.pause_reading()
    closing = company.watch(company.broker.close())
    given_up = company.broker.close()
    given_up.addErrback(lambda failure: None)
    given_up.cancel()
    assert closing.pending
    company.clock.advance(1)
    assert closing.value is None
    end_of(protocol)
    assert company.broker.sessions == set()


def test_the_name_of_a_closed_broker_is_free() -> None:
    company = Company(name="shop")
    with pytest.raises(ValueError, match="shop"):
        Broker("shop", clock=company.clock)
    assert company.broker.close().called
    again = Broker("shop", clock=company.clock)
    assert names.find("shop") is again
    assert again.close().called


def test_ten_thousand_connections_leave_nothing_behind(company: Company) -> None:
    broker, clock = company.broker, company.clock
    fault = broker.faults.drop(at="basic.ack", sent_by="broker")
    endpoint, _ = open_memory(broker.url, clock)
    factory = Factory.forProtocol(Protocol)
    for number in range(10_000):
        if number % 20 == 0:
            leave(company, number)
            continue
        client: Any = company.do(endpoint.connect(factory))
        transport = client.transport
        transport.write(b"AMQP\x00\x00\x09\x01"[: number % 9])
        if number % 2:
            company.settle()
        (transport.abortConnection if number % 3 else transport.loseConnection)()
        company.settle()
        assert clock.getDelayedCalls() == []
    assert broker.connections == []
    assert broker.sessions == set()
    assert broker.vhosts["/"].queues == {}
    assert not fault.struck
    assert fault._undo == []
    assert names.find(broker.name) is broker
    assert broker.close().called
    assert names.find(broker.name) is None


def leave(company: Company, number: int) -> None:
    """Come as a client that knows what it wants, and go."""
    protocol = company.connect()
    if number % 3 == 0:
        channel = company.channel(protocol, confirms=True)
        company.do(channel.queue_declare(f"q{number}", exclusive=True))
        company.do(channel.basic_consume(f"q{number}", print))
    if number % 40:
        protocol.abort()
    else:
        protocol.close()
    company.settle()
    assert company.clock.getDelayedCalls() == []
