"""What the tests of the core share: open cores, the peer's words, and a pair joined back to back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from attrs import frozen

from txamqpx.errors import AMQPError
from txamqpx.protocol import events
from txamqpx.protocol.auth import Plain
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.frames import (
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    body_frames,
    frame,
    header_frame,
    unpack_head,
)
from txamqpx.protocol.handshake import ClientHandshake, ServerHandshake
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method, Properties
from txamqpx.spec.dialect import AMQP_0_9_1
from txamqpx.spec.wire import encode_table

E = TypeVar("E")

NO_PROPERTIES = amqp.BasicProperties()
TUNING = Tuning(channel_max=2047, frame_max=131072, heartbeat=60)
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

# --------------------------------------------------------------------------- words


@frozen
class Said:
    """One method that went over the wire, and its content if it has one."""

    channel: int
    method: Method | None
    body: bytes | None = None
    properties: Properties | None = None


def method_frame(method: Method, channel: int = 1) -> bytes:
    """Return a method as it stands on the wire, without a content."""
    return frame(METHOD, channel, method.encode())


def say(
    method: Method,
    channel: int = 1,
    body: bytes | None = None,
    properties: Properties = NO_PROPERTIES,
    frame_max: int = 131072,
) -> bytes:
    """Return a method as it stands on the wire, with its content if ``body`` is given."""
    word = method_frame(method, channel)
    if body is None:
        return word
    header = header_frame(channel, method.index >> 16, properties.encode(), len(body))
    return word + header + body_frames(channel, body, frame_max)


def deliver(
    tag: int, body: bytes = b"body", consumer: str = "c", channel: int = 1, **properties: Any
) -> bytes:
    """Return a delivery as it stands on the wire."""
    method = amqp.BasicDeliver(consumer, tag, False, "exchange", "key")
    return say(method, channel, body, amqp.BasicProperties(**properties))


START = say(
    amqp.ConnectionStart(0, 9, {"product": "broker"}, b"PLAIN AMQPLAIN EXTERNAL", b"en_US"), channel=0
)
TUNE = say(amqp.ConnectionTune(TUNING.channel_max, TUNING.frame_max, TUNING.heartbeat), channel=0)
OPEN_OK = say(amqp.ConnectionOpenOk(), channel=0)
CLOSE_OK = say(amqp.ConnectionCloseOk(), channel=0)


def frames_in(data: bytes) -> list[tuple[int, int, bytes]]:
    """Cut whole frames, as plainly as possible."""
    found, offset = [], 0
    while offset < len(data):
        kind, channel, length = unpack_head(data, offset)
        end = offset + 7 + length
        assert data[end] == 0xCE
        found.append((kind, channel, data[offset + 7 : end]))
        offset = end + 1
    return found


def words_in(data: bytes) -> list[Said]:
    """Read what a core wrote: whole methods with whole contents, never apart on their channel."""
    found: list[Said] = []
    frames = frames_in(data.removeprefix(PROTOCOL_HEADER))
    while frames:
        kind, channel, payload = frames.pop(0)
        if kind == HEARTBEAT:
            assert (channel, payload) == (0, b"")
            found.append(Said(0, None))
            continue
        assert kind == METHOD, "a content frame without its method"
        index = int.from_bytes(payload[:4], "big")
        method = AMQP_0_9_1.methods[index].decode(payload, 4, len(payload))
        if not method.content:
            found.append(Said(channel, method))
            continue
        kind, its, header = frames.pop(0)
        assert (kind, its) == (HEADER, channel)
        assert header[:4] == (index >> 16).to_bytes(2, "big") + b"\0\0"
        size, body = int.from_bytes(header[4:12], "big"), b""
        while len(body) < size:
            kind, its, piece = frames.pop(0)
            assert (kind, its) == (BODY, channel)
            assert piece, "an empty body frame"
            body += piece
        properties = AMQP_0_9_1.properties[index >> 16].decode(header, 12, len(header))
        found.append(Said(channel, method, body, properties))
    return found


def written(core: Connection) -> bytes:
    """Take what the core wants to write."""
    return b"".join(core.outbox.take())


def said(core: Connection) -> list[Said]:
    """Take what the core wants to write, and read it."""
    return words_in(written(core))


def as_read(method: Method) -> Method:
    """Return a method as whoever reads it sees it: text as bytes here and there, no table as an empty one."""
    payload = method.encode()
    return type(method).decode(payload, 4, len(payload))


def assert_said(core: Connection, *methods: Method, channel: int = 1) -> None:
    """The core wants to write these methods on ``channel``, and nothing else."""
    words = said(core)
    assert [one.method for one in words] == [as_read(method) for method in methods]
    assert {one.channel for one in words} <= {channel}


# --------------------------------------------------------------------------- cores


def fresh_client(
    handshake: ClientHandshake | None = None, *, tuning: Tuning = TUNING, **options: Any
) -> Connection:
    """Return a client core that has greeted."""
    core = Connection(handshake or ClientHandshake([Plain("guest", "secret")], tuning=tuning), **options)
    core.start()
    return core


def client(*, tuning: Tuning = TUNING, **options: Any) -> Connection:
    """Return an open client core with nothing to say."""
    core = fresh_client(tuning=tuning, **options)
    core.receive_data(START + TUNE + OPEN_OK)
    assert core.is_open
    core.outbox.take()
    return core


def server(*, tuning: Tuning = TUNING, **options: Any) -> Connection:
    """Return an open server core with nothing to say."""
    core = Connection(ServerHandshake(), **options)
    core.start()
    core.receive_data(PROTOCOL_HEADER + say(amqp.ConnectionStartOk({}, "PLAIN", b"\0g\0g", "en_US"), 0))
    core.send(amqp.ConnectionTune(TUNING.channel_max, TUNING.frame_max, TUNING.heartbeat))
    tune_ok = amqp.ConnectionTuneOk(tuning.channel_max, tuning.frame_max, tuning.heartbeat)
    core.receive_data(say(tune_ok, 0) + say(amqp.ConnectionOpen("/"), 0))
    core.send(amqp.ConnectionOpenOk())
    assert core.is_open
    core.outbox.take()
    return core


def open_channel(core: Connection, *, confirm: bool = False) -> ChannelCore:
    """Return an open channel of a client, in confirm mode if wished, with nothing to say."""
    channel = core.open_channel("opened")
    core.receive_data(say(amqp.ChannelOpenOk(), channel.number))
    if confirm:
        channel.send(amqp.ConfirmSelect(), "selected")
        core.receive_data(say(amqp.ConfirmSelectOk(), channel.number))
    core.outbox.take()
    return channel


def consuming(
    core: Connection, tag: str = "c", *, no_ack: bool = False, channel: ChannelCore | None = None
) -> ChannelCore:
    """Return a channel with a consumer, whose token is its tag in capitals."""
    channel = channel or open_channel(core)
    channel.send(amqp.BasicConsume("q", tag, no_ack=no_ack), "consuming", consumer=tag.upper())
    core.receive_data(say(amqp.BasicConsumeOk(tag), channel.number))
    core.outbox.take()
    return channel


def publish(
    channel: ChannelCore,
    token: Any,
    body: bytes = b"body",
    exchange: str = "",
    routing_key: str = "key",
    mandatory: bool = False,
    **properties: Any,
) -> bool:
    """Publish a message in as few words as possible."""
    kept = amqp.BasicProperties(**properties) if properties else NO_PROPERTIES
    return channel.publish(token, body, exchange, routing_key, kept, mandatory)


def served_channel(core: Connection, number: int = 1) -> ChannelCore:
    """Return a channel that a server core has opened for its client."""
    core.receive_data(say(amqp.ChannelOpen(), number))
    channel = core.channels[number]
    channel.send(amqp.ChannelOpenOk())
    core.outbox.take()
    return channel


# --------------------------------------------------------------------------- events


def of_kind(kind: type[E], happened: Iterable[object]) -> list[E]:
    """Return the events of one kind."""
    return [event for event in happened if isinstance(event, kind)]


def only(kind: type[E], happened: Sequence[object]) -> E:
    """Return the one event that happened, which is of this kind."""
    assert [type(event) for event in happened] == [kind], happened
    event = happened[0]
    assert isinstance(event, kind)
    return event


def one(kind: type[E], happened: Iterable[object]) -> E:
    """Return the one event of this kind among whatever happened."""
    (event,) = of_kind(kind, happened)
    return event


def tokens_in(happened: Iterable[object]) -> list[Any]:
    """Return each token that came back, as often as it did."""
    found: list[Any] = []
    for event in happened:
        if isinstance(event, events.Confirmed | events.Nacked):
            found += [token for _, _, tokens in event.words for token in tokens]
        elif isinstance(event, events.Replied | events.Unrouted | events.Failed):
            found.append(event.token)
    return found


def assert_all_back(given: Iterable[Any], happened: Iterable[object]) -> None:
    """Each token that was given came back in exactly one event, and no other."""
    assert Counter(tokens_in(happened)) == Counter(given)


def confirms_in(happened: Iterable[object]) -> list[tuple[str, int, bool, list[Any]]]:
    """Return each of the broker's confirms and refusals: which it was, number, multiple, tokens."""
    return [
        (type(event).__name__, tag, multiple, list(tokens))
        for event in happened
        if isinstance(event, events.Confirmed | events.Nacked)
        for tag, multiple, tokens in event.words
    ]


