"""The most that may lie in a queue: `txamqpx.broker.overflow`."""

from __future__ import annotations

from typing import Any, cast

import pytest

from txamqpx.broker.line import WeighedLine
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.overflow import Limit


def line(*bodies: bytes) -> WeighedLine:
    made = WeighedLine()
    for position, body in enumerate(bodies):
        made.append(Entry(message(body), cast(Any, None), position))
    return made


def message(body: bytes) -> Message:
    return Message.of("", "", b"\x00\x00", body)


def test_without_arguments_there_is_none() -> None:
    assert Limit.of({"x-overflow": "reject-publish"}) is None


@pytest.mark.parametrize(
    ("overflow", "refuses", "buries"),
    [
        (None, False, False),
        ("drop-head", False, False),
        ("reject-publish", True, False),
        ("reject-publish-dlx", True, True),
    ],
)
def test_who_has_to_go(overflow: str | None, refuses: bool, buries: bool) -> None:
    limit = Limit.of({"x-max-length": 1} | ({"x-overflow": overflow} if overflow else {}))
    assert limit is not None
    assert (limit.refuses, limit.buries, limit.weighs) == (refuses, buries, False)


@pytest.mark.parametrize(
    ("count", "weight", "room", "left"),
    [
        (3, None, False, 3),
        (4, None, True, 3),
        (0, None, False, 0),
        (None, 6, False, 3),
        (None, 7, True, 3),
        (None, 4, False, 1),
        (2, 3, False, 1),
        (None, 0, False, 0),
    ],
)
def test_what_fits_and_what_is_too_much(count: int | None, weight: int | None, room: bool, left: int) -> None:
    limit = Limit(count, weight)
    ready = line(b"a", b"bb", b"ccc")
    assert limit.has_room(ready, message(b"d")) is room
    dropped = limit.excess(ready)
    assert [entry.position for entry in dropped] == [*range(3 - left)]
    assert len(ready) == left
