"""By when something has to be settled: `txamqpx.broker.tardiness`."""

from __future__ import annotations

from math import inf

from twisted.internet.task import Clock

from tests.broker.yard import Yard, take
from txamqpx.broker.message import Entry
from txamqpx.broker.quorum import QuorumEntry
from txamqpx.broker.tardiness import Tardiness


class Given:
    """Some messages that were given out, and what is told of them."""

    def __init__(self, count: int) -> None:
        yard = Yard()
        queue = yard.queue()
        for _ in range(count):
            yard.publish(queue)
        self.entries = [QuorumEntry(take(queue).message, queue, number) for number in range(count)]
        self.unsettled: dict[Entry, None] = dict.fromkeys(self.entries)
        self.clock = Clock()
        self.late: list[tuple[float, int]] = []
        self.tardiness = Tardiness(self.clock, self.unsettled, self._late)

    def _late(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.late.append((self.clock.seconds(), entry.position))
            del self.unsettled[entry]


def test_what_is_late_is_told_of_when_it_is() -> None:
    given = Given(3)
    given.tardiness.note([(given.entries[0], 10), (given.entries[1], 5)])
    given.clock.advance(2)
    given.tardiness.note([(given.entries[2], 4)])
    del given.unsettled[given.entries[1]]
    given.clock.pump([1] * 20)
    assert given.late == [(6, 2), (10, 0)]
    assert given.clock.getDelayedCalls() == []


def test_who_has_any_time_is_never_late() -> None:
    given = Given(1)
    given.tardiness.note([(given.entries[0], inf)])
    assert given.clock.getDelayedCalls() == []


def test_nobody_looks_any_more() -> None:
    given = Given(1)
    given.tardiness.note([(given.entries[0], 1)])
    given.tardiness.stop()
    given.tardiness.stop()
    given.clock.advance(10)
    assert given.late == []
