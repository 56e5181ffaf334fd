"""What happened on the wire, as the core tells it.

A *token* is whatever the caller gave with a request or a publish; the core never looks at it.
Each token comes back in exactly one event: ``Replied``, ``Confirmed``, ``Nacked``, ``Unrouted``
or ``Failed``.  ``channel`` is the core's channel throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import define

from txamqpx.errors import AMQPError, Closed, printable
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.base import Method, Properties

__all__ = [
    "Blocked",
    "Broken",
    "Channel",
    "ChannelEnded",
    "Confirmed",
    "ConnectionEnded",
    "ConsumerCancelled",
    "Content",
    "Delivered",
    "Event",
    "Failed",
    "FlowChanged",
    "Nacked",
    "Opened",
    "Replied",
    "Requested",
    "Returned",
    "Settled",
    "TooLarge",
    "Tuned",
    "Unblocked",
    "Unrouted",
]


class Channel(Protocol):
    """What an event says of its channel, which is a ``txamqpx.protocol.channel.ChannelCore``."""

    number: int
    owner: Any
    error: Closed | None
    connection: Any
    unsettled: Any
    basic_properties: type[Properties]

    def send(self, method: Method, token: Any = None) -> None:
        """Send a method."""

    def ack(self, delivery_tag: int) -> None:
        """Ack a delivery."""


class Content:
    """A body and its properties, as they came.

    The properties are decoded when somebody asks for them: most consumers never do.
    """

    __slots__ = ("_properties", "_properties_class", "body", "header")

    def __init__(self, properties_class: type[Properties], header: bytes, body: bytes) -> None:
        self._properties_class = properties_class
        self._properties: Properties | None = None
        #: The properties in their encoded form.
        self.header = header
        self.body = body

    @property
    def properties(self) -> Any:
        """The properties.

        Raises:
            DecodeError: Another client made them wrong.  ``header`` has the bytes; the message can be
                settled all the same.
        """
        if self._properties is None:
            self._properties = self._properties_class.decode(self.header, 0, len(self.header))
        return self._properties


class Delivered(Content):
    """A message for a consumer, or the answer to a ``basic.get``."""

    __slots__ = (
        "consumer",
        "consumer_tag",
        "core",
        "delivery_tag",
        "exchange",
        "message_count",
        "redelivered",
        "routing_key",
        "settled",
        "stale",
    )

    def __init__(
        self,
        core: Channel,
        consumer: Any,
        consumer_tag: str,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        settled: bool,
    ) -> None:
        # One is made for every message: without super(), and the content is set when it is there.
        #: The channel that gave it, and the only one that can settle it.
        self.core = core
        #: The token that came with ``basic.consume``; None for a tag that nobody registered.
        self.consumer = consumer
        self.consumer_tag = consumer_tag
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key
        #: True once it was acked, nacked or rejected, and from the start where no ack is wanted.
        self.settled = settled
        #: True once the broker has taken it back, to give it out again.
        self.stale = False
        self._properties_class = core.basic_properties
        self._properties = None
        #: How many messages are left in the queue; only an answer to ``basic.get`` knows.
        self.message_count: int | None = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.delivery_tag} of {self.consumer_tag!r}, "
            f"exchange {self.exchange!r}, routing key {self.routing_key!r}, "
            f"{len(self.body)} bytes{', redelivered' * self.redelivered}>"
        )


class Returned(Content):
    """A mandatory message that reached no queue."""

    __slots__ = ("channel", "exchange", "reply_code", "reply_text", "routing_key")

    def __init__(
        self,
        channel: Channel,
        reply_code: int,
        reply_text: str,
        exchange: str,
        routing_key: str,
        content: Content,
    ) -> None:
        super().__init__(content._properties_class, content.header, content.body)
        self.channel = channel
        self.reply_code = reply_code
        self.reply_text = reply_text
        self.exchange = exchange
        self.routing_key = routing_key

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.reply_code} {printable(self.reply_text)}: "
            f"exchange {self.exchange!r}, routing key {self.routing_key!r}, {len(self.body)} bytes>"
        )


class Published(Content):
    """A message that a client publishes: what a broker's core makes of ``basic.publish``."""

    __slots__ = ("channel", "exchange", "flags", "routing_key")

    def __init__(self, channel: Channel, exchange: str, routing_key: str, flags: int) -> None:
        # One is made for every message: without super(), and the content is set when it is there.
        self.channel = channel
        self.exchange = exchange
        self.routing_key = routing_key
        #: The bits of the method as they stand on the wire: 1 is mandatory, 2 immediate.
        self.flags = flags
        self._properties_class = channel.basic_properties
        self._properties = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} to exchange {self.exchange!r}, routing key {self.routing_key!r}, "
            f"{len(self.body)} bytes>"
        )


