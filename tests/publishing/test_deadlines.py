"""One timer for the confirms of all publishes."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from txamqpx.publishing.deadlines import ConfirmDeadlines


class Watch:
    """Deadlines of eight seconds, with ticks of one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.position = 1
        self.expired: list[tuple[float, int]] = []
        self.deadlines = ConfirmDeadlines(
            self.clock,
            8.0,
            lambda: self.position,
            lambda number: self.expired.append((self.clock.seconds(), number)),
        )

    def runs(self) -> bool:
        return self.deadlines.running

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds * 2))


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.mark.covers("T-PUB-09")
def test_publishes_are_given_up_after_the_limit_or_an_eighth_later(watch: Watch) -> None:
    watch.deadlines.start()
    watch.position = 5
    watch.advance(2.5)
    watch.position = 7
    watch.advance(6)
    assert watch.expired == []
    watch.advance(4)
    assert watch.expired == [(9.0, 5), (10.0, 5), (11.0, 7), (12.0, 7)]


def test_nothing_outstanding_needs_no_timer(watch: Watch) -> None:
    watch.deadlines.start()
    assert watch.runs()
    watch.position = 0
    watch.advance(1)
    assert not watch.runs()
    assert watch.clock.getDelayedCalls() == []
    watch.position = 3
    watch.deadlines.start()
    watch.advance(10)
    assert watch.expired == [(10.0, 3), (11.0, 3)]


def test_starting_twice_makes_one_timer(watch: Watch) -> None:
    watch.deadlines.start()
    watch.deadlines.start()
    assert len(watch.clock.getDelayedCalls()) == 1


@pytest.mark.covers("T-BLK-02")
def test_a_broker_that_stops_again_and_again_does_not_put_the_deadline_off(watch: Watch) -> None:
    watch.deadlines.start()
    for _ in range(18):
        watch.advance(0.5)
        watch.deadlines.suspend()
        watch.advance(0.5)
        watch.deadlines.resume()
    watch.advance(0.5)
    assert [number for _, number in watch.expired] == [1]


@pytest.mark.covers("T-BLK-02")
def test_the_time_stands_still_while_the_broker_does_not_read(watch: Watch) -> None:
    watch.deadlines.start()
    watch.advance(4)
    watch.deadlines.suspend()
    watch.deadlines.suspend()
    assert watch.runs()
    assert watch.clock.getDelayedCalls() == []
    watch.advance(100)
    watch.deadlines.start()
    watch.deadlines.resume()
    watch.deadlines.resume()
    watch.advance(4)
    assert watch.expired == []
    watch.advance(1)
    assert watch.expired == [(109.0, 1)]


def test_what_was_not_started_can_be_suspended(watch: Watch) -> None:
    watch.deadlines.suspend()
    watch.deadlines.resume()
    watch.position = 0
    watch.advance(1)
    assert not watch.runs()


def test_our_own_standstill_is_no_silence_of_the_broker(watch: Watch) -> None:
    """What the broker said meanwhile lies unread in the socket when the timer runs."""
    watch.deadlines.start()
    watch.advance(2)
    watch.clock.advance(60)
    assert watch.expired == []
    watch.advance(5.5)
    assert watch.expired == []
    watch.advance(0.5)
    assert watch.expired == [(68.0, 1)]


def test_nothing_is_known_of_what_was_before_a_stop(watch: Watch) -> None:
    watch.deadlines.start()
    watch.advance(5)
    watch.deadlines.stop()
    watch.deadlines.stop()
    assert watch.clock.getDelayedCalls() == []
    watch.deadlines.start()
    watch.advance(8.5)
    assert watch.expired == []
