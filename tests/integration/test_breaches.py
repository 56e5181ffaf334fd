"""What a broker says to clients that break the protocol, to the letter, and that it harms nobody else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.integration.support import is_since
from tests.integration.wire import HEARTBEAT, PATIENCE, Wire, plain
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT_FRAME, METHOD, frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

PUBLISH = amqp.BasicPublish("", "q")
DECLARE = amqp.QueueDeclare("", exclusive=True)
MISSING = amqp.QueueDeclare("missing", passive=True)


def methods(channel: int, *said: Method) -> bytes:
    """Return methods as frames."""
    return b"".join(frame(METHOD, channel, method.encode()) for method in said)


def raw(payload: bytes, channel: int = 1) -> bytes:
    """Return a method frame of octets."""
    return frame(METHOD, channel, payload)


def header(size: int, *, class_id: int = 60, weight: int = 0, properties: bytes = b"\0\0") -> bytes:
    """Return a content header frame on channel 1."""
    return frame(HEADER, 1, struct.pack(">HHQ", class_id, weight, size) + properties)


def body(data: bytes) -> bytes:
    """Return a body frame on channel 1."""
    return frame(BODY, 1, data)


def declare_with(table: bytes) -> bytes:
    """Return a declare with a table made by hand."""
    return raw(b"\0\x32\0\x0a\0\0\1q\x08" + struct.pack(">I", len(table)) + table)


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wire]:
    """Open a connection with channel 1."""
    with Wire(vhost.node) as connected:
        yield connected.open(vhost.name, 1)


@pytest.fixture(autouse=True)
def neighbour(vhost: Vhost) -> Iterator[Wire]:
    """Have another connection, which notices nothing of it all."""
    with Wire(vhost.node) as connected:
        connected.open(vhost.name, 1)
        yield connected
        connected.send(1, DECLARE)
        connected.expect(amqp.QueueDeclareOk, 1)


def has_ended(wire: Wire) -> bool:
    """Answer a close, and tell whether the broker hangs up then."""
    wire.send(0, amqp.ConnectionCloseOk())
    return wire.is_over()


# --------------------------------------------------------------------------- frames

UNEXPECTED = "UNEXPECTED_FRAME - "
NO_METHOD = UNEXPECTED + "expected method frame, got non method frame instead"
NO_HEADER = UNEXPECTED + "expected content header for class 60, got non content header frame instead"
NO_BODY = UNEXPECTED + "expected content body, got non content body frame instead"

FRAMES: dict[str, tuple[bytes, int, str]] = {
    "an unknown type": (frame(5, 1, b"abc"), 501, 'type 5, all octets = <<"abc">>: unknown_frame'),
    "an unknown type on channel 0": (frame(4, 0, b""), 501, "type 4, all octets = <<>>: unknown_frame"),
    "a heartbeat on a channel": (frame(8, 1, b""), 505, "type 8, all octets = <<>>"),
    "a heartbeat on no channel": (frame(8, 7, b""), 505, "type 8, all octets = <<>>"),
    "a heartbeat with something in it": (
        frame(8, 0, b"ab"),
        501,
        'type 8, all octets = <<"ab">>: unknown_frame',
    ),
    "a body on channel 0": (frame(BODY, 0, b"abc"), 505, 'type 3, all octets = <<"abc">>'),
    "half a method": (raw(b"\0\x32"), 501, "type 1, all octets = <<0,50>>: unknown_frame"),
    "half a method on channel 0": (raw(b"", 0), 501, "type 1, all octets = <<>>: unknown_frame"),
    "a bad end": (
        HEARTBEAT_FRAME[:-1] + b"\1",
        501,
        "type 8, all octets = <<>>: {invalid_frame_end_marker,1}",
    ),
    "a frame that is too large": (
        b"\x01\0\1\x10\0\0\0",
        501,
        "type 1, all octets = <<>>: {frame_too_large,268435456,131064}",
    ),
    "a greeting": (b"AMQP\0\0\x09\1", 501, "type 65, all octets = <<>>: {frame_too_large,1342177289,131064}"),
}


@pytest.mark.covers("T-FR-01", "T-FR-04")
@pytest.mark.parametrize(("data", "code", "text"), FRAMES.values(), ids=FRAMES.keys())
def test_frames_that_are_none(wire: Wire, data: bytes, code: int, text: str) -> None:
    wire.write(data)
    name = "FRAME_ERROR" if code == 501 else "UNEXPECTED_FRAME"
    assert wire.refusal() == (code, f"{name} - {text}", 0, 0)
    assert has_ended(wire)


@pytest.mark.parametrize("beyond", [-8, -7, 0, 1])
def test_frames_somewhat_too_large(vhost: Vhost, beyond: int) -> None:
    """Eight octets more than agreed are let through: clients have miscounted."""
    size = 8192 + beyond
    with Wire(vhost.node) as wire:
        wire.open(vhost.name, 1, frame_max=8192)
        wire.write(methods(1, PUBLISH) + header(size) + body(b"x" * size) + methods(1, DECLARE))
        if beyond <= 0:
            wire.expect(amqp.QueueDeclareOk, 1)
        else:
            why = f"{{frame_too_large,{size},8184}}"
            assert wire.refusal() == (501, f"FRAME_ERROR - type 3, all octets = <<>>: {why}", 0, 0)


# --------------------------------------------------------------------------- contents

CONTENTS: dict[str, tuple[bytes, str]] = {
    "a body without anything": (body(b"x"), NO_METHOD),
    "a header without anything": (header(0), NO_METHOD),
    "a method where a header is due": (methods(1, PUBLISH, DECLARE), NO_HEADER),
    "a body where a header is due": (methods(1, PUBLISH) + body(b"x"), NO_HEADER),
    "a header with a weight": (methods(1, PUBLISH) + header(1, weight=7), NO_HEADER),
    "a header of another class": (
        methods(1, PUBLISH) + header(10, class_id=50),
        UNEXPECTED + "expected content header for class 60, got one for class 50 instead",
    ),
    "a method where a body is due": (methods(1, PUBLISH) + header(10) + methods(1, DECLARE), NO_BODY),
    "a method in the middle of a body": (
        methods(1, PUBLISH) + header(10) + body(b"12345") + methods(1, DECLARE),
        NO_BODY,
    ),
    "two headers": (methods(1, PUBLISH) + header(10) + header(10), NO_BODY),
    "a body behind the end": (methods(1, PUBLISH) + header(0) + body(b""), NO_METHOD),
}


@pytest.mark.covers("T-FR-05")
@pytest.mark.parametrize(("data", "text"), CONTENTS.values(), ids=CONTENTS.keys())
def test_contents_out_of_order(wire: Wire, data: bytes, text: str) -> None:
    wire.write(data)
    culprit = (0, 0) if text == NO_METHOD else (60, 40)
    assert wire.refusal() == (505, text, *culprit)
    assert has_ended(wire)


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"ab", b"cd"]])
def test_more_than_was_announced(wire: Wire, broker: BrokerNode, pieces: list[bytes]) -> None:
    wire.write(methods(1, PUBLISH) + header(3) + b"".join(map(body, pieces)) + methods(1, DECLARE))
    expected = (501, "FRAME_ERROR - content body frame exceeds remaining content size")
    assert wire.refusal() == (*(expected if is_since(broker, "4.0") else (505, NO_BODY)), 60, 40)


def test_bodies_of_nothing(wire: Wire) -> None:
    wire.write(methods(1, PUBLISH) + header(1) + body(b"") * 100 + body(b"x") + methods(1, DECLARE))
    wire.expect(amqp.QueueDeclareOk, 1)


@pytest.mark.parametrize(
    "payload", [b"\0\x3c\0\0\0\0", b"\0\x3c\0\0" + bytes(8)], ids=["cut", "without flags"]
)
def test_headers_cut_short(wire: Wire, payload: bytes) -> None:
    wire.write(methods(1, PUBLISH) + frame(HEADER, 1, payload))
    if len(payload) < 12:
        text = "FRAME_ERROR - type 2, all octets = <<0,60,0,0,0,0>>: unknown_frame"
        assert wire.refusal() == (501, text, 0, 0)
    else:
        assert wire.refusal() == (541, "INTERNAL_ERROR", 0, 0)
    assert has_ended(wire)


@pytest.mark.parametrize(
    "properties",
    [b"\x80\0\x09t", b"\x20\0\0\0\0\3\1aZ", b"\x20\0\0\0\0\x09\1a", b"\x80\0\1tzz"],
    ids=["a property cut short", "a tag that is none", "headers cut short", "something behind them"],
)
def test_properties_that_are_none(wire: Wire, properties: bytes) -> None:
    wire.write(methods(1, PUBLISH) + header(0, properties=properties))
    assert wire.refusal() == (541, "INTERNAL_ERROR", 0, 0)
    assert has_ended(wire)


# --------------------------------------------------------------------------- methods

CANNOT_DECODE = "FRAME_ERROR - cannot decode "

ARGUMENTS: dict[str, tuple[bytes, str, tuple[int, int]]] = {
    "a name that is cut": (raw(b"\0\x32\0\x0a\0\0\x09q"), CANNOT_DECODE + "<<0,0,9,113>>", (50, 10)),
    "a table that is cut": (
        raw(b"\0\x32\0\x0a\0\0\1q\x08\0\0\1\0"),
        CANNOT_DECODE + "<<0,0,1,113,8,0,0,1,0>>",
        (50, 10),
    ),
    "something behind them": (
        raw(amqp.QueuePurge("q").encode() + b"xy"),
        CANNOT_DECODE + "<<0,0,1,113,0,120,121>>",
        (50, 30),
    ),
    "a publish that is cut": (raw(b"\0\x3c\0\x28\0\0\x09"), CANNOT_DECODE + "<<0,0,9>>", (60, 40)),
    "something behind a publish": (
        raw(PUBLISH.encode() + b"xx"),
        CANNOT_DECODE + "<<0,0,0,1,113,0,120,120>>",
        (60, 40),
    ),
    "an ack that is cut": (raw(b"\0\x3c\0\x50\1"), CANNOT_DECODE + "<<1>>", (60, 80)),
    "no text": (raw(b"\0\x3c\0\x46\0\0\2\xff\xfe\0"), "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0)),
}


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize(("data", "text", "culprit"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments_that_are_none(wire: Wire, data: bytes, text: str, culprit: tuple[int, int]) -> None:
    wire.write(data)
    assert wire.refusal() == (501, text, *culprit)
    assert has_ended(wire)


@pytest.mark.parametrize(
    "data",
    [
        raw(b"\0\x63\0\1"),
        raw(b"\0\x32\0\x63"),
        raw(b"\0\x63\0\1", 0),
        raw(b"\0\x0a\0\x63", 0),
        raw(b"\0\x63\0\1", 2),
        declare_with(b"\1aZ"),
        declare_with(b"\1aI\0\0"),
        declare_with(b"\x09a"),
        declare_with(b"\1aA\0\0\0\x09I"),
    ],
)
def test_what_makes_the_broker_hang_up(wire: Wire, data: bytes) -> None:
    """Methods that there are not, and tables that are wrong inside."""
    wire.write(data)
    assert wire.is_over()


ONLY_SERVERS = [
    amqp.BasicDeliver("t", 1, False, "", "q"),
    amqp.BasicReturn(312, "t", "", "q"),
    amqp.BasicGetOk(1, False, "", "q", 0),
    amqp.BasicGetEmpty(),
    amqp.BasicConsumeOk("t"),
    amqp.QueueDeclareOk("q", 0, 0),
    amqp.ChannelOpenOk(),
    amqp.ChannelCloseOk(),
    amqp.ChannelFlowOk(True),
    amqp.ConfirmSelectOk(),
    amqp.ConnectionOpen("/"),
    amqp.ConnectionClose(200, "x"),
    amqp.ConnectionUpdateSecret(b"x", "y"),
]


@pytest.mark.covers("T-CH-09")
@pytest.mark.parametrize("method", ONLY_SERVERS, ids=lambda method: method.name)
def test_what_has_no_business_on_a_channel(wire: Wire, method: Method) -> None:
    wire.write(methods(1, method) + (header(0) if method.content else b""))
    culprit = (method.index >> 16, method.index & 0xFFFF)
    assert wire.refusal() == (503, "COMMAND_INVALID - unimplemented method", *culprit)
    assert has_ended(wire)


ONLY_BEFORE = [
    amqp.ConnectionOpen("/"),
    amqp.ConnectionStartOk({}, "PLAIN", plain(), "en_US"),
    amqp.ConnectionTuneOk(1, 8192, 0),
    amqp.ConnectionSecureOk(b""),
    amqp.ConnectionStart(),
    amqp.ConnectionOpenOk(),
    amqp.ConnectionCloseOk(),
    amqp.ConnectionBlocked("x"),
    amqp.ConnectionUpdateSecretOk(),
    amqp.ChannelOpen(),
    DECLARE,
    PUBLISH,
]


@pytest.mark.parametrize("method", ONLY_BEFORE, ids=lambda method: method.name)
def test_what_has_no_business_on_channel_0(wire: Wire, method: Method) -> None:
    wire.send(0, method)
    text = "CHANNEL_ERROR - unexpected method in connection state running"
    assert wire.refusal() == (504, text, method.index >> 16, method.index & 0xFFFF)
    assert has_ended(wire)


def test_a_login_that_cannot_be_read_on_an_open_connection(wire: Wire) -> None:
    wire.write(raw(b"\0\x0a\0\x0b\0\0\0\3abc\0\0\0\0\0\0", 0))
    assert wire.refusal()[:2] in {
        (541, "INTERNAL_ERROR"),
        (504, "CHANNEL_ERROR - unexpected method in connection state running"),
    }


# --------------------------------------------------------------------------- channels

NOT_OPEN = [
    DECLARE,
    PUBLISH,
    amqp.ChannelClose(200, ""),
    amqp.ChannelCloseOk(),
    amqp.ConnectionClose(200, ""),
]


@pytest.mark.covers("T-CH-09")
@pytest.mark.parametrize("method", NOT_OPEN, ids=lambda method: method.name)
def test_a_channel_that_is_not_open(wire: Wire, method: Method) -> None:
    wire.write(methods(2, method) + (frame(HEADER, 2, header(0)[7:-1]) if method.content else b""))
    text = "CHANNEL_ERROR - expected 'channel.open'"
    assert wire.refusal() == (504, text, method.index >> 16, method.index & 0xFFFF)
    assert has_ended(wire)


def test_a_body_on_a_channel_that_is_not_open(wire: Wire) -> None:
    wire.write(frame(BODY, 2, b"x"))
    assert wire.refusal() == (505, NO_METHOD, 0, 0)


def test_a_channel_that_is_open_already(wire: Wire) -> None:
    wire.send(1, amqp.ChannelOpen())
    assert wire.refusal() == (504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10)
    assert has_ended(wire)


@pytest.mark.covers("T-CH-02")
def test_not_the_number_counts_but_how_many(vhost: Vhost) -> None:
    with Wire(vhost.node) as wire:
        wire.open(vhost.name, 1, 2, 60000, channel_max=3)
        wire.send(2, amqp.ChannelClose(200, ""))
        wire.expect(amqp.ChannelCloseOk, 2)
        wire.send(5, amqp.ChannelOpen())
        wire.expect(amqp.ChannelOpenOk, 5)
        wire.send(2, amqp.ChannelOpen())
        text = "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)"
        assert wire.refusal() == (530, text, 0, 0)
        assert has_ended(wire)


@pytest.mark.covers("T-CH-03")
def test_a_channel_that_the_broker_has_closed(wire: Wire) -> None:
    """Nothing is heard on it but closes; then its number is free."""
    wire.write(methods(1, MISSING, DECLARE, PUBLISH) + header(1) + body(b"x"))
    assert wire.refusal(1)[0] == 404
    wire.send(1, amqp.BasicGet("missing"), amqp.ChannelClose(200, ""))
    wire.expect(amqp.ChannelCloseOk, 1)
    wire.send(1, amqp.ChannelCloseOk())
    wire.send(1, amqp.ChannelOpen(), DECLARE)
    wire.expect(amqp.ChannelOpenOk, 1)
    wire.expect(amqp.QueueDeclareOk, 1)
    wire.send(1, MISSING)
    assert wire.refusal(1)[0] == 404
    wire.send(1, amqp.ChannelCloseOk(), DECLARE)
    assert wire.refusal() == (504, "CHANNEL_ERROR - expected 'channel.open'", 50, 10)


def test_a_closed_channel_that_is_opened_too_early(wire: Wire) -> None:
    wire.send(1, MISSING)
    assert wire.refusal(1)[0] == 404
    wire.send(1, amqp.ChannelOpen())
    assert wire.refusal() == (504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10)


@pytest.mark.covers("T-CH-03")
def test_a_close_of_ours_and_everything_before_it(wire: Wire) -> None:
    """What came before is answered first, what comes behind not at all."""
    wire.send(1, DECLARE, DECLARE, amqp.ChannelClose(200, "enough"), DECLARE)
    for kind in (amqp.QueueDeclareOk, amqp.QueueDeclareOk, amqp.ChannelCloseOk):
        wire.expect(kind, 1)
    assert wire.is_silent()
    wire.send(1, amqp.ChannelOpen())
    wire.expect(amqp.ChannelOpenOk, 1)


def test_the_end_and_everything_before_it(wire: Wire) -> None:
    wire.send(1, amqp.ConfirmSelect())
    wire.expect(amqp.ConfirmSelectOk, 1)
    wire.write(methods(1, DECLARE, PUBLISH) + header(0) + methods(0, amqp.ConnectionClose(200, "bye")))
    heard: list[Any] = [wire.hear() for _ in range(3)]
    assert [method.name for _, method in heard] == ["queue.declare-ok", "basic.ack", "connection.close-ok"]


def test_a_channel_and_then_the_connection(wire: Wire) -> None:
    """RabbitMQ may have ended before it comes to answer the channel's close."""
    wire.write(methods(1, DECLARE, amqp.ChannelClose(200, "")) + methods(0, amqp.ConnectionClose(200, "")))
    names: list[str] = []
    while "connection.close-ok" not in names:
        heard = wire.hear()
        assert heard is not None
        names.append(heard[1].name)
    assert names[0] == "queue.declare-ok"
    assert names[1:-1] in ([], ["channel.close-ok"])


