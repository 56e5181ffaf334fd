"""The broker's time, on a ``Clock`` and on something that only a reactor's turn moves."""

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.broker.reactor import Reactor
from tests.logged import LoggedErrors
from txamqpx.broker.clock import BrokerClock


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def clock(reactor: Reactor) -> BrokerClock:
    return BrokerClock(reactor)


def test_it_provides_what_it_says(clock: BrokerClock) -> None:
    assert verifyObject(IReactorTime, clock)


def test_time_does_not_go_backwards(clock: BrokerClock) -> None:
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


# --------------------------------------------------------------------------- on a Clock


def test_a_clock_s_calls_happen_in_order_whoever_asked_for_them() -> None:
    base = Clock()
    clock = BrokerClock(base)
    happened: list[tuple[str, float]] = []

    def note(name: str) -> None:
        happened.append((name, clock.seconds()))

    clock.callLater(2, note, "ours")
    base.callLater(1, note, "theirs")
    base.callLater(2, note, name="theirs as well")
    clock.callLater(5, note, "later")
    assert clock.virtual
    assert clock.next_due() == 1
    assert len(clock.getDelayedCalls()) == 4
    clock.advance(3)
    assert happened == [("theirs", 1), ("ours", 2), ("theirs as well", 2)]
    assert base.seconds() == clock.seconds() == 3
    assert clock.next_due() == 5


def test_on_a_clock_everything_settles_before_time_goes_on() -> None:
    base = Clock()
    clock = BrokerClock(base)
    happened: list[tuple[str, float]] = []

    def bounce(times: int) -> None:
        happened.append((f"bounce {times}", clock.seconds()))
        if times:
            base.callLater(0, bounce, times - 1)

    def repeat() -> None:
        happened.append(("repeat", clock.seconds()))
        clock.callLater(1, repeat)

    clock.callLater(1.5, bounce, 2)
    clock.callLater(1, repeat)
    clock.advance(2)
    assert happened == [
        ("repeat", 1),
        ("bounce 2", 1.5),
        ("bounce 1", 1.5),
        ("bounce 0", 1.5),
        ("repeat", 2),
    ]


def test_on_a_clock_a_call_comes_at_its_time_to_the_last_bit() -> None:
    base = Clock()
    clock = BrokerClock(base)
    times: list[float] = []
    for tenths in range(1, 100):
        clock.callLater(tenths / 10, lambda: times.append(clock.seconds()))
    for _ in range(33):
        clock.advance(0.3)
    clock.advance(0.1)
    assert times == [tenths / 10 for tenths in range(1, 100)]


def test_on_a_clock_nobody_can_make_time_pass_from_within_it() -> None:
    base = Clock()
    clock = BrokerClock(base)
    refused: list[str] = []

    def hurry() -> None:
        with pytest.raises(RuntimeError, match="time passes already") as caught:
            clock.advance(60)
        refused.append(str(caught.value))

    clock.callLater(1, hurry)
    clock.advance(2)
    assert len(refused) == 1
    assert "running()" in refused[0]
    assert clock.seconds() == 2
    clock.advance(1)
    assert clock.seconds() == 3


def test_on_a_clock_time_that_somebody_else_lets_pass_is_not_taken_back() -> None:
    base = Clock()
    clock = BrokerClock(base)
    clock.callLater(1, base.advance, 60)
    clock.advance(2)
    assert clock.seconds() == 61


def test_on_a_clock_that_has_nothing_to_do_time_passes() -> None:
    clock = BrokerClock(Clock())
    assert clock.next_due() is None
    clock.advance(0.25)
    assert clock.seconds() == 0.25


# --------------------------------------------------------------------------- on a reactor


def test_without_a_base_it_is_the_reactor_that_is_there() -> None:
    from twisted.internet import reactor

    clock = BrokerClock()
    assert clock.base is reactor
    assert not clock.virtual


