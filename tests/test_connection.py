from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from itertools import cycle
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.outcomes import Outcome, failure_of, is_pending, success_of
from tests.scripted import ScriptedPeer, scripted
from txamqpx import connection
from txamqpx.channel import Channel
from txamqpx.connection import FAREWELL, AMQPClientFactory, AMQPProtocol, client_properties
from txamqpx.delegates import Delegate
from txamqpx.errors import (
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ConnectionClosed,
    ConnectionForced,
    ConnectionLost,
    EncodeError,
    HandshakeTimeout,
    HeartbeatTimeout,
    LocalProtocolError,
    NoFreeChannels,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
    ProbableAuthenticationError,
    RemoteProtocolError,
    RPCTimeout,
    VhostAccessDenied,
)
from txamqpx.message import Delivery
from txamqpx.params import ConnectionParameters
from txamqpx.protocol.frames import HEARTBEAT_FRAME, METHOD, frame
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicConsumeOk,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
    QueueDeclare,
    QueueDeclareOk,
)


def opened(delegate: Any = None, *, heartbeat: int = 60, **parameters: Any) -> ScriptedPeer:
    peer = scripted(delegate, **parameters)
    peer.open(heartbeat=heartbeat)
    return peer


def nothing_is_left(peer: ScriptedPeer) -> None:
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []
    assert peer.protocol.core.channels == {}
    assert not peer.protocol.core.waiting


# ----------------------------------------------------------------------- the handshake


@pytest.mark.covers("T01", "T12")
def test_the_handshake_introduces_us_and_opens() -> None:
    peer = scripted(connection_name="tests", virtual_host="v", client_properties={"product": "mine", "x": 1})
    opening = peer.protocol.when_open()
    start_ok = peer.expect(ConnectionStartOk).method
    assert start_ok.mechanism == "PLAIN"
    assert start_ok.response == b"\0guest\0guest"
    told: Any = start_ok.client_properties
    assert (told["product"], told["connection_name"], told["x"]) == ("mine", "tests", 1)
    peer.send(0, ConnectionTune(10, 20000, 30))
    peer.expect(ConnectionTuneOk(10, 20000, 30))
    peer.expect(ConnectionOpen("v"))
    assert is_pending(opening)
    peer.send(0, ConnectionOpenOk())
    assert success_of(opening) is peer.protocol
    assert peer.protocol.is_open
    assert peer.protocol.server_properties["product"] == "a script"
    assert (peer.protocol.tuning.channel_max, peer.protocol.tuning.frame_max) == (10, 20000)
    assert peer.wire.client.options == {"no delay": True, "keep alive": True}
    assert len(peer.clock.getDelayedCalls()) == 1  # the heart, and no deadline


@pytest.mark.covers("T-HS-08", "T-HS-05")
def test_what_the_broker_is_told_of_us(monkeypatch: pytest.MonkeyPatch) -> None:
    told = client_properties(ConnectionParameters(client_properties={"capabilities": {"mine": True}}))
    assert told["product"] == "txamqpx"
    assert told["platform"] == f"{platform.python_implementation()} {platform.python_version()}"
    assert "connection_name" not in told
    assert told["capabilities"] == {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "exchange_exchange_bindings": True,
        "publisher_confirms": True,
        "mine": True,
    }
    assert told["version"] not in ("", "unknown")

    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(connection, "version", not_installed)
    assert client_properties(ConnectionParameters())["version"] == "unknown"


@pytest.mark.covers("T-HS-04")
@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        ("PLAIN AMQPLAIN", None, "PLAIN"),
        ("EXTERNAL AMQPLAIN", None, "AMQPLAIN"),
        ("EXTERNAL PLAIN", None, "PLAIN"),
        ("PLAIN EXTERNAL", "EXTERNAL", "EXTERNAL"),
        ("PLAIN AMQPLAIN", "AMQPLAIN", "AMQPLAIN"),
    ],
)
def test_the_login_is_what_was_configured(offered: str, wanted: str | None, chosen: str) -> None:
    peer = scripted(mechanisms=offered, mechanism=wanted)
    assert peer.expect(ConnectionStartOk).method.mechanism == chosen


@pytest.mark.covers("T-HS-04")
@pytest.mark.parametrize(
    ("offered", "wanted"), [("EXTERNAL ANONYMOUS", None), ("PLAIN", "EXTERNAL"), ("", None)]
)
def test_without_a_login_in_common_nothing_is_sent(offered: str, wanted: str | None) -> None:
    peer = scripted(mechanisms=offered, mechanism=wanted)
    error = failure_of(peer.protocol.when_open(), AuthenticationError)
    assert error.by_peer is False
    assert not peer.heard
    nothing_is_left(peer)


