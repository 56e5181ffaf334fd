from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txamqpx.consuming.line import Line


class Item:
    def __init__(self, number: int, key: Any = None) -> None:
        self.number = number
        self.key = key


def by_key(item: Item) -> Hashable:
    key: Hashable = item.key
    return key


def called(line: Line[Item]) -> list[int]:
    """Call all who may begin."""
    numbers = []
    while (item := line.call()) is not None:
        numbers.append(item.number)
    return numbers


def test_without_a_key_all_are_called_in_order() -> None:
    line: Line[Item] = Line()
    items = [Item(number) for number in range(3)]
    for item in items:
        line.put(item)
    assert len(line) == 3
    assert items[2] in line
    assert called(line) == [0, 1, 2]
    line.done(items[0])
    assert len(line) == 0
    assert items[2] not in line


def test_an_equal_begins_when_the_one_before_it_has_ended() -> None:
    line = Line(by_key)
    a, b, c, d = Item(1, "x"), Item(2, "x"), Item(3, "y"), Item(4, "x")
    for item in (a, b, c, d):
        line.put(item)
    assert called(line) == [1, 3]
    assert b in line
    assert len(line) == 2
    line.done(c)
    assert called(line) == []
    line.done(a)
    assert called(line) == [2]
    line.done(b)
    assert called(line) == [4]
    line.done(d)
    line.put(a)
    assert called(line) == [1]


def test_a_key_that_cannot_be_told_leaves_no_trace() -> None:
    line = Line(by_key)
    with pytest.raises(TypeError):
        line.put(Item(1, []))
    line.done(Item(2, "x"))
    assert len(line) == 0
    assert called(line) == []


def test_who_is_removed_makes_way_for_his_equals() -> None:
    line = Line(by_key)
    items = [Item(1, "x"), Item(2, "x"), Item(3, "x"), Item(4, "y")]
    for item in items:
        line.put(item)
    removed = line.remove(lambda item: item.number in (1, 2))
    assert sorted(item.number for item in removed) == [1, 2]
    assert len(line) == 2
    assert called(line) == [4, 3]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_equals_are_called_in_order_and_never_two_at_a_time(steps: list[tuple[str, bool]]) -> None:
    line = Line(by_key)
    at_work: list[Item] = []
    order: list[Item] = []
    for number, (key, end_one) in enumerate(steps):
        line.put(Item(number, key))
        while (item := line.call()) is not None:
            assert item.key not in [one.key for one in at_work]
            at_work.append(item)
            order.append(item)
        if end_one and at_work:
            line.done(at_work.pop(0))
    while at_work or len(line):
        if at_work:
            line.done(at_work.pop(0))
        while (item := line.call()) is not None:
            at_work.append(item)
            order.append(item)
    assert len(order) == len(steps)
    for key in "abc":
        numbers = [item.number for item in order if item.key == key]
        assert numbers == sorted(numbers)
