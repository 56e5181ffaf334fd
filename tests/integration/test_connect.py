"""Coming to an open connection with a real broker, or not."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from twisted.internet import error as network
from twisted.internet.defer import CancelledError

from tests.brokers_plugin import Vhost
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import (
    AMQPError,
    AuthenticationError,
    ConnectionRefused,
    HostNotFound,
    NotAllowed,
    VhostAccessDenied,
)
from txamqpx.params import ConnectionParameters, parse_url
from txamqpx.protocol.tuning import Tuning


async def refused(target: str) -> AMQPError:
    with pytest.raises(AMQPError) as caught:
        await connect_protocol(target)
    return caught.value


@pytest.mark.covers("S30")
@pytest_twisted.ensureDeferred
async def test_a_host_that_does_not_exist() -> None:
    error = await refused("amqp://u:p@no-such-host.invalid")  # RFC 6761, section 6.4: it never will
    assert isinstance(error, HostNotFound)
    assert isinstance(error.__cause__, network.DNSLookupError)


@pytest.mark.covers("S30")
@pytest_twisted.ensureDeferred
async def test_a_port_on_which_nobody_listens() -> None:
    with socket.socket() as bound:  # bound, and not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        error = await refused(f"amqp://127.0.0.1:{bound.getsockname()[1]}")
    assert isinstance(error, ConnectionRefused)
    assert isinstance(error.__cause__, network.ConnectionRefusedError)


@pytest.mark.covers("S30", "T-HS-05")
@pytest.mark.parametrize("mechanism", ["plain", "amqplain"])
@pytest_twisted.ensureDeferred
async def test_a_wrong_password(vhost: Vhost, mechanism: str) -> None:
    """The broker says so at once, since we announced that we understand it; else it hangs up after 3 s."""
    url = vhost.node.url(vhost.name, password="wr0ng")
    error = await refused(f"{url}?auth_mechanism={mechanism}")
    assert type(error) is AuthenticationError
    assert error.reply_code == 403
    assert error.by_peer
    assert "wr0ng" not in repr(error)


@pytest.mark.covers("S30", "T-HS-05")
@pytest_twisted.ensureDeferred
async def test_a_wrong_virtual_host(vhost: Vhost) -> None:
    error = await refused(vhost.node.url("no such virtual host"))
    assert isinstance(error, VhostAccessDenied)
    assert isinstance(error, NotAllowed)
    assert error.reply_code == 530


@pytest.mark.covers("S40")
@pytest.mark.parametrize("mechanism", ["plain", "amqplain"])
@pytest_twisted.ensureDeferred
async def test_both_password_mechanisms_log_in(vhost: Vhost, mechanism: str) -> None:
    protocol = await connect_protocol(f"{vhost.url}?auth_mechanism={mechanism}")
    channel = await protocol.open_channel()
    (row,) = [row for row in vhost.node.list_connections() if row["vhost"] == vhost.name]
    assert row["auth_mechanism"] == mechanism.upper()
    await channel.close()
    await protocol.close()


@pytest.mark.covers("S32")
@pytest_twisted.ensureDeferred
async def test_the_broker_knows_what_it_was_told_of_us(vhost: Vhost) -> None:
    url = parse_url(vhost.url)
    protocol = await connect_protocol(
        ConnectionParameters(
            host=url.host,
            port=url.port,
            virtual_host=url.virtual_host,
            connection_name="billing",
            client_properties={"team": "grün", "capabilities": {"basic.nack": False}},
        )
    )
    (told,) = vhost.node.client_properties(vhost.name)
    capabilities = told["capabilities"]
    assert told["product"] == "txamqpx"
    assert (told["team"], told["connection_name"]) == ("grün", "billing")
    assert capabilities["consumer_cancel_notify"] is True
    assert capabilities["basic.nack"] is False
    await protocol.close()


@pytest.mark.covers("T-HS-02", "S61")
@pytest_twisted.ensureDeferred
async def test_the_numbers_of_the_url_are_negotiated(vhost: Vhost) -> None:
    protocol = await connect_protocol(f"{vhost.url}?heartbeat=7&channel_max=5&frame_max=8192")
    (row,) = [row for row in vhost.node.list_connections() if row["vhost"] == vhost.name]
    assert (row["timeout"], row["frame_max"]) == (7, 8192)
    assert protocol.tuning == Tuning(channel_max=5, frame_max=8192, heartbeat=7)
    await protocol.close()


@pytest.mark.covers("T-HS-09")
@pytest_twisted.ensureDeferred
async def test_an_attempt_that_is_cancelled_leaves_nothing_behind(vhost: Vhost) -> None:
    attempt = connect_protocol(vhost.url)
    attempt.cancel()
    with pytest.raises(CancelledError):
        await attempt
    protocol = await connect_protocol(vhost.url)
    assert len([row for row in vhost.node.list_connections() if row["vhost"] == vhost.name]) == 1
    await protocol.close()
