"""A reactor without sockets and time: it calls what other threads ask for, and can be stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRestartable, ReactorNotRunning


class SmallReactor:
    """What ``ReactorThread`` needs of a reactor."""

    def __init__(self) -> None:
        self.running = False
        self._has_run = False
        self._stopping = False
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._at_start: list[Callable[[], object]] = []
        self._at_stop: list[Callable[[], Any]] = []

    def callWhenRunning(self, function: Callable[..., object], *arguments: object) -> None:
        self._at_start.append(partial(function, *arguments))

    def addSystemEventTrigger(self, phase: str, event: str, function: Callable[[], object]) -> None:
        assert (phase, event) == ("before", "shutdown")
        self._at_stop.append(function)

    def callFromThread(self, function: Callable[[], object]) -> None:  # noqa: N802
        self._calls.put(function)

    def run(self, *, installSignalHandlers: bool) -> None:  # noqa: N803
        assert not installSignalHandlers, "only the main thread hears of signals"
        if self._has_run:
            raise ReactorNotRestartable
        self._has_run = self.running = True
        for function in self._at_start:
            function()
        while (call := self._calls.get()) is not None:
            call()
        self.running = False

    def stop(self) -> None:
        if self._stopping or not self.running:
            raise ReactorNotRunning
        self._stopping = True
        done = DeferredList([maybeDeferred(function) for function in self._at_stop])
        done.addBoth(lambda _: self._calls.put(None))
