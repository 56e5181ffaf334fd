"""Messages: what was published, and the places that it has in queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from txamqpx.broker.fields import HEADERS, parts_of, properties_of
from txamqpx.errors import DecodeError
from txamqpx.protocol.events import Published
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Death", "Elaborate", "Entry", "Holder", "Keeper", "Message"]

_HEADERS = 0x20


class Message(Published):
    """What was published: one for all queues that hold it, and never changed.

    The core makes it of ``basic.publish`` itself, so that a message is one object from the wire to the
    queue.  There is more to few of them: those are `Elaborate`.
    """

    __slots__ = ()

    #: How many milliseconds it lives; None: it has no time of its own.
    ttl: int | None = None
    #: The routing keys in its CC header.
    copies: Sequence[str] = ()
    #: The routing keys that were in its BCC header, of which nobody hears.
    blind: Sequence[str] = ()
    #: How many attempts to deal with it have failed in the queues that it has been in.
    attempts: int = 0
    #: The deaths that it has died, the last one first; a release that leaves them to headers has none here.
    deaths: tuple[Death, ...] = ()

    @classmethod
    def made(cls, exchange: str, routing_key: str, properties: BasicProperties, body: bytes) -> Message:
        """Return one that no client has published."""
        message = cls.of(exchange, routing_key, properties.encode(), body)
        message._properties = properties
        return message

    @classmethod
    def of(cls, exchange: str, routing_key: str, header: bytes, body: bytes) -> Message:
        """Return one with encoded properties."""
        message = cls.__new__(cls)
        message.channel = None  # type: ignore[assignment]
        message.exchange = exchange
        message.routing_key = routing_key
        message.flags = 0
        message.header = header
        message.body = body
        message._properties_class = BasicProperties
        message._properties = None
        return message

    def failed(self) -> Message:
        """Return it with one more attempt that has failed; the bodies are one."""
        return Elaborate.of(
            self.exchange,
            self.routing_key,
            self.header,
            self.body,
            ttl=self.ttl,
            copies=self.copies,
            blind=self.blind,
            attempts=self.attempts + 1,
            deaths=self.deaths,
        )

    @property
    def properties(self) -> Any:
        """The properties; headers that cannot be decoded, as they are nested too deep, are left out.

        RabbitMQ takes tables of any depth, and so they are handed on as they came.  Whoever looks at them,
        such as a headers exchange that a dead letter comes to, had no part in making them.
        """
        try:
            return super().properties
        except DecodeError:
            parts = parts_of(self.header)
            parts.pop(HEADERS, None)
            rest = properties_of(parts)
            self._properties = self._properties_class.decode(rest, 0, len(rest))
            return self._properties

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers; empty if there are none."""
        if not self.header[0] & _HEADERS:
            return {}
        headers: Mapping[str, Any] = self.properties.headers or {}
        return headers

    @property
    def keys(self) -> Sequence[str]:
        """All routing keys: its own, and those for copies."""
        return (self.routing_key, *self.copies, *self.blind)


class Elaborate(Message):
    """A message that has a time of its own, goes to more than one key, or has died."""

    __slots__ = ("attempts", "blind", "copies", "deaths", "ttl")

    @classmethod
    def of(
        cls,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        ttl: int | None = None,
        copies: Sequence[str] = (),
        blind: Sequence[str] = (),
        attempts: int = 0,
        deaths: tuple[Death, ...] = (),
    ) -> Elaborate:
        """Return one with encoded properties, and with what they are not asked for again."""
        message = super().of(exchange, routing_key, header, body)
        assert isinstance(message, Elaborate)
        message.ttl = ttl
        message.copies = copies
        message.blind = blind
        message.attempts = attempts
        message.deaths = deaths
        return message


@frozen
class Death:
    """What a message died of, once or several times.

    Attributes:
        queue: Where.
        reason: ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``.
        count: How often.
        time: When it did for the first time, in seconds since 1970.
        exchange: Where it had been published to, then.
        keys: With which routing keys.
        ttl: The time of its own that it had, in milliseconds.
    """

    queue: str
    reason: str
    count: int
    time: int
    exchange: str
    keys: Sequence[str]
    ttl: int | None


class Keeper(Protocol):
    """A queue, as what lies in it sees it."""

    @property
    def minds_channel_limit(self) -> bool:
        """Whether a limit for all consumers of a channel together counts what comes from here."""

    @property
    def is_shared(self) -> bool:
        """Whether it has more than one consumer."""

    def ack(self, entry: Entry) -> None:
        """Forget a message that was given out."""

    def reject(self, entry: Entry, *, failed: bool = True) -> None:
        """Forget a message that somebody does not want, or make it a dead letter."""

    def requeue(self, entries: Iterable[Entry], *, failed: bool, gone: bool = False) -> None:
        """Take messages back, from somebody who failed to deal with them or did not try."""

    def dispatch(self) -> None:
        """Give out what is ready to whoever has credit."""


class Holder(Protocol):
    """A consumer, as what it holds sees it."""

    def settled(self) -> bool:
        """Take note that it has one message fewer; return whether it has its turns again for that."""


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
