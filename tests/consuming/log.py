"""What was logged that is no failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer


@implementer(ILogObserver)
class Ear:
    """Keeps what is logged.

    Attributes:
        events: All of it.
    """

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)

    def said(self, words: str) -> list[LogEvent]:
        """Return the events that have these words in their format."""
        return [event for event in self.events if words in str(event["log_format"])]


@contextmanager
def listening() -> Iterator[Ear]:
    """Listen to the log for a block."""
    ear = Ear()
    globalLogPublisher.addObserver(ear)
    yield ear
    globalLogPublisher.removeObserver(ear)
