"""What the peer sends on a channel on its own account: deliveries, returns, confirms, cancels, closes.

Each function takes one method, from its first argument on, and returns the offset behind everything
that it read: where a whole content lies behind the method, that is taken in the same step.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from txamqpx.errors import ChannelClosed, EncodeError, RemoteProtocolError, caused
from txamqpx.protocol import events
from txamqpx.protocol.channel import ChannelCore, Waiting
from txamqpx.protocol.content import whole_content
from txamqpx.protocol.frames import END
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import truncated
from txamqpx.spec.wire import decode_short_string

__all__ = ["CLIENT_HANDLERS", "SERVER_HANDLERS", "WHILE_CLOSING", "Handler"]

_unpack_tag_and_bits = struct.Struct(">QB").unpack_from

_BASIC = amqp.BasicProperties.class_id

# Names are kept as they stand on the wire; routing keys without end are not.
_MAX_NAMES = 512

Handler = Callable[[ChannelCore, bytes, int, int], int]


def _deliver(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    # This runs for every message, so it is basic.deliver written out: the generated decoder would make an
    # object only to be taken apart.
    try:
        stop = offset + 1 + data[offset]
        consumer = channel.consumers.get(data[offset + 1 : stop])
        tag, redelivered = _unpack_tag_and_bits(data, stop)
    except (IndexError, struct.error):
        raise truncated("basic.deliver") from None
    names = data[stop + 9 : end]
    exchange, routing_key = channel.names.get(names) or _learn_names(channel, names)
    if consumer is None:
        channel.strays += 1
        consumer = channel.stranger(amqp.BasicDeliver.decode(data, offset, end).consumer_tag)
    connection = channel.connection
    delivery = connection.delivery(
        channel,
        consumer.token,
        consumer.tag,
        tag,
        redelivered & 1 != 0,
        exchange,
        routing_key,
        consumer.no_ack,
    )
    # Most messages of a queue have the same properties and size as the one before: then their header frames
    # and the heads of their body frames are the same bytes, and one comparison stands for reading both.
    lead = channel.lead
    start = end + 1 + len(lead)
    stop = start + channel.lead_size
    if lead and data.startswith(lead, end + 1) and stop < len(data) and data[stop] == END:
        delivery.header = channel.lead_header
        delivery.body = data[start:stop]
        channel.unsettled.add(delivery)
        connection.events.append(delivery)
        return stop + 1
    content = whole_content(
        data, end + 1, channel.number, _BASIC, connection.payload_limit, connection.max_message_size
    )
    if content is None:
        channel.await_content("basic.deliver", _BASIC, partial(_delivered, delivery))
        return end + 1
    header, body, after = content
    if body:
        channel.lead = data[end + 1 : after - len(body) - 1]
        channel.lead_header, channel.lead_size = header, len(body)
    _delivered(delivery, header, body)
    return after


def _learn_names(channel: ChannelCore, raw: bytes) -> tuple[str, str]:
    """Decode exchange and routing key, which are the same for most messages of a consumer, and keep them."""
    try:
        exchange, offset = decode_short_string(raw, 0)
        routing_key, offset = decode_short_string(raw, offset)
    except IndexError:
        offset = len(raw) + 1
    if offset > len(raw):
        raise truncated("basic.deliver")
    if len(channel.names) >= _MAX_NAMES:
        channel.names.clear()
    names = channel.names[raw] = exchange, routing_key
    return names


def _delivered(delivery: events.Delivered, header: bytes, body: bytes) -> None:
    channel = delivery.core
    delivery.header = header
    delivery.body = body
    channel.unsettled.add(delivery)
    channel.connection.events.append(delivery)


def _get_ok(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    request = channel.expect(amqp.BasicGetOk)
    method = amqp.BasicGetOk.decode(data, offset, end)
    channel.await_content(method.name, _BASIC, partial(_got, channel, request, method))
    return end + 1


def _got(channel: ChannelCore, request: Waiting, method: amqp.BasicGetOk, header: bytes, body: bytes) -> None:
    connection = channel.connection
    delivery = connection.delivery(
        channel,
        None,
        "",
        method.delivery_tag,
        method.redelivered,
        method.exchange,
        method.routing_key,
        getattr(request.request, "no_ack", False),
    )
    delivery.header = header
    delivery.body = body
    delivery.message_count = method.message_count
    channel.unsettled.add(delivery)
    channel.waiting.remove(request)
    connection.events.append(events.Replied(channel, request.token, delivery))


def _return(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    method = amqp.BasicReturn.decode(data, offset, end)
    channel.await_content(method.name, _BASIC, partial(_returned, channel, method))
    return end + 1


def _returned(channel: ChannelCore, method: amqp.BasicReturn, header: bytes, body: bytes) -> None:
    content = events.Content(channel.connection.basic_properties, header, body)
    message = events.Returned(
        channel, method.reply_code, method.reply_text, method.exchange, method.routing_key, content
    )
    if channel.confirms is not None and not channel.confirms.match_return(message):
        channel.strays += 1
    channel.connection.events.append(message)


def _ack(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    confirms = channel.confirms
    if confirms is None or end - offset < 9 or data[offset + 8] & 1 or confirms.returned:
        return _settled(events.Confirmed, channel, data, offset, end)
    tag, _ = _unpack_tag_and_bits(data, offset)
    _say(events.Confirmed, channel, tag, False, confirms.take(tag))
    return end + 1


def _nack(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    return _settled(events.Nacked, channel, data, offset, end)


def _settled(
    kind: type[events.Confirmed] | type[events.Nacked],
    channel: ChannelCore,
    data: bytes,
    offset: int,
    end: int,
) -> int:
    if end - offset < 9:
        raise RemoteProtocolError("a confirm is cut short", reply_code=502)
    if channel.confirms is None:
        raise RemoteProtocolError(f"a confirm on channel {channel.number}, which is not in confirm mode")
    tag, bits = _unpack_tag_and_bits(data, offset)
    multiple = bits & 1 != 0
    tokens, returned = channel.confirms.settle(tag, multiple, channel.connection.outbox.taken)
    for token, message in returned:
        channel.connection.events.append(events.Unrouted(token, message))
    _say(kind, channel, tag, multiple, tokens)
    return end + 1


def _say(
    kind: type[events.Confirmed] | type[events.Nacked],
    channel: ChannelCore,
    tag: int,
    multiple: bool,
    tokens: Sequence[Any],
) -> None:
    # Brokers confirm in bursts: one event for a row of them is half of the cost of one for each.
    happened = channel.connection.events
    last = happened[-1] if happened else None
    if type(last) is kind and last.channel is channel:
        last.words.append((tag, multiple, tokens))
    else:
        happened.append(kind(channel, [(tag, multiple, tokens)]))


def _cancel(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    method = amqp.BasicCancel.decode(data, offset, end)
    # The tag stays registered: RabbitMQ 4.3 may go on delivering for it until we cancel it too.
    consumer = channel.consumers.get(data[offset + 1 : offset + 1 + data[offset]])
    if not method.no_wait:
        try:
            channel.send(amqp.BasicCancelOk(method.consumer_tag))
        except EncodeError as error:
            raise caused(RemoteProtocolError(str(error), reply_code=502), error) from error
    token: Any = consumer.token if consumer else None
    channel.connection.events.append(events.ConsumerCancelled(channel, method.consumer_tag, token))
    return end + 1


def _flow(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    method = amqp.ChannelFlow.decode(data, offset, end)
    channel.send(amqp.ChannelFlowOk(method.active))
    channel.flow_active = method.active
    channel.connection.events.append(events.FlowChanged(channel, method.active))
    return end + 1


def _close(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    method = amqp.ChannelClose.decode(data, offset, end)
    crossing = channel.error is not None  # ours is on its way: the answer to it is still to come
    channel.send(amqp.ChannelCloseOk())
    if crossing:
        return end + 1
    failed = channel.connection.dialect.methods.get(method.class_id << 16 | method.method_id)
    error = ChannelClosed.from_reply(
        method.reply_code,
        method.reply_text,
        class_id=method.class_id,
        method_id=method.method_id,
        operation=failed.name if failed else "",
    )
    channel.end(error)
    return end + 1


def _close_ok(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    request = channel.waiting.popleft()
    channel.connection.events.append(events.Replied(channel, request.token, amqp.ChannelCloseOk()))
    assert channel.error is not None  # set when our close was sent
    channel.end(channel.error)
    return end + 1


def _discard(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    return end + 1


#: What a client's channel does with methods that are not plain answers.
CLIENT_HANDLERS: dict[int, Handler] = {
    amqp.BasicDeliver.index: _deliver,
    amqp.BasicAck.index: _ack,
    amqp.BasicNack.index: _nack,
    amqp.BasicGetOk.index: _get_ok,
    amqp.BasicReturn.index: _return,
    amqp.BasicCancel.index: _cancel,
    amqp.ChannelFlow.index: _flow,
    amqp.ChannelClose.index: _close,
    amqp.ChannelCloseOk.index: _close_ok,
}

#: A server's channel hands nearly everything to the broker behind it.
SERVER_HANDLERS: dict[int, Handler] = {
    amqp.ChannelClose.index: _close,
    amqp.ChannelCloseOk.index: _close_ok,
}


class _WhileClosing(dict[int, Handler]):
    """After our ``channel.close`` everything is discarded but its answer and the peer's own close."""

    def get(self, index: int, default: Any = None) -> Handler:
        return super().get(index, _discard)


WHILE_CLOSING = _WhileClosing(SERVER_HANDLERS)
