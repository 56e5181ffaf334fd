"""What an operator does: users, virtual hosts, connections, alarms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.limits import Limits
from txamqpx.broker.profile import Profile
from txamqpx.broker.users import Permissions, Users
from txamqpx.broker.vhost import VirtualHost

if TYPE_CHECKING:
    from txamqpx.broker.session import Session

__all__ = ["Administration"]


class Administration:
    """A broker's offices: what rabbitmqctl does to RabbitMQ."""

    profile: Profile
    clock: BrokerClock
    consumer_timeout: float | None
    users: Users
    limits: Limits
    vhosts: dict[str, VirtualHost]
    sessions: set[Session]

    def __init__(self) -> None:
        #: Why nobody may publish, in RabbitMQ's words; empty: everybody may.
        self.alarm = ""
        self._sources: set[str] = set()

    # ----------------------------------------------------------------------- users

    def add_user(self, name: str, password: str | None, tags: Iterable[str] = ()) -> None:
        """Add a user, who may do nothing before `set_permissions`.

        Args:
            name: The name.
            password: The password; None: only a client certificate with that common name will do.
            tags: Such as ``"administrator"``; they mean nothing to AMQP.

        Raises:
            ValueError: There is a user of that name.
        """
        self.users.add(name, password, tags)

    def delete_user(self, name: str) -> None:
        """Delete a user, and close the user's connections.

        Raises:
            KeyError: There is none of that name.
        """
        self.users.delete(name)
        self.close_connections(f"user '{name}' is deleted", user=name)

    def change_password(self, name: str, password: str | None) -> None:
        """Give a user another password; connections that are open stay so.

        Raises:
            KeyError: There is none of that name.
        """
        self.users.set_password(name, password)

    def set_permissions(
        self, user: str, vhost: str = "/", configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say what a user may do in a virtual host, by expressions that are searched for in names.

        Args:
            user: The user.
            vhost: Where.
            configure: Which queues and exchanges may be made and deleted.
            write: Which exchanges may be published to, which queues may be bound.
            read: Which queues may be consumed from, which exchanges may be bound to.

        Raises:
            KeyError: There is no such user.
            ValueError: Something is no regular expression.
        """
        self.users.set_permissions(user, vhost, Permissions.of(configure, write, read))

    def clear_permissions(self, user: str, vhost: str = "/") -> None:
        """Let a user no longer into a virtual host; connections that are there stay, and may do nothing.

        Raises:
            KeyError: There is no such user.
        """
        self.users.set_permissions(user, vhost, None)

    def set_topic_permissions(
        self, user: str, exchange: str, vhost: str = "/", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say which routing keys a user may use with a topic exchange.

        Raises:
            KeyError: There is no such user.
            ValueError: Something is no regular expression.
        """
        self.users.set_topic_permissions(user, vhost, exchange, write=write, read=read)

    # ----------------------------------------------------------------------- virtual hosts

    def add_vhost(self, name: str) -> None:
        """Add a virtual host with the exchanges that each one has; one that is there stays as it is."""
        if name not in self.vhosts:
            self.vhosts[name] = VirtualHost(name, self)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close the connections to it.

        Raises:
            KeyError: There is none of that name.
        """
        vhost = self.vhosts.pop(name)
        self.close_connections(f"vhost '{name}' is deleted", vhost=name)
        for queue in list(vhost.queues.values()):
            vhost.delete_queue(queue)

    # ----------------------------------------------------------------------- connections

    def close_connections(self, reason: str, *, user: str | None = None, vhost: str | None = None) -> int:
        """Close connections with 320 CONNECTION_FORCED, and return how many.

        Args:
            reason: What their clients are told.
            user: Only this user's; None: everybody's.
            vhost: Only those to this virtual host; None: to all.
        """
        closing = [
            session
            for session in self.sessions
            if session.is_open
            and (user is None or session.user == user)
            and (vhost is None or session.vhost.name == vhost)
        ]
        for session in closing:
            session.force(reason)
        return len(closing)

    # ----------------------------------------------------------------------- alarms

    def set_alarm(self, source: str = "memory") -> None:
        """Block each connection that publishes, from its next publish on.

        Args:
            source: What is low: ``"memory"`` or ``"disk"``.
        """
        self._sources.add(source)
        self._say_what_is_low()

    def clear_alarm(self, source: str = "memory") -> None:
        """Let everybody publish again, if this was the only alarm."""
        self._sources.discard(source)
        self._say_what_is_low()
        if not self._sources:
            for session in list(self.sessions):
                session.unblock()

    def _say_what_is_low(self) -> None:
        self.alarm = f"low on {' & '.join(sorted(self._sources))}" if self._sources else ""
