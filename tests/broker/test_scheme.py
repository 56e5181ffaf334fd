"""What a ``memory://`` URL leads to."""

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from txamqpx.broker import Broker
from txamqpx.broker.names import names
from txamqpx.broker.scheme import open_memory
from txamqpx.connection import AMQPProtocol
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AuthenticationError, ConnectionRefused, URLError, VhostAccessDenied
from txamqpx.testing.outcomes import Watched


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Yield a Clock; what was made on it by a URL is forgotten."""
    clock = Clock()
    yield clock
    for name in ("localhost", "shop"):
        broker = names.find(name)
        if broker is not None:
            names.remove(broker, name)


def connect(url: str, clock: Clock) -> Watched[AMQPProtocol]:
    connecting = Watched(connect_protocol(url, reactor=clock))
    clock.advance(0)
    return connecting


def test_a_broker_that_nobody_has_made_is_made(clock: Clock) -> None:
    protocol = connect("memory://", clock).value
    assert protocol.is_open
    broker = names.find("localhost")
    assert isinstance(broker, Broker)
    assert id(broker.clock.base) == id(clock)
    protocol.close()
    clock.advance(0)
    assert protocol.when_closed().called
    assert clock.getDelayedCalls() == []


def test_two_that_say_one_name_meet_one_broker(clock: Clock) -> None:
    first, second = connect("memory://shop", clock).value, connect("memory://shop", clock).value
    broker = names.find("shop")
    assert isinstance(broker, Broker)
    assert len(broker.sessions) == 2
    assert names.find("localhost") is None
    for protocol in (first, second):
        protocol.abort()


def test_a_broker_that_was_made_is_found_by_its_name_and_by_its_url(clock: Clock) -> None:
    broker = Broker("shop", clock=clock)
    unnamed = Broker(clock=clock)
    assert connect("memory://shop", clock).value.is_open
    assert connect(unnamed.url, clock).value.is_open
    assert len(broker.sessions) == len(unnamed.sessions) == 1


def test_all_parts_mean_what_they_mean_in_other_urls(clock: Clock) -> None:
    broker = Broker("shop", clock=clock, users={"u@": "p:"}, vhosts=["v/1"])
    protocol = connect("memory://u%40:p%3A@shop/v%2F1?heartbeat=7&channel_max=3", clock).value
    assert (protocol.tuning.heartbeat, protocol.tuning.channel_max) == (7, 3)
    (session,) = broker.sessions
    assert (session.user, session.vhost.name) == ("u@", "v/1")
    connect("memory://guest:guest@shop", clock).error(AuthenticationError)
    connect("memory://u%40:p%3A@shop/", clock).error(VhostAccessDenied)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("memory://shop:5672", "port"),
        ("memory://shop/a/b", "virtual host"),
        ("memory://shop?heartbeat=1s", "heartbeat"),
        ("memory://shop?haertbeat=1", "query"),
        ("memory://shop?verify=verify_none", "verify"),
        ("memory://shop#x", "fragment"),
    ],
)
def test_it_is_read_as_strictly_as_others(clock: Clock, url: str, problem: str) -> None:
    with pytest.raises(URLError) as caught:
        connect_protocol(url, reactor=clock)
    assert caught.value.parameter == problem
    assert "shop" not in str(caught.value)
    assert names.find("shop") is None


def test_a_broker_that_was_closed_is_not_made_again_by_the_name_that_only_it_had(clock: Clock) -> None:
    unnamed = Broker(clock=clock)
    unnamed.close()
    connect(unnamed.url, clock).error(ConnectionRefused)
    assert names.find(unnamed.name) is None
    endpoint, _ = open_memory(unnamed.url, clock)
    assert repr(endpoint) == f"<MemoryEndpoint {unnamed.url}>"


def test_a_broker_has_one_time(clock: Clock) -> None:
    broker = Broker("shop", clock=clock)
    with pytest.raises(URLError, match="another reactor or Clock"):
        connect_protocol("memory://shop", reactor=Clock())
    endpoint, _ = open_memory("memory://shop", broker.clock)
    assert repr(endpoint) == "<MemoryEndpoint memory://shop>"
