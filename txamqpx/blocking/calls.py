"""From the methods of the asynchronous client to calls that wait, and to calls that only begin."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Semaphore
from typing import Concatenate, Generic, ParamSpec, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from txamqpx.blocking.operation import USUAL, Operation, Timeout, Usual
from txamqpx.blocking.reactor_thread import ReactorThread
from txamqpx.errors import WaitTimeout

__all__ = ["Beginning", "Calls", "begun"]

P = ParamSpec("P")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")


@frozen
class Calls:
    """How the objects of a client call what they stand for.

    Attributes:
        thread: Where the reactor runs.
        usual: Seconds to wait for what says nothing of it; None: no limit.
    """

    thread: ReactorThread
    usual: float | None

    def seconds(self, timeout: Timeout) -> float | None:
        """Return how long to wait."""
        return self.usual if isinstance(timeout, Usual) else timeout

    def finish(self, name: str, function: Callable[[], Deferred[T]], timeout: Timeout = USUAL) -> T:
        """Call a function on the reactor's thread, and wait for its result.

        Raises:
            WaitTimeout: It took too long, and was given up.
            WrongThread: This is the reactor's thread.
            ForkedProcess: The reactor is in another process.
            ReactorStopped: It has stopped.
            Exception: What it failed with.
        """
        return self.thread.begin(name, function).finish(self.seconds(timeout))


class Beginning(Generic[S_co]):
    """The calls of ``subject``, each of which returns an ``Operation`` at once.

    They happen in the order in which a thread begins them.  So many may be outstanding; to begin more
    waits for the end of one.
    """

    def __init__(self, subject: S_co, calls: Calls, room: Semaphore) -> None:
        self._subject = subject
        self._calls = calls
        self._room = room

    def _begin(self, name: str, function: Callable[[], Deferred[T]]) -> Operation[T]:
        self._calls.thread.check()
        if not self._room.acquire(timeout=self._calls.usual):
            assert self._calls.usual is not None
            raise WaitTimeout("one of the many operations that were begun before", self._calls.usual)
        try:
            return self._calls.thread.begin(name, function, self._room)
        except BaseException:
            self._room.release()
            raise


def begun(
    method: Callable[Concatenate[S_co, P], Deferred[T]],
) -> Callable[Concatenate[Beginning[S_co], P], Operation[T]]:
    """Return a method of a ``Beginning`` that begins ``method``, with the same arguments."""

    @wraps(method)
    def begin(self: Beginning[S_co], /, *args: P.args, **kwargs: P.kwargs) -> Operation[T]:
        return self._begin(method.__name__, lambda: method(self._subject, *args, **kwargs))

    return begin