@pytest.mark.covers("T-HS-02", "T13", "K07")
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [(60, 30, 30), (30, 60, 30), (0, 60, 0), (60, 0, 60), (None, 20, 20), (None, 0, 0)],
)
def test_heartbeats_are_negotiated_and_the_parameters_stay(
    ours: int | None, theirs: int, agreed: int
) -> None:
    peer = scripted(heartbeat=ours)
    before = peer.protocol.parameters
    peer.expect(ConnectionStartOk)
    peer.send(0, ConnectionTune(0, 0, theirs))
    tune_ok = peer.expect(ConnectionTuneOk).method
    assert (tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat) == (2047, 131072, agreed)
    assert peer.protocol.parameters is before
    assert before.heartbeat == ours
    assert len(peer.clock.getDelayedCalls()) == (2 if agreed else 1)


@pytest.mark.covers("T-HS-05", "T-HS-10", "T-CLS-03")
def test_a_refused_login_is_answered_and_told() -> None:
    peer = scripted()
    opening = [peer.protocol.when_open(), peer.protocol.when_open()]
    peer.expect(ConnectionStartOk)
    peer.send(0, ConnectionClose(403, "ACCESS_REFUSED - Login was refused", 0, 0))
    peer.expect(ConnectionCloseOk)
    errors = [failure_of(deferred, AuthenticationError) for deferred in opening]
    assert len({id(error) for error in errors}) == 2
    assert "Login was refused" in str(errors[0])
    nothing_is_left(peer)


@pytest.mark.covers("T-HS-05")
def test_a_broker_that_hangs_up_after_the_login_most_likely_refused_it() -> None:
    peer = scripted()
    opening = peer.protocol.when_open()
    peer.expect(ConnectionStartOk)
    peer.hang_up()
    failure_of(opening, ProbableAuthenticationError)
    nothing_is_left(peer)


@pytest.mark.covers("T-HS-05", "T-HS-10")
@pytest.mark.parametrize("way", ["530", "hangs up"])
def test_a_virtual_host_that_is_refused(way: str) -> None:
    peer = scripted(virtual_host="secret place")
    opening = peer.protocol.when_open()
    peer.tune()
    if way == "hangs up":
        peer.hang_up()
    else:
        peer.send(0, ConnectionClose(530, "NOT_ALLOWED - vhost secret place not found", 10, 40))
        peer.expect(ConnectionCloseOk)
    failure_of(opening, VhostAccessDenied)
    nothing_is_left(peer)


@pytest.mark.covers("T-HS-10")
def test_a_broker_may_refuse_instead_of_starting() -> None:
    peer = scripted()
    peer.expect(ConnectionStartOk)
    peer.send(0, ConnectionTune(2047, 131072, 60))
    peer.expect(ConnectionTuneOk)
    peer.send(0, ConnectionClose(530, "NOT_ALLOWED - too many connections", 0, 0))
    assert type(failure_of(peer.protocol.when_open(), VhostAccessDenied)) is VhostAccessDenied
    nothing_is_left(peer)


@pytest.fixture(params=["before start", "before tune", "before open-ok"])
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def at(stage: str, **parameters: Any) -> ScriptedPeer:
    """Return a peer with which the handshake has come to a stage."""
    if stage == "before start":
        return Silent(**parameters)
    peer = scripted(**parameters)
    if stage == "before open-ok":
        peer.tune()
    return peer


class Silent(ScriptedPeer):
    """A peer that takes the connection and says nothing, not even its greeting."""

    def __init__(self, **parameters: Any) -> None:
        clock = Clock()
        super().__init__(AMQPProtocol(ConnectionParameters(**parameters), None, clock), clock)

    def dataReceived(self, data: bytes) -> None:
        pass


@pytest.mark.covers("T-HS-09")
def test_the_deadline_of_the_handshake_is_one_for_all_of_it(stage: str) -> None:
    peer = at(stage, connection_timeout=10.0)
    opening, closed = peer.protocol.when_open(), peer.protocol.when_closed()
    peer.advance(9.9)
    assert is_pending(opening)
    peer.advance(0.1)
    assert failure_of(opening, HandshakeTimeout).seconds == 10.0
    assert type(success_of(closed)) is HandshakeTimeout
    assert peer.wire.client.aborted
    nothing_is_left(peer)