def test_flow_is_not_for_clients(wire: Wire) -> None:
    wire.send(1, amqp.ChannelFlow(True))
    wire.expect(amqp.ChannelFlowOk, 1)
    wire.send(1, amqp.ChannelFlow(False))
    assert wire.refusal() == (540, "NOT_IMPLEMENTED - active=false", 20, 20)


def test_realms_are_given_to_everybody(wire: Wire) -> None:
    wire.write(raw(b"\0\x1e\0\x0a\x05/data\x00"))
    assert wire.expect(amqp.AccessRequestOk, 1).ticket == 1


def test_heartbeats_on_an_open_connection_are_nothing(wire: Wire) -> None:
    wire.write(HEARTBEAT * 10)
    wire.send(1, DECLARE)
    wire.expect(amqp.QueueDeclareOk, 1)


# --------------------------------------------------------------------------- large messages


@pytest.fixture(scope="module")
def strict(new_node: Callable[..., BrokerNode]) -> Iterator[BrokerNode]:
    """Run a broker with small limits."""
    with new_node(conf="max_message_size = 50000\n") as node:
        yield node


@pytest.mark.covers("T-FR-07")
def test_a_message_that_is_too_large_is_heard_to_its_end(strict: BrokerNode) -> None:
    with Wire(strict) as wire:
        wire.open("/", 1, 2)
        text = "PRECONDITION_FAILED - message size 50001 is larger than configured max size 50000"
        for pieces in ([50001], [40000, 10001]):
            wire.write(methods(1, PUBLISH) + header(50001))
            assert wire.is_silent()
            for piece in pieces:
                wire.write(body(b"x" * piece))
            assert wire.refusal(1) == (406, text, 60, 40)
            wire.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen())
            wire.expect(amqp.ChannelOpenOk, 1)
        wire.write(methods(1, PUBLISH) + header(50000) + body(b"x" * 50000) + methods(1, DECLARE))
        wire.expect(amqp.QueueDeclareOk, 1)


