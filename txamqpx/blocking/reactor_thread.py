"""The thread that the reactor runs on, as the other threads see it."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Lock, Semaphore, Thread, get_ident
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import threadable

from txamqpx.blocking.operation import Operation
from txamqpx.errors import ForkedProcess, ReactorStopped, WrongThread

__all__ = ["AT_EXIT", "ReactorThread"]

T = TypeVar("T")

#: Seconds that handlers, acks and confirms together get when the process ends; see ``BlockingClient.close``.
AT_EXIT = 10.0

# Beyond that: the goodbye to the broker, which has a deadline of its own, and the end of the reactor.
GOODBYE = 10.0


class ReactorThread:
    """Where the reactor runs: in a thread of ours, or wherever the program has it running.

    Args:
        reactor: A reactor, which ``start`` looks at for the first time.
    """

    log = Logger()
    _lock: ClassVar[Lock] = Lock()
    _current: ClassVar[ReactorThread | None] = None

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        #: Called when the process or the reactor ends; each returns a Deferred.
        self.closers: set[Callable[[], Deferred[Any]]] = set()
        self._pid = os.getpid()
        self._thread: Thread | None = None
        self._ident: int | None = None
        self._guard = Lock()
        self._pending: set[Operation[Any]] = set()
        self._stopped = False
        self._over = Event()
        self._callbacks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._caller = Thread(target=self._call_back, name="txamqpx callbacks", daemon=True)

    @classmethod
    def current(cls) -> ReactorThread:
        """Return that of this process; the first time, start it unless a reactor runs.

        Raises:
            WrongThread: This is the reactor's thread.
            ForkedProcess: A process that this one was forked from has started it.
            ReactorStopped: The reactor has run before, without us.
        """
        if cls._current is not None:
            cls._current.check()  # before the lock, which may be held for ever in a forked process
        with cls._lock:
            if cls._current is None:
                from twisted.internet import reactor

                made = cls(reactor)
                made.start()
                cls._current = made
        cls._current.check()
        return cls._current

    def start(self) -> None:
        """Let the reactor run, unless it does.

        Raises:
            ReactorStopped: It has run before.
        """
        if self.reactor.running:
            self._ident = threadable.ioThread
        else:
            started: SimpleQueue[BaseException | None] = SimpleQueue()
            self.reactor.callWhenRunning(started.put, None)
            self._thread = Thread(target=self._run, args=(started,), name="txamqpx reactor", daemon=True)
            self._thread.start()
            self._ident = self._thread.ident
            error = started.get()
            if error is not None:
                raise ReactorStopped("the reactor has run in this process, and cannot run again") from error
        self._caller.start()  # now: at its end the interpreter starts no thread any more
        self.call(lambda: self.reactor.addSystemEventTrigger("before", "shutdown", self._drain))
        atexit.register(self.shut_down)

    def _run(self, started: SimpleQueue[BaseException | None]) -> None:
        try:
            self.reactor.run(installSignalHandlers=False)
        except BaseException as error:
            started.put(error)
        finally:
            self._end()

    # ----------------------------------------------------------------------- any thread

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the reactor's thread."""
        return get_ident() == self._ident

    def check(self, what: str = "a call that waits") -> None:
        """Check that this thread can wait for ``what``, which ends on the reactor's.

        Raises:
            ForkedProcess: It is in another process.
            WrongThread: This is it.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess(
                f"the reactor belongs to process {self._pid}, from which this one was forked, and so do its "
                "connections: connect in processes that are spawned, or forked before the first connect()"
            )
        if self.is_here and not self._stopped:
            raise WrongThread(
                f"{what} ends on the reactor's thread, and this is it: nothing here may wait. "
                "Use txamqpx.connect() here, or wait in a thread of its own (deferToThread)"
            )

    def begin(
        self, name: str, function: Callable[[], Deferred[T]], room: Semaphore | None = None
    ) -> Operation[T]:
        """Call a function on the reactor's thread, behind all that were begun before.

        Args:
            name: What it does, for errors and logs.
            function: Returns a Deferred, or raises.
            room: Has been acquired, and is released when the operation has ended.

        Raises:
            WrongThread: This is the reactor's thread.
            ForkedProcess: The reactor is in another process.
            ReactorStopped: It has stopped.
        """
        self.check()
        operation: Operation[T] = Operation(self, name, room)
        with self._guard:
            if self._stopped:
                raise ReactorStopped("the reactor has stopped, and cannot run again; nothing was sent")
            self._pending.add(operation)
        self.call(partial(operation.run, function))
        return operation

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the reactor's thread; nobody hears what comes of it."""
        self.reactor.callFromThread(function)

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a function on the thread for users' callbacks; what it raises is logged."""
        self._callbacks.put(function)

    def _call_back(self) -> None:
        while (function := self._callbacks.get()) is not None:
            try:
                function()
            except Exception:
                self.log.failure("in a callback")

    def ended(self, operation: Operation[Any]) -> None:
        """Take note that an operation has ended."""
        with self._guard:
            self._pending.discard(operation)
        if operation.room is not None:
            operation.room.release()

    def shut_down(self) -> None:
        """Close what is open, and end the thread if it is ours; all of it within a time."""
        if os.getpid() != self._pid:
            return
        with suppress(KeyboardInterrupt):  # who is tired of it gets the end at once, and no traceback
            if self.reactor.running:
                self.call(self._drain if self._thread is None else self._stop)
                self._over.wait(AT_EXIT + GOODBYE)
            if self._thread is not None:
                self._thread.join(GOODBYE)
            self._callbacks.put(None)
            self._caller.join(GOODBYE)

    # ----------------------------------------------------------------------- the reactor's thread

    def _stop(self) -> None:
        with suppress(ReactorNotRunning):  # a callback may have stopped it
            self.reactor.stop()

    def _drain(self) -> Deferred[Any]:
        """Close all clients; threads that still wait for something then are told."""
        closing = [close() for close in tuple(self.closers)]
        return DeferredList(closing, consumeErrors=True).addBoth(lambda _: self._end())

    def _end(self) -> None:
        self._stopped = True
        with self._guard:
            pending = tuple(self._pending)
        for operation in pending:
            operation.abandon(ReactorStopped(f"the reactor has stopped before the end of {operation.name}"))
        self._over.set()