def test_many_timers_cost_the_reactor_one(reactor: Reactor, clock: BrokerClock) -> None:
    happened: list[float] = []
    for delay in (3, 1, 2, 1):
        clock.callLater(delay, lambda: happened.append(clock.seconds()))
    assert len(reactor.calls) == 1
    assert clock.next_due() == 1001
    reactor.turn(1)
    assert happened == [1001, 1001]
    assert len(reactor.calls) == 1
    reactor.turn(5)
    assert happened == [1001, 1001, 1006, 1006]
    assert reactor.calls == []
    assert clock.next_due() is None


def test_a_call_of_a_call_waits_for_the_next_turn(reactor: Reactor, clock: BrokerClock) -> None:
    happened: list[str] = []
    clock.callLater(0, lambda: clock.callLater(0, happened.append, "second"))
    reactor.turn()
    assert happened == []
    reactor.turn()
    assert happened == ["second"]


def test_a_call_that_fails_is_logged_and_the_others_are_made(
    reactor: Reactor, clock: BrokerClock, logged_errors: LoggedErrors
) -> None:
    happened: list[str] = []
    clock.callLater(1, lambda: 1 / 0)
    clock.callLater(1, happened.append, "after it")
    reactor.turn(1)
    assert happened == ["after it"]
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


def test_a_call_can_be_put_off_and_brought_forward(reactor: Reactor, clock: BrokerClock) -> None:
    happened: list[str] = []
    late = clock.callLater(1, happened.append, "late")
    late.delay(4)
    soon = clock.callLater(9, happened.append, "soon")
    soon.reset(2)
    assert sorted(call.getTime() for call in clock.getDelayedCalls()) == [1002, 1005]
    assert clock.next_due() == 1002
    reactor.turn(1)
    assert happened == []
    reactor.turn(1)
    assert happened == ["soon"]
    reactor.turn(3)
    assert happened == ["soon", "late"]


def test_when_nothing_is_left_to_call_no_timer_is_left(reactor: Reactor, clock: BrokerClock) -> None:
    first, second = clock.callLater(1, print), clock.callLater(2, print)
    first.cancel()
    assert len(reactor.calls) == 1
    assert clock.getDelayedCalls() == [second]
    second.cancel()
    assert reactor.calls == []
    assert clock.getDelayedCalls() == []


def test_a_cancelled_call_is_passed_over(reactor: Reactor, clock: BrokerClock) -> None:
    happened: list[str] = []
    first = clock.callLater(1, happened.append, "first")
    clock.callLater(2, happened.append, "second")
    first.cancel()
    reactor.turn(1)
    reactor.turn(1)
    assert happened == ["second"]


def test_cancelled_calls_do_not_pile_up(reactor: Reactor, clock: BrokerClock) -> None:
    clock.callLater(100, print)
    for _ in range(1000):
        clock.callLater(50, print).cancel()
    assert len(clock._heap) <= 102
    assert len(clock.getDelayedCalls()) == 1
    assert reactor.asked < 100


def test_time_runs_ahead_of_a_reactor(reactor: Reactor, clock: BrokerClock) -> None:
    happened: list[tuple[str, float]] = []

    def note(name: str) -> None:
        happened.append((name, clock.seconds()))

    def again() -> None:
        note("again")
        clock.callLater(200, again)

    clock.callLater(300, note, "in it")
    clock.callLater(200, again)
    clock.callLater(700, note, "beyond")
    clock.advance(600)
    assert happened == [("again", 1200), ("in it", 1300), ("again", 1400), ("again", 1600)]
    assert clock.seconds() == 1600
    assert reactor.seconds() == 1000
    happened.clear()
    reactor.turn(99)
    assert happened == []
    reactor.turn(1)
    assert happened == [("beyond", 1700)]
    assert clock.seconds() == 1700


def test_a_reactor_s_own_calls_do_not_run_ahead(reactor: Reactor, clock: BrokerClock) -> None:
    happened: list[str] = []
    clock.base.callLater(10, happened.append, "theirs")
    clock.advance(600)
    assert happened == []
