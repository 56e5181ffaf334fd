"""What became of a Deferred, said in one word."""

from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class Outcome(Generic[T]):
    """Watches a Deferred, and holds whatever it came to.

    Attributes:
        values: The result, once there is one.
        failures: The failure, once there is one; it counts as handled.
    """

    def __init__(self, deferred: Deferred[T]) -> None:
        self.values: list[T] = []
        self.failures: list[Failure] = []
        deferred.addCallbacks(self.values.append, self.failures.append)

    @property
    def pending(self) -> bool:
        """Whether it has come to nothing yet."""
        return not self.values and not self.failures

    @property
    def value(self) -> T:
        """The result; anything else fails the test."""
        if self.failures:
            self.failures[0].raiseException()
        assert self.values, "the Deferred has not fired"
        return self.values[0]

    def error(self, kind: type[E]) -> E:
        """Return the error, which has to be of this very class."""
        assert not self.values, f"the Deferred has fired with {self.values[0]!r}"
        assert self.failures, "the Deferred has not fired"
        error = self.failures[0].value
        assert type(error) is kind, f"{error!r} is no {kind.__name__}"
        return error


def success_of(deferred: Deferred[T]) -> T:
    """Return what a Deferred has fired with."""
    return Outcome(deferred).value


def failure_of(deferred: Deferred[Any], kind: type[E]) -> E:
    """Return what a Deferred has failed with, which has to be of this very class."""
    return Outcome(deferred).error(kind)


def is_pending(deferred: Deferred[Any]) -> bool:
    """Whether a Deferred still waits."""
    return not deferred.called
