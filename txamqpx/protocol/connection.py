"""A whole connection without I/O, in either role: bytes in, events out.

::

    core = Connection(ClientHandshake([Plain("guest", "guest")]))
    core.start()
    transport.writeSequence(core.outbox.take())
    for event in core.receive_data(received): ...

Everything that arrives goes through ``receive_data``, which never raises: whatever the peer
does wrong ends in one ``ConnectionEnded``, after every token has come back.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from txamqpx.errors import (
    AMQPError,
    AuthenticationError,
    Closed,
    ConnectionClosed,
    ConnectionLost,
    DecodeError,
    EncodeError,
    InvalidPath,
    LocalProtocolError,
    NoFreeChannels,
    NotAllowed,
    RemoteProtocolError,
    VhostAccessDenied,
    caused,
    printable,
)
from txamqpx.protocol import events
from txamqpx.protocol.arrivals import CLIENT_HANDLERS, SERVER_HANDLERS, WHILE_CLOSING, Handler
from txamqpx.protocol.channel import ChannelCore, Preparation, Waiting
from txamqpx.protocol.content import Assembly
from txamqpx.protocol.departures import CLIENT_PREPARATIONS, SERVER_PREPARATIONS
from txamqpx.protocol.frames import (
    BODY,
    END,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    OVERHEAD,
    FrameReader,
    Silent,
    check_end,
    frame,
    unpack_head,
)
from txamqpx.protocol.handshake import ClientHandshake, ServerHandshake, tuning_in
from txamqpx.protocol.outbox import Outbox
from txamqpx.protocol.states import ConnectionState, Role, Rows, compile_tables
from txamqpx.protocol.tuning import INITIAL_FRAME_MAX, Tuning
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect

__all__ = ["Connection"]

_unpack_index = struct.Struct(">I").unpack_from

_TABLES = {role: compile_tables(role) for role in Role}

# How many bytes of answers a peer may provoke while it reads nothing at all.
_PROVOKED = 1024 * 1024

# In "access to vhost 'v' refused for user 'u': connection limit (3) is reached"; names may say anything.
_CROWDED = re.compile(r"\blimit \(\d+\)")

# The states in which the handshake is over.
_SETTLED = (ConnectionState.OPEN, ConnectionState.CLIENT_CLOSING, ConnectionState.SERVER_CLOSING)

# A peer that sets no limit to frames still gets no larger ones from us: others wait for their turn.
_LARGEST_FRAME = 131072


class Connection:
    """One connection.

    Args:
        handshake: How it is opened, which says who we are.
        max_message_size: The largest body that is accepted, in bytes.
        max_outbox: The most bytes that may wait for the transport.
        initial_frame_max: The largest frame that is accepted, and sent, before both sides agreed on one.
        delivery: The class of the events for deliveries, so that what a consumer gets is made only once.
        published: Likewise for what clients publish, in a core that makes events of that by itself
            (``ServerConnection``); in any other a publish is a ``Requested`` like any other method.
        dialect: The protocol version.
        wake: Called when the outbox is empty and about to be filled.
    """

    def __init__(
        self,
        handshake: ClientHandshake | ServerHandshake,
        *,
        max_message_size: int = 64 * 1024 * 1024,
        max_outbox: int = 64 * 1024 * 1024,
        initial_frame_max: int = INITIAL_FRAME_MAX,
        delivery: type[events.Delivered] = events.Delivered,
        published: type[events.Published] = events.Published,
        dialect: Dialect = AMQP_0_9_1,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        self.role = handshake.role
        self.dialect = dialect
        self.tables = _TABLES[self.role] if dialect is AMQP_0_9_1 else compile_tables(self.role, dialect)
        self.state = ConnectionState.AWAIT_HEADER
        #: Why the connection is over, once it is, or why it is being closed.
        self.error: AMQPError | None = None
        #: What the server said of itself; empty in its own role.
        self.server_properties: dict[str, Any] = {}
        #: What a server proposed.
        self.proposed = Tuning(0, 0, 0)
        self.outbox = Outbox(max_outbox, wake)
        #: What happened and was not taken yet.
        self.events: list[events.Event] = []
        #: Requests on channel 0 that have no answer.
        self.waiting: deque[Waiting] = deque()
        self.max_message_size = max_message_size
        self.delivery = delivery
        self.published = published
        self.basic_properties = dialect.properties[60]
        client = self.role is Role.CLIENT
        self.channel_handlers: Mapping[int, Handler] = CLIENT_HANDLERS if client else SERVER_HANDLERS
        self.closing_handlers: Mapping[int, Handler] = WHILE_CLOSING
        self.preparations: Mapping[int, Preparation] = CLIENT_PREPARATIONS if client else SERVER_PREPARATIONS
        self._handshake = handshake
        self._greeted = False
        #: What came of a frame whose end has not.
        self.reader = FrameReader()
        self._channels: dict[int, ChannelCore] = {}
        self._numbers_used: set[int] = set()
        self._last_number = 0
        # Bytes of answers appended since the transport last took anything.
        self._provoked = 0
        self._taken = 0
        self._limit(Tuning(0, initial_frame_max, 0))

    def __repr__(self) -> str:
        return f"<{self.role.value} connection, {self.state.value}>"

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened."""
        return self.state is ConnectionState.OPEN

    @property
    def channels(self) -> Mapping[int, ChannelCore]:
        """The channels whose numbers are in use."""
        return self._channels

    # ----------------------------------------------------------------------- what our side sends

    def start(self) -> None:
        """Begin: a client greets, a server waits for that."""
        self._handshake.begin(self)

    def open_channel(self, token: Any = None) -> ChannelCore:
        """Open a channel with a free number; ``token`` comes back when the peer has answered.

        Methods may follow at once: a server takes them in order.

        Raises:
            NoFreeChannels: Each number that was negotiated is in use.
            ConnectionClosed: The connection is over.
            LocalProtocolError: The connection is not open yet.
        """
        if self.state is not ConnectionState.OPEN:
            raise self.refusal("channel.open")
        channel = ChannelCore(self, self._free_number())
        channel.send(self.dialect.new("channel.open"), token)
        self._channels[channel.number] = channel
        self._numbers_used.add(channel.number)
        self._last_number = channel.number
        return channel

    def send(self, method: Method, token: Any = None) -> None:
        """Send a method on channel 0.

        Raises:
            EncodeError: A field does not fit; nothing was sent.
            LocalProtocolError: The state forbids it; nothing was sent.
            ConnectionClosed: The connection is over; nothing was sent.
        """
        # Not kept in a variable: tracebacks show those, and this may be a login.
        size = len(method.encode())
        if size > self.payload_max:
            raise EncodeError(f"takes {size} bytes, a frame holds {self.payload_max}", method.name)
        state = self.tables.connection[self.state].sent.get(method.index)
        if state is None:
            raise self.refusal(method.name)
        if not self.outbox.size:
            self.outbox.wake()  # which raises on a foreign thread
        piece = frame(METHOD, 0, method.encode())
        if method.name == "connection.close-ok" and not (self.error is not None and self.outbox.size):
            self.outbox.append_urgent(piece)  # but not in front of a close of our own that still waits
        else:
            self.outbox.append(piece)
        if method.name == "connection.tune":
            self.proposed = tuning_in(method)
        self.state = _as_connection_state(state)
        # What a handshake asks is answered to the handshake, by the state that follows.
        if method.expects_reply and self.state in _SETTLED:
            self.waiting.append(Waiting(method, token))

    def close(self, token: Any = None, reply_code: int = 200, reply_text: str = "", culprit: int = 0) -> None:
        """Close the connection: everything that waits fails now, ``token`` comes back with the answer.

        Args:
            token: Comes back with the answer.
            reply_code: Why.
            reply_text: Why, in words.
            culprit: The index of the method that is to blame; 0: none is.

        Raises:
            LocalProtocolError: The connection is not open; drop the transport instead.
            ConnectionClosed: It is over already.
        """
        method = self.dialect.new(
            "connection.close",
            reply_code=reply_code,
            reply_text=reply_text,
            class_id=culprit >> 16,
            method_id=culprit & 0xFFFF,
        )
        method.encode()  # a text that does not fit is refused before anything fails
        if self.error is not None or method.index not in self.tables.connection[self.state].sent:
            raise self.refusal(method.name)
        error = ConnectionClosed.from_reply(reply_code, reply_text, by_peer=False)
        if not self.outbox.size:
            self.outbox.wake()  # which raises on a foreign thread: before anything fails
        self.outbox.gather()
        self._end_channels(error)
        self._fail_waiting(error)
        self.send(method, token)
        self.error = error

    def heartbeat(self) -> None:
        """Put a heartbeat in front of whatever waits to be written."""
        self.outbox.append_urgent(HEARTBEAT_FRAME)

    def refusal(self, operation: str) -> AMQPError:
        """Return why ``operation`` is impossible now."""
        if isinstance(self.error, Closed):
            return self.error.copy()
        if self.error is not None:
            return caused(ConnectionLost(str(self.error)), self.error)
        return LocalProtocolError(
            f"{operation} is not allowed on a connection that is {self.state.value}", operation=operation
        )

    def _free_number(self) -> int:
        most = self.tuning.channel_max
        if len(self._channels) >= most:
            raise NoFreeChannels(f"all {most} channels are in use", reply_code=504)
        number = self._last_number
        while True:  # round about, so that a late frame of an old channel seldom meets a new one
            number = number % most + 1
            if number not in self._channels:
                return number

    # ----------------------------------------------------------------------- what the peer sends

    def receive_data(self, data: bytes) -> list[events.Event]:
        """Take bytes as they come, cut anywhere; return what happened."""
        if data and self.state is not ConnectionState.CLOSED:
            try:
                before = self.outbox.size
                self._read(data)
                if self.outbox.size != before:
                    self._count_answers(before)
            except DecodeError as error:
                self._fail(caused(RemoteProtocolError(str(error), reply_code=502), error))
            except AMQPError as error:
                self._fail(error)
        return self.take_events()

    def take_events(self) -> list[events.Event]:
        """Return what happened since the last time."""
        taken, self.events = self.events, []
        return taken

    def connection_lost(
        self, error: AMQPError | None = None, *, cause: BaseException | None = None
    ) -> list[events.Event]:
        """Take note that the transport is gone; every token comes back.

        Args:
            error: Why, if it is known better than "lost".
            cause: What the transport said.
        """
        if self.state is not ConnectionState.CLOSED:
            if error is None and self.error is not None:
                error = self.error  # we were closing; that the peer did not stay to the end does no harm
            if error is None:
                error = self._handshake.explain(self.state)
            if error is None:
                pending = self.reader.pending
                where = f" in the middle of a frame, after {pending} bytes of it" if pending else ""
                error = ConnectionLost(f"the connection was lost{where}")
            error.__cause__ = error.__cause__ or cause
            self.end(error, flush=False)
        return self.take_events()

    def _read(self, data: bytes) -> None:
        reader = self.reader
        offset = 0
        if not self._greeted:
            data = reader.prepend(data)
            taken = self._handshake.greeted(self, data)
            if taken is None:
                reader.hold(data)
                return
            self._greeted = True
            offset = taken
        elif reader.pending:
            data = reader.prepend(data)
            if reader.pending:
                offset = reader.fill(data)
                if not offset:
                    return
                kind, number, payload = reader.take()
                self._dispatch(kind, number, payload)
                if self.state is ConnectionState.CLOSED:
                    return
        available = len(data)
        channels = self._channels
        while available - offset >= 7:
            kind, number, length = unpack_head(data, offset)
            if length > self.payload_limit:  # judged by the head, before the payload is stored
                limit = self.payload_limit + OVERHEAD
                raise RemoteProtocolError(
                    f"a frame of {length + OVERHEAD} bytes came, at most {limit} were agreed", reply_code=501
                )
            end = offset + 7 + length
            if end >= available:
                break
            if data[end] != END:
                check_end(data[end])
            channel = channels.get(number)
            if channel is not None and 0 < kind <= BODY:
                offset = channel.receive(kind, data, offset + 7, end)
            else:
                self._receive(kind, number, data, offset + 7, end)
                offset = end + 1
                if self.state is ConnectionState.CLOSED:
                    return  # what comes behind the last close-ok is nobody's
        if offset != available:
            reader.keep(data, offset)

    def _count_answers(self, before: int) -> None:
        # Nobody's callback runs while the core reads: what has been appended, the peer has asked for.
        if self.outbox.taken != self._taken:
            self._taken, self._provoked = self.outbox.taken, 0
        self._provoked += self.outbox.size - before
        if self._provoked > _PROVOKED:
            raise RemoteProtocolError("the peer wants more answers than it reads", reply_code=506)

    def _dispatch(self, kind: int, number: int, payload: bytes) -> None:
        """Take a frame that came in pieces."""
        channel = self._channels.get(number)
        if channel is not None and 0 < kind <= BODY:
            channel.receive(kind, payload, 0, len(payload))
        else:
            self._receive(kind, number, payload, 0, len(payload))

    def _receive(self, kind: int, number: int, data: bytes, offset: int, end: int) -> None:
        """Take a frame that belongs to no channel that is in use."""
        closing = self.state in (ConnectionState.CLIENT_CLOSING, ConnectionState.SERVER_CLOSING)
        if kind == HEARTBEAT:
            if number:
                raise RemoteProtocolError(f"a heartbeat on channel {number}", reply_code=501)
        elif kind not in (METHOD, HEADER, BODY):
            raise Silent(f"a frame of unknown type {kind}", reply_code=501)
        elif closing and (number or kind != METHOD):
            pass  # after a close everything is discarded but the answer to it (class connection, close)
        elif number:
            self._receive_on_unused(kind, number, data, offset, end)
        elif kind != METHOD:
            raise RemoteProtocolError("a content frame on channel 0", reply_code=504)
        elif end - offset < 4:
            raise RemoteProtocolError("a method frame is cut short", reply_code=502)
        else:
            self._receive_method(_unpack_index(data, offset)[0], data, offset + 4, end, closing)

    def _receive_on_unused(self, kind: int, number: int, data: bytes, offset: int, end: int) -> None:
        index = _unpack_index(data, offset)[0] if kind == METHOD and end - offset >= 4 else 0
        method = self.dialect.methods.get(index)
        name = method.name if method else ""
        if name.startswith("connection."):
            raise RemoteProtocolError(f"{name} on channel {number}", operation=name)
        if self.role is Role.SERVER and name == "channel.open" and self.is_open:
            if number > self.tuning.channel_max:
                raise RemoteProtocolError(f"channel {number} is beyond channel_max", reply_code=504)
            channel = self._channels[number] = ChannelCore(self, number)
            self._numbers_used.add(number)
            channel.receive(kind, data, offset, end)
        elif number not in self._numbers_used:
            raise RemoteProtocolError(f"a frame on channel {number}, which was never opened", reply_code=504)
        elif name == "channel.close":
            self.outbox.append(frame(METHOD, number, self.dialect.new("channel.close-ok").encode()))
        # Anything else is late for a channel that is closed, and was meant for nobody.

    def _receive_method(self, index: int, data: bytes, offset: int, end: int, closing: bool) -> None:
        kind = self.dialect.methods.get(index)
        state = self.tables.connection[self.state].received.get(index)
        if state is None:
            if closing:
                return
            if kind is None:
                raise RemoteProtocolError(f"unknown method {index >> 16}.{index & 0xFFFF}", reply_code=540)
            raise RemoteProtocolError(
                f"{kind.name} is not allowed from the peer on a connection that is {self.state.value}",
                operation=kind.name,
            )
        assert kind is not None  # the tables are made of the dialect's methods
        method = kind.decode(data, offset, end)
        previous, self.state = self.state, _as_connection_state(state)
        step = self._handshake.handlers.get(kind.name)
        if step is not None:
            step(self, method)
        elif kind.name == "connection.close":
            self._take_close(method, previous)
        elif index in self.dialect.responses and (self.waiting or self.is_open):
            self._take_answer(method)
        elif kind.name == "connection.blocked":
            self.events.append(events.Blocked(printable(getattr(method, "reason", ""))))
        elif kind.name == "connection.unblocked":
            self.events.append(events.Unblocked())
        else:
            self.events.append(events.Requested(None, method))

    def _take_answer(self, method: Method) -> None:
        if not self.waiting or method.index not in self.waiting[0].request.responses:
            raise RemoteProtocolError(f"{method.name} answers nothing that was asked", operation=method.name)
        self.events.append(events.Replied(None, self.waiting.popleft().token, method))
        if method.name == "connection.close-ok":
            assert self.error is not None  # set when our close was sent
            self.end(self.error, flush=True)

    def _take_close(self, method: Any, previous: ConnectionState) -> None:
        self.send(self.dialect.new("connection.close-ok"))
        if previous is self.state:  # ours is on its way: the answer to it is still to come
            return
        failed = self.dialect.methods.get(method.class_id << 16 | method.method_id)
        error: Closed = ConnectionClosed.from_reply(
            method.reply_code,
            method.reply_text,
            class_id=method.class_id,
            method_id=method.method_id,
            operation=failed.name if failed else "",
        )
        refused = isinstance(error, NotAllowed | AuthenticationError | InvalidPath) and (
            not _CROWDED.search(error.reply_text)  # another time there may be room
        )
        if refused and previous is ConnectionState.AWAIT_OPEN_OK:
            error = VhostAccessDenied(error.reply_text, reply_code=error.reply_code)
        self.end(error, flush=True)

    # ----------------------------------------------------------------------- the end

    def end(self, error: AMQPError, *, flush: bool) -> None:
        """End the connection for ``error``: every token comes back, then the channels, then itself.

        Args:
            error: Why.
            flush: Whether what waits in the outbox is for the peer to hear.
        """
        self.state = ConnectionState.CLOSED
        self.error = error
        closed = error if isinstance(error, Closed) else caused(ConnectionLost(str(error)), error)
        self._end_channels(closed)
        self._fail_waiting(closed)
        self.outbox.discard()  # nothing follows a close, or the answer to one
        self.events.append(events.ConnectionEnded(error, flush))

    def _fail(self, error: AMQPError) -> None:
        """End the connection because the peer broke the protocol; tell it why, unless framing is lost."""
        sent = self.tables.connection[self.state].sent
        speak = False
        if isinstance(error, RemoteProtocolError) and not isinstance(error, Silent):
            text = str(error).encode()[:255].decode("utf-8", "ignore")
            close = self.dialect.new("connection.close", reply_code=error.reply_code, reply_text=text)
            speak = close.index in sent
        if speak:
            self.outbox.append_urgent(frame(METHOD, 0, close.encode()))  # what waits will not be heard
        # A server's last word to a client that speaks another protocol is in the outbox.
        self.end(error, flush=speak or not self._greeted)

    def _end_channels(self, error: Closed) -> None:
        for channel in list(self._channels.values()):
            channel.end(error, connection_ended=True)

    def _fail_waiting(self, error: Closed) -> None:
        waiting, self.waiting = self.waiting, deque()
        self.events += [events.Failed(one.token, error.copy()) for one in waiting]

    # ----------------------------------------------------------------------- for channels and handshakes

    def release(self, channel: ChannelCore) -> None:
        """Free the number of a channel that has ended."""
        self._channels.pop(channel.number, None)

    def assemble(
        self, channel: ChannelCore, name: str, class_id: int, done: Callable[[bytes, bytes], None]
    ) -> Assembly:
        """Return what gathers the content of method ``name``, which came on ``channel``."""
        return Assembly(name, class_id, self.max_message_size, done)

    def rows(self, state: Enum) -> Rows:
        """Return what we may send and what may come on a channel in ``state``."""
        return self.tables.channel[state]

    def agree(self, tuning: Tuning) -> None:
        """Put negotiated limits in force."""
        self._limit(tuning)
        self.events.append(events.Tuned(tuning))

    def _limit(self, tuning: Tuning) -> None:
        #: The limits in force; before the handshake ends, the initial ones.
        self.tuning = tuning
        largest = max(self.max_message_size, INITIAL_FRAME_MAX)
        #: The largest payload that is accepted; without a limit, the largest body still has to fit.
        self.payload_limit = tuning.frame_max - OVERHEAD if tuning.frame_max else largest
        #: The largest payload that is sent.
        self.payload_max = (tuning.frame_max or _LARGEST_FRAME) - OVERHEAD


def _as_connection_state(state: Enum) -> ConnectionState:
    assert isinstance(state, ConnectionState)  # the tables hold nothing else
    return state
