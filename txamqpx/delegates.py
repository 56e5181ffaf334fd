"""A delegate to inherit from: every hook is there and does nothing, or says so in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from txamqpx.interfaces import IDelegate

if TYPE_CHECKING:
    from txamqpx.errors import AMQPError
    from txamqpx.message import Delivery, ReturnedMessage
    from txamqpx.protocol.events import Event

__all__ = ["Delegate"]


@implementer(IDelegate)
class Delegate:
    """Hooks to override; see ``IDelegate`` for what each one means."""

    log = Logger()

    def connection_opened(self, protocol: Any) -> object:
        """The handshake is done."""
        return None

    def connection_closed(self, protocol: Any, reason: AMQPError) -> object:
        """The connection is over."""
        return None

    def connection_blocked(self, protocol: Any, reason: str) -> object:
        """The broker has stopped reading."""
        self.log.warn("{protocol} is blocked by the broker: {reason}", protocol=protocol, reason=reason)
        return None

    def connection_unblocked(self, protocol: Any) -> object:
        """The broker reads again."""
        self.log.info("{protocol} is not blocked any more", protocol=protocol)
        return None

    def connection_recovered(self, protocol: Any) -> object:
        """What was lost is there again; a connection itself never calls this."""
        return None

    def channel_closed(self, channel: Any, reason: AMQPError) -> object:
        """A channel is over."""
        return None

    def flow_changed(self, channel: Any, active: bool) -> object:
        """The broker asks to stop publishing, or to go on."""
        return None

    def message_delivered(self, channel: Any, delivery: Delivery) -> object:
        """A consumer without a function of its own got a message."""
        self.log.warn("{delivery} has no consumer; it stays unsettled", delivery=delivery)
        return None

    def message_returned(self, channel: Any, message: ReturnedMessage) -> object:
        """A mandatory message reached no queue."""
        return None

    def publish_confirmed(self, channel: Any, delivery_tag: int, multiple: bool) -> object:
        """The broker has confirmed a publish."""
        return None

    def publish_nacked(self, channel: Any, delivery_tag: int, multiple: bool) -> object:
        """The broker has refused a publish."""
        return None

    def consumer_cancelled(self, channel: Any, consumer_tag: str) -> object:
        """The broker has ended a consumer."""
        self.log.warn(
            "consumer {tag} on {channel} was cancelled by the broker", tag=consumer_tag, channel=channel
        )
        return None

    def unhandled(self, channel: Any, event: Event) -> object:
        """Something came that nobody waits for."""
        self.log.warn("{channel}: nobody waits for {event}", channel=channel, event=event)
        return None
