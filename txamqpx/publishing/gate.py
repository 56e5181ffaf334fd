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

from collections import OrderedDict
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.errors import (
    AMQPError,
    Closed,
    ConfirmTimeout,
    ConnectionClosed,
    GateTimeout,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    caused,
)
from txamqpx.protocol.confirms import ConfirmLedger, Entry
from txamqpx.publishing.deadlines import ConfirmDeadlines
from txamqpx.publishing.flushes import Flushes
from txamqpx.publishing.turns import Barrier, Content, Mark, Predecessors, Publish
from txamqpx.spec.amqp0_9_1 import BasicProperties

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
        waiting: How many messages wait for their turn.
        moved: How many messages were sent again because the channel was closed before their turn.
    """

    log = Logger()

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
        self.waiting = 0
        self.moved = 0
        self.predecessors = predecessors
        self.limits = limits
        self._protocol = protocol
        self._clock = protocol.clock
        self._outbox = protocol.core.outbox
        self._confirm = confirm
        self._risky = risky
        self._channel: Channel | None = None
        self._ledger = ConfirmLedger()
        # In a dict, as anybody in it may leave at any time.
        self._line: OrderedDict[Publish | Mark, None] = OrderedDict()
        self._waiting_bytes = 0
        self._barrier: Barrier | None = None
        # Number and exchange of the message that travels alone.
        self._alone: tuple[int, str] | None = None
        self._flushes = Flushes()
        # What is to be sent again when we hear that the channel has ended.
        self._again: set[Publish] = set()
        # Why nobody else is let in, and why nothing goes out.
        self._shut: AMQPError | None = None
        self._closed: AMQPError | None = None
        # Whether everybody has been told so.
        self._over = False
        self._timer: IDelayedCall | None = None
        self._listening = False
        self._pumping = False
        self._deadlines = ConfirmDeadlines(
            self._clock, limits.confirm_timeout, self._position, self._unconfirmed
        )
        protocol.on_blocked.append(self._blocking_changed)
        self._watch = protocol.when_closed()
        self._watch.addCallbacks(self.close, lambda failure: None)

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
        self._outbox.wake()  # which raises on a foreign thread: before anything is changed
        publish.after = self._predecessors()
        self._enter(publish, self._clock.seconds())
        self._line[publish] = None
        if len(self._line) == 1:  # behind others it changes nothing
            self.pump()

    def mark(self, *, settled: bool) -> Deferred[None]:
        """Return a Deferred that fires when all publishes so far have passed, or also have their outcomes."""
        if self._over:
            return self._protocol.when_told() if settled else succeed(None)
        mark = Mark(settled, Deferred(lambda _: self._forget(mark)))
        if settled:  # the ledger is ahead of those whom an ack that has just come is about to be told to
            mark.deferred.addCallback(lambda _: self._protocol.when_told())
        self._line[mark] = None
        self.pump()
        return mark.deferred

    def _forget(self, mark: Mark) -> None:
        self._line.pop(mark, None)
        self._flushes.forget(mark)

    def _predecessors(self) -> Barrier | None:
        if not self.predecessors.unfinished:
            return None
        made = self.predecessors.made
        if self._barrier is None or self._barrier.made != made:
            self._barrier = Barrier(made)
            self.predecessors.when_idle().addCallback(self._passed, self._barrier)
        return self._barrier

    def _passed(self, _: object, barrier: Barrier) -> None:
        barrier.passed = True
        self.pump()

    def pump(self) -> None:
        """Let through whoever may pass."""
        if self._pumping or self._closed is not None:
            return
        if self._alone is not None and self._alone[0] not in self.entries:
            self._prove(self._alone)
        done: list[Mark | Publish] = []
        self._pumping = True
        try:
            while self._line:
                first = next(iter(self._line))
                if isinstance(first, Mark):
                    del self._line[first]
                    if first.settled and not self._flushes.settled:
                        self._flushes.add(first)
                    else:
                        done.append(first)
                elif not self._may_pass(first):
                    break
                elif self._send(first):
                    done.append(first)
        finally:
            self._pumping = False
        self._look()
        for one in done:  # not before: whoever is told may publish, and is to find the gate open
            one.fire()

    def _enter(self, publish: Publish, since: float) -> None:
        publish.since = since
        self.waiting += 1
        self._waiting_bytes += len(publish.content[0])

    def _leave(self, publish: Publish) -> None:
        self._line.pop(publish, None)
        publish.since = None
        self.waiting -= 1
        self._waiting_bytes -= len(publish.content[0])
        del publish.content  # the ledger has it, or nobody needs it any more

    def _may_pass(self, publish: Publish) -> bool:
        if publish.after is not None and not publish.after.passed:
            return False
        return self._obstacle() is None and (self._flushes.settled or not self._is_risky(publish.content))

    def _is_risky(self, content: Content) -> bool:
        return self._confirm and (content[1] not in self.proven or self._risky(content))

    def _obstacle(self) -> str | None:
        """Return why nothing can be sent at the moment, or None."""
        channel = self._channel
        if self._protocol.blocked is not None:
            return f"the broker has blocked the connection: {self._protocol.blocked}"
        if channel is not None and channel.core.error is not None:
            return "the channel is being replaced"
        if channel is not None and not channel.flow_active:
            return "the broker has asked for a pause (channel.flow)"
        if self._alone is not None:
            return "a message before it travels alone, as it may cost the channel"
        if len(self.entries) >= self.limits.outstanding:
            return f"{len(self.entries)} messages wait for confirms"
        if self._listening or self._outbox.size > self._outbox.high_water:
            self._listen()
            return "the transport takes no more"
        return None

    def _listen(self, most: int | None = None) -> None:
        if not self._listening:
            self._listening = True
            self._protocol.when_writable(most).addCallbacks(self._writable, lambda failure: None)

    def _writable(self, _: None) -> None:
        self._listening = False
        self.pump()

    def _send(self, publish: Publish) -> bool:
        """Hand a publish to the channel; return whether that is all that becomes of it."""
        content = publish.content
        exchange, risky = content[1], self._is_risky(content)
        try:
            self._open()
            waits = self.core.publish(publish, *content)
        except AMQPError as error:
            if isinstance(error, OutboxFull) and self._channel is not None:
                self._listen(0)  # behind nothing, any size is let through
                return False
            not_sent = error if isinstance(error, NotPublished) else caused(NotPublished(str(error)), error)
            publish.give_up(not_sent)
            return False
        self._leave(publish)
        if not waits:
            self.proven.add(exchange)
        elif risky:
            self._alone = (self._ledger.next_seq - 1, exchange)
        return not waits

    def _look(self) -> None:
        """See whether the next publish can take the short way, and what there is to wait for."""
        blocked = self._protocol.blocked is not None
        if self.entries and not blocked:
            self._deadlines.start()
        self.ready = (
            not self._line
            and self._shut is None
            and self._channel is not None
            and self._channel.flow_active
            and not blocked
            and self._alone is None
            and (self._deadlines.running or not self._confirm)
        )
        if self._timer is None and self.waiting:
            delay = self._since() + self.limits.gate_timeout - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, delay), self._out_of_patience)

    def _since(self) -> float:
        """Return when the first in the line began to wait; now, if there is none."""
        stood = (one.since for one in self._line if isinstance(one, Publish) and one.since is not None)
        return next(stood, self._clock.seconds())

    def affects(self, concerns: Callable[[str, str], bool]) -> bool:
        """Tell whether ``concerns`` (exchange and routing key) holds for a publish without an outcome."""
        if any(concerns(*entry[2:4]) for entry in self.entries.values() if not entry[0].called):
            return True
        return any(concerns(*one.content[1:3]) for one in self._line if isinstance(one, Publish))

    # ----------------------------------------------------------------------- outcomes

    def failed(self, publish: Publish, failure: Failure) -> None:
        """Let ``publish`` fail, unless it can still be sent."""
        waited = publish.since is not None
        if waited:
            self._leave(publish)
        if failure.check(CancelledError):
            error = publish.reason
            if error is None and waited:
                error = NotPublished("it was cancelled before it was sent")
            publish.end(failure if error is None else Failure(error))
            self._flushes.fire()
            self.pump()  # it may have been in somebody's way
        elif failure.check(NotPublished) and self._protocol.core.error is None:
            self._again.add(publish)
        else:
            publish.end(failure)

    def _position(self) -> int:
        if self.entries:
            return self._ledger.next_seq
        self.ready = False  # whoever publishes next has to start the deadlines again
        return 0

    def _unconfirmed(self, number: int) -> None:
        """Give up the publishes below ``number``."""
        if self._alone is not None and self._alone[0] < number:
            self._prove(self._alone)  # it did not cost the channel, and holds up the others
        for late in [entry[0] for seq, entry in self.entries.items() if seq < number]:
            late.give_up(ConfirmTimeout(self.limits.confirm_timeout))
        self.pump()

    def _out_of_patience(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for one in [one for one in self._line if isinstance(one, Publish)]:
            if one.since is not None:  # it may have passed, or left, meanwhile
                if one.since + self.limits.gate_timeout > now:  # rounded as where the timer was set
                    break
                one.give_up(GateTimeout(self.limits.gate_timeout, self.why(one)))
        self.pump()

    def why(self, publish: Publish) -> str:
        """Return what ``publish`` waits for."""
        if publish.after is not None and not publish.after.passed:
            return "an operation that was called before it has not ended"
        return self._obstacle() or "it travels alone, as it may cost the channel, and others are on the way"

    # ----------------------------------------------------------------------- the channel

    def _open(self) -> None:
        """Open a channel if there is none.

        Raises:
            AMQPError: That is impossible.
        """
        if self._channel is not None:
            return
        channel = self._protocol.new_channel()
        if self._confirm:
            channel.confirm_select().addErrback(lambda failure: None)  # the channel's end says it all
            if channel.core.confirms is None:
                channel.close()
                raise OutboxFull("too much waits to be written for a channel to be opened")
            self._ledger = channel.core.confirms
            self.entries = self._ledger.entries
            self._flushes.begin(self._ledger)
            channel.on_confirms = self._heard
        self._channel = channel
        self.core = channel.core
        channel.on_flow = self.pump
        channel.when_closed().addCallback(self._ended)

    def _ended(self, reason: AMQPError) -> None:
        self._channel = None
        entries, self.entries = self.entries, {}
        self.ready = False
        self._alone = None
        self._deadlines.stop()
        if isinstance(reason, Closed) and reason.exchange is not None:
            self.proven.discard("" if reason.exchange == "amq.default" else reason.exchange)
        if not self._confirm and not isinstance(reason, ConnectionClosed) and self._closed is None:
            self.log.warn("messages published without confirms may be lost: {reason}", reason=reason)
        first: list[tuple[Mark | Publish, int]] = [*self._flushes.take()]
        since = self._since()  # of who stands behind them, at most: they were made earlier
        for number, entry in entries.items():
            if entry[0] in self._again:
                entry[0].content = _content(entry)
                self._enter(entry[0], since)
                first.append((entry[0], number))
        self.moved += len(self._again)
        self._flushes.begin(ConfirmLedger())
        self._again.clear()
        first.sort(key=itemgetter(1))  # a mark stays before what has its number
        for one, _ in reversed(first):
            self._line[one] = None
            self._line.move_to_end(one, last=False)
        self.pump()

    def _heard(self) -> None:
        """Take note that the broker has spoken of publishes."""
        self._flushes.fire()
        if self._line or not self.ready:
            self.pump()

    def _prove(self, alone: tuple[int, str]) -> None:
        self.proven.add(alone[1])
        self._alone = None

    def _blocking_changed(self) -> None:
        if self._protocol.blocked is not None:
            self.ready = False
            self._deadlines.suspend()
        else:
            self._deadlines.resume()
            self.pump()

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
        self._watch.cancel()
        self._deadlines.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._protocol.on_blocked.remove(self._blocking_changed)
        for waiting in [one for one in self._line if isinstance(one, Publish)]:
            waiting.give_up(caused(NotPublished(f"it was not sent before the end: {reason}"), reason))
        for entry in tuple(self.entries.values()):
            entry[0].give_up(caused(OutcomeUnknown(f"no confirm came before the end: {reason}"), reason))
        self._over = True
        for mark in [*(mark for mark, _ in self._flushes.take()), *self._line]:
            assert isinstance(mark, Mark)  # the publishes have left
            mark.fire()
        self._line.clear()
        return succeed(None) if self._channel is None else self._channel.close()


def _content(entry: Entry) -> Content:
    _, _, exchange, routing_key, mandatory, properties, body = entry
    assert isinstance(properties, BasicProperties)
    return body, exchange, routing_key, properties, mandatory
