"""What tests ask of a broker that they start, stop and ill-treat, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote


class BrokerNode(ABC):
    """One broker in a process of its own.

    Calls into it block for a few milliseconds, and starts for longer, so a test whose reactor has to go on
    meanwhile defers them to a thread.

    Attributes:
        broker: What the command line calls it, for example `rabbitmq-3.10`.
        directory: Where everything of it is.
        ports: Its ports on 127.0.0.1, by name: `amqp`, `amqps`; they stay the same when it is restarted.
    """

    broker: str
    directory: Path
    ports: dict[str, int]

    def url(self, vhost: str = "/", *, user: str = "guest", password: str = "guest") -> str:
        """Return the `amqp://` URL of a virtual host."""
        return f"amqp://{_login(user, password)}@127.0.0.1:{self.ports['amqp']}/{quote(vhost, '')}"

    def tls_url(self, vhost: str = "/", *, user: str = "guest", password: str = "guest") -> str:
        """Return the `amqps://` URL of a virtual host, with the host name that the certificate has."""
        return f"amqps://{_login(user, password)}@localhost:{self.ports['amqps']}/{quote(vhost, '')}"

    @property
    @abstractmethod
    def label(self) -> str:
        """Return what reports call it, for example `RabbitMQ 3.10.8`."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Return the full version of RabbitMQ that it is, or can be taken for."""

    @property
    @abstractmethod
    def keeps(self) -> bool:
        """Tell whether what is durable outlives its process."""

    @property
    @abstractmethod
    def has_streams(self) -> bool:
        """Tell whether a queue can be a stream."""

    # Life -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, *exception: object) -> None:
        self.end()

    @abstractmethod
    def start(self) -> Self:
        """Start the broker, and return when it is ready.

        Raises:
            NodeFailed: It runs already, ended, or was not ready in time; in the last two cases it is down.
        """

    @abstractmethod
    def shut_down(self) -> None:
        """Ask the broker to stop in order, and do not wait; `kill9` is what to do then."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the broker in order.

        Raises:
            NodeFailed: It took too long, and was killed.
        """

    @abstractmethod
    def kill9(self) -> None:
        """Kill the broker as a power cut would; one that is down stays so."""

    @abstractmethod
    def freeze(self) -> None:
        """Make the broker half open: its kernel goes on accepting connections, and it answers nothing."""

    @abstractmethod
    def thaw(self) -> None:
        """Let a frozen broker go on."""

    @abstractmethod
    def end(self) -> None:
        """Kill the broker, and remove what it left; a second call does nothing."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Return the number of the broker's process while it is up."""

    @abstractmethod
    def rss_mb(self) -> float:
        """Return its resident memory in MB."""

    @abstractmethod
    def log_tail(self) -> str:
        """Return the end of its log."""

    def complaints(self) -> str:
        """Return what the broker has said, since it was asked last, about errors of its own."""
        return ""

    # Virtual hosts, users, connections, alarms ------------------------------------------------

    @abstractmethod
    def list_vhosts(self) -> list[str]:
        """List the virtual hosts."""

    @abstractmethod
    def add_vhost(self, name: str, *, user: str = "guest") -> None:
        """Create a virtual host in which a user may do everything."""

    @abstractmethod
    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that it holds.

        Raises:
            NodeFailed: There is none.
        """

    @abstractmethod
    def add_user(self, name: str, password: str | None) -> None:
        """Create a user; one without a password can only log in by a certificate."""

    @abstractmethod
    def delete_user(self, name: str) -> None:
        """Delete a user."""

    @abstractmethod
    def set_permissions(
        self, user: str, vhost: str = "/", *, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say, by regular expressions, which names a user may configure, write to and read from."""

    @abstractmethod
    def sync_metadata(self) -> None:
        """Have the broker write its virtual hosts, users, exchanges and queues to disk, if it has one."""

    @abstractmethod
    def list_connections(self) -> list[dict[str, Any]]:
        """List the client connections as the broker sees them."""

    @abstractmethod
    def client_properties(self, vhost: str) -> list[Mapping[str, Any]]:
        """List what the clients on a virtual host told of themselves."""

    @abstractmethod
    def close_all_connections(self, reason: str = "closed by the test") -> int:
        """Have the broker close every client connection with CONNECTION_FORCED, and return how many."""

    @abstractmethod
    def set_alarm(self, source: str = "memory") -> None:
        """Raise an alarm: when this returns, whoever publishes is blocked.

        Args:
            source: `memory` or `disk`.
        """

    @abstractmethod
    def clear_alarm(self, source: str = "memory") -> None:
        """Clear an alarm that `set_alarm` raised."""

    @contextmanager
    def impatient(self, seconds: float) -> Iterator[None]:
        """Let a consumer have only so many seconds for an ack, and look for slow ones ten times a second."""
        self._bear_consumers_for(seconds, 0.1)
        try:
            yield
        finally:
            self._bear_consumers_for(1800, 60)

    @abstractmethod
    def _bear_consumers_for(self, seconds: float, tick: float) -> None:
        """Set after how many seconds an ack is late, and how often the broker looks."""


def _login(user: str, password: str) -> str:
    return f"{quote(user, '')}:{quote(password, '')}"
