"""A broker that follows a script, joined in memory to the connection that is tested.

::

    peer = scripted(rpc_timeout=5.0)
    peer.open()
    channel = peer.open_channel()
    declared = channel.queue_declare("q")
    peer.expect(QueueDeclare(queue="q"))
    peer.send(1, QueueDeclareOk("q", 0, 0))

The peer speaks through the library's own core in the server's role, so a script that breaks the protocol is
refused, and so is a client that does; ``write`` takes the bytes of a peer that is not so well-behaved.
Nothing moves by itself: the wire carries bytes when it is pumped, time passes when it is told to.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.errors import ConnectionClosed
from txamqpx.params import ConnectionParameters
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.content import Assembly
from txamqpx.protocol.events import ConnectionEnded
from txamqpx.protocol.frames import BODY, END, HEADER, HEARTBEAT, HEARTBEAT_FRAME, METHOD, unpack_head
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.spec.amqp0_9_1 import (
    BasicDeliver,
    BasicProperties,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    ConnectionClose,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1

M = TypeVar("M", bound=Method)

#: Above this much a transport asks its producer to wait, as Twisted's TCP transport does.
HIGH_WATER = 64 * 1024

NO_PROPERTIES = BasicProperties()


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end of a wire: a transport that keeps what is written until the wire is pumped.

    Attributes:
        unsent: What was written and not carried yet.
        reading: Whether the protocol wants to be told what comes.
        lost: Why it is over, once the protocol was told.
        aborted: Whether this end was dropped without regard to what was unsent.
        options: What was set on the socket.
    """

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.other: End = self
        self.unsent = bytearray()
        self.reading = True
        self.disconnecting = False
        self.aborted = False
        self.lost: Failure | None = None
        self.options: dict[str, bool] = {}
        self.producer: Any = None
        self._producer_waits = False

    # What a protocol asks of its transport.

    def write(self, data: bytes) -> None:
        """Keep ``data`` to be sent; nothing is kept once the end was closed."""
        assert isinstance(data, bytes)
        if self.disconnecting or self.lost:
            return
        self.unsent += data
        if len(self.unsent) > HIGH_WATER and self.producer is not None and not self._producer_waits:
            self._producer_waits = True
            self.producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        """Keep all of it."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close as soon as what was written has been carried."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Close at once; what was written is lost, on both sides."""
        self.aborted = self.disconnecting = True
        self.unsent.clear()

    def getPeer(self) -> IPv4Address:
        """Return where the other end is."""
        return IPv4Address("TCP", "127.0.0.1", 5672)

    def getHost(self) -> IPv4Address:
        """Return where this end is."""
        return IPv4Address("TCP", "127.0.0.1", 50000)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Note it."""
        self.options["no delay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Note it."""
        self.options["keep alive"] = enabled

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell ``producer`` from now on when to wait."""
        assert self.producer is None
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Tell nobody any more."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Leave on the wire what comes."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        assert not self.lost
        self.reading = True

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # What the wire does.

    def carry(self, most: int | None = None) -> bool:
        """Bring what was written to the other end; return whether anything moved."""
        if self.lost or self.other.lost or not self.other.reading or not self.unsent:
            return False
        piece = bytes(self.unsent[:most])
        del self.unsent[:most]
        if not self.unsent and self._producer_waits and self.producer is not None:
            self._producer_waits = False
            self.producer.resumeProducing()
        self.other.protocol.dataReceived(piece)
        return True

    def hang_up(self) -> bool:
        """Tell both protocols if this end was closed and nothing is left to carry."""
        if self.lost or not self.disconnecting or self.unsent:
            return False
        self.lose(ConnectionAborted() if self.aborted else ConnectionDone())
        self.other.lose(ConnectionLost() if self.aborted else ConnectionDone())
        return True

    def lose(self, reason: Exception) -> None:
        """Tell the protocol, once, that it is over."""
        if self.lost is None:
            self.lost = Failure(reason)
            if self.producer is not None:
                self.producer.stopProducing()
                self.producer = None
            self.protocol.connectionLost(self.lost)


class Wire:
    """Joins two protocols.

    Args:
        client: One of them; it is told first.
        server: The other.
        clock: Its zero-second calls run with every pump: the end of a reactor's turn.

    Attributes:
        chunk: How many bytes the client gets at a time; None: whatever is there.
    """

    def __init__(self, client: Any, server: Any, clock: Clock) -> None:
        self.client = End(client)
        self.server = End(server)
        self.client.other, self.server.other = self.server, self.client
        self.clock = clock
        self.chunk: int | None = None
        self._held = 0
        server.makeConnection(self.server)
        client.makeConnection(self.client)

    def pump(self) -> None:
        """Carry everything that can be carried, until nothing moves."""
        moved = not self._held
        while moved:
            self.clock.advance(0)
            moved = self.client.carry() | self.server.carry(self.chunk)
            moved |= self.client.hang_up() | self.server.hang_up()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is written until the end of the block, so that it arrives in one piece."""
        self._held += 1
        yield
        self._held -= 1
        self.pump()

    def advance(self, seconds: float) -> None:
        """Let time pass, and each delayed call run at its time."""
        end = self.clock.seconds() + seconds
        self.pump()
        while True:
            now = self.clock.seconds()
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(max(0.0, min(due, end) - now))
            self.pump()
            if due >= end:
                return


