"""A broker with small limits of its own: they hold, and who meets one is told which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted

from tests.broker_node import BrokerNode
from tests.integration.support import (
    CLOCK,
    Inbox,
    all_of,
    another,
    drain,
    failure_of,
    fill,
    is_since,
    outcomes,
    soon,
)
from txamqpx.connection import AMQPClientFactory, AMQPProtocol
from txamqpx.endpoints import client_endpoint, connect_protocol
from txamqpx.errors import (
    ConnectionClosed,
    ConnectionLost,
    EncodeError,
    InvalidParameter,
    NoFreeChannels,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed
from txamqpx.params import ConnectionParameters, parse_url
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import BasicProperties

LIMITS = """\
frame_max = 16384
channel_max = 5
heartbeat = 30
max_message_size = 50000
"""


@pytest.fixture(scope="module")
def strict(new_node: Callable[..., BrokerNode]) -> Iterator[BrokerNode]:
    """Run a broker with small limits."""
    with new_node(conf=LIMITS) as node:
        yield node


@pytest.mark.covers("T-HS-02")
@pytest.mark.parametrize(
    ("wishes", "agreed"),
    [
        ({}, Tuning(5, 16384, 30)),
        ({"channel_max": 0, "frame_max": 0, "heartbeat": None}, Tuning(5, 16384, 30)),
        ({"channel_max": 65535, "frame_max": 2**32 - 1, "heartbeat": 65535}, Tuning(5, 16384, 30)),
        ({"channel_max": 2, "frame_max": 8192, "heartbeat": 9}, Tuning(2, 8192, 9)),
        ({"heartbeat": 0}, Tuning(5, 16384, 0)),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_the_smaller_number_holds(strict: BrokerNode, wishes: dict[str, Any], agreed: Tuning) -> None:
    wanted = attrs.evolve(parse_url(strict.url()), **wishes)
    protocol = await soon(connect_protocol(wanted))
    assert protocol.tuning == agreed
    (row,) = strict.list_connections()
    assert (row["frame_max"], row["timeout"]) == (agreed.frame_max, agreed.heartbeat)
    assert protocol.parameters == wanted  # what was negotiated is of this connection alone
    await protocol.close()


@pytest.mark.covers("T-CH-02", "T-HS-02")
@pytest_twisted.ensureDeferred
async def test_the_brokers_number_of_channels_holds(strict: BrokerNode) -> None:
    protocol = await soon(connect_protocol(strict.url()))
    channels = await all_of(protocol.open_channel() for _ in range(5))
    await failure_of(protocol.open_channel(), NoFreeChannels)
    await channels[2].close()
    assert (await soon(protocol.open_channel())).number == 3
    await protocol.close()


@pytest.mark.covers("T-FR-01", "T-FR-02", "T-FR-05")
@pytest_twisted.ensureDeferred
async def test_the_brokers_frames_hold(strict: BrokerNode) -> None:
    protocol = await soon(connect_protocol(strict.url()))
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await channel.queue_declare("jobs", exclusive=True)
    bodies = [b"x" * length for length in (16375, 16376, 16377, 32752, 32753, 50000)]
    await all_of(channel.basic_publish(body, routing_key="jobs", mandatory=True) for body in bodies)
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, no_ack=True)
    await inbox.take(len(bodies))
    assert inbox.bodies == bodies
    # A header cannot be split, and an argument neither.
    with pytest.raises(EncodeError):
        channel.basic_publish(b"", properties=BasicProperties(headers={"large": "x" * 16384}))
    with pytest.raises(EncodeError):
        channel.queue_declare("large", arguments={"x-large": "x" * 16384})
    largest = BasicProperties(headers={"large": "x" * (16384 - 8 - 12 - 2 - 4 - 6 - 5)})
    assert isinstance(await channel.basic_publish(b"", properties=largest), Confirmed)
    await protocol.close()


@pytest.mark.covers("T-PUB-07", "T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_a_body_that_is_too_large_for_the_broker_is_the_culprit(strict: BrokerNode) -> None:
    protocol = await soon(connect_protocol(strict.url()))
    channel = await protocol.open_channel()
    await fill(channel, "sizes", [])
    doomed = await another(channel, confirms=True)
    sizes = (10, 50_000, 50_001, 20, 60_000)
    sent = [doomed.basic_publish(b"x" * size, routing_key="sizes") for size in sizes]
    first, second, third, fourth, fifth = await outcomes(sent)
    for outcome in (first, second):
        assert isinstance(outcome, Confirmed | OutcomeUnknown)
    assert isinstance(third, PreconditionFailed)
    assert "50001" in third.reply_text
    assert (third.reply_code, third.operation) == (406, "basic.publish")
    for outcome in (fourth, fifth):
        assert isinstance(outcome, NotPublished)
    assert [len(body) for body in await drain(channel, "sizes")] == [10, 50_000]
    await channel.queue_delete("sizes")
    await protocol.close()


@pytest.mark.covers("T-FR-07", "T-FR-05")
@pytest_twisted.ensureDeferred
async def test_a_body_that_is_too_large_for_us_ends_the_connection(strict: BrokerNode) -> None:
    """From its header on: not a byte of it is stored."""
    publisher = await soon(connect_protocol(strict.url()))
    channel = await publisher.open_channel()
    await fill(channel, "large", [b"x" * 5001])
    wanted = attrs.evolve(parse_url(strict.url()), max_message_size=5000)
    protocol = await soon(connect_protocol(wanted))
    small = await protocol.open_channel()
    error = await failure_of(small.basic_get("large"), ConnectionLost)
    assert "5001" in str(error)
    reason = await soon(protocol.when_closed())
    assert "at most 5000 are accepted" in str(reason)
    await channel.queue_delete("large")
    await publisher.close()


@pytest.mark.covers("T-HS-01")
@pytest_twisted.ensureDeferred
async def test_the_smallest_frames_of_all_brokers(broker: BrokerNode) -> None:
    """8192 is what every broker takes; we refuse less, and this is why."""
    for frame_max in (1, 4096, 8191):
        with pytest.raises(InvalidParameter):
            ConnectionParameters(frame_max=frame_max)
    protocol = await soon(connect_protocol(f"{broker.url()}?frame_max=8192"))
    assert protocol.tuning.frame_max == 8192
    await protocol.close()
    unwise = parse_url(broker.url())
    object.__setattr__(unwise, "frame_max", 4096)
    narrow = await soon(client_endpoint(unwise, CLOCK).connect(AMQPClientFactory(unwise)))
    assert isinstance(narrow, AMQPProtocol)
    opened = narrow.when_open()
    if is_since(broker, "4.3"):
        error = await failure_of(opened, ConnectionClosed)
        assert error.reply_code == 0  # it hangs up after three seconds, without a word
    else:
        assert (await soon(opened)).tuning.frame_max == 4096
    await narrow.close()
