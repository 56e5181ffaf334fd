"""How long a channel may keep what it has: `txamqpx.broker.patience`."""

from __future__ import annotations

from twisted.internet.task import Clock

from txamqpx.broker.patience import Patience


def test_what_is_kept_for_too_long() -> None:
    clock, held, ends = Clock(), {1: "entry"}, list[float]()
    patience = Patience(clock, 100, held, lambda: ends.append(clock.seconds()))
    seen = [patience.watching]
    patience.start()
    assert [*seen, patience.watching] == [False, True]
    clock.pump([5] * 19)
    assert ends == []
    clock.advance(5)
    assert (ends, patience.watching) == ([100], False)


def test_what_came_later_has_more_time() -> None:
    clock, held, ends = Clock(), {1: "entry"}, list[float]()
    patience = Patience(clock, 100, held, lambda: ends.append(clock.seconds()))
    patience.start()
    clock.pump([5] * 10)
    held[2] = "another"
    clock.pump([5] * 2)
    del held[1]
    clock.pump([5] * 18)
    assert ends == []
    clock.pump([5] * 2)
    assert ends == [155]  # some time after 151, when it had been there for 100 s


def test_nobody_looks_where_nothing_is() -> None:
    clock, held, ends = Clock(), {1: "entry"}, list[float]()
    patience = Patience(clock, 100, held, lambda: ends.append(clock.seconds()))
    patience.start()
    held.clear()
    clock.advance(5)
    assert not patience.watching
    assert clock.getDelayedCalls() == []
    held[2] = "entry"
    patience.start()
    patience.stop()
    patience.stop()
    clock.advance(1000)
    assert ends == []
