"""What the integration tests say often: connecting, waiting with an end to it, and listening."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar, cast

import attrs
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.conformance import DIFFERENCE
from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AMQPError
from txamqpx.message import Delivery
from txamqpx.params import parse_url
from txamqpx.spec.amqp0_9_1 import BasicProperties, QueueDeclareOk

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which something that takes milliseconds counts as not happening."""

CLOCK = cast(IReactorTime, reactor)

PERSISTENT = BasicProperties(delivery_mode=2)


# --------------------------------------------------------------------------- waiting


def soon(deferred: Deferred[T]) -> Deferred[T]:
    """Let a Deferred fail the test that waits for it, and not hang it."""
    return deferred.addTimeout(PATIENCE, CLOCK)


def pause(seconds: float) -> Deferred[None]:
    """Let time pass, for what is about time."""
    return deferLater(CLOCK, seconds)


async def until(happens: Callable[[], object]) -> None:
    """Wait for what nobody tells us about."""
    deadline = CLOCK.seconds() + PATIENCE
    while not happens():
        assert CLOCK.seconds() < deadline, "it did not happen"
        await pause(0.02)


async def all_of(deferreds: Iterable[Deferred[T]]) -> list[T]:
    """Wait for all; the first failure is the test's."""
    return await soon(gatherResults(list(deferreds), consumeErrors=True))


async def outcomes(deferreds: Iterable[Deferred[Any]]) -> list[Any]:
    """Wait for all; a failure's error takes the place of its result."""
    return await all_of(
        deferred.addErrback(lambda failure: failure.trap(AMQPError) and failure.value)
        for deferred in deferreds
    )


async def failure_of(deferred: Deferred[Any], *types: type[BaseException]) -> Any:
    """Wait for the error with which a Deferred fails, which is of one of the types."""
    with pytest.raises(types or AMQPError) as caught:
        await soon(deferred)
    return caught.value


# --------------------------------------------------------------------------- connecting and listening


class Connector:
    """Opens connections to a virtual host for one test, and ends them after it."""

    def __init__(self, vhost: Vhost) -> None:
        self.vhost = vhost
        self.made: list[AMQPProtocol] = []

    async def __call__(
        self, *, url: str = "", delegate: Delegate | None = None, **changes: Any
    ) -> AMQPProtocol:
        """Connect with the URL's parameters, which is the virtual host's, and ``changes``."""
        parameters = attrs.evolve(parse_url(url or self.vhost.url), **{"rpc_timeout": PATIENCE, **changes})
        self.made.append(await connect_protocol(parameters, delegate=delegate))
        return self.made[-1]

    async def channel(self, *, delegate: Delegate | None = None, confirms: bool = False) -> Channel:
        """Open a channel on a connection of its own."""
        protocol = await self(delegate=delegate)
        channel = await protocol.open_channel()
        if confirms:
            await channel.confirm_select()
        return channel

    async def end(self) -> None:
        """End all connections."""
        await all_of(protocol.close() for protocol in self.made)


class Recorder(Delegate):
    """A delegate that keeps what it is told until a test asks for it.

    Attributes:
        told: The hooks that were called, in order, with what they were told besides protocol or channel.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._next: defaultdict[str, DeferredQueue[tuple[Any, ...]]] = defaultdict(DeferredQueue)

    async def next(self, hook: str) -> tuple[Any, ...]:
        """Wait for the next call of a hook, and return what it was told."""
        return await soon(self._next[hook].get())

    def names(self) -> list[str]:
        """Return the names of the hooks that were called, in order."""
        return [name for name, *_ in self.told]

    def _tell(self, hook: str, *facts: Any) -> None:
        self.told.append((hook, *facts))
        self._next[hook].put(facts)

    def connection_opened(self, protocol: object) -> None:
        self._tell("connection_opened")

    def connection_closed(self, protocol: object, reason: AMQPError) -> None:
        self._tell("connection_closed", reason)

    def connection_blocked(self, protocol: object, reason: str) -> None:
        self._tell("connection_blocked", reason)

    def connection_unblocked(self, protocol: object) -> None:
        self._tell("connection_unblocked")

    def channel_closed(self, channel: object, reason: AMQPError) -> None:
        self._tell("channel_closed", reason)

    def message_delivered(self, channel: object, delivery: Delivery) -> None:
        self._tell("message_delivered", delivery)

    def message_returned(self, channel: object, message: Any) -> None:
        self._tell("message_returned", message)

    def publish_confirmed(self, channel: object, delivery_tag: int, multiple: bool) -> None:
        self._tell("publish_confirmed", delivery_tag, multiple)

    def publish_nacked(self, channel: object, delivery_tag: int, multiple: bool) -> None:
        self._tell("publish_nacked", delivery_tag, multiple)

    def consumer_cancelled(self, channel: object, consumer_tag: str) -> None:
        self._tell("consumer_cancelled", consumer_tag)

    def unhandled(self, channel: object, event: object) -> None:
        self._tell("unhandled", event)


class Inbox:
    """A consumer's function that keeps deliveries until a test takes them.

    Attributes:
        got: All deliveries so far.
    """

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self._queue: DeferredQueue[Delivery] = DeferredQueue()

    def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        self._queue.put(delivery)

    async def take(self, count: int = 1) -> list[Delivery]:
        """Wait for so many, and return them."""
        return [await soon(self._queue.get()) for _ in range(count)]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of all deliveries so far."""
        return [delivery.body for delivery in self.got]


