from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.pair import (
    CLOSE_OK,
    OPEN_OK,
    PROTOCOL_HEADER,
    START,
    TUNE,
    TUNING,
    Pair,
    assert_said,
    ended_with,
    fresh_client,
    method_frame,
    only,
    said,
    say,
    written,
)
from txamqpx.errors import (
    AuthenticationError,
    ConnectionClosed,
    ConnectionForced,
    ConnectionLost,
    EncodeError,
    NotAllowed,
    ProbableAuthenticationError,
    RemoteProtocolError,
    VhostAccessDenied,
)
from txamqpx.protocol import events
from txamqpx.protocol.auth import AMQPlain, External, Mechanism, Plain
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.handshake import CAPABILITIES, ClientHandshake, ServerHandshake
from txamqpx.protocol.states import ConnectionState
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import (
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionSecure,
    ConnectionSecureOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)
from txamqpx.spec.dialect import from_spec
from txamqpx.spec.xmlspec import bundled

PLAIN = [Plain("guest", "secret")]


class Challenged(Mechanism):
    """Answers whatever it is asked."""

    name = "CHALLENGED"

    def __init__(self, answer: bytes = b"answer") -> None:
        self._answer = answer

    def respond(self, challenge: bytes) -> bytes:
        return self._answer + challenge


def start(mechanisms: bytes = b"PLAIN AMQPLAIN", major: int = 0, minor: int = 9, **server: Any) -> bytes:
    return method_frame(ConnectionStart(major, minor, server, mechanisms, b"en_US"), 0)


def greeted(**options: Any) -> Connection:
    core = fresh_client(ClientHandshake(PLAIN, **options))
    core.outbox.take()
    return core


# --------------------------------------------------------------------------- the client's way


def test_a_client_greets_first() -> None:
    assert written(fresh_client()) == PROTOCOL_HEADER


def test_every_method_of_the_server_is_answered_at_once_until_the_connection_is_open() -> None:
    core = greeted(
        virtual_host="v", locale="de_DE", properties={"product": "test"}, tuning=Tuning(9, 9999, 7)
    )
    assert core.receive_data(START) == []
    assert_said(core, ConnectionStartOk({"product": "test"}, "PLAIN", b"\0guest\0secret", "de_DE"), channel=0)
    tuned = only(events.Tuned, core.receive_data(TUNE))
    assert tuned.tuning == Tuning(9, 9999, 7) == core.tuning
    assert_said(core, ConnectionTuneOk(9, 9999, 7), ConnectionOpen("v"), channel=0)
    opened = only(events.Opened, core.receive_data(OPEN_OK))
    assert opened.server_properties == {"product": "broker"} == core.server_properties
    assert opened.tuning == core.tuning
    assert core.is_open
    assert not core.outbox


@pytest.mark.covers("T-HS-08")
def test_a_client_says_what_it_understands() -> None:
    core = greeted()
    core.receive_data(START)
    (word,) = said(core)
    assert isinstance(word.method, ConnectionStartOk)
    assert word.method.client_properties == {"capabilities": dict(CAPABILITIES)}
    assert all(CAPABILITIES.values())
    assert CAPABILITIES.keys() == {
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    }


@pytest.mark.covers("T-HS-04")
@pytest.mark.parametrize(
    ("logins", "offered", "taken"),
    [
        ([Plain("g", "s"), AMQPlain("g", "s")], b"AMQPLAIN PLAIN", "PLAIN"),
        ([Plain("g", "s"), AMQPlain("g", "s")], b"EXTERNAL AMQPLAIN", "AMQPLAIN"),
        ([External()], b"PLAIN EXTERNAL", "EXTERNAL"),
        ([Plain("g", "s")], b"EXTERNAL PLAIN", "PLAIN"),
        ([External(), Plain("g", "s")], b"PLAIN X-\xff", "PLAIN"),
    ],
)
def test_the_login_is_the_first_of_ours_that_the_server_offers(
    logins: list[Mechanism], offered: bytes, taken: str
) -> None:
    core = fresh_client(ClientHandshake(logins))
    core.receive_data(start(offered))
    (word,) = said(core)
    assert isinstance(word.method, ConnectionStartOk)
    assert word.method.mechanism == taken


