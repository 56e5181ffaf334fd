"""The embedded broker as a process of a test: it can be killed and frozen like any other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any, Self

from tests.broker_node import BrokerNode
from tests.erlang import Guard
from tests.installation import BrokerMissing
from tests.node import CALL_TIMEOUT, START_TIMEOUT, NodeFailed
from tests.ports import reserve_port
from txamqpx.broker.profile import PROFILES

if TYPE_CHECKING:
    from tests.certificates import Certificates

ROOT = Path(__file__).parent.parent


class EmbeddedNode(BrokerNode):
    """Run the embedded broker in a process of its own, and tell it what to do over a pipe.

    It ends with `end()`, with the `with` block, or with this process, however that ends.

    Args:
        release: Which RabbitMQ it is taken for, for example `3.10`.
        conf: Lines as rabbitmq.conf has them, of the settings in `tests.embedded_process.SETTINGS`.
        plugins: There are none.
        tls: Certificates for a TLS listener, which also offers the mechanism EXTERNAL.

    Raises:
        BrokerMissing: There is no profile for this release, or there is no such plugin.
    """

    def __init__(
        self,
        release: str,
        *,
        conf: str = "",
        plugins: Sequence[str] = (),
        tls: Certificates | None = None,
    ) -> None:
        profile = PROFILES.get(f"rabbitmq-{release}")
        if profile is None:
            raise BrokerMissing(f"the embedded broker has no profile for RabbitMQ {release}")
        if plugins:
            raise BrokerMissing(f"the embedded broker has no plugin {plugins[0]}")
        self.broker = f"embedded-{release}"
        self._version = profile.version
        self._reserved = {name: reserve_port() for name in ("amqp", "amqps")}
        self.ports = {name: port.getsockname()[1] for name, port in self._reserved.items()}
        self.directory = Path(tempfile.mkdtemp(prefix="txamqpx-"))
        self._options: dict[str, Any] = {
            "profile": profile.name,
            "amqp": self.ports["amqp"],
            "conf": conf,
        }
        if tls:
            files = {"ca": tls.ca, "certificate": tls.server.certificate, "key": tls.server.key}
            self._options["tls"] = {name: str(path) for name, path in files.items()}
            self._options["amqps"] = self.ports["amqps"]
        (self.directory / "log").touch()
        self._guard = Guard(self.directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._heard = 0  # bytes of its log
        # What was ordered so far that is to hold after a restart, too.
        self._orders: list[tuple[str, dict[str, Any]]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.broker} pid={self.pid} ports={self.ports}>"

    @property
    def label(self) -> str:
        """Return what reports call it."""
        return self.broker.replace("-", " ")

    @property
    def version(self) -> str:
        """Return the version of RabbitMQ that it can be taken for."""
        return self._version

    @property
    def keeps(self) -> bool:
        """Return False: when it ends, all is gone."""
        return False

    @property
    def has_streams(self) -> bool:
        """Return False: a log that is kept and read again is nothing for a broker that keeps nothing."""
        return False

    # Life -------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the broker with its virtual hosts and users, and return when it listens."""
        if self._process is not None:
            raise NodeFailed(f"{self!r} runs already")
        command = [sys.executable, "-m", "tests.embedded_process", json.dumps(self._options)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._guard.hold(self._process)
        try:
            self._answer("start", START_TIMEOUT)
            for order, arguments in self._orders:
                self._ask(order, **arguments)
        except BaseException:
            self.kill9()
            raise
        return self

    def shut_down(self) -> None:
        """Ask the broker to stop in order, and do not wait."""
        self._ask("shut_down")

    def stop(self) -> None:
        """Stop the broker in order."""
        assert self._process is not None
        self.thaw()
        self.shut_down()
        try:
            # It is not reaped here: its number stays its own until the guard has let go of it.
            self._wait_for_the_end()
        finally:
            self.kill9()

    def kill9(self) -> None:
        """Kill the broker as a power cut would; one that is down stays so."""
        if self._process is None:
            return
        self._process.kill()
        self._guard.hold()
        self._process.communicate()
        self._process = None

    def freeze(self) -> None:
        """Make the broker half open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen broker go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the broker, and remove its log; a second call does nothing."""
        self._guard.release()
        if self._process is not None:
            self._process.communicate()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)
        for port in self._reserved.values():
            port.close()

    @property
    def pid(self) -> int | None:
        """Return the number of the process while it is up."""
        return self._process.pid if self._process else None

    def rss_mb(self) -> float:
        """Return its resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def log_tail(self) -> str:
        """Return the end of its log."""
        return (self.directory / "log").read_text(errors="replace")[-3000:]

    def complaints(self) -> str:
        """Return what it has logged, since it was asked last, if there is a traceback in it."""
        with (self.directory / "log").open("rb") as log:
            log.seek(self._heard)
            said = log.read()
        self._heard += len(said)
        return said.decode(errors="replace") if b"Traceback" in said else ""

    # Orders -----------------------------------------------------------------------------------

    def list_vhosts(self) -> list[str]:
        """List the virtual hosts."""
        names: list[str] = self._ask("list_vhosts")
        return names

    def add_vhost(self, name: str, *, user: str = "guest") -> None:
        """Create a virtual host in which a user may do everything."""
        self._order("add_vhost", name=name)
        self.set_permissions(user, name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that it holds."""
        self._order("delete_vhost", name=name)

    def add_user(self, name: str, password: str | None) -> None:
        """Create a user; one without a password can only log in by a certificate."""
        self._order("add_user", name=name, password=password)

    def delete_user(self, name: str) -> None:
        """Delete a user."""
        self._order("delete_user", name=name)

    def set_permissions(
        self, user: str, vhost: str = "/", *, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say, by regular expressions, which names a user may configure, write to and read from."""
        self._order("set_permissions", user=user, vhost=vhost, configure=configure, write=write, read=read)

    def sync_metadata(self) -> None:
        """Do nothing: it has no disk."""

    def list_connections(self) -> list[dict[str, Any]]:
        """List the client connections as the broker sees them."""
        rows: list[dict[str, Any]] = self._ask("list_connections")
        return rows

    def client_properties(self, vhost: str) -> list[Mapping[str, Any]]:
        """List what the clients on a virtual host told of themselves."""
        told: list[Mapping[str, Any]] = self._ask("client_properties", vhost=vhost)
        return told

    def close_all_connections(self, reason: str = "closed by the test") -> int:
        """Have the broker close every client connection with CONNECTION_FORCED, and return how many."""
        return int(self._ask("close_all_connections", reason=reason))

    def set_alarm(self, source: str = "memory") -> None:
        """Raise an alarm."""
        self._ask("set_alarm", source=source)

    def clear_alarm(self, source: str = "memory") -> None:
        """Clear an alarm that `set_alarm` raised."""
        self._ask("clear_alarm", source=source)

    # How it is done ---------------------------------------------------------------------------

    def _bear_consumers_for(self, seconds: float, tick: float) -> None:
        self._ask("bear_consumers_for", seconds=seconds, tick=tick)

    def _order(self, order: str, **arguments: Any) -> None:
        self._ask(order, **arguments)
        self._orders.append((order, arguments))

    def _ask(self, order: str, **arguments: Any) -> Any:
        with self._lock:
            if self._process is None:
                raise NodeFailed(f"{self!r} is down, and cannot {order}")
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps([order, arguments]).encode() + b"\n")
                self._process.stdin.flush()
            except OSError as error:
                raise NodeFailed(f"{self!r} is gone, and cannot {order}") from error
            return self._answer(order, CALL_TIMEOUT)

    def _answer(self, order: str, patience: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select([self._process.stdout], [], [], patience)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            what = "ended" if ready else f"did not answer in {patience} s"
            raise NodeFailed(f"{self!r} {what} at {order}\n{self.log_tail()}")
        answer, error = json.loads(line)
        if error is not None:
            raise NodeFailed(f"{order} failed: {error}")
        return answer

    def _wait_for_the_end(self) -> None:
        assert self._process is not None
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            return
        try:
            ended, _, _ = select([descriptor], [], [], CALL_TIMEOUT)
        finally:
            os.close(descriptor)
        if not ended:
            raise NodeFailed(f"{self!r} did not stop in {CALL_TIMEOUT} s\n{self.log_tail()}")
