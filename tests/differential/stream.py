"""Ways to a broker for bytes: a socket to RabbitMQ, and a session of the embedded broker in this process."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Protocol

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from txamqpx.broker.broker import Broker


class Stream(Protocol):
    """One connection's bytes."""

    def write(self, data: bytes) -> None:
        """Send bytes; a broker that has hung up does not mind."""

    def read(self) -> bytes:
        """Return what the broker has to say for now."""

    def close(self) -> None:
        """Hang up."""


class SocketStream:
    """A socket.

    Args:
        port: Where the broker listens on 127.0.0.1.
        quiet: Seconds of silence after which the broker counts as done with what it was told.
    """

    def __init__(self, port: int, quiet: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._quiet = quiet

    def write(self, data: bytes) -> None:
        """Send bytes."""
        with suppress(OSError):
            self._socket.sendall(data)

    def read(self) -> bytes:
        """Read until the broker falls silent."""
        heard = b""
        self._socket.settimeout(self._quiet)
        try:
            while True:
                data = self._socket.recv(65536)
                if not data:
                    return heard
                heard += data
        except OSError:
            return heard

    def close(self) -> None:
        """Close the socket, and let the broker notice."""
        self._socket.close()
        time.sleep(self._quiet)


class EmbeddedStream:
    """A session of a broker on a clock.

    Args:
        broker: The broker.
        clock: Its clock.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._clock = clock
        self._transport = StringTransport()
        session = broker.buildProtocol(None)
        assert session is not None  # nobody has asked the broker to refuse it
        self._session = session
        self._session.makeConnection(self._transport)
        self._over = False

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not (self._over or self._transport.disconnecting):
            self._session.dataReceived(data)

    def read(self) -> bytes:
        """Return what was written."""
        self._clock.advance(0)
        heard: bytes = self._transport.value()
        self._transport.clear()
        if self._transport.disconnecting and not self._over:
            self.close()
        return heard

    def close(self) -> None:
        """Tell the session that its transport is gone."""
        if not self._over:
            self._over = True
            self._session.connectionLost()
        self._clock.advance(0)
