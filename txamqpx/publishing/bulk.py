"""Many publishes at once: no more of them in memory than the gate lets through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError, NotPublished

__all__ = ["Bulk", "Item", "Summary"]

#: A body, or a body with arguments of ``publish`` that are its own.
Item = bytes | tuple[bytes, Mapping[str, Any]]


@frozen
class Summary:
    """What became of many messages.

    Attributes:
        total: How many were taken.
        failures: The position of each that has another outcome than confirmed, and its error, in order.
        complete: Whether that was all; False if the publisher took no more, and some may be left.
    """

    total: int
    failures: tuple[tuple[int, AMQPError], ...]
    complete: bool = True

    @property
    def confirmed(self) -> int:
        """How many the broker has."""
        return self.total - len(self.failures)


class _Publisher(Protocol):
    """What is needed of a ``Publisher``."""

    @property
    def waiting(self) -> int:
        """How many messages wait for their turn."""

    @property
    def publish(self) -> Callable[..., Deferred[Any]]:
        """What publishes a message."""

    def when_ready(self) -> Deferred[None]:
        """Fire once none waits for its turn."""


class Bulk:
    """Publishes what an iterator yields.

    Args:
        publisher: By whom.
        messages: What.
        common: The arguments of ``publish`` that all of them share.

    Attributes:
        summary: A Deferred of what became of all.
    """

    def __init__(
        self,
        publisher: _Publisher,
        messages: Iterator[Item],
        common: Mapping[str, Any],
    ) -> None:
        self.summary: Deferred[Summary] = Deferred(self._cancelled)
        self._publisher = publisher
        self._messages = messages
        self._common = common
        self._total = 0
        self._outstanding = 0
        self._failures: dict[int, AMQPError] = {}
        self._broken: Failure | None = None
        self._exhausted = False
        self._complete = True
        # Whether a publish is being made.
        self._at_once = False
        self._take()

    def _take(self, _: object = None) -> None:
        publisher = self._publisher
        while not self._exhausted:
            if publisher.waiting:
                publisher.when_ready().addCallback(self._take)
                return
            try:
                item = next(self._messages)
                if isinstance(item, tuple):
                    body, own = item
                    publish = publisher.publish(body, **{**self._common, **own})
                else:
                    publish = publisher.publish(item, **self._common)
            except StopIteration:
                self._exhausted = True
            except Exception:
                self._broken = Failure()
                self._exhausted = True
            else:
                self._watch(publish)
        self._finish()

    def _watch(self, publish: Deferred[Any]) -> None:
        position = self._total
        self._total += 1
        self._outstanding += 1
        self._at_once = True
        publish.addCallbacks(self._done, self._failed, errbackArgs=(position,))
        self._at_once = False

    def _done(self, _: object) -> None:
        self._outstanding -= 1
        if self._exhausted:
            self._finish()

    def _failed(self, failure: Failure, position: int) -> None:
        assert isinstance(failure.value, AMQPError)
        self._failures[position] = failure.value
        if self._at_once and isinstance(failure.value, NotPublished):
            self._exhausted = True  # it takes no more, and what is left may have no end
            self._complete = False
        self._done(None)

    def _finish(self) -> None:
        if self._outstanding or self.summary.called:
            return
        if self._broken is not None:
            self.summary.errback(self._broken)
        else:
            self.summary.callback(Summary(self._total, tuple(sorted(self._failures.items())), self._complete))

    def _cancelled(self, _: object) -> None:
        self._exhausted = True
