"""One channel, without I/O: legality, calls that wait for answers, contents, confirms, settling.

What the peer sends runs through ``receive``; it ends in an event, or in a
``RemoteProtocolError`` which the connection turns into its own end.  What our side sends is
encoded first, which may fail, then checked against the state's row, which may fail, and only
then registered and appended: a refused call leaves no trace.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define

from txamqpx.errors import (
    AMQPError,
    ChannelClosed,
    Closed,
    ConsumerTagInUse,
    EncodeError,
    LocalProtocolError,
    NotProcessed,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    RemoteProtocolError,
)
from txamqpx.protocol import events
from txamqpx.protocol.confirms import ConfirmLedger
from txamqpx.protocol.content import Assembly, whole_content
from txamqpx.protocol.frames import BODY, METHOD, body_frames, frame, header_frame, pack_head
from txamqpx.protocol.settling import UnsettledLedger
from txamqpx.protocol.states import ChannelState, Mode
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method, Properties
from txamqpx.spec.wire import encode_short_string

if TYPE_CHECKING:
    from txamqpx.protocol.connection import Connection

__all__ = [
    "CLIENT_HANDLERS",
    "CLIENT_PREPARATIONS",
    "SERVER_HANDLERS",
    "SERVER_PREPARATIONS",
    "ChannelCore",
    "Consumer",
    "Handler",
    "Preparation",
    "Waiting",
]

_unpack_index = struct.Struct(">I").unpack_from
_unpack_tag_and_bits = struct.Struct(">QB").unpack_from
_pack_ack = struct.Struct(">BHIIQBB").pack

_PUBLISH = amqp.BasicPublish.index
_ACK = amqp.BasicAck.index
_BASIC = amqp.BasicProperties.class_id
_END = b"\xce"

# Methods frames of publishes are kept per exchange and routing key; keys without end are not.
_MAX_KEPT_METHODS = 512


@define
class Waiting:
    """A request that the peer has not answered."""

    request: Method
    token: Any


@define
class Consumer:
    """What the core knows of a consumer."""

    tag: str
    no_ack: bool
    token: Any


class ChannelCore:
    """One channel of a connection, in either role."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.state = ChannelState.CLOSED
        self.mode = Mode.PLAIN
        #: Why the channel is closed, once it is.
        self.error: Closed | None = None
        #: What a user of the core wants to find here; the core does not look at it.
        self.owner: Any = None
        #: False while the peer has asked us not to publish (``channel.flow``).
        self.flow_active = True
        #: The publishes that wait for the broker's word; None unless in confirm mode.
        self.confirms: ConfirmLedger | None = None
        self.unsettled = UnsettledLedger()
        #: Deliveries for tags that nobody registered, returned messages that nobody published.
        self.strays = 0
        self._sent, self._received = connection.rows(ChannelState.CLOSED)
        self._handlers = connection.channel_handlers
        self._waiting: deque[Waiting] = deque()
        self._assembly: Assembly | None = None
        self._consumers: dict[bytes, Consumer] = {}
        self._next_tag = 1
        self._methods: dict[tuple[str, str, bool], bytes] = {}
        self._properties: Properties | None = None
        self._size = -1
        self._header = b""

    def __repr__(self) -> str:
        return f"<channel {self.number}, {self.state.value}>"

    # ----------------------------------------------------------------------- what our side sends

    def send(self, method: Method, token: Any = None, *, consumer: Any = None) -> None:
        """Send a method that carries no content.

        Args:
            method: What to send.
            token: Comes back with the answer, or with the reason why there is none; only for
                methods that are answered.
            consumer: With ``basic.consume``, what each delivery shall name as its consumer.

        Raises:
            EncodeError: A field does not fit; nothing was sent.
            LocalProtocolError: The state forbids it; nothing was sent.
            ChannelClosed: The channel is closed; nothing was sent.
        """
        payload = method.encode()
        room = self.connection.payload_max
        if len(payload) > room:
            raise EncodeError(f"takes {len(payload)} bytes, a frame holds {room}", method.name)
        index = method.index
        state = self._sent.get(index)
        if state is None:
            raise self.refusal(method.name)
        tables = self.connection.tables
        if index in tables.moded and index not in tables.modes[self.mode] and method.to_server:
            raise LocalProtocolError(
                f"{method.name} is not allowed in {self.mode.value} mode",
                reply_code=406,
                operation=method.name,
            )
        if method.expects_reply and self.connection.outbox_size > self.connection.max_outbox:
            raise OutboxFull(f"{self.connection.outbox_size} bytes wait to be written already")
        prepare = self.connection.preparations.get(index)
        if prepare is not None:
            prepare(self, method, consumer)
        self.connection.append(frame(METHOD, self.number, payload))
        if state is not self.state:
            self._move(state)
        if method.expects_reply:
            self._waiting.append(Waiting(method, token))

    def send_content(self, method: Method, properties: Properties, body: bytes) -> None:
        """Send a method with its content: what a server does; clients have ``publish``.

        Raises:
            EncodeError: A field or a property does not fit; nothing was sent.
            LocalProtocolError: The state forbids it; nothing was sent.
        """
        payload = method.encode()
        header = self._content_header(method.index >> 16, properties, len(body))
        if method.index not in self._sent:
            raise self.refusal(method.name)
        bodies = body_frames(self.number, body, self.connection.tuning.frame_max)
        self.connection.append(b"".join((frame(METHOD, self.number, payload), header, bodies)))

    def publish(
        self,
        token: Any,
        body: bytes,
        exchange: str,
        routing_key: str,
        properties: Properties,
        mandatory: bool,
    ) -> bool:
        """Publish a message: encode, then number, register and append in one step.

        Returns:
            Whether ``token`` will come back, which it does in confirm mode.

        Raises:
            EncodeError: A name or a property does not fit; nothing was sent.
            OutboxFull: Too many bytes wait for the transport; nothing was sent.
            ChannelClosed: The channel is closed; nothing was sent.
        """
        if _PUBLISH not in self._sent:
            raise self.refusal("basic.publish")
        method = self._methods.get((exchange, routing_key, mandatory)) or self._publish_method(
            exchange, routing_key, mandatory
        )
        size = len(body)
        connection = self.connection
        if properties is not self._properties or size != self._size:
            self._header = self._content_header(_BASIC, properties, size)
            if 0 < size <= connection.payload_max:
                self._header += pack_head(BODY, self.number, size)
            self._properties, self._size = properties, size
        if 0 < size <= connection.payload_max:
            content = b"".join((method, self._header, body, _END))
        else:
            bodies = body_frames(self.number, body, connection.tuning.frame_max)
            content = b"".join((method, self._header, bodies))
        waiting = connection.outbox_size + len(content)
        if waiting > connection.max_outbox:
            raise OutboxFull(
                f"{waiting} bytes would wait to be written, the limit is {connection.max_outbox}"
            )
        # From here on nothing can fail.
        if not connection.outbox:
            connection.wake()
        connection.outbox_size = waiting
        connection.outbox.append(content)
        connection.appended += 1
        if self.confirms is None:
            return False
        self.confirms.register(
            (token, connection.appended, exchange, routing_key, mandatory, properties, body)
        )
        return True

    def ack(self, delivery_tag: int) -> None:
        """Ack one delivery: ``send(BasicAck(tag))`` without the detours.

        Raises:
            AlreadySettled: It was settled before; nothing was sent.
            UnknownDelivery: The channel never gave out this tag; nothing was sent.
            ChannelClosed: The channel is closed; nothing was sent.
        """
        if _ACK not in self._sent:
            raise self.refusal("basic.ack")
        self.unsettled.settle(delivery_tag, False)
        self.connection.append(_pack_ack(METHOD, self.number, 13, _ACK, delivery_tag, 0, 0xCE))

    def next_consumer_tag(self) -> str:
        """Return a tag that this channel has not used."""
        tag = f"ctag-{self.number}.{self._next_tag}"
        self._next_tag += 1
        return tag

    def refusal(self, operation: str) -> AMQPError:
        """Return why ``operation`` is impossible now."""
        if self.error is not None:
            error = self.error.copy()
            error.__cause__ = self.error
            return error
        return LocalProtocolError(
            f"{operation} is not allowed on channel {self.number}, which is {self.state.value}",
            operation=operation,
        )

    def _publish_method(self, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        payload = amqp.BasicPublish(exchange, routing_key, mandatory).encode()
        if len(self._methods) >= _MAX_KEPT_METHODS:
            self._methods.clear()
        kept = self._methods[exchange, routing_key, mandatory] = frame(METHOD, self.number, payload)
        return kept

    def _content_header(self, class_id: int, properties: Properties, size: int) -> bytes:
        header = header_frame(self.number, class_id, properties.encode(), size)
        frame_max = self.connection.tuning.frame_max
        if (
            frame_max and len(header) > frame_max
        ):  # a header cannot be split; the peer would close the connection
            raise EncodeError(
                f"take {len(header)} bytes with the frame around them, frame_max is {frame_max}",
                f"{properties.name} properties",
            )
        return header

    def _before_consume(self, method: amqp.BasicConsume, consumer: Any) -> None:
        key = encode_short_string(method.consumer_tag)[1:]
        if not key:
            raise LocalProtocolError("basic.consume needs a consumer tag: deliveries may overtake the answer")
        if key in self._consumers:
            raise ConsumerTagInUse(
                f"channel {self.number} has a consumer {method.consumer_tag!r} already", reply_code=530
            )
        self._consumers[key] = Consumer(method.consumer_tag, method.no_ack, consumer)

    def _before_settling(self, method: amqp.BasicAck | amqp.BasicNack, consumer: Any) -> None:
        self.unsettled.settle(method.delivery_tag, method.multiple)

    def _before_reject(self, method: amqp.BasicReject, consumer: Any) -> None:
        self.unsettled.settle(method.delivery_tag, False)

    def _before_recover(self, method: Method, consumer: Any) -> None:
        self.unsettled.forget()

    def _before_confirm_select(self, method: Method, consumer: Any) -> None:
        self.mode = Mode.CONFIRM
        if self.confirms is None:
            self.confirms = ConfirmLedger()

    def _before_tx_select(self, method: Method, consumer: Any) -> None:
        if self.mode is not Mode.TRANSACTION:
            self.mode = Mode.TRANSACTION
            self.unsettled.begin()

    def _before_close(self, method: amqp.ChannelClose, consumer: Any) -> None:
        error = ChannelClosed.from_reply(method.reply_code, method.reply_text, by_peer=False)
        self.error = error
        self._fail_all(error)

    # ----------------------------------------------------------------------- what the peer sends

    def receive(self, kind: int, data: bytes, offset: int, end: int) -> int:
        """Take one frame's payload; return the offset behind everything that was read.

        Raises:
            RemoteProtocolError: The peer broke the protocol.
            DecodeError: Arguments are malformed.
        """
        if kind == METHOD:
            if self._assembly is not None:
                raise RemoteProtocolError(
                    "a method in the middle of a content", reply_code=505, operation=self._assembly.name
                )
            if end - offset < 4:
                raise RemoteProtocolError("a method frame is cut short", reply_code=502)
            (index,) = _unpack_index(data, offset)
            state = self._received.get(index)
            if state is None:
                raise self._illegal(index)
            handler = self._handlers.get(index)
            if state is not self.state:
                self._move(state)
            if handler is None:
                self._other(index, data, offset + 4, end)
                return end + 1
            return handler(self, data, offset + 4, end)
        if self._assembly is not None:
            take = self._assembly.header if kind != BODY else self._assembly.body
            if take(data, offset, end):
                self._assembly = None
        elif not self.closing:
            raise RemoteProtocolError("a content frame without a method before it", reply_code=505)
        return end + 1

    @property
    def closing(self) -> bool:
        """True from the moment on at which either side has sent its ``channel.close``."""
        return self.state in (ChannelState.CLIENT_CLOSING, ChannelState.SERVER_CLOSING)

    def _illegal(self, index: int) -> RemoteProtocolError:
        method = self.connection.dialect.methods.get(index)
        if method is None:
            return RemoteProtocolError(f"unknown method {index >> 16}.{index & 0xFFFF}", reply_code=540)
        where = f"channel {self.number}, which is {self.state.value}"
        return RemoteProtocolError(
            f"{method.name} is not allowed from the peer on {where}", operation=method.name
        )

    def _move(self, state: Enum) -> None:
        assert isinstance(state, ChannelState)
        self.state = state
        self._sent, self._received = self.connection.rows(state)
        if self.closing:
            self._handlers = _WHILE_CLOSING
            self._assembly = None

    def _other(self, index: int, data: bytes, offset: int, end: int) -> None:
        """Take a method that has no function of its own: an answer to us, or a request of the peer."""
        kind = self.connection.dialect.methods[index]
        if index in self.connection.dialect.responses:
            self._answer(kind, data, offset, end)
        elif kind.content:
            method = kind.decode(data, offset, end)
            self._await_content(method.name, index >> 16, partial(self._requested_with_content, method))
        else:
            self.connection.events.append(events.Requested(self, kind.decode(data, offset, end)))

    def _answer(self, kind: type[Method], data: bytes, offset: int, end: int) -> None:
        request = self._expect(kind)
        method = kind.decode(data, offset, end)
        del self._waiting[0]
        if kind is amqp.BasicCancelOk and isinstance(request.request, amqp.BasicCancel):
            self._consumers.pop(encode_short_string(request.request.consumer_tag)[1:], None)
        elif kind is amqp.TxCommitOk:
            self.unsettled.begin()
        elif kind is amqp.TxRollbackOk:
            self.unsettled.undo()
        self.connection.events.append(events.Replied(self, request.token, method))

    def _expect(self, kind: type[Method]) -> Waiting:
        # Synchronous methods are answered in their order (section 2.2.2); anything else is not ours to guess.
        if not self._waiting or kind.index not in self._waiting[0].request.responses:
            asked = self._waiting[0].request.name if self._waiting else "nothing"
            raise RemoteProtocolError(
                f"{kind.name} came on channel {self.number}, where {asked} was asked", operation=kind.name
            )
        return self._waiting[0]

    # contents

    def _await_content(self, name: str, class_id: int, done: Callable[[bytes, bytes], None]) -> None:
        self._assembly = Assembly(name, class_id, self.connection.max_message_size, done)

    def _deliver(self, data: bytes, offset: int, end: int) -> int:
        # basic.deliver, written out: the generated decoder would make an object only to be taken apart.
        try:
            stop = offset + 1 + data[offset]
            consumer = self._consumers.get(data[offset + 1 : stop])
            tag, redelivered = _unpack_tag_and_bits(data, stop)
            start = stop + 10
            stop = start + data[start - 1]
            exchange = data[start:stop]
            start = stop + 1
            stop = start + data[stop]
        except (IndexError, struct.error):
            stop = end + 1
        if stop > end:
            raise RemoteProtocolError("basic.deliver is cut short", reply_code=502, operation="basic.deliver")
        if consumer is None:
            found = amqp.BasicDeliver.decode(data, offset, end)
            consumer = Consumer(found.consumer_tag, False, None)
            self.strays += 1
        connection = self.connection
        content = whole_content(
            data, end + 1, self.number, _BASIC, connection.payload_limit, connection.max_message_size
        )
        if content is None:
            done = partial(self._delivered, consumer, tag, redelivered, exchange, data[start:stop])
            self._await_content("basic.deliver", _BASIC, done)
            return end + 1
        self._delivered(consumer, tag, redelivered, exchange, data[start:stop], content[0], content[1])
        return content[2]

    def _delivered(
        self,
        consumer: Consumer,
        tag: int,
        redelivered: int,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        connection = self.connection
        delivery = connection.delivery(
            self,
            consumer.token,
            consumer.tag,
            tag,
            redelivered & 1 != 0,
            _text(exchange),
            _text(routing_key),
            body,
            header,
            connection.basic_properties,
            consumer.no_ack,
        )
        self._note(delivery)
        connection.events.append(delivery)

    def _note(self, delivery: events.Delivered) -> None:
        if not self.unsettled.add(delivery):
            raise RemoteProtocolError(
                f"delivery tag {delivery.delivery_tag} on channel {self.number} does not count upwards",
                operation="basic.deliver",
            )

    def _get_ok(self, data: bytes, offset: int, end: int) -> int:
        request = self._expect(amqp.BasicGetOk)
        method = amqp.BasicGetOk.decode(data, offset, end)
        self._await_content(method.name, _BASIC, partial(self._got, request, method))
        return end + 1

    def _got(self, request: Waiting, method: amqp.BasicGetOk, header: bytes, body: bytes) -> None:
        connection = self.connection
        assert isinstance(request.request, amqp.BasicGet)
        delivery = connection.delivery(
            self,
            None,
            "",
            method.delivery_tag,
            method.redelivered,
            method.exchange,
            method.routing_key,
            body,
            header,
            connection.basic_properties,
            request.request.no_ack,
        )
        delivery.message_count = method.message_count
        self._note(delivery)
        del self._waiting[0]
        connection.events.append(events.Replied(self, request.token, delivery))

    def _return(self, data: bytes, offset: int, end: int) -> int:
        method = amqp.BasicReturn.decode(data, offset, end)
        self._await_content(method.name, _BASIC, partial(self._returned, method))
        return end + 1

    def _returned(self, method: amqp.BasicReturn, header: bytes, body: bytes) -> None:
        content = events.Content(body, header, self.connection.basic_properties)
        message = events.Returned(
            self, method.reply_code, method.reply_text, method.exchange, method.routing_key, content
        )
        if self.confirms is not None and not self.confirms.match_return(message):
            self.strays += 1
        self.connection.events.append(message)

    def _requested_with_content(self, method: Method, header: bytes, body: bytes) -> None:
        properties = self.connection.dialect.properties[method.index >> 16]
        content = events.Content(body, header, properties)
        self.connection.events.append(events.Requested(self, method, content))

    # confirms, cancels, flow

    def _ack(self, data: bytes, offset: int, end: int) -> int:
        self._settle(data, offset, end, events.Confirmed)
        return end + 1

    def _nack(self, data: bytes, offset: int, end: int) -> int:
        self._settle(data, offset, end, events.Nacked)
        return end + 1

    def _settle(
        self, data: bytes, offset: int, end: int, kind: type[events.Confirmed] | type[events.Nacked]
    ) -> None:
        if end - offset < 9:
            raise RemoteProtocolError("a confirm is cut short", reply_code=502)
        if self.confirms is None:
            raise RemoteProtocolError(f"a confirm on channel {self.number}, which is not in confirm mode")
        tag, bits = _unpack_tag_and_bits(data, offset)
        multiple = bits & 1 != 0
        tokens, returned = self.confirms.settle(tag, multiple)
        emit = self.connection.events.append
        for token, message in returned:
            emit(events.Unrouted(token, message))
        emit(kind(self, tag, multiple, tokens))

    def _cancelled(self, data: bytes, offset: int, end: int) -> int:
        method = amqp.BasicCancel.decode(data, offset, end)
        # The tag stays registered: RabbitMQ 4.3 may go on delivering for it until we cancel it too.
        consumer = self._consumers.get(encode_short_string(method.consumer_tag)[1:])
        if not method.no_wait:
            self.send(amqp.BasicCancelOk(method.consumer_tag))
        token = consumer and consumer.token
        self.connection.events.append(events.ConsumerCancelled(self, method.consumer_tag, token))
        return end + 1

    def _flow(self, data: bytes, offset: int, end: int) -> int:
        method = amqp.ChannelFlow.decode(data, offset, end)
        self.send(amqp.ChannelFlowOk(method.active))
        self.flow_active = method.active
        self.connection.events.append(events.FlowChanged(self, method.active))
        return end + 1

    # the end

    def _close(self, data: bytes, offset: int, end: int) -> int:
        method = amqp.ChannelClose.decode(data, offset, end)
        crossing = self._sent.get(amqp.ChannelCloseOk.index) is self.state
        self.send(amqp.ChannelCloseOk())
        if crossing:  # ours is on its way: the answer to it is still to come
            return end + 1
        failed = self.connection.dialect.methods.get(method.class_id << 16 | method.method_id)
        error = ChannelClosed.from_reply(
            method.reply_code,
            method.reply_text,
            class_id=method.class_id,
            method_id=method.method_id,
            operation=failed.name if failed else "",
        )
        self.end(error)
        return end + 1

    def _close_ok(self, data: bytes, offset: int, end: int) -> int:
        request = self._waiting.popleft()
        self.connection.events.append(events.Replied(self, request.token, amqp.ChannelCloseOk()))
        assert self.error is not None  # set when our close was sent
        self.end(self.error)
        return end + 1

    def _discard(self, data: bytes, offset: int, end: int) -> int:
        return end + 1

    def end(self, error: Closed, *, connection_ended: bool = False) -> None:
        """Give every token back, say that the channel is over, and free its number."""
        self.error = error
        if self.state is not ChannelState.CLOSED:
            self._move(ChannelState.CLOSED)
        self._fail_all(error, connection_ended=connection_ended)
        self.unsettled.forget()
        self._assembly = None
        self.connection.events.append(events.ChannelEnded(self, error))
        self.connection.release(self)

    def _fail_all(self, error: Closed, *, connection_ended: bool = False) -> None:
        emit = self.connection.events.append
        confirms, self.confirms = self.confirms, None
        if confirms is not None:
            culprit = None if connection_ended else confirms.culprit(error)
            for seq, entry in confirms:
                emit(events.Failed(entry[0], self._publish_error(error, seq, culprit, entry[1])))
        waiting, self._waiting = self._waiting, deque()
        to_blame = not connection_ended and error.by_peer
        for one in waiting:
            if connection_ended or not error.by_peer:
                emit(events.Failed(one.token, error.copy()))
            elif to_blame and one.request.name == error.operation:
                emit(events.Failed(one.token, error.copy()))
                to_blame = False
            else:
                emit(events.Failed(one.token, _caused(NotProcessed("the channel was closed first"), error)))
                to_blame = False

    def _publish_error(self, error: Closed, seq: int, culprit: int | None, position: int) -> AMQPError:
        if seq == culprit:
            return error.copy()
        if position > self.connection.taken or (culprit is not None and seq > culprit):
            return _caused(NotPublished(f"the channel was closed before its turn: {error}"), error)
        return _caused(OutcomeUnknown(f"the channel was closed before the answer: {error}"), error)


def _caused(error: AMQPError, cause: AMQPError) -> AMQPError:
    error.__cause__ = cause
    return error


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape")


Preparation = Callable[[ChannelCore, Any, Any], None]

#: What a client's methods do before they are sent, and may refuse.
CLIENT_PREPARATIONS: dict[int, Preparation] = {
    amqp.BasicConsume.index: ChannelCore._before_consume,
    amqp.BasicAck.index: ChannelCore._before_settling,
    amqp.BasicNack.index: ChannelCore._before_settling,
    amqp.BasicReject.index: ChannelCore._before_reject,
    amqp.BasicRecover.index: ChannelCore._before_recover,
    amqp.BasicRecoverAsync.index: ChannelCore._before_recover,
    amqp.ConfirmSelect.index: ChannelCore._before_confirm_select,
    amqp.TxSelect.index: ChannelCore._before_tx_select,
    amqp.ChannelClose.index: ChannelCore._before_close,
}

#: A server's ``basic.ack`` confirms a publish and settles nothing of its own.
SERVER_PREPARATIONS: dict[int, Preparation] = {amqp.ChannelClose.index: ChannelCore._before_close}

Handler = Callable[[ChannelCore, bytes, int, int], int]

#: What a channel does with methods that are not plain requests or answers, in the client's role.
CLIENT_HANDLERS: dict[int, Handler] = {
    amqp.BasicDeliver.index: ChannelCore._deliver,
    amqp.BasicAck.index: ChannelCore._ack,
    amqp.BasicNack.index: ChannelCore._nack,
    amqp.BasicGetOk.index: ChannelCore._get_ok,
    amqp.BasicReturn.index: ChannelCore._return,
    amqp.BasicCancel.index: ChannelCore._cancelled,
    amqp.ChannelFlow.index: ChannelCore._flow,
    amqp.ChannelClose.index: ChannelCore._close,
    amqp.ChannelCloseOk.index: ChannelCore._close_ok,
}

#: In the server's role nearly everything is a request, which the broker behind it answers.
SERVER_HANDLERS: dict[int, Handler] = {
    amqp.ChannelClose.index: ChannelCore._close,
    amqp.ChannelCloseOk.index: ChannelCore._close_ok,
}


class _Closing(dict[int, Handler]):
    """After our ``channel.close`` everything is discarded but its answer and the peer's own close."""

    def get(self, index: int, default: Any = None) -> Handler:
        return super().get(index, ChannelCore._discard)


_WHILE_CLOSING = _Closing(SERVER_HANDLERS)
