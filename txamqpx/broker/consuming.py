"""The consumer's side of a channel: consumers, and deliveries to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from weakref import WeakValueDictionary

from txamqpx.broker.consumer import Consumer
from txamqpx.broker.message import Entry
from txamqpx.broker.queue import Queue
from txamqpx.broker.random_name import random_name
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Channel
from txamqpx.broker.terms import type_name
from txamqpx.broker.unsettled import Unsettled, too_late
from txamqpx.errors import EncodeError
from txamqpx.protocol.delivering import DeliverFrames, hand_over
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["CONSUMING", "Consuming"]


class Consuming:
    """A channel's consumers.

    Args:
        channel: The channel.

    Attributes:
        consumers: The consumers by tag.
        unsettled: What the channel was given.
        prefetch: How many messages a new consumer may have unsettled; 0: any number.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.consumers: dict[str, Consumer] = {}
        self.unsettled = Unsettled(channel)
        # Consumers that were cancelled, by their tags, as long as what they have keeps them.
        self._former: WeakValueDictionary[str, Consumer] = WeakValueDictionary()
        self.prefetch = 0
        self._frames: DeliverFrames | None = None

    # ----------------------------------------------------------------------- deliveries

    def can_take(self, consumer: Consumer) -> bool:
        """Return whether a consumer that has credit of its own may take a message now."""
        if self.unsettled.limit and self.unsettled.is_full(consumer):
            return False
        session = self.channel.session
        if session.writable:
            return True
        session.stall(consumer.queue)
        return False

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Write a delivery."""
        unsettled = self.unsettled
        tag = unsettled.last = unsettled.last + 1
        if not consumer.no_ack:
            entry.consumer = consumer
            consumer.unsettled += 1
            unsettled.held[tag] = entry
            if unsettled.minds:
                unsettled.given(entry)
        message = entry.message
        frames = self._frames
        if frames is None:
            frames = self._frames = DeliverFrames(self.channel.core)
        try:
            frames.send(
                consumer.tag,
                tag,
                entry.redelivered,
                message.exchange,
                message.routing_key,
                message.header,
                message.body,
            )
        except EncodeError:  # a dead letter's routing key may be longer than any that is published
            self.channel.session.refuse(Refusal(541, ""))

    def get(self, queue: Queue, *, no_ack: bool) -> Method | None:
        """Answer a ``basic.get``."""
        entry = queue.get(no_ack=no_ack)
        if entry is None:
            return amqp.BasicGetEmpty()
        unsettled = self.unsettled
        unsettled.last += 1
        if not no_ack:
            unsettled.add(entry)
            queue.fetched(entry, self)
        message = entry.message
        method = amqp.BasicGetOk(
            unsettled.last, entry.redelivered, message.exchange, message.routing_key, queue.message_count
        )
        try:
            hand_over(self.channel.core, method, message.header, message.body)
        except EncodeError:
            raise Refusal(541, "") from None
        return None

    def ack(self, words: list[tuple[int, bool]]) -> None:
        """Settle deliveries, and give out what there is room for then."""
        self.unsettled.ack(words)

    # ----------------------------------------------------------------------- consumers

    def add(self, method: amqp.BasicConsume) -> None:
        """Make a consumer; it has no message before its answer is written."""
        channel, tag = self.channel, method.consumer_tag
        if tag in self.consumers:
            raise Refusal(530, f"attempt to reuse consumer tag '{tag}'")
        queue = _readable(channel, method.queue)
        arguments = method.arguments or {}
        check(queue, arguments)
        queue.admit(exclusive=method.exclusive, limited=bool(self.unsettled.limit))
        consumer = Consumer(
            tag or random_name("ctag"),
            queue,
            self,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            arguments=arguments,
            prefetch=self.prefetch,
        )
        former = self._former.pop(consumer.tag, None)
        if former is not None and former.queue is queue:
            former.heir = consumer
            if queue.knows_tags_again:
                consumer.unsettled = former.unsettled
        self.consumers[consumer.tag] = consumer
        if not method.no_wait:
            channel.core.send(amqp.BasicConsumeOk(consumer.tag))
        queue.add_consumer(consumer)

    def cancel(self, tag: str) -> None:
        """End a consumer; what it has not settled stays."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            if consumer.unsettled:
                self._former[tag] = consumer
            consumer.queue.remove_consumer(consumer)

    def cancelled_by_queue(self, consumer: Consumer) -> None:
        """Tell the client that a consumer's queue is gone."""
        del self.consumers[consumer.tag]
        self._tell_cancelled(consumer)

    def released(self, consumer: Consumer) -> bool:
        """Tell the client that a consumer was too slow; return whether it has, and understands that.

        The consumer stays, and gets more once all is settled (RabbitMQ 4.3).
        """
        return self.consumers.get(consumer.tag) is consumer and self._tell_cancelled(consumer)

    def too_late(self) -> None:
        """End the channel, which has not settled something in time, unless it is over."""
        if not self.channel.closed:
            self.channel.refuse(too_late(self.channel.core.number, -1))

    def _tell_cancelled(self, consumer: Consumer) -> bool:
        if "consumer_cancel_notify" not in self.channel.session.capabilities:
            return False
        self.channel.core.send(amqp.BasicCancel(consumer.tag, True))
        return True

    def end(self) -> None:
        """End all consumers, and put back what is not settled."""
        for consumer in self.consumers.values():
            consumer.limit = 0  # or one would get what another one leaves
        for tag in list(self.consumers):
            self.cancel(tag)
        self.unsettled.end()


