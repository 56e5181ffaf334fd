"""When a message that came back is given out again: `txamqpx.broker.retry`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.broker.yard import Yard, bodies, take
from txamqpx.broker.message import Entry
from txamqpx.broker.retry import Delayed, RetryPolicy


def policy(kind: Any = "all", least: Any = 100, most: Any = 250) -> RetryPolicy | None:
    named = {"type": kind, "min": least, "max": most}
    return RetryPolicy.of(
        {f"x-delayed-retry-{name}": value for name, value in named.items() if value is not None}
    )


@pytest.mark.parametrize(
    ("kind", "failed", "released"),
    [("all", 0.1, 0.1), ("failed", 0.1, None), ("returned", None, 0.1)],
)
def test_who_waits(kind: str, failed: float | None, released: float | None) -> None:
    made = policy(kind)
    assert made is not None
    assert made.delay(failed=True, failures=1) == failed
    assert made.delay(failed=False, failures=0) == released


def test_each_failure_makes_it_longer_up_to_a_limit() -> None:
    made = policy()
    assert made is not None
    assert [made.delay(failed=True, failures=number) for number in range(1, 5)] == [0.1, 0.2, 0.25, 0.25]


@pytest.mark.parametrize("most", [None, 0, "x"])
def test_the_least_is_the_most_if_nothing_else_is_said(most: Any) -> None:
    made = policy(most=most)
    assert made is not None
    assert made.most == 100


@pytest.mark.parametrize(
    ("kind", "least"),
    [("disabled", 100), (None, 100), ("some", 100), ("all", None), ("all", 0), ("all", "1")],
)
def test_no_policy(kind: Any, least: Any) -> None:
    assert policy(kind, least) is None


def test_what_waits_comes_when_it_is_due() -> None:
    yard = Yard()
    queue = yard.queue()
    for body in (b"a", b"b", b"c", b"d"):
        yard.publish(queue, body)
    first, second, third, fourth = [take(queue) for _ in range(4)]
    clock, came = Clock(), list[list[bytes]]()

    def due(entries: list[Entry]) -> None:
        came.append(bodies(entries))

    delayed = Delayed(clock, due)
    delayed.add(third, 2)
    delayed.add(fourth, 5)
    delayed.add(second, 1)
    delayed.add(first, 2)
    assert (len(delayed), bodies(delayed)) == (4, [b"b", b"a", b"c", b"d"])
    clock.advance(1)
    assert came == [[b"b"]]
    clock.advance(1)
    assert came == [[b"b"], [b"a", b"c"]]  # the oldest first
    delayed.clear()
    delayed.clear()
    clock.advance(10)
    assert (len(came), len(delayed), clock.getDelayedCalls()) == (2, 0, [])
