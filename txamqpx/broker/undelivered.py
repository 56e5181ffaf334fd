"""Dead letters that nobody takes: some quorum queues give none of them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txamqpx.broker.message import Entry

__all__ = ["Undelivered", "gives_none_up"]

PAUSE: Final = 180.0
"""After how many seconds a letter is sent again."""


def gives_none_up(arguments: Mapping[str, Any]) -> bool:
    """Return whether a queue's arguments say so: RabbitMQ takes that back if the queue may drop messages."""
    return (
        arguments.get("x-dead-letter-strategy") == "at-least-once"
        and arguments.get("x-overflow") == "reject-publish"
        and "x-dead-letter-exchange" in arguments
    )


class Undelivered:
    """What a queue has dropped and cannot send anywhere yet.

    Args:
        clock: The broker's.
        send: Sends a letter, or puts it here again.
    """

    def __init__(self, clock: IReactorTime, send: Callable[[Entry, str], object]) -> None:
        self._clock = clock
        self._send = send
        self._kept: list[tuple[Entry, str]] = []
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for entry, _ in self._kept)

    def add(self, entry: Entry, reason: str) -> None:
        """Keep a message, and what it died of."""
        self._kept.append((entry, reason))
        if self._timer is None:
            self._timer = self._clock.callLater(PAUSE, self._again)

    def clear(self) -> None:
        """Drop all."""
        self._kept.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._timer = None
        kept, self._kept = self._kept, []
        for entry, reason in kept:
            self._send(entry, reason)
