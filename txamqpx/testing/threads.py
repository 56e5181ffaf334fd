"""Threads that a test starts by hand, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure

__all__ = ["HandPool"]

Task = tuple[Callable[[bool, Any], object], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class HandPool:
    """The thread pool of a ``Clock``: it runs what it is given when the test says so.

    Each task runs in a thread of its own, and the test's thread stands in for the reactor's until it ends:
    what the task has called there is called.  So what a test sees is the same in every run.

    ::

        clock = Clock()
        pool = HandPool(clock)
        doing = deferToThreadPool(clock, clock.getThreadPool(), work)
        pool.run()
        assert success_of(doing) == "done"

    Args:
        clock: It gets the two methods that make a reactor of it, as far as threads are concerned; None: who
            has them already can do without.

    Attributes:
        tasks: What waits for a thread, oldest first.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.tasks: list[Task] = []
        self._calls: Queue[Callable[[], object] | None] = Queue()
        self._thread: Thread | None = None
        if clock is not None:
            reactor: Any = clock
            reactor.getThreadPool = lambda: self
            reactor.callFromThread = self.callFromThread

    def callFromThread(self, call: Callable[..., object], *args: Any, **options: Any) -> None:  # noqa: N802
        """Have ``call`` made by whoever runs the task, in his thread."""
        self._calls.put(lambda: call(*args, **options))

    def callInThreadWithCallback(  # noqa: N802
        self, done: Callable[[bool, Any], object], call: Callable[..., Any], *args: Any, **options: Any
    ) -> None:
        """Keep a task until ``run``."""
        self.tasks.append((done, call, args, options))

    @property
    def at_work(self) -> bool:
        """Whether a task has begun and not ended."""
        return self._thread is not None

    @property
    def called(self) -> bool:
        """Whether a thread wants something to be called that has not been."""
        return not self._calls.empty()

    def step(self, patience: float | None = None) -> None:
        """Begin the oldest task, or go on with the one that is at work, until it calls something or ends.

        Args:
            patience: How many seconds it may take, real ones; None: as long as it takes.

        Raises:
            AssertionError: There is none.
        """
        if self._thread is None and not self.called:
            self._begin()
        try:
            due = self._calls.get(timeout=patience)
        except Empty:
            return
        if due is not None:
            due()
            return
        assert self._thread is not None  # the end of a task is what has come
        self._thread.join()
        self._thread = None

    def run(self) -> None:
        """Run the oldest task to its end.

        Raises:
            AssertionError: There is none.
        """
        while self.called:  # by a thread that is no task
            self.step()
        self._begin()
        while self.at_work:
            self.step()

    def run_all(self) -> None:
        """Run tasks until none is left, those that come meanwhile as well."""
        while self.tasks or self.called:
            self.run() if self.tasks else self.step()

    def _begin(self) -> None:
        if not self.tasks:
            raise AssertionError("nothing waits for a thread")
        done, call, args, options = self.tasks.pop(0)

        def work() -> None:
            try:
                result = True, call(*args, **options)
            except BaseException:
                result = False, Failure()
            done(*result)
            self._calls.put(None)

        self._thread = Thread(target=work, daemon=True)  # one that never ends keeps no test run from ending
        self._thread.start()
