"""What a program holds of a message: what it got, what came back, what became of it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from txamqpx.errors import AlreadySettled
from txamqpx.protocol.events import Delivered, Returned
from txamqpx.spec.amqp0_9_1 import BasicNack, BasicProperties, BasicReject

__all__ = ["Confirmed", "Delivery", "ReturnedMessage", "Settlement"]

#: A mandatory message that came back: ``reply_code``, ``reply_text``, ``exchange``, ``routing_key``,
#: ``body`` and ``properties``.
ReturnedMessage = Returned


class Settlement(Enum):
    """What came of settling a delivery."""

    #: The broker will hear of it.
    SENT = "sent"
    #: The channel that gave the delivery is gone, or has recovered; the broker has put the message back.
    STALE = "stale"


class Confirmed:
    """The broker took responsibility for a message: what the Deferred of a publish fires with.

    Attributes:
        delivery_tag: The number in the broker's confirm, which may have covered others too.
        multiple: Whether it covered all numbers up to that one.
    """

    __slots__ = ("delivery_tag", "multiple")

    def __init__(self, delivery_tag: int, multiple: bool) -> None:
        self.delivery_tag = delivery_tag
        self.multiple = multiple

    def __repr__(self) -> str:
        return f"Confirmed({self.delivery_tag}{', multiple' * self.multiple})"


class Delivery(Delivered):
    """A message that a consumer or ``basic_get`` got.

    Attributes:
        body: The content, bytes as they came.
        header: The properties in their encoded form.
        delivery_tag: Its number on its channel.
        consumer_tag: Whom it is for; empty after ``basic_get``.
        redelivered: Whether it was given to somebody before.
        exchange: Where it was published to.
        routing_key: With which key.
        settled: True once it was settled, and from the start for ``no_ack``.
        stale: True once the broker has taken it back: its channel ended, or was asked to recover.
        message_count: How many are left in the queue after ``basic_get``, else None.
    """

    __slots__ = ()

    @property
    def channel(self) -> Any:
        """The channel that gave it, a ``txamqpx.channel.Channel``."""
        return self.core.owner

    @property
    def properties(self) -> BasicProperties:
        """The properties, decoded when first asked for.

        Raises:
            DecodeError: Whoever published it made them wrong; ``header`` has the bytes.
        """
        properties = Delivered.properties.__get__(self)
        assert isinstance(properties, BasicProperties)
        return properties

    def ack(self) -> Settlement:
        """Tell the broker that the message is done with.

        Returns:
            ``SENT``, or ``STALE`` if the channel that gave it is gone, or has been asked to recover: then
            nothing is sent, and the message will come again.

        Raises:
            AlreadySettled: It was settled before, or came with ``no_ack``; nothing is sent.
        """
        if self.settled:
            return self._settled_before()
        self.core.ack(self.delivery_tag)
        return Settlement.SENT

    def nack(self, *, requeue: bool = True) -> Settlement:
        """Give the message back, or with ``requeue=False`` drop it to where the queue dead-letters.

        On quorum queues since RabbitMQ 4.3 a nack does not count as a failed delivery; ``reject`` does.

        Returns and raises as ``ack`` does.
        """
        if self.settled:
            return self._settled_before()
        self.core.send(BasicNack(self.delivery_tag, False, requeue))
        return Settlement.SENT

    def reject(self, *, requeue: bool = True) -> Settlement:
        """Refuse the message: it is given to somebody again, or with ``requeue=False`` dead-lettered.

        Returns and raises as ``ack`` does.
        """
        if self.settled:
            return self._settled_before()
        self.core.send(BasicReject(self.delivery_tag, requeue))
        return Settlement.SENT

    def release(self) -> Settlement:
        """Give the message to somebody else: it has not failed, and nothing counts against it (``nack``)."""
        return self.nack(requeue=True)

    def fail(self) -> Settlement:
        """Have the message tried again: this time it failed, which quorum queues count (``reject``)."""
        return self.reject(requeue=True)

    def discard(self) -> Settlement:
        """Never see the message again: it is dead-lettered where its queue says so, else dropped."""
        return self.reject(requeue=False)

    def _settled_before(self) -> Settlement:
        if self.stale or self.core.error is not None:
            return Settlement.STALE
        error = AlreadySettled(f"{self!r} is settled, or needed no settling", reply_code=406)
        place = self.core.unsettled.place(self.delivery_tag)
        if place is not None:
            error.add_note(f"It was settled here:\n{place}")
        raise error
