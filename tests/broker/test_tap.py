"""What stands between a session and its transport, as both of them see it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from txamqpx.broker.fault import Fault
from txamqpx.broker.tap import Tap, Trap
from txamqpx.broker.wire_log import WireLog
from txamqpx.protocol.frames import HEARTBEAT_FRAME, FrameReader

BEAT = HEARTBEAT_FRAME


class Core:
    """As much of a core as a tap looks at."""

    def __init__(self) -> None:
        self.reader = FrameReader()


class Session:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.core = Core()
        self.heard: list[bytes] = []
        self.lost: list[type[BaseException]] = []
        self.asked: list[str] = []
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Failure) -> None:
        assert reason.type is not None
        self.lost.append(reason.type)

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


class Transport:
    """Notes what it is asked for."""

    color = "blue"

    def __init__(self) -> None:
        self.sent = b""
        self.asked: list[str] = []
        self.producer: Any = None

    def writeSequence(self, data: Any) -> None:
        self.sent += b"".join(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def __getattr__(self, name: str) -> Any:
        if name not in {
            "abortConnection",
            "getHost",
            "getPeer",
            "loseConnection",
            "pauseProducing",
            "resumeProducing",
            "unregisterProducer",
        }:
            raise AttributeError(name)

        def ask() -> str:
            self.asked.append(name)
            return f"it was asked to {name}"

        return ask


class Setting:
    def __init__(self) -> None:
        self.session = Session()
        self.transport = Transport()
        self.log = WireLog(lambda: 0.0)
        self.happened: list[str] = []
        session: Any = self.session
        self.tap = Tap(
            session,
            7,
            self.log,
            made=lambda tap: self.happened.append("made"),
            closed=lambda tap: self.happened.append("closed"),
        )
        transport: Any = self.transport
        self.tap.makeConnection(transport)

    def turn(self, seconds: float = 0) -> None:
        self.session.clock.advance(seconds)


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_it_is_a_transport_to_the_session_and_a_protocol_to_the_transport(setting: Setting) -> None:
    tap = setting.tap
    assert verifyObject(ITransport, tap)
    assert verifyObject(IConsumer, tap)
    assert setting.session.transport is tap
    assert repr(tap) == "<connection #7>"
    tap.dataReceived(BEAT)
    tap.write(BEAT)
    tap.writeSequence([BEAT, BEAT])
    tap.writeSequence([])
    assert setting.session.heard == [BEAT]
    assert setting.transport.sent == BEAT * 3
    assert tap.passed == 4 * len(BEAT)
    assert [line.sent_by for line in setting.log] == ["client", "broker", "broker", "broker"]
    tap.connectionLost(Failure(ConnectionDone()))
    assert setting.session.lost == [ConnectionDone]
    assert setting.happened == ["made", "closed"]


def test_whatever_else_the_transport_can_do_it_can(setting: Setting) -> None:
    tap = setting.tap
    assert tap.color == "blue"
    assert not hasattr(tap, "getPeerCertificate")
    assert str(tap.getPeer()) == "it was asked to getPeer"
    assert str(tap.getHost()) == "it was asked to getHost"
    tap.pauseProducing()
    tap.resumeProducing()
    tap.unregisterProducer()
    tap.loseConnection()
    tap.abortConnection()
    assert setting.transport.asked[2:] == [
        "pauseProducing",
        "resumeProducing",
        "unregisterProducer",
        "loseConnection",
        "abortConnection",
    ]


def test_the_transport_s_pace_is_the_session_s(setting: Setting) -> None:
    tap, valve = setting.tap, setting.transport.producer
    paused: list[bool] = []
    for ask in (valve.pauseProducing, valve.resumeProducing):
        ask()
        paused.append(tap.paused)
    assert paused == [True, False]
    valve.stopProducing()
    valve.stopProducing()
    valve.pauseProducing()
    valve.resumeProducing()
    assert setting.session.asked == ["pause", "resume", "stop"]


def test_in_the_silence_nothing_passes_and_nobody_produces(setting: Setting) -> None:
    tap, valve = setting.tap, setting.transport.producer
    tap.swallow()
    tap.swallow()
    assert tap.paused
    tap.dataReceived(BEAT)
    tap.write(BEAT)
    tap.say(BEAT)
    tap.pauseProducing()
    tap.resumeProducing()
    valve.pauseProducing()
    valve.resumeProducing()
    assert setting.session.heard == []
    assert setting.transport.sent == b""
    assert setting.session.asked == ["pause"]
    assert setting.transport.asked == ["pauseProducing", "pauseProducing"]
    tap.spit_out()
    tap.spit_out()
    assert setting.session.heard == [BEAT]
    assert setting.transport.sent == BEAT * 2
    assert setting.session.asked == ["pause", "resume"]
    assert setting.transport.asked[2:] == ["resumeProducing"]


def test_after_the_silence_the_transport_s_pace_counts_and_the_session_s(setting: Setting) -> None:
    tap, valve = setting.tap, setting.transport.producer
    valve.pauseProducing()
    tap.pauseProducing()
    tap.swallow()
    tap.spit_out()
    assert setting.session.asked == ["pause"]
    assert setting.transport.asked == ["pauseProducing", "pauseProducing"]
    assert tap.paused


def test_a_session_without_a_producer_is_no_matter(setting: Setting) -> None:
    tap = setting.tap
    tap.unregisterProducer()
    tap.swallow()
    tap.spit_out()
    assert setting.session.asked == []


def test_a_producer_that_comes_in_the_silence_waits(setting: Setting) -> None:
    tap = setting.tap
    tap.unregisterProducer()
    tap.swallow()
    tap.registerProducer(setting.session, True)
    assert setting.session.asked == ["pause"]


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_a_session_that_ends_in_the_silence_is_let_go_and_the_client_does_not_hear_of_it(
    setting: Setting, how: str
) -> None:
    setting.tap.swallow()
    getattr(setting.tap, how)()
    assert setting.session.lost == []
    setting.turn()
    assert setting.session.lost == [ConnectionLost]
    assert how not in setting.transport.asked
    assert setting.happened == ["made"]
    setting.tap.spit_out()
    assert setting.transport.asked[-1] == "abortConnection"


def test_a_connection_is_dropped(setting: Setting) -> None:
    tap = setting.tap
    tap.write(BEAT)
    tap.drop()
    tap.drop()
    tap.write(BEAT)
    tap.say(BEAT)
    tap.dataReceived(BEAT)
    tap.swallow()
    assert setting.transport.sent == BEAT
    assert setting.session.heard == []
    assert setting.transport.asked == ["unregisterProducer", "loseConnection"]
    setting.turn()
    assert setting.session.lost == [ConnectionLost]
    tap.connectionLost(Failure(ConnectionDone()))
    assert setting.session.lost == [ConnectionLost]
    assert setting.happened == ["made", "closed"]
    assert setting.session.clock.getDelayedCalls() == []


def test_a_session_that_fails_at_its_end_is_forgotten_all_the_same(setting: Setting) -> None:
    def fail(reason: Failure) -> None:
        raise ZeroDivisionError

    setattr(setting.session, "connectionLost", fail)  # noqa: B010  # what a type checker does not allow
    with pytest.raises(ZeroDivisionError):
        setting.tap.connectionLost(Failure(ConnectionDone()))
    assert setting.happened == ["made", "closed"]


def test_a_client_that_does_not_read_its_last_words_is_not_waited_for(setting: Setting) -> None:
    setting.tap.drop()
    setting.turn(1)
    assert setting.transport.asked[-1] == "abortConnection"
    setting.tap.connectionLost(Failure(ConnectionDone()))
    assert setting.session.clock.getDelayedCalls() == []


def test_a_trap_springs_between_what_passed_and_what_follows(setting: Setting) -> None:
    tap = setting.tap
    at: list[tuple[bytes, bytes]] = []

    def spring(tap: Tap) -> bool:
        at.append((b"".join(setting.session.heard), setting.transport.sent))
        return True

    tap.arm("client", Trap(2, 0, 3, spring))
    tap.arm("client", Trap(1, 0, 0, spring))
    tap.arm("broker", Trap(None, 0, 5, spring))
    tap.dataReceived(BEAT * 3)
    tap.write(BEAT)
    tap.write(BEAT)
    assert at == [(b"", b""), (BEAT + BEAT[:3], b""), (BEAT * 3, BEAT[:5])]
    assert b"".join(setting.session.heard) == BEAT * 3
    assert setting.transport.sent == BEAT * 2


def test_what_lies_behind_the_end_does_not_happen(setting: Setting) -> None:
    tap = setting.tap
    sprung: list[str] = []

    def spring(tap: Tap) -> bool:
        sprung.append("late")
        return True

    def drop(tap: Tap) -> bool:
        tap.drop()
        return True

    for number, what in ((1, drop), (2, spring)):
        tap.arm("client", Trap(number, 0, 0, what))
    tap.dataReceived(BEAT * 3)
    assert sprung == []
    assert setting.session.heard == []


def test_what_was_dropped_in_the_silence_is_not_said_after_it(setting: Setting) -> None:
    tap = setting.tap
    tap.swallow()
    tap.write(BEAT)
    tap.drop()
    tap.spit_out()
    assert setting.transport.sent == b""


def test_a_trap_that_is_taken_away_does_not_spring(setting: Setting) -> None:
    tap = setting.tap
    sprung: list[str] = []

    def trap(name: str) -> Trap:
        return Trap(1, 0, 0, lambda tap: not sprung.append(name))  # type: ignore[func-returns-value]

    gone, there = trap("gone"), trap("there")
    tap.arm("client", gone)
    tap.arm("client", there)
    tap.disarm(gone)
    tap.disarm(gone)
    tap.dataReceived(BEAT)
    assert sprung == ["there"]
    tap.disarm(there)


def test_a_byte_is_changed_while_the_trap_stands(setting: Setting) -> None:
    fault = Fault("it is garbled")
    for _ in range(2):
        setting.tap.arm("broker", Trap(1, 0, -1, lambda tap: fault.strike(), 0x0F))
    setting.tap.write(BEAT)
    assert setting.transport.sent == BEAT[:-1] + bytes((BEAT[-1] ^ 0x0F,))


def test_a_trap_counts_from_the_midst_of_a_frame(setting: Setting) -> None:
    tap = setting.tap
    setting.session.core.reader.keep(BEAT[:7], 0)
    tap.arm("client", Trap(1, 0, 0, lambda tap: bool(tap.drop()) or True))  # type: ignore[func-returns-value]
    tap.dataReceived(BEAT[7:])
    tap.dataReceived(BEAT)
    assert setting.session.heard == [BEAT[7:]]
    assert tap.dropped


def test_a_filter_changes_what_is_written_but_not_what_is_said_past_it(setting: Setting) -> None:
    setting.tap.filters.append(lambda data: data[: len(BEAT)])
    setting.tap.write(BEAT * 3)
    assert setting.transport.sent == BEAT
    setting.tap.say(BEAT * 2)
    assert setting.transport.sent == BEAT * 3