@pytest.mark.covers("T-HS-09")
def test_who_drips_byte_by_byte_meets_the_deadline_as_well() -> None:
    peer = Silent(connection_timeout=10.0)
    opening = peer.protocol.when_open()
    for octet in frame(METHOD, 0, ConnectionStart().encode())[:10]:
        peer.write(bytes((octet,)))
        peer.advance(1.0)
    failure_of(opening, HandshakeTimeout)
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-01", "T-HS-09")
def test_closing_breaks_the_handshake_off(stage: str) -> None:
    peer = at(stage)
    opening = peer.protocol.when_open()
    closing = [peer.protocol.close(200, "changed my mind"), peer.protocol.close()]
    error = failure_of(opening, ConnectionClosed)
    assert (str(error), error.by_peer) == ("changed my mind", False)
    assert [is_pending(deferred) for deferred in closing] == [True, True]
    peer.wire.pump()
    assert [success_of(deferred) for deferred in closing] == [None, None]
    nothing_is_left(peer)


def test_before_there_is_a_connection_there_is_nothing_to_close_or_abort() -> None:
    protocol = AMQPProtocol()
    assert success_of(protocol.close()) is None
    protocol.abort()
    with pytest.raises(LocalProtocolError, match=r"channel\.open is not allowed"):
        protocol.open_channel()


def test_calls_before_it_is_open_are_the_callers_mistake() -> None:
    peer = scripted()
    peer.tune()
    with pytest.raises(LocalProtocolError, match=r"channel\.open is not allowed"):
        peer.protocol.open_channel()
    with pytest.raises(LocalProtocolError, match=r"update-secret is not allowed"):
        peer.protocol.update_secret("s", "r")
    peer.expect_nothing()


def test_a_connection_that_never_came_about_or_is_lost_twice_ends_once() -> None:
    protocol = AMQPProtocol(clock=Clock())
    ended = protocol.when_closed()
    protocol.connectionLost()
    protocol.connectionLost()
    assert type(success_of(ended)) is ConnectionLost
    assert success_of(protocol.close()) is None


def test_a_limit_takes_what_there_is_in_the_last_moment() -> None:
    clock = Clock()
    protocol = AMQPProtocol(clock=clock)
    limited: Deferred[int] = protocol.limited(Deferred(lambda one: one.callback(7)), "x", 1.0)
    clock.advance(1.0)
    assert success_of(limited) == 7
    cancelled: Deferred[int] = protocol.limited(Deferred(), "x", 1.0)
    cancelled.cancel()
    failure_of(cancelled, CancelledError)
    assert clock.getDelayedCalls() == []


def test_a_connection_and_a_channel_for_the_length_of_a_block() -> None:
    peer = opened()
    seen: list[bool] = []

    async def use() -> None:
        async with peer.protocol as protocol:
            async with await protocol.open_channel() as channel:
                seen.append(channel.is_open)
            seen.append(channel.is_open)
        seen.append(protocol.is_open)

    using = Deferred.fromCoroutine(use())
    peer.expect(ChannelOpen)
    peer.send(1, ChannelOpenOk())
    peer.expect(ChannelClose)
    peer.expect(ConnectionClose)
    success_of(using)
    assert seen == [True, False, False]
    nothing_is_left(peer)


def test_the_global_clock_is_that_of_the_reactor() -> None:
    from twisted.internet import reactor

    clock = Clock()
    clocks: list[Any] = [AMQPProtocol().clock, AMQPProtocol(clock=clock).clock]
    assert clocks == [reactor, clock]


def test_a_transport_that_is_no_socket_will_do() -> None:
    clock = Clock()
    protocol = AMQPProtocol(clock=clock)
    transport, made = StringTransport(), cast(Any, protocol.makeConnection)
    made(transport)
    assert transport.value() == b"AMQP\x00\x00\x09\x01"
    protocol.connectionLost(Failure(ConnectionLost()))
    assert clock.getDelayedCalls() == []


@pytest.mark.covers("T19")
def test_the_factory_makes_protocols_that_share_what_is_shared() -> None:
    clock = Clock()
    delegate = Delegate()
    parameters = ConnectionParameters(virtual_host="v")
    shared = AMQPClientFactory(parameters, delegate=delegate, clock=clock)
    first, second = shared.buildProtocol(None), shared.buildProtocol(None)
    assert first is not second
    assert vars(first)["factory"] is shared
    assert {first.delegate, second.delegate} == {delegate}
    shares: list[Any] = [first.parameters, first.clock]
    assert shares == [parameters, clock]
    own = AMQPClientFactory(delegate_factory=Delegate)
    first, second = own.buildProtocol(None), own.buildProtocol(None)
    assert first.delegate is not second.delegate
    assert first.parameters == ConnectionParameters()
    assert own.noisy is False


