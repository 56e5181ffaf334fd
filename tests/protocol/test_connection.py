from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.pair import (
    CLOSE_OK,
    OPEN_OK,
    START,
    TUNE,
    Said,
    as_read,
    assert_all_back,
    assert_said,
    client,
    consuming,
    deliver,
    ended_with,
    failures,
    fresh_client,
    method_frame,
    of_kind,
    one,
    only,
    open_channel,
    publish,
    said,
    say,
    served_channel,
    server,
    written,
)
from txamqpx.errors import (
    AMQPError,
    ConnectionClosed,
    ConnectionForced,
    ConnectionLost,
    DecodeError,
    EncodeError,
    HandshakeTimeout,
    HeartbeatTimeout,
    LocalProtocolError,
    NoFreeChannels,
    NotAllowed,
    NotAMQP,
    NotPublished,
    OutcomeUnknown,
    ProtocolVersionMismatch,
    RemoteProtocolError,
    VhostAccessDenied,
)
from txamqpx.protocol import events
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT, HEARTBEAT_FRAME, METHOD, frame, header_frame
from txamqpx.protocol.states import ConnectionState
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicDeliver,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    BasicProperties,
    BasicPublish,
    BasicQos,
    BasicQosOk,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelFlowOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionTune,
    ConnectionUnblocked,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
    QueueDeclare,
    QueueDeclareOk,
)

CLOSE = say(ConnectionClose(320, "CONNECTION_FORCED - bye"), 0)


def busy(**options: Any) -> tuple[Connection, list[str]]:
    """Return an open client with channel 1 that consumes and channel 2 that publishes, and its tokens."""
    core = client(**options)
    first, second = consuming(core), open_channel(core, confirm=True)
    first.send(BasicQos(0, 1), "qos")
    first.send(BasicGet("q"), "get")
    second.send(QueueDeclare("x"), "declare")
    publish(second, "one")
    publish(second, "two")
    core.send(ConnectionUpdateSecret("s", "r"), "secret")
    core.outbox.take()
    return core, ["qos", "get", "declare", "one", "two", "secret"]


def broken(core: Connection, data: bytes, tokens: list[str]) -> tuple[AMQPError, list[Said], bool]:
    """Feed bytes that end the connection; return why, the last words, and whether they are to be written.

    Every token comes back, every channel ends, then the connection does, once and for all.
    """
    channels = len(core.channels)
    happened = core.receive_data(data)
    error = ended_with(happened)
    assert_all_back(tokens, happened)
    assert len(of_kind(events.ChannelEnded, happened)) == channels
    assert not core.channels
    assert core.state is ConnectionState.CLOSED
    assert core.error is error
    assert core.receive_data(data + HEARTBEAT_FRAME) == []
    assert core.connection_lost() == []
    flush = one(events.ConnectionEnded, happened).flush
    words = said(core)
    assert flush == bool(words)
    return error, words, flush


# --------------------------------------------------------------------------- malformed peers

QUEUE_DECLARE_OK = QueueDeclareOk("x", 0, 0).encode()
NESTED = b"\0" * 4
for _ in range(15_000):
    NESTED = (len(b"\x01kF" + NESTED)).to_bytes(4, "big") + b"\x01kF" + NESTED


def content_of(size: int, class_id: int = 60) -> bytes:
    return header_frame(1, class_id, b"\0\0", size)


DELIVER = method_frame(BasicDeliver("c", 1, False, "e", "k"))