class Sink(Protocol):
    """The other end of a wire for who only needs one: it takes everything and says nothing by itself."""

    def dataReceived(self, data: bytes) -> None:
        """Leave it."""

    def hang_up(self, wire: Wire) -> None:
        """Close this end."""
        wire.server.loseConnection()
        wire.pump()


@define
class Heard(Generic[M]):
    """A method that the client sent, with its content if it has one."""

    channel: int
    method: M
    body: bytes | None = None
    header: bytes = b""

    @property
    def properties(self) -> BasicProperties:
        """What came with the body."""
        return BasicProperties.decode(self.header, 0, len(self.header))


class ScriptedPeer(Protocol):
    """A server that says what the test makes it say.

    Attributes:
        protocol: The client's side.
        heard: What the client has sent and nobody has expected yet.
        beats: When it sent heartbeats.
        mute: While True, the core's own answers (to a close) stay unsaid.
    """

    def __init__(self, protocol: AMQPProtocol, clock: Clock, *, mechanisms: str = "PLAIN AMQPLAIN") -> None:
        self.protocol = protocol
        self.clock = clock
        self.core = Connection(
            ServerHandshake(mechanisms=mechanisms, properties={"product": "a script"}),
            max_message_size=1 << 30,
        )
        self.heard: deque[Heard[Any]] = deque()
        self.beats: list[float] = []
        self.mute = False
        self.breach: Exception | None = None
        self._greeted = False
        self._rest = b""
        self._content: Heard[Any] | None = None
        self._assembly: Assembly | None = None
        self.wire = Wire(protocol, self, clock)
        self.wire.pump()

    # Its life as a protocol.

    def dataReceived(self, data: bytes) -> None:
        """Note what the client sends, and let the core answer what it answers by itself."""
        self._note(data)
        for event in self.core.receive_data(data):
            if isinstance(event, ConnectionEnded) and type(event.error).__name__ == "RemoteProtocolError":
                self.breach = event.error
        self._say()

    def _say(self) -> None:
        if not self.mute and self.transport is not None:
            for piece in self.core.outbox.take():
                self.transport.write(piece)

    def _note(self, data: bytes) -> None:
        data = self._rest + data
        if not self._greeted:
            assert data.startswith(b"AMQP")
            self._greeted, data = True, data[8:]
        while len(data) >= 7:
            kind, channel, length = unpack_head(data, 0)
            if len(data) < length + 8:
                break
            assert data[length + 7] == END
            self._frame(kind, channel, data[7 : length + 7])
            data = data[length + 8 :]
        self._rest = data

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == HEARTBEAT:
            self.beats.append(self.clock.seconds())
        elif kind == METHOD:
            method = AMQP_0_9_1.methods[int.from_bytes(payload[:4], "big")]
            heard: Heard[Any] = Heard(channel, method.decode(payload, 4, len(payload)))
            if not method.content:
                self.heard.append(heard)
                return
            self._content = heard
            self._assembly = Assembly(method.name, method.index >> 16, 1 << 40, self._complete)
        else:
            assert self._assembly is not None
            assert kind in (HEADER, BODY)
            take = self._assembly.header if kind == HEADER else self._assembly.body
            take(payload, 0, len(payload))

    def _complete(self, header: bytes, body: bytes) -> None:
        assert self._content is not None
        self._content.header, self._content.body = header, body
        self.heard.append(self._content)

    # The script.

    def expect(self, wanted: M | type[M], channel: int | None = None) -> Heard[M]:
        """Return what the client has sent next: it has to be equal to ``wanted``, or of that class."""
        self.wire.pump()
        assert self.breach is None, f"the client broke the protocol: {self.breach}"
        assert self.heard, f"the client has sent nothing where {wanted} was expected"
        heard = self.heard.popleft()
        if isinstance(wanted, type):
            fits = isinstance(heard.method, wanted)
        else:  # as it stands on the wire: an argument that is None there is an empty one
            fits = heard.method.encode() == wanted.encode()
        assert fits, f"the client has sent {heard.method} where {wanted} was expected"
        assert channel in (None, heard.channel), f"{heard.method} came on channel {heard.channel}"
        return heard

    def expect_nothing(self) -> None:
        """Check that the client has sent nothing that was not expected."""
        self.wire.pump()
        assert self.breach is None, f"the client broke the protocol: {self.breach}"
        assert not self.heard, f"the client has sent {list(self.heard)}"

    def send(
        self,
        channel: int,
        method: Method,
        body: bytes | None = None,
        properties: BasicProperties = NO_PROPERTIES,
    ) -> None:
        """Send a method, with its content if it has one."""
        if body is not None:
            self.core.channels[channel].send_content(method, properties, body)
        elif channel:
            self.core.channels[channel].send(method, method)
        else:
            self.core.send(method, method)
            if isinstance(method, ConnectionClose):  # Connection.close would not name the method to blame
                self.core.error = ConnectionClosed.from_reply(
                    method.reply_code, method.reply_text, by_peer=False
                )
        self._say()
        self.wire.pump()

    def deliver(
        self,
        channel: int,
        consumer_tag: str,
        delivery_tag: int,
        body: bytes = b"body",
        properties: BasicProperties = NO_PROPERTIES,
        *,
        exchange: str = "",
        routing_key: str = "q",
        redelivered: bool = False,
    ) -> None:
        """Send a ``basic.deliver``."""
        method = BasicDeliver(consumer_tag, delivery_tag, redelivered, exchange, routing_key)
        self.send(channel, method, body, properties)

    def write(self, data: bytes) -> None:
        """Send bytes as they are, whatever the core thinks of them."""
        assert self.transport is not None
        self.transport.write(data)
        self.wire.pump()

    def beat(self) -> None:
        """Send a heartbeat."""
        self.write(HEARTBEAT_FRAME)

    def advance(self, seconds: float) -> None:
        """Let time pass, and each delayed call run at its time."""
        self.wire.advance(seconds)

    def hang_up(self) -> None:
        """Close the peer's end once everything has arrived."""
        assert self.transport is not None
        self.transport.loseConnection()
        self.wire.pump()

    @property
    def gone(self) -> bool:
        """Whether the client's transport is closed."""
        return self.wire.client.lost is not None

    # What nearly every script begins with.

    def tune(self, *, heartbeat: int = 60, channel_max: int = 2047, frame_max: int = 131072) -> None:
        """Accept the login, up to ``connection.open``."""
        self.expect(ConnectionStartOk)
        self.send(0, ConnectionTune(channel_max, frame_max, heartbeat))
        self.expect(ConnectionTuneOk)
        self.expect(ConnectionOpen)

    def open(self, *, heartbeat: int = 60, channel_max: int = 2047, frame_max: int = 131072) -> None:
        """Let the client in."""
        self.tune(heartbeat=heartbeat, channel_max=channel_max, frame_max=frame_max)
        self.send(0, ConnectionOpenOk())

    def open_channel(self, *, confirm: bool = False) -> Channel:
        """Open a channel, in confirm mode if wanted."""
        opened: list[Channel] = []
        opening: Deferred[Channel] = self.protocol.open_channel()
        opening.addCallback(opened.append)
        number = self.expect(ChannelOpen).channel
        self.send(number, ChannelOpenOk())
        (channel,) = opened
        if confirm:
            channel.confirm_select()
            self.expect(ConfirmSelect, number)
            self.send(number, ConfirmSelectOk())
        return channel


def scripted(delegate: Any = None, *, mechanisms: str = "PLAIN AMQPLAIN", **parameters: Any) -> ScriptedPeer:
    """Return a peer that has greeted a new connection.

    Args:
        delegate: The connection's.
        mechanisms: How the client may log in.
        parameters: What is special about the connection's parameters.
    """
    clock = Clock()
    protocol = AMQPProtocol(ConnectionParameters(**parameters), delegate, clock)
    return ScriptedPeer(protocol, clock, mechanisms=mechanisms)
