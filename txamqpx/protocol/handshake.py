"""How a connection is opened, from either side (0-9-1 section 2.2.4).

A client answers each of the server's methods at once, so the whole exchange needs no help from
outside.  A server greets by itself too; what it makes of the login and of the virtual host is
decided by the broker behind it, which gets ``Requested`` events and answers with ``send``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import evolve

from txamqpx.errors import (
    AMQPError,
    AuthenticationError,
    EncodeError,
    ProbableAuthenticationError,
    RemoteProtocolError,
    VhostAccessDenied,
)
from txamqpx.protocol.auth import Mechanism
from txamqpx.protocol.events import Event, Opened
from txamqpx.protocol.frames import METHOD, Silent, check_greeting
from txamqpx.protocol.outbox import Outbox
from txamqpx.protocol.states import ConnectionState, Role
from txamqpx.protocol.tuning import FRAME_MIN_SIZE, Tuning, negotiate
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import Dialect

__all__ = ["CAPABILITIES", "ClientHandshake", "Opening", "ServerHandshake", "tuning_in"]

#: What we tell a broker that we understand; it changes what the broker does.
CAPABILITIES: Mapping[str, bool] = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}

DEFAULT_TUNING = Tuning(channel_max=2047, frame_max=131072, heartbeat=60)  # what RabbitMQ proposes

# How 0-9 was asked for, which brokers take for 0-9-1.
_OLD_HEADERS = {b"AMQP\x00\x00\x09\x01": b"AMQP\x01\x01\x00\x09"}


class Opening(Protocol):
    """What a handshake needs of the connection that it opens."""

    dialect: Dialect
    outbox: Outbox
    events: list[Event]
    state: ConnectionState
    server_properties: dict[str, Any]
    proposed: Tuning
    tuning: Tuning

    def send(self, method: Method, token: Any = None) -> None:
        """Send a method on channel 0."""

    def agree(self, tuning: Tuning) -> None:
        """Put negotiated limits in force."""


def tuning_in(method: Any) -> Tuning:
    """Return the numbers in a ``connection.tune`` or ``tune-ok``."""
    return Tuning(method.channel_max, method.frame_max, method.heartbeat)


class ClientHandshake:
    """The client's side.

    Args:
        logins: How to log in, the best first; fresh for each connection.
        virtual_host: What to open.
        locale: The language of the server's texts.
        properties: What to tell the server of ourselves.
        tuning: Our wishes; a heartbeat of 0 is no wish.
        heartbeats: False switches them off, whatever the server proposes.
    """

    role = Role.CLIENT

    def __init__(
        self,
        logins: Sequence[Mechanism],
        *,
        virtual_host: str = "/",
        locale: str = "en_US",
        properties: Mapping[str, Any] | None = None,
        tuning: Tuning = DEFAULT_TUNING,
        heartbeats: bool = True,
    ) -> None:
        self._logins = logins
        self._login: Mechanism | None = None
        self._virtual_host = virtual_host
        self._locale = locale
        self._properties = {"capabilities": dict(CAPABILITIES)} if properties is None else dict(properties)
        self._wishes = tuning
        self._heartbeats = heartbeats
        self.handlers = {
            "connection.start": self._start,
            "connection.secure": self._secure,
            "connection.tune": self._tune,
            "connection.open-ok": self._open_ok,
        }

    def begin(self, connection: Opening) -> None:
        """Greet the server."""
        connection.outbox.append(connection.dialect.header)
        connection.state = ConnectionState.AWAIT_START

    def greeted(self, connection: Opening, data: bytes) -> int | None:
        """Look at the server's first bytes.

        Returns:
            How many of them were its greeting: none, as it begins with a frame; or None if there are
            too few to tell.

        Raises:
            ProtocolVersionMismatch: It speaks another version.
            NotAMQP: It is no AMQP server.
        """
        check_greeting(data)
        return 0 if data[0] == METHOD else None

    def explain(self, state: ConnectionState) -> AMQPError | None:
        """Return what it most likely means that the server hung up in ``state``, if it means anything."""
        if state is ConnectionState.AWAIT_TUNE:
            return ProbableAuthenticationError(
                "the server hung up after the login: most likely it refused the credentials"
            )
        if state is ConnectionState.AWAIT_OPEN_OK:
            return VhostAccessDenied(
                f"the server hung up when virtual host {self._virtual_host!r} was opened", reply_code=0
            )
        return None

    def _start(self, connection: Opening, method: Any) -> None:
        dialect = connection.dialect
        if (method.version_major, method.version_minor) != (dialect.major, dialect.minor):
            raise RemoteProtocolError(
                f"the server starts AMQP {method.version_major}-{method.version_minor}, "
                f"we speak {dialect.major}-{dialect.minor}",
                operation=method.name,
            )
        connection.server_properties = method.server_properties
        offered = method.mechanisms.decode("ascii", "replace").split()
        self._login = next((login for login in self._logins if login.name in offered), None)
        if self._login is None:
            wanted = " or ".join(login.name for login in self._logins)
            raise AuthenticationError(
                f"the server offers no {wanted}, only {' '.join(offered)}", by_peer=False
            )
        start_ok = dialect.new(
            "connection.start-ok",
            client_properties=self._properties,
            mechanism=self._login.name,
            response=self._login.initial_response(),
            locale=self._locale,
        )
        try:
            connection.send(start_ok)
        except EncodeError as error:
            # Before both sides agreed on a size there is little room; long tokens are what meets the limit.
            raise AuthenticationError(f"the login cannot be sent: {error}", by_peer=False) from error

    def _secure(self, connection: Opening, method: Any) -> None:
        assert self._login is not None  # a challenge follows start-ok
        response = self._login.respond(method.challenge)
        connection.send(connection.dialect.new("connection.secure-ok", response=response))

    def _tune(self, connection: Opening, method: Any) -> None:
        tuning = negotiate(self._wishes, tuning_in(method))
        if not self._heartbeats:
            tuning = evolve(tuning, heartbeat=0)
        new = connection.dialect.new
        connection.send(
            new(
                "connection.tune-ok",
                channel_max=tuning.channel_max,
                frame_max=tuning.frame_max,
                heartbeat=tuning.heartbeat,
            )
        )
        connection.agree(tuning)
        # Nothing answers tune-ok, so waiting would only cost a round trip.
        connection.send(new("connection.open", virtual_host=self._virtual_host))

    def _open_ok(self, connection: Opening, method: Any) -> None:
        connection.events.append(Opened(connection.server_properties, connection.tuning))


class ServerHandshake:
    """The server's side.

    Args:
        properties: What to tell the client of ourselves.
        mechanisms: How it may log in, separated by spaces.
        locales: Which languages we speak, separated by spaces.
        offer: The header that a client is told which wants another protocol; empty: ours.
        least_frame_max: The smallest frames that a client may agree to.
    """

    role = Role.SERVER

    def __init__(
        self,
        *,
        properties: Mapping[str, Any] | None = None,
        mechanisms: str = "PLAIN AMQPLAIN",
        locales: str = "en_US",
        offer: bytes = b"",
        least_frame_max: int = FRAME_MIN_SIZE,
    ) -> None:
        self._properties = dict(properties or {})
        self._offer = offer
        self._least_frame_max = least_frame_max
        #: How a client may log in, separated by spaces.
        self.mechanisms = mechanisms
        self._locales = locales
        self.handlers = {"connection.tune-ok": self._tune_ok}

    def begin(self, connection: Opening) -> None:
        """Wait for the client's greeting."""

    def greeted(self, connection: Opening, data: bytes) -> int | None:
        """Look at the client's first bytes, and start.

        Returns:
            How many of them were its greeting, or None if there are too few to tell.

        Raises:
            Silent: It wants another protocol; what we speak is in the outbox (section 4.2.2).
        """
        dialect = connection.dialect
        header = dialect.header
        if len(data) < len(header):
            return None
        if data[:8] not in (header, _OLD_HEADERS.get(header)):
            ours = not self._offer or data.startswith(header[:7])
            connection.outbox.append_urgent(header if ours else self._offer)
            raise Silent(f"the client wants another protocol: {data[:8]!r}")
        connection.state = ConnectionState.AWAIT_START
        connection.send(
            dialect.new(
                "connection.start",
                version_major=dialect.major,
                version_minor=dialect.minor,
                server_properties=self._properties,
                mechanisms=self.mechanisms,
                locales=self._locales,
            )
        )
        return len(header)

    def explain(self, state: ConnectionState) -> AMQPError | None:
        """Return nothing: that a client hangs up means no more than that."""
        return None

    def _tune_ok(self, connection: Opening, method: Any) -> None:
        tuning = tuning_in(method)
        for name in ("channel_max", "frame_max"):
            ours, theirs = getattr(connection.proposed, name), getattr(tuning, name)
            if ours and not 0 < theirs <= ours:
                raise RemoteProtocolError(
                    f"negotiated {name} = {theirs} is higher than the maximum allowed value ({ours})",
                    reply_code=530,
                    operation=method.name,
                )
        if 0 < tuning.frame_max < self._least_frame_max:
            raise RemoteProtocolError(
                f"negotiated frame_max = {tuning.frame_max} is lower than the minimum allowed value "
                f"({self._least_frame_max})",
                reply_code=530,
                operation=method.name,
            )
        connection.agree(evolve(tuning, channel_max=tuning.channel_max or 0xFFFF))