def test_a_message_larger_than_any(wire: Wire, broker: BrokerNode) -> None:
    wire.write(methods(1, PUBLISH) + header(2**63) + methods(1, DECLARE))
    text = "content body size 9223372036854775808 exceeds maximum allowed size 536870912"
    expected = (501, f"FRAME_ERROR - {text}") if is_since(broker, "4.0") else (505, NO_BODY)
    assert wire.refusal() == (*expected, 60, 40)


# --------------------------------------------------------------------------- patience


def test_a_client_that_reads_nothing_is_given_no_more(vhost: Vhost) -> None:
    """It gets what it asked for when it reads at last, and all of it."""
    with Wire(vhost.node) as wire:
        wire.open(vhost.name, 1)
        wire.send(1, amqp.QueueDeclare("large", durable=True))
        wire.expect(amqp.QueueDeclareOk, 1)
        count, size = 200, 100_000
        for _ in range(count):
            wire.publish(1, amqp.BasicPublish("", "large"), b"x" * size)
        wire.send(1, amqp.BasicConsume("large", "c", no_ack=True))
        wire.expect(amqp.BasicConsumeOk, 1)
        before = vhost.node.rss_mb()
        assert not wire.is_silent(PATIENCE)
        assert vhost.node.rss_mb() < before + 30
        bodies = 0
        while bodies < count:
            heard = wire.hear()
            bodies += heard == (1, "body")