# --------------------------------------------------------------------------- arguments


def check(queue: Queue, arguments: Mapping[str, Any]) -> None:
    """Look at what came with ``basic.consume``.

    Raises:
        Refusal: 406, something is not what it should be, or not for queues of this kind.
    """
    where = f"queue '{queue.name}' in vhost '{queue.vhost.name}'"
    known, foreign = queue.consumer_arguments
    for name in known:
        if name not in arguments:
            continue
        value = arguments[name]
        if type(value) is not int:
            raise Refusal(
                406, f"invalid arg '{name}' for {where}: \"expected integer, got {type_name(value)}\""
            )
        if value < 0 and name == "x-consumer-timeout":
            raise Refusal(406, f"invalid arg '{name}' for {where}: {{value_negative,{value}}}")
    for name in arguments:
        if name in foreign:
            raise Refusal(406, f"invalid arg '{name}' for {where} of queue type rabbit_{queue.kind}_queue")


# --------------------------------------------------------------------------- methods


class Consumes(Channel, Protocol):
    """A channel with a consumer's side."""

    @property
    def consuming(self) -> Consuming:
        """That side of it."""


def _qos(channel: Consumes, method: amqp.BasicQos) -> Method:
    if method.prefetch_size:
        raise Refusal(540, f"prefetch_size!=0 ({method.prefetch_size})")
    consuming = channel.consuming
    if method.global_ and channel.vhost.broker.profile.channel_limits:
        consuming.unsettled.limit_to(method.prefetch_count)
    else:
        consuming.prefetch = method.prefetch_count
        consuming.unsettled.limit_to(0)
    return amqp.BasicQosOk()


def _consume(channel: Consumes, method: amqp.BasicConsume) -> None:
    channel.consuming.add(method)


def _cancel(channel: Consumes, method: amqp.BasicCancel) -> None:
    # The answer comes first: what a consumer leaves may go to another one of this channel at once.
    if not method.no_wait:
        channel.core.send(amqp.BasicCancelOk(method.consumer_tag))
    channel.consuming.cancel(method.consumer_tag)


def _cancel_ok(channel: Consumes, method: amqp.BasicCancelOk) -> None:
    if not channel.vhost.broker.profile.hears_cancel_ok:
        raise Refusal(503, "unimplemented method")
    channel.consuming.cancel(method.consumer_tag)


def _readable(channel: Channel, name: str) -> Queue:
    """Return a queue that messages may be taken from."""
    name = channel.queue_name(name)
    channel.demand("read", "queue", name)
    return channel.vhost.queue(name, channel.session)


def _get(channel: Consumes, method: amqp.BasicGet) -> Method | None:
    queue = _readable(channel, method.queue)
    return channel.consuming.get(queue, no_ack=method.no_ack)


def _nack(channel: Consumes, method: amqp.BasicNack) -> None:
    failed = channel.vhost.broker.profile.nack_fails
    _give_up(channel, method, multiple=method.multiple, failed=failed)


def _reject(channel: Consumes, method: amqp.BasicReject) -> None:
    _give_up(channel, method, multiple=False, failed=True)


def _give_up(
    channel: Consumes, method: amqp.BasicNack | amqp.BasicReject, *, multiple: bool, failed: bool
) -> None:
    unsettled = channel.consuming.unsettled
    entries = unsettled.take(method.delivery_tag, multiple)
    settle = unsettled.put_back if method.requeue else unsettled.discard
    settle(entries, failed=failed)


def _recover_async(channel: Consumes, method: amqp.BasicRecoverAsync) -> None:
    _recover(channel, method.requeue, None)


def _recover_sync(channel: Consumes, method: amqp.BasicRecover) -> None:
    # The answer comes first: a client takes what it was given before as void then.
    _recover(channel, method.requeue, amqp.BasicRecoverOk())


def _recover(channel: Consumes, requeue: bool, answer: Method | None) -> None:
    if not requeue:
        raise Refusal(540, "requeue=false")
    if answer is not None:
        channel.core.send(answer)
    unsettled = channel.consuming.unsettled
    unsettled.put_back(unsettled.take(0, True), failed=channel.vhost.broker.profile.nack_fails)


CONSUMING: Mapping[int, Callable[[Any, Any], Method | None]] = {
    amqp.BasicQos.index: _qos,
    amqp.BasicConsume.index: _consume,
    amqp.BasicCancel.index: _cancel,
    amqp.BasicCancelOk.index: _cancel_ok,
    amqp.BasicGet.index: _get,
    amqp.BasicNack.index: _nack,
    amqp.BasicReject.index: _reject,
    amqp.BasicRecover.index: _recover_sync,
    amqp.BasicRecoverAsync.index: _recover_async,
}
