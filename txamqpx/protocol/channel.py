"""One channel, without I/O: legality, calls that wait for answers, contents, confirms, settling.

What the peer sends runs through ``receive``; it ends in an event, or in a
``RemoteProtocolError`` which the connection turns into its own end.  What our side sends is
encoded first, which may fail, then checked against the state's row, which may fail, and only
then registered and appended: a refused call leaves no trace.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Protocol

from attrs import define

from txamqpx.errors import (
    AMQPError,
    Closed,
    EncodeError,
    LocalProtocolError,
    NotProcessed,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    RemoteProtocolError,
    caused,
    printable,
)
from txamqpx.protocol.confirms import ConfirmLedger
from txamqpx.protocol.content import Assembly
from txamqpx.protocol.events import (
    ChannelEnded,
    Content,
    Delivered,
    Event,
    Failed,
    Published,
    Replied,
    Requested,
)
from txamqpx.protocol.frames import BODY, END, METHOD, body_frames, frame
from txamqpx.protocol.outbox import Outbox
from txamqpx.protocol.publishing import PublishFrames, content_header
from txamqpx.protocol.settling import UnsettledLedger
from txamqpx.protocol.states import ChannelState, Mode, Rows, Tables
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method, Properties
from txamqpx.spec.dialect import Dialect
from txamqpx.spec.wire import encode_short_string

__all__ = [
    "ChannelCore",
    "Consumer",
    "Preparation",
    "Surroundings",
    "Waiting",
]

_unpack_index = struct.Struct(">I").unpack_from
_pack_ack = struct.Struct(">BHIIQBB").pack

_PUBLISH = amqp.BasicPublish.index
_ACK = amqp.BasicAck.index

_NO_LINE_ENDS = dict.fromkeys(b"\r\n")

# What RabbitMQ calls the default exchange where it speaks of rights.
_DEFAULT_EXCHANGE = "amq.default"

# RabbitMQ has the queue answer these, which may take longer than what the channel answers itself.
_OVERTAKEN = (amqp.BasicConsume, amqp.BasicCancel)
_CANCEL_OK = amqp.BasicCancelOk.index
_CONSUME_OK = amqp.BasicConsumeOk.index
_RECOVER = amqp.BasicRecover.index
_RECOVER_OK = amqp.BasicRecoverOk.index
_CLOSE = amqp.ChannelClose.index


Preparation = Callable[["ChannelCore", Any, Any], None]


@define(eq=False)
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
    #: Whether the broker has answered ``basic.consume``.
    started: bool = False


class Surroundings(Protocol):
    """What a channel needs of its connection."""

    dialect: Dialect
    tables: Tables
    tuning: Tuning
    outbox: Outbox
    events: list[Event]
    max_message_size: int
    payload_max: int
    payload_limit: int
    delivery: type[Delivered]
    published: type[Published]
    basic_properties: type[Properties]
    preparations: Mapping[int, Preparation]
    channel_handlers: Mapping[int, Callable[[ChannelCore, bytes, int, int], int]]
    closing_handlers: Mapping[int, Callable[[ChannelCore, bytes, int, int], int]]

    def rows(self, state: Enum) -> Rows:
        """Return what we may send and what may come in ``state``."""

    def release(self, channel: ChannelCore) -> None:
        """Free the channel's number."""

    def assemble(
        self, channel: ChannelCore, name: str, class_id: int, done: Callable[[bytes, bytes], None]
    ) -> Assembly:
        """Return what gathers the content of method ``name``."""


