"""A whole connection without I/O, in either role: bytes in, events out.

::

    core = Connection(Role.CLIENT, logins=[Plain("guest", "guest")])
    core.start()
    transport.writeSequence(core.data_to_send())
    for event in core.receive_data(received): ...

Everything that arrives goes through ``receive_data``, which never raises: whatever the peer
does wrong ends in one ``ConnectionEnded``, after every token has come back.  Everything that is
sent is appended to the outbox as whole frames, a content never apart from its method.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import evolve

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
    ProbableAuthenticationError,
    RemoteProtocolError,
    VhostAccessDenied,
)
from txamqpx.protocol import events
from txamqpx.protocol.auth import Mechanism
from txamqpx.protocol.channel import (
    CLIENT_HANDLERS,
    CLIENT_PREPARATIONS,
    SERVER_HANDLERS,
    SERVER_PREPARATIONS,
    ChannelCore,
    Waiting,
)
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
    check_greeting,
    frame,
    unpack_head,
)
from txamqpx.protocol.states import ConnectionState, Role, Row, compile_tables
from txamqpx.protocol.tuning import INITIAL_FRAME_MAX, Tuning, negotiate
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect

__all__ = ["CAPABILITIES", "Connection"]

_unpack_index = struct.Struct(">I").unpack_from

#: What we tell a broker that we understand; it changes what the broker does.
CAPABILITIES: Mapping[str, bool] = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}

DEFAULT_TUNING = Tuning(channel_max=2047, frame_max=131072, heartbeat=60)  # what RabbitMQ proposes

_TABLES = {role: compile_tables(role) for role in Role}


class Connection:
    """One connection.

    Args:
        role: Who we are.
        logins: How a client may log in, the best first; fresh for each connection.
        virtual_host: What a client opens.
        locale: A client's locale.
        properties: Client or server properties, sent as they are.
        tuning: Our wishes; a heartbeat of 0 is no wish.
        heartbeats: False switches them off, whatever the server proposes.
        max_message_size: The largest body that is accepted, in bytes.
        max_outbox: The most bytes that may wait for the transport.
        initial_frame_max: The largest frame that is accepted, and sent, before both sides agreed on one.
        delivery: The class of the events for deliveries, so that what a consumer gets is made once.
        mechanisms: What a server offers, separated by spaces.
        dialect: The protocol version.
        wake: Called when the outbox is empty and about to be filled.
    """

    def __init__(
        self,
        role: Role,
        *,
        logins: Sequence[Mechanism] = (),
        virtual_host: str = "/",
        locale: str = "en_US",
        properties: Mapping[str, Any] | None = None,
        tuning: Tuning = DEFAULT_TUNING,
        heartbeats: bool = True,
        max_message_size: int = 64 * 1024 * 1024,
        max_outbox: int = 64 * 1024 * 1024,
        initial_frame_max: int = INITIAL_FRAME_MAX,
        delivery: type[events.Delivered] = events.Delivered,
        mechanisms: str = "PLAIN AMQPLAIN",
        dialect: Dialect = AMQP_0_9_1,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        self.role = role
        self.wake = wake
        self.dialect = dialect
        self.tables = _TABLES[role] if dialect is AMQP_0_9_1 else compile_tables(role, dialect)
        self.state = ConnectionState.AWAIT_HEADER
        #: Why the connection is over, once it is.
        self.error: AMQPError | None = None
        #: What the server said of itself.
        self.server_properties: dict[str, Any] = {}
        #: The limits in force; before the handshake ends, the initial ones.
        self.tuning = Tuning(0, initial_frame_max, 0)
        #: What happened and was not yet taken.
        self.events: list[events.Event] = []
        self.max_message_size = max_message_size
        self.max_outbox = max_outbox
        self.delivery = delivery
        self.basic_properties = dialect.properties[60]
        client = role is Role.CLIENT
        self.channel_handlers = CLIENT_HANDLERS if client else SERVER_HANDLERS
        self.preparations = CLIENT_PREPARATIONS if client else SERVER_PREPARATIONS
        #: Whole frames that wait for the transport, how many bytes they are, how many pieces were ever
        #: appended and how many of them were taken.
        self.outbox: deque[bytes] = deque()
        self.outbox_size = 0
        self.appended = 0
        self.taken = 0
        self._urgent: list[bytes] = []
        self._logins = logins
        self._login: Mechanism | None = None
        self._virtual_host = virtual_host
        self._locale = locale
        self._properties = dict(properties or {})
        self._wishes = tuning
        self._heartbeats = heartbeats
        self._mechanisms = mechanisms
        self._reader = FrameReader()
        self._channels: dict[int, ChannelCore] = {}
        self._numbers_used: set[int] = set()
        self._last_number = 0
        self._waiting: deque[Waiting] = deque()
        self._greeted = False
        self._limit_frames()

    def __repr__(self) -> str:
        return f"<{self.role.value} connection, {self.state.value}>"

    # ----------------------------------------------------------------------- what our side sends

    def start(self) -> None:
        """Begin: a client greets, a server waits for that."""
        if self.role is Role.CLIENT:
            self.append(self.dialect.header)
            self.state = ConnectionState.AWAIT_START

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
        payload = method.encode()
        if len(payload) > self.payload_max:
            raise EncodeError(f"takes {len(payload)} bytes, a frame holds {self.payload_max}", method.name)
        state = self.tables.connection[self.state].sent.get(method.index)
        if state is None:
            raise self.refusal(method.name)
        piece = frame(METHOD, 0, payload)
        if method.name == "connection.close-ok":
            self._urgent.append(piece)
        else:
            self.append(piece)
        if method.name == "connection.tune" and self.role is Role.SERVER:
            self._wishes = _tuning_in(method)
        self.state = _connection_state(state)
        if method.expects_reply and self.role is Role.CLIENT:
            self._waiting.append(Waiting(method, token))

    def close(self, token: Any = None, reply_code: int = 200, reply_text: str = "") -> None:
        """Close the connection: everything that waits fails now, ``token`` comes back with the answer.

        Raises:
            LocalProtocolError: The connection is not open; drop the transport instead.
            ConnectionClosed: It is over already.
        """
        method = self.dialect.new("connection.close", reply_code=reply_code, reply_text=reply_text)
        error = ConnectionClosed.from_reply(reply_code, reply_text, by_peer=False)
        if method.index not in self.tables.connection[self.state].sent:
            raise self.refusal(method.name)
        self._end_channels(error)
        self._fail_waiting(error)
        self.send(method, token)
        if self.role is Role.SERVER:
            self._waiting.append(Waiting(method, token))
        self.error = error

    def heartbeat(self) -> None:
        """Append a heartbeat, in front of whatever waits."""
        self._urgent.append(HEARTBEAT_FRAME)

    def append(self, frames: bytes) -> None:
        """Append whole frames to the outbox."""
        if not self.outbox:
            self.wake()
        self.outbox.append(frames)
        self.outbox_size += len(frames)
        self.appended += 1

    def data_to_send(self, most: int | None = None) -> list[bytes]:
        """Take what waits to be written: the urgent, then pieces until ``most`` bytes are passed."""
        pieces, self._urgent = self._urgent, []
        outbox = self.outbox
        if most is None or self.outbox_size <= most:
            self.taken += len(outbox)
            pieces += outbox
            outbox.clear()
            self.outbox_size = 0
            return pieces
        size = 0
        while size < most and outbox:
            piece = outbox.popleft()
            size += len(piece)
            pieces.append(piece)
            self.taken += 1
        self.outbox_size -= size
        return pieces

    @property
    def has_data_to_send(self) -> bool:
        """Whether ``data_to_send`` has anything to give."""
        return bool(self.outbox or self._urgent)

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened."""
        return self.state is ConnectionState.OPEN

    @property
    def channels(self) -> Mapping[int, ChannelCore]:
        """The channels whose numbers are in use."""
        return self._channels

    def refusal(self, operation: str) -> AMQPError:
        """Return why ``operation`` is impossible now."""
        if isinstance(self.error, Closed):
            return self.error.copy()
        if self.error is not None:
            return _caused(ConnectionLost(str(self.error)), self.error)
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
        if self.state is not ConnectionState.CLOSED:
            try:
                self._read(self._reader.feed(data))
            except DecodeError as error:
                self._fail(RemoteProtocolError(str(error), reply_code=502), error)
            except (RemoteProtocolError, Closed) as error:
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
            pending = self._reader.pending
            where = f" in the middle of a frame, after {pending} bytes of it" if pending else ""
            if error is None and isinstance(self.error, Closed):
                error = self.error  # we were closing; that the peer did not wait for the end does no harm
            elif error is None and self.state is ConnectionState.AWAIT_TUNE:
                error = ProbableAuthenticationError(
                    "the server hung up after the login: most likely it refused the credentials"
                )
            elif error is None and self.state is ConnectionState.AWAIT_OPEN_OK:
                error = VhostAccessDenied(
                    f"the server hung up when virtual host {self._virtual_host!r} was opened", reply_code=0
                )
            error = error or ConnectionLost(f"the connection was lost{where}")
            error.__cause__ = error.__cause__ or cause
            self.end(error, flush=False)
        return self.take_events()

    def _read(self, data: bytes) -> None:
        if not self._greeted and data:
            if not self._greet(data):
                return
            data = data if self.role is Role.CLIENT else data[8:]
        available = len(data)
        offset = 0
        channels = self._channels
        while available - offset >= OVERHEAD:
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
                raise Silent(f"a frame ends in {data[end]:#04x} instead of 0xce", reply_code=501)
            channel = channels.get(number)
            if channel is not None and kind <= BODY and kind:
                offset = channel.receive(kind, data, offset + 7, end)
            else:
                self._receive(kind, number, data, offset + 7, end)
                offset = end + 1
        self._reader.keep(data, offset)

    def _greet(self, data: bytes) -> bool:
        """Take the first bytes of the peer; return False while there are too few of them."""
        if self.role is Role.CLIENT:
            check_greeting(data)
            if data[0] != METHOD:  # the beginning of a protocol header
                self._reader.keep_greeting(data)
                return False
        else:
            header = self.dialect.header
            if len(data) < 8 and header.startswith(data):
                self._reader.keep_greeting(data)
                return False
            if not data.startswith(header):
                self.append(header)  # section 4.2.2: answer with what we speak, and hang up
                raise Silent(f"the client wants another protocol: {data[:8]!r}")
            self.state = ConnectionState.AWAIT_START
            self._greeted = True
            self.send(
                self.dialect.new(
                    "connection.start",
                    version_major=self.dialect.major,
                    version_minor=self.dialect.minor,
                    server_properties=self._properties,
                    mechanisms=self._mechanisms,
                    locales="en_US",
                )
            )
        self._greeted = True
        return True

    def _receive(self, kind: int, number: int, data: bytes, offset: int, end: int) -> None:
        """Take a frame that belongs to no channel that is in use."""
        closing = self.state in (ConnectionState.CLIENT_CLOSING, ConnectionState.SERVER_CLOSING)
        if kind == HEARTBEAT:
            if number:
                raise RemoteProtocolError(f"a heartbeat on channel {number}", reply_code=501)
        elif kind not in (METHOD, HEADER, BODY):
            raise Silent(f"a frame of unknown type {kind}", reply_code=501)
        elif number:
            if not closing:
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
        if method is not None and method.name.startswith("connection."):
            raise RemoteProtocolError(f"{method.name} on channel {number}", operation=method.name)
        if self.role is Role.SERVER and method is not None and method.name == "channel.open":
            if number > self.tuning.channel_max:
                raise RemoteProtocolError(f"channel {number} is beyond channel_max", reply_code=504)
            channel = self._channels[number] = ChannelCore(self, number)
            self._numbers_used.add(number)
            channel.receive(kind, data, offset, end)
        elif number not in self._numbers_used:
            raise RemoteProtocolError(f"a frame on channel {number}, which was never opened", reply_code=504)
        elif method is not None and method.name == "channel.close":
            self.append(frame(METHOD, number, self.dialect.new("channel.close-ok").encode()))
        # Anything else is late for a channel that is closed, and was meant for nobody.

    def _receive_method(self, index: int, data: bytes, offset: int, end: int, closing: bool) -> None:
        kind = self.dialect.methods.get(index)
        state = self.tables.connection[self.state].received.get(index)
        if state is None:
            if closing:
                return
            if kind is None:
                raise RemoteProtocolError(f"unknown method {index >> 16}.{index & 0xFFFF}", reply_code=540)
            if kind.name in ("connection.blocked", "connection.unblocked"):
                return  # RabbitMQ may raise an alarm before it has opened us; there is nothing to stop yet
            raise RemoteProtocolError(
                f"{kind.name} is not allowed from the peer on a connection that is {self.state.value}",
                operation=kind.name,
            )
        assert kind is not None  # the tables are made of the dialect's methods
        method = kind.decode(data, offset, end)
        previous, self.state = self.state, _connection_state(state)
        take = _CONNECTION_HANDLERS.get(kind.name, Connection._take_request)
        take(self, method, previous)

    # the handshake, in the client's role

    def _take_start(self, method: Any, previous: ConnectionState) -> None:
        if (method.version_major, method.version_minor) != (self.dialect.major, self.dialect.minor):
            raise RemoteProtocolError(
                f"the server starts AMQP {method.version_major}-{method.version_minor}, "
                f"we speak {self.dialect.major}-{self.dialect.minor}",
                operation=method.name,
            )
        self.server_properties = method.server_properties
        offered = method.mechanisms.decode("ascii", "replace").split()
        self._login = next((login for login in self._logins if login.name in offered), None)
        if self._login is None:
            wanted = " or ".join(login.name for login in self._logins)
            raise AuthenticationError(
                f"the server offers no {wanted}, only {' '.join(offered)}", by_peer=False
            )
        try:
            self.send(
                self.dialect.new(
                    "connection.start-ok",
                    client_properties=self._properties,
                    mechanism=self._login.name,
                    response=self._login.initial_response(),
                    locale=self._locale,
                )
            )
        except EncodeError as error:
            # Before both sides agreed on a size there is little room; long tokens are what meets the limit.
            raise AuthenticationError(f"the login cannot be sent: {error}", by_peer=False) from error

    def _take_secure(self, method: Any, previous: ConnectionState) -> None:
        assert self._login is not None  # a challenge follows start-ok
        response = self._login.respond(method.challenge)
        self.send(self.dialect.new("connection.secure-ok", response=response))

    def _take_tune(self, method: Any, previous: ConnectionState) -> None:
        tuning = negotiate(self._wishes, _tuning_in(method))
        if not self._heartbeats:
            tuning = evolve(tuning, heartbeat=0)
        self.send(
            self.dialect.new(
                "connection.tune-ok",
                channel_max=tuning.channel_max,
                frame_max=tuning.frame_max,
                heartbeat=tuning.heartbeat,
            )
        )
        self._agree(tuning)
        # Not waiting for anything saves a round trip: nothing answers tune-ok.
        self.send(self.dialect.new("connection.open", virtual_host=self._virtual_host))

    def _take_open_ok(self, method: Any, previous: ConnectionState) -> None:
        self._waiting.clear()  # of the handshake, which has no tokens
        self.events.append(events.Opened(self.server_properties, self.tuning))

    # the handshake, in the server's role

    def _take_tune_ok(self, method: Any, previous: ConnectionState) -> None:
        tuning, wishes = _tuning_in(method), self._wishes
        for name in ("channel_max", "frame_max"):
            ours, theirs = getattr(wishes, name), getattr(tuning, name)
            if ours and not 0 < theirs <= ours:
                raise RemoteProtocolError(
                    f"negotiated {name} = {theirs} is higher than the maximum allowed value ({ours})",
                    reply_code=530,
                    operation=method.name,
                )
        self._agree(Tuning(tuning.channel_max or 0xFFFF, tuning.frame_max, tuning.heartbeat))

    def _take_request(self, method: Method, previous: ConnectionState) -> None:
        if method.index in self.dialect.responses:
            if self._waiting and method.index in self._waiting[0].request.responses:
                self.events.append(events.Replied(None, self._waiting.popleft().token, method))
                return
            if self.role is Role.CLIENT:
                raise RemoteProtocolError(
                    f"{method.name} answers nothing that was asked", operation=method.name
                )
        self.events.append(events.Requested(None, method))

    # an open connection

    def _take_blocked(self, method: Any, previous: ConnectionState) -> None:
        self.events.append(events.Blocked(method.reason))

    def _take_unblocked(self, method: Any, previous: ConnectionState) -> None:
        self.events.append(events.Unblocked())

    def _take_close(self, method: Any, previous: ConnectionState) -> None:
        self.send(self.dialect.new("connection.close-ok"))
        if previous is self.state:  # ours is on its way: the answer to it is still to come
            return
        failed = self.dialect.methods.get(method.class_id << 16 | method.method_id)
        kind = ConnectionClosed._by_code.get(method.reply_code, ConnectionClosed)
        if previous is ConnectionState.AWAIT_OPEN_OK and kind in (
            NotAllowed,
            AuthenticationError,
            InvalidPath,
        ):
            kind = VhostAccessDenied
        self.end(
            kind(
                method.reply_text,
                reply_code=method.reply_code,
                class_id=method.class_id,
                method_id=method.method_id,
                operation=failed.name if failed else "",
            ),
            flush=True,
        )

    def _take_close_ok(self, method: Method, previous: ConnectionState) -> None:
        closing = self._waiting.popleft()
        self.events.append(events.Replied(None, closing.token, method))
        assert self.error is not None  # set when our close was sent
        self.end(self.error, flush=True)

    # ----------------------------------------------------------------------- the end

    def end(self, error: AMQPError, *, flush: bool) -> None:
        """End the connection for ``error``: every token comes back, then the channels, then itself."""
        self.state = ConnectionState.CLOSED
        self.error = error
        closed = error if isinstance(error, Closed) else _caused(ConnectionLost(str(error)), error)
        self._end_channels(closed)
        self._fail_waiting(closed)
        self.events.append(events.ConnectionEnded(error, flush))

    def _fail(self, error: AMQPError, cause: BaseException | None = None) -> None:
        """End the connection because the peer broke the protocol; tell it why, unless framing is lost."""
        error.__cause__ = cause or error.__cause__
        silent = isinstance(error, Silent) or not isinstance(error, RemoteProtocolError) or not self._greeted
        if not silent and self.state is not ConnectionState.AWAIT_START:
            code, text = getattr(error, "reply_code", 0), str(error)
            close = self.dialect.new("connection.close", reply_code=code, reply_text=_at_most_255(text))
            self.append(frame(METHOD, 0, close.encode()))
        self.end(error, flush=not silent or self.role is Role.SERVER)

    def _end_channels(self, error: Closed) -> None:
        for channel in list(self._channels.values()):
            channel.end(error, connection_ended=True)

    def _fail_waiting(self, error: Closed) -> None:
        waiting, self._waiting = self._waiting, deque()
        self.events += [events.Failed(one.token, error.copy()) for one in waiting if one.token is not None]

    def release(self, channel: ChannelCore) -> None:
        """Free the number of a channel that has ended."""
        self._channels.pop(channel.number, None)

    def rows(self, state: Enum) -> tuple[Row, Row]:
        """Return what we may send and what may come on a channel in ``state``."""
        rows = self.tables.channel[state]
        return rows.sent, rows.received

    def _agree(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self._limit_frames()
        self.events.append(events.Tuned(tuning))

    def _limit_frames(self) -> None:
        # Without a limit a frame still has to fit the largest message that is accepted, and a buffer.
        frame_max = self.tuning.frame_max
        self.payload_limit = (
            frame_max or max(self.max_message_size, INITIAL_FRAME_MAX) + OVERHEAD
        ) - OVERHEAD
        #: The most that we put into one frame.
        self.payload_max = (frame_max or 131072) - OVERHEAD


def _tuning_in(method: Any) -> Tuning:
    return Tuning(method.channel_max, method.frame_max, method.heartbeat)


def _connection_state(state: Enum) -> ConnectionState:
    assert isinstance(state, ConnectionState)
    return state


def _caused(error: Closed, cause: AMQPError) -> Closed:
    error.__cause__ = cause
    return error


def _at_most_255(text: str) -> str:
    return text.encode()[:255].decode("utf-8", "ignore")


_CONNECTION_HANDLERS = {
    "connection.start": Connection._take_start,
    "connection.secure": Connection._take_secure,
    "connection.tune": Connection._take_tune,
    "connection.tune-ok": Connection._take_tune_ok,
    "connection.open-ok": Connection._take_open_ok,
    "connection.blocked": Connection._take_blocked,
    "connection.unblocked": Connection._take_unblocked,
    "connection.close": Connection._take_close,
    "connection.close-ok": Connection._take_close_ok,
}