#: What the peer does, what we tell it, and a part of the sentence. A code of 0: nothing at all is said.
BREACHES = {
    "a bad end": (frame(BODY, 1, b"x")[:-1] + b"\0", 0, "ends in 0x00"),
    "a bad end on channel 0": (frame(METHOD, 0, b"x" * 9)[:-1] + b"\xcd", 0, "ends in 0xcd"),
    "an unknown frame type": (frame(9, 0, b""), 0, "unknown type 9"),
    "the misprinted heartbeat": (frame(4, 0, b""), 0, "unknown type 4"),
    "an unknown frame type on a channel": (frame(5, 1, b""), 0, "unknown type 5"),
    "frame type 0": (frame(0, 1, b""), 0, "unknown type 0"),
    "a frame beyond frame_max": (b"\x03\0\x01\x00\x01\xff\xf9", 501, "131073 bytes came, at most 131072"),
    "a frame of four gigabytes": (b"\x01\0\0\xff\xff\xff\xff", 501, "4294967303 bytes came"),
    "connection.close on a channel": (say(ConnectionClose(), 1), 503, "connection.close is not allowed"),
    "connection.close on an unused channel": (
        say(ConnectionClose(), 9),
        503,
        "connection.close on channel 9",
    ),
    "a heartbeat on a channel": (frame(HEARTBEAT, 1, b""), 501, "a heartbeat on channel 1"),
    "a heartbeat on an unused channel": (frame(HEARTBEAT, 9, b""), 501, "a heartbeat on channel 9"),
    "a header on channel 0": (header_frame(0, 60, b"\0\0", 1), 504, "content frame on channel 0"),
    "a body on channel 0": (frame(BODY, 0, b"x"), 504, "content frame on channel 0"),
    "a method on a channel never opened": (say(BasicQosOk(), 3), 504, "channel 3, which was never opened"),
    "a body on a channel never opened": (frame(BODY, 3, b"x"), 504, "channel 3, which was never opened"),
    "a scrap on a channel never opened": (frame(METHOD, 3, b"x"), 504, "channel 3, which was never opened"),
    "an unknown class": (frame(METHOD, 1, b"\x03\xe7\0\x0a"), 540, "unknown method 999.10"),
    "an unknown method": (frame(METHOD, 1, b"\0\x3c\x03\xe7"), 540, "unknown method 60.999"),
    "an unknown method on channel 0": (frame(METHOD, 0, b"\0\x0a\x03\xe7"), 540, "unknown method 10.999"),
    "a client's method": (say(QueueDeclare("x")), 503, "queue.declare is not allowed from the peer"),
    "a publish from the server": (say(BasicPublish(), 1, b""), 503, "basic.publish is not allowed"),
    "a channel method on channel 0": (say(BasicQosOk(), 0), 503, "basic.qos-ok is not allowed"),
    "an answer to another question": (
        say(QueueDeclareOk("x")),
        503,
        "queue.declare-ok came on channel 1, where",
    ),
    "an answer that nobody waits for": (say(QueueDeclareOk("x"), 2) * 2, 503, "where nothing was asked"),
    "get-empty where nothing waits": (
        say(QueueDeclareOk("x"), 2) + say(BasicGetEmpty(), 2),
        503,
        "where nothing was asked",
    ),
    "get-ok where nothing waits": (
        say(QueueDeclareOk("x"), 2) + say(BasicGetOk(), 2, b""),
        503,
        "where nothing was asked",
    ),
    "an answer on channel 0 that nobody waits for": (
        say(ConnectionUpdateSecretOk(), 0) * 2,
        503,
        "update-secret-ok answers nothing",
    ),
    "channel.open-ok twice": (say(ChannelOpenOk()), 503, "open-ok is not allowed"),
    "channel.close-ok unasked": (say(ChannelCloseOk()), 503, "close-ok is not allowed"),
    "connection.close-ok unasked": (CLOSE_OK, 503, "close-ok is not allowed"),
    "connection.start again": (START, 503, "start is not allowed"),
    "connection.tune again": (TUNE, 503, "tune is not allowed"),
    "connection.open-ok again": (OPEN_OK, 503, "open-ok is not allowed"),
    "a method in the middle of a content": (
        DELIVER + content_of(5) + say(BasicQosOk()),
        505,
        "in the middle",
    ),
    "a method instead of a content": (DELIVER + DELIVER, 505, "in the middle of a content"),
    "a header of another class": (DELIVER + content_of(5, 50), 501, "class 50 after a method of class 60"),
    "two headers": (DELIVER + content_of(5) + content_of(5), 505, "second content header"),
    "a header without a method": (content_of(5), 505, "without a method before it"),
    "a body without a method": (frame(BODY, 1, b"x"), 505, "without a method before it"),
    "a body without a header": (DELIVER + frame(BODY, 1, b"x"), 505, "body without a header"),
    "a header that is cut short": (DELIVER + frame(HEADER, 1, b"\0\x3c\0\0"), 502, "cut short"),
    "more body than announced": (
        DELIVER + content_of(1) + frame(BODY, 1, b"xy"),
        505,
        "longer than announced",
    ),
    "more body than announced, in pieces": (
        DELIVER + content_of(3) + frame(BODY, 1, b"xy") + frame(BODY, 1, b"xy"),
        505,
        "longer than announced",
    ),
    "a body behind an empty one": (DELIVER + content_of(0) + frame(BODY, 1, b"x"), 505, "without a method"),
    "a huge body announced": (DELIVER + content_of(2**63), 501, f"{2**63} bytes is announced"),
    "empty bodies without end": (DELIVER + content_of(1) + frame(BODY, 1, b"") * 99, 505, "without end"),
    "a method that is cut short": (frame(METHOD, 1, b"\0\x3c\0"), 502, "cut short"),
    "a method that is cut short on channel 0": (frame(METHOD, 0, b"\0\x0a"), 502, "cut short"),
    "no method at all": (frame(METHOD, 1, b""), 502, "cut short"),
    "a string beyond the frame": (
        frame(METHOD, 2, QUEUE_DECLARE_OK[:-1]),
        502,
        "queue.declare-ok is cut short",
    ),
    "a string that is longer than the frame": (
        frame(METHOD, 2, QUEUE_DECLARE_OK[:4] + b"\xff" + QUEUE_DECLARE_OK[5:]) + b"x" * 300,
        502,
        "queue.declare-ok is cut short",
    ),
    "a delivery that is cut short": (frame(METHOD, 1, DELIVER[7:-3]), 502, "basic.deliver is cut short"),
    "a delivery whose tag is cut short": (frame(METHOD, 1, DELIVER[7:14]), 502, "basic.deliver is cut short"),
    "a delivery of nothing": (frame(METHOD, 1, DELIVER[7:11]), 502, "basic.deliver is cut short"),
    "a confirm that is cut short": (
        frame(METHOD, 2, b"\0\x3c\0\x50" + b"\0" * 8),
        502,
        "confirm is cut short",
    ),
    "a confirm without confirm mode": (say(BasicAck(1)), 503, "not in confirm mode"),
    "a delivery tag again": (deliver(1) + deliver(1), 503, "tag 1 came after 1"),
    "a delivery tag backwards": (deliver(2) + deliver(1), 503, "tag 1 came after 2"),
    "a delivery tag of 0": (deliver(0), 503, "tag 0 came after 0"),
}


