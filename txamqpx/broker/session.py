"""One client's connection to the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from typing import Protocol as Role

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.consumer import Source
from txamqpx.broker.history import History
from txamqpx.broker.message import Message
from txamqpx.broker.reception import House, Reception
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.users import User
from txamqpx.broker.vhost import VirtualHost
from txamqpx.errors import ConnectionLost
from txamqpx.protocol import events
from txamqpx.protocol.rulings import Breach, Ending
from txamqpx.protocol.serving import ServerConnection
from txamqpx.pulse import Pulse
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.writer import Writer

__all__ = ["Session", "Surroundings"]

# RabbitMQ's patience, in seconds: with a client that does not log in, that does not answer a close, and
# with one that it has hung up on and that may still be reading why, or guessing passwords.
HANDSHAKE = 10.0
CLOSING = 30.0
SILENCE = 3.0

# A client that reads slowly has no more deliveries than this waiting for it, besides what the transport has.
_MOST_WAITING = 256 * 1024

# When more than this waits, of answers that the client has asked for, it is asked nothing more itself, and
# replies from others are dropped.
_MOST_OWED = 1024 * 1024

# Why a session does not read.
_ALARM = "an alarm"
_OWED = "answers"


class Surroundings(House, Role):
    """A broker, as its sessions see it."""

    sessions: set[Session]

    @property
    def clock(self) -> BrokerClock:
        """The broker's time."""

    @property
    def max_message_size(self) -> int:
        """The largest body that is taken, in bytes."""

    @property
    def history(self) -> History:
        """What was published."""

    @property
    def alarm(self) -> str:
        """Why nobody may publish; empty: everybody may."""