@pytest.mark.covers("T-HS-04")
def test_a_server_that_offers_no_login_of_ours_is_left_without_a_word() -> None:
    core = greeted()
    event = only(events.ConnectionEnded, core.receive_data(start(b"EXTERNAL GSSAPI")))
    assert isinstance(event.error, AuthenticationError)
    assert event.error.reply_text == "the server offers no PLAIN, only EXTERNAL GSSAPI"
    assert not event.error.by_peer
    assert not event.flush
    assert not core.outbox


def test_a_challenge_is_answered_by_the_login() -> None:
    core = fresh_client(ClientHandshake([Challenged()]))
    core.receive_data(start(b"CHALLENGED"))
    core.outbox.take()
    for challenge in (b" one", b" two"):
        core.receive_data(method_frame(ConnectionSecure(challenge), 0))
        assert_said(core, ConnectionSecureOk(b"answer" + challenge), channel=0)
    core.receive_data(TUNE + OPEN_OK)
    assert core.is_open


def test_a_challenge_to_a_login_that_knows_none_ends_it() -> None:
    core = greeted()
    core.receive_data(START)
    error = ended_with(core.receive_data(method_frame(ConnectionSecure(b"?"), 0)))
    assert isinstance(error, AuthenticationError)


@pytest.mark.covers("T-HS-01")
def test_a_login_too_long_for_the_first_frames_fails_here_and_shows_nothing_of_itself() -> None:
    core = fresh_client(ClientHandshake([Plain("guest", "canary" * 2000)]))
    error = ended_with(core.receive_data(START))
    assert isinstance(error, AuthenticationError)
    assert "the login cannot be sent: connection.start-ok: takes" in str(error)
    assert "canary" not in f"{error!r} {error.__cause__!r}"
    assert isinstance(error.__cause__, EncodeError)


@pytest.mark.covers("T-HS-01")
def test_the_first_frames_may_be_larger_where_the_server_is_known_to_take_them() -> None:
    core = fresh_client(ClientHandshake([Plain("guest", "token" * 2000)]), initial_frame_max=16384)
    core.receive_data(START)
    assert isinstance(said(core)[0].method, ConnectionStartOk)


@pytest.mark.parametrize("login", [Plain("guest", "secret"), Challenged(b"x" * 9000)])
def test_what_cannot_be_encoded_in_the_handshake_ends_it_and_goes_no_further(login: Mechanism) -> None:
    core = fresh_client(ClientHandshake([login], virtual_host="v" * 256))
    happened = core.receive_data(start(login.name.encode()))
    assert happened == []
    happened = core.receive_data(
        method_frame(ConnectionSecure(b""), 0) if login.name == "CHALLENGED" else TUNE
    )
    assert isinstance(ended_with(happened), EncodeError)
    assert core.connection_lost() == []


@pytest.mark.covers("T-HS-02")
def test_heartbeats_can_be_switched_off_whatever_the_server_proposes() -> None:
    core = greeted(heartbeats=False)
    core.receive_data(START + TUNE)
    assert core.tuning.heartbeat == 0
    assert said(core)[1].method == ConnectionTuneOk(2047, 131072, 0)


@pytest.mark.covers("T-HS-02")
def test_wishes_are_not_written_to_by_what_was_agreed() -> None:
    wishes = Tuning(0, 0, 0)
    for channel_max in (10, 20):
        core = fresh_client(ClientHandshake(PLAIN, tuning=wishes))
        core.receive_data(START + say(ConnectionTune(channel_max, 4096, 5), 0))
        assert core.tuning == Tuning(channel_max, 4096, 5)
    assert wishes == Tuning(0, 0, 0)