@pytest.mark.covers("T-FR-06", "T-FR-07", "T-CH-05")
@pytest.mark.parametrize("cut", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("case", BREACHES)
def test_a_breach_ends_the_connection_with_its_reason(case: str, cut: bool) -> None:
    data, code, words = BREACHES[case]
    core, tokens = busy()
    if cut:
        happened: list[Any] = []
        for octet in data:
            happened += core.receive_data(bytes((octet,)))
            if core.error is not None:
                break
        error, last = ended_with(happened), said(core)
    else:
        happened = core.receive_data(data)
        error, last = ended_with(happened), said(core)
        assert core.connection_lost() == []
    assert_all_back(tokens, happened)
    assert isinstance(error, RemoteProtocolError)
    assert words in str(error)
    if code:
        assert error.reply_code == code
        (word,) = last
        assert word.channel == 0
        assert word.method == ConnectionClose(code, str(error))
    else:
        assert error.reply_code == 501
        assert last == []
    assert one(events.ConnectionEnded, happened).flush == bool(code)


@pytest.mark.covers("T-FR-06")
def test_a_breach_gives_every_token_back_and_is_the_end() -> None:
    core, tokens = busy()
    error, words, flush = broken(core, frame(METHOD, 1, b"\x03\xe7\0\x0a"), tokens)
    assert flush
    assert words == [Said(0, ConnectionClose(540, "unknown method 999.10"))]
    assert isinstance(error, RemoteProtocolError)


@pytest.mark.covers("T-CH-12")
def test_each_waiter_gets_an_error_of_its_own_with_the_same_cause() -> None:
    core, tokens = busy()
    happened = core.receive_data(frame(4, 0, b""))
    breach = ended_with(happened)
    errors = failures(happened)
    assert len({id(error) for error in errors.values()}) == len(tokens)
    for token in ("qos", "get", "declare", "secret"):
        assert type(errors[token]) is ConnectionLost
        assert errors[token].__cause__ is breach
    for token in ("one", "two"):
        assert type(errors[token]) is OutcomeUnknown
        assert isinstance(errors[token].__cause__, ConnectionLost)


@pytest.mark.covers("T-FR-06", "T-TB-07")
@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"\0\0\0\x09\x01a", "unknown tag"),
        (b"\0\0\0\x03\x01aQ", "unknown tag b'Q'"),
        (b"\0\0\0\x07\x01aA\0\0\0\x01", "unknown tag"),
        (b"\0\0\0\x09\x01aA\0\0\0\x01tt", "beyond its length"),
        (b"\0\0\0\x07\x01aF\0\0\0\xff", "unknown tag"),
        (b"\0\0\0\x07\x01aS\xff\xff\xff\xff", "beyond its length"),
        (b"\xff\xff\xff\xff", "unknown tag"),
        (NESTED[:4000], "nested more than 32 deep"),
    ],
)
def test_a_malformed_table_of_the_server_is_a_syntax_error(table: bytes, words: str) -> None:
    core = fresh_client()
    core.outbox.take()
    payload = ConnectionStart(0, 9).encode()[:6] + table + b"\0\0\0\x05PLAIN\0\0\0\0"
    error = ended_with(core.receive_data(frame(METHOD, 0, payload)))
    assert isinstance(error, RemoteProtocolError)
    assert error.reply_code == 502
    assert words in str(error)
    assert isinstance(error.__cause__, DecodeError)


@pytest.mark.covers("T-FR-06")
def test_tables_fifteen_thousand_deep_in_a_message_are_refused_when_somebody_looks() -> None:
    core = client()
    consuming(core)
    method = method_frame(BasicDeliver("c", 1, False, "e", "k"))
    message = only(events.Delivered, core.receive_data(method + header_frame(1, 60, b"\x20\0" + NESTED, 0)))
    with pytest.raises(DecodeError, match="nested more than 32 deep"):
        _ = message.properties
    message.core.ack(1)
    assert_said(core, BasicAck(1))


@pytest.mark.covers("T-FR-06", "T-FR-10")
@pytest.mark.parametrize(
    "properties", [b"\x20\0\0\0\0\x03\x01aQ", b"\xff\xff" * 60, b"\x80\0\xff", b"\x10\0"]
)
def test_odd_properties_of_another_client_do_not_end_our_connection(properties: bytes) -> None:
    core = client()
    consuming(core)
    data = method_frame(BasicDeliver("c", 1, False, "e", "k")) + header_frame(1, 60, properties, 4)
    message = only(events.Delivered, core.receive_data(data + frame(BODY, 1, b"body")))
    assert (message.header, message.body) == (properties, b"body")
    with pytest.raises(DecodeError):
        _ = message.properties
    assert core.is_open


def test_arguments_with_something_behind_them_are_tolerated() -> None:
    core = client()
    channel = open_channel(core)
    channel.send(QueueDeclare("x"), "declare")
    event = only(events.Replied, core.receive_data(frame(METHOD, 1, QUEUE_DECLARE_OK + b"more")))
    assert event.method == QueueDeclareOk("x", 0, 0)