# ----------------------------------------------------------------------- channels


@pytest.mark.covers("T-CH-02")
def test_there_are_as_many_channels_as_were_negotiated() -> None:
    peer = scripted()
    peer.open(channel_max=3)
    channels = [peer.open_channel() for _ in range(3)]
    assert [channel.number for channel in channels] == [1, 2, 3]
    error = failure_of(peer.protocol.open_channel(), NoFreeChannels)
    assert str(error) == "all 3 channels are in use"
    peer.expect_nothing()
    channels[1].close()
    peer.expect(ChannelClose)
    assert peer.open_channel().number == 2


@pytest.mark.covers("T-CH-06")
@pytest.mark.parametrize("way", ["cancelled", "timed out"])
def test_a_channel_that_nobody_waits_for_any_more_is_closed_again(way: str) -> None:
    peer = opened(rpc_timeout=5.0, close_timeout=2.0)
    opening = peer.protocol.open_channel()
    peer.expect(ChannelOpen)
    if way == "cancelled":
        opening.cancel()
        failure_of(opening, CancelledError)
    else:
        peer.mute = True
        peer.advance(5.0)
        assert failure_of(opening, RPCTimeout).operation == "channel.open"
        peer.mute = False
    peer.expect(ChannelClose, 1)
    peer.dataReceived(b"")
    peer.wire.pump()
    assert peer.protocol.core.channels == {}
    peer.expect_nothing()


@pytest.mark.covers("T-CH-06")
def test_a_late_open_ok_for_a_channel_that_was_given_up_harms_nobody() -> None:
    peer = opened()
    opening = peer.protocol.open_channel()
    peer.expect(ChannelOpen)
    with peer.wire.held():
        peer.send(1, ChannelOpenOk())
        opening.cancel()
    failure_of(opening, CancelledError)
    peer.expect(ChannelClose, 1)
    assert peer.protocol.core.channels == {}
    assert peer.protocol.is_open


def test_a_channel_that_the_broker_refuses_to_open() -> None:
    peer = opened()
    opening = peer.protocol.open_channel()
    peer.expect(ChannelOpen)
    peer.send(1, ChannelClose(406, "no", 20, 10))
    assert failure_of(opening, PreconditionFailed).operation == "channel.open"
    peer.heard.clear()
    assert peer.protocol.core.channels == {}


def test_a_call_in_a_channel_that_closes_itself_while_it_opens() -> None:
    peer = opened()
    channel = peer.protocol.new_channel()
    opening, declared, closing = channel.when_open(), channel.queue_declare("q"), channel.close()
    peer.wire.pump()
    failure_of(opening, ChannelClosed)
    failure_of(declared, ChannelClosed)
    assert success_of(closing) is None


@pytest.mark.covers("T02", "S42")
def test_after_the_end_every_call_fails_at_once_and_sends_nothing() -> None:
    peer = opened()
    channel = peer.open_channel()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED - shutdown", 0, 0))
    peer.heard.clear()
    calls: list[Deferred[Any]] = [
        peer.protocol.open_channel(),
        peer.protocol.update_secret("s", "r"),
        channel.queue_declare("q"),
        channel.basic_publish(b""),
    ]
    errors = [failure_of(call, ConnectionForced) for call in calls]
    assert len({id(error) for error in errors}) == len(errors)
    assert success_of(channel.close()) is None
    assert success_of(peer.protocol.close()) is None
    peer.protocol.pause_reading()
    peer.protocol.resume_reading()
    peer.protocol.abort()
    peer.expect_nothing()


@pytest.mark.covers("T12")
def test_fresh_credentials_for_a_connection_that_is_open() -> None:
    peer = opened()
    answers = [peer.protocol.update_secret("one", "expiry"), peer.protocol.update_secret("two", "expiry")]
    answers[0].cancel()
    failure_of(answers[0], CancelledError)
    peer.expect(ConnectionUpdateSecret("one", "expiry"), 0)
    peer.expect(ConnectionUpdateSecret("two", "expiry"), 0)
    peer.send(0, ConnectionUpdateSecretOk())
    assert is_pending(answers[1])
    peer.send(0, ConnectionUpdateSecretOk())
    assert success_of(answers[1]) == ConnectionUpdateSecretOk()
    for secret, reason in (("s", "x" * 256), ("x" * 131072, "r")):
        with pytest.raises(EncodeError):
            peer.protocol.update_secret(secret, reason)
    peer.expect_nothing()


