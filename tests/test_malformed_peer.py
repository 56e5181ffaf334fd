"""What a malformed or hostile server does to a connection: at most it ends, with one typed error."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.protocol.pair import OPEN_OK, START, TUNE, deliver, say
from txamqpx.connection import FAREWELL, AMQPProtocol
from txamqpx.errors import (
    AMQPError,
    ConnectionLost,
    DecodeError,
    HandshakeTimeout,
    NotAMQP,
    OutcomeUnknown,
    ProtocolVersionMismatch,
    RemoteProtocolError,
    RPCTimeout,
)
from txamqpx.message import Delivery, Settlement
from txamqpx.params import ConnectionParameters
from txamqpx.protocol.frames import BODY, HEADER, HEARTBEAT, HEARTBEAT_FRAME, METHOD, Silent, frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.wire import RawTimestamp
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, scripted, success_of


def method(name: str, arguments: bytes, channel: int = 1) -> bytes:
    """Return a method frame with arguments that no encoder would write."""
    kind = next(one for one in amqp.METHODS if one.name == name)
    return frame(METHOD, channel, struct.pack(">I", kind.index) + arguments)


def header(size: int, *, class_id: int = 60, weight: int = 0, properties: bytes = b"\0\0") -> bytes:
    return frame(HEADER, 1, struct.pack(">HHQ", class_id, weight, size) + properties)


def deliver_method() -> bytes:
    return say(amqp.BasicDeliver("c", 1, False, "", "q"))


def table(entries: bytes) -> bytes:
    return struct.pack(">I", len(entries)) + entries


def with_headers(entries: bytes) -> bytes:
    """Return a delivery whose headers are ``entries``."""
    return deliver_method() + header(0, properties=b"\x20\x00" + table(entries))


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = b"\x01xF" + table(inner)
    return inner


#: What comes, on a connection with one open channel, and the code that we close with; None: without a word.
BREACHES: dict[str, tuple[bytes, int | None]] = {
    "a frame that ends in something else": (frame(METHOD, 1, b"\0\0\0\0")[:-1] + b"\xcf", None),
    "a frame of type 4": (frame(4, 0, b""), None),
    "a frame of type 0": (frame(0, 0, b""), None),
    "a frame of type 255": (frame(255, 1, b"x"), None),
    "a frame above frame_max, of which only the head came": (struct.pack(">BHI", METHOD, 1, 131072), 501),
    "a frame of 4 GB": (struct.pack(">BHI", BODY, 1, 0xFFFFFFFF), 501),
    "class connection on a channel": (say(amqp.ConnectionClose(200, "", 0, 0), 1), 503),
    "a heartbeat on a channel": (frame(HEARTBEAT, 1, b""), 501),
    "a heartbeat on an unused channel": (frame(HEARTBEAT, 7, b""), 501),
    "a header on channel 0": (frame(HEADER, 0, b"\0" * 14), 504),
    "a body on channel 0": (frame(BODY, 0, b"x"), 504),
    "a frame on a channel that was never opened": (say(amqp.BasicAck(1), 9), 504),
    "a content on a channel that was never opened": (frame(BODY, 9, b"x"), 504),
    "an unknown class": (frame(METHOD, 1, b"\0\x63\0\x0a"), 540),
    "an unknown method": (frame(METHOD, 1, b"\0\x3c\0\x63"), 540),
    "an unknown method on channel 0": (frame(METHOD, 0, b"\0\x0a\0\x63"), 540),
    "a method of two bytes": (frame(METHOD, 1, b"\0\x3c"), 502),
    "a method of two bytes on channel 0": (frame(METHOD, 0, b"\0\x0a"), 502),
    "an empty method": (frame(METHOD, 1, b""), 502),
    "a method in the wrong direction": (say(amqp.QueueDeclare("q")), 503),
    "a publish from the server": (say(amqp.BasicPublish(), 1, b"x"), 503),
    "an answer that nobody waits for": (say(amqp.TxCommitOk()), 503),
    "an answer to another question": (say(amqp.QueueDeleteOk(0)), 503),
    "a get-ok to another question": (say(amqp.BasicGetOk(1, False, "", "q", 0), 1, b""), 503),
    "a second open-ok of the channel": (say(amqp.ChannelOpenOk()), 503),
    "a close-ok of a channel that was not closed": (say(amqp.ChannelCloseOk()), 503),
    "a confirm on a channel that is not in confirm mode": (say(amqp.BasicAck(1), 2), 503),
    "a close-ok that was not asked for": (say(amqp.ConnectionCloseOk(), 0), 503),
    "an update-secret-ok that was not asked for": (say(amqp.ConnectionUpdateSecretOk(), 0), 503),
    "start again": (START, 503),
    "tune again": (TUNE, 503),
    "open-ok again": (OPEN_OK, 503),
    "secure after the handshake": (say(amqp.ConnectionSecure(b"x"), 0), 503),
    "update-secret from the server": (say(amqp.ConnectionUpdateSecret("s", "r"), 0), 503),
    "a method on a channel that belongs to channel 0": (say(amqp.ChannelClose(200, "", 0, 0), 0), 503),
    "a method in the middle of a content": (deliver_method() + say(amqp.BasicGetEmpty()), 505),
    "a header without a method": (header(0), 505),
    "a body without a method": (frame(BODY, 1, b"x"), 505),
    "a body without a header": (deliver_method() + frame(BODY, 1, b"x"), 505),
    "a second header": (deliver_method() + header(5) + header(5), 505),
    "a header of another class": (deliver_method() + header(0, class_id=85), 501),
    "a header that is cut short": (deliver_method() + frame(HEADER, 1, b"\0\x3c\0\0"), 502),
    "a body longer than announced": (deliver_method() + header(3) + frame(BODY, 1, b"xxxx"), 505),
    "a body of 2^63 bytes": (deliver_method() + header(2**63), 501),
    "a body above max_message_size": (deliver_method() + header(1_000_001), 501),
    "empty bodies without end": (deliver_method() + header(3) + frame(BODY, 1, b"") * 100, 505),
    "a short string beyond the frame": (method("basic.deliver", b"\xffc"), 502),
    "a short string beyond the frame into the next": (
        method("channel.close", b"\x01\x94\xffNOT_FOUND") + HEARTBEAT_FRAME * 40,
        502,
    ),
    "a long string beyond the frame": (method("connection.blocked", b"", 0), 502),
    "arguments that are cut short": (method("queue.declare-ok", b"\x01q\0\0"), 502),
    "a confirm that is cut short": (method("basic.ack", b"\0\0"), 502),
    "a delivery tag that goes backwards": (deliver(5) + deliver(4), 503),
    "a delivery tag that is repeated": (deliver(5) + deliver(5), 503),
}


class Talk:
    """A connection on which all sorts of things wait."""

    def __init__(self, **parameters: Any) -> None:
        self.peer: ScriptedPeer = scripted(max_message_size=1_000_000, **parameters)
        self.peer.open()
        self.channel = self.peer.open_channel(confirm=True)
        self.plain = self.peer.open_channel()
        self.got: list[Delivery] = []
        self.channel.basic_consume("q", self.got.append, consumer_tag="c")
        self.peer.expect(amqp.BasicConsume)
        self.peer.send(1, amqp.BasicConsumeOk("c"))
        self.published = self.channel.basic_publish(b"")
        self.calls: list[Deferred[Any]] = [
            self.channel.queue_declare("q"),
            self.channel.basic_get("q"),
            self.plain.queue_purge("q"),
            self.plain.queue_declare("x"),
            self.channel.wait_for_confirms(),
        ]
        self.opening: Deferred[Any] = self.peer.protocol.open_channel()
        self.closed = [self.channel.when_closed(), self.plain.when_closed()]
        self.outcomes = [
            Watched(deferred) for deferred in (self.published, *self.calls, self.opening, *self.closed)
        ]
        self.peer.wire.pump()
        self.peer.heard.clear()

    def everything_has_ended(self) -> None:
        """Check that each Deferred fired once, with an error of its own, and that nothing is left."""
        published, *rest = self.outcomes
        errors: list[AMQPError] = [published.error(OutcomeUnknown)]
        errors += [outcome.error(ConnectionLost) for outcome in rest[:-2]]
        assert len({id(error) for error in errors}) == len(errors)
        assert all(isinstance(outcome.value, ConnectionLost) for outcome in rest[-2:])
        assert self.peer.gone
        assert self.peer.clock.getDelayedCalls() == []
        assert self.peer.protocol.core.channels == {}
        assert self.peer.protocol.core.take_events() == []


@pytest.mark.covers(
    "T-FR-05", "T-FR-06", "T-FR-07", "T-CH-04", "T-CH-05", "T-CH-12", "T-CLS-05", "T-CLS-07", "T28"
)
@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_ends_the_connection_within_a_second_with_one_typed_error(name: str) -> None:
    data, code = BREACHES[name]
    talk = Talk()
    ended = talk.peer.protocol.when_closed()
    talk.peer.write(data)
    reason = success_of(ended)
    assert isinstance(reason, RemoteProtocolError)
    if code is None:
        assert type(reason) is Silent
        assert talk.peer.wire.client.aborted
        talk.peer.expect_nothing()
    else:
        close = talk.peer.expect(amqp.ConnectionClose).method
        assert (close.reply_code, reason.reply_code) == (code, code)
        assert close.reply_text == str(reason)[:255]
    talk.peer.advance(FAREWELL)
    talk.everything_has_ended()
    for outcome in talk.outcomes[1:-2]:
        assert outcome.error(ConnectionLost).__cause__ is reason


@pytest.mark.covers("T-FR-04", "T-FR-06")
@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_the_same_however_it_is_cut(name: str) -> None:
    data, _ = BREACHES[name]
    told = set()
    for chunk in (None, 1):
        talk = Talk()
        talk.peer.wire.chunk = chunk
        talk.peer.write(data)
        reason = success_of(talk.peer.protocol.when_closed())
        told.add((type(reason), str(reason)))
        talk.peer.advance(FAREWELL)
        talk.everything_has_ended()
    assert len(told) == 1


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("name", [name for name in BREACHES if BREACHES[name][1]])
def test_a_peer_that_breaks_the_protocol_and_reads_nothing_does_not_keep_us(name: str) -> None:
    talk = Talk()
    talk.peer.wire.server.pauseProducing()
    talk.peer.write(BREACHES[name][0])
    assert not talk.peer.gone
    talk.peer.advance(FAREWELL)
    assert talk.peer.wire.client.aborted
    talk.everything_has_ended()


#: What comes and hurts nobody, and what is seen of it: the bodies that were delivered.
TOLERATED: dict[str, tuple[bytes, list[bytes]]] = {
    "a weight": (deliver_method() + header(1, weight=7) + frame(BODY, 1, b"x"), [b"x"]),
    "arguments behind the last one": (method("connection.blocked", b"\x01m and more", 0), []),
    "an empty body frame now and then": (
        deliver_method() + header(2) + frame(BODY, 1, b"") + frame(BODY, 1, b"xy"),
        [b"xy"],
    ),
    "a header with unknown properties": (deliver_method() + header(0, properties=b"\0\x01\0\x02"), [b""]),
    "headers that are cut short": (with_headers(b"\x05ab"), [b""]),
    "headers of an unknown type": (with_headers(b"\x01aZ"), [b""]),
    "headers nested 15,000 deep": (with_headers(nested(15_000)), [b""]),
    "confirms of what was never published": (say(amqp.BasicAck(99)) + say(amqp.BasicNack(98, True)), []),
    "a flood of heartbeats": (HEARTBEAT_FRAME * 1000, []),
    "blocked twice and unblocked thrice": (
        say(amqp.ConnectionBlocked("m"), 0) * 2 + say(amqp.ConnectionUnblocked(), 0) * 3,
        [],
    ),
}


@pytest.mark.covers("T-FR-06", "T-FR-10", "T-PUB-03", "T-TB-07")
@pytest.mark.parametrize("name", TOLERATED)
def test_what_is_merely_odd_is_borne(name: str) -> None:
    data, bodies = TOLERATED[name]
    talk = Talk()
    if name.startswith("confirms"):
        talk.peer.send(1, amqp.BasicAck(1))
        success_of(talk.published)
    talk.peer.write(data)
    assert talk.peer.protocol.is_open
    assert [delivery.body for delivery in talk.got] == bodies
    for delivery in talk.got:
        assert delivery.ack() is Settlement.SENT
    talk.peer.send(1, amqp.QueueDeclareOk("q", 0, 0))
    assert talk.outcomes[1].value.queue == "q"
    talk.peer.hang_up()
    assert talk.peer.clock.getDelayedCalls() == []
    talk.published.addErrback(lambda _: None)


#: Headers of other clients' messages, and what one who looks at them gets.
HEADERS: dict[str, tuple[bytes, Any]] = {
    "a value of an unknown type": (b"\x01aZ", DecodeError),
    "a table that is cut short": (b"\x05ab", DecodeError),
    "tables without bottom": (nested(15_000), DecodeError),
    "a timestamp beyond all calendars": (
        b"\x01aT" + b"\xff" * 8,
        {"a": RawTimestamp(0xFFFFFFFFFFFFFFFF)},
    ),
    "text that is not UTF-8": (b"\x01aS" + table(b"\xff"), {"a": b"\xff"}),
    "one key twice": (b"\x01aI\0\0\0\x01\x01aI\0\0\0\x02", {"a": 2}),
    "a key of 255 bytes": (b"\xff" + b"k" * 255 + b"V", {"k" * 255: None}),
}


@pytest.mark.covers("T-FR-06", "T-TB-05", "T-TB-06", "T-TB-07")
@pytest.mark.parametrize("name", HEADERS)
def test_odd_headers_hurt_only_who_looks_at_them(name: str) -> None:
    entries, wanted = HEADERS[name]
    talk = Talk()
    talk.peer.write(with_headers(entries))
    (delivery,) = talk.got
    if wanted is DecodeError:
        with pytest.raises(DecodeError):
            delivery.properties.as_dict()
    else:
        assert delivery.properties.headers == wanted
    assert delivery.header.endswith(entries)
    assert delivery.ack() is Settlement.SENT
    talk.peer.hang_up()
    talk.everything_has_ended()


def test_headers_that_are_not_a_number_are() -> None:
    talk = Talk()
    talk.peer.write(with_headers(b"\x01ad" + struct.pack(">d", float("nan"))))
    (delivery,) = talk.got
    value = (delivery.properties.headers or {})["a"]
    assert value != value
    talk.peer.hang_up()
    talk.everything_has_ended()


# ----------------------------------------------------------------------- at the very beginning


#: The first bytes of what is no AMQP 0-9-1 server, what it is taken for, and a word of the text.
GREETINGS: dict[str, tuple[bytes, type[AMQPError], str]] = {
    "another version": (b"AMQP\x00\x01\x00\x00", ProtocolVersionMismatch, "it offers AMQP 0.1.0.0"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", NotAMQP, "TLS"),
    "a TLS handshake": (b"\x16\x03\x01\x00\xa5", NotAMQP, "TLS"),
    "a web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", NotAMQP, "HTTP"),
    "a mail server": (b"220 mail.example ESMTP\r\n", NotAMQP, "no AMQP server"),
    "zeros": (b"\0" * 64, NotAMQP, "no AMQP server"),
    "a huge first frame": (struct.pack(">BHI", METHOD, 0, 10_000_000), RemoteProtocolError, "10000008 bytes"),
    "a bad frame end": (frame(METHOD, 0, b"\0\x0a\0\x0a")[:-1] + b"\0", Silent, "0x00"),
    "a start of another version": (
        say(amqp.ConnectionStart(1, 0, {}, b"PLAIN", b"en_US"), 0),
        RemoteProtocolError,
        "AMQP 1-0",
    ),
    "tune first": (TUNE, RemoteProtocolError, "connection.tune is not allowed"),
    "a delivery first": (say(amqp.BasicDeliver("c", 1, False, "", ""), 1, b""), RemoteProtocolError, ""),
    "a start that is cut short": (
        method("connection.start", b"\0\x09\0", 0),
        RemoteProtocolError,
        "cut short",
    ),
    "a table that lies": (
        method("connection.start", b"\0\x09" + struct.pack(">I", 0xFFFFFFF0), 0),
        RemoteProtocolError,
        "",
    ),
}


class Mute(ScriptedPeer):
    """A peer whose core does not speak: the test does, in bytes."""

    def dataReceived(self, data: bytes) -> None:
        self._note(data)


def raw(**parameters: Any) -> Mute:
    clock = Clock()
    return Mute(AMQPProtocol(ConnectionParameters(**parameters), None, clock), clock)


@pytest.mark.covers("T-HS-03", "T-FR-05", "T-FR-06")
@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", GREETINGS)
def test_whoever_answers_in_another_language_is_named(name: str, chunk: int | None) -> None:
    data, kind, word = GREETINGS[name]
    peer = raw()
    opening = peer.protocol.when_open()
    peer.wire.chunk = chunk
    peer.write(data)
    assert word in str(failure_of(opening, kind))
    peer.advance(FAREWELL)
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


#: What comes after our start-ok.
LATER: dict[str, bytes] = {
    "start twice": START + START,
    "tune with a frame_max of 100": START + say(amqp.ConnectionTune(0, 100, 0), 0),
    "tune twice": START + TUNE + TUNE,
    "open-ok before tune": START + OPEN_OK,
    "open-ok twice": START + TUNE + OPEN_OK + OPEN_OK,
    "a channel before open-ok": START + TUNE + say(amqp.ChannelOpenOk(), 1),
    "close-ok": START + say(amqp.ConnectionCloseOk(), 0),
    "blocked before open-ok": START + TUNE + say(amqp.ConnectionBlocked("m"), 0),
}


@pytest.mark.covers("T-FR-06", "T-HS-02")
@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", LATER)
def test_a_handshake_out_of_order_ends(name: str, chunk: int | None) -> None:
    peer = raw()
    ended = peer.protocol.when_closed()
    peer.wire.chunk = chunk
    peer.write(LATER[name])
    assert isinstance(success_of(ended), RemoteProtocolError)
    assert [heard.method.name for heard in peer.heard][-1] == "connection.close"
    peer.advance(FAREWELL)
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-HS-04")
def test_challenges_without_end_end() -> None:
    peer = raw()
    opening = peer.protocol.when_open()
    peer.write(START + say(amqp.ConnectionSecure(b"who are you?"), 0) * 1000)
    error = Watched(opening).failures[0].value
    assert isinstance(error, AMQPError)
    assert "PLAIN knows none" in str(error)
    peer.advance(FAREWELL)
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-HS-09")
def test_a_slow_loris_meets_the_deadline_and_not_a_byte_more_is_kept() -> None:
    peer = raw(connection_timeout=10.0)
    opening = peer.protocol.when_open()
    for octet in START[:10]:
        peer.write(bytes((octet,)))
        peer.advance(1.0)
    failure_of(opening, HandshakeTimeout)
    assert peer.clock.getDelayedCalls() == []


# ----------------------------------------------------------------------- silence


@pytest.mark.covers("T-CH-06", "T-BLK-02")
def test_calls_that_are_never_answered_end_while_the_heart_beats() -> None:
    talk = Talk(rpc_timeout=30.0)
    for _ in range(6):
        talk.peer.advance(5.0)
        talk.peer.beat()
    for outcome in talk.outcomes[1:5]:
        outcome.error(RPCTimeout)
    talk.outcomes[6].error(RPCTimeout)
    assert is_pending(talk.published)  # a publish has no deadline of its own at this level
    assert talk.peer.protocol.is_open
    talk.peer.hang_up()
    talk.outcomes[0].error(OutcomeUnknown)
    assert talk.peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-CH-02")
def test_channels_that_are_never_opened_do_not_pile_up() -> None:
    peer = scripted(rpc_timeout=5.0, close_timeout=1.0)
    peer.open(channel_max=50)
    peer.mute = True
    opening = [peer.protocol.open_channel() for _ in range(60)]
    peer.advance(5.0)
    for deferred in opening[:50]:
        failure_of(deferred, RPCTimeout)
    for deferred in opening[50:]:
        deferred.addErrback(lambda _: None)
    peer.advance(1.0)
    assert len(peer.protocol.core.channels) == 50  # their numbers wait for close-ok
    peer.mute = False
    peer.dataReceived(b"")
    peer.wire.pump()
    assert peer.protocol.core.channels == {}
    assert peer.open_channel().is_open