@pytest.mark.covers("T-FR-06")
def test_a_name_that_is_not_utf_8_is_told_as_it_came() -> None:
    core = client()
    channel = open_channel(core)
    channel.send(QueueDeclare("x"), "declare")
    payload = QUEUE_DECLARE_OK[:4] + b"\x01\xff" + b"\0" * 8
    event = only(events.Replied, core.receive_data(frame(METHOD, 1, payload)))
    assert isinstance(event.method, QueueDeclareOk)
    assert event.method.queue.encode("utf-8", "surrogateescape") == b"\xff"


def test_heartbeats_are_taken_and_mean_nothing_here() -> None:
    core = client()
    assert core.receive_data(HEARTBEAT_FRAME * 3) == []
    assert core.is_open


def test_a_heartbeat_with_a_payload_is_tolerated() -> None:
    assert client().receive_data(frame(HEARTBEAT, 0, b"x")) == []


# --------------------------------------------------------------------------- before the handshake is over


@pytest.mark.covers("T-HS-03")
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"AMQP\x01\x01\x08\x00", ProtocolVersionMismatch),
        (b"HTTP/1.1 400 Bad Request\r\n", NotAMQP),
        (b"\x15\x03\x01\x00\x02\x02\x46", NotAMQP),
        (b"\0" * 1000, NotAMQP),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_no_server_is_left_without_a_word(data: bytes, kind: type[AMQPError], size: int) -> None:
    core = fresh_client()
    core.outbox.take()
    happened: list[Any] = []
    for start in range(0, len(data), size):
        happened += core.receive_data(data[start : start + size])
    event = only(events.ConnectionEnded, happened)
    assert type(event.error) is kind
    assert not core.outbox


@pytest.mark.covers("T-FR-05")
@pytest.mark.parametrize(("limit", "options"), [(8192, {}), (4096, {"initial_frame_max": 4096})])
def test_a_frame_that_is_too_large_is_judged_by_its_head(limit: int, options: dict[str, Any]) -> None:
    core = fresh_client(**options)
    core.outbox.take()
    head = b"\x01\0\0" + (limit - 7).to_bytes(4, "big")
    assert core.receive_data(head[:-1]) == []
    event = only(events.ConnectionEnded, core.receive_data(head[-1:]))
    assert isinstance(event.error, RemoteProtocolError)
    assert event.error.reply_code == 501
    assert str(event.error) == f"a frame of {limit + 1} bytes came, at most {limit} were agreed"
    assert not event.flush  # to a server that has not started nothing can be said


@pytest.mark.covers("T-FR-05")
def test_the_limit_for_frames_is_the_one_that_was_agreed() -> None:
    core = client(tuning=Tuning(0, 4096, 0))
    consuming(core)
    assert core.receive_data(deliver(1) + method_frame(BasicDeliver("c", 2)) + content_of(4089)) != []
    assert core.receive_data(frame(BODY, 1, b"x" * 4088)) == []
    error = ended_with(core.receive_data(b"\x03\0\x01" + (4089).to_bytes(4, "big")))
    assert isinstance(error, RemoteProtocolError)
    assert error.reply_code == 501


def test_without_a_limit_for_frames_the_largest_message_has_to_fit() -> None:
    core = fresh_client(tuning=Tuning(0, 0, 0), max_message_size=100_000)
    core.receive_data(START + say(ConnectionTune(0, 0, 0), 0) + OPEN_OK)
    core.outbox.take()
    assert core.payload_limit == 100_000
    consuming(core)
    message = only(events.Delivered, core.receive_data(deliver(1, b"x" * 100_000)))
    assert len(message.body) == 100_000
    channel = core.channels[1]
    publish(channel, None, b"y" * 300_000)
    (word,) = said(core)
    assert word.body == b"y" * 300_000


# --------------------------------------------------------------------------- channels


def test_channels_have_numbers_of_their_own_and_open_side_by_side() -> None:
    core = client()
    channels = [core.open_channel(name) for name in "abc"]
    assert [channel.number for channel in channels] == [1, 2, 3]
    assert said(core) == [Said(number, ChannelOpen()) for number in (1, 2, 3)]
    happened = core.receive_data(b"".join(say(ChannelOpenOk(), number) for number in (2, 3, 1)))
    assert [(event.token, event.channel) for event in of_kind(events.Replied, happened)] == [
        ("b", channels[1]),
        ("c", channels[2]),
        ("a", channels[0]),
    ]


def close_channel(core: Connection, number: int) -> None:
    core.channels[number].send(ChannelClose(200, ""), "closed")
    core.receive_data(say(ChannelCloseOk(), number))
    core.outbox.take()


@pytest.mark.covers("T-CH-01", "S45")
def test_numbers_go_round_before_they_are_used_again() -> None:
    core = client(tuning=Tuning(3, 131072, 0))
    assert [open_channel(core).number for _ in range(3)] == [1, 2, 3]
    close_channel(core, 2)
    close_channel(core, 1)
    assert [open_channel(core).number for _ in range(2)] == [1, 2]


@pytest.mark.covers("T-CH-01")
def test_numbers_in_use_are_passed_over() -> None:
    core = client(tuning=Tuning(4, 131072, 0))
    for _ in range(4):
        open_channel(core)
    close_channel(core, 1)
    close_channel(core, 4)
    assert open_channel(core).number == 1
    close_channel(core, 2)
    assert open_channel(core).number == 2
    assert open_channel(core).number == 4


@pytest.mark.covers("T-CH-01")
def test_the_number_after_the_last_one_is_preferred() -> None:
    core = client()
    open_channel(core)
    close_channel(core, 1)
    assert open_channel(core).number == 2


