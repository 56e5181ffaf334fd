"""A message as a thread sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import execute

from txamqpx.blocking.operation import USUAL, Timeout
from txamqpx.message import Settlement

if TYPE_CHECKING:
    from txamqpx.blocking.calls import Calls
    from txamqpx.message import Delivery as Received
    from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Delivery", "for_threads"]


class Delivery:
    """A message that a consumer or ``get`` got; any thread may settle it.

    What it tells, and what settling means, is as for ``txamqpx.Delivery``.
    """

    __slots__ = ("_calls", "_received")

    def __init__(self, received: Received, calls: Calls) -> None:
        self._received = received
        self._calls = calls

    def __repr__(self) -> str:
        return repr(self._received)

    @property
    def body(self) -> bytes:
        """The content, bytes as they came."""
        return self._received.body

    @property
    def properties(self) -> BasicProperties:
        """The properties.

        Raises:
            DecodeError: Whoever published it made them wrong; ``header`` has the bytes.
        """
        return self._received.properties

    @property
    def header(self) -> bytes:
        """The properties in their encoded form."""
        return self._received.header

    @property
    def exchange(self) -> str:
        """Where it was published to."""
        return self._received.exchange

    @property
    def routing_key(self) -> str:
        """With which key."""
        return self._received.routing_key

    @property
    def redelivered(self) -> bool:
        """Whether it was given to somebody before."""
        return self._received.redelivered

    @property
    def delivery_tag(self) -> int:
        """Its number on its channel."""
        return self._received.delivery_tag

    @property
    def consumer_tag(self) -> str:
        """Whom it is for; empty after ``get``."""
        return self._received.consumer_tag

    @property
    def message_count(self) -> int | None:
        """How many are left in the queue after ``get``, else None."""
        return self._received.message_count

    @property
    def settled(self) -> bool:
        """Whether it was settled, or needed no settling."""
        return self._received.settled

    @property
    def stale(self) -> bool:
        """Whether the broker has taken it back."""
        return self._received.stale

    def ack(self, *, timeout: Timeout = USUAL) -> Settlement:
        """Tell the broker that the message is done with.

        Args:
            timeout: Seconds; it takes a moment of the reactor's thread, and the broker does not answer.

        Returns:
            ``SENT``, or ``STALE`` if the broker has taken the message back, and will give it out again.

        Raises:
            AlreadySettled: It was settled before, or came with ``no_ack``; nothing is sent.
        """
        return self._calls.finish("ack", lambda: execute(self._received.ack), timeout)

    def nack(self, *, requeue: bool = True, timeout: Timeout = USUAL) -> Settlement:
        """Give the message back, or with ``requeue=False`` drop it to where the queue dead-letters.

        Args:
            requeue: Whether it goes back to its queue.
            timeout: Seconds, as for ``ack``, as which it returns and raises.
        """
        return self._calls.finish("nack", lambda: execute(self._received.nack, requeue=requeue), timeout)

    def reject(self, *, requeue: bool = True, timeout: Timeout = USUAL) -> Settlement:
        """Refuse the message: it is given to somebody again, or with ``requeue=False`` dead-lettered.

        Args:
            requeue: Whether it goes back to its queue.
            timeout: Seconds, as for ``ack``, as which it returns and raises.
        """
        return self._calls.finish("reject", lambda: execute(self._received.reject, requeue=requeue), timeout)

    def release(self, *, timeout: Timeout = USUAL) -> Settlement:
        """Give the message to somebody else: it has not failed, and nothing counts against it (``nack``)."""
        return self.nack(requeue=True, timeout=timeout)

    def fail(self, *, timeout: Timeout = USUAL) -> Settlement:
        """Have the message tried again: this time it failed, which quorum queues count (``reject``)."""
        return self.reject(requeue=True, timeout=timeout)

    def discard(self, *, timeout: Timeout = USUAL) -> Settlement:
        """Never see the message again: it is dead-lettered where its queue says so, else dropped."""
        return self.reject(requeue=False, timeout=timeout)


def for_threads(received: Received | None, calls: Calls) -> Delivery | None:
    """Return what a thread gets in the place of what ``get`` got."""
    return None if received is None else Delivery(received, calls)
