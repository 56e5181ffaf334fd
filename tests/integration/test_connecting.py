"""What an open connection to a real broker knows, under any name, and whom it tells."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    another,
    failure_of,
    fill,
    get,
    soon,
)
from tests.logged import LoggedErrors
from txamqpx.channel import Channel
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AuthenticationError, NotFound, VhostAccessDenied
from txamqpx.message import Confirmed

CAPABILITIES = {
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "exchange_exchange_bindings",
    "publisher_confirms",
}


@pytest.mark.covers("T-HS-08", "T-HS-11")
@pytest_twisted.ensureDeferred
async def test_the_broker_says_what_it_is(vhost: Vhost, connect: Connector) -> None:
    protocol = await connect()
    said = protocol.server_properties
    assert (said["product"], said["version"]) == ("RabbitMQ", vhost.node.version)
    assert {name for name, has in said["capabilities"].items() if has} >= CAPABILITIES


@pytest.mark.covers("T-HS-06", "S13", "F4")
@pytest.mark.parametrize("name", ["a/b", "100%", "ü ber", "🐇", "@:?#[]", "%2F", "x" * 200])
@pytest_twisted.ensureDeferred
async def test_names_and_passwords_of_all_sorts(vhost: Vhost, name: str) -> None:
    node = vhost.node
    node.add_user(name, name)
    node.add_vhost(name, user=name)
    try:
        for mechanism in ("plain", "amqplain"):
            url = f"{node.url(name, user=name, password=name)}?auth_mechanism={mechanism}"
            assert quote(name, "") in url
            protocol = await soon(connect_protocol(url))
            (row,) = [row for row in node.list_connections() if row["vhost"] == name]
            assert row["user"] == name
            channel = await protocol.open_channel()
            await channel.queue_declare("jobs", exclusive=True)
            await protocol.close()
    finally:
        node.delete_vhost(name)
        node.delete_user(name)


@pytest.mark.covers("T-HS-05", "T-HS-10", "S30")
@pytest_twisted.ensureDeferred
async def test_a_refusal_is_told_once(vhost: Vhost, told: Recorder) -> None:
    for expected, url in (
        (AuthenticationError, vhost.node.url(vhost.name, password="wrong")),
        (VhostAccessDenied, vhost.node.url("missing")),
    ):
        error = await failure_of(connect_protocol(url, delegate=told), expected)
        (reason,) = await told.next("connection_closed")
        assert (type(reason), reason.reply_code) == (expected, error.reply_code)
    assert told.names() == ["connection_closed"] * 2


class Failing(Recorder):
    """Fails in each hook, at once or later."""

    def _tell(self, hook: str, *facts: Any) -> None:
        super()._tell(hook, *facts)
        raise ZeroDivisionError(hook)

    async def later(self) -> None:
        raise ZeroDivisionError("later")

    def message_delivered(self, channel: object, delivery: object) -> object:  # type: ignore[override]
        return self.later()


@pytest.mark.covers("S46", "F13")
@pytest_twisted.ensureDeferred
async def test_a_delegate_that_fails_harms_nobody(connect: Connector, logged_errors: LoggedErrors) -> None:
    failing = Failing()
    channel = await connect.channel(delegate=failing, confirms=True)
    await fill(channel, "jobs", [b"1", b"2"])
    await channel.basic_consume("jobs")
    await failure_of(channel.basic_publish(b"", routing_key="nowhere", mandatory=True))
    other = await another(channel)
    await other.queue_delete("jobs")
    await failing.next("consumer_cancelled")
    await failure_of(other.queue_declare("missing", passive=True), NotFound)
    await failing.next("channel_closed")
    assert isinstance(await channel.basic_publish(b"", routing_key="nowhere"), Confirmed)
    await get_through(channel)
    logged = [failure.getErrorMessage() for failure in logged_errors.flush(ZeroDivisionError)]
    assert logged.count("later") == 2
    assert sorted(logged) == sorted([*failing.names(), "later", "later"])
    assert {"connection_opened", "publish_confirmed", "message_returned"} <= {*logged}
    await connect.made[0].close()
    assert [failure.getErrorMessage() for failure in logged_errors.flush(ZeroDivisionError)][-1] == (
        "connection_closed"
    )


async def get_through(channel: Channel) -> None:
    """Publish and consume as if nothing had happened."""
    inbox = Inbox()
    await channel.queue_declare("after", exclusive=True)
    await channel.basic_consume("after", inbox)
    await channel.basic_publish(b"alive", routing_key="after", mandatory=True)
    (delivery,) = await inbox.take()
    delivery.nack()
    await inbox.take()
    await channel.basic_cancel(delivery.consumer_tag)
    inbox.got[-1].nack()
    assert (await get(channel, "after")).body == b"alive"