@pytest.mark.covers("T-CH-01", "T-CH-02")
def test_a_number_is_free_only_after_close_ok() -> None:
    core = client(tuning=Tuning(1, 131072, 0))
    channel = open_channel(core)
    channel.send(ChannelClose(), "closed")
    with pytest.raises(NoFreeChannels):
        core.open_channel("again")
    core.receive_data(say(ChannelCloseOk()))
    assert core.open_channel("again").number == 1


@pytest.mark.covers("T-CH-02")
def test_there_are_no_more_channels_than_were_agreed() -> None:
    core = client(tuning=Tuning(2, 131072, 0))
    open_channel(core)
    open_channel(core)
    with pytest.raises(NoFreeChannels, match="all 2 channels are in use") as caught:
        core.open_channel("third")
    assert caught.value.retryable
    assert not core.outbox
    assert len(core.channels) == 2


@pytest.mark.covers("T-CH-02")
def test_without_a_limit_there_are_65535_channels_and_no_more() -> None:
    core = client(tuning=Tuning(0xFFFF, 131072, 0))
    core.tuning = Tuning(0xFFFF, 131072, 0)
    for number in range(1, 0x10000):
        assert core.open_channel(None).number == number
    with pytest.raises(NoFreeChannels, match="all 65535 channels"):
        core.open_channel(None)


@pytest.mark.covers("T-CH-04")
def test_what_is_late_for_a_channel_that_is_closed_is_ignored() -> None:
    core = client()
    open_channel(core)
    close_channel(core, 1)
    late = deliver(1) + say(BasicQosOk()) + frame(METHOD, 1, b"x") + say(ChannelCloseOk())
    assert core.receive_data(late + frame(BODY, 1, b"x")) == []
    assert not core.outbox
    assert core.is_open


@pytest.mark.covers("T-CH-04")
def test_a_late_close_is_answered_all_the_same() -> None:
    core = client()
    open_channel(core)
    close_channel(core, 1)
    assert core.receive_data(say(ChannelClose(404, "NOT_FOUND"))) == []
    assert_said(core, ChannelCloseOk())


def test_a_channel_can_be_opened_only_on_an_open_connection() -> None:
    core = fresh_client()
    core.outbox.take()
    with pytest.raises(
        LocalProtocolError, match=r"channel\.open is not allowed .* waiting for connection\.start"
    ):
        core.open_channel("token")
    assert not core.outbox


# --------------------------------------------------------------------------- requests on channel 0


def test_a_new_secret_is_answered_in_order() -> None:
    core = client()
    core.send(ConnectionUpdateSecret("s", "r"), "first")
    core.send(ConnectionUpdateSecret("t", "r"), "second")
    assert_said(core, ConnectionUpdateSecret("s", "r"), ConnectionUpdateSecret("t", "r"), channel=0)
    happened = core.receive_data(say(ConnectionUpdateSecretOk(), 0) * 2)
    assert [(event.channel, event.token) for event in of_kind(events.Replied, happened)] == [
        (None, "first"),
        (None, "second"),
    ]


def test_a_request_without_a_token_is_answered_as_well() -> None:
    core = client()
    core.send(ConnectionUpdateSecret("s", "r"))
    event = only(events.Replied, core.receive_data(say(ConnectionUpdateSecretOk(), 0)))
    assert event.token is None
    assert core.is_open


@pytest.mark.covers("S41")
def test_what_the_state_forbids_is_refused_here() -> None:
    core = client()
    with pytest.raises(LocalProtocolError, match=r"connection\.open-ok is not allowed") as caught:
        core.send(ConnectionOpenOk())
    assert caught.value.operation == "connection.open-ok"
    assert not core.outbox


@pytest.mark.covers("T-FR-08")
def test_what_does_not_fit_is_refused_and_leaves_no_trace() -> None:
    core = client()
    with pytest.raises(EncodeError, match="reason"):
        core.send(ConnectionUpdateSecret("s", "r" * 256), "token")
    with pytest.raises(EncodeError, match="takes 131085 bytes, a frame holds 131064"):
        core.send(ConnectionUpdateSecret("s" * 131075, "r"), "token")
    assert not core.outbox
    assert not core.waiting


def test_blocked_and_unblocked_are_told() -> None:
    core = client()
    happened = core.receive_data(say(ConnectionBlocked("memory"), 0) + say(ConnectionUnblocked(), 0))
    assert [type(event) for event in happened] == [events.Blocked, events.Unblocked]
    assert one(events.Blocked, happened).reason == "memory"


@pytest.mark.covers("T-PUB-15", "T-HB-05")
def test_a_heartbeat_overtakes_whatever_waits() -> None:
    core = client()
    channel = open_channel(core)
    publish(channel, None, b"x" * 1000)
    core.heartbeat()
    assert [word.method is None for word in said(core)] == [True, False]


def test_the_outbox_wakes_whoever_writes() -> None:
    woken: list[str] = []
    core = client(wake=lambda: woken.append("now"))
    woken.clear()
    core.open_channel("token")
    assert woken == ["now"]


def test_a_connection_says_who_and_how_it_is() -> None:
    assert repr(client()) == "<client connection, open>"
    assert repr(server()) == "<server connection, open>"
    assert repr(Connection(client()._handshake)) == "<client connection, waiting for the protocol header>"