def failures(happened: Iterable[object]) -> dict[Any, AMQPError]:
    """Return the errors by token."""
    return {event.token: event.error for event in of_kind(events.Failed, happened)}


def ended_with(happened: Sequence[object]) -> AMQPError:
    """Return why the connection ended, which is the last that happened and happened once."""
    event = one(events.ConnectionEnded, happened)
    assert happened[-1] is event
    return event.error


def told(happened: Iterable[object]) -> list[str]:
    """Return events as text, to compare what happened in two runs."""
    return [line for event in happened for line in _told(event)]


def _told(event: Any) -> list[str]:
    if isinstance(event, events.Confirmed | events.Nacked):  # one event for as many as came at once
        return [f"{event.channel} {word}" for word in confirms_in([event])]
    if isinstance(event, events.Content):
        facts = {slot: getattr(event, slot) for slot in type(event).__slots__ if not slot.startswith("_")}
        facts.update(body=event.body, header=event.header)
    else:
        facts = {field.name: getattr(event, field.name) for field in type(event).__attrs_attrs__}
    shown = ", ".join(f"{key}={_plain(value)}" for key, value in facts.items())
    return [f"{type(event).__name__}({shown})"]


def _plain(value: Any) -> str:
    if isinstance(value, ChannelCore):
        return f"channel {value.number}"
    if isinstance(value, events.Content):
        return _told(value)[0]
    if isinstance(value, AMQPError):
        return f"{type(value).__name__}: {value}"
    return repr(value)


