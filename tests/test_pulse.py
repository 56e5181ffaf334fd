from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from txamqpx.pulse import Pulse


class Turns(Clock):
    """A clock that turns like a reactor: what asks during a turn for 0 seconds waits for the next one."""

    def turn(self, seconds: float = 0.0) -> None:
        self.rightNow += seconds
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class Heart:
    def __init__(self, interval: float = 10.0, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.beats: list[float] = []
        self.dead: list[tuple[float, float, float]] = []
        self.pulse = Pulse(
            self.clock, interval, lambda: self.beats.append(self.clock.seconds()), self.it_is_dead
        )

    def it_is_dead(self, silence: float, late: float) -> None:
        self.dead.append((self.clock.seconds(), silence, late))

    def run(self, seconds: float, *, hearing: bool = True) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            if hearing:
                self.pulse.received = self.clock.seconds()


@pytest.mark.covers("T-HB-01", "K07", "T14")
def test_it_beats_after_half_an_interval_of_silence_of_our_own() -> None:
    heart = Heart(10.0)
    heart.run(21)
    assert heart.beats == [5.0, 10.0, 15.0, 20.0]


@pytest.mark.covers("T-HB-01")
def test_who_writes_need_not_beat() -> None:
    heart = Heart(10.0)
    for _ in range(40):
        heart.clock.advance(0.5)
        heart.pulse.sent = heart.pulse.received = heart.clock.seconds()
    assert heart.beats == []
    heart.run(5)
    assert heart.beats == [25.0]


@pytest.mark.covers("T-HB-01")
@pytest.mark.parametrize("interval", [1.0, 10.0, 60.0])
def test_a_silent_peer_is_dead_after_two_intervals_and_not_half_a_second_later(interval: float) -> None:
    heart = Heart(interval)
    while not heart.dead:
        heart.clock.advance(0.125)
    ((when, silence, late),) = heart.dead
    assert 2 * interval <= when <= 2 * interval + 0.5
    assert silence == when
    assert late < 0.5
    assert heart.clock.getDelayedCalls() == []
    assert len(heart.beats) == 3


@pytest.mark.covers("T-HB-01")
def test_any_sign_of_life_counts() -> None:
    heart = Heart(10.0)
    for _ in range(20):
        heart.clock.advance(19.9)
        heart.pulse.received = heart.clock.seconds()
    assert heart.dead == []


@pytest.mark.covers("T-HB-03")
def test_after_a_stall_the_reactor_reads_before_anybody_is_blamed() -> None:
    clock = Turns()
    heart = Heart(10.0, clock)
    clock.turn(300.0)
    assert heart.dead == []
    heart.pulse.received = clock.seconds()  # what the reactor reads in between
    clock.turn()
    assert heart.dead == []
    assert len(clock.getDelayedCalls()) == 1


@pytest.mark.covers("T-HB-03")
def test_the_length_of_a_stall_is_told() -> None:
    clock = Turns()
    heart = Heart(10.0, clock)
    clock.turn(5.0)
    clock.turn(300.0)
    clock.turn()
    assert heart.dead == [(305.0, 305.0, 295.0)]


@pytest.mark.covers("T-HB-06")
def test_while_we_do_not_read_nobody_is_blamed_and_we_still_beat() -> None:
    heart = Heart(10.0)
    heart.pulse.suspend()
    heart.run(100, hearing=False)
    assert heart.dead == []
    assert len(heart.beats) == 20
    heart.pulse.resume()
    heart.clock.advance(19.0)
    assert heart.dead == []
    heart.run(2, hearing=False)
    assert len(heart.dead) == 1


def test_a_pause_that_begins_after_the_verdict_was_asked_for_stays_it() -> None:
    clock = Turns()
    heart = Heart(10.0, clock)
    clock.turn(20.0)
    heart.pulse.suspend()
    clock.turn()
    assert heart.dead == []
    assert len(clock.getDelayedCalls()) == 1


def test_a_beat_that_writes_nothing_is_not_repeated_at_once() -> None:
    heart = Heart(10.0)
    heart.clock.advance(5.0)
    heart.clock.advance(0.0)
    assert heart.beats == [5.0]


@pytest.mark.covers("T-HB-01")
def test_one_timer_and_none_after_it_was_stopped() -> None:
    heart = Heart(10.0)
    for _ in range(10):
        heart.run(7)
        assert len(heart.clock.getDelayedCalls()) == 1
    heart.pulse.stop()
    assert heart.clock.getDelayedCalls() == []
    heart.pulse.stop()
    heart.clock.advance(1000)
    assert heart.dead == []


def test_it_can_be_stopped_by_the_beat_and_by_the_verdict() -> None:
    clock = Clock()
    stopped: list[float] = []

    def stop(*_: float) -> None:
        pulse.stop()
        stopped.append(clock.seconds())

    pulse = Pulse(clock, 10.0, stop, lambda *_: None)
    clock.pump([1.0] * 30)
    pulse = Pulse(clock, 10.0, lambda: None, stop)
    clock.pump([1.0] * 30)
    assert stopped == [5.0, 50.0]
    assert clock.getDelayedCalls() == []


class Hurried(Clock):
    """A clock that does not let anybody ask for more and more calls while no time passes."""

    asked = 0

    def callLater(self, *call: object, **options: object) -> object:  # type: ignore[override]
        self.asked += 1
        assert self.asked < 100
        return super().callLater(*call, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [0.1, 0.3, 0.7])
def test_a_last_bit_of_time_does_not_keep_it_busy_for_ever(start: float) -> None:
    clock = Hurried()
    clock.advance(start)
    heart = Heart(1.0, clock)
    for _ in range(3):
        clock.advance(1)
    assert heart.beats
    assert len(heart.dead) == 1
