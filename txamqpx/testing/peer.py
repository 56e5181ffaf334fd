"""A broker that follows a script, joined in memory to the connection that is tested.

::

    peer = scripted(rpc_timeout=5.0)
    peer.open()
    channel = peer.open_channel()
    declared = channel.queue_declare("q")
    peer.expect(QueueDeclare(queue="q"))
    peer.send(1, QueueDeclareOk("q", 0, 0))
    assert success_of(declared).queue == "q"

The peer speaks through the library's own core in the server's role, so a script that breaks the protocol is
refused, and so is a client that does; ``write`` takes the bytes of a peer that is not so well-behaved.
Nothing moves by itself: the wire carries bytes when it is pumped, which everything here does, and time passes
when it is told to.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from txamqpx.channel import Channel
from txamqpx.client import Client
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
from txamqpx.testing.wire import Wire

__all__ = ["Heard", "ScriptedPeer", "scripted"]

M = TypeVar("M", bound=Method)

NO_PROPERTIES = BasicProperties()


@define
class Heard(Generic[M]):
    """A method that the client sent, with its content if it has one.

    Attributes:
        channel: The number of the channel; 0 is the connection itself.
        method: What was sent.
        body: The content, if the method has one.
        header: The content's properties in their encoded form.
    """

    channel: int
    method: M
    body: bytes | None = None
    header: bytes = b""

    @property
    def properties(self) -> BasicProperties:
        """What came with the body."""
        return BasicProperties.decode(self.header, 0, len(self.header))


class ScriptedPeer(Protocol):
    """A server that says what the test makes it say; ``scripted`` makes one.

    Args:
        protocol: The client's side, not connected yet.
        clock: The client's; time passes for both.
        mechanisms: How the client may log in.

    Attributes:
        protocol: The client's side.
        clock: What tells the time.
        wire: What joins both sides.
        core: The server's side of the protocol.
        heard: What the client has sent and nobody has expected yet.
        beats: When it sent heartbeats.
        breach: How the client has broken the protocol, if it has.
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
        self._client: Client | None = None
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
            assert data.startswith(b"AMQP"), f"the client begins with {data[:8]!r}"
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

    @property
    def client(self) -> Client:
        """A client on this connection, as ``txamqpx.connect`` would give it: for the code that is tested.

        Its calls open channels of their own, which the script has to answer.
        """
        if self._client is None:
            self._client = Client(self.protocol)
        return self._client

    def expect(self, wanted: M | type[M], channel: int | None = None) -> Heard[M]:
        """Return what the client has sent next.

        Args:
            wanted: What it has to be; a class: a method of that class, whatever its arguments are.
            channel: The number of the channel on which it has to come; None: on any.

        Raises:
            AssertionError: The client has sent nothing, something else, or what the protocol forbids.
        """
        self._listen()
        what = wanted.__name__ if isinstance(wanted, type) else wanted
        if not self.heard:
            raise AssertionError(f"the client has sent nothing where {what} was expected")
        heard = self.heard.popleft()
        if isinstance(wanted, type):
            fits = isinstance(heard.method, wanted)
        else:  # as it stands on the wire: an argument that is None there is an empty one
            fits = heard.method.encode() == wanted.encode()
        if not fits:
            raise AssertionError(f"the client has sent {heard.method} where {what} was expected")
        if channel not in (None, heard.channel):
            raise AssertionError(f"{heard.method} came on channel {heard.channel}, not {channel}")
        return heard

    def expect_nothing(self) -> None:
        """Check that the client has sent nothing that was not expected.

        Raises:
            AssertionError: It has, or it has broken the protocol.
        """
        self._listen()
        if self.heard:
            raise AssertionError(f"the client has sent {list(self.heard)}")

    def _listen(self) -> None:
        self.wire.pump()
        if self.breach is not None:
            raise AssertionError(f"the client broke the protocol: {self.breach}") from self.breach

    def send(
        self,
        channel: int,
        method: Method,
        body: bytes | None = None,
        properties: BasicProperties = NO_PROPERTIES,
    ) -> None:
        """Send a method.

        Args:
            channel: The number of the channel; 0 is the connection itself.
            method: What to say.
            body: The content, if the method has one.
            properties: Those of the content.

        Raises:
            LocalProtocolError: A server may not say this now; ``write`` does not ask.
        """
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
        """Send a ``basic.deliver``.

        Args:
            channel: The number of the channel.
            consumer_tag: The consumer's, from what ``expect(BasicConsume)`` has returned.
            delivery_tag: The message's number on the channel, counted from 1.
            body: The content.
            properties: Those of the content.
            exchange: Where it was published to.
            routing_key: With which key.
            redelivered: Whether it was given to somebody before.
        """
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
        """Let so many seconds pass, and each delayed call run at its time."""
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
        """Accept the login, up to ``connection.open``, which stays unanswered.

        Args:
            heartbeat: Seconds, proposed to the client; 0: none.
            channel_max: The highest number of a channel.
            frame_max: The most bytes of a frame.
        """
        self.expect(ConnectionStartOk)
        self.send(0, ConnectionTune(channel_max, frame_max, heartbeat))
        self.expect(ConnectionTuneOk)
        self.expect(ConnectionOpen)

    def open(self, *, heartbeat: int = 60, channel_max: int = 2047, frame_max: int = 131072) -> None:
        """Let the client in; the arguments are those of ``tune``."""
        self.tune(heartbeat=heartbeat, channel_max=channel_max, frame_max=frame_max)
        self.send(0, ConnectionOpenOk())

    def open_channel(self, *, confirm: bool = False) -> Channel:
        """Have the client open a channel, and let it.

        Args:
            confirm: Whether in confirm mode.
        """
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
        delegate: The connection's, an ``IDelegate``.
        mechanisms: How the client may log in.
        parameters: What is special about the connection's parameters; see ``ConnectionParameters``.
    """
    clock = Clock()
    protocol = AMQPProtocol(ConnectionParameters(**parameters), delegate, clock)
    return ScriptedPeer(protocol, clock, mechanisms=mechanisms)
