from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool

from txamqpx.testing import Watched, virtual
from txamqpx.testing.virtual import VirtualClock


class World:
    """A clock, what drives it, and what has happened when."""

    def __init__(self) -> None:
        self.turns: deque[Callable[[], object]] = deque()
        self.clock = VirtualClock(self.turns.append)
        self.seen: list[tuple[float, str]] = []

    def saw(self, what: str) -> str:
        self.seen.append((self.clock.seconds(), what))
        return what

    def turn(self) -> None:
        """Make one turn of what drives the clock."""
        for _ in range(len(self.turns)):
            self.turns.popleft()()

    def drive(self) -> None:
        """Make turns until there is nothing to do in one."""
        while self.turns:
            self.turn()

    def settle(self) -> Watched[None]:
        settling = Watched(Deferred.fromCoroutine(self.clock.settle()))
        self.drive()
        return settling

    def advance(self, seconds: float) -> None:
        passing = Watched(Deferred.fromCoroutine(self.clock.pass_time(seconds)))
        self.drive()
        assert passing.value is None

    def defer(self, call: Any, *arguments: Any) -> Watched[Any]:
        reactor: Any = self.clock
        return Watched(deferToThreadPool(reactor, reactor.getThreadPool(), call, *arguments))


@pytest.fixture
def world() -> World:
    return World()


def test_a_call_without_delay_is_made_in_the_next_turn(world: World) -> None:
    world.clock.callLater(0, world.saw, "first")
    world.clock.callLater(0, world.saw, "second")
    assert world.seen == []
    assert len(world.turns) == 1
    world.turn()
    assert world.seen == [(0, "first"), (0, "second")]
    assert not world.turns


def test_what_a_call_asks_for_is_for_the_turn_after(world: World) -> None:
    world.clock.callLater(0, world.clock.callLater, 0, world.saw, "later")
    world.turn()
    assert world.seen == []
    world.turn()
    assert world.seen == [(0, "later")]


def test_a_call_may_be_cancelled_by_one_before_it(world: World) -> None:
    def cancel() -> None:
        second.cancel()

    world.clock.callLater(0, cancel)
    second = world.clock.callLater(0, world.saw, "second")
    world.drive()
    assert world.seen == []


def test_a_call_that_fails_keeps_nobody_from_his_turn(world: World) -> None:
    world.clock.callLater(0, divmod, 1, 0)
    world.clock.callLater(0, world.saw, "second")
    with pytest.raises(ZeroDivisionError):
        world.turn()
    world.turn()
    assert world.seen == [(0, "second")]


def test_time_stands_still(world: World) -> None:
    world.clock.callLater(0.001, world.saw, "later")
    world.settle()
    assert world.clock.seconds() == 0
    assert world.seen == []


def test_each_call_is_made_at_its_time_and_all_that_it_causes(world: World) -> None:
    def tick(number: int) -> None:
        world.clock.callLater(0, world.saw, f"effect {number}")
        if number < 3:
            world.clock.callLater(0.1, tick, number + 1)

    world.clock.callLater(0.1, tick, 1)
    world.clock.callLater(0.2, world.saw, "between")
    world.advance(0.25)
    assert world.seen == [(0.1, "effect 1"), (0.2, "between"), (0.2, "effect 2")]
    assert world.clock.seconds() == 0.25
    world.advance(1)
    assert len(world.seen) == 4


def test_a_call_that_is_put_off_is_made_then(world: World) -> None:
    world.clock.callLater(1, world.saw, "put off").delay(5)
    world.clock.callLater(2, world.saw, "in time")
    world.advance(3)
    assert world.seen == [(2, "in time")]
    world.advance(3)
    assert world.seen == [(2, "in time"), (6, "put off")]


def test_a_call_that_is_made_earlier_is_made_then(world: World) -> None:
    call = world.clock.callLater(5, world.saw, "now")
    call.reset(0)
    world.drive()
    assert world.seen == [(0, "now")]


def test_what_has_no_end_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def again() -> None:
        world.clock.callLater(0, again)

    monkeypatch.setattr(virtual, "MOST_TURNS", 100)
    again()
    settling = Watched(Deferred.fromCoroutine(world.clock.settle()))
    while settling.pending:
        world.turn()
    assert "there is something to do still after 100 turns" in str(settling.error(AssertionError))


