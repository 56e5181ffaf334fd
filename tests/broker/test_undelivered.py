"""Dead letters that nobody takes: `txamqpx.broker.undelivered`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.broker.yard import Yard, take
from txamqpx.broker.message import Entry
from txamqpx.broker.undelivered import PAUSE, Undelivered, gives_none_up

CAREFUL = {
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "",
}


@pytest.mark.parametrize("change", [{name: None} for name in CAREFUL], ids=repr)
def test_what_it_takes(change: dict[str, Any]) -> None:
    assert gives_none_up(CAREFUL)
    changed = {name: value for name, value in CAREFUL.items() if name not in change}
    assert not gives_none_up(changed)


def test_letters_are_sent_again_until_somebody_takes_them() -> None:
    yard = Yard()
    queue = yard.queue()
    for _ in range(2):
        yard.publish(queue)
    first, second = take(queue), take(queue)
    clock, tries = Clock(), list[tuple[Entry, str]]()

    def send(entry: Entry, reason: str) -> None:
        tries.append((entry, reason))
        if len(tries) < 3:
            kept.add(entry, reason)

    kept = Undelivered(clock, send)
    kept.add(first, "expired")
    clock.advance(PAUSE - 1)
    kept.add(second, "rejected")
    assert (tries, len(kept)) == ([], 2)
    clock.advance(1)
    assert (tries, len(kept)) == ([(first, "expired"), (second, "rejected")], 2)
    clock.advance(PAUSE)
    assert (len(tries), len(kept)) == (4, 0)
    kept.add(first, "expired")
    kept.clear()
    kept.clear()
    clock.advance(PAUSE)
    assert (len(tries), len(kept), clock.getDelayedCalls()) == (4, 0, [])
