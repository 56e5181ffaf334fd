"""What the time does to a queue: `txamqpx.broker.expiry`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from txamqpx.broker.expiry import Expiry
from txamqpx.broker.line import Line
from txamqpx.broker.message import Entry, Message


class Stage:
    """An expiry, and what it did."""

    def __init__(self, lease: float | None = None, start: float = 0.0) -> None:
        self.clock = Clock()
        self.clock.advance(start)
        self.line = Line()
        self.used = False
        self.gone: list[tuple[float, int]] = []
        self.ended: list[float] = []
        self.expiry = Expiry(
            self.clock,
            self.line,
            lease=lease,
            is_used=lambda: self.used,
            expired=self._note,
            ended=lambda: self.ended.append(self.clock.seconds()),
        )

    def add(self, ttl: int | None) -> Entry:
        entry = Entry(Message.of("", "", b"\x00\x00", b""), cast(Any, None), len(self.line))
        if ttl is not None:
            entry.expires = self.expiry.time_of(None, ttl)
        self.line.append(entry)
        self.expiry.sweep()
        return entry

    @property
    def timers(self) -> int:
        return len(self.clock.getDelayedCalls())

    def _note(self, entries: Sequence[Entry]) -> None:
        self.gone += [(self.clock.seconds(), entry.position) for entry in entries]


def test_messages_go_when_their_time_has_come() -> None:
    stage = Stage()
    for ttl in (1000, 2000, 2000):
        stage.add(ttl)
        assert stage.timers == 1
    stage.clock.pump([0.5, 0.5, 0.5, 0.5])
    assert stage.gone == [(1.0, 0), (2.0, 1), (2.0, 2)]
    assert stage.timers == 0


def test_a_message_without_time_goes_at_once() -> None:
    stage = Stage()
    stage.add(0)
    assert (stage.gone, stage.timers) == ([(0.0, 0)], 0)


def test_behind_the_head_nothing_happens() -> None:
    stage = Stage()
    head = stage.add(None)
    stage.add(1000)
    assert stage.timers == 0
    stage.clock.advance(5)
    assert stage.gone == []
    assert stage.line.popleft() is head
    stage.expiry.sweep()
    assert stage.gone == [(5.0, 1)]


def test_a_head_that_goes_first_makes_the_timer_earlier_and_none_makes_it_later() -> None:
    stage = Stage()
    late = stage.add(9000)
    stage.line.popleft()
    stage.add(1000)
    assert [call.getTime() for call in stage.clock.getDelayedCalls()] == [1.0]
    stage.line.clear()
    stage.line.append(late)
    stage.expiry.sweep()
    assert [call.getTime() for call in stage.clock.getDelayedCalls()] == [1.0]
    stage.clock.advance(1)
    assert [call.getTime() for call in stage.clock.getDelayedCalls()] == [9.0]


def test_the_shortest_time_counts() -> None:
    stage = Stage(start=10.0)
    assert stage.expiry.time_of(3000, 2000) == 12.0
    assert stage.expiry.time_of(3000, None) == 13.0


def test_a_lease_runs_out() -> None:
    stage = Stage(lease=3.0)
    stage.clock.advance(2)
    stage.expiry.renew()
    assert stage.timers == 1
    stage.clock.pump([2.9, 0.1, 1.0])
    assert (stage.ended, stage.timers) == ([5.0], 0)


def test_use_is_longer_than_any_lease() -> None:
    stage = Stage(lease=3.0)
    stage.used = True
    stage.clock.advance(10)
    assert (stage.ended, stage.timers) == ([], 0)
    stage.used = False
    stage.expiry.renew()
    stage.clock.advance(3)
    assert stage.ended == [13.0]


def test_messages_grow_old_within_a_lease() -> None:
    stage = Stage(lease=3.0)
    stage.add(1000)
    assert stage.timers == 1
    stage.clock.advance(1)
    assert stage.gone == [(1.0, 0)]
    stage.clock.advance(2)
    assert stage.ended == [3.0]


def test_what_has_ended_looks_no_more() -> None:
    stage = Stage(lease=3.0)
    stage.expiry.stop()
    stage.expiry.stop()
    stage.expiry.renew()
    assert stage.timers == 0


@given(st.floats(0, 2e9), st.integers(1, 10**7))
def test_the_last_bit_of_a_time_is_not_waited_for(start: float, ttl: int) -> None:
    stage = Stage(start=start)
    stage.add(ttl)
    for _ in range(3):
        for call in stage.clock.getDelayedCalls():
            stage.clock.rightNow = call.getTime()
        stage.clock.advance(0)
    assert len(stage.gone) == 1
