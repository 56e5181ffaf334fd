"""Whose turn it is: `txamqpx.broker.turns`."""

from __future__ import annotations

import pytest

from tests.broker.yard import Mouth, Yard
from txamqpx.broker.consumer import Consumer
from txamqpx.broker.turns import SingleActive, Turns

_QUEUE = Yard().queue()


class Closed(Mouth):
    """A channel's side that can take nothing."""

    def can_take(self, consumer: Consumer) -> bool:
        """Take nothing."""
        return False


def consumer(tag: str, prefetch: int = 0, *, priority: int = 0, mouth: Mouth | None = None) -> Consumer:
    arguments = {"x-priority": priority}
    return Consumer(
        tag, _QUEUE, mouth or Mouth(), no_ack=False, exclusive=False, arguments=arguments, prefetch=prefetch
    )


def give(turns: Turns, count: int = 1) -> str:
    """Give out messages, and return the tags of who got them."""
    tags = []
    for _ in range(count):
        if (one := turns.next()) is not None:
            one.unsettled += 1
        tags.append("-" if one is None else one.tag)
    return "".join(tags)


def settle(turns: Turns, one: Consumer, count: int = 1) -> None:
    one.unsettled -= count
    if one.is_out:
        turns.rejoin(one)


def lined_up(turns: Turns, *consumers: Consumer) -> None:
    for one in consumers:
        turns.add(one)


# --------------------------------------------------------------------------- many


def test_equals_take_turns() -> None:
    turns = Turns()
    assert (len(turns), turns.next(), turns.active) == (0, None, None)
    a, b = consumer("a"), consumer("b")
    lined_up(turns, a, b)
    assert give(turns, 5) == "ababa"
    assert (len(turns), [*turns], a in turns) == (2, [a, b], True)
    turns.remove(a)
    assert give(turns, 2) == "bb"
    assert a not in turns


def test_who_can_take_no_more_joins_the_line_again_at_its_end() -> None:
    turns = Turns()
    a, b = consumer("a", 1), consumer("b", 3)
    lined_up(turns, a, b)
    assert give(turns, 5) == "abbb-"
    assert a.is_out
    assert b.is_out
    settle(turns, b)
    settle(turns, a)
    assert give(turns, 3) == "ba-"
    settle(turns, a)
    turns.paused(a)
    assert give(turns) == "a"


def test_who_has_no_credit_stays_out() -> None:
    turns = Turns()
    a = consumer("a", 1)
    lined_up(turns, a)
    assert give(turns, 2) == "a-"
    turns.rejoin(a)
    seen = [a.is_out]
    a.unsettled = 0
    turns.rejoin_all()
    assert [*seen, a.is_out] == [True, False]
    assert give(turns) == "a"


def test_the_highest_priority_comes_first() -> None:
    turns = Turns()
    low, high, other = consumer("l", priority=-1), consumer("h", 2, priority=9), consumer("o", 1, priority=9)
    middle = consumer("m", 1)
    lined_up(turns, low, high, middle, other)
    assert give(turns, 6) == "hohmll"
    settle(turns, high)
    settle(turns, middle)
    assert give(turns, 3) == "hml"


def test_a_channel_that_can_take_nothing_leaves_its_turn_to_others() -> None:
    turns = Turns()
    deaf, keen = consumer("d", mouth=Closed()), consumer("k")
    lined_up(turns, deaf, keen)
    assert give(turns, 2) == "kk"
    seen = [deaf.is_out]
    turns.remove(deaf)
    assert [*seen, deaf.is_out] == [True, False]
    lined_up(turns, deaf)
    give(turns)
    assert turns.clear() == [keen, deaf]
    assert (len(turns), give(turns)) == (0, "-")


def test_a_priority_that_nobody_has_any_more_is_forgotten() -> None:
    turns = Turns()
    for priority in range(20):
        one = consumer("1", 1, priority=priority)
        lined_up(turns, one)
        give(turns, priority % 3)  # it goes while it is in the line, and while it is out of it
        turns.remove(one)
    assert turns._lines == turns._ranks == []
    a, b, low = consumer("a", 1, priority=1), consumer("b", 1, priority=1), consumer("l", 9)
    lined_up(turns, a, b, low)
    assert give(turns, 3) == "abl"
    turns.remove(a)
    settle(turns, b)
    assert give(turns, 2) == "bl"
    assert len(turns._lines) == 2


# --------------------------------------------------------------------------- one at a time


@pytest.mark.parametrize(("by_priority", "order"), [(True, "achb"), (False, "abch")])
def test_one_gets_all_until_it_ends(by_priority: bool, order: str) -> None:
    turns = SingleActive(by_priority=by_priority)
    assert give(turns) == "-"
    a, b, c = consumer("a"), consumer("b"), consumer("c", priority=5)
    late = consumer("h", priority=5)
    lined_up(turns, a, b, c, late)
    for tag in order:
        assert give(turns, 2) == tag * 2
        active = turns.active
        assert active is not None
        turns.remove(active)
    assert turns.active is None
    assert give(turns) == "-"


def test_nobody_stands_in_for_the_active_one() -> None:
    turns = SingleActive(by_priority=True)
    a, b = consumer("a", 1), consumer("b")
    lined_up(turns, a, b)
    assert give(turns, 2) == "a-"
    settle(turns, a)
    turns.rejoin_all()
    assert give(turns) == "a"
    turns.remove(b)
    assert turns.active is a
    deaf = SingleActive(by_priority=True)
    lined_up(deaf, consumer("d", mouth=Closed()), b)
    assert give(deaf) == "-"


def test_who_is_more_important_takes_over_from_who_has_nothing() -> None:
    turns = SingleActive(by_priority=True, takes_over=True)
    a, equal, high = consumer("a"), consumer("e"), consumer("h", priority=1)
    lined_up(turns, a, equal)
    assert turns.active is a
    lined_up(turns, high)
    assert turns.active is high
    turns.remove(high)
    assert turns.active is a


def test_who_is_more_important_waits_until_the_active_one_has_settled_all() -> None:
    turns = SingleActive(by_priority=True, takes_over=True)
    a, high = consumer("a"), consumer("h", priority=1)
    lined_up(turns, a)
    assert give(turns, 2) == "aa"
    lined_up(turns, high)
    assert give(turns) == "-"
    settle(turns, a)
    assert give(turns) == "-"
    settle(turns, a)
    assert give(turns, 2) == "hh"
    assert not a.is_out


def test_of_equals_that_with_the_most_room_is_next_where_one_takes_over() -> None:
    turns = SingleActive(by_priority=True, takes_over=True)
    a, small, large = consumer("a"), consumer("s", 1), consumer("l", 5)
    lined_up(turns, a, small, large)
    turns.remove(a)
    assert turns.active is large


def test_who_is_paused_is_not_chosen() -> None:
    turns = SingleActive(by_priority=True, takes_over=True)
    a, b = consumer("a"), consumer("b")
    lined_up(turns, a, b)
    seen = []
    a.limit = 0
    turns.paused(a)
    seen.append(turns.active)
    b.limit = 0
    turns.paused(b)
    seen.append(turns.active)
    a.limit = 1
    turns.paused(b)
    turns.rejoin(a)
    assert [*seen, turns.active] == [b, None, a]
    turns.remove(b)
    assert give(turns, 2) == "a-"
