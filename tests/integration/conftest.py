"""What the integration tests share besides the brokers."""

from collections.abc import Callable, Iterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.faults import FaultProxy
from tests.integration.support import Connector, Recorder
from txamqpx.channel import Channel


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """Make proxies to a port on 127.0.0.1, and end them after the test."""
    made: list[FaultProxy] = []

    def make(target: int) -> FaultProxy:
        made.append(FaultProxy(reactor, target))
        return made[-1]

    yield make
    for proxy in made:
        pytest_twisted.blockon(proxy.stop())


@pytest.fixture
def connect(vhost: Vhost) -> Iterator[Connector]:
    """Open connections to the test's virtual host, and close them after the test."""
    connector = Connector(vhost)
    yield connector
    pytest_twisted.blockon(Deferred.fromCoroutine(connector.end()))


@pytest.fixture
def own_connect(own_vhost: Vhost) -> Iterator[Connector]:
    """Open connections to a broker that the test ill-treats, and drop them after the test."""
    connector = Connector(own_vhost)
    yield connector
    for protocol in connector.made:
        protocol.abort()
    pytest_twisted.blockon(Deferred.fromCoroutine(connector.end()))


@pytest.fixture
def told() -> Recorder:
    """Listen to the connection of `channel`."""
    return Recorder()


@pytest.fixture
def channel(connect: Connector, told: Recorder) -> Channel:
    """Open a channel on a connection of its own; `told` hears what happens there."""
    return pytest_twisted.blockon(Deferred.fromCoroutine(connect.channel(delegate=told)))


@pytest.fixture
def publisher(connect: Connector) -> Channel:
    """Open a channel in confirm mode on a connection of its own."""
    return pytest_twisted.blockon(Deferred.fromCoroutine(connect.channel(confirms=True)))
