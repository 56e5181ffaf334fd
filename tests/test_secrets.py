"""A password is shown by nothing: no repr, no log, no error, and no traceback, however talkative it is."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, setDebugging
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.logged import LoggedErrors
from tests.protocol.pair import OPEN_OK, START, TUNE, say
from tests.talk import Sink
from txamqpx.connection import AMQPClientFactory, AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.params import ConnectionParameters
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.testing import ScriptedPeer, Watched, Wire, scripted

CANARY = "tweety7canary"


class Boom(Exception):
    pass


@implementer(ILogObserver)
class Ear:
    def __init__(self) -> None:
        self.heard: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.heard.append(event)


@pytest.fixture(autouse=True)
def ear() -> Iterator[Ear]:
    """Keep what is logged, and have every failure keep the variables of its frames, as debuggers do."""
    ear = Ear()
    globalLogPublisher.addObserver(ear)
    setDebugging(True)
    yield ear
    setDebugging(False)
    globalLogPublisher.removeObserver(ear)


def shown_by(error: BaseException) -> str:
    """Return all that anybody can print of an error, from our frames on."""
    said = [str(error), repr(error), repr(vars(error)), repr(error.args)]
    failure = Failure(error)
    said += [failure.getTraceback(detail=detail) for detail in ("brief", "default", "verbose")]
    said += [failure.getErrorMessage(), failure.getBriefTraceback()]
    said += traceback.TracebackException.from_exception(
        error, capture_locals=True, lookup_lines=False
    ).format()
    for other in (error.__cause__, error.__context__):
        if other is not None:
            said.append(shown_by(other))
    return "\n".join(said)


def test_a_canary_in_a_frame_would_be_seen() -> None:
    def sings(password: str) -> None:
        raise Boom

    with pytest.raises(Boom) as raised:
        sings(CANARY)
    assert CANARY in shown_by(raised.value)


class Wired:
    """A connection with a secret password, and what can be seen of it."""

    def __init__(self, **parameters: Any) -> None:
        self.clock = Clock()
        self.parameters = ConnectionParameters(
            username="guest", password=CANARY, connection_timeout=5.0, **parameters
        )
        self.protocol = AMQPProtocol(self.parameters, None, self.clock)
        self.opening, self.closed = Watched(self.protocol.when_open()), Watched(self.protocol.when_closed())
        self.sink = Sink()
        self.wire = Wire(self.protocol, self.sink, self.clock)
        self.wire.pump()

    def everything_shown(self) -> str:
        protocol = self.protocol
        things = (protocol, self.parameters, protocol.core, protocol.core.outbox, protocol._writer)
        said = [repr(thing) for thing in things] + [str(self.parameters), repr(vars(protocol))]
        said += [repr(vars(protocol.core)), repr(vars(protocol.core._handshake))]
        for failure in self.opening.failures:
            assert failure.value is not None
            said += [shown_by(failure.value), failure.getTraceback(detail="verbose")]
        said += [shown_by(reason) for reason in self.closed.values]
        return "\n".join(said)


def close(code: int, text: str) -> bytes:
    return say(amqp.ConnectionClose(code, text, 0, 0), 0)


#: What the broker says, and what happens then.
PATHS: dict[str, tuple[bytes, str]] = {
    "nothing happens": (b"", ""),
    "it opens": (START + TUNE + OPEN_OK, ""),
    "the login is refused": (START + close(403, "ACCESS_REFUSED"), ""),
    "the virtual host is refused": (START + TUNE + close(530, "NOT_ALLOWED"), ""),
    "the broker hangs up after the login": (START, "hang up"),
    "the broker hangs up when the host is opened": (START + TUNE, "hang up"),
    "the broker is silent": (b"", "wait"),
    "the broker is silent after the login": (START, "wait"),
    "no mechanism fits": (say(amqp.ConnectionStart(0, 9, {}, b"GSSAPI", b"en_US"), 0), ""),
    "a challenge comes": (START + say(amqp.ConnectionSecure(b"who?"), 0), ""),
    "the broker breaks the protocol": (START + START, ""),
    "the broker breaks the framing": (START + b"\xff" * 20, ""),
    "it is another version": (b"AMQP\x00\x01\x00\x00", ""),
    "we change our mind": (START, "close"),
}


@pytest.mark.covers("T-HS-06")
@pytest.mark.parametrize("mechanism", [None, "AMQPLAIN", "EXTERNAL"])
@pytest.mark.parametrize("path", PATHS)
def test_no_end_of_a_handshake_shows_the_password(path: str, mechanism: str | None, ear: Ear) -> None:
    wired = Wired(mechanism=mechanism)
    said, then = PATHS[path]
    wired.wire.server.write(said)
    wired.wire.pump()
    if then == "hang up":
        wired.sink.hang_up(wired.wire)
    elif then == "wait":
        wired.wire.advance(5.0)
    elif then == "close":
        wired.protocol.close()
    assert CANARY not in wired.everything_shown()
    wired.protocol.abort()
    wired.wire.pump()
    assert CANARY not in wired.everything_shown()
    for event in ear.heard:
        assert CANARY not in str(formatEvent(event)) + repr(event)


@pytest.mark.covers("T-HS-01", "T-HS-06")
def test_a_login_that_does_not_fit_a_frame_is_not_shown() -> None:
    secret = CANARY * 1000
    clock = Clock()
    protocol = AMQPProtocol(ConnectionParameters(password=secret), None, clock)
    opening = Watched(protocol.when_open())
    wire = Wire(protocol, Sink(), clock)
    wire.server.write(START)
    wire.pump()
    (failure,) = opening.failures
    assert failure.value is not None
    assert "the login cannot be sent" in str(failure.value)
    assert CANARY not in shown_by(failure.value)
    assert CANARY not in failure.getTraceback(detail="verbose")


def secretive() -> ScriptedPeer:
    peer = scripted(password=CANARY)
    peer.open()
    return peer


@pytest.mark.covers("T-HS-06")
def test_a_fresh_secret_is_shown_by_no_refusal_and_no_end() -> None:
    peer = secretive()
    said: list[str] = []

    def refused(secret: str, reason: str) -> None:
        with pytest.raises(Exception, match=r"update-secret") as raised:
            peer.protocol.update_secret(secret, reason)
        said.append(without_this_file(raised.value))

    refused(CANARY, "x" * 256)
    refused(CANARY * 20_000, "too long")
    refused(CANARY + "\ud800", "no UTF-8")
    waiting = peer.protocol.update_secret(CANARY, "expiry")
    said.append(repr(waiting))
    said.append(repr(peer.protocol.core.waiting))
    peer.wire.pump()
    peer.hang_up()
    (failure,) = Watched(waiting).failures
    assert failure.value is not None
    said += [shown_by(failure.value), failure.getTraceback(detail="verbose")]
    fresh = AMQPProtocol(ConnectionParameters(password=CANARY))
    with pytest.raises(Exception, match=r"update-secret") as raised:
        fresh.update_secret(CANARY, "before it is open")
    said.append(without_this_file(raised.value))
    assert CANARY not in "\n".join(said)


def without_this_file(error: BaseException) -> str:
    """Return what an error shows, but for the frames of the test, which knows the secret."""
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    return shown_by(error)


class Explosive(Delegate):
    def connection_opened(self, protocol: object) -> object:
        raise Boom

    def connection_closed(self, protocol: object, reason: object) -> object:
        raise Boom


def test_a_hook_that_fails_is_logged_without_the_password(ear: Ear, logged_errors: LoggedErrors) -> None:
    peer = scripted(Explosive(), password=CANARY)
    peer.open()
    channel = peer.open_channel()
    consuming: Deferred[Any] = channel.basic_consume("q", lambda delivery: 1 / 0, consumer_tag="c")
    peer.expect(amqp.BasicConsume)
    peer.send(1, amqp.BasicConsumeOk("c"))
    peer.deliver(1, "c", 1)
    peer.hang_up()
    assert consuming.called
    failures = logged_errors.flush(Boom, ZeroDivisionError)
    assert len(failures) == 3
    for failure in failures:
        assert CANARY not in failure.getTraceback(detail="verbose")
        assert isinstance(failure.value, Exception)
        assert CANARY not in shown_by(failure.value)
    for event in ear.heard:
        assert CANARY not in str(formatEvent(event)) + repr(event)


def test_what_a_channel_shows() -> None:
    peer = secretive()
    channel = peer.open_channel()
    shown = [repr(channel), repr(channel.core), repr(vars(channel)), repr(vars(channel.core))]
    shown += [repr(AMQPClientFactory(peer.protocol.parameters)), repr(vars(peer.protocol))]
    assert CANARY not in "\n".join(shown)
