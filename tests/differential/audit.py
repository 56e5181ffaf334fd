"""What has to hold in an embedded broker at any time, whatever its clients do: its books are in order."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any, cast

from twisted.internet.task import Clock

from tests.differential.program import Step
from tests.differential.stream import EmbeddedStream
from tests.differential.world import World
from txamqpx.broker.broker import Broker
from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.line import Line, PriorityLine, WeighedLine
from txamqpx.broker.message import Entry
from txamqpx.broker.queue import Queue
from txamqpx.broker.quorum import QuorumQueue
from txamqpx.broker.vhost import VirtualHost


def audit(broker: Broker) -> None:
    """Look through all that a broker has.

    Raises:
        AssertionError: Something is in two places, in none, or counted wrongly.
    """
    channels = [channel for session in broker.sessions for channel in _channels(session)]
    for vhost in broker.vhosts.values():
        mine = [channel for channel in channels if channel.vhost is vhost]
        for queue in vhost.queues.values():
            _audit_queue(queue, mine)
        _audit_ways(vhost)


def _channels(session: Any) -> Iterator[BrokerChannel]:
    for core in session.core.channels.values():
        if core.owner is not None and not core.owner.closed:
            yield core.owner


def _held(channel: BrokerChannel) -> Iterator[Entry]:
    """Return what a channel has, also if it has settled it and not committed that."""
    yield from channel.consuming.unsettled.held.values()
    if channel.transaction is not None:
        for _, entries in channel.transaction._settled:
            yield from entries.values()


def _audit_queue(queue: Queue, channels: list[BrokerChannel]) -> None:
    assert not queue.deleted
    ready, unsettled = [*queue.ready], queue.unsettled
    places = [*queue.entries()]
    held = [entry for channel in channels for entry in _held(channel) if entry.queue is queue]
    if isinstance(queue, QuorumQueue):
        lapsed = [entry for entry in held if entry not in unsettled]
        assert set(lapsed) == set(queue._lapsed), "what is late is kept for who has it, and nobody else"
    else:
        lapsed = []
    assert len(places) == len(set(places)), "a message is in two places"
    assert len(held) == len(set(held)), "two have the same message"
    assert set(held) - set(lapsed) == set(unsettled), "what is unsettled is not what channels have"
    assert all(entry.queue is queue for entry in places)
    assert all(entry.consumer is None for entry in ready), "what is ready has a consumer"
    _audit_line(queue.ready)
    _audit_consumers(queue, channels)


def _audit_consumers(queue: Queue, channels: list[BrokerChannel]) -> None:
    theirs = [one for channel in channels for one in channel.consuming.consumers.values()]
    assert set(queue.consumers) == {one for one in theirs if one.queue is queue}, "not all know of a consumer"
    counts = Counter(entry.consumer for channel in channels for entry in _held(channel))
    for consumer in queue.consumers:
        has = counts[consumer]
        if isinstance(queue, QuorumQueue):  # what one of the same tag has left counts, too
            assert has <= consumer.unsettled <= max(consumer.limit, has)
        else:  # while here it gives credit
            assert consumer.unsettled <= min(has, consumer.limit)
    turns = queue.consumers
    in_line = Counter(chain.from_iterable(turns._lines))
    out = Counter([*turns._out])
    if turns.active is None and not queue.single_active:
        assert in_line + out == Counter([*turns]), "a consumer has no place, or two"
        assert all(one.is_out is (one in out) for one in turns)
    if queue.ready and turns.active is None and not queue.single_active:
        idle = [one for one in in_line if one.unsettled < one.limit and one.consuming.can_take(one)]
        assert not idle, "messages wait for nobody"


def _audit_line(line: Any) -> None:
    if isinstance(line, PriorityLine):
        assert len(line) == sum(map(len, line._lines))
        for one in line._lines:
            _audit_line(one)
    elif isinstance(line, Line):
        if isinstance(line, WeighedLine):
            assert line.weight == sum(len(entry.message.body) for entry in line)
        assert all(one.position < other.position for one, other in pairwise(line)), "out of order"


def _audit_ways(vhost: VirtualHost) -> None:
    exchanges = vhost.exchanges
    for name, exchange in exchanges._by_name.items():
        assert exchange.name == name
        for binding in exchange.bindings():
            destination: Any = binding.destination
            alive = (vhost.queues.get(destination.name), exchanges._by_name.get(destination.name))
            assert destination in alive, "a binding leads to what is gone"
    for queues in exchanges._routes.values():
        assert all(vhost.queues.get(queue.name) is queue for queue in queues), "a known way leads to a ghost"


def audit_end(broker: Broker) -> None:
    """Look whether nothing is left of clients that have gone, and of queues that are deleted then.

    Raises:
        AssertionError: Something is.
    """
    assert not broker.sessions
    ours = [*broker.vhosts.values()]
    for vhost in broker.vhosts.values():
        for queue in list(vhost.queues.values()):
            assert queue.owner is None, "an exclusive queue has outlived its connection"
            assert not queue.unsettled
            assert not queue.consumers
            vhost.delete_queue(queue)
    assert not broker.clock.getDelayedCalls(), "a timer runs for nobody"
    gc.collect()
    left = sum(isinstance(one, Entry) and cast(Queue, one.queue).vhost in ours for one in gc.get_objects())
    assert not left, "messages of deleted queues are kept"


def audited(steps: list[Step], profile: str) -> None:
    """Run a program on a new broker, and look through it after each step.

    Raises:
        AssertionError: Something was not in order.
    """
    clock = Clock()
    broker = Broker(profile=profile, clock=clock)
    world = World(lambda: EmbeddedStream(broker, clock), "/")
    for step in steps:
        world.step(step)
        audit(broker)
    world.close()
    audit_end(broker)