# ----------------------------------------------------------------------- the broker ends it


@pytest.mark.covers("S42", "T-CLS-03", "T-CLS-05", "T-CH-12", "T-HS-10")
def test_the_broker_closes_and_everything_ends_once_with_its_reason() -> None:
    order: list[str] = []

    class Notes(Delegate):
        def channel_closed(self, channel: object, reason: AMQPError) -> object:
            order.append("hook: channel")
            return None

        def connection_closed(self, protocol: object, reason: AMQPError) -> object:
            order.append("hook: connection")
            return None

    peer = opened(Notes())
    channel = peer.open_channel(confirm=True)
    published = channel.basic_publish(b"")
    declared = channel.queue_declare("q")
    renewed = peer.protocol.update_secret("s", "r")
    opening = peer.protocol.open_channel()

    def note(result: object, name: str) -> object:
        order.append(name)
        return result

    named: dict[str, Deferred[Any]] = {
        "publish": published,
        "declare": declared,
        "channel": channel.when_closed(),
        "connection": peer.protocol.when_closed(),
    }
    for name, deferred in named.items():
        deferred.addBoth(note, name)
    peer.wire.pump()
    peer.heard.clear()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED - shutdown", 0, 0))
    peer.expect(ConnectionCloseOk)
    assert type(failure_of(published, OutcomeUnknown).__cause__) is ConnectionForced
    errors = [failure_of(deferred, ConnectionForced) for deferred in (declared, renewed, opening)]
    assert len({id(error) for error in errors}) == 3
    assert all(error.reply_code == 320 for error in errors)
    assert type(success_of(peer.protocol.when_closed())) is ConnectionForced
    assert order == [
        "publish",
        "declare",
        "channel",
        "hook: channel",
        "hook: channel",
        "connection",
        "hook: connection",
    ]
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-03")
def test_a_peer_that_does_not_take_our_last_words_does_not_keep_us() -> None:
    peer = opened()
    channel = peer.open_channel()
    peer.wire.server.pauseProducing()
    published: list[Deferred[Any]] = []
    while peer.protocol.writable:
        published.append(channel.basic_publish(b"x" * 50_000))
        peer.clock.advance(0)
    waiting = peer.protocol.when_writable()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    failure_of(waiting, NotPublished)
    failure_of(published[-1], NotPublished)
    assert not peer.gone
    peer.advance(FAREWELL)
    nothing_is_left(peer)
    assert peer.wire.client.aborted


@pytest.mark.covers("T-CLS-04", "T-CLS-03")
def test_what_comes_after_the_end_is_nobodys() -> None:
    peer = opened()
    channel = peer.open_channel()
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    with peer.wire.held():
        peer.deliver(1, "c", 1)
        frames = bytes(peer.wire.server.unsent)
        peer.wire.server.unsent.clear()
        peer.send(0, ConnectionClose(320, "bye", 0, 0))
        peer.wire.server.unsent += frames
    assert got == []
    peer.protocol.dataReceived(b"\xff" * 100)
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-05")
@pytest.mark.parametrize("midst", [False, True])
def test_a_lost_connection_is_typed_and_says_where_it_was_cut(midst: bool) -> None:
    peer = opened()
    declared = peer.open_channel().queue_declare("q")
    if midst:
        peer.write(b"\x01\x00\x01\x00\x00\x00\x10half")
    peer.hang_up()
    error = failure_of(declared, ConnectionLost)
    assert ("in the middle of a frame, after 11 bytes of it" in str(error)) is midst
    assert error.retryable
    nothing_is_left(peer)


def test_a_connection_that_is_lost_before_it_was_written_to() -> None:
    peer = Silent()
    opening = peer.protocol.when_open()
    peer.hang_up()
    failure_of(opening, ConnectionLost)
    assert success_of(peer.protocol.close()) is None
    nothing_is_left(peer)


# ----------------------------------------------------------------------- we end it


@pytest.mark.covers("S43", "T15", "T-CLS-01", "T-CLS-05")
def test_closing_waits_for_the_answer_and_then_for_the_transport() -> None:
    peer = opened()
    peer.mute = True
    closing = [peer.protocol.close(320, "going home"), peer.protocol.close(), peer.protocol.close()]
    peer.expect(ConnectionClose(320, "going home", 0, 0))
    peer.expect_nothing()
    assert not peer.gone
    peer.mute = False
    with peer.wire.held():
        peer.dataReceived(b"")
        peer.wire.server.carry()
        assert all(is_pending(deferred) for deferred in closing)
    assert [success_of(deferred) for deferred in closing] == [None] * 3
    assert success_of(peer.protocol.close()) is None
    reason = success_of(peer.protocol.when_closed())
    assert type(reason) is ConnectionForced
    assert reason.by_peer is False
    nothing_is_left(peer)