# --------------------------------------------------------------------------- the end, by the peer


@pytest.mark.covers("S42", "T-CLS-03")
def test_a_server_that_closes_is_answered_before_anything_else_is_written() -> None:
    core, tokens = busy()
    publish(core.channels[2], "waits")
    happened = core.receive_data(CLOSE)
    assert_all_back([*tokens, "waits"], happened)
    event = happened[-1]
    assert isinstance(event, events.ConnectionEnded)
    assert type(event.error) is ConnectionForced
    assert (event.error.reply_code, event.error.by_peer) == (320, True)
    assert event.error.retryable
    assert event.flush
    assert said(core)[0] == Said(0, ConnectionCloseOk())
    errors = failures(happened)
    for token in ("qos", "get", "declare", "secret"):
        assert type(errors[token]) is ConnectionForced
    for token in ("one", "two"):
        assert type(errors[token]) is OutcomeUnknown
    assert type(errors["waits"]) is NotPublished


@pytest.mark.covers("S42")
def test_after_the_end_every_call_fails_at_once_and_writes_nothing() -> None:
    core = client()
    channel = open_channel(core)
    core.receive_data(CLOSE)
    core.outbox.take()
    calls: list[Any] = [
        lambda: core.open_channel("token"),
        lambda: core.send(ConnectionUpdateSecret("s", "r"), "token"),
        lambda: core.close("token"),
        lambda: channel.send(BasicQos(), "token"),
        lambda: channel.send(ChannelOpen(), "token"),
        lambda: publish(channel, "token"),
        lambda: channel.ack(1),
    ]
    errors = []
    for call in calls:
        with pytest.raises(ConnectionForced) as caught:
            call()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == len(calls)
    assert not core.outbox
    assert core.take_events() == []


def test_the_error_of_a_close_names_the_method_that_failed() -> None:
    core = client()
    error = ended_with(core.receive_data(say(ConnectionClose(540, "NOT_IMPLEMENTED", 60, 10), 0)))
    assert isinstance(error, ConnectionClosed)
    assert (error.operation, error.class_id, error.method_id) == ("basic.qos", 60, 10)


def test_nothing_behind_the_close_is_heard() -> None:
    core = client()
    open_channel(core)
    happened = core.receive_data(CLOSE + frame(9, 0, b"") + b"garbage")
    assert type(ended_with(happened)) is ConnectionForced


def test_a_close_in_two_pieces_is_the_end_as_well() -> None:
    core = client()
    assert core.receive_data(CLOSE[:-3]) == []
    happened = core.receive_data(CLOSE[-3:] + frame(9, 0, b"") + b"garbage")
    assert type(ended_with(happened)) is ConnectionForced


# --------------------------------------------------------------------------- the end, by us


def test_our_close_fails_what_waits_and_then_waits_for_its_answer() -> None:
    core, tokens = busy()
    core.close("closed", 200, "bye")
    happened = core.take_events()
    assert_all_back(tokens, happened)
    errors = failures(happened)
    assert all(type(errors[token]) is ConnectionClosed for token in ("qos", "get", "declare", "secret"))
    assert all(isinstance(error, OutcomeUnknown | ConnectionClosed) for error in errors.values())
    assert not of_kind(events.ConnectionEnded, happened)
    assert said(core)[-1] == Said(0, ConnectionClose(200, "bye"))
    happened = core.receive_data(CLOSE_OK)
    assert [type(event) for event in happened] == [events.Replied, events.ConnectionEnded]
    assert one(events.Replied, happened).token == "closed"
    error = ended_with(happened)
    assert isinstance(error, ConnectionClosed)
    assert (error.reply_code, error.reply_text, error.by_peer) == (200, "bye", False)


def test_a_close_without_a_token_ends_as_well() -> None:
    core = client()
    core.close()
    happened = core.receive_data(CLOSE_OK)
    assert type(ended_with(happened)) is ConnectionClosed


@pytest.mark.covers("T-PUB-07")
def test_a_publish_in_front_of_our_close_is_written_so_nobody_knows_its_outcome() -> None:
    core = client()
    channel = open_channel(core, confirm=True)
    publish(channel, "waits")
    core.close("closed")
    assert type(failures(core.take_events())["waits"]) is OutcomeUnknown
    assert [type(word.method) for word in said(core)] == [BasicPublish, ConnectionClose]


@pytest.mark.covers("T-CLS-04")
def test_after_our_close_everything_is_discarded_but_its_answer() -> None:
    core = client()
    consuming(core)
    core.close("closed")
    core.take_events()
    noise = [
        deliver(1),
        say(BasicQosOk(), 5),
        frame(BODY, 0, b"x"),
        frame(BODY, 9, b"x"),
        say(ConnectionBlocked("x"), 0),
        frame(METHOD, 0, b"\0\x0a\x03\xe7"),
        frame(METHOD, 1, b"x"),
        say(ChannelClose(404, ""), 1),
        HEARTBEAT_FRAME,
    ]
    assert core.receive_data(b"".join(noise)) == []
    assert core.state is ConnectionState.CLIENT_CLOSING
    assert core.receive_data(CLOSE_OK) != []


@pytest.mark.covers("T-CLS-04")
def test_closes_may_cross() -> None:
    core = client()
    core.close("closed")
    core.outbox.take()
    core.take_events()
    assert core.receive_data(CLOSE) == []
    assert_said(core, ConnectionCloseOk(), channel=0)
    happened = core.receive_data(CLOSE_OK)
    assert [type(event) for event in happened] == [events.Replied, events.ConnectionEnded]


