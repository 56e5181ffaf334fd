from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from benchmarks.case import WINDOW
from benchmarks.peers.loop import publish_all, publish_in_turn, publish_window


class Held:
    """Hold the Deferred of each publish until the test confirms it."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.published = 0

    def publish(self) -> Deferred[None]:
        self.published += 1
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def confirm(self, count: int) -> None:
        now, self.waiting = self.waiting[:count], self.waiting[count:]
        for deferred in now:
            deferred.callback(None)


@pytest.fixture
def held() -> Held:
    return Held()


def begun(coroutine: Coroutine[Deferred[Any], Any, Any]) -> tuple[Deferred[Any], list[Any]]:
    outcome: Deferred[Any] = Deferred.fromCoroutine(coroutine)
    ended: list[Any] = []
    outcome.addBoth(ended.append)
    return outcome, ended


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Deferred[None]]:
    """Return the turns of the reactor that were asked for; they come when the test fires them."""
    asked: list[Deferred[None]] = []

    def later(reactor: object, seconds: float) -> Deferred[None]:
        asked.append(Deferred())
        return asked[-1]

    monkeypatch.setattr("benchmarks.peers.loop.deferLater", later)
    return asked


def test_the_reactor_has_its_turn_after_so_many(turns: list[Deferred[None]]) -> None:
    published = 0

    def publish() -> Deferred[None]:
        nonlocal published
        published += 1
        return succeed(None)

    _, ended = begun(publish_all(publish, 40, 65536))
    counts = []
    while not ended:
        counts.append(published)
        turns[-1].callback(None)
    assert counts == [16, 32, 40]


def test_a_client_that_asks_to_wait_is_waited_for(held: Held, turns: list[Deferred[None]]) -> None:
    _, ended = begun(publish_all(held.publish, 2, 16))
    assert (held.published, turns) == (1, [])
    held.confirm(1)
    assert (held.published, turns) == (2, [])
    held.confirm(1)
    turns[-1].callback(None)
    assert ended == [None]


def test_the_window_is_filled_and_filled_up_when_half_of_it_is_confirmed(held: Held) -> None:
    _, ended = begun(publish_window(held.publish, 3 * WINDOW))
    assert held.published == WINDOW
    held.confirm(WINDOW // 2 - 1)
    assert held.published == WINDOW
    held.confirm(1)
    assert held.published == WINDOW + WINDOW // 2
    while held.waiting:
        assert len(held.waiting) <= WINDOW
        assert not ended
        held.confirm(WINDOW)
    assert held.published == 3 * WINDOW
    assert ended == [None]


def test_a_count_below_the_window_ends_with_its_last_confirm(held: Held) -> None:
    _, ended = begun(publish_window(held.publish, 3))
    held.confirm(2)
    assert not ended
    held.confirm(1)
    assert ended == [None]


def test_a_publish_that_fails_ends_the_run(held: Held) -> None:
    _, ended = begun(publish_window(held.publish, 3))
    held.waiting.pop().errback(ValueError("refused"))
    assert ended[0].check(ValueError)


def test_in_turn_means_one_at_a_time(held: Held) -> None:
    _, ended = begun(publish_in_turn(held.publish, 3))
    for published in (1, 2, 3):
        assert (held.published, ended) == (published, [])
        held.confirm(1)
    (seconds,) = ended
    assert len(seconds) == 3
    assert all(each > 0 for each in seconds)