class Session(Protocol):
    """One connection, from its greeting to its end.

    Args:
        broker: What is behind it.
    """

    log = Logger()
    vhost: VirtualHost

    def __init__(self, broker: Surroundings) -> None:
        self.broker = broker
        #: What a peer's silence is told by: the broker's own time may run ahead of it.
        self.clock = broker.clock.base
        #: Who has logged in.
        self.account: User | None = None
        #: How.
        self.mechanism = ""
        #: What the client said of itself.
        self.client_properties: Mapping[str, Any] = {}
        #: What the client said that it understands.
        self.capabilities: frozenset[str] = frozenset()
        self._reception = Reception(broker, self)
        profile = broker.profile
        self.core = ServerConnection(
            self._reception.handshake,
            published=Message,
            max_message_size=broker.max_message_size,
            largest_body=profile.largest_body,
            initial_frame_max=profile.initial_frame_max,
            rewordings=profile.rewordings,
            wake=self._wake,
        )
        self._writer = Writer(self.core.outbox, lambda: self.clock, self._wrote)
        self._pulse: Pulse | None = None
        self._deadline: IDelayedCall | None = None
        self._at_end: list[Callable[[], None]] = []
        self._dispatching = False
        # Why nothing is read, and nothing that was read is dealt with.
        self._held: set[str] = set()
        # Whether it was said that replies to this client are dropped, which is worth one line.
        self._has_lost_replies = False
        # Queues that have something for this client once it has read what waits.
        self._stalled: dict[Source, None] = {}
        # What is done when the connection is being closed, by whomever.
        self._over: dict[type[Any], Callable[[Any], None]] = {
            events.Requested: self._requested_late,
            events.ChannelEnded: self._channel_ended,
            events.ConnectionEnded: self._ended,
        }
        self._on: dict[type[Any], Callable[[Any], None]] = {
            **self._over,
            events.Requested: self._requested,
            events.Published: self._published,
            Message: self._published,
            events.Acked: self._acked,
            events.TooLarge: self._too_large,
            events.Tuned: self._tuned,
            events.Broken: self._broken,
        }

    @property
    def user(self) -> str:
        """Who has logged in; empty: nobody yet."""
        return "" if self.account is None else self.account.name

    @property
    def is_open(self) -> bool:
        """Whether the client has come all the way in and nobody has said goodbye."""
        return self.core.is_open

    # ----------------------------------------------------------------------- the transport

    def connectionMade(self) -> None:
        """Wait for the client's greeting."""
        assert self.transport is not None
        self.broker.sessions.add(self)
        self._wait(HANDSHAKE)
        self._reception.begin()
        self._writer.start(self.transport)
        self.core.start()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, do what they ask, and answer."""
        if self._pulse is not None:
            self._pulse.received = self.clock.seconds()
        self._deal_with(self.core.receive_data(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take back everything that the client had."""
        self._held.clear()
        self._on = self._over  # what was held up is lost, as it is in a socket
        self._deal_with(self.core.connection_lost(cause=reason.value))
        self._stop_timers()
        self._writer.stop()

    def _deal_with(self, happened: list[events.Event]) -> None:
        # What one event causes in this session is dealt with after it, not within.
        if self._dispatching or self._held:
            self.core.events[:0] = happened
            return
        self._dispatching = True
        self._writer.hold()
        try:
            while happened:
                waiting = iter(happened)
                for event in waiting:
                    handle = self._on.get(type(event))
                    if handle is not None:
                        try:
                            handle(event)
                        except Exception:
                            self._failed(event)
                    if self._held:
                        break
                if self._held:
                    self.core.events[:0] = waiting
                    break
                happened = self.core.take_events()
            self._finish_turn()
        finally:
            self._dispatching = False
            self._writer.flush()
        self._look_at_debts()

    def _failed(self, doing: object) -> None:
        """End this connection, and no other, over something that the broker cannot deal with."""
        self.log.failure("while dealing with {doing}", doing=doing)
        self._say_goodbye(541, "INTERNAL_ERROR", 0)

    def note(self, message: Message, confirm: bool) -> bool:
        """Take note of a publish, which will be confirmed or not; return False if it is not to be taken."""
        return self.broker.history.admit(self.vhost.name, message, self, confirm)

    def at_end(self, call: Callable[[], None]) -> None:
        """Call something when all that has come was dealt with."""
        self._at_end.append(call)
        if not self._dispatching:
            self._finish_turn()

    def _finish_turn(self) -> None:
        while self._at_end:
            calls, self._at_end = self._at_end, []
            for call in calls:
                try:
                    call()
                except Exception:
                    self._failed(call)

    def uncommitted(self) -> Iterator[Message]:
        """Yield what was published in transactions that wait for their commit."""
        for core in self.core.channels.values():
            channel: BrokerChannel | None = core.owner
            if channel is not None and channel.transaction is not None:
                yield from channel.transaction.messages()

    # ----------------------------------------------------------------------- its pace

    @property
    def writable(self) -> bool:
        """False while so much waits for the client that it had better get no deliveries, and when it goes.

        Else, of channels that end together, the last ones would get what the first ones leave.
        """
        core = self.core
        return core.outbox.size < _MOST_WAITING and core.error is None

    def takes_reply(self) -> bool:
        """Return whether so little waits for the client that a reply may be added to it.

        Replies wait in no queue, and who sends them need not care whether they are read.
        """
        takes = self.core.outbox.size <= _MOST_OWED
        if not takes and not self._has_lost_replies:
            self._has_lost_replies = True
            self.log.warn(
                "direct replies to {user} are dropped: more than {most} bytes wait to be read",
                user=self.user,
                most=_MOST_OWED,
            )
        return takes

    def stall(self, queue: Source) -> None:
        """Let a queue give out messages again once what waits has been written."""
        if self.core.error is not None:
            return
        if not self._stalled:
            self._writer.when_writable(_MOST_WAITING // 2).addCallbacks(self._go_on, lambda failure: None)
        self._stalled[queue] = None

    def _go_on(self, result: None) -> None:
        stalled, self._stalled = self._stalled, {}
        for queue in stalled:
            queue.resume()

    def _look_at_debts(self) -> None:
        """Ask nothing more from a client that does not read what it gets for that."""
        if self.core.outbox.size > _MOST_OWED and self.core.error is None and _OWED not in self._held:
            self._hold(_OWED)
            waiting = self._writer.when_writable(_MOST_WAITING)
            waiting.addCallbacks(lambda result: self._release(_OWED), lambda failure: None)

    def _hold(self, why: str) -> None:
        transport: Any = self.transport
        self._held.add(why)
        transport.pauseProducing()
        if self._pulse is not None:
            self._pulse.suspend()

    def _release(self, why: str) -> None:
        self._held.discard(why)
        if self._held:
            return
        transport: Any = self.transport
        transport.resumeProducing()
        if self._pulse is not None:
            self._pulse.resume()
        self._deal_with(self.core.take_events())

    def unblock(self) -> None:
        """Let the client publish again: the alarm is over."""
        if _ALARM in self._held:
            if "connection.blocked" in self.capabilities and self.core.is_open:
                self.core.send(amqp.ConnectionUnblocked())
            self._release(_ALARM)

    @property
    def is_blocked(self) -> bool:
        """Whether the client may not publish."""
        return _ALARM in self._held

    def block(self, reason: str) -> None:
        """Tell the client that it may not publish, and read nothing more from it."""
        if "connection.blocked" in self.capabilities and self.core.is_open:
            self.core.send(amqp.ConnectionBlocked(reason))
        self._hold(_ALARM)

    # ----------------------------------------------------------------------- events

    def _requested(self, event: events.Requested) -> None:
        core: Any = event.channel
        method: Any = event.method
        if core is None:
            if type(method) is amqp.ConnectionClose:
                self._finish_turn()
                self.core.answer_close(method)
            else:
                self._reception.methods[method.index](method)
        elif type(method) is amqp.ChannelOpen:
            BrokerChannel(self, core)
            core.send(amqp.ChannelOpenOk())
        elif type(method) is amqp.ChannelClose:
            core.owner.publishing.flush()
            core.owner.end()
            self.core.answer_channel_close(core, method)
        else:
            core.owner.requested(event)
        self._look_at_debts()

    def _requested_late(self, event: events.Requested) -> None:
        if type(event.method) is amqp.ConnectionClose:  # it has crossed ours
            self.core.answer_close(event.method)

    def _published(self, message: Message) -> None:
        if self.broker.alarm:
            self.block(self.broker.alarm)  # this publish is still taken, and confirmed; the next ones wait
        message.channel.owner.publishing.publish(message)

    def _too_large(self, event: events.TooLarge) -> None:
        channel: BrokerChannel = event.channel.owner
        if not channel.closed:
            most = self.broker.max_message_size
            text = f"message size {event.size} is larger than configured max size {most}"
            channel.refuse(Refusal(406, text), amqp.BasicPublish.index)

    def _acked(self, event: events.Acked) -> None:
        event.channel.owner.acked(event.words)

    def _tuned(self, event: events.Tuned) -> None:
        if event.tuning.heartbeat:
            self._pulse = Pulse(self.clock, event.tuning.heartbeat, self._beat, self._client_is_dead)

    def opened(self) -> None:
        """Take note that the client is in."""
        self._stop_waiting()
        self.broker.limits.count(self.user, self.vhost.name, 1)

    def _broken(self, event: events.Broken) -> None:
        self._finish_turn()
        self.core.punish(event.error)
        self._leave()

    def _channel_ended(self, event: events.ChannelEnded) -> None:
        if event.channel.owner is not None:
            event.channel.owner.end()

    # ----------------------------------------------------------------------- the end

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close the connection, and tell why.

        Args:
            refusal: Why.
            culprit: The index of the method that is to blame; 0: none is.
        """
        self._say_goodbye(refusal.code, refusal.text, culprit)

    def force(self, reason: str) -> None:
        """Close the connection because the operator wants to; one that is not open yet is dropped."""
        if self.core.is_open:
            self._say_goodbye(320, f"CONNECTION_FORCED - {reason}", 0)
        elif self.core.error is None:
            self._deal_with(self.core.connection_lost())

    def _say_goodbye(self, code: int, text: str, culprit: int) -> None:
        if self.core.error is not None:
            return
        self._finish_turn()
        self.core.close(None, code, text.encode()[:255].decode("utf-8", "ignore"), culprit)
        self._leave()
        if not self._dispatching:
            self._deal_with(self.core.take_events())  # the channels have ended

    def _leave(self) -> None:
        """Hear nothing more but the answer to our goodbye."""
        self._on = self._over
        self._wait(CLOSING)
        if self._held:
            self._held.clear()
            self._release("")

    def _ended(self, event: events.ConnectionEnded) -> None:
        self._on = self._over
        self._stop_timers()
        self._writer.fail(lambda: ConnectionLost("the connection is over"))
        self.broker.sessions.discard(self)
        if hasattr(self, "vhost"):
            self.broker.limits.count(self.user, self.vhost.name, -1)
            self.vhost.delete_exclusive(self)
        transport: Any = self.transport
        error = event.error
        ending = error.ending if isinstance(error, Breach) else None
        if ending in (Ending.LAST_WORD, Ending.SILENT):
            # What the client has sent is read and forgotten: a socket that is closed over it would take our
            # last words back.
            self._writer.finish()
            self._deadline = self.clock.callLater(SILENCE, self._hang_up)
        elif event.flush:
            self._writer.finish()
            self._hang_up()
        else:
            self._writer.stop()
            transport.abortConnection()

    # ----------------------------------------------------------------------- timers

    def _wait(self, seconds: float) -> None:
        """Give the client so much time for its next step."""
        self._stop_waiting()
        self._deadline = self.clock.callLater(seconds, self._give_up)

    def _hang_up(self) -> None:
        """Close the transport when all is written; drop it, if the client does not read that."""
        self._wait(CLOSING)
        transport: Any = self.transport
        transport.loseConnection()

    def _give_up(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.abortConnection()

    def _stop_waiting(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _wake(self) -> None:
        self._writer.wake()

    def _wrote(self) -> None:
        if self._pulse is not None:
            self._pulse.sent = self.clock.seconds()

    def _beat(self) -> None:
        self.core.heartbeat()
        self._writer.flush()

    def _client_is_dead(self, silence: float, late: float) -> None:
        self.log.info("{user} was silent for {silence:.1f} s", user=self.user, silence=silence)
        self._deal_with(self.core.connection_lost())

    def _stop_timers(self) -> None:
        self._stop_waiting()
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None
