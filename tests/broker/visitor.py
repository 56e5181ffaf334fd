"""A client without sockets that says what it is told to, and keeps what it hears."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txamqpx.broker import Broker
from txamqpx.broker.session import Session
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT, METHOD, frame, header_frame, unpack_head
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1

GREETING = b"AMQP\x00\x00\x09\x01"

UNDERSTANDS = {"capabilities": {"authentication_failure_close": True, "connection.blocked": True}}


def methods(channel: int, *said: Method) -> bytes:
    """Return methods as frames."""
    return b"".join(frame(METHOD, channel, method.encode()) for method in said)


def publish(queue: str, body: bytes = b"", channel: int = 1, properties: bytes = b"\0\0") -> bytes:
    """Return a publish as frames."""
    head = methods(channel, amqp.BasicPublish("", queue)) + header_frame(channel, 60, properties, len(body))
    return head + (frame(BODY, channel, body) if body else b"")


class Transport(StringTransport):
    """A transport that knows whether it was aborted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Certified(Transport):
    """A transport over which the client has shown a certificate, or not."""

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.commonName = name

    def getPeerCertificate(self) -> Any:
        return None if self.commonName is None else self

    def get_subject(self) -> Any:
        return self


class Visitor:
    """One client.

    Args:
        broker: Whose; None: its own, on a Clock.
        transport: What lies between them; None: a plain one.
    """

    def __init__(self, broker: Broker | None = None, transport: Transport | None = None) -> None:
        self.broker = broker or Broker(clock=Clock())
        self.clock: Any = self.broker.clock.base
        self.transport = transport or Transport()
        self.session = Session(self.broker)
        self.session.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.session.dataReceived(data)

    def send(self, channel: int, *said: Method) -> None:
        """Send methods."""
        self.write(methods(channel, *said))

    def hear(self) -> list[Any]:
        """Return the methods that came since the last time, and words for what else did."""
        self.clock.advance(0)
        transport: Any = self.transport
        data, heard, offset = transport.value(), [], 0
        transport.clear()
        while offset < len(data):
            if data.startswith(b"AMQP", offset):
                heard.append(data[offset:])
                break
            kind, _, length = unpack_head(data, offset)
            payload = data[offset + 7 : offset + 7 + length]
            if kind == METHOD:
                method = AMQP_0_9_1.methods[int.from_bytes(payload[:4])]
                heard.append(method.decode(payload, 4, length))
            else:
                heard.append({HEADER: "header", BODY: "body", HEARTBEAT: "heartbeat"}[kind])
            offset += length + 8
        return heard

    def names(self) -> list[str]:
        """Return the names of what came since the last time."""
        return [one.name if isinstance(one, Method) else str(one) for one in self.hear()]

    def log_in(
        self, mechanism: str = "PLAIN", response: bytes = b"\0guest\0guest", properties: Any = UNDERSTANDS
    ) -> list[Any]:
        """Greet and log in; return what is said to that."""
        self.write(GREETING)
        self.hear()
        self.send(0, amqp.ConnectionStartOk(properties, mechanism, response, "en_US"))
        return self.hear()

    def open(self, *channels: int, vhost: str = "/", heartbeat: int = 0, **login: Any) -> Visitor:
        """Come all the way in."""
        assert [type(one) for one in self.log_in(**login)] == [amqp.ConnectionTune]
        self.send(0, amqp.ConnectionTuneOk(2047, 131072, heartbeat), amqp.ConnectionOpen(vhost))
        assert self.names() == ["connection.open-ok"]
        for number in channels:
            self.send(number, amqp.ChannelOpen())
            assert self.names() == ["channel.open-ok"]
        return self

    def refusal(self) -> tuple[int, str]:
        """Return with which code and text the connection, or a channel, was closed just now."""
        (closed,) = [one for one in self.hear() if isinstance(one, amqp.ConnectionClose | amqp.ChannelClose)]
        return closed.reply_code, closed.reply_text

    def is_in(self) -> bool:
        """Return whether the connection is open."""
        return self.session.is_open

    def is_heard(self) -> bool:
        """Return whether the broker reads."""
        return self.transport.producerState == "producing"

    def is_sent_away(self) -> bool:
        """Return whether the broker has closed the transport, behind its last words."""
        return bool(self.transport.disconnecting)

    def is_dropped(self) -> bool:
        """Return whether the broker has dropped the transport."""
        return self.transport.aborted

    def leave(self) -> None:
        """Drop the transport."""
        self.session.connectionLost(Failure(ConnectionDone()))
