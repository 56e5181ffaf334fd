"""An embedded broker in virtual time, for the tests of a program.

::

    async with running() as t:                      # in a test that runs on the reactor, as trial's do
        client = await t.connect()
        await consume_jobs(client)
        await client.publish(b"job", routing_key="jobs")
        await t.advance("12m")
        assert t.queue("jobs").messages == []

    with running() as t:                            # in any test; nothing needs a reactor
        client = t.run(t.connect())
        ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import threadable

from txamqpx.client import Client, connect
from txamqpx.testing.durations import Duration, seconds_of
from txamqpx.testing.outcomes import Watched
from txamqpx.testing.virtual import Turns, VirtualClock

if TYPE_CHECKING:
    from txamqpx.broker.broker import Broker
    from txamqpx.broker.inspection import QueueView

__all__ = ["Running", "running"]

T = TypeVar("T")

# A failed test shows no more lines than this of what went over the wire: the last ones.
MOST_LINES = 100

# More seconds than a client takes at most to close, whatever its handlers do.
CLOSING = 120.0


def running(**options: Any) -> Running:
    """Run a broker for one test, and have all time pass at the test's word.

    Use it in a ``with`` block, or in an ``async with`` block where a reactor runs; the clients that are
    connected through it are closed at the block's end, and then the broker.

    Args:
        **options: How the broker shall be, such as ``profile="rabbitmq-3.10"``; see ``Broker``.

    Raises:
        TypeError: A clock is given: the block has one of its own, which it moves.
    """
    if "clock" in options:
        raise TypeError("running() has a clock of its own, which a program can be given: t.clock")
    return Running(options)


class Running:
    """A broker, its clients, and their time; ``running`` makes it.

    Attributes:
        broker: The broker, with its faults, and with what it knows.
        clock: What stands in for the reactor: to be given to whatever takes one, and would take its time from
            it, or threads.
    """

    log = Logger()

    if TYPE_CHECKING:
        broker: Broker
        clock: VirtualClock
    else:

        def __getattr__(self, name: str) -> Any:
            if name in ("broker", "clock"):  # which come with the block
                raise RuntimeError("nothing runs before the block begins: with running() as t: ...")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._hand: _Hand | None = None
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        """What leads to the broker: for ``connect(t.url, reactor=t.clock)``."""
        return self.broker.url

    # ----------------------------------------------------------------------- what a test does

    def connect(self, url: str | None = None, **options: Any) -> Deferred[Client]:
        """Connect a client, which is closed at the end of the block.

        Args:
            url: With another user, virtual host, or parameters; None: ``url``.
            **options: As for ``txamqpx.connect``.

        Returns:
            What ``txamqpx.connect`` returns.

        Raises:
            RuntimeError: The block has ended; nothing is done after that.
        """
        self._check()
        connecting = connect(url or self.url, reactor=self.clock, **options)

        def connected(client: Client) -> Client:
            self._clients.append(client)
            return client

        return connecting.addCallback(connected)

    def queue(self, name: str, vhost: str = "/") -> QueueView:
        """Return what is in a queue now: ``Broker.queue``.

        Raises:
            KeyError: There is no such queue; it says which there are.
        """
        return self.broker.queue(name, vhost)

    def settled(self) -> Deferred[None]:
        """Have everything done that can be done before time passes.

        What a handler waits for elsewhere, such as a socket, is not known here: the test waits for that.

        Returns:
            A Deferred that fires when bytes have arrived, handlers have been called, threads have ended and
            nobody has anything left to do.  It fails with ``AssertionError`` if there is no end to it.
        """
        self._check()
        return self._driven(self.clock.settle())

    def advance(self, duration: Duration) -> Deferred[None]:
        """Let time pass, for the broker and its clients.

        Whatever is due at one time is settled before time goes on, so that ten minutes of retries happen in
        their order, each at its time.

        Args:
            duration: How long: seconds, or a text such as ``"12m"``.

        Returns:
            A Deferred that fires when it has passed and all is settled; it fails as that of ``settled``.

        Raises:
            ValueError: This is no duration.
        """
        self._check()
        return self._driven(self.clock.pass_time(seconds_of(duration)))

    def run(self, work: Deferred[T] | Coroutine[Any, Any, T]) -> T:
        """Have everything done until ``work`` is, and return what came of it: ``await`` in a ``with`` block.

        Time does not pass by itself.

        Args:
            work: What a call has returned: a Deferred or a coroutine.

        Raises:
            AssertionError: Nothing is left to do, and it is not done.
            RuntimeError: The block has ended, or is an ``async with``, or this is part of what runs.
            BaseException: What ``work`` has failed with.
        """
        self._check()
        hand = self._hand
        if hand is None or hand.driving:
            raise RuntimeError("what runs already can wait for it: await it")
        doing = hand.drive(work)
        if doing.pending:
            later = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
            hint = f"; something is due in {min(later):g} s, if time is advanced" if later else ""
            raise AssertionError(f"nothing is left to do, and it waits still{hint}")
        return doing.value

    def _check(self) -> None:
        if self.clock.closed:
            raise RuntimeError("the block has ended, and with it the broker and the time in which it ran")

    def _driven(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        deferred = Deferred.fromCoroutine(work)
        if self._hand is None or self._hand.driving:
            return deferred
        self.run(deferred)
        return deferred

    # ----------------------------------------------------------------------- its beginning and its end

    def _begin(self, turns: Turns, from_thread: Turns | None = None) -> Self:
        from txamqpx.broker.broker import Broker  # not before somebody wants one

        self.clock = VirtualClock(turns, from_thread)
        self.broker = Broker(clock=self.clock, **self._options)
        return self

    async def _end(self) -> None:
        try:
            await self._fired([client.close() for client in self._clients])
            await self._fired([self.broker.close()])
        finally:
            self.clock.close()

    async def _fired(self, closing: list[Deferred[None]]) -> None:
        watched = [Watched(one) for one in closing]
        await self.clock.settle()
        if any(one.pending for one in watched):
            await self.clock.pass_time(CLOSING)

    def _explain(self, error: BaseException) -> None:
        what = f"What went over the wire of {self.url}:\n{last_words(self.broker)}"
        error.add_note(what)
        self.log.info("{what}", what=what)  # trial shows no notes, but keeps a log

    def __enter__(self) -> Self:
        self._hand = _Hand()
        return self._begin(self._hand.later)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self.run(self._end())
            return
        self._explain(error)
        with suppress(Exception):  # of what follows from the error
            self.run(self._end())

    async def __aenter__(self) -> Self:
        from twisted.internet import reactor  # not before it is needed

        turning: Any = reactor
        return self._begin(partial(turning.callLater, 0), turning.callFromThread)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            await self._end()
            return
        self._explain(error)
        with suppress(Exception):
            await self._end()


def last_words(broker: Broker) -> str:
    """Return what went over a broker's wire at last, for people."""
    lines = str(broker.wire_log).splitlines()
    return "\n".join(["...", *lines[-MOST_LINES:]] if len(lines) > MOST_LINES else lines)


def close_broker(broker: Broker) -> None:
    """Close a broker from any thread, and wait for nothing."""
    if getattr(threadable, "ioThread", None) in (None, get_ident()):
        broker.close()
    else:  # a reactor that runs elsewhere, as under ``txamqpx.blocking``
        reactor: Any = broker.clock.base
        reactor.callFromThread(broker.close)


class _Hand:
    """Turns what is to be turned where no reactor does."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self.driving = False

    def later(self, call: Callable[[], object]) -> None:
        """Make a call in the next turn."""
        self._calls.append(call)

    def drive(self, work: Deferred[T] | Coroutine[Any, Any, T]) -> Watched[T]:
        """Turn until ``work`` is done, or there is nothing to turn."""
        self.driving = True
        try:
            doing = Watched(work if isinstance(work, Deferred) else Deferred.fromCoroutine(work))
            while self._calls and doing.pending:
                self._calls.popleft()()
        finally:
            self.driving = False
        return doing
