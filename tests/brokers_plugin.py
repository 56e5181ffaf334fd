"""The brokers that tests ask for by fixture; a broker that cannot be had is a loud skip."""

import os
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from tests.broker_node import BrokerNode
from tests.certificates import CLIENT_NAME, Certificates, write_certificates
from tests.conformance import NO_BROKER
from tests.installation import DEFAULT, BrokerMissing
from tests.rabbitmq import Node

MISSING = "no broker: "
FIXTURES = ("broker", "tls_broker", "own_broker")
KINDS = ("rabbitmq", "embedded")


@dataclass(frozen=True, slots=True)
class Vhost:
    """Point to a virtual host that one test has for itself."""

    node: BrokerNode
    name: str

    @property
    def url(self) -> str:
        """Return its `amqp://` URL, for the user `guest`."""
        return self.node.url(self.name)

    @property
    def tls_url(self) -> str:
        """Return its `amqps://` URL, for the user `guest`."""
        return self.node.tls_url(self.name)


_numbers = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        default=os.environ.get("TXAMQPX_BROKER") or f"rabbitmq-{DEFAULT}",
        help=f"the integration tests' broker, such as rabbitmq-{DEFAULT} or embedded-4.3 ($TXAMQPX_BROKER)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not re.fullmatch(rf"({'|'.join(KINDS)})-\d+\.\d+", config.getoption("--broker")):
        raise pytest.UsageError(f"--broker={config.getoption('--broker')} is not like rabbitmq-{DEFAULT}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write into the report on which broker the test ran, where pytest-xdist carries it along."""
    report = yield
    for name in FIXTURES:
        if isinstance(item, pytest.Function) and name in item.fixturenames:
            node = item.funcargs.get(name)
            label = node.label if isinstance(node, BrokerNode) else NO_BROKER
            report.user_properties.append(("broker", label))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests did not run for want of a broker, and what would change that."""
    reasons = [str(report.longrepr) for report in terminalreporter.getreports("skipped")]
    missing = [reason.partition(MISSING)[2].rstrip("')") for reason in reasons if MISSING in reason]
    if missing:
        terminalreporter.section("NO BROKER", red=True)
        terminalreporter.write_line(f"{len(missing)} tests did not run: {missing[0]}", red=True)


@pytest.fixture(scope="session")
def new_node(pytestconfig: pytest.Config) -> Callable[..., BrokerNode]:
    """Return what makes a node of the chosen release, given `Node`'s options; a `with` block starts it."""
    kind, _, release = str(pytestconfig.getoption("--broker")).partition("-")

    def make(**options: Any) -> BrokerNode:
        try:
            if kind == "embedded":
                from tests.embedded import EmbeddedNode  # whoever tests with RabbitMQ alone need not have it

                return EmbeddedNode(release, **options)
            return Node(release, **options)
        except BrokerMissing as missing:
            pytest.skip(f"{MISSING}{missing}")

    return make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates that no other session knows."""
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def broker(new_node: Callable[..., BrokerNode]) -> Iterator[BrokerNode]:
    """Run the broker that the session's tests share, each in a virtual host of its own."""
    with new_node() as node:
        yield node


@pytest.fixture
def vhost(broker: BrokerNode, request: pytest.FixtureRequest) -> Iterator[Vhost]:
    """Make a virtual host on the session's broker for one test."""
    made = _add_vhost(broker, request)
    yield made
    broker.delete_vhost(made.name)
    _listen(broker)


@pytest.fixture(scope="session")
def tls_broker(new_node: Callable[..., BrokerNode], certificates: Certificates) -> Iterator[BrokerNode]:
    """Run a broker with a TLS listener, on which the client's certificate is a login, too."""
    with new_node(tls=certificates) as node:
        node.add_user(CLIENT_NAME, None)
        node.set_permissions(CLIENT_NAME)
        yield node


@pytest.fixture
def tls_vhost(tls_broker: BrokerNode, request: pytest.FixtureRequest) -> Iterator[Vhost]:
    """Make a virtual host on the broker with TLS, for `guest` and for the certificate's user."""
    made = _add_vhost(tls_broker, request)
    tls_broker.set_permissions(CLIENT_NAME, made.name)
    yield made
    tls_broker.delete_vhost(made.name)
    _listen(tls_broker)


@pytest.fixture(scope="module")
def module_broker(new_node: Callable[..., BrokerNode]) -> Iterator[BrokerNode]:
    """Run a broker for the tests of one module; they take it as `own_broker`."""
    with new_node() as node:
        yield node


@pytest.fixture
def own_broker(module_broker: BrokerNode) -> Iterator[BrokerNode]:
    """Lend a broker to a test that kills, freezes or alarms it, and put it right afterwards."""
    yield module_broker
    if module_broker.pid is None:
        module_broker.start()
    module_broker.thaw()
    module_broker.clear_alarm("memory")
    module_broker.clear_alarm("disk")
    _listen(module_broker)


@pytest.fixture
def own_vhost(own_broker: BrokerNode, request: pytest.FixtureRequest) -> Vhost:
    """Make a virtual host on `own_broker`; it goes with the broker, which may be down by then."""
    return _add_vhost(own_broker, request)


def _add_vhost(node: BrokerNode, request: pytest.FixtureRequest) -> Vhost:
    """Add a virtual host that bears the name of the test, for whoever reads the broker's log."""
    made = Vhost(node, f"{request.node.name[:80]} {next(_numbers)}")
    node.add_vhost(made.name)
    return made


def _listen(node: BrokerNode) -> None:
    """Fail a test over which the broker itself has stumbled."""
    if complaints := node.complaints():
        pytest.fail(f"{node.label} logged errors:\n{complaints}", pytrace=False)
