"""From the core's events to Deferreds, consumers and hooks: what concerns channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import AlreadyCalledError, Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.delegates import Delegate
from txamqpx.errors import Nacked, Unroutable
from txamqpx.message import Confirmed, Delivery
from txamqpx.protocol import events
from txamqpx.spec.amqp0_9_1 import BasicConsumeOk

__all__ = ["ChannelEvents", "Hooks"]

FIRED = "the Deferred of a publish that number {tag} settles was fired by somebody else"


class Hooks:
    """A delegate whose failures stay local.

    Args:
        delegate: Provides ``IDelegate``.
    """

    log = Logger()

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate
        # Most delegates have no ear for confirms, and there is one for nearly every message.
        hook = getattr(delegate.publish_confirmed, "__func__", None)
        self.hears_confirms = hook is not Delegate.publish_confirmed

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call a hook of the delegate; what it raises is logged and goes no further."""
        try:
            result = getattr(self.delegate, hook)(*arguments)
            if result is not None:
                self.watch(result, f"the delegate's {hook}")
        except Exception:
            self.log.failure("the delegate's {hook} failed", hook=hook)

    def watch(self, result: object, what: str) -> None:
        """Log the failure of a Deferred or a coroutine that ``what`` returned."""
        if iscoroutine(result):
            result = ensureDeferred(result)
        if isinstance(result, Deferred):
            result.addErrback(lambda failure: self.log.failure("{what} failed", failure, what=what))


class ChannelEvents:
    """What happens on channels, told to whom it concerns.

    Args:
        hooks: The connection's delegate.
    """

    log = Logger()

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._spoken_of: set[Any] = set()
        #: Who waits until all has been told that was heard.
        self.listeners: list[Deferred[None]] = []
        #: What to do with each kind of event.
        self.table: Mapping[type[Any], Callable[[Any], object]] = {
            Delivery: self._delivered,
            events.Confirmed: self._confirmed,
            events.Nacked: self._nacked,
            events.Unrouted: self._unrouted,
            events.Replied: self._replied,
            events.Failed: self._failed,
            events.Returned: self._returned,
            events.ConsumerCancelled: self._consumer_cancelled,
            events.FlowChanged: self._flow_changed,
            events.ChannelEnded: self._channel_ended,
            events.Requested: self._requested,
        }

    def settle(self) -> bool:
        """Let go whoever waits for confirms, or else for the end: to be called when no event is left.

        Until then the ledger is ahead of the publishes' Deferreds.

        Returns:
            Whether somebody was let go, who may have caused more.
        """
        if self._spoken_of:
            while self._spoken_of:
                self._spoken_of.pop().confirms_settled()
            return True
        if self.listeners:
            self.listeners.pop(0).callback(None)
            return True
        return False

    def _delivered(self, delivery: Delivery) -> None:
        consumer = delivery.consumer
        if consumer is None:
            self._stray(delivery)
            return
        if delivery.stale:
            return  # the channel ended, or was to recover, in this turn: the message will come again
        try:
            result = consumer(delivery)
            if result is not None:
                self._hooks.watch(result, "a consumer")
        except Exception:
            self.log.failure("a consumer failed on {delivery}", delivery=delivery)

    def _stray(self, delivery: Delivery) -> None:
        # Left alone it would take up prefetch for ever.
        if not delivery.settled:
            delivery.nack()
        self._hooks.tell("unhandled", delivery.channel, delivery)

    def _confirmed(self, event: events.Confirmed) -> None:
        for tag, multiple, tokens in event.words:
            outcome = Confirmed(tag, multiple)
            for token in tokens:
                try:
                    token.callback(outcome)
                except AlreadyCalledError:  # somebody fired it himself: his neighbours are not to suffer
                    self.log.failure(FIRED, tag=tag)
        self._settled(event, "publish_confirmed")

    def _nacked(self, event: events.Nacked) -> None:
        for tag, _, tokens in event.words:
            for token in tokens:
                try:
                    token.errback(Failure(Nacked(f"the broker refused the message (number {tag})")))
                except AlreadyCalledError:
                    self.log.failure(FIRED, tag=tag)
        self._settled(event, "publish_nacked")

    def _settled(self, event: events.Settled, hook: str) -> None:
        channel = event.channel.owner
        self._spoken_of.add(channel)
        if self._hooks.hears_confirms or hook == "publish_nacked":
            for tag, multiple, _ in event.words:
                self._hooks.tell(hook, channel, tag, multiple)

    def _unrouted(self, event: events.Unrouted) -> None:
        message = event.message
        error = Unroutable.from_return(
            message.reply_code, message.reply_text, message.exchange, message.routing_key, message
        )
        event.token.errback(Failure(error))

    def _replied(self, event: events.Replied) -> None:
        token: Deferred[Any] = event.token
        late = token.called  # cancelled, or out of time: it swallows the answer
        token.callback(event.method)
        if late:
            self._undo(event)

    def _undo(self, event: events.Replied) -> None:
        """Take back what a call did for which nobody waits any more."""
        method = event.method
        if isinstance(method, Delivery):
            self._stray(method)
        elif isinstance(method, BasicConsumeOk) and event.channel is not None:
            event.channel.owner.basic_cancel(method.consumer_tag).addErrback(lambda _: None)

    def _failed(self, event: events.Failed) -> None:
        event.token.errback(Failure(event.error))

    def _returned(self, event: events.Returned) -> None:
        self._hooks.tell("message_returned", event.channel.owner, event)

    def _consumer_cancelled(self, event: events.ConsumerCancelled) -> None:
        event.channel.owner.consumer_cancelled(event.consumer_tag)
        self._hooks.tell("consumer_cancelled", event.channel.owner, event.consumer_tag)

    def _flow_changed(self, event: events.FlowChanged) -> None:
        event.channel.owner.flow_changed()
        self._hooks.tell("flow_changed", event.channel.owner, event.active)

    def _channel_ended(self, event: events.ChannelEnded) -> None:
        channel = event.channel.owner
        channel.ended(event.error)
        self._hooks.tell("channel_closed", channel, event.error)

    def _requested(self, event: events.Requested) -> None:
        self._hooks.tell("unhandled", event.channel and event.channel.owner, event)
