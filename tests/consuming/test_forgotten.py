from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from tests.consuming.log import Ear, listening
from tests.consuming.stage import Stage
from txamqpx.consuming.forgotten import Forgotten
from txamqpx.message import Delivery


@pytest.fixture
def ear() -> Iterator[Ear]:
    with listening() as ear:
        yield ear


def texts(ear: Ear) -> list[str]:
    return [formatEvent(event) for event in ear.said("unsettled for")]


def test_what_is_left_is_warned_of_once_and_by_name(ear: Ear) -> None:
    stage, got = Stage(), list[Delivery]()

    def forgetful(delivery: Delivery) -> None:
        got.append(delivery)

    stage.consume(forgetful, ack="manual", forgotten_after=40.0)
    stage.deliver(b"1", b"2")
    got[1].ack()
    stage.advance(39)
    assert texts(ear) == []
    stage.advance(30)
    (text,) = texts(ear)
    assert "forgetful has left <Delivery 1 of" in text
    assert "unsettled for 40.0 s" in text
    stage.advance(100)
    assert len(texts(ear)) == 1


def test_what_is_left_at_the_end_is_told_too(ear: Ear) -> None:
    stage, got = Stage(), list[Delivery]()
    consumer = stage.consume(got.append, ack="manual", forgotten_after=40.0)
    stage.deliver(b"1", b"2")
    stage.advance(50)
    stage.deliver(b"3")
    consumer.cancel()
    stage.agree()
    assert [("Delivery 1" in text, "for 0.0 s" in text) for text in texts(ear)] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_who_wants_no_warning_gets_none(ear: Ear) -> None:
    stage = Stage()
    consumer = stage.consume(lambda delivery: None, ack="manual", forgotten_after=None)
    stage.deliver(b"1")
    stage.advance(10_000)
    consumer.cancel()
    stage.agree()
    assert texts(ear) == []


def test_it_stops_once() -> None:
    clock = Clock()
    watch = Forgotten(clock, 1.0, list, "handler")
    watch.stop()
    watch.stop()
    assert clock.getDelayedCalls() == []
