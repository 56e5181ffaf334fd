"""Something that happens once and that any number of callers may wait for."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError

__all__ = ["AlreadyFired", "Once"]

T = TypeVar("T")


class AlreadyFired(AMQPError):
    """It has happened before."""


class Once(Generic[T]):
    """A result to come.  Each waiter has a Deferred of its own, so what one does with it hurts no other."""

    def __init__(self) -> None:
        self._waiters: list[Deferred[T]] = []
        self._result: T | Failure | None = None
        self.fired = False

    def wait(self) -> Deferred[T]:
        """Return a Deferred of the result; cancelling it cancels only itself."""
        deferred: Deferred[T] = Deferred()
        if self.fired:
            self._give(deferred)
        else:
            self._waiters.append(deferred)
        return deferred

    def fire(self, result: T) -> None:
        """Let it happen.

        Raises:
            AlreadyFired: It has happened before.
        """
        self._happen(result)

    def fail(self, error: BaseException) -> None:
        """Let it fail; each waiter gets a Failure of its own.

        Raises:
            AlreadyFired: It has happened before.
        """
        self._happen(Failure(error))

    def _happen(self, result: T | Failure) -> None:
        if self.fired:
            raise AlreadyFired("this has happened before")
        self.fired = True
        self._result = result
        waiters, self._waiters = self._waiters, []
        for deferred in waiters:
            self._give(deferred)

    def _give(self, deferred: Deferred[T]) -> None:
        if isinstance(self._result, Failure):
            deferred.errback(Failure(self._result.value))
        else:
            deferred.callback(self._result)  # type: ignore[arg-type]  # None is a T if it is the result
