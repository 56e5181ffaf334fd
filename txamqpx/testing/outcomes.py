"""What became of a Deferred, said in one word.

They work wherever an ``AssertionError`` fails a test: under trial, pytest and unittest, with no reactor and
no TestCase at hand.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Watched", "failure_of", "is_pending", "success_of"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

NOT_FIRED = "the Deferred has not fired"


class Watched(Generic[T]):
    """Watches a Deferred, and holds whatever it comes to.

    A failure that it holds counts as handled: nothing is logged of it.

    Args:
        deferred: What to watch; from now on its result is None.

    Attributes:
        values: The result, once there is one.
        failures: The failure, once there is one.
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
        """The result.

        Raises:
            AssertionError: There is none yet.
            BaseException: What it has failed with.
        """
        if self.failures:
            self.failures[0].raiseException()
        if not self.values:
            raise AssertionError(NOT_FIRED)
        return self.values[0]

    @overload
    def error(self) -> BaseException: ...
    @overload
    def error(self, kind: type[E]) -> E: ...
    def error(self, kind: type[BaseException] | None = None) -> BaseException:
        """Return the error.

        Args:
            kind: The class that it has to be of, and not of one that is derived from it: among errors that
                are this fine, the derived one says something else.  None: any.

        Raises:
            AssertionError: There is none, or it is another one.
        """
        if self.values:
            raise AssertionError(f"the Deferred has fired with {self.values[0]!r}")
        if not self.failures:
            raise AssertionError(NOT_FIRED)
        error = self.failures[0].value
        assert error is not None
        if kind is not None and type(error) is not kind:
            what = "derived from" if isinstance(error, kind) else "no"
            raise AssertionError(f"{error!r} is {what} {kind.__name__}") from error
        return error


def success_of(deferred: Deferred[T]) -> T:
    """Return what a Deferred has fired with.

    Raises:
        AssertionError: It has not fired yet.
        BaseException: What it has failed with.
    """
    return Watched(deferred).value


@overload
def failure_of(deferred: Deferred[Any]) -> BaseException: ...
@overload
def failure_of(deferred: Deferred[Any], kind: type[E]) -> E: ...
def failure_of(deferred: Deferred[Any], kind: type[BaseException] | None = None) -> BaseException:
    """Return the error that a Deferred has failed with.

    Args:
        deferred: What has failed; the failure counts as handled.
        kind: The very class of the error; None: any.

    Raises:
        AssertionError: It has not failed, or with another error.
    """
    watched = Watched(deferred)
    return watched.error() if kind is None else watched.error(kind)


def is_pending(deferred: Deferred[Any]) -> bool:
    """Whether a Deferred still waits; nothing happens to it."""
    return not deferred.called or deferred.paused > 0  # by one that a callback has returned
