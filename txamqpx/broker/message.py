"""Messages: what was published, and the places that it has in queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from txamqpx.protocol.events import Published
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Entry", "Holder", "Keeper", "Message"]

_HEADERS = 0x20
_DELIVERY_MODE = 0x10


class Message(Published):
    """What was published: one for all queues that hold it, and never changed.

    The core makes it of ``basic.publish`` itself, so that a message is one object from the wire to the
    queue.
    """

    __slots__ = ()

    @classmethod
    def made(cls, exchange: str, routing_key: str, properties: BasicProperties, body: bytes) -> Message:
        """Return one that no client has published, such as a dead letter."""
        message = cls.__new__(cls)
        message.channel = None  # type: ignore[assignment]
        message.exchange = exchange
        message.routing_key = routing_key
        message.flags = 0
        message.header = properties.encode()
        message.body = body
        message._properties_class = BasicProperties
        message._properties = properties
        return message

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers; empty if there are none."""
        if not self.header[0] & _HEADERS:
            return {}
        headers: Mapping[str, Any] = self.properties.headers or {}
        return headers


class Keeper(Protocol):
    """A queue, as what lies in it sees it."""

    def ack(self, entry: Entry) -> None:
        """Forget a message that was given out."""

    def reject(self, entry: Entry) -> None:
        """Forget a message that somebody does not want, or make it a dead letter."""

    def requeue(self, entries: Iterable[Entry]) -> None:
        """Take messages back to their places."""

    def dispatch(self) -> None:
        """Give out what is ready to whoever has credit."""


class Holder(Protocol):
    """A consumer, as what it holds sees it."""

    unsettled: int


class Entry:
    """A message's place in one queue."""

    __slots__ = ("consumer", "expires", "message", "position", "queue", "redelivered")

    def __init__(self, message: Message, queue: Keeper, position: int) -> None:
        self.message = message
        self.queue = queue
        #: Its number in the queue, which it keeps when it comes back.
        self.position = position
        #: Whether it was given out before.
        self.redelivered = False
        #: Who has it; None while it is ready, and after ``basic.get``.
        self.consumer: Holder | None = None
        #: When it expires, by the broker's clock; None: never.
        self.expires: float | None = None