@define(eq=False)
class Acked:
    """A client has acked deliveries: once, or several times in a row."""

    channel: Channel
    #: For each time the delivery tag, and whether it holds for all up to that.
    words: list[tuple[int, bool]]


@define(eq=False)
class Tuned:
    """Both sides agreed on limits: heartbeats begin."""

    tuning: Tuning


@define(eq=False)
class Opened:
    """The connection is open."""

    #: What the server said of itself; empty in the server's role.
    server_properties: dict[str, Any]
    tuning: Tuning


@define(eq=False)
class Replied:
    """The answer to a request: a method, a ``Delivered`` for ``basic.get`` that found something."""

    #: None on channel 0.
    channel: Channel | None
    token: Any
    method: Method | Delivered


@define(eq=False)
class Settled:
    """The broker has spoken of publishes: once, or several times in a row."""

    channel: Channel
    #: For each time the number in the broker's word, whether it holds for all up to that, and the tokens
    #: of those that it settled and that had not been returned.
    words: list[tuple[int, bool, Sequence[Any]]]

    @property
    def tokens(self) -> list[Any]:
        """All tokens that come back."""
        return [token for _, _, tokens in self.words for token in tokens]


class Confirmed(Settled):
    """The broker took responsibility for messages."""


class Nacked(Settled):
    """The broker refused messages."""


@define(eq=False)
class Unrouted:
    """A publish ended as unroutable: the broker has settled it after it returned the message."""

    token: Any
    message: Returned


@define(eq=False)
class Failed:
    """A request or a publish will get no answer."""

    token: Any
    #: An instance of this token's own.
    error: AMQPError


@define(eq=False)
class Requested:
    """The peer asks for something, with a content if the method has one: the server's role."""

    #: None on channel 0.
    channel: Channel | None
    method: Method
    content: Content | None = None


@define(eq=False)
class TooLarge:
    """A client has published more than the broker takes; the body was not kept."""

    channel: Channel
    #: How many bytes it had.
    size: int


@define(eq=False)
class Broken:
    """A client has broken the protocol: what came before is to be answered first."""

    #: A ``txamqpx.protocol.rulings.Breach``.
    error: Any


@define(eq=False)
class ConsumerCancelled:
    """The broker ended a consumer: its queue was deleted, failed over, or it timed out."""

    channel: Channel
    consumer_tag: str
    #: The token that came with ``basic.consume``; None if the tag is unknown.
    consumer: Any


@define(eq=False)
class FlowChanged:
    """The broker asks to stop publishing on a channel, or to go on."""

    channel: Channel
    active: bool


@define(eq=False)
class Blocked:
    """The broker has stopped reading from this connection."""

    reason: str


@define(eq=False)
class Unblocked:
    """The broker reads again."""


@define(eq=False)
class ChannelEnded:
    """A channel is over; all its tokens have come back before this."""

    channel: Channel
    error: Closed


@define(eq=False)
class ConnectionEnded:
    """The connection is over; all tokens have come back and all channels have ended before this."""

    error: AMQPError
    #: Write what is left, for the peer must hear why; else drop the transport at once.
    flush: bool


Event = (
    Tuned
    | Opened
    | Replied
    | Confirmed
    | Nacked
    | Unrouted
    | Failed
    | Requested
    | Published
    | Acked
    | TooLarge
    | Broken
    | Delivered
    | Returned
    | ConsumerCancelled
    | FlowChanged
    | Blocked
    | Unblocked
    | ChannelEnded
    | ConnectionEnded
)
