"""Calls that name no channel, and yet take effect in the order in which they were made.

Two operations whose order matters have a name in common: a queue, an exchange, a binding.  They go to the
broker on one channel, one behind the other, or the later one waits for the end of the earlier one.  All
others are spread over several channels, because a broker answers each channel's calls one by one.

When the broker closes a channel over one of them, those behind it have had no effect: they are sent again,
and nobody hears of it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from attrs import Factory, define, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError, EncodeError, NotProcessed, RPCTimeout
from txamqpx.lanes import MOST, Host, Lane, Lanes
from txamqpx.queue_types import QueueTypes
from txamqpx.spec.amqp0_9_1 import (
    BasicGet,
    ExchangeBind,
    ExchangeDeclare,
    ExchangeDelete,
    ExchangeUnbind,
    QueueBind,
    QueueDeclare,
    QueueDelete,
    QueuePurge,
    QueueUnbind,
)
from txamqpx.spec.base import Method, Request

__all__ = ["Footprint", "Name", "Operations", "footprint_of"]

R = TypeVar("R", bound=Method)
T = TypeVar("T")

#: ``("queue", name)``, ``("exchange", name)``, ``("binding", destination, source)`` or ``("bindings",)``.
Name = tuple[str, ...]

# What is deleted takes its bindings along, of which only the broker knows.  Exchanges may be unused then, and
# those that are auto-delete go.
_BINDINGS: Name = ("bindings",)

# How often a call is sent again that the broker may have closed the channel over, without saying so.
SECOND_CHANCES = 3


@frozen
class Footprint:
    """What an operation changes and what it looks at.

    Two operations may go in any order unless one of them writes what the other one writes or reads.
    """

    writes: tuple[Name, ...] = ()
    reads: tuple[Name, ...] = ()


def footprint_of(method: Method) -> Footprint:
    """Return what a call changes and what it looks at.

    Raises:
        TypeError: It is none that makes sense on a channel that others use, too.
    """
    match method:
        case QueueDeclare(queue="", passive=False):
            return Footprint()  # the broker makes up the name, which nobody knows before the answer
        case QueueDeclare(queue=queue, passive=True):
            return Footprint(reads=(("queue", queue),))
        case QueueDeclare(queue=queue) | QueuePurge(queue=queue) | BasicGet(queue=queue):
            return Footprint(writes=(("queue", queue),))
        case QueueDelete(queue=queue):
            return Footprint((("queue", queue),), (_BINDINGS,))
        case ExchangeDeclare(exchange=exchange, passive=True):
            return Footprint(reads=(("exchange", exchange),))
        case ExchangeDeclare(exchange=exchange, auto_delete=True):
            return Footprint(writes=(("exchange", exchange), _BINDINGS))
        case ExchangeDeclare(exchange=exchange):
            return Footprint(writes=(("exchange", exchange),))
        case ExchangeDelete(exchange=exchange, if_unused=True):
            return Footprint(writes=(("exchange", exchange), _BINDINGS))
        case ExchangeDelete(exchange=exchange):
            return Footprint((("exchange", exchange),), (_BINDINGS,))
        case QueueBind(queue=queue, exchange=source):
            return Footprint((("binding", queue, source),), (("queue", queue), ("exchange", source)))
        case ExchangeBind(destination=to, source=source):
            return Footprint((("binding", to, source),), (("exchange", to), ("exchange", source)))
        # With its last binding an exchange may go itself.
        case QueueUnbind(queue=queue, exchange=source):
            return Footprint((("binding", queue, source), ("exchange", source)), (("queue", queue),))
        case ExchangeUnbind(destination=to, source=source):
            return Footprint((("binding", to, source), ("exchange", source)), (("exchange", to),))
    raise TypeError(f"{method.name} needs a channel of its own")


@define(eq=False)
class _Operation:
    """Something that was asked for and has not ended.

    One that was given up, or that could not be sent, keeps its place until those before it have ended: what
    comes after it comes after those.  One that was sent keeps it until it is answered, or its time is over:
    what a broker does later than that is out of any order.
    """

    number: int
    footprint: Footprint
    result: Deferred[Any]
    #: Either a method, or a function that begins it.
    method: Method | None = None
    begin: Callable[[], Deferred[Any]] | None = None
    #: What its lane is kept for.
    place: Hashable = None
    #: What takes back what it did, should nobody wait for it any more.
    undo: Callable[[Any], object] | None = None
    #: Its end, if nothing else ends it before; and whether it came while the broker had it.
    timer: IDelayedCall | None = None
    overdue: bool = False
    #: Where it was sent.
    lane: Lane | None = None
    #: Whether ``begin`` was called, and what it has returned.
    begun: bool = False
    running: Deferred[Any] | None = None
    #: How much has to happen first that is not an operation.
    held: int = 0
    #: How often the broker has closed a channel when it was its turn, and blamed nobody.
    suspected: int = 0
    after: set[_Operation] = Factory(set)
    followers: list[_Operation] = Factory(list)


class Operations:
    """The operations of one connection that name no channel.

    Args:
        host: The connection, an ``AMQPProtocol``.
        before: Asked with each operation's footprint when it is made: None, or a Deferred that fires when the
            publishes that were made before and that it may interfere with are settled.
        channels: How many channels to use at most.
        queue_types: What is known of queues; learns of each that is declared or deleted here.

    Attributes:
        made: How many there ever were.
        unfinished: Those that have not ended, by their numbers; for who cannot afford to ask ``busy``.
    """

    def __init__(
        self,
        host: Host,
        before: Callable[[Footprint], Deferred[None] | None] = lambda footprint: None,
        channels: int = MOST,
        queue_types: QueueTypes | None = None,
    ) -> None:
        self.queue_types = QueueTypes() if queue_types is None else queue_types
        self._host = host
        self._before = before
        self._lanes = Lanes(host, self._retry, channels)
        self.made = 0
        self.unfinished: OrderedDict[int, _Operation] = OrderedDict()
        # Who is to be asked for each name: the last that writes it, and those that have read it since.
        self._writers: dict[Name, _Operation] = {}
        self._readers: dict[Name, set[_Operation]] = {}
        # To be looked at, in this order; and those for which there was no channel.
        self._ready: deque[_Operation] = deque()
        self._stranded: list[_Operation] = []
        self._looking = False
        self._idle: deque[tuple[int, Deferred[None]]] = deque()

    @property
    def busy(self) -> bool:
        """Whether an operation has not ended: what is published now has to wait for it."""
        return bool(self.unfinished)

    def when_idle(self) -> Deferred[None]:
        """Return a Deferred that fires once all operations made so far have ended, however that was."""
        if not self.unfinished and not self._idle:  # who waits longer hears of it first
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._idle.append((self.made, waiter))
        return waiter

    def call(
        self,
        method: Request[R],
        footprint: Footprint | None = None,
        *,
        timeout: float | None = None,
        place: Hashable = None,
        after: Deferred[Any] | None = None,
        undo: Callable[[R], object] | None = None,
    ) -> Deferred[R]:
        """Send a method, as soon as what was asked before allows it.

        Args:
            method: The method with its arguments.
            footprint: What it changes and looks at; None: ``footprint_of(method)``.
            timeout: Seconds from now to the answer; None: the connection's ``rpc_timeout``.
            place: Whatever names the channel that it has to go to; None: any.
            after: Something else that has to have fired first; until then ``method`` may be completed.  If it
                fails, so does the call.
            undo: Called with the answer if nobody waits for it any more.

        Returns:
            A Deferred of the answer.  It fails with the ``ChannelClosed`` that this very call caused, with
            ``RPCTimeout``, or with the connection; with ``TopologyError`` if the type of the queue does not
            allow it.  If it is cancelled, the call is not sent, or if it was sent, its answer is swallowed.

        Raises:
            EncodeError: An argument does not fit; nothing was sent.
        """
        # It may be sent only later, when nobody could be told.
        size, room = len(method.encode()), self._host.core.payload_max
        if size > room:
            raise EncodeError(f"takes {size} bytes, a frame holds {room}", method.name)
        if footprint is None:
            footprint = footprint_of(method)
        operation = self._make(footprint)
        operation.method, operation.place, operation.undo = method, place, undo
        return self._submit(operation, method.name, timeout, after)

    def run(
        self,
        start: Callable[[], Deferred[T]],
        footprint: Footprint,
        *,
        name: str = "operation",
        timeout: float | None = None,
    ) -> Deferred[T]:
        """Begin something on a channel that the caller has for himself, as soon as its turn has come.

        Args:
            start: Begins it.
            footprint: What it changes and looks at.
            name: What to call it, should it take too long.
            timeout: Seconds from now to its end; None: the connection's ``rpc_timeout``.

        Returns:
            A Deferred of what ``start`` comes to.  If it is cancelled, or out of time, ``start`` is not
            called any more, or its Deferred is cancelled.
        """
        operation = self._make(footprint)
        operation.begin = start
        return self._submit(operation, name, timeout)

    # ----------------------------------------------------------------------- who comes after whom

    def _make(self, footprint: Footprint) -> _Operation:
        outbox = self._host.core.outbox
        if not outbox.size:
            outbox.wake()  # which raises on a foreign thread: before anything is noted
        self.made += 1
        operation = _Operation(self.made, footprint, Deferred(lambda _: self._give_up(operation)))
        return operation

    def _submit(
        self, operation: _Operation, name: str, timeout: float | None, after: Deferred[Any] | None = None
    ) -> Deferred[Any]:
        self._enter(operation)
        limit = self._host.parameters.rpc_timeout if timeout is None else timeout
        operation.timer = self._host.clock.callLater(limit, self._expire, operation, name, limit)
        waits = (self._before(operation.footprint), after)
        pending = [wait for wait in waits if wait is not None]
        operation.held = len(pending)
        for wait in pending:
            wait.addBoth(self._release, operation)
        self._look_at(operation)
        return operation.result

    def _enter(self, operation: _Operation) -> None:
        footprint, after = operation.footprint, operation.after
        for name in (*footprint.writes, *footprint.reads):
            if name in self._writers:
                after.add(self._writers[name])
        for name in footprint.writes:
            after |= self._readers.pop(name, set())
            self._writers[name] = operation
        for name in footprint.reads:
            self._readers.setdefault(name, set()).add(operation)
        after.discard(operation)
        for earlier in after:
            earlier.followers.append(operation)
        self.unfinished[operation.number] = operation

    def _leave(self, operation: _Operation) -> None:
        del self.unfinished[operation.number]
        if operation.timer is not None and operation.timer.active():
            operation.timer.cancel()
        for name in operation.footprint.writes:
            if self._writers.get(name) is operation:
                del self._writers[name]
        for name in operation.footprint.reads:
            readers = self._readers.get(name, set())
            readers.discard(operation)
            if not readers:
                self._readers.pop(name, None)
        for follower in operation.followers:
            follower.after.discard(operation)
        self._look_at(*operation.followers)
        while self._idle and (not self.unfinished or next(iter(self.unfinished)) > self._idle[0][0]):
            _, waiter = self._idle.popleft()
            if not waiter.called:  # it was cancelled
                waiter.callback(None)

    def _look_at(self, *operations: _Operation) -> None:
        """See whose turn has come: one by one, and never one inside of another, however long the queue."""
        self._ready += operations
        if self._looking:
            return
        self._looking = True
        try:
            while self._ready:
                self._consider(self._ready.popleft())
        finally:
            self._looking = False

    def _consider(self, operation: _Operation) -> None:
        if operation.lane is not None or operation.begun:
            return
        if operation.result.called:
            if not operation.after and operation.number in self.unfinished:
                self._leave(operation)
        elif operation.held:
            pass
        elif operation.begin is not None:
            if not operation.after:
                self._begin(operation, operation.begin)
        else:
            try:
                self._send_if_possible(operation)
            except AMQPError as error:
                self._refuse(operation, Failure(error))

    def _refuse(self, operation: _Operation, failure: Failure) -> None:
        if not operation.result.called:
            operation.result.errback(failure)
        self._look_at(operation)

    # ----------------------------------------------------------------------- sending

    def _send_if_possible(self, operation: _Operation) -> None:
        lane: Lane | None
        assert operation.method is not None
        if operation.after:
            if self.queue_types.depends(operation.method, [earlier.method for earlier in operation.after]):
                return
            # The broker keeps the order of what is sent on one channel.
            lane = next(iter(operation.after)).lane
            if lane is None or not lane.is_live or lane.place != operation.place:
                return
            if any(earlier.lane is not lane for earlier in operation.after):
                return
            self.queue_types.check(operation.method)
        else:
            self.queue_types.check(operation.method)
            lane = self._lanes.find(operation.place)
            if lane is None:
                self._stranded.append(operation)
                return
        answer: Deferred[Any] = Deferred()
        lane.channel.core.send(operation.method, answer)
        operation.lane = lane
        lane.load += 1
        answer.addCallbacks(
            self._answered, self._failed, callbackArgs=(operation, lane), errbackArgs=(operation, lane)
        )
        self._look_at(*operation.followers)

    def _retry(self) -> None:
        stranded, self._stranded = self._stranded, []
        self._look_at(*stranded)

    def _answered(self, answer: Any, operation: _Operation, lane: Lane) -> None:
        lane.load -= 1
        lane.overdue -= operation.overdue
        assert operation.method is not None  # it was sent
        self.queue_types.learn(operation.method)  # before anybody's turn comes
        if operation.number in self.unfinished:
            self._leave(operation)
        if not operation.result.called:
            operation.result.callback(answer)
        elif operation.undo is not None:
            operation.undo(answer)
        self._lanes.rest(lane)

    def _failed(self, failure: Failure, operation: _Operation, lane: Lane) -> None:
        lane.load -= 1
        first, lane.failed = not lane.failed, True
        operation.lane = None
        if failure.check(NotProcessed) is not None:
            # The broker deals with them one by one, so if somebody is to blame it is the first.
            operation.suspected += first
            if operation.suspected <= SECOND_CHANCES:
                self._look_at(operation)
                return
        self._refuse(operation, failure)

    # ----------------------------------------------------------------------- what others do

    def _begin(self, operation: _Operation, begin: Callable[[], Deferred[Any]]) -> None:
        operation.begun = True
        operation.running = maybeDeferred(begin)
        if operation.result.called:  # given up by what ``begin`` did
            operation.running.cancel()
        operation.running.addBoth(self._ended, operation)

    def _ended(self, result: Any, operation: _Operation) -> None:
        if operation.number in self.unfinished:
            self._leave(operation)
        if operation.result.called:
            return
        if isinstance(result, Failure):
            operation.result.errback(result)
        else:
            operation.result.callback(result)

    def _release(self, result: object, operation: _Operation) -> None:
        operation.held -= 1
        if isinstance(result, Failure):
            self._refuse(operation, result)
        else:
            self._look_at(operation)

    def _give_up(self, operation: _Operation) -> None:
        if operation.running is not None:
            operation.running.cancel()
        self._refuse(operation, Failure(CancelledError()))

    def _expire(self, operation: _Operation, name: str, seconds: float) -> None:
        if not operation.result.called:
            operation.result.errback(Failure(RPCTimeout(name, seconds, self._host.blocked)))
        if operation.running is not None:
            operation.running.cancel()
        if operation.lane is not None:
            operation.lane.overdue += 1
            operation.overdue, operation.lane = True, None
        if operation.begun and operation.number in self.unfinished:
            self._leave(operation)
        self._look_at(operation)
