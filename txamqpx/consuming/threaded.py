"""Handlers in threads: what they settle is settled on the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine, iscoroutinefunction
from queue import Empty, Queue
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from txamqpx.consuming.batch import Bundle
from txamqpx.message import Delivery, Settlement

__all__ = ["ThreadDelivery", "check_plain", "finished", "in_thread"]

# How often, in seconds, a thread that waits for the reactor looks whether there still is one.
GLANCE = 0.1


class ThreadDelivery:
    """A delivery for a thread that is not the reactor's.

    Settling waits until the reactor has done it, and returns and raises what that did; where the reactor has
    ended it is ``STALE``.  Everything else is the delivery's own.
    """

    def __init__(self, delivery: Delivery, reactor: Any) -> None:
        self._delivery = delivery
        self._reactor = reactor

    def __repr__(self) -> str:
        return repr(self._delivery)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)

    def _settle(self, how: Callable[..., Settlement], **options: bool) -> Settlement:
        answers: Queue[Settlement | Exception] = Queue()

        def settle() -> None:
            try:
                answers.put(how(**options))
            except Exception as error:
                answers.put(error)

        self._reactor.callFromThread(settle)
        while True:
            try:
                answer = answers.get(timeout=GLANCE)
            except Empty:
                # A reactor that ends waits for its threads, and does nothing that they ask for.
                if not getattr(self._reactor, "running", True):
                    return Settlement.STALE
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer

    def ack(self) -> Settlement:
        """Tell the broker that the message is done with; see ``Delivery.ack``."""
        return self._settle(self._delivery.ack)

    def nack(self, *, requeue: bool = True) -> Settlement:
        """Give the message back, or dead-letter it; see ``Delivery.nack``."""
        return self._settle(self._delivery.nack, requeue=requeue)

    def reject(self, *, requeue: bool = True) -> Settlement:
        """Refuse the message; see ``Delivery.reject``."""
        return self._settle(self._delivery.reject, requeue=requeue)

    def release(self) -> Settlement:
        """Give the message to somebody else; see ``Delivery.release``."""
        return self._settle(self._delivery.release)

    def fail(self) -> Settlement:
        """Have the message tried again; see ``Delivery.fail``."""
        return self._settle(self._delivery.fail)

    def discard(self) -> Settlement:
        """Never see the message again; see ``Delivery.discard``."""
        return self._settle(self._delivery.discard)


def check_plain(handler: Callable[[Any], object]) -> None:
    """Check that a thread can do all of the handler's work by calling it.

    Raises:
        TypeError: It cannot be called, or is a coroutine function.
    """
    if iscoroutinefunction(handler) or not callable(handler):
        raise TypeError(f"a handler is a function that threads can call, {handler!r} is not")


def finished(returned: object, name: str) -> object:
    """Return what a handler has returned in its thread, if that is the end of its work.

    Raises:
        TypeError: It is a coroutine or a Deferred, of which nothing, or not all, has been done.
    """
    if not iscoroutine(returned) and not isinstance(returned, Deferred):
        return returned
    if iscoroutine(returned):
        returned.close()
    raise TypeError(
        f"{name} returned a {type(returned).__name__}, for which no thread waits: "
        "a handler in a thread does its work before it returns"
    )


def in_thread(handler: Callable[[Any], object], reactor: Any) -> Callable[[Any], Deferred[Any]]:
    """Return a handler that runs ``handler`` in the reactor's thread pool.

    Raises:
        TypeError: It is none for a thread.
    """
    check_plain(handler)
    name: str = getattr(handler, "__qualname__", repr(handler))

    def work(argument: Any) -> object:
        return finished(handler(argument), name)

    def call(argument: Delivery | Bundle) -> Deferred[Any]:
        pool = reactor.getThreadPool()
        if not isinstance(argument, Bundle):
            return deferToThreadPool(reactor, pool, work, ThreadDelivery(argument, reactor))
        inside = Bundle(cast(Any, ThreadDelivery(one, reactor)) for one in argument)
        inside.failures = argument.failures  # what the thread marks, the reactor's thread looks at afterwards
        return deferToThreadPool(reactor, pool, work, inside)

    return call
