"""What a channel does about exchanges, queues and bindings: who may, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from txamqpx.broker.roles import Channel
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["DECLARING"]


def _queue_declare(channel: Channel, method: amqp.QueueDeclare) -> Method:
    vhost, session = channel.vhost, channel.session
    if method.passive:
        queue = vhost.queue(channel.queue_name(method.queue), session)
    else:
        queue = vhost.declare_queue(
            method.queue,
            session,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=method.arguments or {},
        )
    queue.used()
    channel.last_queue = queue.name
    return amqp.QueueDeclareOk(queue.name, len(queue.ready), len(queue.consumers))


def _queue_delete(channel: Channel, method: amqp.QueueDelete) -> Method:
    queue = channel.vhost.queue(channel.queue_name(method.queue), channel.session)
    return amqp.QueueDeleteOk(channel.vhost.delete_queue(queue))


def _queue_purge(channel: Channel, method: amqp.QueuePurge) -> Method:
    queue = channel.vhost.queue(channel.queue_name(method.queue), channel.session)
    return amqp.QueuePurgeOk(queue.purge())


DECLARING: Mapping[int, Callable[[Channel, Any], Method | None]] = {
    amqp.QueueDeclare.index: _queue_declare,
    amqp.QueueDelete.index: _queue_delete,
    amqp.QueuePurge.index: _queue_purge,
}
