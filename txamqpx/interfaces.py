"""The interfaces of this library, all of them in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    def connection_opened(protocol: Any) -> object:
        """The handshake is done; told before ``when_open`` fires."""

    def connection_closed(protocol: Any, reason: AMQPError) -> object:
        """The connection is over, and all its channels; told after ``when_closed``, and nothing after it."""

    def connection_blocked(protocol: Any, reason: str) -> object:
        """The broker has stopped reading: publishes, acks and calls wait until it is unblocked."""

    def connection_unblocked(protocol: Any) -> object:
        """The broker reads again."""

    def connection_recovered(protocol: Any) -> object:
        """What was lost is there again.  A connection does not recover by itself, so it never calls this."""

    def channel_closed(channel: Any, reason: AMQPError) -> object:
        """A channel is over; its calls, publishes and consumers have ended with it."""

    def flow_changed(channel: Any, active: bool) -> object:
        """The broker asks to stop publishing on the channel (False), or to go on (True)."""

    def message_delivered(channel: Any, delivery: Delivery) -> object:
        """A consumer that has no function of its own got a message; one that is stale already is not told."""

    def message_returned(channel: Any, message: ReturnedMessage) -> object:
        """A mandatory message reached no queue; in confirm mode its Deferred fails as well."""

    def publish_confirmed(channel: Any, delivery_tag: int, multiple: bool) -> object:
        """The broker has confirmed the publish of that number, or all up to it."""

    def publish_nacked(channel: Any, delivery_tag: int, multiple: bool) -> object:
        """The broker has refused the publish of that number, or all up to it."""

    def consumer_cancelled(channel: Any, consumer_tag: str) -> object:
        """The broker has ended a consumer: its queue was deleted or failed over, or it was too slow."""

    def unhandled(channel: Any, event: Event) -> object:
        """Something came that nobody waits for, such as a message for an unknown consumer, given back."""