@pytest.mark.covers("T-HS-01")
def test_a_tune_with_frames_that_are_too_small_is_refused_by_name() -> None:
    core = greeted()
    core.receive_data(START)
    core.outbox.take()
    happened = core.receive_data(say(ConnectionTune(0, 4095, 0), 0))
    error = ended_with(happened)
    assert isinstance(error, RemoteProtocolError)
    assert (error.reply_code, error.operation) == (530, "connection.tune")
    (word,) = said(core)
    assert isinstance(word.method, ConnectionClose)
    assert word.method.reply_code == 530


@pytest.mark.covers("T-HS-03")
def test_a_server_that_starts_another_version_is_refused() -> None:
    core = greeted()
    error = ended_with(core.receive_data(start(major=8, minor=0)))
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == "the server starts AMQP 8-0, we speak 0-9"


@pytest.mark.parametrize(
    "again",
    [
        START,
        START + START,
        START + TUNE + TUNE,
        START + TUNE + OPEN_OK + TUNE,
        START + TUNE + OPEN_OK + START,
    ],
)
def test_steps_out_of_order_end_the_connection(again: bytes) -> None:
    core = greeted()
    happened = core.receive_data(again + OPEN_OK)
    error = ended_with(happened)
    assert isinstance(error, RemoteProtocolError)
    assert error.reply_code == 503


# --------------------------------------------------------------------------- refused


@pytest.mark.covers("T-HS-05", "T-HS-10")
def test_refused_credentials_are_told_with_the_servers_words() -> None:
    core = greeted()
    core.receive_data(START)
    core.outbox.take()
    text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"
    event = only(events.ConnectionEnded, core.receive_data(say(ConnectionClose(403, text), 0)))
    assert type(event.error) is AuthenticationError
    assert event.error.reply_text == text
    assert event.error.by_peer
    assert event.flush
    assert_said(core, ConnectionCloseOk(), channel=0)


@pytest.mark.covers("T-HS-05")
def test_a_server_that_hangs_up_on_the_login_has_most_likely_refused_it() -> None:
    core = greeted()
    core.receive_data(START)
    cause = OSError("reset")
    error = only(events.ConnectionEnded, core.connection_lost(cause=cause)).error
    assert isinstance(error, ProbableAuthenticationError)
    assert error.__cause__ is cause


@pytest.mark.covers("T-HS-05")
def test_a_server_that_hangs_up_on_the_virtual_host_has_refused_that() -> None:
    core = greeted(virtual_host="mine")
    core.receive_data(START + TUNE)
    error = only(events.ConnectionEnded, core.connection_lost()).error
    assert isinstance(error, VhostAccessDenied)
    assert "'mine'" in str(error)


@pytest.mark.covers("T-HS-05")
@pytest.mark.parametrize("code", [402, 403, 530])
def test_a_refused_virtual_host_is_told_apart_from_a_refused_login(code: int) -> None:
    core = greeted()
    core.receive_data(START + TUNE)
    core.outbox.take()
    error = ended_with(core.receive_data(say(ConnectionClose(code, "NOT_ALLOWED - no", 10, 40), 0)))
    assert type(error) is VhostAccessDenied
    assert (error.reply_code, error.reply_text) == (code, "NOT_ALLOWED - no")
    assert_said(core, ConnectionCloseOk(), channel=0)


@pytest.mark.covers("T-HS-05", "T-HS-10")
def test_other_reasons_while_the_virtual_host_is_opened_keep_their_class() -> None:
    core = greeted()
    core.receive_data(START + TUNE)
    error = ended_with(core.receive_data(say(ConnectionClose(320, "CONNECTION_FORCED"), 0)))
    assert type(error) is ConnectionForced


def test_a_530_once_the_connection_is_open_is_no_matter_of_the_virtual_host() -> None:
    core = greeted()
    core.receive_data(START + TUNE + OPEN_OK)
    error = ended_with(core.receive_data(say(ConnectionClose(530, "NOT_ALLOWED"), 0)))
    assert type(error) is NotAllowed