class ChannelCore:
    """One channel of a connection, in either role."""

    def __init__(self, connection: Surroundings, number: int) -> None:
        self.connection = connection
        self.number = number
        self.state = ChannelState.CLOSED
        self.mode = Mode.PLAIN
        #: Why the channel is closed, once it is.
        self.error: Closed | None = None
        self.basic_properties = connection.basic_properties
        #: What a user of the core wants to find here; the core does not look at it.
        self.owner: Any = None
        #: False while the peer has asked us not to publish (``channel.flow``).
        self.flow_active = True
        #: The publishes that wait for the broker's word; None unless in confirm mode.
        self.confirms: ConfirmLedger | None = None
        self.unsettled = UnsettledLedger()
        #: Requests that have no answer, in the order in which they were sent.
        self.waiting: deque[Waiting] = deque()
        #: Consumers by their tags as they stand on the wire.
        self.consumers: dict[bytes, Consumer] = {}
        #: Exchanges and routing keys of deliveries by their form on the wire.
        self.names: dict[bytes, tuple[str, str]] = {}
        #: Where publishes go, and their flags, by their form on the wire.
        self.targets: dict[bytes, tuple[str, str, int]] = {}
        #: What stood between the method and the body of the last message, the properties in it, and how
        #: long the body was.
        self.lead = b""
        self.lead_header = b""
        self.lead_size = 0
        #: Deliveries for tags that nobody registered, returned messages that nobody published.
        self.strays = 0
        #: Acks to be sent at the end of the turn, as few as will do; None: each is sent by itself.
        self.gathered: list[int] | None = None
        rows = connection.rows(ChannelState.CLOSED)
        self._sent = rows.sent
        self._received = rows.received
        self._handlers = connection.channel_handlers
        #: The content that is being gathered.
        self.assembly: Assembly | None = None
        self._next_tag = 1
        self._publishes = PublishFrames(number, connection.tuning, connection.payload_max)

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
        if method.content:
            raise LocalProtocolError(f"{method.name} needs a content", operation=method.name)
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
        outbox = self.connection.outbox
        if method.expects_reply and outbox.size > outbox.most and index != _CLOSE:
            raise OutboxFull(f"{outbox.size} bytes wait to be written already, the limit is {outbox.most}")
        if self.gathered:
            outbox.gather()
        prepare = self.connection.preparations.get(index)
        if prepare is not None:
            if not outbox.size:
                outbox.wake()  # as in ack
            prepare(self, method, consumer)
        outbox.append(frame(METHOD, self.number, payload))
        if state is not self.state:
            self._move(state)
        if method.expects_reply:
            self.waiting.append(Waiting(method, token))

    def send_content(self, method: Method, properties: Properties, body: bytes) -> None:
        """Send a method with its content: what a server does; clients have ``publish``.

        Raises:
            EncodeError: A field or a property does not fit; nothing was sent.
            LocalProtocolError: The state forbids it; nothing was sent.
        """
        payload = method.encode()
        tuning = self.connection.tuning
        header = content_header(self.number, method.index >> 16, properties, len(body), tuning)
        if method.index not in self._sent:
            raise self.refusal(method.name)
        bodies = body_frames(self.number, body, tuning.frame_max)
        self.connection.outbox.append(b"".join((frame(METHOD, self.number, payload), header, bodies)))

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
            NotPublished: The broker has asked for a pause (``channel.flow``); nothing was sent.
            OutboxFull: Too many bytes wait for the transport; nothing was sent.
            ChannelClosed: The channel is closed; nothing was sent.
        """
        if _PUBLISH not in self._sent:
            raise self.refusal("basic.publish")
        if not self.flow_active:
            raise NotPublished(f"the broker has asked not to publish on channel {self.number} for now")
        content = self._publishes.encode(body, exchange, routing_key, properties, mandatory)
        outbox = self.connection.outbox
        size = len(content) if isinstance(content, bytes) else sum(map(len, content))
        if outbox.size + size > outbox.most and outbox.size:
            raise OutboxFull(f"{outbox.size} bytes wait to be written already, the limit is {outbox.most}")
        # From here on nothing can fail.
        outbox.append(content, size)
        if self.confirms is None:
            return False
        self.confirms.register((token, outbox.appended, exchange, routing_key, mandatory, properties, body))
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
        gathered = self.gathered
        if gathered:  # somebody was here in this turn
            self.unsettled.settle(delivery_tag, False)
            gathered.append(delivery_tag)
            return
        outbox = self.connection.outbox
        if not outbox.size:
            outbox.wake()  # which raises on a foreign thread: before anything is settled
        self.unsettled.settle(delivery_tag, False)
        if gathered is None:
            outbox.append(_pack_ack(METHOD, self.number, 13, _ACK, delivery_tag, 0, END))
            return
        outbox.append_last(self._acks)
        gathered.append(delivery_tag)

    def gather_acks(self) -> None:
        """Send acks at the end of each turn from now on: one for all below which nothing is unsettled."""
        if self.gathered is None:
            self.gathered = []

    def _acks(self) -> bytes:
        tags, self.gathered = self.gathered or [], []
        # Whatever ends the channel either sends this before its last word or discards what waits.
        words = self.unsettled.fewest(tags)
        return b"".join(_pack_ack(METHOD, self.number, 13, _ACK, tag, many, END) for tag, many in words)

    def stranger(self, consumer_tag: str) -> Consumer:
        """Return what stands for a consumer that nobody registered."""
        return Consumer(consumer_tag, False, None)

    def next_consumer_tag(self) -> str:
        """Return a tag that this channel has not used."""
        tag = f"ctag-{self.number}.{self._next_tag}"
        self._next_tag += 1
        return tag

    def orphan(self, consumer_tag: str) -> None:
        """Let deliveries for a consumer be nobody's: whoever asked for them has given it up."""
        consumer = self.consumers.get(encode_short_string(consumer_tag)[1:])
        if consumer is not None:
            consumer.token = None

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

    # ----------------------------------------------------------------------- what the peer sends

    def receive(self, kind: int, data: bytes, offset: int, end: int) -> int:
        """Take one frame's payload; return the offset behind everything that was read.

        Raises:
            RemoteProtocolError: The peer broke the protocol.
            DecodeError: Arguments are malformed.
        """
        if kind == METHOD:
            if self.assembly is not None:
                raise RemoteProtocolError(
                    "a method in the middle of a content", reply_code=505, operation=self.assembly.name
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
        if self.assembly is not None:
            take = self.assembly.header if kind != BODY else self.assembly.body
            if take(data, offset, end):
                self.assembly = None
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
        rows = self.connection.rows(state)
        self._sent = rows.sent
        self._received = rows.received
        if self.closing:
            self._handlers = self.connection.closing_handlers
            self.assembly = None

    def _other(self, index: int, data: bytes, offset: int, end: int) -> None:
        """Take a method that has no function of its own: an answer to us, or a request of the peer."""
        kind = self.connection.dialect.methods[index]
        if index in self.connection.dialect.responses:
            self._answer(kind, data, offset, end)
        elif kind.content:
            method = kind.decode(data, offset, end)
            self.await_content(method.name, index >> 16, partial(self._requested_with_content, method))
        else:
            self.connection.events.append(Requested(self, kind.decode(data, offset, end)))

    def _answer(self, kind: type[Method], data: bytes, offset: int, end: int) -> None:
        method = kind.decode(data, offset, end)
        request = self.expect(kind, getattr(method, "consumer_tag", None))
        self.waiting.remove(request)
        asked: Any = request.request
        if kind.index == _CANCEL_OK:
            self.consumers.pop(encode_short_string(asked.consumer_tag)[1:], None)
        elif kind.index == _CONSUME_OK:
            self.consumers[encode_short_string(asked.consumer_tag)[1:]].started = True
        elif kind.index == _RECOVER_OK and all(one.request.index != _RECOVER for one in self.waiting):
            self.unsettled.recovered()
        self.connection.events.append(Replied(self, request.token, method))

    def expect(self, kind: type[Method], consumer_tag: str | None = None) -> Waiting:
        """Return the request that a ``kind`` answers: the first that waits, but for what can be overtaken.

        Raises:
            RemoteProtocolError: Something else was asked, or nothing.
        """
        # Synchronous methods are answered in their order (section 2.2.2); anything else is not ours to guess.
        # RabbitMQ keeps to it but for consumers, whose answers bear their tags.
        for one in self.waiting:
            request = one.request
            answered = kind.index in request.responses
            if isinstance(request, _OVERTAKEN):
                if answered and request.consumer_tag == consumer_tag:
                    return one
            elif answered:
                return one
            else:
                break
        asked = self.waiting[0].request.name if self.waiting else "nothing"
        raise RemoteProtocolError(
            f"{kind.name} came on channel {self.number}, where {asked} was asked", operation=kind.name
        )

    def await_content(self, name: str, class_id: int, done: Callable[[bytes, bytes], None]) -> None:
        """Gather the content of method ``name`` frame by frame; ``done`` gets properties and body."""
        self.assembly = self.connection.assemble(self, name, class_id, done)

    def _requested_with_content(self, method: Method, header: bytes, body: bytes) -> None:
        properties = self.connection.dialect.properties[method.index >> 16]
        content = Content(properties, header, body)
        self.connection.events.append(Requested(self, method, content))

    # ----------------------------------------------------------------------- the end

    def end(self, error: Closed, *, connection_ended: bool = False) -> None:
        """Give every token back, say that the channel is over, and free its number."""
        self.error = error
        if self.state is not ChannelState.CLOSED:
            self._move(ChannelState.CLOSED)
        self._sent = {}  # a number may be opened again, but as another channel
        self.fail_all(error, connection_ended=connection_ended)
        self.unsettled.forget()
        self.assembly = None
        self.connection.events.append(ChannelEnded(self, error))
        self.connection.release(self)

    def await_answer(self) -> None:
        """Wait for the answer to our own ``channel.close``, which has crossed the peer's."""
        self._move(ChannelState.SERVER_CLOSING)

    def fail_all(self, error: Closed, *, connection_ended: bool = False) -> None:
        """Give every token back, each with an error of its own."""
        emit = self.connection.events.append
        confirms, self.confirms = self.confirms, None
        if confirms is not None:
            culprit, last = confirms.suspects(error)
            unanswered = any(isinstance(one.request, amqp.ConfirmSelect) for one in self.waiting)
            if connection_ended or unanswered:  # or it may have been a publish from before the mode
                culprit, last = None, confirms.next_seq
            for seq, entry in confirms:
                if seq == culprit:
                    emit(Failed(entry[0], error.copy()))
                else:
                    emit(Failed(entry[0], self._publish_error(error, seq > last, entry[1])))
        to_blame = self._culprit(error)
        waiting, self.waiting = self.waiting, deque()
        for one in waiting:
            if connection_ended or not error.by_peer or one is to_blame:
                emit(Failed(one.token, error.copy()))
            else:
                emit(Failed(one.token, caused(NotProcessed("the channel was closed first"), error)))

    def _culprit(self, error: Closed) -> Waiting | None:
        """Return the request for which the broker closed the channel, if it was one that waits."""
        for one in self.waiting:
            if one.request.name == error.operation and _may_be_about(error, one.request):
                return one
            if not isinstance(one.request, _OVERTAKEN):
                break
        return None

    def _publish_error(self, error: Closed, too_late: bool, position: int) -> AMQPError:
        # Before a close of our own, what waits in the outbox is still written.
        unheard = error.by_peer and position > self.connection.outbox.taken
        if unheard or too_late:
            return caused(NotPublished(f"the channel was closed before its turn: {error}"), error)
        return caused(OutcomeUnknown(f"the channel was closed before the answer: {error}"), error)


def _may_be_about(error: Closed, request: Method) -> bool:
    """Tell whether ``request`` holds what the reply text names: the culprit may wait for no answer."""
    if error.queue is None and error.exchange is None:
        return True
    names = [getattr(request, field) for field, kind in request.fields if kind == "shortstr"]
    arguments = getattr(request, "arguments", None) or {}  # such as where to dead-letter to
    names += [value for value in arguments.values() if isinstance(value, str)]
    # RabbitMQ drops the ends of lines from some names, and has one of its own for the default exchange.
    told = {form for name in names for form in (name or _DEFAULT_EXCHANGE, name.translate(_NO_LINE_ENDS))}
    # No name stands for the queue that was declared last.
    return getattr(request, "queue", None) == "" or any(
        f"'{printable(name)}'" in error.reply_text for name in told if name
    )
