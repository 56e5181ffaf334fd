"""Something that goes on at the reactor's thread and that other threads may wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent import futures
from enum import Enum
from itertools import count
from threading import Semaphore
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError, WaitTimeout, caused, twin

__all__ = ["PATIENCE", "USUAL", "Operation", "Timeout", "Where", "wait", "wait_all", "wait_any"]

T = TypeVar("T")


class Usual(Enum):
    """The type of ``USUAL``."""

    USUAL = "as many seconds as the client was told when it was connected"


#: Instead of a number of seconds: as many as ``connect`` was told.
USUAL = Usual.USUAL

#: Seconds to wait; None is no limit.
Timeout: TypeAlias = float | Literal[Usual.USUAL] | None

#: Seconds that a thread waits unless it says otherwise.
PATIENCE = 60.0

# An operation that is given up ends within a turn of the reactor; some have something to put back before.
GIVING_UP = 5.0


class Where(Protocol):
    """What an operation needs of the reactor's thread."""

    @property
    def is_here(self) -> bool:
        """Whether the caller is on it."""

    def check(self, what: str) -> None:
        """Check that the caller's thread can wait for it."""

    def call(self, function: Callable[[], object]) -> None:
        """Call a function there."""

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a function on the thread for users' callbacks."""

    def ended(self, operation: Operation[Any]) -> None:
        """Take note that an operation has ended."""