@pytest.mark.parametrize("data", [b"", b"A", b"\x01\0\0"])
def test_a_server_that_hangs_up_before_it_starts_is_lost_and_no_more(data: bytes) -> None:
    core = greeted()
    assert core.receive_data(data) == []
    error = only(events.ConnectionEnded, core.connection_lost()).error
    assert type(error) is ConnectionLost


@pytest.mark.covers("T-HS-10")
@pytest.mark.parametrize("before", [b"", START, START + TUNE])
def test_a_close_may_come_instead_of_any_step(before: bytes) -> None:
    core = greeted()
    core.receive_data(before)
    core.outbox.take()
    event = core.receive_data(say(ConnectionClose(541, "INTERNAL_ERROR"), 0))[-1]
    assert isinstance(event, events.ConnectionEnded)
    assert isinstance(event.error, ConnectionClosed)
    assert event.error.reply_code == 541
    assert event.flush
    assert_said(core, ConnectionCloseOk(), channel=0)


def test_a_client_may_give_up_while_the_virtual_host_is_opened() -> None:
    core = greeted()
    core.receive_data(START + TUNE)
    core.outbox.take()
    core.close("closed", 200, "changed my mind")
    assert_said(core, ConnectionClose(200, "changed my mind"), channel=0)
    happened = core.receive_data(OPEN_OK + CLOSE_OK)
    assert [type(event) for event in happened] == [events.Replied, events.ConnectionEnded]


# --------------------------------------------------------------------------- the server's way


def test_a_server_waits_for_the_clients_greeting() -> None:
    core = Connection(ServerHandshake(properties={"product": "x"}, mechanisms="PLAIN", locales="en_US"))
    core.start()
    assert not core.outbox
    assert core.receive_data(PROTOCOL_HEADER[:3]) == []
    assert not core.outbox
    assert core.receive_data(PROTOCOL_HEADER[3:]) == []
    assert_said(core, ConnectionStart(0, 9, {"product": "x"}, b"PLAIN", b"en_US"), channel=0)


def test_a_server_leaves_the_decisions_to_whoever_is_behind_it() -> None:
    core = Connection(ServerHandshake())
    core.receive_data(PROTOCOL_HEADER)
    start_ok = ConnectionStartOk({}, "PLAIN", b"\0g\0g", "en_US")
    assert only(events.Requested, core.receive_data(say(start_ok, 0))).method == start_ok
    core.send(ConnectionSecure(b"?"))
    secure_ok = ConnectionSecureOk(b"!")
    assert only(events.Requested, core.receive_data(say(secure_ok, 0))).method == secure_ok
    core.send(ConnectionTune(10, 8192, 5))
    assert only(events.Tuned, core.receive_data(say(ConnectionTuneOk(5, 4096, 3), 0))).tuning == core.tuning
    assert core.tuning == Tuning(5, 4096, 3)
    assert only(events.Requested, core.receive_data(say(ConnectionOpen("v"), 0))).method == ConnectionOpen(
        "v"
    )
    core.send(ConnectionOpenOk())
    assert core.is_open


@pytest.mark.covers("T-HS-03")
@pytest.mark.parametrize(
    "data",
    [
        b"AMQP\x00\x01\x00\x00",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"AMQX\x00\x00\x09\x01",
    ],
)
def test_a_server_tells_a_client_of_another_protocol_what_it_speaks_and_hangs_up(data: bytes) -> None:
    core = Connection(ServerHandshake())
    event = only(events.ConnectionEnded, core.receive_data(data))
    assert isinstance(event.error, RemoteProtocolError)
    assert event.flush
    assert written(core) == PROTOCOL_HEADER


