"""The Twisted skin of a connection: it feeds the core with bytes and turns its events into Deferreds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from twisted.internet import interfaces
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from txamqpx.channel import Channel
from txamqpx.delegates import Delegate
from txamqpx.dispatch import ChannelEvents, Hooks
from txamqpx.errors import (
    AMQPError,
    ConnectionClosed,
    EncodeError,
    HandshakeTimeout,
    HeartbeatTimeout,
    LocalProtocolError,
    NoFreeChannels,
    NotPublished,
    RPCTimeout,
    VhostAccessDenied,
    caused,
)
from txamqpx.identity import client_properties
from txamqpx.interfaces import IDelegate
from txamqpx.message import Delivery
from txamqpx.once import Once
from txamqpx.params import ConnectionParameters, Secret
from txamqpx.protocol import events
from txamqpx.protocol.auth import make_mechanism
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.handshake import ClientHandshake
from txamqpx.protocol.tuning import Tuning
from txamqpx.pulse import Pulse
from txamqpx.spec.amqp0_9_1 import (
    ChannelOpenOk,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
)
from txamqpx.writer import Writer

__all__ = ["AMQPClientFactory", "AMQPProtocol"]

T = TypeVar("T")

# How much is read at once.  Twisted's own size suits small messages, of which it holds hundreds; large ones
# cost less the more of them come with one system call, so the size follows what a full read brought.
# Twisted takes the same number as the mark at which a transport has enough to write.
SMALLEST_READ = 64 * 1024
LARGEST_READ = 128 * 1024
FEW_EVENTS = 150
MANY_EVENTS = 350

# What a peer that we have said goodbye to, or that broke the protocol, gets to take our last words.
FAREWELL = 1.0


class AMQPProtocol(Protocol):
    """One connection to a broker.

    ``txamqpx.endpoints.connect_protocol`` makes one; by hand it is ``AMQPClientFactory`` and any
    endpoint.  Everything happens on the reactor's thread.

    Args:
        parameters: What to log in with and what to ask for.
        delegate: Told of what happens; see ``IDelegate``.  None: a ``Delegate``, which logs what is odd.
        clock: What tells the time; None: the reactor.
    """

    log = Logger()

    def __init__(
        self,
        parameters: ConnectionParameters | None = None,
        delegate: Any = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.parameters = parameters or ConnectionParameters()
        self.delegate = Delegate() if delegate is None else delegate
        verifyObject(IDelegate, self.delegate)
        self._given_clock = clock
        #: Why the broker has stopped reading; None while it reads.
        self.blocked: str | None = None
        #: Called when ``blocked`` has changed.
        self.on_blocked: list[Callable[[], object]] = []
        self._opened: Once[AMQPProtocol] = Once()
        self._closed: Once[AMQPError] = Once()
        self._gone: Once[None] = Once()
        self._pulse: Pulse | None = None
        self._deadline: IDelayedCall | None = None
        self._dispatching = False
        self._ended = False
        # Who wants that nothing is read.
        self._pauses: set[object] = set()
        self._read_size = SMALLEST_READ
        self._hooks = Hooks(self.delegate)
        self._channel_events = ChannelEvents(self._hooks)
        self._on: dict[type[Any], Callable[[Any], object]] = {
            **self._channel_events.table,
            events.Tuned: self._on_tuned,
            events.Opened: self._on_opened,
            events.Blocked: self._on_blocked,
            events.Unblocked: self._on_unblocked,
            events.ConnectionEnded: self._on_ended,
        }
        wanted = self.parameters
        names = ("PLAIN", "AMQPLAIN") if wanted.mechanism is None else (wanted.mechanism,)
        handshake = ClientHandshake(
            [make_mechanism(name, wanted.username, str(wanted.password)) for name in names],
            virtual_host=wanted.virtual_host,
            locale=wanted.locale,
            properties=client_properties(wanted),
            tuning=Tuning(wanted.channel_max, wanted.frame_max, wanted.heartbeat or 0),
            heartbeats=wanted.heartbeat != 0,
        )
        self.core = Connection(
            handshake,
            max_message_size=wanted.max_message_size,
            max_outbox=wanted.max_outbox,
            delivery=Delivery,
            wake=self._wake,
        )
        self._writer = Writer(self.core.outbox, lambda: self.clock, self._wrote)

    def __repr__(self) -> str:
        return f"<AMQPProtocol {self.parameters}, {self.core.state.value}>"

    @property
    def clock(self) -> IReactorTime:
        """What tells the time."""
        if self._given_clock is None:
            from twisted.internet import reactor  # not before somebody needs it

            self._given_clock = cast(IReactorTime, reactor)
        return self._given_clock

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the broker said of itself: product, version, capabilities."""
        return self.core.server_properties

    @property
    def tuning(self) -> Tuning:
        """The limits that were negotiated."""
        return self.core.tuning

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened."""
        return self.core.is_open

    def when_open(self) -> Deferred[AMQPProtocol]:
        """Return a Deferred of this protocol: it fires when the handshake is done, or fails with it."""
        return self._opened.wait()

    def when_closed(self) -> Deferred[AMQPError]:
        """Return a Deferred that fires with the reason once the connection is over, whoever ended it."""
        return self._closed.wait()

    async def __aenter__(self) -> Self:
        """Use the connection for a block; it is closed at its end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    # ----------------------------------------------------------------------- calls

    def new_channel(self) -> Channel:
        """Ask for a channel and return it at once: calls on it follow the request on the wire.

        Raises:
            NoFreeChannels: Each number that was negotiated is in use.
            ConnectionClosed: The connection is over.
            LocalProtocolError: The connection is not open yet.
        """
        answer: Deferred[ChannelOpenOk] = Deferred()
        channel = Channel(self, self.core.open_channel(answer))
        # A failure reaches whoever waits for the channel by the channel's end.
        answer.addCallbacks(lambda _: channel.opened(), lambda failure: None)
        return channel

    def open_channel(self) -> Deferred[Channel]:
        """Open a channel.

        Returns:
            A Deferred of the channel.  It fails with ``NoFreeChannels``, ``ConnectionClosed`` or
            ``RPCTimeout``.  If it is cancelled or times out, the channel is closed again.

        Raises:
            LocalProtocolError: The connection is not open yet.
        """
        try:
            channel = self.new_channel()
        except NoFreeChannels as error:
            return fail(error)
        except LocalProtocolError:
            raise
        except AMQPError as error:
            return fail(error)
        opened = channel.when_open()
        opened.addErrback(self._give_up, channel)
        return self.limited(opened, "channel.open", None)

    def _give_up(self, failure: Failure, channel: Channel) -> Failure:
        channel.close().addErrback(lambda late: None)
        return failure

    def update_secret(self, secret: str, reason: str) -> Deferred[ConnectionUpdateSecretOk]:
        """Give the broker fresh credentials, such as an OAuth token, before the old ones expire.

        Args:
            secret: The new password or token.
            reason: A word for the broker's log.

        Returns:
            A Deferred of the answer.

        Raises:
            EncodeError: ``reason`` is too long, or ``secret`` longer than a frame.
            LocalProtocolError: The connection is not open.
        """
        answer: Deferred[ConnectionUpdateSecretOk] = Deferred()
        secret = Secret(secret)  # a traceback may show the variables
        try:
            self.core.send(ConnectionUpdateSecret(secret, reason), answer)
        except (EncodeError, LocalProtocolError):
            raise
        except AMQPError as error:
            return fail(error)
        return self.limited(answer, "connection.update-secret", None)

    def close(self, reply_code: int = 200, reply_text: str = "") -> Deferred[None]:
        """Close the connection: what waits fails with ``ConnectionClosed`` or ``OutcomeUnknown``.

        A handshake in progress is broken off.  Closing twice is harmless.

        Returns:
            A Deferred that fires when the transport is gone; at the latest after the parameters'
            ``close_timeout`` and a second.
        """
        if self._gone.fired or self.transport is None:
            return succeed(None)
        if not self._ended and self.core.error is None:
            if self.core.is_open:
                if self._pauses:
                    self._pauses.clear()
                    self._read_on()  # or the answer could not come
                answer: Deferred[Any] = Deferred()
                self.core.close(answer, reply_code, reply_text)
                timeout = self.parameters.close_timeout
                self.limited(answer, "connection.close", timeout).addErrback(lambda _: self.abort())
                self.pump()
            else:
                error = ConnectionClosed(reply_text or "closed before it was open", by_peer=False)
                self._deliver_events(self.core.connection_lost(error))
        return self._gone.wait()

    def abort(self) -> None:
        """Drop the transport at once, without a word and whatever waits in it."""
        if self.transport is not None:
            cast(interfaces.ITCPTransport, self.transport).abortConnection()

    def limited(self, deferred: Deferred[T], operation: str, seconds: float | None) -> Deferred[T]:
        """Let ``deferred`` fail with ``RPCTimeout`` after ``seconds``; None: after ``rpc_timeout``."""
        limit = self.parameters.rpc_timeout if seconds is None else seconds

        def too_late(result: Any, _: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise RPCTimeout(operation, limit, self.blocked)
            return result  # it ended in the very moment, with something to say

        return deferred.addTimeout(limit, self.clock, too_late)

    # ----------------------------------------------------------------------- writing

    @property
    def writable(self) -> bool:
        """False while so much waits for the transport that a publisher does better to wait."""
        return self._writer.writable

    def when_writable(self, most: int | None = None) -> Deferred[None]:
        """Return a Deferred that fires once the transport has taken what was too much.

        It fails with ``NotPublished`` when the connection ends before.

        Args:
            most: How many bytes may wait; None: as ``writable`` sees it.
        """
        return self._writer.when_writable(most)

    # ----------------------------------------------------------------------- reading

    def pause_reading(self, owner: object = None) -> None:
        """Stop reading: the broker is held up, on all channels; the peer's silence is not blamed on it.

        On a connection that is closed, or is being closed, it does nothing.

        Args:
            owner: Who wants it: nothing is read until all who have paused have resumed.
        """
        if self._ended or self.core.error is not None:
            return
        self._pauses.add(owner)
        if self._pulse is not None:
            self._pulse.suspend()
        cast(IPushProducer, self.transport).pauseProducing()

    def resume_reading(self, owner: object = None) -> None:
        """Read again, unless there is another owner who has paused."""
        if owner in self._pauses:
            self._pauses.remove(owner)
            if not self._pauses:
                self._read_on()

    def _read_on(self) -> None:
        if self._ended or self.core.error is not None:
            return
        if self._pulse is not None:
            self._pulse.resume()
        cast(IPushProducer, self.transport).resumeProducing()

    def connectionMade(self) -> None:
        """Begin the handshake."""
        assert self.transport is not None
        self._deadline = self.clock.callLater(self.parameters.connection_timeout, self._handshake_late)
        self._writer.start(self.transport)
        try:
            cast(interfaces.ITCPTransport, self.transport).setTcpNoDelay(True)
            cast(interfaces.ITCPTransport, self.transport).setTcpKeepAlive(True)
        except (AttributeError, OSError):
            pass  # not TCP
        self.core.start()
        self._writer.flush()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; nothing that they or our callbacks do leaves here as an exception."""
        if self._pulse is not None:
            self._pulse.received = self.clock.seconds()
        happened = self.core.receive_data(data)
        if len(data) >= self._read_size:
            self._adapt_reads(len(happened))
        self._deliver_events(happened)

    def _adapt_reads(self, happened: int) -> None:
        if happened < FEW_EVENTS:
            self._read_size = min(self._read_size * 2, LARGEST_READ)
        elif happened > MANY_EVENTS:
            self._read_size = SMALLEST_READ
        transport: Any = self.transport
        if hasattr(transport, "bufferSize"):  # a socket; TLS reads through one of its own
            transport.bufferSize = self._read_size

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give everything back that waits."""
        self._stop_timers()
        self._deliver_events(self.core.connection_lost(cause=reason.value))
        if not self._gone.fired:
            self._gone.fire(None)

    def pump(self) -> None:
        """Deal with what a call of ours has caused."""
        if not self._dispatching:
            self._deliver_events(self.core.take_events())

    def _deliver_events(self, happened: list[events.Event]) -> None:
        if self._dispatching:  # a callback made the core speak; whoever dispatches already will see to it
            self.core.events[:0] = happened
            return
        self._dispatching = True
        self._writer.hold()
        on = self._on
        waiting: Iterator[events.Event] = iter(())
        try:
            while happened:
                waiting = iter(happened)
                for event in waiting:
                    try:
                        on[type(event)](event)
                    except Exception:
                        self.log.failure("while dealing with {event}", event=event)
                happened = self.core.take_events()
                while not happened and self._channel_events.settle():
                    happened = self.core.take_events()
        finally:
            self._dispatching = False
            self.core.events[:0] = waiting  # what a SystemExit kept from being told is told with the next
            self._writer.flush()

    def when_told(self) -> Deferred[None]:
        """Return a Deferred that fires once all that was heard so far has been told to whom it concerns.

        Within a callback some of it may not have been; outside of any it fires at once.
        """
        if not self._dispatching:
            return succeed(None)
        listeners = self._channel_events.listeners
        deferred: Deferred[None] = Deferred(listeners.remove)
        listeners.append(deferred)
        return deferred

    # ----------------------------------------------------------------------- what happens to the connection

    def _on_tuned(self, event: events.Tuned) -> None:
        if event.tuning.heartbeat:
            self._pulse = Pulse(self.clock, event.tuning.heartbeat, self._beat, self._peer_is_dead)

    def _on_opened(self, event: events.Opened) -> None:
        self._cancel_deadline()
        self._hooks.tell("connection_opened", self)
        self._opened.fire(self)

    def _on_blocked(self, event: events.Blocked) -> None:
        self.blocked = event.reason
        self._tell_of_blocking()
        self._hooks.tell("connection_blocked", self, event.reason)

    def _on_unblocked(self, event: events.Unblocked) -> None:
        self.blocked = None
        self._tell_of_blocking()
        self._hooks.tell("connection_unblocked", self)

    def _tell_of_blocking(self) -> None:
        for listener in tuple(self.on_blocked):
            listener()

    def _on_ended(self, event: events.ConnectionEnded) -> None:
        self._ended = True
        self._stop_timers()
        if isinstance(event.error, VhostAccessDenied) and not self.parameters.virtual_host:
            event.error.add_note(
                "A URL that ends in a slash asks for the virtual host ''; one without, for '/'."
            )
        if not self._opened.fired:
            self._opened.fail(event.error)
        self._writer.fail(lambda: caused(NotPublished("the connection ended"), event.error))
        self._closed.fire(event.error)
        self._hooks.tell("connection_closed", self, event.error)
        if self.transport is None:
            return
        if not event.flush:
            self._writer.stop()
            self.abort()
            return
        self._writer.finish()
        # A peer that does not take our last words must not keep us.
        self._deadline = self.clock.callLater(FAREWELL, self.abort)
        self.transport.loseConnection()

    # ----------------------------------------------------------------------- timers

    def _handshake_late(self) -> None:
        self._deadline = None
        error = HandshakeTimeout(self.parameters.connection_timeout)
        self._deliver_events(self.core.connection_lost(error))

    def _wake(self) -> None:
        self._writer.wake()

    def _beat(self) -> None:
        self.core.heartbeat()
        self._writer.flush()

    def _wrote(self) -> None:
        if self._pulse is not None:
            self._pulse.sent = self.clock.seconds()

    def _peer_is_dead(self, silence: float, late: float) -> None:
        stalled = f"; our own reactor was {late:.1f} s late" if late > 0.5 else ""
        error = HeartbeatTimeout(f"nothing came from the broker for {silence:.1f} s{stalled}")
        self._deliver_events(self.core.connection_lost(error))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _stop_timers(self) -> None:
        self._cancel_deadline()
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None


class AMQPClientFactory(ClientFactory):
    """Makes an ``AMQPProtocol`` for each connection: give it to any endpoint's ``connect``.

    Args:
        parameters: For all of them; host, port and TLS are the endpoint's business.
        delegate: For all of them, or None.
        delegate_factory: Makes one for each; it is called without arguments.
        clock: What tells the time; None: the reactor.
    """

    protocol = AMQPProtocol
    noisy = False

    def __init__(
        self,
        parameters: ConnectionParameters | None = None,
        *,
        delegate: Any = None,
        delegate_factory: Callable[[], Any] | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.parameters = parameters or ConnectionParameters()
        self._delegate = delegate
        self._delegate_factory = delegate_factory
        self._clock = clock

    def buildProtocol(self, addr: interfaces.IAddress | None) -> AMQPProtocol:
        """Make one."""
        delegate = self._delegate if self._delegate_factory is None else self._delegate_factory()
        protocol = self.protocol(self.parameters, delegate, self._clock)
        protocol.factory = self
        return protocol
