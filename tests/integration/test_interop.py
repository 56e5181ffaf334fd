"""What other clients publish arrives here as it was said, and what we publish arrives there.

Where another client cannot say a thing or makes something else of it, a table below says so and why. The
tables are compared as a whole: a release of theirs that can do more turns a test red, and the entry goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.brokers_plugin import Vhost
from tests.integration.support import Inbox, all_of, another, get, outcomes
from tests.interop import CLIENTS, MESSAGES, PROPERTIES, Message, ask, described
from txamqpx.channel import Channel
from txamqpx.errors import NoRoute
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import BasicProperties

LONG_NAME = "é" * 127 + "x"

NOT_SAID: Mapping[str, Mapping[str, str]] = {
    # pika's encoder has no branch for float.
    "pika": dict.fromkeys(("half", "tenth", "whole float", "large float"), "UnsupportedAMQPFieldException"),
    # pamqp, which aio-pika stands on, writes every float with 32 bits, and this one is beyond them.
    "aio-pika": {"large float": "OverflowError"},
}
"""What the other client refuses to publish, and its error."""

SAID_OTHERWISE: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # pika normalizes decimals before it writes them.
    "pika": {"decimal with noughts": {"headers": {"decimal with noughts": Decimal("1.5")}}},
    "aio-pika": {
        # Its Message has no such argument.
        "all properties": {"cluster_id": None},
        # To it a property that is empty text is one that is not set.
        "nothing in them": {"content_type": None},
        # The 32 bits again.
        "tenth": {"headers": {"tenth": 0.10000000149011612}},
        # pamqp cuts a name to the 128 bytes of the specification, and between characters.
        LONG_NAME: {"headers": {"é" * 64: "a name of 255 bytes"}},
    },
}
"""What the other client publishes in place of what it was told; None stands for nothing."""

HEARD_OTHERWISE: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    # pika makes ints of floats.
    "pika": {
        "half": {"headers": "{'half': 0}"},
        "tenth": {"headers": "{'tenth': 0}"},
        "whole float": {"headers": "{'whole float': -3}"},
        "large float": {"headers": f"{{'large float': {int(1e300)}}}"},
    },
    # pamqp takes what is after 2106 for milliseconds.
    "aio-pika": {
        "far future": {
            "headers": "{'far future': datetime.datetime(1978, 1, 11, 21, 31, 40, 799000, "
            "tzinfo=datetime.timezone.utc)}"
        }
    },
}
"""What the other client makes of what we publish."""

ADDED: Mapping[str, Mapping[str, Any]] = {
    "pika": {},
    # Its messages have these from the beginning, when they go and when they come.
    "aio-pika": {"headers": {}, "delivery_mode": 1, "priority": 0},
}
"""What the other client says and hears where there is nothing."""


def described_here(delivery: Delivery) -> dict[str, str]:
    return described(delivery.properties.as_dict(), delivery.body)


def as_published_by(client: str, message: Message) -> dict[str, str]:
    """Describe what arrives here when another client publishes a message."""
    changed = SAID_OTHERWISE[client].get(message.name, {})
    values = {**ADDED[client], **message.properties, **changed}
    return described({name: value for name, value in values.items() if value is not None}, message.body)


def as_heard_by(client: str, message: Message) -> dict[str, str]:
    """Describe what another client tells when we publish a message."""
    changed = HEARD_OTHERWISE[client].get(message.name, {})
    return {**described({**ADDED[client], **message.properties}, message.body), **changed}


async def take(channel: Channel, queue: str, how: str) -> Delivery:
    """Take the only message of a queue."""
    if how == "get":
        return await get(channel, queue)
    inbox = Inbox()
    await channel.basic_consume(queue, inbox, no_ack=True)
    (delivery,) = await inbox.take()
    return delivery


@pytest.fixture
def queues(publisher: Channel) -> Mapping[str, Message]:
    """Declare a queue for each message."""
    queues = {str(number): message for number, message in enumerate(MESSAGES)}
    declared = all_of(publisher.queue_declare(queue, durable=True) for queue in queues)
    pytest_twisted.blockon(Deferred.fromCoroutine(declared))
    return queues


@pytest.mark.covers("S12", "S13", "S49", "T-TB-01", "T-TB-03", "T-TB-04", "T-TB-05", "T-TB-06", "T-TB-08")
@pytest.mark.parametrize("how", ["get", "deliver"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_what_they_publish(
    vhost: Vhost, publisher: Channel, queues: Mapping[str, Message], client: str, how: str
) -> None:
    """It arrives as it was said; and published once more as it came, it comes back as it is."""
    said = await deferToThread(ask, client, vhost.url, "publish")
    assert {name: error for name, error in said.items() if error is not None} == NOT_SAID[client]
    expected, found, returned = {}, {}, {}
    for queue, message in queues.items():
        if message.name in NOT_SAID[client]:
            continue
        delivery = await take(publisher, queue, how)
        expected[message.name] = as_published_by(client, message)
        found[message.name] = described_here(delivery)
        if client == "aio-pika" and "message_id" not in message.properties:
            # aiormq knows its confirms by it, and gives each message one.
            assert len(found[message.name].pop("message_id")) == len(repr("0" * 32))
        (error,) = await outcomes(
            [publisher.basic_publish(delivery.body, properties=delivery.properties, mandatory=True)]
        )
        assert isinstance(error, NoRoute)
        assert error.message.properties == delivery.properties
        assert error.message.body == delivery.body
        returned[message.name] = described(error.message.properties.as_dict(), error.message.body)
        if client == "aio-pika" and "message_id" not in message.properties:
            del returned[message.name]["message_id"]
    assert found == expected
    assert returned == expected


@pytest.mark.covers("S12", "S13", "S49", "T-TB-01", "T-TB-03", "T-TB-04", "T-TB-05", "T-TB-06", "T-TB-08")
@pytest.mark.parametrize("how", ["get", "deliver"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_what_we_publish(
    vhost: Vhost, publisher: Channel, queues: Mapping[str, Message], client: str, how: str
) -> None:
    await all_of(
        publisher.basic_publish(
            message.body,
            routing_key=queue,
            properties=BasicProperties(**message.properties),
            mandatory=True,
        )
        for queue, message in queues.items()
    )
    heard = await deferToThread(ask, client, vhost.url, "take", how)
    assert heard == {message.name: as_heard_by(client, message) for message in MESSAGES}


@pytest.mark.covers("S12", "S13", "T-PUB-04")
@pytest.mark.parametrize("how", ["get", "deliver", "return"])
@pytest_twisted.ensureDeferred
async def test_what_we_say_to_ourselves(publisher: Channel, queues: Mapping[str, Message], how: str) -> None:
    """Everything, and nothing is added on the way."""
    channel = await another(publisher)
    assert len(PROPERTIES) == 14
    for queue, message in queues.items():
        sent = publisher.basic_publish(
            message.body,
            routing_key="nowhere" if how == "return" else queue,
            properties=BasicProperties(**message.properties),
            mandatory=True,
        )
        (outcome,) = await outcomes([sent])
        if how == "return":
            assert isinstance(outcome, NoRoute)
            found = described(outcome.message.properties.as_dict(), outcome.message.body)
        else:
            found = described_here(await take(channel, queue, how))
        assert found == described(message.properties, message.body), message.name
