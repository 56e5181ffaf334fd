"""The order of what is ready: `txamqpx.broker.line`."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txamqpx.broker.line import Line, PriorityLine, Ready, WeighedLine
from txamqpx.broker.message import Entry, Message
from txamqpx.spec.amqp0_9_1 import BasicProperties

KINDS: list[Any] = [Line, WeighedLine, lambda: PriorityLine(3, weighed=True)]


def entry(position: int, priority: int | None = None) -> Entry:
    message = Message.made("", "", BasicProperties(priority=priority), b"x" * (position + 1))
    return Entry(message, cast(Any, None), position)


def positions(line: Ready) -> list[int]:
    return [one.position for one in line]


@pytest.mark.parametrize("make", KINDS)
def test_first_come_first_served(make: Any) -> None:
    line: Ready = make()
    assert (len(line), bool(line)) == (0, False)
    for position in range(4):
        line.append(entry(position))
    assert line[0].position == 0
    assert [line.popleft().position for _ in range(2)] == [0, 1]
    assert positions(line) == [2, 3]
    line.clear()
    assert (len(line), line.weight) == (0, 0)


@given(st.data())
def test_whoever_comes_back_has_the_old_place(data: st.DataObject) -> None:
    line: Ready = data.draw(st.sampled_from(KINDS))()
    entries = [entry(position) for position in range(8)]
    out = data.draw(st.sets(st.sampled_from(range(8))))
    for one in entries:
        if one.position not in out:
            line.append(one)
    back = data.draw(st.permutations(sorted(out)))
    cut = data.draw(st.integers(0, len(back)))
    for some in (back[:cut], back[cut:]):
        line.restore(entries[position] for position in some)
    assert positions(line) == [*range(8)]


class Watched(Entry):
    """A place that counts how often anybody looks at its number."""

    looks = 0

    def __init__(self, position: int) -> None:
        self.number = position

    @property
    def position(self) -> int:  # type: ignore[override]
        Watched.looks += 1
        return self.number


@pytest.mark.parametrize("behind", [0, 500])
def test_many_who_come_back_one_by_one_do_not_wait_for_each_other(behind: int) -> None:
    line = Line(Watched(position) for position in range(500, 500 + behind))
    Watched.looks = 0
    for position in range(500):
        line.restore([Watched(position)])
    assert Watched.looks < 500 * 30
    assert positions(line) == [*range(500 + behind)]


def test_a_line_knows_its_weight() -> None:
    line = WeighedLine()
    entries = [entry(position) for position in range(3)]
    for one in entries:
        line.append(one)
    assert line.weight == 6
    first = line.popleft()
    assert line.weight == 5
    line.restore([first])
    assert line.weight == 6
    assert Line().weight == 0


def test_the_highest_priority_first() -> None:
    line = PriorityLine(3, default=1, weighed=True)
    for position, priority in enumerate([0, 9, None, 3, 1]):
        line.append(entry(position, priority))
    assert positions(line) == [1, 3, 2, 4, 0]
    assert line.weight == 15
    out = [line.popleft() for _ in range(4)]
    assert (line[0].position, len(line)) == (0, 1)
    line.restore([out[1], out[2]])
    assert positions(line) == [3, 2, 0]
    assert len(line) == 3