@pytest.mark.covers("T-CH-02", "T-HS-02")
@pytest.mark.parametrize(
    ("proposed", "answer", "name"),
    [
        (Tuning(10, 8192, 0), Tuning(11, 8192, 0), "channel_max = 11 is higher"),
        (Tuning(10, 8192, 0), Tuning(0, 8192, 0), "channel_max = 0 is higher"),
        (Tuning(10, 8192, 0), Tuning(10, 8193, 0), "frame_max = 8193 is higher"),
        (Tuning(10, 8192, 0), Tuning(10, 0, 0), "frame_max = 0 is higher"),
        (Tuning(10, 8192, 0), Tuning(10, 4095, 0), "frame_max = 4095 is lower"),
        (Tuning(0, 0, 0), Tuning(0, 1, 0), "frame_max = 1 is lower"),
    ],
)
def test_a_server_holds_the_client_to_what_it_proposed(proposed: Tuning, answer: Tuning, name: str) -> None:
    core = Connection(ServerHandshake())
    core.receive_data(PROTOCOL_HEADER + say(ConnectionStartOk({}, "PLAIN", b"", "en_US"), 0))
    core.send(ConnectionTune(proposed.channel_max, proposed.frame_max, proposed.heartbeat))
    core.outbox.take()
    tune_ok = ConnectionTuneOk(answer.channel_max, answer.frame_max, answer.heartbeat)
    error = ended_with(core.receive_data(say(tune_ok, 0)))
    assert isinstance(error, RemoteProtocolError)
    assert name in str(error)
    (word,) = said(core)
    assert isinstance(word.method, ConnectionClose)
    assert word.method.reply_code == 530


def test_a_server_without_limits_takes_a_client_without_limits() -> None:
    core = Connection(ServerHandshake())
    core.receive_data(PROTOCOL_HEADER + say(ConnectionStartOk({}, "PLAIN", b"", "en_US"), 0))
    core.send(ConnectionTune(0, 0, 0))
    core.receive_data(say(ConnectionTuneOk(0, 0, 0), 0))
    assert core.tuning == Tuning(0xFFFF, 0, 0)


def test_a_client_that_hangs_up_means_no_more_than_that() -> None:
    core = Connection(ServerHandshake())
    core.receive_data(PROTOCOL_HEADER)
    assert type(only(events.ConnectionEnded, core.connection_lost()).error) is ConnectionLost


def test_a_server_may_refuse_the_login() -> None:
    core = Connection(ServerHandshake())
    core.receive_data(PROTOCOL_HEADER + say(ConnectionStartOk({}, "PLAIN", b"\0g\0x", "en_US"), 0))
    core.outbox.take()
    core.close("refused", 403, "ACCESS_REFUSED")
    assert_said(core, ConnectionClose(403, "ACCESS_REFUSED"), channel=0)
    happened = core.receive_data(CLOSE_OK)
    assert [type(event) for event in happened] == [events.Replied, events.ConnectionEnded]


# --------------------------------------------------------------------------- both


def test_client_and_server_open_a_connection_between_them() -> None:
    pair = Pair()
    pair.settle()
    assert pair.client.state is pair.server.state is ConnectionState.OPEN
    assert pair.client.tuning == pair.server.tuning == TUNING
    assert pair.client.server_properties == {"product": "pair"}
    assert pair.client.payload_max == pair.server.payload_limit == TUNING.frame_max - 8


@pytest.mark.covers("T21")
@pytest.mark.parametrize("version", ["0-8", "0-9"])
def test_older_versions_open_a_connection_as_well(version: str) -> None:
    dialect = from_spec(bundled(version))
    client = Connection(ClientHandshake(PLAIN), dialect=dialect)
    peer = Connection(ServerHandshake(), dialect=dialect)
    client.start()
    peer.start()
    answers = {
        "connection.start-ok": lambda: dialect.new("connection.tune", channel_max=9, frame_max=4096),
        "connection.open": lambda: dialect.new("connection.open-ok"),
    }
    while client.outbox or peer.outbox:
        for event in peer.receive_data(written(client)):
            if isinstance(event, events.Requested):
                peer.send(answers[event.method.name]())
        client.receive_data(written(peer))
    assert client.is_open
    assert peer.is_open
