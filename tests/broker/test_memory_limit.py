"""How much the queues may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher

from tests.broker.company import Company, protocol_of
from txamqpx.broker.history import History
from txamqpx.broker.memory_limit import MemoryLimit
from txamqpx.broker.message import Message
from txamqpx.channel import Channel
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import BasicProperties

BODY = bytes(10_000)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Yield what is warned of."""
    warned: list[str] = []

    def note(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            warned.append(formatEvent(event))

    observer = cast(ILogObserver, note)
    globalLogPublisher.addObserver(observer)
    yield warned
    globalLogPublisher.removeObserver(observer)


def channel_of(company: Company) -> Channel:
    channel = company.channel(confirms=True)
    for name in ("a", "b"):
        company.do(channel.queue_declare(name))
    return channel


def test_publishers_wait_while_the_queues_hold_too_much(warnings: list[str]) -> None:
    company = Company(memory_limit=5 * len(BODY))
    channel = channel_of(company)
    publishing = [company.watch(channel.basic_publish(BODY, routing_key="a")) for _ in range(10)]
    taken = [one for one in publishing if not one.pending]
    # One that makes it too much is still taken, and one that is told of it.
    assert 5 <= len(taken) <= 7
    assert protocol_of(channel).blocked == "low on memory"
    assert company.broker.alarm == "low on memory"
    assert "more than the 50000 that it may" in warnings[0]
    assert "is blocked by the broker" in warnings[1]  # which the client says
    consumer = company.channel()
    company.do(consumer.queue_purge("a"))
    assert protocol_of(channel).blocked == "low on memory"
    company.broker.advance(1)
    assert protocol_of(channel).blocked is None or company.broker.queue("a").ready > 5
    company.do(consumer.basic_consume("a", lambda delivery: None, no_ack=True))
    company.broker.advance(10)
    assert all(isinstance(one.value, Confirmed) for one in publishing)
    assert company.broker.alarm == ""


def test_what_several_queues_have_counts_once_and_what_somebody_has_counts_as_well(
    warnings: list[str],
) -> None:
    company = Company(memory_limit=55_000)
    channel = channel_of(company)
    company.do(channel.exchange_declare("both", "fanout"))
    for name in ("a", "b"):
        company.do(channel.queue_bind(name, "both", ""))
    for _ in range(6):  # before the sixth it is measured: five messages, ten places
        company.do(channel.basic_publish(BODY, exchange="both"))
    assert company.broker.alarm == ""
    assert company.do(channel.basic_get("a")) is not None
    for name in ("a", "b"):
        company.do(channel.queue_purge(name))
    published = 0
    while not company.broker.alarm:
        company.watch(channel.basic_publish(BODY, routing_key="a"))
        published += 1
    assert published == 6


def test_what_waits_for_a_commit_counts_as_well(warnings: list[str]) -> None:
    company = Company(memory_limit=5 * len(BODY))
    channel = company.channel()
    company.channel()  # of which nothing is known but that it is there
    company.do(channel.tx_select())
    for _ in range(5):
        company.do(channel.basic_publish(BODY, routing_key="nobody"))
    assert company.broker.alarm == ""
    company.do(channel.basic_publish(BODY, routing_key="nobody"))  # before it is kept it is measured
    assert company.broker.alarm == "low on memory"
    assert "holds 50010 bytes, more than the 50000 that it may" in warnings[0]
    company.do(channel.tx_rollback())
    company.broker.advance(1)
    assert company.broker.alarm == ""


class Counting(MemoryLimit):
    """Counts how often it looks."""

    def __init__(self, company: Company, limit: int) -> None:
        broker = company.broker
        self.looks = 0
        super().__init__(broker, broker.clock, broker.history, broker._messages, limit)

    def measure(self) -> tuple[int, int]:
        self.looks += 1
        return super().measure()


def test_it_is_looked_only_when_it_may_be_too_much() -> None:
    company = Company()
    limit = Counting(company, 10 * len(BODY))
    channel = channel_of(company)
    for _ in range(8):
        company.do(channel.basic_publish(BODY, routing_key="a"))
    assert limit.looks == 0
    company.do(channel.queue_purge("a"))
    for _ in range(8):
        company.do(channel.basic_publish(BODY, routing_key="a"))
    assert limit.looks == 1
    limit.stop()
    for _ in range(20):
        company.do(channel.basic_publish(BODY, routing_key="a"))
    assert limit.looks == 1


def test_while_nobody_may_publish_it_is_looked_each_second(warnings: list[str]) -> None:
    company = Company()
    limit = Counting(company, 1)
    channel = channel_of(company)
    for _ in range(2):
        company.watch(channel.basic_publish(BODY, routing_key="a"))
    # Before the first there was nothing, and before the second one too much.
    assert (limit.looks, company.broker.alarm) == (2, "low on memory")
    late = Message.made("", "a", BasicProperties(), BODY)
    assert company.broker.history.admit("/", late, None, False)
    assert limit.looks == 2
    company.broker.advance(5)
    assert (limit.looks, company.broker.alarm) == (7, "low on memory")
    company.do(company.channel().queue_purge("a"))
    company.broker.advance(1)
    assert company.broker.alarm == ""
    assert len(warnings) == 1


def test_many_messages_are_worth_one_warning(warnings: list[str]) -> None:
    company = Company()
    channel = channel_of(company)
    broker = company.broker
    MemoryLimit(broker, broker.clock, broker.history, broker._messages, many_messages=10)
    for _ in range(30):
        company.do(channel.basic_publish(b"", routing_key="a"))
    assert warnings == ["11 messages are in the queues of an embedded broker, which keeps them all in memory"]
    assert broker.alarm == ""


def test_nothing_is_left_when_it_is_stopped() -> None:
    company = Company(memory_limit=1)
    channel = channel_of(company)
    for _ in range(2):  # what is published is measured with the next
        company.watch(channel.basic_publish(BODY, routing_key="a"))
    assert company.broker.alarm
    limit = company.broker._memory
    before = len(company.clock.getDelayedCalls())
    limit.stop()
    limit.stop()
    assert len(company.clock.getDelayedCalls()) == before - 1


def test_an_alarm_is_not_set_twice() -> None:
    company = Company(memory_limit=1)
    limit = company.broker._memory
    history: History = company.broker.history
    channel = channel_of(company)
    for _ in range(2):
        company.watch(channel.basic_publish(BODY, routing_key="a"))
    before = len(company.clock.getDelayedCalls())
    limit.look()
    history.on_full()
    assert len(company.clock.getDelayedCalls()) == before