@pytest.mark.covers("S43", "T-CLS-01", "T-CLS-02", "T-BLK-02")
def test_a_close_that_is_not_answered_ends_by_itself() -> None:
    peer = opened(close_timeout=3.0)
    channel = peer.open_channel(confirm=True)
    published, declared = channel.basic_publish(b""), channel.queue_declare("q")
    peer.mute = True
    closing = peer.protocol.close()
    failure_of(published, OutcomeUnknown)
    failure_of(declared, ConnectionClosed)
    peer.advance(2.9)
    assert is_pending(closing)
    assert not peer.gone
    peer.advance(0.1)
    assert success_of(closing) is None
    assert peer.wire.client.aborted
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-04")
def test_when_both_close_at_once_each_is_answered() -> None:
    peer = opened()
    with peer.wire.held():
        closing = Outcome(peer.protocol.close())
        peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    peer.expect(ConnectionClose)
    peer.expect(ConnectionCloseOk)
    assert closing.value is None
    assert success_of(peer.protocol.when_closed()).__class__ is ConnectionClosed
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-04")
def test_after_our_close_everything_else_is_discarded() -> None:
    peer = opened()
    channel = peer.open_channel()
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    with peer.wire.held():
        peer.deliver(1, "c", 1)
        peer.send(0, ConnectionBlocked("memory"))
        closing = Outcome(peer.protocol.close())
    assert closing.value is None
    assert got == []
    nothing_is_left(peer)


def test_a_connection_that_is_lost_while_we_close_is_closed() -> None:
    peer = opened()
    peer.mute = True
    closing = peer.protocol.close(200, "enough")
    peer.hang_up()
    assert success_of(closing) is None
    reason = success_of(peer.protocol.when_closed())
    assert (type(reason), str(reason)) == (ConnectionClosed, "200 enough")
    nothing_is_left(peer)


def test_a_reason_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    peer = opened()
    declared = peer.open_channel().queue_declare("q")
    with pytest.raises(EncodeError):
        peer.protocol.close(200, "x" * 256)
    with pytest.raises(EncodeError):
        peer.protocol.close(70000)
    assert is_pending(declared)
    assert peer.protocol.is_open
    peer.expect(QueueDeclare)
    peer.expect_nothing()


@pytest.mark.covers("T-CLS-07")
@pytest.mark.parametrize("hook", ["connection_opened", "connection_blocked", "channel_closed", "unhandled"])
def test_a_hook_may_close(hook: str) -> None:
    closes: list[Outcome[None]] = []
    delegate: Any = Delegate()
    peer = scripted(delegate)
    setattr(delegate, hook, lambda *_: closes.append(Outcome(peer.protocol.close())))
    peer.tune()
    peer.send(0, ConnectionOpenOk())
    if hook != "connection_opened":
        channel = peer.open_channel()
        declared = channel.queue_declare("q").addErrback(lambda _: None)
        with peer.wire.held():
            peer.send(0, ConnectionBlocked("memory"))
            peer.deliver(1, "nobody", 1)
            peer.send(1, ChannelClose(404, "no", 0, 0))
        success_of(declared)
    assert [close.value for close in closes][:1] == [None]
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-CLS-07")
def test_a_connection_that_ends_inside_its_own_callbacks() -> None:
    peer = opened()
    channel = peer.open_channel()
    declared = [channel.queue_declare("q") for _ in range(3)]
    lost: list[str] = []

    def lose(_: object) -> None:
        # As a transport in memory may do it: at once.
        peer.protocol.abort()
        peer.wire.client.lose(ConnectionLost())
        lost.append("lost")

    declared[0].addCallback(lose)
    peer.wire.pump()
    with peer.wire.held():
        for _ in declared:
            peer.send(1, QueueDeclareOk("q", 0, 0))
    assert lost == ["lost"]
    assert success_of(declared[1]).queue == "q"
    assert success_of(declared[2]).queue == "q"
    assert isinstance(success_of(peer.protocol.when_closed()), ConnectionLost)
    assert success_of(peer.protocol.close()) is None
    assert peer.clock.getDelayedCalls() == []


