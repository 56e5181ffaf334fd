"""A thread pool that runs what it is given when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread
from typing import Any, Self

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

Task = tuple[Callable[[bool, Any], object], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Pool:
    """Runs what it is given in a thread of its own, while the test's thread plays the reactor."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self._calls: Queue[Callable[[], object] | None] = Queue()

    @classmethod
    def joined(cls, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Make a reactor of a clock, as far as threads are concerned."""
        pool = cls()
        monkeypatch.setattr(clock, "getThreadPool", pool.getThreadPool, raising=False)
        monkeypatch.setattr(clock, "callFromThread", pool.callFromThread, raising=False)
        return pool

    # What a reactor has.

    def getThreadPool(self) -> Pool:  # noqa: N802
        return self

    def callFromThread(self, call: Callable[..., object], *args: Any, **options: Any) -> None:  # noqa: N802
        self._calls.put(lambda: call(*args, **options))

    # What a pool has.

    def callInThreadWithCallback(  # noqa: N802
        self, done: Callable[[bool, Any], object], call: Callable[..., Any], *args: Any, **options: Any
    ) -> None:
        self.tasks.append((done, call, args, options))

    def run(self) -> None:
        """Run the next task to its end."""
        done, call, args, options = self.tasks.pop(0)

        def work() -> None:
            try:
                result = True, call(*args, **options)
            except BaseException:
                result = False, Failure()
            done(*result)
            self._calls.put(None)

        thread = Thread(target=work)
        thread.start()
        while (due := self._calls.get()) is not None:
            due()
        thread.join()
