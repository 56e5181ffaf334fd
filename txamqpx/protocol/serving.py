"""A connection as a broker needs it: in order, strict, and in RabbitMQ's words.

``Connection`` in the server's role answers a close by itself, as soon as it reads it, and turns a client's
breach of the protocol into the end on the spot.  A broker answers first what came before, in the same bytes
perhaps.  So here closes are requests like any other, a breach is an event, and what lies behind either is
read when that was dealt with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from txamqpx.errors import AMQPError, ChannelClosed, ConnectionClosed, RemoteProtocolError
from txamqpx.protocol import events
from txamqpx.protocol.arrivals import SERVER_HANDLERS, Handler
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.content import Assembly
from txamqpx.protocol.frames import BODY, END, HEADER, HEARTBEAT, METHOD, OVERHEAD, frame, unpack_head
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.protocol.intake import INTAKE
from txamqpx.protocol.layouts import check_layout
from txamqpx.protocol.rulings import NO_HEADER, Breach, Ending, judge, octets, unexpected, unknown_frame
from txamqpx.protocol.states import ChannelState, ConnectionState, Rows
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec import amqp0_9_1 as amqp

__all__ = ["ServerConnection"]

_unpack_index = struct.Struct(">I").unpack_from

_S = ConnectionState

# The client waits for the broker, so what it has sent already waits as well.
_OUR_TURN = (_S.AWAIT_TUNE, _S.AWAIT_OPEN_OK, _S.CLIENT_CLOSING)
# Nobody has agreed on anything, and who errs here hears nothing.
_STRANGERS = (_S.AWAIT_HEADER, _S.AWAIT_START_OK, _S.AWAIT_TUNE, _S.AWAIT_SECURE_OK, _S.AWAIT_TUNE_OK)
_CLOSING = (_S.CLIENT_CLOSING, _S.SERVER_CLOSING)

# How many bytes a client may send ahead of an answer that it has to wait for.
_MOST_PARKED = 1024 * 1024

_unpack_header = struct.Struct(">HHQ").unpack_from

_CLOSE_OK = amqp.ChannelCloseOk().encode()


class ServerConnection(Connection):
    """A broker's end of a connection.

    Besides the events of ``Connection`` there are ``Requested`` for both closes, to be answered by
    ``answer_close`` and ``answer_channel_close``, ``Broken``, to be answered by ``punish``, and ``TooLarge``.
    What was sent ahead is read by ``take_events`` when it has no more events to give.

    Args:
        handshake: How it is opened.
        published: The class of the events for what clients publish.
        max_message_size: The largest body that is kept; larger ones are told of by ``TooLarge``.
        largest_body: The largest body that is heard to its end at all; 0: any.
        initial_frame_max: The largest frame before both sides agreed on one.
        rewordings: What is said with which code in place of some of what ``rulings`` say.
        wake: Called when the outbox is empty and about to be filled.
    """

    def __init__(
        self,
        handshake: ServerHandshake,
        *,
        published: type[events.Published],
        max_message_size: int,
        largest_body: int = 0,
        initial_frame_max: int = 8192,
        rewordings: Mapping[str, tuple[int, str]] | None = None,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(
            handshake,
            published=published,
            max_message_size=max_message_size,
            initial_frame_max=initial_frame_max,
            wake=wake,
        )
        self.largest_body = largest_body
        self.channel_handlers = _SERVING
        self.closing_handlers = _LEAVING
        self._rewordings = rewordings or {}
        # Whoever has said that it closes a channel may have sent more before it knows that it did.
        self._leaving = Rows(
            self.tables.channel[ChannelState.CLIENT_CLOSING].sent,
            dict.fromkeys(
                self.tables.channel[ChannelState.SERVER_CLOSING].received, ChannelState.CLIENT_CLOSING
            ),
        )
        self._breach: Breach | None = None
        # What lies behind something that has to be dealt with before it is read.
        self._parked: list[bytes] | None = None

    # ----------------------------------------------------------------------- what the broker answers

    def answer_close(self, method: amqp.ConnectionClose) -> None:
        """Send ``connection.close-ok`` behind everything else, and end."""
        if self.state is _S.CLOSED:
            return  # it was lost before anybody came to that
        last = b"".join((*self.outbox.take(), frame(METHOD, 0, amqp.ConnectionCloseOk().encode())))
        self.outbox.wake()
        self.outbox.append_urgent(last)
        error = ConnectionClosed.from_reply(
            method.reply_code, method.reply_text, class_id=method.class_id, method_id=method.method_id
        )
        self.end(error, flush=True)

    def answer_channel_close(self, channel: ChannelCore, method: amqp.ChannelClose) -> None:
        """Send ``channel.close-ok``; the channel is over, unless a close of ours still has no answer."""
        if self.error is not None:
            return  # the whole connection is being closed
        if channel.state is not ChannelState.CLIENT_CLOSING:  # it was closed twice
            self.outbox.append(frame(METHOD, channel.number, _CLOSE_OK))
            return
        channel.send(amqp.ChannelCloseOk())
        if channel.error is None:
            channel.end(ChannelClosed.from_reply(method.reply_code, method.reply_text))
        else:
            channel.await_answer()

    def punish(self, breach: Breach) -> None:
        """Do what follows on a breach, now that all that came before it is answered."""
        if self.state in _CLOSING or self.state is _S.CLOSED:
            return  # something that came before it had that effect already
        if breach.ending is Ending.TOLD:
            self.close(None, breach.reply_code or 0, breach.text, breach.culprit)
            return
        told = breach.ending is Ending.LAST_WORD
        if breach.ending is not Ending.ABRUPT:
            last = self.outbox.take()
            if told:
                last.append(
                    frame(METHOD, 0, amqp.ConnectionClose(breach.reply_code or 0, breach.text).encode())
                )
            self.outbox.append_urgent(b"".join(last))
        self.end(breach, flush=told)

    # ----------------------------------------------------------------------- what the client sends

    def take_events(self) -> list[events.Event]:
        """Return what happened since the last time; if it was nothing, read on where that was put off."""
        if not self.events and self._parked is not None and not self._waits:
            data, self._parked = b"".join(self._parked), None
            return self.receive_data(data)
        return super().take_events()

    @property
    def _waits(self) -> bool:
        """Whether nothing may be read before the broker has acted."""
        return self.state in _OUR_TURN or (self._breach is not None and self.state is not _S.SERVER_CLOSING)

    def _read(self, data: bytes) -> None:
        if self._parked is not None:
            self._park(data)
            return
        offset = 0
        if not self._greeted:
            taken = self._greet(data)
            if taken is None:
                return
            data, offset = taken
        elif self.reader.pending:
            taken = self._complete(data)
            if taken is None:
                return
            data, offset = taken
        available = len(data)
        channels = self._channels
        while available - offset >= 7:
            kind, number, length = unpack_head(data, offset)
            if length > self.payload_limit:
                raise self._too_large(kind, length)
            end = offset + 7 + length
            if end >= available:
                break
            if data[end] != END:
                raise _bad_end(kind, data[offset + 7 : end], data[end])
            channel = channels.get(number)
            try:
                if channel is not None and 0 < kind <= BODY:
                    offset = channel.receive(kind, data, offset + 7, end)
                    continue
                self._receive(kind, number, data, offset + 7, end)
            except AMQPError as error:
                self._break(judge(channel, kind, data[offset + 7 : end], error))
            offset = end + 1
            if self.state is _S.CLOSED:
                return
            if self._waits:
                self._park(data[offset:])
                return
        if offset != available:
            self.reader.keep(data, offset)

    def _greet(self, data: bytes) -> tuple[bytes, int] | None:
        data = self.reader.prepend(data)
        taken = self._handshake.greeted(self, data)
        if taken is None:
            self.reader.hold(data)
            return None
        self._greeted = True
        return data, taken

    def _complete(self, data: bytes) -> tuple[bytes, int] | None:
        """Take a frame that came in pieces; return what is left, or None if that has to wait."""
        reader = self.reader
        data = reader.prepend(data)
        if not reader.pending:
            return data, 0
        missing = reader.missing
        if len(data) >= missing and data[missing - 1] != END:
            begun = reader.begun()
            raise _bad_end(begun[0], begun[7:] + data[: missing - 1], data[missing - 1])
        offset = reader.fill(data)
        if not offset:
            return None
        kind, number, payload = reader.take()
        channel = self._channels.get(number)
        try:
            if channel is not None and 0 < kind <= BODY:
                channel.receive(kind, payload, 0, len(payload))
            else:
                self._receive(kind, number, payload, 0, len(payload))
        except AMQPError as error:
            self._break(judge(channel, kind, payload, error))
        if self.state is _S.CLOSED:
            return None
        if self._waits:
            self._park(data[offset:])
            return None
        return data, offset

    def _park(self, data: bytes) -> None:
        parked = self._parked = self._parked or []
        parked.append(data)
        if sum(map(len, parked)) > _MOST_PARKED:
            self.end(RemoteProtocolError("the client sends more than it waits for"), flush=False)

    # ----------------------------------------------------------------------- breaches

    def _fail(self, error: AMQPError) -> None:
        if self._greeted:
            self._break(error if isinstance(error, Breach) else Breach(541, "INTERNAL_ERROR"))
            self._park(b"")  # nothing behind it can be read
        else:
            super()._fail(error)

    def _break(self, breach: Breach) -> None:
        if self.state in _CLOSING:
            self.end(breach, flush=False)  # it was told that it is over
            return
        if breach.text in self._rewordings:
            code, text = self._rewordings[breach.text]
            breach = Breach(code, text, breach.culprit)
        if self.state in _STRANGERS and breach.ending is not Ending.ABRUPT:
            breach.ending = Ending.SILENT
        self._breach = breach
        self.events.append(events.Broken(breach))

    def _too_large(self, kind: int, length: int) -> Breach:
        limit = self.payload_limit if self.state in _STRANGERS else self.tuning.frame_max - OVERHEAD
        why = f"{{frame_too_large,{length},{limit}}}"
        text = f"FRAME_ERROR - type {kind}, all octets = <<>>: {why}"
        return Breach(501, text, ending=Ending.LAST_WORD)

    def _receive(self, kind: int, number: int, data: bytes, offset: int, end: int) -> None:
        closing = self.state in _CLOSING
        if closing and (number or kind != METHOD):
            return
        if kind == HEARTBEAT:
            if offset != end:
                raise unknown_frame(kind, data[offset:end])
            if number or self.state in _STRANGERS:
                raise unexpected(kind, b"")
        elif kind not in (METHOD, HEADER, BODY):
            raise unknown_frame(kind, data[offset:end])
        elif number:
            self._receive_on_unused(kind, number, data, offset, end)
        elif end - offset < (0 if kind == BODY else 4 if kind == METHOD else 12):
            raise unknown_frame(kind, data[offset:end])
        elif kind != METHOD:
            raise unexpected(kind, data[offset:end])
        else:
            self._receive_method(_unpack_index(data, offset)[0], data, offset + 4, end, closing)

    def _receive_on_unused(self, kind: int, number: int, data: bytes, offset: int, end: int) -> None:
        if self.state is not _S.OPEN:
            raise unexpected(kind, data[offset:end])
        if kind != METHOD or end - offset < 4:
            raise RemoteProtocolError("no method")  # which judges find the words for
        (index,) = _unpack_index(data, offset)
        check_layout(index, data, offset + 4, end)
        if index != amqp.ChannelOpen.index:
            if index not in self.dialect.methods:
                raise RemoteProtocolError("no method that there is")
            raise Breach(504, "CHANNEL_ERROR - expected 'channel.open'", index)
        most = self.tuning.channel_max
        if len(self._channels) >= most:
            raise Breach(
                530,
                f"NOT_ALLOWED - number of channels opened ({most}) has reached the negotiated channel_max "
                f"({most})",
            )
        channel = self._channels[number] = ChannelCore(self, number)
        channel.receive(kind, data, offset, end)

    def _receive_method(self, index: int, data: bytes, offset: int, end: int, closing: bool) -> None:
        before = self.state
        if closing:
            super()._receive_method(index, data, offset, end, closing)
            return
        if index not in self.dialect.methods:
            raise RemoteProtocolError("no method that there is")
        check_layout(index, data, offset, end)
        method = self.dialect.methods[index].decode(data, offset, end)
        expected = index in self.tables.connection[before].received
        if not expected or (index == amqp.ConnectionClose.index and before is not _S.OPEN):
            state = "running" if before is _S.OPEN else "opening"
            raise Breach(504, f"CHANNEL_ERROR - unexpected method in connection state {state}", index)
        if index == amqp.ConnectionClose.index:
            self.state = _S.CLIENT_CLOSING
            self.events.append(events.Requested(None, method))
            return
        try:
            super()._receive_method(index, data, offset, end, closing)
        except RemoteProtocolError as error:  # limits that nobody has agreed to
            raise Breach(error.reply_code or 0, str(error), index, ending=Ending.SILENT) from error

    # ----------------------------------------------------------------------- for channels

    def rows(self, state: Enum) -> Rows:
        """Return what we may send and what may come on a channel in ``state``."""
        return self._leaving if state is ChannelState.CLIENT_CLOSING else super().rows(state)

    def assemble(
        self, channel: ChannelCore, name: str, class_id: int, done: Callable[[bytes, bytes], None]
    ) -> Assembly:
        """Return what gathers a content, or counts it, if it is too large."""
        return _Gathering(name, class_id, channel, done)

    def _limit(self, tuning: Tuning) -> None:
        super()._limit(tuning)
        # RabbitMQ takes frames that are too large by their own head and end: clients had miscounted.
        self.payload_limit = tuning.frame_max or self.payload_limit


class _Gathering(Assembly):
    """Gathers what a client publishes; of what is too large it only counts the bytes."""

    __slots__ = ("_channel", "_total")

    def __init__(
        self, name: str, class_id: int, channel: ChannelCore, done: Callable[[bytes, bytes], None]
    ) -> None:
        super().__init__(name, class_id, 0xFFFFFFFFFFFFFFFF, done)
        self._channel = channel
        self._total = 0

    def header(self, data: bytes, offset: int, end: int) -> bool:
        if not self.began and end - offset >= 12:
            _, weight, self._total = _unpack_header(data, offset)
            if weight:
                raise Breach(505, NO_HEADER, amqp.BasicPublish.index)
            connection: Any = self._channel.connection
            if 0 < connection.largest_body < self._total:
                raise Breach(
                    501,
                    f"FRAME_ERROR - content body size {self._total} exceeds maximum allowed size "
                    f"{connection.largest_body}",
                    amqp.BasicPublish.index,
                )
            if self._total > connection.max_message_size:
                self._done = self._refuse
        return super().header(data, offset, end)

    def body(self, data: bytes, offset: int, end: int) -> bool:
        if offset == end and self.began:
            return False  # legal and useless; RabbitMQ does not count them
        complete = super().body(data, offset, end)
        if self._total > self._channel.connection.max_message_size:
            self._pieces.clear()
        return complete

    def _refuse(self, header: bytes, body: bytes) -> None:
        self._channel.connection.events.append(events.TooLarge(self._channel, self._total))


def _bad_end(kind: int, payload: bytes, octet: int) -> Breach:
    why = f"{{invalid_frame_end_marker,{octet}}}"
    text = f"FRAME_ERROR - type {kind}, all octets = {octets(payload)}: {why}"
    return Breach(501, text, ending=Ending.LAST_WORD)


# --------------------------------------------------------------------------- methods on channels


def _request(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    (index,) = _unpack_index(data, offset - 4)
    connection: Any = channel.connection
    check_layout(index, data, offset, end)
    method = connection.dialect.methods[index].decode(data, offset, end)
    connection.events.append(events.Requested(channel, method))
    return end + 1


def _flow_ok(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    # The one thing, but for a close, that a broker asks for and that is answered; RabbitMQ never does.
    channel.waiting.remove(channel.expect(amqp.ChannelFlowOk))
    return end + 1


def _close_ok(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    if channel.waiting:
        return SERVER_HANDLERS[amqp.ChannelCloseOk.index](channel, data, offset, end)
    return end + 1


def _close_again(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    if channel.state is ChannelState.CLIENT_CLOSING:
        return _request(channel, data, offset, end)
    return SERVER_HANDLERS[amqp.ChannelClose.index](channel, data, offset, end)


def _discard(channel: ChannelCore, data: bytes, offset: int, end: int) -> int:
    return end + 1


# Nearly everything is the broker's to decide, but for what comes by the thousand.
_SERVING: Mapping[int, Handler] = {
    **dict.fromkeys((method.index for method in amqp.METHODS), _request),
    **INTAKE,
    amqp.ChannelFlowOk.index: _flow_ok,
}
# When either side has said that it closes a channel, the rest is discarded.
_LEAVING: Mapping[int, Handler] = {
    **dict.fromkeys((method.index for method in amqp.METHODS), _discard),
    amqp.ChannelClose.index: _close_again,
    amqp.ChannelCloseOk.index: _close_ok,
}
