"""How a connection comes about, or does not."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.talk import Silent, nothing_is_left, opened
from txamqpx.connection import AMQPClientFactory, AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.errors import (
    AuthenticationError,
    ConnectionClosed,
    ConnectionLost,
    HandshakeTimeout,
    LocalProtocolError,
    ProbableAuthenticationError,
    VhostAccessDenied,
)
from txamqpx.params import ConnectionParameters
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import (
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)
from txamqpx.testing import ScriptedPeer, failure_of, is_pending, scripted, success_of


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
