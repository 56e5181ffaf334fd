"""Consuming with threads: a handler that is called, or a loop that asks."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Protocol, Self, TypeVar

from twisted.internet.defer import Deferred

from txamqpx import consumer as asynchronous
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.operation import USUAL, Timeout
from txamqpx.blocking.workers import Workers
from txamqpx.consuming.subscription import Ending
from txamqpx.deliveries import Deliveries as AsynchronousDeliveries
from txamqpx.errors import ConnectionClosed

__all__ = ["Cancellable", "Consumer", "Deliveries", "Pipeline", "Working"]

T = TypeVar("T")


class Ends(Protocol):
    """Something that works until it is over."""

    @property
    def closed(self) -> Deferred[Ending]:
        """Fires when it is over."""


class Working:
    """Calls a function in threads of its own until it is over.

    Attributes:
        workers: The threads; None: there is no function.
    """

    _name: ClassVar[str]

    def __init__(self, working: Ends, workers: Workers | None, calls: Calls) -> None:
        self.workers = workers
        self._working = working
        self._calls = calls

    def __repr__(self) -> str:
        return repr(self._working)

    def wait(self, timeout: float | None = None) -> Ending:
        """Wait until it is over.

        Args:
            timeout: Seconds; None: no limit.

        Returns:
            The ``ConsumerCancelled``, ``ChannelClosed`` or ``ConnectionClosed`` that ended it, the
            ``StopConsuming`` that a handler raised, or None if it was ended from here.

        Raises:
            WaitTimeout: It is not over yet.
            WrongThread: This is one of its own threads.
        """
        return self._finish(self._name, lambda: self._working.closed, timeout)

    def when_over(self, function: Callable[[], object]) -> None:
        """Have a function called on the reactor's thread, where this is called as well."""
        self._working.closed.addCallback(lambda _: function())

    def _finish(self, name: str, function: Callable[[], Deferred[T]], timeout: float | None = None) -> T:
        if self.workers is not None:
            self.workers.refuse_to_wait(name)
        return self._calls.finish(name, function, timeout)


class Cancels(Ends, Protocol):
    """Something that works until it is cancelled."""

    def cancel(self, timeout: float | None) -> Deferred[None]:
        """End it."""


class Cancellable(Working):
    """What is ended by ``cancel``."""

    _working: Cancels

    def __enter__(self) -> Self:
        """Let it work for a block; it is cancelled at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Cancel it."""
        self.cancel()

    def cancel(self, timeout: float | None = 30.0) -> None:
        """End it: what waits here is given back, and what is at work may finish.

        Args:
            timeout: Seconds after which the messages of what is at work are given back; None: never.  The
                threads cannot be stopped: what they settle then is stale.

        Raises:
            WrongThread: This is one of its own threads; it may raise ``StopConsuming``.
        """
        self._finish("cancel", lambda: self._working.cancel(timeout))


class Consumer(Cancellable):
    """Calls a handler in threads of its own; ``BlockingClient.consume`` makes it."""

    _name = "the consumer"
    _working: asynchronous.Consumer

    @property
    def queue(self) -> str:
        """The queue, or the first of several."""
        return self._working.queue

    @property
    def consumer_tag(self) -> str:
        """The tag of the queue, or of the first of several."""
        return self._working.consumer_tag

    @property
    def is_active(self) -> bool:
        """Whether the broker delivers for all its queues, as far as we know."""
        return self._working.is_active

    def set_prefetch(self, prefetch: int, *, timeout: Timeout = USUAL) -> None:
        """Change how many deliveries may be unsettled; see the asynchronous ``Consumer``."""
        self._calls.finish("set_prefetch", lambda: self._working.set_prefetch(prefetch), timeout)


class Pipeline(Cancellable):
    """Moves messages from a queue to another place; ``BlockingClient.pipe`` makes it."""

    _name = "the pipeline"


class Deliveries:
    """The messages of a queue, for a loop; ``BlockingClient.deliveries`` makes it.

    What has come and was not taken is bounded by ``prefetch``.  Leaving the loop does not end it: use
    ``with``, or call ``cancel``.  Several threads may take from it.

    Attributes:
        timeout: Seconds that the loop waits for each message; None: no limit.
    """

    def __init__(self, deliveries: AsynchronousDeliveries, timeout: float | None, calls: Calls) -> None:
        self.timeout = timeout
        self._deliveries = deliveries
        self._calls = calls

    def __repr__(self) -> str:
        return f"<Deliveries of {self._deliveries.consumer!r}>"

    def __enter__(self) -> Self:
        """Consume for a block; what was not taken by its end is given back."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Cancel it."""
        self.cancel(timeout=0.0)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delivery:
        try:
            return self.get(timeout=self.timeout)
        except StopAsyncIteration:
            raise StopIteration from None
        except ConnectionClosed as error:
            if type(error) is ConnectionClosed and not error.by_peer:
                raise StopIteration from None  # we have closed it, before the consumer had begun
            raise

    def get(self, *, timeout: float | None = None) -> Delivery:
        """Take the next one.

        Args:
            timeout: Seconds; None: no limit.

        Raises:
            WaitTimeout: None came in time; the next one is still to be had.
            ConsumerCancelled: The broker has ended the consumer, and so for the other reasons that there are.
            StopAsyncIteration: It was cancelled.
        """
        return self._calls.finish("the next delivery", self._get, timeout)

    def _get(self) -> Deferred[Delivery]:
        return self._deliveries.get().addCallback(lambda received: Delivery(received, self._calls))

    def cancel(self, timeout: float | None = 30.0) -> None:
        """End it: what was not taken is given back; without acks it can still be taken.

        Args:
            timeout: Seconds after which what nobody takes is lost, where nothing is acked; None: never.
        """
        self._calls.finish("cancel", lambda: self._deliveries.cancel(timeout), None)
