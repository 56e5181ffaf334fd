"""Direct reply-to: a channel consumes replies to its requests without a queue of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from txamqpx.broker.consuming import CONSUMING, Consumes
from txamqpx.broker.declaring import DECLARING
from txamqpx.broker.message import Message
from txamqpx.broker.random_name import random_name
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.reply_to import NAME, ReplyTo
from txamqpx.protocol.delivering import DeliverFrames
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["DIRECT_REPLY", "ReplyConsumer"]


class ReplyConsumer:
    """A channel's consumer of replies, of which there can be one.

    Args:
        channel: The channel.
    """

    def __init__(self, channel: Consumes) -> None:
        self._channel = channel
        self._tag = ""
        self._address: ReplyTo | None = None
        self._frames = DeliverFrames(channel.core)

    @property
    def address(self) -> str:
        """Where replies to this channel go.

        Raises:
            Refusal: 406, it consumes none.
        """
        if self._address is None:
            raise Refusal(406, "fast reply consumer does not exist")
        return self._address.name

    def consume(self, method: amqp.BasicConsume) -> Method:
        """Begin to consume replies."""
        channel = self._channel
        if method.consumer_tag in channel.consuming.consumers:
            raise Refusal(530, f"attempt to reuse consumer tag '{method.consumer_tag}'")
        if not method.no_ack:
            raise Refusal(406, "reply consumer cannot acknowledge")
        if self._address is not None:
            raise Refusal(406, "reply consumer already set")
        self._tag = method.consumer_tag or random_name("ctag")
        self._address = channel.vhost.replies.open(self._deliver)
        return amqp.BasicConsumeOk(self._tag)

    def cancel(self, tag: str) -> bool:
        """Consume no more, if ``tag`` is that of the consumer; return whether it is."""
        if self._address is None or tag != self._tag:
            return False
        self.end()
        return True

    def end(self) -> None:
        """Consume no more: the address leads nowhere."""
        address, self._address = self._address, None
        if address is not None:
            self._channel.vhost.replies.close(address)

    def _deliver(self, message: Message) -> None:
        # Who replies on this very connection hears first that the reply was taken.
        self._channel.session.at_end(partial(self._write, message))

    def _write(self, message: Message) -> None:
        channel = self._channel
        if self._address is None or not channel.session.takes_reply():
            return
        unsettled = channel.consuming.unsettled
        tag = unsettled.last + 1
        if channel.vhost.broker.profile.replies_are_queues:
            unsettled.last = tag
        self._frames.send(
            self._tag, tag, False, message.exchange, message.routing_key, message.header, message.body
        )


class Asks(Consumes, Protocol):
    """A channel on which replies can be consumed."""

    @property
    def replies(self) -> ReplyConsumer:
        """Who consumes them."""


def _consume(channel: Asks, method: amqp.BasicConsume) -> Method | None:
    if channel.queue_name(method.queue) == NAME:
        return channel.replies.consume(method)
    if channel.vhost.replies.is_queue(method.queue):
        where = f"queue '{method.queue}' in vhost '{channel.vhost.name}'"
        raise Refusal(406, f"only creator channel may consume from {where}")
    return CONSUMING[method.index](channel, method)


def _cancel(channel: Asks, method: amqp.BasicCancel) -> Method | None:
    if channel.replies.cancel(method.consumer_tag):
        return amqp.BasicCancelOk(method.consumer_tag)
    return CONSUMING[method.index](channel, method)


def _declare(channel: Asks, method: amqp.QueueDeclare) -> Method | None:
    if not method.queue.startswith(NAME):
        return DECLARING[method.index](channel, method)
    channel.vhost.replies.declared(method.queue)
    channel.last_queue = method.queue
    return amqp.QueueDeclareOk(method.queue, 0, 1)


def _get(channel: Asks, method: amqp.BasicGet) -> Method | None:
    if channel.vhost.replies.is_queue(method.queue):
        where = f"queue '{method.queue}' in vhost '{channel.vhost.name}'"
        raise Refusal(540, f"basic.get not supported by volatile {where}")
    return CONSUMING[method.index](channel, method)


def _purge(channel: Asks, method: amqp.QueuePurge) -> Method | None:
    if channel.vhost.replies.is_queue(method.queue):
        return amqp.QueuePurgeOk(0)
    return DECLARING[method.index](channel, method)


def _bind(channel: Asks, method: amqp.QueueBind) -> Method | None:
    if channel.vhost.replies.is_queue(method.queue):
        raise Refusal(403, "cannot bind or unbind to a volatile (direct reply-to) queue")
    return DECLARING[method.index](channel, method)


#: What channels do that replies have a part in; the rest of it is done by whoever does it elsewhere.
DIRECT_REPLY: Mapping[int, Callable[[Any, Any], Method | None]] = {
    amqp.BasicConsume.index: _consume,
    amqp.BasicCancel.index: _cancel,
    amqp.BasicGet.index: _get,
    amqp.QueueDeclare.index: _declare,
    amqp.QueuePurge.index: _purge,
    amqp.QueueBind.index: _bind,
}
