"""The values of a topology on a real broker: declared, declared again, and declared otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.integration.support import all_of, another, depth, failure_of, needs, release_of, streaming
from txamqpx.channel import Channel
from txamqpx.errors import PreconditionFailed
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.spec.base import Request
from txamqpx.topology import Binding, Exchange, Queue, Topology

# --------------------------------------------------------------------------- values

HOUR = timedelta(hours=1)


def declare(channel: Channel, value: Exchange | Queue) -> Deferred[Any]:
    """Send the request of a value."""
    request: Request[Any] = value.method()
    return channel.call(request)


VALUES: dict[str, Exchange | Queue] = {
    "direct": Exchange.direct("thing"),
    "fanout, transient": Exchange.fanout("thing", durable=False),
    "topic, auto-delete": Exchange.topic("thing", auto_delete=True),
    "headers, internal, alternate": Exchange.headers("thing", internal=True, alternate_exchange="other"),
    "predeclared topic": Exchange.topic("amq.topic"),
    "predeclared headers": Exchange("amq.match", "headers"),
    "a type of 4.3": Exchange("thing", "x-local-random"),
    "queue": Queue("thing"),
    "exclusive": Queue("thing", exclusive=True, durable=False, auto_delete=True),
    "classic": Queue.classic(
        "thing",
        auto_delete=True,
        message_ttl=HOUR,
        expires=HOUR,
        max_length=10,
        max_length_bytes=10_000,
        overflow="reject-publish-dlx",
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
        max_priority=255,
        single_active_consumer=True,
    ),
    "quorum": Queue.quorum(
        "thing",
        delivery_limit=-1,
        message_ttl=0,
        expires=timedelta(days=3650),
        max_length=0,
        max_length_bytes=0,
        overflow="reject-publish",
        dead_letter_exchange=Exchange("amq.fanout", "fanout"),
        dead_letter_strategy="at-least-once",
        single_active_consumer=False,
        initial_group_size=1,
        leader_locator="balanced",
    ),
    "quorum of 4.3": Queue.quorum(
        "thing",
        consumer_timeout=HOUR,
        delayed_retry_type="failed",
        delayed_retry_min=1000,
        delayed_retry_max=HOUR,
    ),
    "stream": Queue.stream(
        "thing",
        max_age=timedelta(milliseconds=1),
        max_length_bytes=2**40,
        segment_size_bytes=3_000_000_000,
        initial_cluster_size=1,
        leader_locator="client-local",
    ),
    "stream, age as text": Queue.stream("thing", max_age="7D"),
    "stream of 4.3": Queue.stream("thing", filter_size_bytes=16),
}


@pytest.mark.covers("P17", "P20", "S26", "K16")
@pytest.mark.parametrize("what", VALUES)
@pytest_twisted.ensureDeferred
async def test_a_value_is_declared_and_declared_again(vhost: Vhost, channel: Channel, what: str) -> None:
    value = VALUES[what]
    needs(vhost.node, "4.3" if "4.3" in what else "3.10", "has it")
    if what.startswith("stream"):
        streaming(vhost.node)
    for each in (value, value, attrs.evolve(value, passive=True)):
        await declare(channel, each)
    assert value.check(release_of(vhost.node)) == []


@pytest.mark.covers("S26", "P17")
@pytest_twisted.ensureDeferred
async def test_a_declaration_that_differs_says_in_what(vhost: Vhost, channel: Channel) -> None:
    for value, other, argument, received, current in (
        (Queue.quorum("a", max_length=1), Queue.quorum("a", max_length=2), "x-max-length", "2", "1"),
        (Queue.classic("b", expires=HOUR), Queue.classic("b", expires=1), "x-expires", "1", "3600000"),
        (Queue.stream("c", max_length_bytes=5), Queue.stream("c"), "x-max-length-bytes", "none", "5"),
        (Queue.classic("d"), Queue.quorum("d"), "x-queue-type", "quorum", "classic"),
        (Exchange.topic("e"), Exchange.direct("e"), "type", "direct", "topic"),
        (Exchange.topic("f"), Exchange.topic("f", internal=True), "internal", "true", "false"),
    ):
        if value == Queue.stream("c", max_length_bytes=5) and not vhost.node.has_streams:
            continue
        await declare(channel, value)
        refused = declare(await another(channel), other)
        error = await failure_of(refused, PreconditionFailed)
        assert (error.argument, error.received, error.current) == (argument, received, current)


@pytest_twisted.ensureDeferred
async def test_classic_and_no_type_are_the_same(channel: Channel) -> None:
    await channel.call(Queue("jobs").method())
    await channel.call(Queue.classic("jobs").method())


@pytest.mark.covers("S94", "K16", "T-REC-06")
@pytest_twisted.ensureDeferred
async def test_a_topology_in_one_go(channel: Channel) -> None:
    """Exchanges, a queue that the broker names, and bindings of each kind, in the order of the topology."""
    replies = Queue.temporary(expires=HOUR)
    topology = Topology(
        Binding("inner", replies, "a.*"),
        Binding("inner", replies, "b.*"),
        Binding.to_exchange("outer", "inner", arguments={"x-match": "any", "kind": "fruit"}),
        Binding.to_exchange("outer", "inner", arguments={"x-match": "any", "kind": "stone"}),
        replies,
        Exchange.headers("outer", alternate_exchange="lost"),
        Exchange.topic("inner", internal=True),
        Exchange.fanout("lost"),
    )
    assert [exchange.name for exchange in topology.exchanges] == ["lost", "outer", "inner"]
    await all_of(channel.call(exchange.method()) for exchange in topology.exchanges)
    (name,) = [(await channel.call(queue.method())).queue for queue in topology.queues]
    for binding in topology.bindings:
        bind: Request[Any] = binding.method(name)
        await channel.call(bind)
    await channel.confirm_select()
    for kind, key in (("fruit", "a.x"), ("stone", "b.x"), ("fruit", "c.x")):
        properties = BasicProperties(headers={"kind": kind})
        await channel.basic_publish(b"", exchange="outer", routing_key=key, properties=properties)
    assert await depth(channel, name) == 2