@pytest.mark.covers("T-CLS-04")
def test_the_answer_to_a_crossing_close_does_not_overtake_our_own() -> None:
    core = client()
    core.close("closed")
    core.receive_data(CLOSE)
    assert [type(word.method) for word in said(core)] == [ConnectionClose, ConnectionCloseOk]


@pytest.mark.covers("T-CLS-04")
def test_closes_may_cross_at_the_server_too() -> None:
    core = server()
    core.close("closed")
    core.outbox.take()
    assert core.receive_data(say(ConnectionClose(), 0)) == []
    assert_said(core, ConnectionCloseOk(), channel=0)
    happened = core.receive_data(CLOSE_OK)
    assert [type(event) for event in happened] == [events.Replied, events.ConnectionEnded]


@pytest.mark.covers("T-CLS-04")
@pytest.mark.parametrize("data", [frame(9, 0, b""), frame(METHOD, 0, b"x"), b"\x01\0\0\xff\xff\xff\xff"])
def test_a_breach_after_our_close_is_not_answered_by_another_close(data: bytes) -> None:
    core = client()
    core.close("closed")
    core.outbox.take()
    happened = core.receive_data(data)
    assert_all_back(["closed"], happened)
    assert isinstance(ended_with(happened), RemoteProtocolError)
    assert not core.outbox
    assert not one(events.ConnectionEnded, happened).flush


def test_a_second_close_is_refused() -> None:
    core = client()
    core.close("closed", 200, "first")
    with pytest.raises(ConnectionClosed, match="first"):
        core.close("again")


def test_a_close_before_the_handshake_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=r"connection\.close is not allowed"):
        fresh_client().close("closed")


def test_a_reason_that_does_not_fit_changes_nothing() -> None:
    core, tokens = busy()
    with pytest.raises(EncodeError, match="reply_text"):
        core.close("closed", 200, "x" * 256)
    assert core.is_open
    assert core.take_events() == []
    assert not core.outbox
    assert_all_back(tokens, core.connection_lost())


# --------------------------------------------------------------------------- the end, by the transport


@pytest.mark.covers("T-PUB-08")
def test_a_lost_transport_gives_every_token_back() -> None:
    core, tokens = busy()
    publish(core.channels[2], "never written")
    cause = OSError("reset by peer")
    happened = core.connection_lost(cause=cause)
    assert_all_back([*tokens, "never written"], happened)
    error = ended_with(happened)
    assert type(error) is ConnectionLost
    assert error.__cause__ is cause
    assert str(error) == "the connection was lost"
    assert not one(events.ConnectionEnded, happened).flush
    errors = failures(happened)
    assert type(errors["one"]) is OutcomeUnknown
    assert type(errors["never written"]) is NotPublished
    assert type(errors["qos"]) is ConnectionLost
    assert core.connection_lost() == []


def test_a_transport_lost_in_the_middle_of_a_frame_says_so() -> None:
    core = client()
    core.receive_data(frame(BODY, 0, b"x" * 100)[:20])
    assert str(ended_with(core.connection_lost())) == (
        "the connection was lost in the middle of a frame, after 20 bytes of it"
    )


@pytest.mark.parametrize("error", [HeartbeatTimeout("too quiet"), HandshakeTimeout(10)])
def test_whoever_knows_better_may_say_why_the_transport_was_dropped(error: AMQPError) -> None:
    core, tokens = busy()
    cause = OSError("aborted")
    happened = core.connection_lost(error, cause=cause)
    assert_all_back(tokens, happened)
    assert ended_with(happened) is error
    assert error.__cause__ is cause
    with pytest.raises(ConnectionLost) as caught:
        core.open_channel("token")
    assert isinstance(caught.value, type(error)) or caught.value.__cause__ is error


def test_an_error_that_has_its_cause_keeps_it() -> None:
    error = HeartbeatTimeout("too quiet")
    error.__cause__ = ValueError("because")
    client().connection_lost(error, cause=OSError("aborted"))
    assert isinstance(error.__cause__, ValueError)


def test_a_peer_that_hangs_up_on_our_close_does_no_harm() -> None:
    core = client()
    core.close("closed", 200, "bye")
    happened = core.connection_lost()
    assert_all_back(["closed"], happened)
    error = ended_with(happened)
    assert type(error) is ConnectionClosed
    assert (error.reply_text, error.by_peer) == ("bye", False)


def test_no_bytes_are_no_event() -> None:
    assert client().receive_data(b"") == []


# --------------------------------------------------------------------------- the server's role


def test_a_server_hands_requests_to_the_broker_behind_it() -> None:
    core = server()
    channel = served_channel(core)
    declare = only(events.Requested, core.receive_data(say(QueueDeclare("x"))))
    assert (declare.channel, declare.method, declare.content) == (channel, as_read(QueueDeclare("x")), None)
    channel.send(QueueDeclareOk("x", 1, 2))
    properties = BasicProperties(message_id="m")
    publish = only(events.Requested, core.receive_data(say(BasicPublish("e", "k"), 1, b"body", properties)))
    assert publish.method == BasicPublish("e", "k")
    assert publish.content is not None
    assert (publish.content.body, publish.content.properties) == (b"body", properties)
    channel.send(BasicAck(1))
    channel.send_content(BasicDeliver("c", 1, False, "e", "k"), properties, b"body")
    assert said(core) == [
        Said(1, QueueDeclareOk("x", 1, 2)),
        Said(1, BasicAck(1)),
        Said(1, BasicDeliver("c", 1, False, "e", "k"), b"body", properties),
    ]


