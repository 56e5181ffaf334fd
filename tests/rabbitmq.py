"""Private RabbitMQ nodes: `Node` for tests, `python -m tests.rabbitmq run -- COMMAND {url}` for a shell."""

import argparse
import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from tests.broker_node import BrokerNode
from tests.installation import BrokerMissing, installation
from tests.node import ErlangNode, NodeFailed

if TYPE_CHECKING:  # `make demo` starts a node where only the standard library is
    from tests.certificates import Certificates

_ACTOR = '<<"test">>'
"""Who asks for a change, in the broker's log."""

_FLAGS = (
    *("-s", "rabbit", "boot"),
    # Watches over the whole machine: nothing to a test, and some start a program that the loader of an Erlang
    # in a folder does not reach.
    *("-os_mon", "start_cpu_sup", "false"),
    *("-os_mon", "start_disksup", "false"),
    *("-os_mon", "start_memsup", "false"),
)


class Node(ErlangNode, BrokerNode):
    """Run one private RabbitMQ.

    Args:
        release: Which RabbitMQ, for example `3.10` or `4.3`; left out, it is whichever the system has.
        conf: More lines for rabbitmq.conf; a line takes the place of an earlier one for the same setting.
        plugins: More plugins to enable.
        tls: Certificates for a TLS listener, which also offers the mechanism EXTERNAL.

    Raises:
        BrokerMissing: This RabbitMQ is not installed; the message says what to install.
    """

    def __init__(
        self,
        release: str | None = None,
        *,
        conf: str = "",
        plugins: Sequence[str] = (),
        tls: "Certificates | None" = None,
    ) -> None:
        self._installation = installation(release)
        self.broker = f"rabbitmq-{self._installation.release}"
        enabled = [*plugins, "rabbitmq_auth_mechanism_ssl"] if tls else list(plugins)
        applications = self._installation.applications(["rabbit", "rabbitmq_prelaunch", *enabled])
        super().__init__(self._installation.erlang, flags=_FLAGS, ports=("amqp", "amqps"))
        root = self.directory
        (root / "data").mkdir()
        (root / "plugins").mkdir()
        for application in applications.values():
            (root / "plugins" / application.name).symlink_to(application)
        (root / "enabled_plugins").write_text(f"[{', '.join(enabled)}].\n")
        (root / "env.conf").touch()
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.ports['amqp']}",
            "log.console = false",
            f"log.file = {root}/log/rabbit.log",
        ]
        if tls:
            lines += self._tls_lines(tls)
        self._listens = {self.ports["amqp"], self.ports["amqps"]} if tls else {self.ports["amqp"]}
        (root / "rabbitmq.conf").write_text("\n".join([*lines, conf, ""]))
        self.environment |= {
            "ERL_LIBS": str(root / "plugins"),
            "ERL_MAX_ETS_TABLES": "50000",
            "ERL_MAX_PORTS": "65536",
            "RABBITMQ_CONF_ENV_FILE": str(root / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(root / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self.ports["dist"]),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(root / "enabled_plugins"),
            "RABBITMQ_HOME": str(self._installation.home),
            "RABBITMQ_LOG_BASE": str(root / "log"),
            "RABBITMQ_MNESIA_BASE": str(root / "data"),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_PID_FILE": str(root / "pid"),
            "RABBITMQ_PLUGINS_DIR": str(root / "plugins"),
            "SYS_PREFIX": "",
        }

    def answers(self) -> bool:
        """Tell whether this very node accepts AMQP connections on each of its ports.

        The cluster's name in connection.start tells the node from a stranger on its port. RabbitMQ 3.10 goes
        on without a TLS listener that it could not open, so that one is asked for.
        """
        mark = self.name.partition("@")[0].encode()
        if mark not in self._connection_start():
            return False
        listening: list[int] = self.query("[element(6, L) || L <- rabbit_networking:active_listeners()]")
        return self._listens.issubset(listening)

    @property
    def version(self) -> str:
        """Return the full version of the broker."""
        return self._installation.version

    @property
    def label(self) -> str:
        """Return what reports call it."""
        return f"RabbitMQ {self.version}"

    @property
    def keeps(self) -> bool:
        """Return True: what is durable is on disk."""
        return True

    @property
    def has_streams(self) -> bool:
        """Return True."""
        return True

    def shut_down(self) -> None:
        """Ask the broker to stop in order, and do not wait."""
        self.eval("spawn(fun() -> init:stop() end)")

    def query(self, expression: str) -> Any:
        """Evaluate an Erlang expression of maps, lists, binaries, atoms and numbers, and return Python's."""
        # erl_call shortens binaries when it prints them, and escapes no quotes.
        json_term = f"iolist_to_binary(rabbit_json:encode({expression}))"
        encoded = self.eval(f"binary_to_list(base64:encode({json_term}))")
        return json.loads(base64.b64decode(encoded.strip('"')))

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl, which takes about a second, and return what it printed.

        Raises:
            NodeFailed: It ended with an error.
        """
        script = self._installation.home / "escript/rabbitmqctl"
        return self.run("escript", str(script), "-n", self.name, *arguments)

    # Virtual hosts, users, connections, alarms ------------------------------------------------

    def list_vhosts(self) -> list[str]:
        """List the virtual hosts."""
        names: list[str] = self.query("rabbit_vhost:list_names()")
        return names

    def add_vhost(self, name: str, *, user: str = "guest") -> None:
        """Create a virtual host in which a user may do everything."""
        self._expect_ok(f"rabbit_vhost:add({_binary(name)}, {_ACTOR})")
        self.set_permissions(user, name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that it holds."""
        self._expect_ok(f"rabbit_vhost:delete({_binary(name)}, {_ACTOR})")

    def add_user(self, name: str, password: str | None) -> None:
        """Create a user; one without a password can only log in by a certificate."""
        text = _binary(password if password is not None else secrets.token_hex(16))
        self._expect_ok(f"rabbit_auth_backend_internal:add_user({_binary(name)}, {text}, {_ACTOR})")
        if password is None:
            self._expect_ok(f"rabbit_auth_backend_internal:clear_password({_binary(name)}, {_ACTOR})")

    def delete_user(self, name: str) -> None:
        """Delete a user."""
        self._expect_ok(f"rabbit_auth_backend_internal:delete_user({_binary(name)}, {_ACTOR})")

    def set_permissions(
        self, user: str, vhost: str = "/", *, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say, by regular expressions, which names a user may configure, write to and read from."""
        terms = ", ".join(_binary(text) for text in (user, vhost, configure, write, read))
        self._expect_ok(f"rabbit_auth_backend_internal:set_permissions({terms}, {_ACTOR})")

    def sync_metadata(self) -> None:
        """Have the node write its virtual hosts, users, exchanges and queues to disk.

        Releases before 4 keep them in a write cache for up to two seconds, so that a kill soon after a
        declare loses the queue with all confirmed messages in it, which is seldom what a test is about.
        """
        mnesia = "lists:keymember(mnesia, 1, application:which_applications())"
        self._expect_ok(f"case {mnesia} of true -> mnesia:sync_log(); false -> ok end")

    def list_connections(self) -> list[dict[str, Any]]:
        """List the client connections as the broker sees them."""
        items = "name, user, vhost, state, channels, peer_port, ssl, auth_mechanism, timeout, frame_max"
        rows: list[dict[str, Any]] = self.query(
            f"[maps:from_list(Row) || Row <- rabbit_networking:connection_info_all([{items}]), Row =/= []]"
        )
        return rows

    def client_properties(self, vhost: str) -> list[Mapping[str, Any]]:
        """List what the clients on a virtual host told of themselves."""
        printed = self.ctl("--quiet", "--formatter", "json", "list_connections", "vhost", "client_properties")
        return [_plain(row["client_properties"]) for row in json.loads(printed) if row["vhost"] == vhost]

    def close_all_connections(self, reason: str = "closed by the test") -> int:
        """Have the broker close every client connection with CONNECTION_FORCED, and return how many."""
        close = f"rabbit_networking:close_connection(Connection, {json.dumps(reason)})"
        return int(self.eval(f"length([{close} || Connection <- rabbit_networking:connections()])"))

    def set_alarm(self, source: str = "memory") -> None:
        """Raise an alarm: when this returns, whoever publishes is blocked.

        Args:
            source: `memory` or `disk`.
        """
        self._alarm(f"set_alarm({{{{resource_limit, {source}, node()}}, []}})")

    def clear_alarm(self, source: str = "memory") -> None:
        """Clear an alarm that `set_alarm` raised."""
        self._alarm(f"clear_alarm({{resource_limit, {source}, node()}})")

    # How it is done ---------------------------------------------------------------------------

    def _bear_consumers_for(self, seconds: float, tick: float) -> None:
        for name, value in {"consumer_timeout": seconds, "channel_tick_interval": tick}.items():
            self._expect_ok(f"application:set_env(rabbit, {name}, {value * 1000:.0f})")

    def _tls_lines(self, tls: "Certificates") -> list[str]:
        return [
            f"listeners.ssl.1 = 127.0.0.1:{self.ports['amqps']}",
            f"ssl_options.cacertfile = {tls.ca}",
            f"ssl_options.certfile = {tls.server.certificate}",
            f"ssl_options.keyfile = {tls.server.key}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
            "ssl_options.versions.1 = tlsv1.3",
            "ssl_options.versions.2 = tlsv1.2",
            "ssl_cert_login_from = common_name",
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = AMQPLAIN",
            "auth_mechanisms.3 = EXTERNAL",
        ]

    def _alarm(self, order: str) -> None:
        # The order is taken up at leisure. The question comes after it in the same queue, so its answer means
        # that every connection has been told.
        self.eval(f"rabbit_alarm:{order}, rabbit_alarm:get_alarms()")

    def _connection_start(self) -> bytes:
        """Return the broker's first frame, or what came of it."""
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self.ports["amqp"]), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                # Seven octets of frame header, which give the size, and the end marker.
                while len(answer) < 7 or len(answer) < 8 + int.from_bytes(answer[3:7]):
                    data = connection.recv(65536)
                    if not data:
                        break
                    answer += data
        except OSError:
            pass
        return answer

    def _expect_ok(self, expression: str) -> None:
        result = self.eval(expression)
        if result != "ok":
            raise NodeFailed(f"{expression!r} returned {result}")


def _plain(table: list[list[Any]]) -> dict[str, Any]:
    """Return a table as a dict; the broker lists name, type and value of each entry."""
    return {name: _plain(value) if kind == "table" else value for name, kind, value in table}


def _binary(text: str) -> str:
    """Return an Erlang binary as source."""
    return f"<<{','.join(str(octet) for octet in text.encode())}>>"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command with a private node, and return the command's exit code.

    Args:
        arguments: The words of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.rabbitmq", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="start a node, run a command, end the node")
    run.add_argument("--version", help="the RabbitMQ release, such as 4.3; else the system's")
    run.add_argument("command", nargs="+", help="the command; {url} in a word becomes the node's URL")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        node = Node(options.version)
    except BrokerMissing as missing:
        print(missing, file=sys.stderr)
        return os.EX_UNAVAILABLE
    with node:
        command = [word.replace("{url}", node.url()) for word in options.command]
        code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
