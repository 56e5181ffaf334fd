"""The broker itself: virtual hosts, users, connections and limits."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import Any, Self

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.limits import Limits
from txamqpx.broker.memory_limit import MEMORY_LIMIT
from txamqpx.broker.names import DEFAULT, names
from txamqpx.broker.observation import Observation
from txamqpx.broker.profile import profile_named
from txamqpx.broker.session import Session
from txamqpx.broker.tap import Tap
from txamqpx.broker.users import Users
from txamqpx.broker.vhost import VirtualHost

__all__ = ["Broker"]


class Broker(Observation, Factory):
    """An AMQP 0-9-1 broker in this process; it keeps nothing when it ends.

    Args:
        name: What ``memory://name`` leads to, until the broker is closed; ``""``: one that nobody else has.
        profile: Which RabbitMQ it can be taken for: ``"rabbitmq-3.10"`` or ``"rabbitmq-4.3"``.
        clock: What tells the time: a reactor, or a ``Clock``, with which all time is virtual; None: the
            reactor.
        users: Passwords by user name; these users may do everything.
        vhosts: The virtual hosts that there are.
        heartbeat: What is proposed to clients, in seconds; 0: none.
        frame_max: The largest frame, in bytes; 0: any.
        channel_max: The most channels of a connection; 0: any.
        max_message_size: The largest body, in bytes; None: as the profile has it.
        memory_limit: How many bytes the queues may hold before publishers are blocked, until they hold less.
        consumer_timeout: After how many seconds a delivery has to be settled; None: never.

    Raises:
        ValueError: A number is out of its range, or there is no such profile, or the name is taken.
    """

    noisy = False

    def __init__(
        self,
        name: str = "",
        *,
        profile: str = "rabbitmq-4.3",
        clock: IReactorTime | None = None,
        users: Mapping[str, str] | None = None,
        vhosts: Iterable[str] = ("/",),
        heartbeat: int = 60,
        frame_max: int = 131072,
        channel_max: int = 2047,
        max_message_size: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
        consumer_timeout: float | None = 1800.0,
    ) -> None:
        super().__init__()
        if isinstance(vhosts, str):  # or each of its letters would be one
            raise TypeError(f"several names may be given, so one is vhosts=[{vhosts!r}]")
        self.profile = profile_named(profile)
        _check("heartbeat", heartbeat, 0, 0xFFFF)
        _check("channel_max", channel_max, 0, 0xFFFF)
        _check("frame_max", frame_max, self.profile.least_frame_max, 0xFFFFFFFF, or_0=True)
        _check("memory_limit", memory_limit, 0, 2**63 - 1)
        self.name = names.add(self, name)
        self.clock: BrokerClock = BrokerClock(clock)
        self.users = Users({"guest": "guest"} if users is None else users)
        self.limits = Limits()
        self.vhosts = {vhost: VirtualHost(vhost, self) for vhost in vhosts}
        self.heartbeat = heartbeat
        self.frame_max = frame_max
        self.channel_max = channel_max
        self.max_message_size = max_message_size or self.profile.max_message_size
        self.consumer_timeout = consumer_timeout
        self.sessions: set[Session] = set()
        self.observe(memory_limit)

    @classmethod
    def named(cls, name: str = DEFAULT) -> Self | None:
        """Return the broker that ``memory://name`` leads to, such as one that a URL has made.

        Args:
            name: Its name; left out, the one that ``memory://`` alone stands for.

        Returns:
            The broker, or None if nobody has the name.
        """
        found = names.find(name)
        return found if isinstance(found, cls) else None

    @property
    def url(self) -> str:
        """What leads here, without sockets, for who has the default user's name."""
        return f"memory://{self.name}"

    def server_properties(self) -> dict[str, Any]:
        """Return what a client is told."""
        capabilities = (
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        )
        return {
            "capabilities": dict.fromkeys(capabilities, True),
            "cluster_name": self.name,
            "copyright": "the authors of txamqpx",
            "information": "txamqpx's embedded broker, which keeps nothing",
            "platform": f"Python {platform.python_version()}",
            "product": "RabbitMQ",
            "version": self.profile.version,
        }

    def buildProtocol(self, addr: IAddress | None) -> Tap | None:
        """Make the protocol for a connection: a broker is a factory for any endpoint's ``listen``."""
        session = Session(self)
        session.factory = self
        return self.tapped(session)


def _check(name: str, value: object, least: int, most: int, *, or_0: bool = False) -> None:
    """Refuse now what would end each client's connection later."""
    if not (isinstance(value, int) and (least <= value <= most or (or_0 and not value))):
        also = " or 0" if or_0 else ""
        raise ValueError(f"{name} must be a whole number from {least} to {most}{also}, not {value!r}")
