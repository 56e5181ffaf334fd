"""The books of an embedded broker are in order, whatever random programs do to it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.differential.audit import audit, audit_end, audited
from tests.differential.program import program
from tests.differential.stream import EmbeddedStream
from tests.differential.world import Line
from txamqpx.broker.broker import Broker
from txamqpx.spec import amqp0_9_1 as amqp

PROFILES = ("rabbitmq-3.10", "rabbitmq-4.3")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", range(6))
def test_the_books_are_in_order_after_each_step(profile: str, seed: int) -> None:
    audited(program(seed, 60), profile)


class Office:
    """A broker with two messages in a queue, of which a client has the first one."""

    def __init__(self) -> None:
        clock = Clock()
        self.broker = Broker(clock=clock)
        self.line = Line(EmbeddedStream(self.broker, clock), "/")
        self.line.send(1, amqp.QueueDeclare("q", durable=True, arguments={"x-max-length-bytes": 9}))
        for _ in range(2):
            self.line.send(1, amqp.BasicPublish("", "q"), b"x")
        self.line.send(1, amqp.BasicGet("q"))
        self.line.hear()
        self.queue: Any = self.broker.vhosts["/"].queues["q"]
        audit(self.broker)

    def lose(self) -> None:
        self.queue.unsettled.clear()

    def double(self) -> None:
        self.queue.ready.append(next(iter(self.queue.unsettled)))

    def misweigh(self) -> None:
        self.queue.ready.weight = 0

    def forget(self) -> None:
        del self.broker.vhosts["/"].queues["q"]
        self.broker.vhosts["/"].exchanges.bind(
            self.broker.vhosts["/"].exchanges["amq.fanout"], self.queue, "", {}
        )


@pytest.mark.parametrize("mistake", [Office.lose, Office.double, Office.misweigh, Office.forget])
def test_mistakes_are_found(mistake: Any) -> None:
    office = Office()
    mistake(office)
    with pytest.raises(AssertionError):
        audit(office.broker)


def test_what_is_kept_of_a_deleted_queue_is_found() -> None:
    office = Office()
    kept = [*office.queue.ready]
    office.line.close()
    with pytest.raises(AssertionError, match="kept"):
        audit_end(office.broker)
    assert kept
