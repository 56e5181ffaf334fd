"""What a client that breaks the protocol is told."""

from __future__ import annotations

import struct

import pytest

from txamqpx.errors import DecodeError, RemoteProtocolError
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.content import Assembly
from txamqpx.protocol.events import Published
from txamqpx.protocol.frames import BODY, HEADER, METHOD
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.protocol.rulings import (
    NO_HEADER,
    OVERLONG,
    Breach,
    Ending,
    judge,
    octets,
    unexpected,
    unknown_frame,
)
from txamqpx.protocol.serving import ServerConnection
from txamqpx.spec import amqp0_9_1 as amqp

ERROR = RemoteProtocolError("whatever")

PUBLISH = (60, 40)


def channel(assembly: Assembly | None = None) -> ChannelCore:
    core = ServerConnection(ServerHandshake(), published=Published, max_message_size=100)
    made = ChannelCore(core, 1)
    made.assembly = assembly
    return made


def assembly(*, began: bool = False) -> Assembly:
    made = Assembly("basic.publish", 60, 100, lambda header, body: None)
    if began:
        made.header(struct.pack(">HHQ", 60, 0, 10) + b"\0\0", 0, 14)
    return made


def verdict(breach: Breach) -> tuple[object, ...]:
    return breach.reply_code, breach.text, (breach.culprit >> 16, breach.culprit & 0xFFFF), breach.ending


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", "<<>>"),
        (b"abc ~", '<<"abc ~">>'),
        (b"a\n", "<<97,10>>"),
        (b"\xff\0", "<<255,0>>"),
    ],
)
def test_octets_as_erlang_shows_them(payload: bytes, shown: str) -> None:
    assert octets(payload) == shown


def test_frames_that_are_none() -> None:
    assert verdict(unknown_frame(5, b"a"))[:2] == (
        501,
        'FRAME_ERROR - type 5, all octets = <<"a">>: unknown_frame',
    )
    assert verdict(unexpected(3, b""))[:2] == (505, "UNEXPECTED_FRAME - type 3, all octets = <<>>")


def test_a_long_text_is_cut() -> None:
    assert len(Breach(501, "ü" * 200).text.encode()) == 254


def test_a_breach_stays_what_it_is() -> None:
    breach = Breach(501, "x")
    assert judge(None, METHOD, b"", breach) is breach


@pytest.mark.parametrize(
    ("there", "kind", "payload", "expected"),
    [
        (None, BODY, b"x", (505, "expected method frame, got non method frame instead", (0, 0))),
        (channel(), HEADER, bytes(14), (505, "expected method frame, got non method frame instead", (0, 0))),
        (channel(assembly()), BODY, b"x", (505, NO_HEADER.partition(" - ")[2], PUBLISH)),
        (
            channel(assembly()),
            METHOD,
            amqp.TxSelect().encode(),
            (505, NO_HEADER.partition(" - ")[2], PUBLISH),
        ),
        (
            channel(assembly()),
            HEADER,
            b"\0\x32" + bytes(12),
            (505, "expected content header for class 60, got one for class 50 instead", PUBLISH),
        ),
        (
            channel(assembly(began=True)),
            HEADER,
            bytes(14),
            (505, "expected content body, got non content body frame instead", PUBLISH),
        ),
        (
            channel(assembly(began=True)),
            METHOD,
            amqp.TxSelect().encode(),
            (505, "expected content body, got non content body frame instead", PUBLISH),
        ),
        (channel(assembly(began=True)), BODY, b"x", (501, OVERLONG.partition(" - ")[2], PUBLISH)),
        (channel(assembly()), HEADER, b"\0\x3c" + bytes(10), (541, "", (0, 0))),
        (
            channel(assembly()),
            HEADER,
            b"\0\x3c",
            (501, "type 2, all octets = <<0,60>>: unknown_frame", (0, 0)),
        ),
    ],
)
def test_contents(
    there: ChannelCore | None, kind: int, payload: bytes, expected: tuple[int, str, tuple[int, int]]
) -> None:
    code, text, culprit, ending = verdict(judge(there, kind, payload, ERROR))
    assert (code, culprit, ending) == (expected[0], expected[2], Ending.TOLD)
    assert str(text).partition(" - ")[2] == expected[1]


@pytest.mark.parametrize(
    ("payload", "error", "expected"),
    [
        (b"\0\x32", ERROR, (501, "FRAME_ERROR - type 1, all octets = <<0,50>>: unknown_frame", (0, 0))),
        (b"\0\x3c\0\x50\1", ERROR, (501, "FRAME_ERROR - cannot decode <<1>>", (60, 80))),
        (b"\0\x3c\0\x46\0\0\1\xff\0", ERROR, (501, "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0))),
        (amqp.ChannelOpen().encode(), ERROR, (504, "CHANNEL_ERROR - second 'channel.open' seen", (20, 10))),
        (amqp.TxSelectOk().encode(), ERROR, (503, "COMMAND_INVALID - unimplemented method", (90, 11))),
    ],
)
def test_methods(payload: bytes, error: RemoteProtocolError, expected: tuple[object, ...]) -> None:
    assert verdict(judge(channel(), METHOD, payload, error)) == (*expected, Ending.TOLD)


def test_a_method_that_there_is_not() -> None:
    assert verdict(judge(channel(), METHOD, b"\0\x32\0\x46q", ERROR))[3] is Ending.ABRUPT


def test_tables_that_are_wrong_inside() -> None:
    payload = amqp.QueueDeclare("q").encode()
    error = DecodeError("unknown tag")
    assert verdict(judge(channel(), METHOD, payload, error))[3] is Ending.ABRUPT
    assert verdict(judge(None, METHOD, payload, error)) == (541, "INTERNAL_ERROR", (0, 0), Ending.TOLD)