class Operation(futures.Future[T]):
    """A future of the standard library whose result comes from the reactor's thread.

    Everything that the standard library does with futures works with it: ``concurrent.futures.wait``,
    ``as_completed``, ``asyncio.wrap_future``.  It keeps its result, so that waiting for it twice is
    harmless.  A failure that nobody asks for is logged when the operation is forgotten.

    Attributes:
        name: What is done, such as ``"queue_declare"``.
        room: What it takes a place of until it has ended.
        given_up: What it failed with when it was cancelled, if that says more than that it was.
    """

    log = Logger()
    _endings = count(1)

    def __init__(self, where: Where, name: str, room: Semaphore | None = None) -> None:
        super().__init__()
        self.name = name
        self.room = room
        self.given_up: BaseException | None = None
        self._where = where
        self._deferred: Deferred[T] | None = None
        self._unwanted = False
        self._giving_up = False
        self._unseen: BaseException | None = None
        self._asked = False
        self._origin: TracebackType | None = None
        #: Its place among all that have ended; 0 before.
        self.place = 0

    def __repr__(self) -> str:
        return f"<Operation {self.name}, {self._state.lower().replace('_and_notified', '')}>"

    def __del__(self) -> None:
        if self._unseen is not None:
            failure = Failure(self._unseen)
            self.log.failure("{name} failed, and nobody asked for it", failure=failure, name=self.name)

    # ----------------------------------------------------------------------- any thread

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Args:
            timeout: Seconds; None: no limit.  The operation goes on whatever comes of the waiting.

        Raises:
            WaitTimeout: It has not ended in time.
            CancelledError: It was cancelled; this is that of ``concurrent.futures``.
            WrongThread: This is the reactor's thread, and it has not ended.
            Exception: What it failed with; each caller gets an ``AMQPError`` of its own.
        """
        error = self.exception(timeout)
        if error is not None:
            raise twin(error) if isinstance(error, AMQPError) else error.with_traceback(self._origin)
        return super().result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait until it has ended; return what it failed with, or None.

        Raises:
            WaitTimeout: It has not ended in time.
            CancelledError: It was cancelled.
            WrongThread: This is the reactor's thread, and it has not ended.
        """
        if not self._ends_within(timeout):
            assert timeout is not None
            raise WaitTimeout(self.name, timeout)
        self._asked = True
        self._unseen = None
        return super().exception()

    def finish(self, timeout: float | None) -> T:
        """Wait for the result, and give the operation up if it takes too long.

        Args:
            timeout: Seconds; None: no limit.

        Raises:
            WaitTimeout: It has not ended in time; ``__cause__`` is what is known of it, if it is known.
            WrongThread: This is the reactor's thread.
            Exception: What it failed with.
        """
        self.may_wait()
        try:
            ended = self._ends_within(timeout)
        except BaseException:  # such as KeyboardInterrupt
            self._unwanted = True
            self._where.call(self._give_up)
            raise
        if not ended and (self.cancel() or not self.done()):
            assert timeout is not None
            raise caused(WaitTimeout(self.name, timeout), self.given_up)
        return self.result()

    def cancel(self) -> bool:
        """Give the operation up, with the meaning that cancelling its Deferred has.

        Returns:
            Whether it was cancelled; False if it has ended before.
        """
        if not self.done():
            self._unwanted = True
            if self._where.is_here:
                self._give_up()
            else:
                self._where.call(self._give_up)
                self._ends_within(GIVING_UP)
        return self.cancelled()

    def add_done_callback(self, fn: Callable[[futures.Future[T]], object]) -> None:
        """Call a function with this operation once it has ended.

        It runs on a thread for callbacks, where it may make calls that wait; all callbacks share that
        thread, in the order in which their operations end.  What it raises is logged.
        """
        self._asked = True
        self._unseen = None
        super().add_done_callback(lambda ended: self._where.call_back(lambda: fn(ended)))

    def may_wait(self) -> None:
        """Check that a thread can wait for it.

        Raises:
            WrongThread: This is the reactor's thread, and it has not ended.
            ForkedProcess: The reactor is in another process, and it had not ended when this one was forked.
        """
        if not self.done():
            self._where.check(self.name)

    def _ends_within(self, timeout: float | None) -> bool:
        self.may_wait()
        try:
            super().exception(timeout)
        except TimeoutError:
            return self.done()
        except futures.CancelledError:
            pass
        return True

    # ----------------------------------------------------------------------- the reactor's thread

    def run(self, function: Callable[[], Deferred[T]]) -> None:
        """Begin, unless nobody is interested any more."""
        if self._unwanted:
            self._give_up()
        elif not self.done():
            self._deferred = maybeDeferred(function)
            self._deferred.addCallbacks(self._succeed, self._fail)

    def abandon(self, error: BaseException) -> None:
        """Tell who waits for it that nothing will come of it any more; it is no news to anybody else."""
        self._asked = True
        self._fail_with(error)

    def _fail_with(self, error: BaseException) -> None:
        if not self.done():
            self._origin = error.__traceback__  # or it would grow each time that it is raised
            self._end(lambda: self.set_exception(error), error)

    def _give_up(self) -> None:
        if self.done():
            return
        self._giving_up = True
        if self._deferred is None:
            self._end(self._set_cancelled)
        else:
            self._deferred.cancel()

    def _succeed(self, result: T) -> None:
        if not self.done():
            self._end(lambda: self.set_result(result))

    def _fail(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        if not self._giving_up:
            self._fail_with(error)
        elif not self.done():
            self.given_up = None if isinstance(error, CancelledError) else error
            self._end(self._set_cancelled)

    def _set_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()

    def _end(self, settle: Callable[[], object], error: BaseException | None = None) -> None:
        self.place = next(self._endings)
        self._deferred = None
        if not self._asked:
            self._unseen = error
        settle()
        self._where.ended(self)


# --------------------------------------------------------------------------- waiting for one of several


def wait(operations: Operation[T] | Iterable[Operation[T]], timeout: float | None = PATIENCE) -> T:
    """Wait for an operation, or for the first of several.

    ``wait_any`` tells which one was first.  What has not ended in time goes on.

    Args:
        operations: One, or some.
        timeout: Seconds; None: no limit.

    Returns:
        The result.

    Raises:
        WaitTimeout: None has ended in time.
        ValueError: There are none.
        Exception: What the operation failed with.
    """
    if isinstance(operations, Operation):
        return operations.result(timeout)
    return wait_any(operations, timeout).result()


def wait_any(operations: Iterable[Operation[T]], timeout: float | None = PATIENCE) -> Operation[T]:
    """Wait until one of several operations has ended.

    Args:
        operations: Of any clients.
        timeout: Seconds; None: no limit.

    Returns:
        The one that ended first, with a result or without.

    Raises:
        WaitTimeout: None has ended in time.
        ValueError: There are none.
    """
    all_of = _ready_to_wait(operations)
    if not all_of:
        raise ValueError("there is nothing to wait for")
    done, _ = futures.wait(all_of, timeout, futures.FIRST_COMPLETED)
    if not done:
        assert timeout is not None
        raise WaitTimeout(f"any of {len(all_of)} operations", timeout)
    return min((one for one in all_of if one in done), key=lambda one: one.place)


@overload
def wait_all(
    operations: Iterable[Operation[T]],
    timeout: float | None = PATIENCE,
    *,
    return_exceptions: Literal[False] = False,
) -> list[T]: ...
@overload
def wait_all(
    operations: Iterable[Operation[T]], timeout: float | None = PATIENCE, *, return_exceptions: Literal[True]
) -> list[T | BaseException]: ...
def wait_all(
    operations: Iterable[Operation[T]],
    timeout: float | None = PATIENCE,
    *,
    return_exceptions: bool = False,
) -> list[T] | list[T | BaseException]:
    """Wait until all of several operations have ended.

    Args:
        operations: Of any clients.
        timeout: Seconds for all together; None: no limit.
        return_exceptions: Whether an operation that failed has its error in the list.

    Returns:
        The results, in the order of the operations.

    Raises:
        WaitTimeout: Some have not ended in time; they go on.
        Exception: What the first in the list failed with that did; all have ended by then.
    """
    all_of = _ready_to_wait(operations)
    _, late = futures.wait(all_of, timeout)
    if late:
        assert timeout is not None
        raise WaitTimeout(f"{len(late)} of {len(all_of)} operations", timeout)
    outcomes = [_outcome(one) for one in all_of]  # so that each failure counts as seen
    return outcomes if return_exceptions else [one.result() for one in all_of]


def _ready_to_wait(operations: Iterable[Operation[T]]) -> list[Operation[T]]:
    ready = list(operations)
    for one in ready:
        one.may_wait()
    return ready


def _outcome(operation: Operation[Any]) -> Any:
    try:
        return operation.exception() or operation.result()
    except futures.CancelledError as error:
        return error
