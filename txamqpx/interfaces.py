"""The interfaces of this library, all of them in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Interface

if TYPE_CHECKING:
    from txamqpx.errors import AMQPError
    from txamqpx.message import Delivery, ReturnedMessage
    from txamqpx.protocol.events import Event

__all__ = ["IDelegate"]


class IDelegate(Interface):
    """What a connection tells its owner: each hook once per event, in wire order.

    A hook may return None, a Deferred or a coroutine.  What it raises is logged and goes no further.
    ``protocol`` is the ``AMQPProtocol``, ``channel`` its ``Channel``.
    """

    def connection_opened(protocol: object) -> object:
        """The handshake is done."""

    def connection_closed(protocol: object, reason: AMQPError) -> object:
        """The connection is over, and all its channels; nothing comes after this."""

    def connection_blocked(protocol: object, reason: str) -> object:
        """The broker has stopped reading: publishes, acks and calls wait until it is unblocked."""

    def connection_unblocked(protocol: object) -> object:
        """The broker reads again."""

    def connection_recovered(protocol: object) -> object:
        """What was lost is there again.  A connection does not recover by itself, so it never calls this."""

    def channel_closed(channel: object, reason: AMQPError) -> object:
        """A channel is over; its calls, publishes and consumers have ended with it."""

    def flow_changed(channel: object, active: bool) -> object:
        """The broker asks to stop publishing on the channel (False), or to go on (True)."""

    def message_delivered(channel: object, delivery: Delivery) -> object:
        """A consumer that has no function of its own got a message."""

    def message_returned(channel: object, message: ReturnedMessage) -> object:
        """A mandatory message reached no queue; in confirm mode its Deferred fails as well."""

    def publish_confirmed(channel: object, delivery_tag: int, multiple: bool) -> object:
        """The broker has confirmed the publish of that number, or all up to it."""

    def publish_nacked(channel: object, delivery_tag: int, multiple: bool) -> object:
        """The broker has refused the publish of that number, or all up to it."""

    def consumer_cancelled(channel: object, consumer_tag: str) -> object:
        """The broker has ended a consumer: its queue was deleted or failed over, or it was too slow."""

    def unhandled(channel: object, event: Event) -> object:
        """Something came that nobody waits for, such as a message for an unknown consumer, given back."""