# --------------------------------------------------------------------------- queues


def numbered(count: int) -> list[bytes]:
    """Return bodies that differ: their numbers, from 0 on."""
    return [str(number).encode() for number in range(count)]


async def fill(
    channel: Channel, queue: str, bodies: Iterable[bytes], arguments: Mapping[str, Any] | None = None
) -> None:
    """Declare a durable queue, and publish to it on a channel of its own until the broker has it all."""
    await channel.queue_declare(queue, durable=True, arguments=arguments)
    publisher = await another(channel, confirms=True)
    await all_of(publisher.basic_publish(body, routing_key=queue) for body in bodies)
    await publisher.close()


async def depth(channel: Channel, queue: str) -> int:
    """Return how many messages are ready in a queue, when all that it sent to this channel is here.

    A queue has sent its deliveries before it answers the first declare, but that answer may overtake them
    inside of the broker; the answer to the second one cannot.
    """
    for _ in range(2):
        answer = await channel.queue_declare(queue, passive=True)
    return answer.message_count


async def until_ready(channel: Channel, queue: str, count: int) -> None:
    """Wait until so many messages are ready: for what others give back in their time."""
    answers: list[QueueDeclareOk] = []

    def is_ready() -> bool:
        channel.queue_declare(queue, passive=True).addCallback(answers.append)
        return bool(answers) and answers[-1].message_count == count

    await until(is_ready)
    assert await depth(channel, queue) == count


async def drain(channel: Channel, queue: str) -> list[bytes]:
    """Take all messages out of a queue, and return their bodies."""
    bodies = []
    while (delivery := await channel.basic_get(queue, no_ack=True)) is not None:
        bodies.append(delivery.body)
    return bodies


def protocol_of(channel: Channel) -> AMQPProtocol:
    """Return a channel's connection."""
    assert isinstance(channel.protocol, AMQPProtocol)
    return channel.protocol


async def another(channel: Channel, *, confirms: bool = False) -> Channel:
    """Open one more channel on a channel's connection."""
    opened = await protocol_of(channel).open_channel()
    if confirms:
        await opened.confirm_select()
    return opened


async def get(channel: Channel, queue: str, *, no_ack: bool = True) -> Delivery:
    """Take a message that is there."""
    delivery = await channel.basic_get(queue, no_ack=no_ack)
    assert delivery is not None
    return delivery


def headers_of(delivery: Delivery) -> Mapping[str, Any]:
    """Return the headers of a message that has some."""
    headers = delivery.properties.headers
    assert headers is not None
    return headers


# --------------------------------------------------------------------------- brokers


def is_since(node: BrokerNode, release: str) -> bool:
    """Tell whether a broker is of a release or a later one, for what differs between releases."""
    return _numbers(node.version) >= _numbers(release)


def needs(node: BrokerNode, release: str, reason: str) -> None:
    """Skip the rest of a test, and say why, on a broker before a release."""
    if not is_since(node, release):
        pytest.skip(f"RabbitMQ {release} {reason}; this is {node.version}")


def lasting(node: BrokerNode) -> None:
    """Skip the rest of a test, which is about what outlives a broker's process, where nothing does."""
    if not node.keeps:
        differs("it keeps nothing, so that what is durable goes with its process")


def streaming(node: BrokerNode) -> None:
    """Skip the rest of a test, which is about streams, where there are none."""
    if not node.has_streams:
        differs("it has no streams, which are about what is kept")


def differs(why: str) -> NoReturn:
    """Skip the rest of a test over what a broker is not meant to do; docs/conformance.md lists it."""
    pytest.skip(f"{DIFFERENCE}{why}")


def release_of(node: BrokerNode) -> tuple[int, ...]:
    """Return a broker's version as numbers, as a client hears it from its server."""
    return tuple(int(number) for number in node.version.split("."))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:2])


@contextmanager
def pika_channel(url: str) -> Iterator[BlockingChannel]:
    """Open a channel of another client; whoever uses it blocks, and so does so in a thread."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()