def test_a_server_may_ask_as_well() -> None:
    core = server()
    channel = served_channel(core)
    core.receive_data(say(BasicConsume("q", "c")))
    channel.send(BasicCancel("c", False), "cancelled")
    channel.send(ChannelFlow(False), "stopped")
    happened = core.receive_data(say(BasicCancelOk("c")) + say(ChannelFlowOk(False)))
    assert [event.token for event in of_kind(events.Replied, happened)] == ["cancelled", "stopped"]


def test_a_server_blocks_and_takes_new_secrets() -> None:
    core = server()
    core.send(ConnectionBlocked("memory"))
    core.send(ConnectionUnblocked())
    secret = ConnectionUpdateSecret("s", "r")
    assert only(events.Requested, core.receive_data(say(secret, 0))).method == as_read(secret)
    core.send(ConnectionUpdateSecretOk())
    words = [ConnectionBlocked("memory"), ConnectionUnblocked(), ConnectionUpdateSecretOk()]
    assert_said(core, *words, channel=0)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (say(ChannelOpen(), 11), 504, "channel 11 is beyond channel_max"),
        (say(ChannelOpen(), 1) * 2, 503, "channel.open is not allowed"),
        (say(QueueDeclare("x"), 2), 504, "never opened"),
        (say(BasicDeliver(), 1, b""), 504, "never opened"),
    ],
)
def test_a_server_refuses_a_client_that_does_not_keep_to_the_channels(
    data: bytes, code: int, words: str
) -> None:
    core = server(tuning=Tuning(10, 131072, 0))
    error = ended_with(core.receive_data(data))
    assert isinstance(error, RemoteProtocolError)
    assert words in str(error)
    assert isinstance(said(core)[0].method, ConnectionClose)
    assert error.reply_code == code


def test_a_server_takes_no_channel_before_the_connection_is_open() -> None:
    core = Connection(server()._handshake)
    core.receive_data(b"AMQP\0\0\x09\x01")
    assert isinstance(ended_with(core.receive_data(say(ChannelOpen()))), RemoteProtocolError)


@pytest.mark.covers("T-CH-01")
def test_a_client_may_open_a_number_again_once_it_is_closed() -> None:
    core = server()
    first = served_channel(core)
    happened = core.receive_data(say(ChannelClose()))
    assert only(events.ChannelEnded, happened).channel is first
    assert_said(core, ChannelCloseOk())
    assert served_channel(core) is not first


def test_a_client_that_closes_the_connection_is_answered() -> None:
    core = server()
    served_channel(core)
    error = ended_with(core.receive_data(say(ConnectionClose(200, "bye"), 0)))
    assert type(error) is ConnectionClosed
    assert_said(core, ConnectionCloseOk(), channel=0)


@pytest.mark.covers("T-FR-06")
def test_a_peer_that_provokes_answers_and_does_not_read_them_is_left() -> None:
    core = client(max_outbox=1000)
    open_channel(core)
    provoked = say(ChannelFlow(True))
    happened: list[Any] = []
    for _ in range(200):
        happened += core.receive_data(provoked * 1000)
    error = ended_with(happened)
    assert isinstance(error, RemoteProtocolError)
    assert error.reply_code == 506
    assert core.outbox.size < 1_200_000
    assert isinstance(said(core)[0].method, ConnectionClose)


def test_what_is_written_ends_with_the_transport() -> None:
    core = client()
    core.heartbeat()
    assert written(core) == HEARTBEAT_FRAME


@pytest.mark.covers("T-BLK-03")
def test_a_peer_that_wants_answers_and_reads_none_is_left() -> None:
    core = client(max_outbox=100)
    channel = open_channel(core)
    flood = say(ChannelFlow(True), channel.number) * 10_000
    for _ in range(20):
        happened = core.receive_data(flood)
        if not core.is_open:
            break
    error = ended_with(happened)
    assert "more answers than it reads" in str(error)
    assert core.outbox.size < 2_000_000


@pytest.mark.covers("T-BLK-01", "T-BLK-03")
def test_what_we_put_in_the_outbox_ourselves_is_not_the_peers_fault() -> None:
    core = client(max_outbox=100)
    channel = open_channel(core)
    publish(channel, "large", body=bytes(3_000_000))
    core.receive_data(HEARTBEAT_FRAME)
    for _ in range(20):
        core.receive_data(say(ChannelFlow(True), channel.number) * 10_000)
        core.outbox.take()
    assert core.is_open


@pytest.mark.covers("T-HS-05")
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOT_ALLOWED - access to vhost 'unlimited' refused for user 'guest'", VhostAccessDenied),
        ("NOT_ALLOWED - access to vhost 'v' refused: connection limit (3) is reached", NotAllowed),
    ],
)
def test_a_virtual_host_that_is_full_is_not_forbidden(text: str, kind: type[NotAllowed]) -> None:
    core = fresh_client()
    core.receive_data(START + TUNE)
    error = ended_with(core.receive_data(say(ConnectionClose(530, text, 10, 40), 0)))
    assert type(error) is kind
