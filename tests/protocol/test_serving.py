"""A broker's end of a connection: in order, strict, and in RabbitMQ's words."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.protocol.pair import PROTOCOL_HEADER, written
from txamqpx.errors import AMQPError
from txamqpx.protocol import events
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT_FRAME, METHOD, frame, header_frame
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.protocol.rulings import OVERLONG, Breach, Ending
from txamqpx.protocol.serving import ServerConnection
from txamqpx.protocol.states import ChannelState
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1

DECLARE = amqp.QueueDeclare("q")
PUBLISH = amqp.BasicPublish("", "q")
CLOSE = amqp.ChannelClose(200, "")


def methods(channel: int, *said: Method) -> bytes:
    return b"".join(frame(METHOD, channel, method.encode()) for method in said)


def greeted(**options: Any) -> ServerConnection:
    core = ServerConnection(
        ServerHandshake(), published=events.Published, **{"max_message_size": 100, **options}
    )
    core.start()
    assert core.receive_data(PROTOCOL_HEADER) == []
    core.outbox.take()
    return core


def opened(*channels: int, **options: Any) -> ServerConnection:
    core = greeted(**options)
    core.receive_data(methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", "")))
    core.send(amqp.ConnectionTune(5, 8192, 0))
    core.receive_data(methods(0, amqp.ConnectionTuneOk(5, 8192, 0), amqp.ConnectionOpen("/")))
    core.send(amqp.ConnectionOpenOk())
    for number in channels:
        core.receive_data(methods(number, amqp.ChannelOpen()))
        core.channels[number].send(amqp.ChannelOpenOk())
    core.outbox.take()
    return core


def names(happened: list[events.Event]) -> list[str]:
    return [one.method.name if isinstance(one, events.Requested) else type(one).__name__ for one in happened]


def breach(core: ServerConnection, data: bytes) -> Breach:
    (event,) = core.receive_data(data)
    assert isinstance(event, events.Broken)
    assert isinstance(event.error, Breach)
    return event.error


def said(core: ServerConnection) -> list[Any]:
    data, heard, offset = b"".join(core.outbox.take()), [], 0
    while offset < len(data):
        length = int.from_bytes(data[offset + 3 : offset + 7])
        payload = data[offset + 7 : offset + 7 + length]
        heard.append(AMQP_0_9_1.methods[int.from_bytes(payload[:4])].decode(payload, 4, length))
        offset += length + 8
    return heard


# --------------------------------------------------------------------------- in order


def test_what_is_sent_ahead_waits_for_the_answer() -> None:
    core = ServerConnection(ServerHandshake(), published=events.Published, max_message_size=100)
    core.start()
    everything = (
        PROTOCOL_HEADER
        + methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", ""))
        + methods(0, amqp.ConnectionTuneOk(5, 8192, 0), amqp.ConnectionOpen("/"))
        + methods(1, amqp.ChannelOpen(), DECLARE)
    )
    happened = core.receive_data(everything[:-10])
    assert names(happened) == ["connection.start-ok"]
    assert core.receive_data(everything[-10:]) == []
    assert core.take_events() == []
    core.send(amqp.ConnectionTune(5, 8192, 0))
    assert names(core.take_events()) == ["Tuned", "connection.open"]
    assert core.take_events() == []
    core.send(amqp.ConnectionOpenOk())
    assert names(core.take_events()) == ["channel.open", "queue.declare"]


@pytest.mark.parametrize("size", [1, 3, 7, 8, 20])
def test_however_it_is_cut(size: int) -> None:
    core = greeted()
    data = methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", "")) + methods(
        0, amqp.ConnectionTuneOk(5, 8192, 0)
    )
    data += methods(0, amqp.ConnectionOpen("/")) + methods(1, amqp.ChannelOpen(), DECLARE, PUBLISH)
    data += header_frame(1, 60, b"\0\0", 30) + frame(BODY, 1, b"x" * 30) + frame(7, 1, b"no frame")
    happened: list[str] = []
    answers: dict[str, Method] = {
        "connection.start-ok": amqp.ConnectionTune(5, 8192, 0),
        "connection.open": amqp.ConnectionOpenOk(),
    }
    for start in range(0, len(data), size):
        new = core.receive_data(data[start : start + size])
        while new:
            for name in names(new):
                happened.append(name)
                if name in answers:
                    core.send(answers[name])
            new = core.take_events()
    assert happened == [
        "connection.start-ok",
        "Tuned",
        "connection.open",
        "channel.open",
        "queue.declare",
        "Published",
        "Broken",
    ]


def test_nobody_sends_ahead_without_end() -> None:
    core = greeted()
    core.receive_data(methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", "")))
    happened: list[events.Event] = []
    for _ in range(20):
        happened += core.receive_data(bytes(100_000))
    assert names(happened) == ["ConnectionEnded"]


def test_closes_are_requests() -> None:
    core = opened(1)
    happened = core.receive_data(
        methods(1, DECLARE, CLOSE, DECLARE) + methods(0, amqp.ConnectionClose(200, ""))
    )
    assert names(happened) == ["queue.declare", "channel.close", "connection.close"]
    channel = core.channels[1]
    channel.send(amqp.QueueDeclareOk("q", 0, 0))
    core.answer_channel_close(channel, CLOSE)
    core.answer_close(amqp.ConnectionClose(200, ""))
    assert [type(one) for one in said(core)] == [
        amqp.QueueDeclareOk,
        amqp.ChannelCloseOk,
        amqp.ConnectionCloseOk,
    ]
    assert names(core.take_events()) == ["ChannelEnded", "ConnectionEnded"]


def test_an_end_with_nothing_before_it_wakes_the_writer() -> None:
    woken: list[int] = []
    core = opened(wake=lambda: woken.append(1))
    core.receive_data(methods(0, amqp.ConnectionClose(200, "")))
    woken.clear()
    core.answer_close(amqp.ConnectionClose(200, ""))
    assert woken == [1]


def test_a_channel_that_is_closed_twice() -> None:
    core = opened(1)
    assert names(core.receive_data(methods(1, CLOSE, amqp.ChannelCloseOk(), CLOSE))) == ["channel.close"] * 2
    channel = core.channels[1]
    core.answer_channel_close(channel, CLOSE)
    core.answer_channel_close(channel, CLOSE)
    assert [type(one) for one in said(core)] == [amqp.ChannelCloseOk] * 2
    assert core.channels == {}


def test_closes_of_a_channel_that_cross() -> None:
    core = opened(1)
    core.receive_data(methods(1, CLOSE))
    channel = core.channels[1]
    channel.send(amqp.ChannelClose(404, "x"))
    core.answer_channel_close(channel, CLOSE)
    assert channel.state is ChannelState.SERVER_CLOSING
    core.receive_data(methods(1, DECLARE, CLOSE))
    assert [type(one) for one in said(core)] == [amqp.ChannelClose, amqp.ChannelCloseOk, amqp.ChannelCloseOk]
    assert names(core.receive_data(methods(1, amqp.ChannelCloseOk()))) == ["Replied", "ChannelEnded"]


def test_a_channels_close_is_not_answered_when_all_is_over() -> None:
    core = opened(1)
    core.receive_data(methods(1, CLOSE))
    channel = core.channels[1]
    core.close(None, 541, "INTERNAL_ERROR")
    core.answer_channel_close(channel, CLOSE)
    assert [type(one) for one in said(core)] == [amqp.ConnectionClose]


# --------------------------------------------------------------------------- breaches


def test_a_breach_comes_behind_what_came_before() -> None:
    core = opened(1)
    happened = core.receive_data(methods(1, DECLARE) + frame(5, 1, b"") + methods(1, DECLARE))
    assert names(happened) == ["queue.declare", "Broken"]
    assert core.take_events() == []
    core.channels[1].send(amqp.QueueDeclareOk("q", 0, 0))
    (broken,) = [one for one in happened if isinstance(one, events.Broken)]
    core.punish(broken.error)
    assert [type(one) for one in said(core)] == [amqp.QueueDeclareOk, amqp.ConnectionClose]
    assert names(core.take_events()) == ["ChannelEnded"]
    core.punish(broken.error)
    assert said(core) == []
    assert core.receive_data(methods(1, DECLARE) + frame(5, 1, b"x")) == []
    assert names(core.receive_data(methods(0, amqp.ConnectionCloseOk()))) == ["Replied", "ConnectionEnded"]


def test_who_breaks_the_protocol_once_more_is_cut_off() -> None:
    core = opened()
    core.punish(breach(core, frame(5, 1, b"")))
    happened = core.receive_data(b"\1\0\0\xff\xff\xff\xff")
    assert names(happened) == ["Failed", "ConnectionEnded"]
    core.punish(Breach(501, "x"))


@pytest.mark.parametrize("ending", [Ending.LAST_WORD, Ending.SILENT, Ending.ABRUPT])
def test_endings(ending: Ending) -> None:
    core = opened(1)
    core.channels[1].send(amqp.ChannelFlow(True))
    core.punish(Breach(501, "x", ending=ending))
    (*_, ended) = core.take_events()
    assert isinstance(ended, events.ConnectionEnded)
    assert ended.flush == (ending is Ending.LAST_WORD)
    heard = [type(one) for one in said(core)]
    assert (
        heard
        == {
            Ending.LAST_WORD: [amqp.ChannelFlow, amqp.ConnectionClose],
            Ending.SILENT: [amqp.ChannelFlow],
            Ending.ABRUPT: [],
        }[ending]
    )
    assert core.receive_data(methods(1, DECLARE)) == []


@pytest.mark.parametrize("cut", [1, 4, 8, 9])
def test_a_bad_end(cut: int) -> None:
    core = opened()
    data = frame(8, 0, b"ab")[:-1] + b"\1"
    happened = core.receive_data(data[:cut]) + core.receive_data(data[cut:])
    (event,) = happened
    assert isinstance(event, events.Broken)
    assert event.error.text == 'FRAME_ERROR - type 8, all octets = <<"ab">>: {invalid_frame_end_marker,1}'
    assert event.error.ending is Ending.LAST_WORD
    assert core.receive_data(methods(0, amqp.ConnectionClose(200, ""))) == []


def test_a_frame_that_is_too_large() -> None:
    found = breach(opened(), b"\3\0\1" + struct.pack(">I", 8193))
    assert found.text == "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,8193,8184}"
    assert found.ending is Ending.LAST_WORD


@pytest.mark.parametrize(
    "data",
    [
        HEARTBEAT_FRAME,
        methods(0, amqp.ConnectionTuneOk(1, 8192, 0)),
        methods(0, amqp.ConnectionClose(200, "")),
        methods(1, amqp.ChannelOpen()),
        b"\1\0\0\xff\xff\xff\xff",
    ],
)
def test_a_stranger_hears_nothing(data: bytes) -> None:
    assert breach(greeted(), data).ending is Ending.SILENT


def test_limits_that_nobody_proposed() -> None:
    core = greeted()
    core.receive_data(methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", "")))
    core.send(amqp.ConnectionTune(5, 8192, 0))
    found = breach(core, methods(0, amqp.ConnectionTuneOk(6, 8192, 0)))
    assert found.ending is Ending.SILENT
    assert "channel_max = 6" in found.text


def test_the_answer_to_a_close_in_pieces() -> None:
    core = opened()
    core.punish(breach(core, frame(5, 1, b"")))
    answer = methods(0, amqp.ConnectionCloseOk())
    assert core.receive_data(answer[:9]) == []
    assert names(core.receive_data(answer[9:] + answer)) == ["Replied", "ConnectionEnded"]


def test_other_words_for_the_same() -> None:
    core = opened(1, rewordings={OVERLONG: (505, "something else")})
    found = breach(core, methods(1, PUBLISH) + header_frame(1, 60, b"\0\0", 1) + frame(BODY, 1, b"xx"))
    assert (found.reply_code, found.text, found.culprit) == (505, "something else", amqp.BasicPublish.index)


@pytest.mark.parametrize(
    ("data", "code", "text", "culprit"),
    [
        (frame(8, 0, b"x"), 501, 'FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame', 0),
        (frame(8, 1, b""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", 0),
        (frame(BODY, 0, b""), 505, "UNEXPECTED_FRAME - type 3, all octets = <<>>", 0),
        (frame(HEADER, 0, b"x"), 501, 'FRAME_ERROR - type 2, all octets = <<"x">>: unknown_frame', 0),
        (frame(METHOD, 0, b"x"), 501, 'FRAME_ERROR - type 1, all octets = <<"x">>: unknown_frame', 0),
        (frame(METHOD, 9, b"x"), 501, 'FRAME_ERROR - type 1, all octets = <<"x">>: unknown_frame', 0),
        (
            frame(BODY, 9, b"x"),
            505,
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
            0,
        ),
        (methods(9, DECLARE), 504, "CHANNEL_ERROR - expected 'channel.open'", DECLARE.index),
        (
            methods(0, DECLARE),
            504,
            "CHANNEL_ERROR - unexpected method in connection state running",
            DECLARE.index,
        ),
        (
            methods(1, amqp.ChannelFlowOk(True)),
            503,
            "COMMAND_INVALID - unimplemented method",
            amqp.ChannelFlowOk.index,
        ),
        (
            frame(METHOD, 1, amqp.BasicAck(1).encode() + b"x"),
            501,
            "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,1,0,120>>",
            amqp.BasicAck.index,
        ),
        (
            frame(METHOD, 1, PUBLISH.encode() + b"x"),
            501,
            "FRAME_ERROR - cannot decode <<0,0,0,1,113,0,120>>",
            amqp.BasicPublish.index,
        ),
        (
            frame(METHOD, 1, DECLARE.encode() + b"x"),
            501,
            "FRAME_ERROR - cannot decode <<0,0,1,113,0,0,0,0,0,120>>",
            DECLARE.index,
        ),
        (
            methods(1, PUBLISH) + frame(HEADER, 1, struct.pack(">HHQ", 60, 1, 1) + b"\0\0"),
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
            amqp.BasicPublish.index,
        ),
        (
            methods(1, PUBLISH) + header_frame(1, 60, b"\0\0", 9) * 2,
            505,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
            amqp.BasicPublish.index,
        ),
    ],
)
def test_what_clients_are_told(data: bytes, code: int, text: str, culprit: int) -> None:
    found = breach(opened(1), data)
    assert (found.reply_code, found.text, found.culprit, found.ending) == (code, text, culprit, Ending.TOLD)


@pytest.mark.parametrize("number", [0, 1, 9])
def test_methods_that_there_are_not(number: int) -> None:
    assert breach(opened(1), frame(METHOD, number, b"\0\x63\0\1")).ending is Ending.ABRUPT


def test_nothing_but_the_virtual_host_comes_behind_tune_ok() -> None:
    core = greeted()
    core.receive_data(methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", "")))
    core.send(amqp.ConnectionTune(5, 8192, 0))
    core.receive_data(methods(0, amqp.ConnectionTuneOk(5, 8192, 0)))
    assert core.receive_data(HEARTBEAT_FRAME) == []
    found = breach(core, methods(0, amqp.ConnectionClose(200, "")))
    assert (found.reply_code, found.ending) == (504, Ending.TOLD)
    assert found.text.endswith("in connection state opening")


def test_another_protocol() -> None:
    core = ServerConnection(ServerHandshake(), published=events.Published, max_message_size=100)
    core.start()
    assert core.receive_data(b"GET ") == []
    assert names(core.receive_data(b"/ HTTP/1.1")) == ["ConnectionEnded"]
    assert written(core) == PROTOCOL_HEADER


def test_what_cannot_happen_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    core = opened(1)

    def fail(data: bytes) -> None:
        raise AMQPError("what is this?")

    monkeypatch.setattr(core, "_read", fail)
    assert breach(core, b"x").text == "INTERNAL_ERROR"


# --------------------------------------------------------------------------- channels and contents


def test_so_many_channels_and_no_more() -> None:
    core = opened(1, 2, 3, 4, 60000)
    found = breach(core, methods(5, amqp.ChannelOpen()))
    assert found.reply_code == 530
    assert found.text.endswith("number of channels opened (5) has reached the negotiated channel_max (5)")


def test_a_second_open() -> None:
    assert breach(opened(1), methods(1, amqp.ChannelOpen())).text.endswith("second 'channel.open' seen")
    core = opened(1)
    core.receive_data(methods(1, CLOSE))
    assert breach(core, methods(1, amqp.ChannelOpen())).text.endswith("second 'channel.open' seen")


@pytest.mark.parametrize("pieces", [[101], [60, 41], [0, 101]])
def test_a_message_that_is_too_large_is_counted_and_not_kept(pieces: list[int]) -> None:
    core = opened(1)
    data = methods(1, PUBLISH) + header_frame(1, 60, b"\0\0", 101)
    data += b"".join(frame(BODY, 1, b"x" * size) for size in pieces)
    (event,) = core.receive_data(data)
    assert isinstance(event, events.TooLarge)
    assert (event.channel, event.size) == (core.channels[1], 101)
    data = methods(1, PUBLISH) + header_frame(1, 60, b"\0\0", 100) + frame(BODY, 1, b"y" * 100)
    (message,) = core.receive_data(data)
    assert isinstance(message, events.Published)
    assert message.body == b"y" * 100


def test_a_message_that_is_larger_than_any() -> None:
    core = opened(1, largest_body=1000)
    found = breach(core, methods(1, PUBLISH) + header_frame(1, 60, b"\0\0", 1001))
    assert found.text == "FRAME_ERROR - content body size 1001 exceeds maximum allowed size 1000"


def test_frames_in_pieces() -> None:
    core = opened(1)
    data = methods(1, PUBLISH) + header_frame(1, 60, b"\0\0", 50) + frame(BODY, 1, b"x" * 50)
    happened: list[events.Event] = []
    for octet in data:
        happened += core.receive_data(bytes((octet,)))
    (message,) = happened
    assert isinstance(message, events.Published)
    assert message.body == b"x" * 50


def test_a_lost_connection_ends_once() -> None:
    core = opened(1)
    assert names(core.connection_lost()) == ["ChannelEnded", "ConnectionEnded"]
    assert core.connection_lost() == []
