"""The brokers that the other tests stand on, seen through somebody else's client."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
import pika.exceptions
import pytest
import pytest_twisted
from pika.adapters.blocking_connection import BlockingChannel
from pika.credentials import ExternalCredentials
from twisted.internet.threads import deferToThread

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.certificates import CLIENT_NAME, Certificates
from tests.embedded import EmbeddedNode
from tests.faults import FaultProxy
from tests.installation import BrokerMissing
from tests.integration.support import lasting
from tests.node import NodeFailed
from tests.rabbitmq import Node, main

GREETING = b"AMQP\x00\x00\x09\x01"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
PATIENCE = 60
"""Seconds after which something that takes milliseconds counts as not happening."""


@contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def until(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def rabbitmq(broker: BrokerNode) -> Node:
    """Lend the session's broker to a test that is about what Erlang's nodes have."""
    if not isinstance(broker, Node):
        pytest.skip(f"{broker.label} is no Erlang node")
    return broker


def test_a_broker_answers_the_protocol_header(broker: BrokerNode) -> None:
    with socket.create_connection(("127.0.0.1", broker.ports["amqp"]), timeout=PATIENCE) as connection:
        connection.sendall(GREETING)
        assert connection.recv(1) == b"\x01"
    assert broker.rss_mb() > 10


def test_the_broker_is_the_release_that_was_asked_for(
    broker: BrokerNode, pytestconfig: pytest.Config
) -> None:
    assert broker.broker == pytestconfig.getoption("--broker")
    assert broker.broker.endswith(f"-{'.'.join(broker.version.split('.')[:2])}")


def test_the_node_is_the_release_that_was_installed(rabbitmq: Node) -> None:
    assert rabbitmq.eval("rabbit:product_version()") == f'"{rabbitmq.version}"'


def test_two_virtual_hosts_know_nothing_of_each_other(vhost: Vhost) -> None:
    vhost.node.add_vhost("the other")
    try:
        with channel_to(vhost.url) as here, channel_to(vhost.node.url("the other")) as there:
            here.queue_declare("jobs", durable=True)
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
                there.queue_declare("jobs", passive=True)
        assert closed.value.reply_code == 404
    finally:
        vhost.node.delete_vhost("the other")


def test_a_virtual_host_is_gone_after_its_test(broker: BrokerNode, vhost: Vhost) -> None:
    assert sorted(broker.list_vhosts()) == sorted(["/", vhost.name])


def test_a_user_may_do_what_its_permissions_say(vhost: Vhost) -> None:
    vhost.node.add_user("reader", "p@ss/word")
    try:
        vhost.node.set_permissions("reader", vhost.name, configure="", write="", read=".*")
        with channel_to(vhost.node.url(vhost.name, user="reader", password="p@ss/word")) as channel:
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
                channel.queue_declare("jobs", durable=True)
            assert closed.value.reply_code == 403
    finally:
        vhost.node.delete_user("reader")


def test_the_broker_lists_and_closes_its_connections(vhost: Vhost) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(vhost.url))
    (seen,) = (row for row in vhost.node.list_connections() if row["vhost"] == vhost.name)
    assert (seen["user"], seen["auth_mechanism"], seen["ssl"]) == ("guest", "PLAIN", False)
    assert vhost.node.close_all_connections("enough") >= 1
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        connection.process_data_events(PATIENCE)
    assert (closed.value.reply_code, "enough" in closed.value.reply_text) == (320, True)


def test_what_an_order_cannot_do_is_an_error(broker: BrokerNode) -> None:
    with pytest.raises(NodeFailed, match=r"no_such_vhost|never made"):
        broker.delete_vhost("never made")


def test_calls_into_a_node_fail_by_name(rabbitmq: Node) -> None:
    with pytest.raises(NodeFailed, match="undef"):
        rabbitmq.call("no_such_module", "no_such_function")
    with pytest.raises(NodeFailed, match="undef"):
        rabbitmq.eval("no_such_module:no_such_function()")


def test_rabbitmqctl_speaks_to_this_node(rabbitmq: Node, vhost: Vhost) -> None:
    assert vhost.name in rabbitmq.ctl("list_vhosts", "--silent").splitlines()


def test_a_persistent_message_survives_a_kill(own_vhost: Vhost) -> None:
    lasting(own_vhost.node)
    with channel_to(own_vhost.url) as channel:
        channel.queue_declare("jobs", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "jobs", b"precious", PERSISTENT, mandatory=True)
    killed = own_vhost.node.pid
    own_vhost.node.sync_metadata()
    own_vhost.node.kill9()
    own_vhost.node.start()
    assert own_vhost.node.pid != killed
    with channel_to(own_vhost.url) as channel:
        assert channel.basic_get("jobs", auto_ack=True)[2] == b"precious"


def test_a_stopped_node_keeps_its_port_and_its_data(own_vhost: Vhost) -> None:
    with channel_to(own_vhost.url) as channel:
        channel.queue_declare("jobs", durable=True)
    own_vhost.node.stop()
    assert not listens(own_vhost.node.ports["amqp"])
    own_vhost.node.start()
    lasting(own_vhost.node)
    with channel_to(own_vhost.url) as channel:
        channel.queue_declare("jobs", passive=True)


def test_a_frozen_node_accepts_and_says_nothing_until_it_thaws(own_broker: BrokerNode) -> None:
    own_broker.freeze()
    with socket.create_connection(("127.0.0.1", own_broker.ports["amqp"]), timeout=0.3) as connection:
        connection.sendall(GREETING)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        own_broker.thaw()
        connection.settimeout(PATIENCE)
        assert connection.recv(1) == b"\x01"


@pytest.mark.parametrize("source", ["memory", "disk"])
def test_an_alarm_blocks_who_publishes_until_it_is_cleared(own_vhost: Vhost, source: str) -> None:
    heard: list[str] = []
    connection = pika.BlockingConnection(pika.URLParameters(own_vhost.url))
    connection.add_on_connection_blocked_callback(lambda _, frame: heard.append(frame.method.reason))
    connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))

    def heard_of(number: int) -> bool:
        connection.process_data_events(0.05)
        return len(heard) >= number

    channel = connection.channel()
    own_vhost.node.set_alarm(source)
    channel.basic_publish("", "nowhere", b"")
    until(lambda: heard_of(1))
    own_vhost.node.clear_alarm(source)
    until(lambda: heard_of(2))
    connection.close()
    assert heard == [f"low on {source}", "unblocked"]


def client_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.load_cert_chain(certificates.client.certificate, certificates.client.key)
    return context


def test_a_certificate_logs_in_over_tls(tls_vhost: Vhost, certificates: Certificates) -> None:
    node = tls_vhost.node
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(
            "localhost",
            node.ports["amqps"],
            tls_vhost.name,
            ExternalCredentials(),
            ssl_options=pika.SSLOptions(client_context(certificates), "localhost"),
        )
    )
    (seen,) = (row for row in node.list_connections() if row["vhost"] == tls_vhost.name)
    assert (seen["user"], seen["auth_mechanism"], seen["ssl"]) == (CLIENT_NAME, "EXTERNAL", True)
    connection.close()


@pytest.mark.parametrize("pair", ["none", "untrusted_client"])
def test_a_client_without_a_trusted_certificate_is_turned_away(
    tls_broker: BrokerNode, certificates: Certificates, pair: str
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if pair != "none":
        context.load_cert_chain(certificates.untrusted_client.certificate, certificates.untrusted_client.key)
    # In TLS 1.3 the handshake is over for the client before the server has seen its certificate.
    with (
        socket.create_connection(("localhost", tls_broker.ports["amqps"]), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
        pytest.raises(ssl.SSLError, match="ALERT"),
    ):
        secured.recv(1)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("server", None),
        ("expired", "certificate has expired"),
        ("wrong_name", "Hostname mismatch"),
        ("untrusted_server", "unable to get local issuer|self.signed"),
    ],
)
def test_each_certificate_is_wrong_in_its_own_way(
    certificates: Certificates, name: str, complaint: str | None
) -> None:
    pair = getattr(certificates, name)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.certificate, pair.key)
    client = ssl.create_default_context(cafile=str(certificates.ca))
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(ours, theirs, server_hostname="localhost")
    far = server.wrap_bio(theirs, ours, server_side=True)

    def shake_hands() -> None:
        for side in (near, far, near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue

    if complaint is None:
        shake_hands()
        assert near.version() == "TLSv1.3"
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
            shake_hands()


@pytest_twisted.ensureDeferred
async def test_a_fault_proxy_cuts_between_a_client_and_the_broker(
    vhost: Vhost, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(vhost.node.ports["amqp"])
    url = vhost.url.replace(str(vhost.node.ports["amqp"]), str(proxy.port))

    def declare() -> None:
        with channel_to(url) as channel:
            channel.queue_declare("jobs", durable=True)

    await deferToThread(declare)
    proxy.cut_after(down=100)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        await deferToThread(declare)
    assert proxy.accepted == 2


def test_the_command_runs_another_with_the_url_of_a_node(rabbitmq: Node) -> None:
    release = rabbitmq.broker.removeprefix("rabbitmq-")
    script = "import sys, pika; pika.BlockingConnection(pika.URLParameters(sys.argv[1])); sys.exit(7)"
    command = ["run", "--version", release, "--", sys.executable, "-c", script, "{url}"]
    done = subprocess.run([sys.executable, "-m", "tests.rabbitmq", *command], check=False)
    assert done.returncode == 7


def test_the_guard_outlives_a_kill(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    script = (
        "import pathlib, subprocess, sys\n"
        "from tests.erlang import Guard\n"
        "guard, child = Guard(pathlib.Path(sys.argv[1])), subprocess.Popen(['sleep', '1000'])\n"
        "guard.hold(child)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(kept)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(child) and not kept.exists())


def test_a_node_takes_everything_with_it(new_node: Callable[..., BrokerNode]) -> None:
    with new_node() as node:
        assert all(listens(node.ports[name]) for name in node.ports if name != "amqps")
        assert node.directory.exists()
    assert not any(listens(port) for port in node.ports.values())
    assert not node.directory.exists()


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--version", "1.0", "--", "true"]) == os.EX_UNAVAILABLE
    assert "RabbitMQ 1.0" in capsys.readouterr().err


def test_a_release_that_nobody_has_is_named() -> None:
    for kind in (Node, EmbeddedNode):
        with pytest.raises(BrokerMissing, match=r"RabbitMQ 1\.0"):
            kind("1.0")


def test_a_plugin_that_nobody_has_is_named(broker: BrokerNode) -> None:
    kind = Node if isinstance(broker, Node) else EmbeddedNode
    with pytest.raises(BrokerMissing, match="no plugin rabbitmq_nonsense"):
        kind(broker.broker.partition("-")[2], plugins=["rabbitmq_nonsense"])
