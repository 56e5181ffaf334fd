"""Something that happens once and that any number of callers may wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError, twin

__all__ = ["AlreadyFired", "Once"]

T = TypeVar("T")


class AlreadyFired(AMQPError):
    """It has happened before."""


class Once(Generic[T]):
    """A result to come.  Each waiter has a Deferred of its own, so what one does with it hurts no other.

    Attributes:
        fired: Whether it has happened.
    """

    def __init__(self) -> None:
        self._waiters: list[Deferred[T]] = []
        self._give: Callable[[Deferred[T]], None] | None = None
        self.fired = False

    def wait(self) -> Deferred[T]:
        """Return a Deferred of the result; cancelling it cancels only itself."""
        if self._give is not None:
            deferred: Deferred[T] = Deferred()
            self._give(deferred)
            return deferred
        deferred = Deferred(self._waiters.remove)  # who gives up is not kept
        self._waiters.append(deferred)
        return deferred

    def fire(self, result: T) -> None:
        """Let it happen.

        Raises:
            AlreadyFired: It has happened before.
        """
        self._happen(lambda deferred: deferred.callback(result))

    def fail(self, error: AMQPError) -> None:
        """Let it fail; each waiter gets an error of its own.

        Raises:
            AlreadyFired: It has happened before.
        """
        self._happen(lambda deferred: deferred.errback(Failure(twin(error))))

    def _happen(self, give: Callable[[Deferred[T]], None]) -> None:
        if self.fired:
            raise AlreadyFired("this has happened before")
        self.fired = True
        self._give = give
        while self._waiters:  # one of them may give up while another is told
            give(self._waiters.pop(0))
