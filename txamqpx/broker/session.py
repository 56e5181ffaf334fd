"""One client's connection to the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from typing import Protocol as Role

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.consumer import Source
from txamqpx.broker.message import Message
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.vhost import VirtualHost
from txamqpx.protocol import events
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.pulse import Pulse
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.writer import Writer

__all__ = ["Session", "Surroundings"]

# What a client that was told goodbye gets to take our last words.
_FAREWELL = 1.0

# A client that reads slowly has no more than this waiting for it, besides what is in the transport.
_MOST_WAITING = 256 * 1024


class Surroundings(Role):
    """A broker, as its sessions see it."""

    users: dict[str, str]
    vhosts: dict[str, VirtualHost]
    heartbeat: int
    frame_max: int
    channel_max: int
    sessions: set[Session]

    @property
    def clock(self) -> BrokerClock:
        """The broker's time."""

    def server_properties(self) -> dict[str, Any]:
        """Return what a client is told."""


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
        self.user = ""
        #: What the client said of itself.
        self.client_properties: Mapping[str, Any] = {}
        #: What the client said that it understands.
        self.capabilities: frozenset[str] = frozenset()
        handshake = ServerHandshake(properties=broker.server_properties())
        self.core = Connection(handshake, published=Message, wake=self._wake)
        self._writer = Writer(self.core.outbox, lambda: self.clock, self._wrote)
        self._pulse: Pulse | None = None
        self._deadline: IDelayedCall | None = None
        self._at_end: list[Callable[[], None]] = []
        self._dispatching = False
        # Queues that have something for this client once it has read what waits.
        self._stalled: dict[Source, None] = {}
        self._on: dict[type[Any], Callable[[Any], None]] = {
            events.Requested: self._requested,
            events.Published: self._published,
            Message: self._published,
            events.Acked: self._acked,
            events.Tuned: self._tuned,
            events.ChannelEnded: self._channel_ended,
            events.ConnectionEnded: self._ended,
        }
        self._methods: dict[int, Callable[[Any], None]] = {
            amqp.ConnectionStartOk.index: self._start_ok,
            amqp.ConnectionOpen.index: self._open,
        }

    # ----------------------------------------------------------------------- the transport

    def connectionMade(self) -> None:
        """Wait for the client's greeting."""
        assert self.transport is not None
        self.broker.sessions.add(self)
        self._writer.start(self.transport)
        self.core.start()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, do what they ask, and answer."""
        if self._pulse is not None:
            self._pulse.received = self.clock.seconds()
        self._deal_with(self.core.receive_data(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take back everything that the client had."""
        self._deal_with(self.core.connection_lost(cause=reason.value))
        self._stop_timers()
        self._writer.stop()

    def _deal_with(self, happened: list[events.Event]) -> None:
        # What one event causes in this session is dealt with after it, not within.
        if self._dispatching:
            self.core.events[:0] = happened
            return
        self._dispatching = True
        self._writer.hold()
        on = self._on
        try:
            while happened:
                for event in happened:
                    handle = on.get(type(event))
                    if handle is not None:
                        handle(event)
                happened = self.core.take_events()
            self._finish_turn()
        finally:
            self._dispatching = False
            self._writer.flush()

    def at_end(self, call: Callable[[], None]) -> None:
        """Call something when all that has come was dealt with."""
        self._at_end.append(call)
        if not self._dispatching:
            self._finish_turn()

    def _finish_turn(self) -> None:
        while self._at_end:
            calls, self._at_end = self._at_end, []
            for call in calls:
                call()

    @property
    def writable(self) -> bool:
        """False while so much waits for the client that it had better get no deliveries."""
        return self.core.outbox.size < _MOST_WAITING

    def stall(self, queue: Source) -> None:
        """Let a queue give out messages again once what waits has been written."""
        if not self._stalled:
            self._writer.when_writable(_MOST_WAITING // 2).addCallbacks(self._go_on, lambda failure: None)
        self._stalled[queue] = None

    def _go_on(self, result: None) -> None:
        stalled, self._stalled = self._stalled, {}
        for queue in stalled:
            queue.resume()

    # ----------------------------------------------------------------------- events

    def _requested(self, event: events.Requested) -> None:
        core: Any = event.channel
        if core is None:
            self._methods[event.method.index](event.method)
        elif type(event.method) is amqp.ChannelOpen:
            BrokerChannel(self, core)
            core.send(amqp.ChannelOpenOk())
        elif core.owner is not None:
            core.owner.requested(event)

    def _published(self, message: Message) -> None:
        message.channel.owner.publishing.publish(message)

    def _acked(self, event: events.Acked) -> None:
        channel: BrokerChannel = event.channel.owner
        if channel.closed:
            return
        try:
            channel.consuming.ack(event.words)
        except Refusal as refusal:
            channel.refuse(refusal, amqp.BasicAck.index)

    def _tuned(self, event: events.Tuned) -> None:
        if event.tuning.heartbeat:
            self._pulse = Pulse(self.clock, event.tuning.heartbeat, self._beat, self._client_is_dead)

    def _channel_ended(self, event: events.ChannelEnded) -> None:
        if event.channel.owner is not None:
            event.channel.owner.end()

    def _ended(self, event: events.ConnectionEnded) -> None:
        self._stop_timers()
        self.broker.sessions.discard(self)
        if hasattr(self, "vhost"):
            self.vhost.delete_exclusive(self)
        if self.transport is None:
            return
        transport: Any = self.transport
        if not event.flush:
            self._writer.stop()
            transport.abortConnection()
            return
        self._writer.finish()
        self._deadline = self.clock.callLater(_FAREWELL, transport.abortConnection)
        transport.loseConnection()

    # ----------------------------------------------------------------------- the handshake

    def _start_ok(self, method: Any) -> None:
        self.client_properties = method.client_properties
        capabilities = self.client_properties.get("capabilities", {})
        self.capabilities = frozenset(name for name, has in capabilities.items() if has)
        _, user, password = method.response.split(b"\0")
        if self.broker.users.get(user.decode()) != password.decode():
            self.refuse(Refusal(403, "Login was refused using authentication mechanism PLAIN.", hard=True))
            return
        self.user = user.decode()
        broker = self.broker
        self.core.send(amqp.ConnectionTune(broker.channel_max, broker.frame_max, broker.heartbeat))

    def _open(self, method: amqp.ConnectionOpen) -> None:
        vhost = self.broker.vhosts.get(method.virtual_host)
        if vhost is None:
            self.refuse(Refusal(530, f"vhost {method.virtual_host} not found"), method.index)
            return
        self.vhost = vhost
        self.core.send(amqp.ConnectionOpenOk())

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close the connection, and tell why.

        Args:
            refusal: Why.
            culprit: The index of the method that is to blame; 0: none is.
        """
        self.core.close(None, refusal.code, refusal.text, culprit)
        self._deal_with([])

    # ----------------------------------------------------------------------- timers

    def _wake(self) -> None:
        self._writer.wake()

    def _wrote(self) -> None:
        if self._pulse is not None:
            self._pulse.sent = self.clock.seconds()

    def _beat(self) -> None:
        self.core.heartbeat()
        self._writer.flush()

    def _client_is_dead(self, silence: float, late: float) -> None:
        self._deal_with(self.core.connection_lost())

    def _stop_timers(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None
