"""Who may do what on a real broker, over TLS as well, and what is never said aloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.brokers_plugin import Vhost
from tests.certificates import CLIENT_NAME, Certificates
from tests.integration.support import (
    Connector,
    Inbox,
    another,
    drain,
    failure_of,
    fill,
    get,
    outcomes,
    protocol_of,
    soon,
)
from txamqpx.channel import Channel
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AccessRefused, NotFound, NotPublished, VhostAccessDenied
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import BasicProperties

CANARY = "c4n4ry/ü@"


@pytest.fixture
def clerk(vhost: Vhost) -> Iterator[str]:
    """Add a user who may write to one exchange and read from one queue; return the URL."""
    vhost.node.add_user("clerk", CANARY)
    vhost.node.set_permissions("clerk", vhost.name, configure="^$", write="^orders$", read="^inbox$")
    yield vhost.node.url(vhost.name, user="clerk", password=CANARY)
    vhost.node.delete_user("clerk")


@pytest.mark.covers("T-PUB-11", "T-CH-11")
@pytest_twisted.ensureDeferred
async def test_the_least_rights_suffice(connect: Connector, channel: Channel, clerk: str) -> None:
    """To publish takes one exchange, to consume one queue, and nothing has to be declared."""
    await channel.exchange_declare("orders", "fanout", durable=True)
    await fill(channel, "inbox", [])
    await channel.queue_bind("inbox", "orders")
    own = await (await connect(url=clerk)).open_channel()
    await own.confirm_select()
    inbox = Inbox()
    await own.basic_qos(10)
    await own.basic_consume("inbox", inbox)
    properties = BasicProperties(user_id="clerk")
    await soon(own.basic_publish(b"order", exchange="orders", properties=properties, mandatory=True))
    (delivery,) = await inbox.take()
    delivery.ack()
    assert delivery.properties.user_id == "clerk"
    assert (await own.queue_declare("inbox", passive=True)).consumer_count == 1
    await own.exchange_declare("orders", passive=True)


@pytest.mark.covers("T-PUB-11", "T-CH-11")
@pytest.mark.parametrize(
    ("call", "arguments", "names"),
    [
        ("queue_declare", {"queue": "mine", "durable": True}, {"mine"}),
        ("exchange_declare", {"exchange": "mine"}, {"mine"}),
        ("queue_delete", {"queue": "inbox"}, {"inbox"}),
        ("queue_bind", {"queue": "inbox", "exchange": "orders"}, {"inbox", "orders"}),
        ("basic_get", {"queue": "others"}, {"others"}),
        ("basic_consume", {"queue": "others"}, {"others"}),
        ("queue_purge", {"queue": "others"}, {"others"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_allowed_fails_alone(
    connect: Connector, channel: Channel, clerk: str, call: str, arguments: dict[str, Any], names: set[str]
) -> None:
    await channel.exchange_declare("orders", "fanout")
    await fill(channel, "inbox", [])
    await fill(channel, "others", [b"kept"])
    own = await (await connect(url=clerk)).open_channel()
    error = await failure_of(getattr(own, call)(**arguments), AccessRefused)
    assert (error.reply_code, error.operation) == (403, call.replace("_", "."))
    assert {error.queue, error.exchange} & names
    other = await another(own)
    assert await other.basic_get("inbox") is None
    assert await drain(channel, "others") == [b"kept"]


@pytest.mark.covers("T-PUB-07", "T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_a_publish_that_is_not_allowed_is_the_culprit(
    connect: Connector, channel: Channel, clerk: str
) -> None:
    await channel.exchange_declare("orders", "fanout")
    own = await (await connect(url=clerk)).open_channel()
    await own.confirm_select()
    sent = [own.basic_publish(b"", exchange=name) for name in ("orders", "amq.fanout", "orders")]
    first, second, third = await outcomes(sent)
    assert not isinstance(first, AccessRefused)
    assert isinstance(second, AccessRefused)
    assert second.exchange == "amq.fanout"
    assert isinstance(third, NotPublished)


@pytest.mark.covers("T-HS-05", "S30")
@pytest_twisted.ensureDeferred
async def test_a_login_is_not_a_right_to_every_virtual_host(vhost: Vhost, clerk: str) -> None:
    error = await failure_of(
        connect_protocol(vhost.node.url("/", user="clerk", password=CANARY)), VhostAccessDenied
    )
    assert (error.reply_code, error.by_peer) == (530, True)
    assert "/" in error.reply_text


@pytest.mark.covers("T-HS-06")
@pytest_twisted.ensureDeferred
async def test_a_password_is_said_to_the_broker_alone(connect: Connector, clerk: str) -> None:
    protocol = await connect(url=clerk)
    channel = await protocol.open_channel()
    errors = [await failure_of(channel.basic_get("others"), AccessRefused)]
    wrong = clerk.replace("clerk:", "clark:")
    errors.append(await failure_of(connect_protocol(wrong)))
    errors.append(await failure_of(connect_protocol(clerk.replace("127.0.0.1", "no-such-host.invalid"))))
    shown = [repr(protocol), str(protocol.parameters), repr(protocol.parameters), repr(channel)]
    for error in errors:
        shown += [str(error), repr(error), Failure(error).getTraceback(detail="verbose")]
    for text in shown:
        assert CANARY not in text
        assert "c4n4ry" not in text


@pytest_twisted.ensureDeferred
async def test_what_the_broker_says_cannot_forge_a_line_of_a_log(channel: Channel) -> None:
    error = await failure_of(channel.queue_declare("a\nERROR b\x1b[2J", passive=True), NotFound)
    assert error.reply_code == 404
    for text in (str(error), repr(error), error.reply_text):
        assert "\n" not in text
        assert "\x1b" not in text


@pytest_twisted.ensureDeferred
async def test_a_password_is_renewed_while_connected(vhost: Vhost, connect: Connector, clerk: str) -> None:
    """The broker takes the update for what it is worth to its own user database: the connection goes on."""
    protocol = await connect(url=clerk)
    await soon(protocol.update_secret("n3w", "it was time"))
    channel = await protocol.open_channel()
    error = await failure_of(channel.basic_get("inbox"), NotFound)
    assert error.queue == "inbox"


@pytest.mark.covers("T-HS-04", "T-HS-07", "T-FR-03")
@pytest.mark.parametrize("mechanism", ["external", "plain"])
@pytest_twisted.ensureDeferred
async def test_messages_over_tls(tls_vhost: Vhost, certificates: Certificates, mechanism: str) -> None:
    own = certificates.client
    protocol = await soon(
        connect_protocol(
            f"{tls_vhost.tls_url}?auth_mechanism={mechanism}"
            f"&cacertfile={certificates.ca}&certfile={own.certificate}&keyfile={own.key}"
        )
    )
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await channel.queue_declare("jobs", exclusive=True)
    user = CLIENT_NAME if mechanism == "external" else "guest"
    bodies = [b"", b"x", b"\x00\xff" * 500_000]
    sent: list[Deferred[Any]] = [
        channel.basic_publish(body, routing_key="jobs", properties=BasicProperties(user_id=user))
        for body in bodies
    ]
    assert all(isinstance(outcome, Confirmed) for outcome in await outcomes(sent))
    assert [(await get(channel, "jobs")).body for _ in bodies] == bodies
    assert protocol_of(channel).is_open
    await protocol.close()
