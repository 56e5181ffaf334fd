"""A client made of a socket: it says what no client of ours would, and hears every word of the answer."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.broker_node import BrokerNode
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT_FRAME, METHOD, frame, header_frame, unpack_head
from txamqpx.spec.amqp0_9_1 import (
    BasicProperties,
    BasicPublish,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionClose,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1

PATIENCE = 30.0
"""Seconds after which an answer counts as not coming."""

HEARTBEAT = HEARTBEAT_FRAME

GREETING = b"AMQP\x00\x00\x09\x01"

#: What makes a broker say why it refuses a login.
SPOKEN_REFUSALS = {"capabilities": {"authentication_failure_close": True, "connection.blocked": True}}

M = TypeVar("M", bound=Method)


def plain(user: str = "guest", password: str = "guest") -> bytes:
    """Return PLAIN's response."""
    return f"\0{user}\0{password}".encode()


class Wire:
    """One connection to a broker, on which nothing is said but what the test says.

    Args:
        node: The broker.
    """

    def __init__(self, node: BrokerNode) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.ports["amqp"]), timeout=PATIENCE)
        self._heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.socket.close()

    # ------------------------------------------------------------------- saying

    def write(self, data: bytes) -> None:
        """Send bytes; a broker that has hung up is found out by what it says."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send(self, channel: int, *methods: Method) -> None:
        """Send methods in one write."""
        self.write(b"".join(frame(METHOD, channel, method.encode()) for method in methods))

    def publish(self, channel: int, method: BasicPublish, body: bytes = b"", **properties: Any) -> None:
        """Send a method with a content in three frames at most."""
        header = BasicProperties(**properties).encode()
        data = frame(METHOD, channel, method.encode()) + header_frame(channel, 60, header, len(body))
        self.write(data + (frame(BODY, channel, body) if body else b""))

    # ------------------------------------------------------------------- hearing

    def octets(self, count: int) -> bytes:
        """Wait for so many bytes; return fewer only if the broker has hung up."""
        while len(self._heard) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._heard += data
        taken, self._heard = self._heard[:count], self._heard[count:]
        return taken

    def frame(self) -> tuple[int, int, bytes] | None:
        """Wait for a frame; return its type, channel and payload, or None when the broker has hung up."""
        head = self.octets(7)
        if len(head) < 7:
            assert not head
            return None
        kind, channel, length = unpack_head(head)
        payload = self.octets(length + 1)
        assert payload[-1:] == b"\xce"
        return kind, channel, payload[:-1]

    def hear(self) -> tuple[int, Any] | None:
        """Wait for a frame; return its channel and its method, or what else it is; None at the end."""
        heard = self.frame()
        if heard is None:
            return None
        kind, channel, payload = heard
        if kind == METHOD:
            index = int.from_bytes(payload[:4])
            return channel, AMQP_0_9_1.methods[index].decode(payload, 4, len(payload))
        return channel, {HEADER: "header", BODY: "body", 8: "heartbeat"}[kind]

    def expect(self, kind: type[M], channel: int = 0) -> M:
        """Wait for a method, which is the next thing to be said but for heartbeats."""
        heard = self.hear()
        while heard == (0, "heartbeat"):
            heard = self.hear()
        assert heard is not None, f"the broker hung up where {kind.name} was expected"
        assert heard[0] == channel, heard
        assert type(heard[1]) is kind, heard
        method: M = heard[1]
        return method

    def is_over(self) -> bool:
        """Wait until the broker hangs up; False if it says something instead."""
        return self.hear() is None

    def is_silent(self, seconds: float = 0.3) -> bool:
        """Tell whether the broker neither says anything nor hangs up for a while."""
        self.socket.settimeout(seconds)
        try:
            heard = self.socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)
        self._heard += heard
        return False

    # ------------------------------------------------------------------- the handshake

    def greet(self) -> ConnectionStart:
        """Greet, and return how the broker starts."""
        self.write(GREETING)
        return self.expect(ConnectionStart)

    def log_in(
        self,
        mechanism: str = "PLAIN",
        response: bytes | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Send ``connection.start-ok``."""
        said = SPOKEN_REFUSALS if properties is None else properties
        self.send(0, ConnectionStartOk(said, mechanism, plain() if response is None else response, "en_US"))

    def tune(self) -> ConnectionTune:
        """Go on as far as to the broker's limits."""
        self.greet()
        self.log_in()
        return self.expect(ConnectionTune)

    def open(self, vhost: str = "/", *channels: int, response: bytes | None = None, **limits: int) -> Self:
        """Open the connection, and channels on it, with limits other than the broker's own."""
        self.greet()
        self.log_in(response=response)
        proposed = self.expect(ConnectionTune)
        agreed = {"channel_max": proposed.channel_max, "frame_max": proposed.frame_max, "heartbeat": 0}
        self.send(0, ConnectionTuneOk(**{**agreed, **limits}), ConnectionOpen(vhost))
        self.expect(ConnectionOpenOk)
        for number in channels:
            self.send(number, ChannelOpen())
            self.expect(ChannelOpenOk, number)
        return self

    # ------------------------------------------------------------------- how it ends

    def refusal(self, channel: int = 0) -> tuple[int, str, int, int]:
        """Wait for a close of the connection, or of a channel; return its code, text and method."""
        kind: Any = ChannelClose if channel else ConnectionClose
        method = self.expect(kind, channel)
        return method.reply_code, method.reply_text, method.class_id, method.method_id
