"""What a channel does about exchanges, queues and bindings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Channel
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["DECLARING"]

_LINE_BREAKS: Final = str.maketrans("", "", "\r\n")


def _name(text: str) -> str:
    """Return a name as RabbitMQ takes it, where it names what is declared, deleted or bound."""
    return text.translate(_LINE_BREAKS)


# --------------------------------------------------------------------------- exchanges


def _exchange_declare(channel: Channel, method: amqp.ExchangeDeclare) -> Method:
    exchanges, name = channel.vhost.exchanges, _name(method.exchange)
    if method.passive:
        exchanges.refuse_default(name)
        _look_up(channel, "exchange", name)
        exchanges[name]
    else:
        exchanges.declare(
            name,
            method.type,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=method.arguments or {},
            demand=channel.demand,
        )
    return amqp.ExchangeDeclareOk()


def _exchange_delete(channel: Channel, method: amqp.ExchangeDelete) -> Method:
    channel.vhost.exchanges.delete(_name(method.exchange), if_unused=method.if_unused, demand=channel.demand)
    return amqp.ExchangeDeleteOk()


def _exchange_bind(channel: Channel, method: amqp.ExchangeBind) -> Method:
    destination, source, key = _name(method.destination), _name(method.source), method.routing_key
    _demand_binding(channel, "exchange", destination, source, key)
    channel.vhost.bind_exchange(destination, source, key, method.arguments or {})
    return amqp.ExchangeBindOk()


def _exchange_unbind(channel: Channel, method: amqp.ExchangeUnbind) -> Method:
    destination, source, key = _name(method.destination), _name(method.source), method.routing_key
    _demand_binding(channel, "exchange", destination, source, key)
    channel.vhost.unbind_exchange(destination, source, key, method.arguments or {})
    return amqp.ExchangeUnbindOk()


# --------------------------------------------------------------------------- queues


def _queue_declare(channel: Channel, method: amqp.QueueDeclare) -> Method:
    vhost, session, name = channel.vhost, channel.session, _name(method.queue)
    if method.passive:
        _look_up(channel, "queue", name)
        queue = vhost.queue(name, session)
    else:
        queue = vhost.declare_queue(
            name,
            session,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=method.arguments or {},
            demand=channel.demand,
        )
    queue.used()
    channel.last_queue = queue.name
    return amqp.QueueDeclareOk(queue.name, queue.message_count, queue.consumer_count)


def _queue_delete(channel: Channel, method: amqp.QueueDelete) -> Method:
    name = channel.queue_name(_name(method.queue))
    channel.demand("configure", "queue", name)
    count = channel.vhost.delete_queue_if(
        name, channel.session, if_unused=method.if_unused, if_empty=method.if_empty
    )
    return amqp.QueueDeleteOk(count)


def _queue_purge(channel: Channel, method: amqp.QueuePurge) -> Method:
    name = channel.queue_name(method.queue)
    channel.demand("read", "queue", name)
    queue = channel.vhost.queue(name, channel.session)
    return amqp.QueuePurgeOk(queue.purge())


def _queue_bind(channel: Channel, method: amqp.QueueBind) -> Method:
    queue, key = _bound(channel, method)
    exchange = _name(method.exchange)
    _demand_binding(channel, "queue", queue, exchange, key)
    channel.vhost.bind_queue(queue, channel.session, exchange, key, method.arguments or {})
    return amqp.QueueBindOk()


def _queue_unbind(channel: Channel, method: amqp.QueueUnbind) -> Method:
    queue, key = _bound(channel, method)
    exchange = _name(method.exchange)
    _demand_binding(channel, "queue", queue, exchange, key)
    channel.vhost.unbind_queue(queue, channel.session, exchange, key, method.arguments or {})
    return amqp.QueueUnbindOk()


def _bound(channel: Channel, method: amqp.QueueBind | amqp.QueueUnbind) -> tuple[str, str]:
    """Return the queue and the routing key of a binding: where neither is named, the queue's name is both."""
    name = _name(method.queue)
    queue = channel.queue_name(name)
    return queue, method.routing_key if name or method.routing_key else queue


# --------------------------------------------------------------------------- rights


def _look_up(channel: Channel, kind: str, name: str) -> None:
    """Demand what it takes to hear whether something is there: no right, or any, by the release."""
    if not channel.vhost.broker.profile.passive_needs_right:
        return
    for right in ("read", "write"):
        with suppress(Refusal):
            channel.demand(right, kind, name)
            return
    channel.demand("configure", kind, name)


def _demand_binding(channel: Channel, kind: str, destination: str, exchange: str, routing_key: str) -> None:
    """Demand what it takes to bind, or to unbind."""
    exchanges = channel.vhost.exchanges
    if kind == "exchange":
        exchanges.refuse_default(destination)
    channel.demand("write", kind, destination)
    exchanges.refuse_default(exchange)
    channel.demand("read", "exchange", exchange)
    if exchange in exchanges and exchanges[exchange].kind == "topic":
        _demand_topic(channel, exchange, routing_key)


def _demand_topic(channel: Channel, exchange: str, routing_key: str) -> None:
    account = channel.session.account
    if account is not None and not account.may_use_topic(channel.vhost.name, exchange, "read", routing_key):
        raise channel.denial("read", f"topic '{routing_key}' in exchange '{exchange}'")


DECLARING: Mapping[int, Callable[[Channel, Any], Method | None]] = {
    amqp.ExchangeDeclare.index: _exchange_declare,
    amqp.ExchangeDelete.index: _exchange_delete,
    amqp.ExchangeBind.index: _exchange_bind,
    amqp.ExchangeUnbind.index: _exchange_unbind,
    amqp.QueueDeclare.index: _queue_declare,
    amqp.QueueDelete.index: _queue_delete,
    amqp.QueuePurge.index: _queue_purge,
    amqp.QueueBind.index: _queue_bind,
    amqp.QueueUnbind.index: _queue_unbind,
}
