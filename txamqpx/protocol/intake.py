"""What a broker's channel takes by the thousand: publishes and acks.

Both are written out as ``arrivals`` does it for a client's deliveries and confirms, and for the same
reason: they run for every message.
"""

from __future__ import annotations

import struct
from functools import partial

from txamqpx.errors import RemoteProtocolError
from txamqpx.protocol import events
from txamqpx.protocol.arrivals import Handler
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.content import whole_content
from txamqpx.protocol.frames import END
from txamqpx.protocol.layouts import check_layout
from txamqpx.spec import amqp0_9_1 as amqp

__all__ = ["INTAKE"]

_unpack_tag_and_bits = struct.Struct(">QB").unpack_from

_BASIC = amqp.BasicProperties.class_id

# Names are kept as they stand on the wire; routing keys without end are not.
_MAX_TARGETS = 512


def _publish(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    target = data[offset + 2 : end]  # behind a ticket that nobody looks at
    exchange, routing_key, flags = channel.targets.get(target) or _learn(channel, target, data, offset, end)
    connection = channel.connection
    message = connection.published(channel, exchange, routing_key, flags)
    # The next message of a publisher mostly has the properties and the size of the one before, and so the
    # same bytes between its method and its body.
    lead = channel.lead
    start = end + 1 + len(lead)
    stop = start + channel.lead_size
    if lead and data.startswith(lead, end + 1) and stop < len(data) and data[stop] == END:
        message.header = channel.lead_header
        message.body = data[start:stop]
        connection.events.append(message)
        return stop + 1
    content = whole_content(
        data, end + 1, channel.number, _BASIC, connection.payload_limit, connection.max_message_size
    )
    if content is None:
        channel.await_content("basic.publish", _BASIC, partial(_complete, message))
        return end + 1
    header, body, after = content
    if body:
        channel.lead = data[end + 1 : after - len(body) - 1]
        channel.lead_header, channel.lead_size = header, len(body)
    _complete(message, header, body)
    return after


def _learn(channel: ChannelCore, target: bytes, data: bytes, offset: int, end: int) -> tuple[str, str, int]:
    check_layout(amqp.BasicPublish.index, data, offset, end)
    method = amqp.BasicPublish.decode(data, offset, end)
    if len(channel.targets) >= _MAX_TARGETS:
        channel.targets.clear()
    known = method.exchange, method.routing_key, method.mandatory | method.immediate << 1
    channel.targets[target] = known
    return known


def _complete(message: events.Published, header: bytes, body: bytes) -> None:
    message.header = header
    message.body = body
    message.channel.connection.events.append(message)


def _ack(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    if end - offset != 9:
        raise RemoteProtocolError("basic.ack takes nine octets", reply_code=502)
    tag, bits = _unpack_tag_and_bits(data, offset)
    happened = channel.connection.events
    last = happened[-1] if happened else None
    if type(last) is events.Acked and last.channel is channel:
        last.words.append((tag, bits & 1 != 0))
    else:
        happened.append(events.Acked(channel, [(tag, bits & 1 != 0)]))
    return end + 1


def _cancel_ok(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    # Brokers that send basic.cancel wait for no answer, but some have a use for one that comes.
    check_layout(amqp.BasicCancelOk.index, data, offset, end)
    method = amqp.BasicCancelOk.decode(data, offset, end)
    channel.connection.events.append(events.Requested(channel, method))
    return end + 1


#: What a broker's channel does with methods that are not plain requests.
INTAKE: dict[int, Handler] = {
    amqp.BasicPublish.index: _publish,
    amqp.BasicAck.index: _ack,
    amqp.BasicCancelOk.index: _cancel_ok,
}