def test_a_system_exit_in_a_consumer_loses_no_event() -> None:
    peer = opened()
    channel = peer.open_channel()

    def leave(delivery: Delivery) -> None:
        raise SystemExit

    channel.basic_consume("q", leave, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    declared = channel.queue_declare("q")
    peer.expect(QueueDeclare)
    with peer.wire.held():
        peer.deliver(1, "c", 1)
        peer.send(1, QueueDeclareOk("q", 0, 0))
        data = bytes(peer.wire.server.unsent)
        peer.wire.server.unsent.clear()
    with pytest.raises(SystemExit):
        peer.protocol.dataReceived(data)
    assert is_pending(declared)
    peer.hang_up()
    assert success_of(declared).queue == "q"
    nothing_is_left(peer)


# ----------------------------------------------------------------------- heartbeats


@pytest.mark.covers("T-HB-01", "T-HB-05")
def test_we_beat_at_half_of_the_interval_from_tune_ok_on() -> None:
    peer = scripted()
    peer.tune(heartbeat=10)
    for _ in range(12):
        peer.advance(1.0)
        peer.beat()
    assert peer.beats == [5.0, 10.0]
    peer.send(0, ConnectionOpenOk())
    assert peer.protocol.is_open


@pytest.mark.covers("T-HB-01")
def test_whoever_writes_need_not_beat_and_any_byte_is_a_sign_of_life() -> None:
    peer = opened(heartbeat=10)
    channel = peer.open_channel()
    octets = (HEARTBEAT_FRAME[place : place + 1] for place in cycle(range(8)))
    for _ in range(30):
        channel.basic_publish(b"")
        peer.advance(4.0)
        peer.write(next(octets))
    assert peer.beats == []
    assert not peer.gone


@pytest.mark.covers("S44", "T-HB-01", "T-HB-02", "T14")
@pytest.mark.parametrize("step", [0.1, 0.25, 7.0])
def test_a_silent_peer_is_dropped_after_two_intervals(step: float) -> None:
    peer = opened(heartbeat=10)
    channel = peer.open_channel(confirm=True)
    published, declared = channel.basic_publish(b""), channel.queue_declare("q")
    peer.wire.pump()
    began = peer.clock.seconds()
    while not peer.gone:
        peer.advance(step)
    assert 20.0 <= began + peer.clock.seconds() <= 20.5 + step
    assert type(failure_of(published, OutcomeUnknown).__cause__) is HeartbeatTimeout
    failure_of(declared, HeartbeatTimeout)
    assert str(success_of(peer.protocol.when_closed())) == "nothing came from the broker for 20.0 s"
    assert peer.wire.client.aborted
    assert all(not isinstance(heard.method, ConnectionClose) for heard in peer.heard)
    nothing_is_left(peer)


@pytest.mark.covers("T-HB-01", "T-HB-05")
def test_a_peer_that_falls_silent_during_the_handshake_is_dropped_too() -> None:
    peer = scripted()
    peer.tune(heartbeat=10)
    opening = peer.protocol.when_open()
    peer.advance(20.5)
    failure_of(opening, HeartbeatTimeout)
    nothing_is_left(peer)


@pytest.mark.covers("T-HB-03")
def test_a_stall_of_our_own_is_told() -> None:
    peer = opened(heartbeat=10)
    peer.clock.advance(100.0)
    peer.wire.pump()
    error = success_of(peer.protocol.when_closed())
    assert str(error) == "nothing came from the broker for 100.0 s; our own reactor was 95.0 s late"


@pytest.mark.covers("T-HB-05", "T-BLK-02")
def test_while_we_are_blocked_we_beat_and_what_waits_meets_its_deadline_with_the_reason() -> None:
    peer = opened(heartbeat=10, rpc_timeout=30.0)
    channel = peer.open_channel()
    peer.send(0, ConnectionBlocked("low on memory"))
    declared = channel.queue_declare("q")
    for _ in range(30):
        peer.advance(1.0)
        peer.beat()
    assert failure_of(declared, RPCTimeout).blocked == "low on memory"
    assert peer.beats == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


@pytest.mark.covers("T-HB-05")
def test_a_broker_that_stops_reading_gets_one_heartbeat_when_it_reads_again() -> None:
    peer = opened(heartbeat=10)
    channel = peer.open_channel()
    peer.wire.server.pauseProducing()
    while peer.protocol.writable:
        channel.basic_publish(b"x" * 50_000)
        peer.clock.advance(0)
    for _ in range(100):
        peer.advance(5.0)
        peer.beat()
    assert not peer.gone
    peer.wire.server.resumeProducing()
    peer.wire.pump()
    assert len(peer.beats) <= 2
    assert peer.protocol.writable


@pytest.mark.covers("T-HB-05")
def test_we_beat_while_we_close() -> None:
    peer = opened(heartbeat=10, close_timeout=12.0)
    peer.mute = True
    closing = peer.protocol.close()
    peer.advance(12.0)
    assert peer.beats == [5.0, 10.0]
    assert success_of(closing) is None
    nothing_is_left(peer)


@pytest.mark.covers("T-HB-06", "T-CON-11")
def test_while_we_do_not_read_the_peers_silence_is_our_own() -> None:
    peer = opened(heartbeat=10)
    channel = peer.open_channel()
    declared = channel.queue_declare("q")
    peer.protocol.pause_reading()
    peer.expect(QueueDeclare)
    peer.send(1, QueueDeclareOk("q", 0, 0))
    peer.advance(100.0)
    assert not peer.gone
    assert len(peer.beats) == 20
    assert is_pending(declared)
    peer.protocol.resume_reading()
    peer.wire.pump()
    assert success_of(declared).queue == "q"
    peer.advance(19.9)
    assert not peer.gone
    peer.advance(0.6)
    nothing_is_left(peer)


def test_reading_can_be_paused_without_heartbeats() -> None:
    peer = scripted(heartbeat=0)
    peer.open()
    peer.protocol.pause_reading()
    peer.beat()
    assert peer.wire.server.unsent
    peer.protocol.resume_reading()
    peer.wire.pump()
    assert not peer.wire.server.unsent
    peer.advance(10_000.0)
    assert not peer.gone
    assert peer.clock.getDelayedCalls() == []


# ----------------------------------------------------------------------- reading


@pytest.mark.covers("S48", "T-FR-04")
@pytest.mark.parametrize("chunk", [1, 2, 7, 8, 9, 64])
def test_the_size_of_the_pieces_that_come_does_not_matter(chunk: int) -> None:
    peer = scripted()
    peer.wire.chunk = chunk
    peer.open()
    channel: Channel = peer.open_channel()
    got: list[tuple[bytes, str]] = []
    channel.basic_consume("q", lambda one: got.append((one.body, one.routing_key)), consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    for number, body in enumerate((b"", b"x", b"y" * 500), 1):
        peer.deliver(1, "c", number, body)
    assert got == [(b"", "q"), (b"x", "q"), (b"y" * 500, "q")]


def test_the_size_of_reads_follows_what_they_bring() -> None:
    peer = opened()
    channel = peer.open_channel()
    channel.basic_consume("q", lambda delivery: None, consumer_tag="c", no_ack=True)
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    tags = iter(range(1, 100_000))

    def bring(size: int, count: int) -> int:
        with peer.wire.held():
            for _ in range(count):
                peer.deliver(1, "c", next(tags), b"x" * size)
            data = bytes(peer.wire.server.unsent)
            peer.wire.server.unsent.clear()
        peer.protocol.dataReceived(data)
        return int(getattr(peer.protocol.transport, "bufferSize", 0))

    assert bring(100_000, 1) == 0  # no socket: nothing to set
    peer.wire.client.bufferSize = 0  # type: ignore[attr-defined]  # now it is one
    sizes = [bring(300_000, 1), bring(300_000, 1), bring(1000, 300), bring(100, 4000), bring(10, 10)]
    assert sizes == [128 * 1024, 128 * 1024, 128 * 1024, 64 * 1024, 64 * 1024]


def test_what_callbacks_write_while_we_read_goes_out_in_one_piece_and_at_once() -> None:
    peer = opened()
    channel = peer.open_channel()
    channel.basic_consume("q", lambda delivery: delivery.ack(), consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    before = len(peer.clock.getDelayedCalls())
    with peer.wire.held():
        for tag in range(1, 11):
            peer.deliver(1, "c", tag)
        data = bytes(peer.wire.server.unsent)
        peer.wire.server.unsent.clear()
        peer.protocol.dataReceived(data)
        assert len(peer.wire.client.unsent) == 10 * 21
        assert len(peer.clock.getDelayedCalls()) == before


@pytest.mark.covers("T28")
def test_a_frame_larger_than_was_agreed_ends_the_connection() -> None:
    peer = scripted()
    peer.open(frame_max=10_000)
    declared = peer.open_channel().queue_declare("q")
    peer.wire.pump()
    peer.heard.clear()
    peer.write(b"\x01\x00\x01\x00\x00\x27\x09")
    close = peer.expect(ConnectionClose).method
    assert close.reply_code == 501
    error = failure_of(declared, ConnectionLost)
    assert type(error.__cause__) is RemoteProtocolError
    peer.advance(FAREWELL)
    nothing_is_left(peer)
