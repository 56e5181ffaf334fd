"""What a test sees of a broker: copies of what there is at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from attrs import field, frozen

from txamqpx.broker.message import Entry
from txamqpx.broker.tap import Tap
from txamqpx.protocol.states import ConnectionState
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["ConnectionView", "HeldMessage", "Inspected", "QueueView", "view_of_connection", "view_of_queue"]


class Inspected(Protocol):
    """A queue, as far as it is looked at."""

    name: str
    ready: Any
    unsettled: Any
    consumers: Any


@frozen(kw_only=True)
class HeldMessage:
    """A message in a queue.

    Attributes:
        exchange: The exchange that it was published to.
        routing_key: Its routing key.
        body: Its body.
        properties: Its properties.
        redelivered: Whether it was given out before.
        delivery_count: How often somebody has failed with it, in a quorum queue; 0 elsewhere.
        acquired_count: How often it was given out and came back, in a quorum queue; 0 elsewhere.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: BasicProperties
    redelivered: bool
    delivery_count: int
    acquired_count: int

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers; empty if it has none."""
        return self.properties.headers or {}


@frozen(kw_only=True, repr=False)
class QueueView:
    """A queue, as it was when it was looked at.

    Attributes:
        name: Its name.
        vhost: Its virtual host.
        messages: What is ready to be given out, first the one that is next.
        unacked_messages: What was given out and is not settled, in the order in which it was.
        delayed_messages: What waits to be given out again, in a quorum queue with delayed retry.
        consumers: How many consumers it has.
    """

    name: str
    vhost: str
    messages: list[HeldMessage]
    unacked_messages: list[HeldMessage]
    delayed_messages: list[HeldMessage]
    consumers: int

    def __repr__(self) -> str:
        numbers = f"{self.ready} ready, {self.unacked} unacked, {self.delayed} delayed"
        return f"<QueueView {self.name!r} in {self.vhost!r}: {numbers}, {self.consumers} consumers>"

    @property
    def ready(self) -> int:
        """How many messages are ready."""
        return len(self.messages)

    @property
    def unacked(self) -> int:
        """How many messages were given out and are not settled."""
        return len(self.unacked_messages)

    @property
    def delayed(self) -> int:
        """How many messages wait to be given out again."""
        return len(self.delayed_messages)


def _held(entries: Iterable[Entry]) -> Iterator[HeldMessage]:
    for entry in entries:
        message = entry.message
        yield HeldMessage(
            exchange=message.exchange,
            routing_key=message.routing_key,
            body=message.body,
            properties=message.properties,
            redelivered=entry.redelivered,
            delivery_count=getattr(entry, "failures", 0),
            acquired_count=getattr(entry, "returns", 0),
        )


def view_of_queue(queue: Inspected, vhost: str) -> QueueView:
    """Return what a queue looks like."""
    return QueueView(
        name=queue.name,
        vhost=vhost,
        messages=list(_held(queue.ready)),
        unacked_messages=list(_held(queue.unsettled)),
        delayed_messages=list(_held(getattr(queue, "delayed", ()))),
        consumers=len(queue.consumers),
    )


@frozen(kw_only=True)
class ConnectionView:
    """A connection of a client.

    Attributes:
        tap: What it stands for, where one is asked for.
        number: Its number, as in the wire log.
        user: Who has logged in; ``""``: nobody has yet.
        vhost: The virtual host; ``""``: none yet.
        name: What the client calls it; ``""`` if it does not.
        channels: The numbers of its channels.
        is_open: Whether the handshake is over, and the end has not begun.
    """

    tap: Tap = field(repr=False)
    number: int
    user: str
    vhost: str
    name: str
    channels: list[int]
    is_open: bool


def view_of_connection(tap: Tap) -> ConnectionView:
    """Return what a connection looks like."""
    session = tap.session
    vhost = getattr(session, "vhost", None)  # it has none before it has chosen one
    name = session.client_properties.get("connection_name", "")
    return ConnectionView(
        tap=tap,
        number=tap.number,
        user=session.user,
        vhost="" if vhost is None else vhost.name,
        name=name if isinstance(name, str) else "",
        channels=sorted(session.core.channels),
        is_open=session.core.state is ConnectionState.OPEN,
    )
