"""What a test asks of a broker, and does to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from txamqpx.broker.administration import Administration
from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.faults import Faults
from txamqpx.broker.history import History, PublishedMessage
from txamqpx.broker.inspection import ConnectionView, QueueView, view_of_connection, view_of_queue
from txamqpx.broker.memory_limit import MemoryLimit
from txamqpx.broker.message import Message
from txamqpx.broker.names import names
from txamqpx.broker.session import Session
from txamqpx.broker.settling import advance, settled
from txamqpx.broker.tap import Tap
from txamqpx.broker.wire_log import WireLog

__all__ = ["Observation"]

# What clients get to read that the broker is closed, in seconds.
_FAREWELL = 1.0


class Observation(Administration):
    """A broker, as its tests see it.

    Attributes:
        name: What ``memory://name`` leads to.
        clock: Its time.
        faults: What can be made to go wrong.
        history: What was published.
        wire_log: The last frames of all connections.
    """

    name: str
    clock: BrokerClock

    def observe(self, memory_limit: int) -> None:
        """Begin to look at everything.

        Args:
            memory_limit: How many bytes queues and transactions may hold.
        """
        self._taps: dict[Tap, None] = {}
        self._numbers = count(1)
        self._is_closing = False
        self._deadline: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []
        self.history = History()
        self.wire_log = WireLog(self.clock.seconds)
        self.faults = Faults(self.clock, self._taps, self.history)
        self._memory = MemoryLimit(self, self.clock, self.history, self._messages, memory_limit)

    def _messages(self) -> Iterator[Message]:
        for queue in chain.from_iterable(vhost.queues.values() for vhost in self.vhosts.values()):
            for entry in queue.entries():
                yield entry.message
        for session in self.sessions:
            yield from session.uncommitted()

    # ----------------------------------------------------------------------- connections

    def tapped(self, session: Session) -> Tap | None:
        """Return what a transport is to be joined to, for a session; None: the connection is refused."""
        if self._is_closing or self.faults.refuses():
            return None
        return Tap(session, next(self._numbers), self.wire_log, made=self._made, closed=self._closed)

    def refuses_login(self, user: str) -> bool:
        """Return whether a fault turns a user away."""
        return self.faults.refuses_login(user)

    def _made(self, tap: Tap) -> None:
        self._taps[tap] = None
        self.faults.greet(tap)

    def _closed(self, tap: Tap) -> None:
        self._taps.pop(tap, None)
        self.faults.part(tap)
        if self._is_closing and not self._taps:
            self._forget()

    @property
    def connections(self) -> list[ConnectionView]:
        """The connections that there are, in the order in which they were made."""
        return [view_of_connection(tap) for tap in self._taps]

    def close(self) -> Deferred[None]:
        """Close all connections, give the name back, and forget everything.

        Returns:
            A Deferred that fires when the last connection is gone, which is after a second at the latest.
        """
        if not self._is_closing:
            self._is_closing = True
            names.remove(self, self.name)
            self._memory.stop()
            self.close_connections("broker forced connection closure with reason 'shutdown'")
            for tap in tuple(self._taps):
                if tap.swallowed or tap.session.core.error is None:
                    tap.drop()
            if self._taps:
                self._deadline = self.clock.base.callLater(_FAREWELL, self._abort)
            else:  # and no reactor is imported on behalf of a broker that nobody has connected to
                self._forget()
        closed: Deferred[None] = Deferred(self._waiting.remove)
        if self._taps:
            self._waiting.append(closed)
        else:
            closed.callback(None)
        return closed

    def _abort(self) -> None:
        for tap in tuple(self._taps):
            tap.transport.abortConnection()

    def _forget(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        for vhost in self.vhosts.values():
            for queue in tuple(vhost.queues.values()):
                vhost.delete_queue(queue)
        waiting, self._waiting = self._waiting, []
        for closed in waiting:
            closed.callback(None)

    # ----------------------------------------------------------------------- time

    def settled(self) -> Deferred[None]:
        """Wait until nothing is left to do, as long as no time passes.

        Then all that was written has arrived and was answered, as far as the readers read, on connections in
        memory; of other connections all that the broker has to say is given to their transports.  What
        somebody does elsewhere, in threads or over connections to others, is not known here.

        Returns:
            A Deferred.  On a ``Clock`` everything is done at once, and it has fired; on a reactor it fails
            with ``AssertionError`` if there is no end to it.

        Raises:
            RuntimeError: On a ``Clock``: it is at work already, and has called who calls; coroutines want
                ``txamqpx.testing.running``.
        """
        return settled(self.clock, self._taps)

    def advance(self, seconds: float) -> Deferred[None]:
        """Let time pass for the broker, and settle whatever becomes due before it goes on.

        On a ``Clock`` time passes for all who share it.  On a reactor it passes for the broker's queues and
        consumers alone: not for heartbeats, and not for clients.

        Args:
            seconds: How long.

        Returns:
            A Deferred that fires when all is settled; on a ``Clock`` it has fired.

        Raises:
            RuntimeError: As ``settled``.
        """
        return advance(self.clock, self._taps, seconds)

    # ----------------------------------------------------------------------- inspection

    def queue(self, name: str, vhost: str = "/") -> QueueView:
        """Return what a queue looks like now.

        Raises:
            KeyError: There is no such queue or virtual host; it says which there are.
        """
        if vhost not in self.vhosts:
            raise KeyError(f"there is no vhost {vhost!r}, only {sorted(self.vhosts)}")
        queues = self.vhosts[vhost].queues
        if name not in queues:
            raise KeyError(f"there is no queue {name!r} in vhost {vhost!r}, only {sorted(queues)}")
        return view_of_queue(queues[name], vhost)

    def published(
        self,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, Any] | None = None,
        vhost: str | None = None,
    ) -> list[PublishedMessage]:
        """Return what was published, in order: the last 10,000 messages, or 16 MiB of them.

        Args:
            exchange: Only what was published to it.
            routing_key: Only what has this key.
            body: Only what has this body.
            headers: Only what has these headers, among others.
            vhost: Only what was published there.
        """
        return self.history.find(
            exchange=exchange, routing_key=routing_key, body=body, headers=headers, vhost=vhost
        )

    def assert_published(
        self,
        *,
        count: int | None = None,
        exchange: str | None = None,
        routing_key: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, Any] | None = None,
        vhost: str | None = None,
    ) -> list[PublishedMessage]:
        """Return what was published, as ``published`` does, if there is anything.

        Args:
            count: How many messages there have to be; None: one at least; 0: none.
            exchange: See ``published``.
            routing_key: See ``published``.
            body: See ``published``.
            headers: See ``published``.
            vhost: See ``published``.

        Raises:
            AssertionError: There are none, or not as many; it shows the nearest, and the last of the others.
        """
        return self.history.check(
            count, exchange=exchange, routing_key=routing_key, body=body, headers=headers, vhost=vhost
        )
