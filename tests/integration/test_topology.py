"""Exchanges, queues and bindings of a real broker, and what it says when they do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    all_of,
    another,
    depth,
    drain,
    failure_of,
    fill,
    get,
    is_since,
    outcomes,
    protocol_of,
    soon,
)
from txamqpx.channel import Channel
from txamqpx.errors import (
    AccessRefused,
    CommandInvalid,
    NoRoute,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import BasicProperties

# --------------------------------------------------------------------------- routing


async def is_routed(channel: Channel, exchange: str, routing_key: str = "", **headers: Any) -> bool:
    """Publish a mandatory message, and tell whether it found a queue."""
    properties = BasicProperties(headers=headers) if headers else None
    sent = channel.basic_publish(
        b"", exchange=exchange, routing_key=routing_key, properties=properties, mandatory=True
    )
    (outcome,) = await outcomes([sent])
    assert isinstance(outcome, Confirmed | NoRoute)
    return isinstance(outcome, Confirmed)


@pytest.mark.covers("S56")
@pytest.mark.parametrize("exchange", ["events", "amq.direct"])
@pytest_twisted.ensureDeferred
async def test_a_direct_exchange_compares_keys(publisher: Channel, exchange: str) -> None:
    if exchange == "events":
        await publisher.exchange_declare(exchange, "direct")
    await publisher.queue_declare("jobs", exclusive=True)
    await publisher.queue_bind("jobs", exchange, "this")
    assert await is_routed(publisher, exchange, "this")
    assert not await is_routed(publisher, exchange, "that")
    assert not await is_routed(publisher, exchange, "this.one")


@pytest.mark.covers("S56")
@pytest.mark.parametrize("exchange", ["events", "amq.fanout"])
@pytest_twisted.ensureDeferred
async def test_a_fanout_exchange_compares_nothing(publisher: Channel, exchange: str) -> None:
    if exchange == "events":
        await publisher.exchange_declare(exchange, "fanout")
    assert not await is_routed(publisher, exchange, "any")
    for name in ("a", "b"):
        await publisher.queue_declare(name, exclusive=True)
        await publisher.queue_bind(name, exchange)
    assert await is_routed(publisher, exchange, "any")
    assert [await depth(publisher, name) for name in ("a", "b")] == [1, 1]


@pytest.mark.covers("S56")
@pytest.mark.parametrize("exchange", ["events", "amq.topic"])
@pytest_twisted.ensureDeferred
async def test_a_topic_exchange_compares_words(publisher: Channel, exchange: str) -> None:
    if exchange == "events":
        await publisher.exchange_declare(exchange, "topic")
    await publisher.queue_declare("jobs", exclusive=True)
    await publisher.queue_bind("jobs", exchange, "a.#.b.*")
    for key in ("a.b.x", "a.x.b.y", "a.b.b.b", "a.x.y.z.b.ü"):
        assert await is_routed(publisher, exchange, key), key
    for key in ("", "a", "a.b", "a.x.b", "x.a.b.y", "a.b.x.y"):
        assert not await is_routed(publisher, exchange, key), key


@pytest.mark.covers("S36", "S56")
@pytest.mark.parametrize("exchange", ["events", "amq.headers", "amq.match"])
@pytest_twisted.ensureDeferred
async def test_a_headers_exchange_compares_headers(publisher: Channel, exchange: str) -> None:
    if exchange == "events":
        await publisher.exchange_declare(exchange, "headers")
    await publisher.queue_declare("jobs", exclusive=True)
    everything = {"x-match": "all", "kind": "fruit", "weight": 7}
    await publisher.queue_bind("jobs", exchange, arguments=everything)
    assert await is_routed(publisher, exchange, kind="fruit", weight=7, other=True)
    assert not await is_routed(publisher, exchange, kind="fruit")
    assert not await is_routed(publisher, exchange, kind="fruit", weight="7")
    await publisher.queue_unbind("jobs", exchange, arguments=everything)
    await publisher.queue_bind("jobs", exchange, arguments={"x-match": "any", "kind": "fruit", "weight": 7})
    assert await is_routed(publisher, exchange, kind="fruit")
    assert await is_routed(publisher, exchange, kind="stone", weight=7)
    assert not await is_routed(publisher, exchange, kind="stone", weight=8)
    assert not await is_routed(publisher, exchange)


@pytest.mark.covers("S27", "T-HS-08")
@pytest.mark.parametrize("between", ["exchange and queue", "exchange and exchange"])
@pytest_twisted.ensureDeferred
async def test_a_binding_holds_as_long_as_it_is_there(publisher: Channel, between: str) -> None:
    await publisher.exchange_declare("source", "fanout")
    await publisher.queue_declare("jobs", exclusive=True)
    bind, unbind, destination = publisher.queue_bind, publisher.queue_unbind, "jobs"
    if between == "exchange and exchange":
        await publisher.exchange_declare("inner", "fanout")
        await publisher.queue_bind("jobs", "inner")
        bind, unbind, destination = publisher.exchange_bind, publisher.exchange_unbind, "inner"  # type: ignore[assignment]
    await publisher.basic_publish(b"a", exchange="source")
    await bind(destination, "source")
    await publisher.basic_publish(b"b", exchange="source")
    await unbind(destination, "source")
    await publisher.basic_publish(b"c", exchange="source")
    assert await drain(publisher, "jobs") == [b"b"]


@pytest.mark.covers("S58")
@pytest_twisted.ensureDeferred
async def test_no_name_is_the_queue_that_was_declared_last(publisher: Channel) -> None:
    name = (await publisher.queue_declare("", exclusive=True)).queue
    assert name.startswith("amq.gen-")
    await publisher.queue_bind("", "amq.fanout")
    await publisher.basic_publish(b"a", exchange="amq.fanout")
    await publisher.basic_publish(b"b", exchange="amq.fanout")
    assert (await get(publisher, "")).body == b"a"
    inbox = Inbox()
    await publisher.basic_consume("", inbox, no_ack=True)
    assert [delivery.body for delivery in await inbox.take()] == [b"b"]
    assert (await publisher.queue_delete("")).message_count == 0
    await failure_of(publisher.queue_declare(name, passive=True), NotFound)


# --------------------------------------------------------------------------- what is not there


@pytest.mark.covers("S57", "S58", "S29")
@pytest.mark.parametrize(
    ("call", "arguments", "exchange", "queue"),
    [
        ("queue_declare", {"queue": "missing", "passive": True}, None, "missing"),
        ("exchange_declare", {"exchange": "missing", "passive": True}, "missing", None),
        ("queue_bind", {"queue": "missing", "exchange": "amq.topic"}, None, "missing"),
        ("queue_bind", {"queue": "jobs", "exchange": "missing"}, "missing", None),
        ("exchange_bind", {"destination": "missing", "source": "amq.topic"}, "missing", None),
        ("exchange_bind", {"destination": "amq.topic", "source": "missing"}, "missing", None),
        ("queue_purge", {"queue": "missing"}, None, "missing"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_missing_is_named(
    channel: Channel, call: str, arguments: dict[str, Any], exchange: str | None, queue: str | None
) -> None:
    await channel.queue_declare("jobs", exclusive=True)
    error = await failure_of(getattr(channel, call)(**arguments), NotFound)
    assert (error.reply_code, error.exchange, error.queue) == (404, exchange, queue)
    assert error.operation == call.replace("_", ".")
    assert not error.retryable
    assert (await (await another(channel)).queue_declare("jobs", passive=True)).queue == "jobs"


@pytest.mark.covers("S28")
@pytest_twisted.ensureDeferred
async def test_to_delete_what_is_missing_is_no_error(channel: Channel) -> None:
    assert (await channel.queue_delete("missing")).message_count == 0
    await channel.exchange_delete("missing")
    await channel.queue_declare("jobs", exclusive=True)
    await channel.queue_unbind("jobs", "amq.topic", "never bound")


# --------------------------------------------------------------------------- what does not fit


@pytest.mark.covers("S26", "S57", "T-TB-02")
@pytest.mark.parametrize(
    ("call", "first", "second", "argument", "received", "current"),
    [
        ("queue_declare", {"durable": True}, {"exclusive": True}, None, None, None),
        (
            "queue_declare",
            {"durable": True},
            {"durable": True, "auto_delete": True},
            "auto_delete",
            "true",
            "false",
        ),
        (
            "queue_declare",
            {"durable": True, "arguments": {"x-expires": 60000}},
            {"durable": True, "arguments": {"x-expires": 60001}},
            *("x-expires", "60001", "60000"),
        ),
        (
            "queue_declare",
            {"durable": True},
            {"durable": True, "arguments": {"x-max-length": 1}},
            *("x-max-length", "1", None),
        ),
        ("exchange_declare", {"type": "direct"}, {"type": "topic"}, "type", "topic", "direct"),
        ("exchange_declare", {}, {"durable": True}, "durable", "true", "false"),
        (
            "exchange_declare",
            {"arguments": {"alternate-exchange": "a"}},
            {"arguments": {"alternate-exchange": "b"}},
            *("alternate-exchange", "b", "a"),
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_there_in_another_shape(
    channel: Channel,
    call: str,
    first: dict[str, Any],
    second: dict[str, Any],
    argument: str | None,
    received: str | None,
    current: str | None,
) -> None:
    await getattr(channel, call)("thing", **first)
    error = await failure_of(getattr(channel, call)("thing", **second))
    assert (error.argument, error.received) == (argument, received) or argument is None
    if current is not None:
        assert error.current == current
    if argument is not None:
        assert isinstance(error, PreconditionFailed)
    assert "thing" in {error.queue, error.exchange}
    other = await another(channel)
    await getattr(other, call)("thing", **first)


@pytest.mark.covers("T-TB-02")
@pytest_twisted.ensureDeferred
async def test_arguments_of_another_type_are_others(channel: Channel) -> None:
    """A True is not 1, and text is not a number; but a number may be as wide as it likes."""
    for wrong in (True, "10"):
        refused = await another(channel)
        arguments = {"x-max-priority": wrong}
        await failure_of(refused.queue_declare("jobs", durable=True, arguments=arguments), PreconditionFailed)
    await channel.queue_declare("jobs", durable=True, arguments={"x-max-priority": 10})


@pytest.mark.covers("S24")
@pytest_twisted.ensureDeferred
async def test_an_exclusive_queue_is_of_one_connection(channel: Channel, publisher: Channel) -> None:
    await channel.queue_declare("mine", exclusive=True)
    error = await failure_of(publisher.queue_declare("mine", passive=True), ResourceLocked)
    assert (error.reply_code, error.queue, error.retryable) == (405, "mine", True)
    error = await failure_of(channel.queue_declare("mine"))
    assert (error.reply_code, error.operation) == (405, "queue.declare")
    assert isinstance(error, ResourceLocked)


@pytest.mark.covers("S57", "T-CH-11")
@pytest_twisted.ensureDeferred
async def test_reserved_names_are_refused(channel: Channel) -> None:
    for call, arguments in (
        ("queue_declare", {"exclusive": True}),
        ("exchange_declare", {"type": "direct"}),
    ):
        other = await another(channel)
        error = await failure_of(getattr(other, call)("amq.mine", **arguments), AccessRefused)
        assert (error.reply_code, "amq.mine" in {error.queue, error.exchange}) == (403, True)
    error = await failure_of(channel.exchange_delete("amq.topic"), AccessRefused)
    assert error.operation == "exchange.delete"


@pytest.mark.covers("S57", "T-CH-11")
@pytest_twisted.ensureDeferred
async def test_an_unknown_type_of_exchange(vhost: Vhost, connect: Connector, told: Recorder) -> None:
    """It is the one mistake about a name that costs the connection; on RabbitMQ 4.3 only the channel."""
    channel = await connect.channel(delegate=told)
    error = await failure_of(channel.exchange_declare("odd", "nonsense"))
    await told.next("channel_closed")
    if is_since(vhost.node, "4.3"):
        assert isinstance(error, PreconditionFailed)
        assert protocol_of(channel).is_open
    else:
        assert isinstance(error, CommandInvalid)
        assert error.reply_code == 503
        over = await soon(protocol_of(channel).when_closed())
        assert isinstance(over, CommandInvalid)


# --------------------------------------------------------------------------- emptied and deleted


@pytest.mark.covers("S29")
@pytest_twisted.ensureDeferred
async def test_a_purge_says_how_many(channel: Channel) -> None:
    await fill(channel, "jobs", [b"a", b"b"])
    held = await get(channel, "jobs", no_ack=False)
    assert [(await channel.queue_purge("jobs")).message_count for _ in range(2)] == [1, 0]
    held.nack()
    assert await depth(channel, "jobs") == 1


@pytest.mark.covers("S59")
@pytest_twisted.ensureDeferred
async def test_a_delete_with_a_condition(channel: Channel) -> None:
    await fill(channel, "jobs", [b"a", b"b", b"c"])
    other = await another(channel)
    error = await failure_of(other.queue_delete("jobs", if_empty=True), PreconditionFailed)
    assert (error.reply_code, error.queue) == (406, "jobs")
    tag = (await channel.basic_consume("jobs", Inbox(), no_ack=False)).consumer_tag
    other = await another(channel)
    await failure_of(other.queue_delete("jobs", if_unused=True), PreconditionFailed)
    await channel.basic_cancel(tag)
    await channel.basic_recover()
    assert await depth(channel, "jobs") == 3
    assert (await channel.queue_delete("jobs", if_unused=True)).message_count == 3
    await channel.exchange_declare("events", "direct")
    await channel.queue_declare("bound", exclusive=True)
    await channel.queue_bind("bound", "events")
    other = await another(channel)
    error = await failure_of(other.exchange_delete("events", if_unused=True), PreconditionFailed)
    assert error.exchange == "events"
    await channel.queue_unbind("bound", "events")
    await channel.exchange_delete("events", if_unused=True)


@pytest.mark.covers("S13", "T-FR-08", "F4")
@pytest_twisted.ensureDeferred
async def test_names_in_all_alphabets(publisher: Channel) -> None:
    names = ["héllo", "🐇", "名前", "a b", "a/b", "a'b", "ü" * 127]
    for name in names:
        await publisher.exchange_declare(name, "topic")
        assert (await publisher.queue_declare(name, exclusive=True)).queue == name
        await publisher.queue_bind(name, name, f"{name[:60]}.*")
        key = f"{name[:60]}.🐇"
        await publisher.basic_publish(b"", exchange=name, routing_key=key, mandatory=True)
        delivery = await get(publisher, name)
        assert (delivery.exchange, delivery.routing_key) == (name, key)
    await all_of(publisher.queue_delete(name) for name in names)
