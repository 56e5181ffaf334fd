"""How much may lie in a quorum queue: `txamqpx.broker.quorum_limit`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.broker.yard import Yard, bodies
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.quorum_limit import QuorumLimit
from txamqpx.broker.quorum_line import QuorumLine
from txamqpx.spec.amqp0_9_1 import BasicProperties

_QUEUE = Yard().queue()
_MESSAGE = Message.made("", "", BasicProperties(), b"12345")


def limit(waiting: list[object] | None = None, **arguments: Any) -> QuorumLimit:
    named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    made = QuorumLimit.beside(waiting or [], named)
    assert made is not None
    return made


def line(count: int) -> QuorumLine:
    made = QuorumLine(priorities=False, weighed=True)
    for number in range(count):
        made.append(Entry(_MESSAGE, _QUEUE, number))
    return made


def test_no_limit() -> None:
    assert QuorumLimit.beside([], {"x-overflow": "reject-publish"}) is None


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish-dlx"])
def test_the_oldest_has_to_go(overflow: str) -> None:
    made, ready = limit(max_length=2, overflow=overflow), line(3)
    assert not made.refuses
    assert not made.buries
    assert [entry.position for entry in made.excess(ready)] == [0]
    assert made.excess(ready) == []


def test_what_waits_takes_up_room_but_does_not_go() -> None:
    made, ready = limit([object(), object()], max_length=1), line(1)
    assert bodies(made.excess(ready)) == [b"12345"]
    assert made.excess(ready) == []


def test_bytes() -> None:
    made, ready = limit(max_length_bytes=12), line(3)
    assert made.weighs
    assert len(made.excess(ready)) == 1


@pytest.mark.parametrize("arguments", [{"max_length": 5}, {"max_length_bytes": 25}])
def test_who_has_refused_wants_a_fifth_of_the_room(arguments: dict[str, Any]) -> None:
    made, ready = limit(overflow="reject-publish", **arguments), line(5)
    assert made.excess(ready) == []
    assert made.has_room(ready, _MESSAGE)
    ready.append(Entry(_MESSAGE, _QUEUE, 5))
    assert made.excess(ready) == []  # it notices that it is full, too late
    assert not made.has_room(ready, _MESSAGE)
    ready.popleft()
    assert not made.has_room(ready, _MESSAGE)
    ready.popleft()
    assert made.has_room(ready, _MESSAGE)
    assert made.excess(ready) == []
