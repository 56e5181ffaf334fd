"""Threads that call the handlers of a consumer."""

from __future__ import annotations

from functools import partial
from queue import SimpleQueue
from threading import Thread, local
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery
from txamqpx.consuming.batch import Bundle
from txamqpx.consuming.threaded import check_plain, finished
from txamqpx.errors import WrongThread
from txamqpx.message import Delivery as Received

__all__ = ["Workers", "at_work"]

_Job = tuple[Deferred[Any], "Delivery | Bundle"]

_this_thread = local()


def at_work() -> Workers | None:
    """Return those to whom this thread belongs, if it calls handlers."""
    return getattr(_this_thread, "workers", None)


class Workers:
    """Threads of their own for one handler, so that no handler ever waits for those of another consumer.

    They are daemons, and all of them start at once: at its end the interpreter starts no thread any more,
    and what has come has to be dealt with all the same.

    Args:
        handler: Called with a ``Delivery`` for threads, or with a ``Bundle`` of them.
        count: How many threads.
        calls: How deliveries are settled.

    Raises:
        TypeError: The handler cannot be called, or is a coroutine function.

    Attributes:
        calls: As it was given.
    """

    def __init__(self, handler: Any, count: int, calls: Calls) -> None:
        check_plain(handler)
        self.__qualname__ = getattr(handler, "__qualname__", repr(handler))
        self._handler = handler
        self._count = count
        self.calls = calls
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for number in range(count):
            name = f"txamqpx {self.__qualname__} {number + 1}"
            Thread(target=self._work, name=name, daemon=True).start()

    def __call__(self, received: Received | Bundle) -> Deferred[Any]:
        """Have the handler called: what an asynchronous consumer calls with each delivery."""
        result: Deferred[Any] = Deferred()
        self._jobs.put((result, self._for_threads(received)))
        return result

    def _for_threads(self, received: Received | Bundle) -> Delivery | Bundle:
        if not isinstance(received, Bundle):
            return Delivery(received, self.calls)
        bundle = Bundle(cast(Any, Delivery(one, self.calls)) for one in received)
        bundle.failures = received.failures  # what the handler marks is looked at when it is done
        return bundle

    def _work(self) -> None:
        _this_thread.workers = self
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            del job  # or it would live as long as nothing else comes

    def _do(self, result: Deferred[Any], argument: Delivery | Bundle) -> None:
        if result.called:
            return  # it was given up before its turn
        try:
            end = partial(result.callback, finished(self._handler(argument), self.__qualname__))
        except BaseException:
            end = partial(result.errback, Failure())
        self.calls.thread.call(end)

    def end(self) -> None:
        """Let the threads end when they have done what they were asked for."""
        for _ in range(self._count):
            self._jobs.put(None)

    def refuse_to_wait(self, what: str) -> None:
        """Check that this thread is not one that ``what`` would wait for.

        Raises:
            WrongThread: It is.
        """
        if at_work() is self:
            raise WrongThread(
                f"{what} waits for handlers to end, and this is one of them: it may raise StopConsuming"
            )
