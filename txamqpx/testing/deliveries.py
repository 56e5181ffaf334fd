"""Deliveries that no broker has given, for tests of a handler alone."""

from __future__ import annotations

from typing import Literal, Unpack

from txamqpx.errors import EncodeError
from txamqpx.message import Delivery
from txamqpx.publishing.outgoing import PropertyFields, merge_properties
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicNack, BasicProperties, BasicReject
from txamqpx.testing.peer import ScriptedPeer, scripted

__all__ = ["RecordedDelivery", "Settled", "delivery"]

#: What a broker heard of a delivery; "requeue": it is given to somebody again, else it is dead-lettered.
Settled = Literal["ack", "nack", "nack requeue", "reject", "reject requeue"]


class RecordedDelivery(Delivery):
    """A delivery that knows what it was settled with; ``delivery`` makes one.

    Attributes:
        peer: Who has delivered it, for tests of handlers that ask more of ``channel`` than to settle: what
            they have sent is what ``peer.expect`` gets.
    """

    __slots__ = ("peer",)

    peer: ScriptedPeer

    @property
    def settlement(self) -> Settled | None:
        """What the broker has heard of it; None: nothing yet."""
        self.peer.wire.pump()
        for heard in self.peer.heard:
            method = heard.method
            if isinstance(method, BasicReject):
                return "reject requeue" if method.requeue else "reject"
            if isinstance(method, BasicNack):
                return "nack requeue" if method.requeue else "nack"
            if isinstance(method, BasicAck):
                return "ack"
        return None


def delivery(
    body: bytes = b"",
    *,
    exchange: str = "",
    routing_key: str = "",
    redelivered: bool = False,
    no_ack: bool = False,
    consumer_tag: str = "ctag-1.1",
    delivery_tag: int = 1,
    properties: BasicProperties | None = None,
    **fields: Unpack[PropertyFields],
) -> RecordedDelivery:
    """Make what a handler is called with.

    It is a real delivery, of a channel of its own, and all that it does is real but the broker, which only
    listens: settling it twice raises what it always raises.

    ::

        message = delivery(b"{}", routing_key="order.created", headers={"tenant": "de"})
        handle(message)
        assert message.settlement == "ack"

    That a handler returns, or raises, settles nothing by itself: a consumer does that.

    Args:
        body: The content.
        exchange: Where it was published to.
        routing_key: With which key.
        redelivered: Whether it was given to somebody before.
        no_ack: Whether it needs no settling, as with ``ack="none"``.
        consumer_tag: Whom it is for.
        delivery_tag: Its number on its channel.
        properties: Those of the content.
        fields: Properties by their names, such as ``headers`` and ``message_id``; they go before
            ``properties``.

    Raises:
        EncodeError: Something does not fit on the wire.
    """
    if not isinstance(body, bytes):
        raise EncodeError(f"must be bytes, not {type(body).__name__}", "body")
    header = merge_properties(properties, fields).encode()
    peer = scripted(heartbeat=0)
    peer.open(heartbeat=0)
    core = peer.open_channel().core
    made = RecordedDelivery(
        core, None, consumer_tag, delivery_tag, redelivered, exchange, routing_key, settled=no_ack
    )
    made.header, made.body, made.peer = header, body, peer
    core.unsettled.add(made)
    return made