def test_who_advances_it_as_a_clock_finds_each_call_made_at_its_time_as_well(world: World) -> None:
    def attempt() -> None:
        world.saw("attempt")
        world.clock.callLater(60, attempt)
        world.clock.callLater(0, world.saw, "what it causes")

    world.clock.callLater(60, attempt)
    world.clock.advance(150)
    both = ["attempt", "what it causes"]
    assert world.seen == [*((60, what) for what in both), *((120, what) for what in both)]
    assert world.clock.seconds() == 150
    world.drive()
    assert len(world.seen) == 4


def test_as_a_clock_it_has_no_time_without_end_and_none_that_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> None:
        world.clock.callLater(0, again)

    monkeypatch.setattr(virtual, "MOST_TURNS", 50)
    world.clock.callLater(1, again)
    with pytest.raises(AssertionError, match="there is something to do still after 50 turns"):
        world.clock.advance(2)
    with pytest.raises(ValueError, match="backwards"):
        world.clock.advance(-1)


def test_what_comes_from_elsewhere_belongs_to_it(world: World) -> None:
    world.turns.append(lambda: world.clock.callLater(0, world.saw, "from elsewhere"))
    settling = Deferred.fromCoroutine(world.clock.settle())
    settling.addCallback(lambda _: world.saw("settled"))
    world.drive()
    assert world.seen == [(0, "from elsewhere"), (0, "settled")]


def test_a_clock_that_was_closed_turns_no_more(world: World) -> None:
    world.clock.callLater(0, world.saw, "never")
    world.clock.close()
    world.clock.callLater(0, world.saw, "never")
    assert len(world.turns) == 1
    world.drive()
    assert world.seen == []


# --------------------------------------------------------------------------- threads


def test_a_thread_has_ended_when_all_is_settled(world: World) -> None:
    done = world.defer(world.saw, "in a thread")
    assert done.pending
    world.settle()
    assert done.value == "in a thread"


def test_threads_run_one_after_the_other(world: World) -> None:
    first_has_ended = Event()
    world.defer(first_has_ended.set)
    second = world.defer(first_has_ended.is_set)
    world.settle()
    assert second.value is True


def test_a_thread_may_wait_for_what_takes_turns(world: World) -> None:
    def answer() -> Deferred[str]:
        deferred: Deferred[str] = Deferred()
        world.clock.callLater(0, world.clock.callLater, 0, deferred.callback, "answer")
        return deferred

    done = world.defer(blockingCallFromThread, world.clock, answer)
    world.settle()
    assert done.value == "answer"


def test_a_thread_may_wait_for_what_nobody_here_knows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "GLANCE", 0.001)
    told = Event()
    done = world.defer(told.wait)
    for _ in range(3):
        world.turn()
    assert done.pending
    told.set()
    world.settle()
    assert done.value is True


def test_a_thread_that_waits_for_time_is_found_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer() -> Deferred[str]:
        deferred: Deferred[str] = Deferred()
        world.clock.callLater(5, deferred.callback, "too late")
        return deferred

    monkeypatch.setattr(virtual, "GLANCE", 0.001)
    monkeypatch.setattr(virtual, "MOST_SILENCE", 20)
    done = world.defer(blockingCallFromThread, world.clock, answer)
    settling = Watched(Deferred.fromCoroutine(world.clock.settle()))
    while settling.pending:
        world.turn()
    assert "does it wait for time to pass" in str(settling.error(AssertionError))
    world.clock.advance(5)
    world.settle()
    assert done.value == "too late"


def test_a_call_from_the_same_thread_is_made_in_the_next_turn(world: World) -> None:
    world.clock.callFromThread(world.saw, what="called")
    assert world.seen == []
    world.settle()
    assert world.seen == [(0, "called")]


def test_a_call_from_a_strange_thread_is_made_in_this_one(world: World) -> None:
    from_thread: list[Callable[[], object]] = []
    clock = VirtualClock(world.turns.append, from_thread.append)
    thread = Thread(target=clock.callFromThread, args=(world.saw, "called"))
    thread.start()
    thread.join()
    assert not world.turns
    (wake,) = from_thread
    wake()
    world.drive()
    assert world.seen == [(0, "called")]
