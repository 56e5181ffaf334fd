"""The consumer's side of a channel: deliveries out, acks in."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from txamqpx.broker.consumer import Consumer
from txamqpx.broker.message import Entry, Keeper
from txamqpx.broker.queue import Queue
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Channel
from txamqpx.protocol.delivering import DeliverFrames
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["CONSUMING", "Consuming"]


class Consuming:
    """A channel's consumers, and what it has not settled.

    Args:
        channel: The channel.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.consumers: dict[str, Consumer] = {}
        #: What was given out and waits to be settled, by delivery tag.
        self.unsettled: dict[int, Entry] = {}
        #: How many messages a new consumer may have unsettled; 0: any number.
        self.prefetch = 0
        #: How many all consumers of the channel may have.
        self.limit = 0
        self._last_tag = 0
        self._frames: DeliverFrames | None = None

    # ----------------------------------------------------------------------- deliveries

    def can_take(self, consumer: Consumer) -> bool:
        """Return whether a consumer that has credit of its own may take a message now."""
        if self.limit and len(self.unsettled) >= self.limit:
            return False
        session = self.channel.session
        if session.writable:
            return True
        session.stall(consumer.queue)
        return False

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Write a delivery."""
        tag = self._last_tag = self._last_tag + 1
        if not consumer.no_ack:
            entry.consumer = consumer
            consumer.unsettled += 1
            self.unsettled[tag] = entry
        message = entry.message
        frames = self._frames
        if frames is None:
            frames = self._frames = DeliverFrames(self.channel.core)
        frames.send(
            consumer.tag,
            tag,
            entry.redelivered,
            message.exchange,
            message.routing_key,
            message.header,
            message.body,
        )

    def get(self, queue: Queue, *, no_ack: bool) -> Method | None:
        """Answer a ``basic.get``."""
        entry = queue.get(no_ack=no_ack)
        if entry is None:
            return amqp.BasicGetEmpty()
        tag = self._last_tag = self._last_tag + 1
        if not no_ack:
            self.unsettled[tag] = entry
        message = entry.message
        method = amqp.BasicGetOk(
            tag, entry.redelivered, message.exchange, message.routing_key, len(queue.ready)
        )
        self.channel.core.send_content(method, message.properties, message.body)
        return None

    # ----------------------------------------------------------------------- settling

    def ack(self, words: list[tuple[int, bool]]) -> None:
        """Settle deliveries, and give out what there is room for then."""
        queues: dict[Keeper, None] = {}
        for tag, multiple in words:
            for entry in self._take(tag, multiple):
                entry.queue.ack(entry)
                queues[entry.queue] = None
        for queue in queues:
            queue.dispatch()

    def put_back(self, tag: int, multiple: bool, *, requeue: bool) -> None:
        """Take deliveries back, or drop them."""
        entries = self._take(tag, multiple)
        queues = dict.fromkeys(entry.queue for entry in entries)
        for queue in queues:
            mine = [entry for entry in entries if entry.queue is queue]
            if requeue:
                queue.requeue(mine)
            else:
                for entry in mine:
                    queue.reject(entry)
                queue.dispatch()

    def _take(self, tag: int, multiple: bool) -> list[Entry]:
        unsettled = self.unsettled
        if not multiple:
            entry = unsettled.pop(tag, None)
            if entry is None:
                raise Refusal(406, f"unknown delivery tag {tag}")
            taken = [entry]
        else:
            if tag and tag not in unsettled:
                raise Refusal(406, f"unknown delivery tag {tag}")
            tags = [one for one in unsettled if not tag or one <= tag]
            taken = [unsettled.pop(one) for one in tags]
        for entry in taken:
            if entry.consumer is not None:
                entry.consumer.unsettled -= 1
        return taken

    # ----------------------------------------------------------------------- consumers

    def add(self, method: amqp.BasicConsume, queue: Queue) -> Consumer:
        """Make a consumer; it has no message before its answer is written."""
        tag = method.consumer_tag
        if not tag:
            tag = f"amq.ctag-{base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip('=')}"
        if tag in self.consumers:
            raise Refusal(530, f"attempt to reuse consumer tag '{tag}'")
        consumer = self.consumers[tag] = Consumer(
            tag,
            queue,
            self,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            arguments=method.arguments or {},
            limit=self.prefetch,
        )
        return consumer

    def cancel(self, tag: str) -> None:
        """End a consumer; what it has not settled stays."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)

    def cancelled_by_queue(self, consumer: Consumer) -> None:
        """Tell the client that a consumer's queue is gone."""
        del self.consumers[consumer.tag]
        if "consumer_cancel_notify" in self.channel.session.capabilities:
            self.channel.core.send(amqp.BasicCancel(consumer.tag, True))

    def end(self) -> None:
        """End all consumers, and put back what is not settled."""
        for tag in list(self.consumers):
            self.cancel(tag)
        self.put_back(0, True, requeue=True)


class ConsumingChannel(Channel, Protocol):
    """A channel, as what is asked of its consumers sees it."""

    @property
    def consuming(self) -> Consuming:
        """Its consumers."""


def _qos(channel: ConsumingChannel, method: amqp.BasicQos) -> Method:
    if method.prefetch_size:
        raise Refusal(540, f"prefetch_size!=0 ({method.prefetch_size})")
    if method.global_:
        channel.consuming.limit = method.prefetch_count
    else:
        channel.consuming.prefetch = method.prefetch_count
    return amqp.BasicQosOk()


def _consume(channel: ConsumingChannel, method: amqp.BasicConsume) -> None:
    queue = channel.vhost.queue(channel.queue_name(method.queue), channel.session)
    consumer = channel.consuming.add(method, queue)
    if not method.no_wait:
        channel.core.send(amqp.BasicConsumeOk(consumer.tag))
    queue.add_consumer(consumer)
    queue.dispatch()


def _cancel(channel: ConsumingChannel, method: amqp.BasicCancel) -> Method:
    channel.consuming.cancel(method.consumer_tag)
    return amqp.BasicCancelOk(method.consumer_tag)


def _get(channel: ConsumingChannel, method: amqp.BasicGet) -> Method | None:
    queue = channel.vhost.queue(channel.queue_name(method.queue), channel.session)
    return channel.consuming.get(queue, no_ack=method.no_ack)


def _nack(channel: ConsumingChannel, method: amqp.BasicNack) -> None:
    channel.consuming.put_back(method.delivery_tag, method.multiple, requeue=method.requeue)


def _reject(channel: ConsumingChannel, method: amqp.BasicReject) -> None:
    channel.consuming.put_back(method.delivery_tag, False, requeue=method.requeue)


CONSUMING: Mapping[int, Callable[[ConsumingChannel, Any], Method | None]] = {
    amqp.BasicQos.index: _qos,
    amqp.BasicConsume.index: _consume,
    amqp.BasicCancel.index: _cancel,
    amqp.BasicGet.index: _get,
    amqp.BasicNack.index: _nack,
    amqp.BasicReject.index: _reject,
}
