"""The one gate that every publish of a publisher passes: its turn, its channel, and what becomes of it.

A publish goes through at once if it can.  Otherwise it stands in a line, in the order of the calls, until

* what the program called before has ended (declares, binds, ...),
* the broker reads (it has not blocked the connection) and wants publishes (``channel.flow``),
* the transport takes more, and
* fewer than the limit wait for confirms.

The broker answers a publish that it dislikes by closing the channel, and then says nothing of the others on
it.  So a message of which that can be feared travels alone: the first to each exchange, and one that may be
too large.  If the channel is closed all the same, those that the broker cannot have taken are sent again
on a fresh one; of the others nobody knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.errors import (
    AMQPError,
    Closed,
    ConfirmTimeout,
    GateTimeout,
    NotPublished,
    OutboxFull,
    caused,
)
from txamqpx.protocol.confirms import Entry
from txamqpx.publishing.deadlines import ConfirmDeadlines
from txamqpx.publishing.turns import Barrier, Content, Mark, Predecessors, Publish
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.writer import HIGH_WATER

__all__ = ["Gate", "Limits"]


@define
class Limits:
    """What a gate lets wait, and for how long."""

    outstanding: int
    waiting: int
    confirm_timeout: float
    gate_timeout: float


class Gate:
    """Lets publishes through to a channel of its own.

    Args:
        protocol: The connection.
        predecessors: What was called before.
        confirm: Whether the broker shall speak of each message.
        limits: How much may wait, and for how long.
        risky: Tells whether the broker may close the channel over a message.

    Attributes:
        ready: Whether a publish may be sent, as far as that does not change from one to the next.
        core: The channel's core, to be used only while it is ready.
        entries: What waits for the broker's word.
        proven: Exchanges that have taken a message of ours.
        moved: How many messages were sent again because the channel was closed before their turn.
    """

    def __init__(
        self,
        protocol: AMQPProtocol,
        predecessors: Predecessors,
        *,
        confirm: bool,
        limits: Limits,
        risky: Callable[[Content], bool],
    ) -> None:
        self.ready = False
        self.core: Any = None
        self.entries: dict[int, Entry] = {}
        self.proven: set[str] = set()
        self.moved = 0
        self.predecessors = predecessors
        self.limits = limits
        self._protocol = protocol
        self._clock = protocol.clock
        self._outbox = protocol.core.outbox
        self._confirm = confirm
        self._risky = risky
        self._channel: Channel | None = None
        self._line: deque[Publish | Barrier | Mark] = deque()
        self.waiting = 0
        self._waiting_bytes = 0
        self._barrier: Barrier | None = None
        self._barrier_at = 0
        # The message that travels alone.
        self._alone: Publish | None = None
        # What is to be sent again when we hear that the channel has ended.
        self._again: list[Publish] = []
        self._flushes: deque[tuple[int, Mark]] = deque()
        # Why nobody else is let in, and why nothing goes out.
        self._shut: AMQPError | None = None
        self._closed: AMQPError | None = None
        self._timer: IDelayedCall | None = None
        self._listening = False
        self._pumping = False
        self._deadlines = ConfirmDeadlines(
            self._clock, limits.confirm_timeout, self._position, self._unconfirmed
        )
        protocol.on_blocked.append(self._blocking_changed)
        protocol.when_closed().addCallback(self._connection_ended)

    # ----------------------------------------------------------------------- the line

    def line_up(self, publish: Publish) -> None:
        """Let ``publish`` through as soon as it is its turn."""
        if self._shut is not None:
            publish.give_up(caused(NotPublished(f"nothing can be published: {self._shut}"), self._shut))
            return
        size = len(publish.content[0])
        most = self._protocol.parameters.max_outbox
        if self.waiting >= self.limits.waiting or (self.waiting and self._waiting_bytes + size > most):
            full = f"{self.waiting} messages of {self._waiting_bytes} bytes wait for their turn already"
            publish.give_up(OutboxFull(full))
            return
        self._mind_predecessors()
        self._enter(publish)
        self._line.append(publish)
        self.pump()

    def mark(self, *, settled: bool) -> Deferred[None]:
        """Return a Deferred that fires when all publishes so far have passed, or also have their outcomes."""
        mark = Mark(settled)
        self._line.append(mark)
        self.pump()
        return mark.deferred

    def _mind_predecessors(self) -> None:
        made = self.predecessors.made
        if not self.predecessors.unfinished or (self._barrier is not None and self._barrier_at == made):
            return
        barrier = self._barrier = Barrier()
        self._barrier_at = made
        self._line.append(barrier)
        self.predecessors.when_idle().addCallback(self._passable, barrier)

    def _passable(self, _: object, barrier: Barrier) -> None:
        barrier.called = True
        if self._barrier is barrier:
            self._barrier = None
        self.pump()

    def pump(self) -> None:
        """Let through whoever may pass."""
        if self._pumping:
            return
        self._pumping = True
        line = self._line
        reached: list[Mark] = []
        try:
            while line:
                first = line[0]
                if isinstance(first, Mark):
                    line.popleft()
                    if first.settled and self._oldest() is not None:
                        self._flushes.append((self._next_number(), first))
                    else:
                        reached.append(first)
                elif first.called:
                    line.popleft()
                elif isinstance(first, Barrier) or not self._has_channel(first) or not self._may_pass(first):
                    if not first.called:
                        break
                else:
                    self._leave(first)
                    line.popleft()
                    self._send(first)
        finally:
            self._pumping = False
        self._look()
        for mark in reached:  # not before: whoever is told may publish, and is to find the gate open
            mark.fire()

    def _enter(self, publish: Publish) -> None:
        publish.since = self._clock.seconds()
        self.waiting += 1
        self._waiting_bytes += len(publish.content[0])

    def _leave(self, publish: Publish) -> None:
        publish.since = None
        self.waiting -= 1
        self._waiting_bytes -= len(publish.content[0])

    def _may_pass(self, publish: Publish) -> bool:
        alone = self._alone is not None or self._is_risky(publish.content)
        return self._obstacle() is None and not (alone and self.entries)

    def _is_risky(self, content: Content) -> bool:
        return self._confirm and (content[1] not in self.proven or self._risky(content))

    def _obstacle(self) -> str | None:
        """Return why nothing can be sent at the moment, or None."""
        if self._channel is None or self._channel.core.error is not None:
            return "the channel is being replaced"
        if self._protocol.blocked is not None:
            return f"the broker has blocked the connection: {self._protocol.blocked}"
        if not self._channel.flow_active:
            return "the broker has asked for a pause (channel.flow)"
        if len(self.entries) >= self.limits.outstanding:
            return f"{len(self.entries)} messages wait for confirms"
        if self._outbox.size > HIGH_WATER:
            self._listen()
            return "the transport takes no more"
        return None

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._protocol.when_writable().addCallbacks(self._writable, lambda failure: None)

    def _writable(self, _: None) -> None:
        self._listening = False
        self.pump()

    def _send(self, publish: Publish) -> None:
        if self._is_risky(publish.content):
            self._alone = publish
        try:
            waits = self.core.publish(publish, *publish.content)
        except AMQPError as error:
            self._alone = None
            publish.give_up(error)
            return
        if not waits:
            self.proven.add(publish.content[1])
            publish.callback(None)

    def _look(self) -> None:
        """See whether the next publish can take the short way, and what there is to wait for."""
        if self._confirm and self.entries and self._protocol.blocked is None:
            self._deadlines.start()
        self.ready = (
            not self._line
            and self._shut is None
            and self._channel is not None
            and self._protocol.blocked is None
            and self._channel.flow_active
            and self._alone is None
            and (self._deadlines.running or not self._confirm)
        )
        if self._timer is None:
            self._await_the_first()

    def _oldest(self) -> int | None:
        """Return the number of the first publish that has no outcome."""
        return next((number for number, entry in self.entries.items() if not entry[0].called), None)

    def affects(self, concerns: Callable[[str, str], bool]) -> bool:
        """Tell whether ``concerns`` (exchange and routing key) holds for a publish without an outcome."""
        waiting = [one for one in self._line if isinstance(one, Publish) and not one.called]
        sent = [_content(entry) for entry in self.entries.values() if not entry[0].called]
        return any(concerns(content[1], content[2]) for content in [*sent, *(one.content for one in waiting)])

    # ----------------------------------------------------------------------- outcomes

    def outcome(self, publish: Publish, failure: Failure) -> Failure | None:
        """Return what ``publish`` shall fail with, or None if it stays in the line."""
        if publish.since is not None:
            self._leave(publish)
            error = publish.reason or NotPublished("it was cancelled before it was sent")
            return Failure(error) if failure.check(CancelledError) else failure
        if failure.check(CancelledError):
            return failure if publish.reason is None else Failure(publish.reason)
        if failure.check(NotPublished) and self._closed is None and self._protocol.core.error is None:
            self._again.append(publish)
            return None
        return failure

    def _position(self) -> int:
        if self.entries:
            return self._next_number()
        self.ready = False  # whoever publishes next has to start the deadlines again
        return 0

    def _unconfirmed(self, number: int) -> None:
        """Give up the publishes below ``number``."""
        late: list[Publish] = [entry[0] for seq, entry in self.entries.items() if seq < number]
        for publish in late:
            if publish is self._alone:  # it did not cost the channel, and holds up the others
                self._prove(publish)
            publish.give_up(ConfirmTimeout(self.limits.confirm_timeout))
        self._fire_flushes()
        self.pump()

    def _fire_flushes(self) -> None:
        oldest = self._oldest()
        while self._flushes and (oldest is None or self._flushes[0][0] <= oldest):
            self._flushes.popleft()[1].fire()

    def _await_the_first(self) -> None:
        """Arrange that whoever waits for his turn does not wait for ever."""
        waiting = (one for one in self._line if isinstance(one, Publish) and not one.called)
        first = next(waiting, None)
        if first is not None and first.since is not None:
            delay = first.since + self.limits.gate_timeout - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, delay), self._out_of_patience)

    def _out_of_patience(self) -> None:
        self._timer = None
        longest = self._clock.seconds() - self.limits.gate_timeout
        why = self.why()
        for one in tuple(self._line):
            if isinstance(one, Publish) and one.since is not None:
                if one.since > longest:
                    break
                one.give_up(GateTimeout(self.limits.gate_timeout, why))
        self.pump()

    def why(self) -> str:
        """Return what the first in the line waits for."""
        if isinstance(self._line[0], Barrier):
            return "an operation that was called before it has not ended"
        return self._obstacle() or "a message before it travels alone, as it may cost the channel"

    # ----------------------------------------------------------------------- the channel

    def _has_channel(self, publish: Publish) -> bool:
        if self._channel is not None:
            return True
        try:
            channel = self._protocol.new_channel()
        except AMQPError as error:
            publish.give_up(caused(NotPublished(str(error)), error))
            return False
        self._channel = channel
        self.core = channel.core
        if self._confirm:
            channel.confirm_select().addErrback(lambda failure: None)  # the channel's end says it all
            assert channel.core.confirms is not None
            self.entries = channel.core.confirms.entries
            channel.on_confirms = self._heard
        channel.on_flow = self.pump
        channel.when_closed().addCallback(self._ended)
        return True

    def _ended(self, reason: AMQPError) -> None:
        self._channel = None
        entries, self.entries = self.entries, {}
        self.ready = False
        self._alone = None
        self._deadlines.stop()
        if isinstance(reason, Closed) and reason.exchange is not None:
            self.proven.discard("" if reason.exchange == "amq.default" else reason.exchange)
        again, self._again = self._again, []
        if again:
            contents = {entry[0]: _content(entry) for entry in entries.values()}
            for publish in again:
                publish.content = contents[publish]
                self._enter(publish)
            self.moved += len(again)
        marks = [mark for _, mark in self._flushes]
        self._flushes.clear()
        self._line.extendleft(reversed([*again, *marks]))
        self.pump()

    def _heard(self) -> None:
        """Take note that the broker has spoken of publishes."""
        if self._alone is not None and not self.entries:
            self._prove(self._alone)
        if self._flushes:
            self._fire_flushes()
        if self._line or not self.ready:
            self.pump()

    def _prove(self, publish: Publish) -> None:
        self.proven.add(publish.content[1])
        self._alone = None

    def _next_number(self) -> int:
        number: int = self.core.confirms.next_seq
        return number

    def _blocking_changed(self) -> None:
        if self._protocol.blocked is not None:
            self.ready = False
            self._deadlines.suspend()
        else:
            self._deadlines.resume()
            self.pump()

    def _connection_ended(self, reason: AMQPError) -> None:
        self.close(reason)

    def shut(self, reason: AMQPError) -> None:
        """Let nobody else stand in the line."""
        self._shut = self._shut or reason
        self.ready = False

    def close(self, reason: AMQPError) -> Deferred[None]:
        """Let nothing through any more, and close the channel.

        Whoever waits for his turn fails with ``NotPublished``, for a confirm with ``OutcomeUnknown``.
        """
        if self._closed is not None:
            return succeed(None)
        self.shut(reason)
        self._closed = reason
        self._deadlines.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._protocol.on_blocked.remove(self._blocking_changed)
        line, self._line = self._line, deque()
        for one in line:
            if isinstance(one, Publish) and not one.called:
                one.give_up(caused(NotPublished(f"it was not sent before the end: {reason}"), reason))
        for one in [*line, *(mark for _, mark in self._flushes)]:
            if isinstance(one, Mark):
                one.fire()
        self._flushes.clear()
        return succeed(None) if self._channel is None else self._channel.close()


def _content(entry: Entry) -> Content:
    _, _, exchange, routing_key, mandatory, properties, body = entry
    assert isinstance(properties, BasicProperties)
    return body, exchange, routing_key, properties, mandatory
