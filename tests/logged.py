"""Failures that somebody logged: each one has to be expected by the test in which it happened."""

import gc

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ILogObserver)
class LoggedErrors:
    """The failures that were logged since `start` and that nobody has taken yet.

    A Deferred that failed and that nobody listened to logs its failure when it is collected, so this also
    sees the failures that a caller dropped on the floor.
    """

    def __init__(self) -> None:
        self._events: list[LogEvent] = []

    def start(self) -> None:
        """Begin to watch the log."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> str:
        """End watching.

        Returns:
            What nobody has taken, as text; empty if that is nothing.
        """
        gc.collect(1)
        globalLogPublisher.removeObserver(self)
        return "\n".join(map(_text, self._events))

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take the failures of the given types, or all if none is given: they were expected.

        Returns:
            What was taken, oldest first; the test should say how many there have to be.
        """
        gc.collect(1)
        taken = [event for event in self._events if not types or event["log_failure"].check(*types)]
        self._events = [event for event in self._events if event not in taken]
        return [event["log_failure"] for event in taken]

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self._events.append(event)


def _text(event: LogEvent) -> str:
    return f"{event.get('log_namespace')}: {formatEvent(event)}\n{event['log_failure'].getTraceback()}"