# --------------------------------------------------------------------------- a client and a server, joined

ANSWERS: dict[type[Method], Callable[[Any], Method]] = {
    amqp.ChannelOpen: lambda asked: amqp.ChannelOpenOk(),
    amqp.ExchangeDeclare: lambda asked: amqp.ExchangeDeclareOk(),
    amqp.QueueDeclare: lambda asked: amqp.QueueDeclareOk(asked.queue, 0, 0),
    amqp.BasicQos: lambda asked: amqp.BasicQosOk(),
    amqp.BasicConsume: lambda asked: amqp.BasicConsumeOk(asked.consumer_tag),
    amqp.BasicCancel: lambda asked: amqp.BasicCancelOk(asked.consumer_tag),
    amqp.BasicGet: lambda asked: amqp.BasicGetEmpty(),
    amqp.BasicRecover: lambda asked: amqp.BasicRecoverOk(),
    amqp.ConfirmSelect: lambda asked: amqp.ConfirmSelectOk(),
    amqp.TxSelect: lambda asked: amqp.TxSelectOk(),
    amqp.TxCommit: lambda asked: amqp.TxCommitOk(),
    amqp.TxRollback: lambda asked: amqp.TxRollbackOk(),
    amqp.ConnectionUpdateSecret: lambda asked: amqp.ConnectionUpdateSecretOk(),
}
"""What a broker of no imagination answers."""


class Pair:
    """A client core and a server core, back to back.

    Attributes:
        happened: What the client was told.
        requested: What the server was told.
        recorded: The bytes that went to the server, and those that went to the client.
    """

    def __init__(self) -> None:
        self.client = fresh_client()
        self.server = Connection(ServerHandshake(properties={"product": "pair"}))
        self.server.start()
        self.happened: list[events.Event] = []
        self.requested: list[events.Event] = []
        self.recorded: tuple[list[bytes], list[bytes]] = ([], [])

    def step(self, *, to_server: bool) -> list[events.Event]:
        """Carry what one side wants to write to the other; return what that was told."""
        source, target = (self.client, self.server) if to_server else (self.server, self.client)
        data = written(source)
        if data:
            self.recorded[not to_server].append(data)
        happened = target.receive_data(data) + target.take_events()
        (self.requested if to_server else self.happened).extend(happened)
        return happened

    def answer(self, requests: Iterable[object]) -> None:
        """Let the server answer as a broker would."""
        for event in requests:
            if not isinstance(event, events.Requested):
                continue
            if event.channel is None:
                self._answer_connection(event.method)
            elif type(event.method) in ANSWERS and event.channel.error is None and event.method.expects_reply:
                event.channel.send(ANSWERS[type(event.method)](event.method))

    def _answer_connection(self, method: Method) -> None:
        if isinstance(method, amqp.ConnectionStartOk):
            self.server.send(amqp.ConnectionTune(TUNING.channel_max, TUNING.frame_max, TUNING.heartbeat))
        elif isinstance(method, amqp.ConnectionOpen):
            self.server.send(amqp.ConnectionOpenOk())
        elif type(method) in ANSWERS and self.server.is_open:
            self.server.send(ANSWERS[type(method)](method))

    def settle(self) -> None:
        """Carry bytes both ways, with answers, until nobody has anything to say."""
        while self.client.outbox or self.server.outbox or self.client.events or self.server.events:
            self.answer(self.step(to_server=True))
            self.step(to_server=False)


def amqplain(**fields: str) -> bytes:
    """Return a login in AMQPLAIN's form."""
    return encode_table(fields)[4:]
