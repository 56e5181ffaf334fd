"""How a client comes in: what it is told, who it is, and where it may go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.logger import Logger

from txamqpx.broker.limits import Limits
from txamqpx.broker.profile import Profile
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.users import Unreadable, User, Users, read_login
from txamqpx.broker.vhost import VirtualHost
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.protocol.rulings import Breach, Ending
from txamqpx.protocol.serving import ServerConnection
from txamqpx.spec import amqp0_9_1 as amqp

__all__ = ["ANONYMOUS", "Guest", "House", "Reception"]

#: Who a client is that gives no name: RabbitMQ's own default.
ANONYMOUS = "guest"


class House(Protocol):
    """A broker, as it receives clients."""

    @property
    def profile(self) -> Profile:
        """Which RabbitMQ it can be taken for."""

    @property
    def users(self) -> Users:
        """Who may log in."""

    @property
    def limits(self) -> Limits:
        """How many may come."""

    @property
    def vhosts(self) -> Mapping[str, VirtualHost]:
        """Where they may go."""

    @property
    def heartbeat(self) -> int:
        """What is proposed."""

    @property
    def frame_max(self) -> int:
        """What is proposed."""

    @property
    def channel_max(self) -> int:
        """What is proposed."""

    def refuses_login(self, user: str) -> bool:
        """Return whether a user is to be turned away, whatever the password."""

    def server_properties(self) -> dict[str, Any]:
        """Return what a client is told."""


class Guest(Protocol):
    """A session, as it is received."""

    vhost: VirtualHost
    account: User | None
    mechanism: str
    client_properties: Mapping[str, Any]
    capabilities: frozenset[str]

    @property
    def core(self) -> ServerConnection:
        """Its core."""

    @property
    def transport(self) -> Any:
        """Its transport."""

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close the connection, and tell why."""

    def opened(self) -> None:
        """Take note that the connection is open."""


class Reception:
    """Receives one client.

    Args:
        house: Whose client it is.
        guest: The client's session.
    """

    log = Logger()

    def __init__(self, house: House, guest: Guest) -> None:
        self._house = house
        self._guest = guest
        profile = house.profile
        self._mechanisms = profile.mechanisms
        #: How the connection is opened.
        self.handshake = ServerHandshake(
            properties=house.server_properties(),
            mechanisms=self._mechanisms,
            offer=profile.other_header,
            least_frame_max=profile.least_frame_max,
        )
        self.methods: Mapping[int, Callable[[Any], None]] = {
            amqp.ConnectionStartOk.index: self._start_ok,
            amqp.ConnectionOpen.index: self._open,
            amqp.ConnectionUpdateSecret.index: self._update_secret,
        }

    def begin(self) -> None:
        """Offer the login by certificate where there may be one."""
        if hasattr(self._guest.transport, "getPeerCertificate"):
            self._mechanisms += " EXTERNAL"
            self.handshake.mechanisms = self._mechanisms

    def _start_ok(self, method: amqp.ConnectionStartOk) -> None:
        guest = self._guest
        guest.client_properties = method.client_properties or {}
        capabilities = guest.client_properties.get("capabilities")
        if isinstance(capabilities, dict):
            guest.capabilities = frozenset(name for name, has in capabilities.items() if has is True)
        guest.mechanism = method.mechanism
        try:
            if method.mechanism not in self._mechanisms.split():
                raise Unreadable(f"the mechanism {method.mechanism!r} was not offered")
            response = method.response
            login = read_login(
                method.mechanism,
                response if isinstance(response, bytes) else response.encode(),
                self._certified(),
                ANONYMOUS,
            )
        except Unreadable as error:
            self._turn_away(f"a client cannot log in: {error}")
            return
        refused = self._house.refuses_login(login.name)
        guest.account = None if refused else self._house.users.log_in(login)
        if guest.account is None:
            text = f"Login was refused using authentication mechanism {method.mechanism}."
            if "authentication_failure_close" not in guest.capabilities:
                self._turn_away(text)
                return
            guest.refuse(Refusal(403, f"{text} For details see the broker logfile.", hard=True))
            return
        house = self._house
        guest.core.send(amqp.ConnectionTune(house.channel_max, house.frame_max, house.heartbeat))

    def _certified(self) -> str | None:
        """Return the common name in the client's certificate."""
        transport = self._guest.transport
        certificate = transport.getPeerCertificate() if hasattr(transport, "getPeerCertificate") else None
        if certificate is None:
            return None
        name: str | None = certificate.get_subject().commonName
        return name

    def _turn_away(self, why: str) -> None:
        self.log.info("{why}", why=why)
        self._guest.core.punish(Breach(403, why, ending=Ending.SILENT))

    def _open(self, method: amqp.ConnectionOpen) -> None:
        guest, house = self._guest, self._house
        name = method.virtual_host
        vhost = house.vhosts.get(name)
        user = guest.account
        assert user is not None  # the core lets nobody in who has not logged in
        try:
            if vhost is None:
                raise Refusal(530, f"vhost {name} not found")
            if not user.may_enter(name):
                raise Refusal(530, f"access to vhost '{name}' refused for user '{user.name}'")
            house.limits.admit(user.name, name)
        except Refusal as refusal:
            guest.refuse(refusal, method.index)
            return
        guest.vhost = vhost
        guest.core.send(amqp.ConnectionOpenOk())
        guest.opened()

    def _update_secret(self, method: amqp.ConnectionUpdateSecret) -> None:
        # RabbitMQ's own database of users takes any secret: it is for tokens that expire.
        self._guest.core.send(amqp.ConnectionUpdateSecretOk())
