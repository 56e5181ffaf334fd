"""Floods where nothing is acked: how reading pauses, and goes on."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tests.consuming.log import listening
from tests.consuming.stage import Stage
from txamqpx.consumer import Consumer
from txamqpx.consuming import brake
from txamqpx.message import Delivery
from txamqpx.testing import success_of


class Work:
    """A consumer whose handler ends when the test says so.

    Attributes:
        begun: The bodies that it was called with, in order.
    """

    def __init__(self) -> None:
        self.stage = Stage()
        self.begun: list[bytes] = []
        self.ends: list[Deferred[None]] = []
        self.consumer: Consumer = self.stage.consume(self.begin, ack="none")

    def begin(self, delivery: Delivery) -> Deferred[None]:
        self.begun.append(delivery.body)
        self.ends.append(Deferred())
        return self.ends[-1]

    def come(self, count: int, size: int = 1) -> None:
        """Let deliveries come."""
        self.stage.deliver(*[b"x" * size] * count)

    def end(self, count: int) -> None:
        """End so many handlers, one after another."""
        for _ in range(count):
            self.ends.pop().callback(None)

    def reads(self) -> bool:
        """Tell whether the connection is read."""
        return self.stage.peer.wire.client.reading


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("MANY", 4), ("MANY_BYTES", 1000), ("TOO_MANY", 10), ("TOO_MANY_BYTES", 5000)):
        monkeypatch.setattr(brake, name, limit)


@pytest.mark.covers("T-CON-11", "T-ACK-05")
@pytest.mark.parametrize(("count", "size"), [(6, 1), (3, 600)])
def test_a_flood_is_slowed_down_and_nothing_is_lost(count: int, size: int) -> None:
    work = Work()
    work.come(1, size)
    assert work.reads()
    work.come(count - 1, size)
    reading = [work.reads()]
    for seconds in (0.9, 0.2):
        work.stage.advance(seconds)
        reading.append(work.reads())
    assert reading == [False, False, True]  # a handler may wait for what else comes on this connection
    work.end(count)
    assert work.begun == [b"x" * size] * count
    assert work.consumer.waiting == 0
    assert work.stage.take_settled() == []
    assert work.stage.peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-CON-11")
@pytest.mark.parametrize(("count", "size"), [(12, 1), (3, 2600)])
def test_from_a_limit_on_reading_waits_until_it_is_less(count: int, size: int) -> None:
    work = Work()
    work.come(count, size)
    work.stage.advance(100.0)
    assert not work.reads()
    work.end(1)
    work.stage.advance(1.0)
    assert work.reads()


def test_handlers_that_catch_up_end_the_pause() -> None:
    work = Work()
    work.come(6)
    assert not work.reads()
    work.end(2)
    assert not work.reads()
    work.end(1)
    assert work.reads()
    assert work.stage.peer.clock.getDelayedCalls() == []
    work.come(3)
    assert not work.reads()


def test_a_large_message_that_is_handled_at_once_pauses_nothing() -> None:
    work = Work()
    with listening() as ear:
        work.come(1, 2000)
    assert work.reads()
    assert ear.said("deliveries of") == []


def test_the_log_tells_of_it_once_a_minute() -> None:
    work = Work()
    with listening() as ear:
        work.come(6)
        for _ in range(3):
            work.stage.advance(1.0)
            work.come(1)
        assert [(event["count"], "for a while" in event["what"]) for event in ear.said("deliveries of")] == [
            (5, True)
        ]
        work.come(4)
        work.stage.advance(5.0)
        assert ["until it is less" in event["what"] for event in ear.said("deliveries of")] == [False, True]
        work.stage.advance(60.0)
        assert len(ear.said("deliveries of")) == 3


def test_who_leaves_reads_what_the_broker_says_to_it() -> None:
    work = Work()
    work.come(12)
    work.stage.advance(5.0)
    cancelled = work.consumer.cancel(None)
    assert work.reads()
    work.come(12)  # before the broker has heard of it
    assert work.reads()
    work.stage.agree()
    while work.ends:
        work.end(1)
    work.stage.agree()
    assert success_of(cancelled) is None
    assert len(work.begun) == 24
    assert work.stage.peer.clock.getDelayedCalls() == []


def test_a_pause_ends_with_the_connection() -> None:
    work = Work()
    work.come(12)
    work.stage.peer.hang_up()
    work.stage.peer.protocol.abort()
    assert success_of(work.consumer.closed) is not None
    work.stage.peer.advance(10.0)
    assert work.stage.peer.clock.getDelayedCalls() == []


def test_one_consumer_reads_on_only_for_itself() -> None:
    work = Work()
    work.come(6)
    work.stage.peer.protocol.pause_reading()
    work.end(6)
    work.stage.advance(5.0)
    assert not work.reads()
    work.stage.peer.protocol.resume_reading()
    assert work.reads()
