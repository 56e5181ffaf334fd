"""A recorded session, cut and split at every byte: whatever the network does, each Deferred fires once."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.protocol.pair import START
from tests.talk import Sink
from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.errors import AMQPError
from txamqpx.message import Delivery
from txamqpx.params import ConnectionParameters
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.testing import ScriptedPeer, Wire

PARAMETERS = ConnectionParameters(client_properties={"platform": "a test"})


class Program(Delegate):
    """A client's side: it does the same things in the same order, as soon as it can.

    Attributes:
        fired: How often each Deferred of it fired, and with what.
        told: What its delegate and its consumers were told.
    """

    def __init__(self, clock: Clock) -> None:
        self.protocol = AMQPProtocol(PARAMETERS, self, clock)
        self.fired: Counter[str] = Counter()
        self.results: dict[str, str] = {}
        self.expected: set[str] = set()
        self.told: list[str] = []
        self.watch("open", self.protocol.when_open()).addCallback(self._opened)
        self.watch("closed", self.protocol.when_closed())

    def watch(self, name: str, deferred: Deferred[Any]) -> Deferred[Any]:
        self.expected.add(name)
        fork: Deferred[Any] = Deferred()

        def note(result: object) -> None:
            self.fired[name] += 1
            failed = isinstance(result, Failure)
            self.results[name] = type(result.value if isinstance(result, Failure) else result).__name__
            if not failed:
                fork.callback(result)

        deferred.addBoth(note)
        return fork

    def _opened(self, protocol: AMQPProtocol) -> None:
        for name in ("one", "two"):
            opening = self.watch(f"{name}: channel", protocol.open_channel())
            opening.addCallback(getattr(self, f"_on_{name}"))

    def _on_one(self, channel: Channel) -> None:
        self.watch("one: closed", channel.when_closed())
        self.watch("one: select", channel.confirm_select())
        for number in range(4):
            published = channel.basic_publish(
                b"%d" % number, routing_key="k", mandatory=True, exchange="none" if number == 3 else ""
            )
            self.watch(f"one: publish {number}", published)
        self.watch("one: declare", channel.queue_declare("q"))
        self.watch("one: confirms", channel.wait_for_confirms())

    def _on_two(self, channel: Channel) -> None:
        self.watch("two: closed", channel.when_closed())
        self.watch("two: consume", channel.basic_consume("q", self._got, consumer_tag="c"))
        self.watch("two: get", channel.basic_get("q"))
        self.watch("two: nothing", channel.basic_get("q"))
        purging = channel.queue_purge("q")
        self.watch("two: cancelled", purging)
        purging.cancel()
        self.watch("two: close", channel.queue_bind("q", "e")).addCallback(
            lambda _: self.watch("two: closing", channel.close())
        )

    def _got(self, delivery: Delivery) -> None:
        self.told.append(f"delivery {delivery.body[:10]!r} {delivery.ack().value}")

    def connection_opened(self, protocol: object) -> object:
        self.told.append("opened")
        return None

    def connection_blocked(self, protocol: object, reason: str) -> object:
        self.told.append(f"blocked {reason}")
        return None

    def connection_closed(self, protocol: object, reason: AMQPError) -> object:
        self.told.append(f"closed {type(reason).__name__}")
        return None

    def channel_closed(self, channel: object, reason: AMQPError) -> object:
        assert isinstance(channel, Channel)
        self.told.append(f"channel {channel.number} {type(reason).__name__}")
        return None

    def message_returned(self, channel: object, message: Any) -> object:
        self.told.append(f"returned {message.body!r}")
        return None

    def flow_changed(self, channel: object, active: bool) -> object:
        self.told.append(f"flow {active}")
        return None

    def consumer_cancelled(self, channel: object, consumer_tag: str) -> object:
        self.told.append(f"cancelled {consumer_tag}")
        return None


@cache
def session() -> tuple[bytes, ...]:
    """Return all that a server says in a session with the program, each answer after its question."""
    clock = Clock()
    program = Program(clock)
    peer = ScriptedPeer(program.protocol, clock)
    said = [START]  # the peer has said something of the kind already
    end = peer.wire.server
    write = end.write

    def record(data: bytes) -> None:
        said.append(data)
        write(data)

    end.write = record  # type: ignore[method-assign]  # a tap
    peer.open()
    for number in (1, 2):
        peer.send(number, amqp.ChannelOpenOk())
    peer.send(0, amqp.ConnectionBlocked("memory"))
    peer.send(1, amqp.ConfirmSelectOk())
    peer.send(1, amqp.BasicReturn(312, "NO_ROUTE", "", "k"), b"1")
    peer.send(1, amqp.BasicAck(2))
    peer.send(1, amqp.BasicNack(1))
    peer.send(2, amqp.BasicConsumeOk("c"))
    peer.deliver(2, "c", 1, b"")
    peer.deliver(2, "c", 2, b"x" * 300)
    peer.send(2, amqp.BasicGetOk(3, False, "", "q", 0), b"got", amqp.BasicProperties(headers={"a": [1]}))
    peer.send(2, amqp.BasicGetEmpty())
    peer.send(2, amqp.QueuePurgeOk(7))
    peer.send(1, amqp.ChannelFlow(False))
    peer.send(2, amqp.BasicCancel("c", no_wait=True))
    peer.send(1, amqp.ChannelClose(404, "NOT_FOUND - no exchange 'none' in vhost '/'", 60, 40))
    peer.send(2, amqp.QueueBindOk())
    peer.beat()
    peer.send(0, amqp.ConnectionUnblocked())
    peer.send(0, amqp.ConnectionClose(320, "CONNECTION_FORCED - shutdown", 0, 0))
    return tuple(said)


def cut_at(place: int) -> list[bytes]:
    """Return the session's pieces up to a byte."""
    pieces = []
    for piece in session():
        if place > 0:
            pieces.append(piece[:place])
        place -= len(piece)
    return pieces


def in_pieces_of(size: int) -> list[bytes]:
    return [piece[at : at + size] for piece in session() for at in range(0, len(piece), size)]


def play(pieces: list[bytes], reason: Exception) -> Program:
    """Let the program hear the pieces, and then nothing more."""
    clock = Clock()
    program = Program(clock)
    wire = Wire(program.protocol, Sink(), clock)
    wire.pump()
    for piece in pieces:
        if not wire.client.lost:
            program.protocol.dataReceived(piece)
            wire.pump()
    wire.client.lose(reason)
    clock.advance(0)
    assert clock.getDelayedCalls() == []
    assert program.protocol.core.channels == {}
    assert program.protocol.core.events == []
    return program


@cache
def whole() -> Program:
    return play(list(session()), ConnectionDone())


def length() -> int:
    return sum(map(len, session()))


def test_the_session_has_all_kinds_of_things_in_it() -> None:
    program = whole()
    assert program.results == {
        "open": "AMQPProtocol",
        "one: channel": "Channel",
        "one: select": "ConfirmSelectOk",
        "one: publish 0": "Nacked",
        "one: publish 1": "NoRoute",
        "one: publish 2": "OutcomeUnknown",
        "one: publish 3": "NotFound",
        "one: declare": "NotProcessed",
        "one: confirms": "NotFound",
        "one: closed": "NotFound",
        "two: channel": "Channel",
        "two: consume": "BasicConsumeOk",
        "two: get": "Delivery",
        "two: nothing": "NoneType",
        "two: cancelled": "CancelledError",
        "two: close": "QueueBindOk",
        "two: closing": "NoneType",
        "two: closed": "ChannelClosed",
        "closed": "ConnectionForced",
    }


@pytest.mark.covers("S42", "T-CLS-05", "T-CLS-07", "T-PUB-08", "T-FR-04")
def test_wherever_the_session_is_cut_each_deferred_fires_once_and_nothing_is_left() -> None:
    assert length() > 900
    seen: set[str] = set()
    for cut in range(length() + 1):
        program = play(cut_at(cut), ConnectionLost())
        assert program.fired == Counter(program.expected), cut
        assert program.told.count("closed " + program.results["closed"]) == 1, cut
        assert program.told[-1].startswith("closed "), cut
        seen.update(program.results.values())
    assert {"ConnectionLost", "ProbableAuthenticationError", "VhostAccessDenied", "OutcomeUnknown"} <= seen


@pytest.mark.covers("S48", "T-FR-04")
def test_wherever_the_session_is_split_the_outcome_is_the_same() -> None:
    for cut in range(1, length()):
        before = cut_at(cut)
        whole_piece = session()[len(before) - 1]
        rest = [whole_piece[len(before[-1]) :], *session()[len(before) :]]
        program = play([*before, *filter(None, rest)], ConnectionDone())
        assert (program.results, program.told) == (whole().results, whole().told), cut
        assert program.fired == Counter(program.expected), cut


@pytest.mark.covers("S48", "T-FR-04")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100])
def test_pieces_of_any_size_come_to_the_same(size: int) -> None:
    program = play(in_pieces_of(size), ConnectionDone())
    assert (program.results, program.told) == (whole().results, whole().told)


@pytest.mark.covers("T-CLS-01", "T-CLS-07")
def test_wherever_the_program_closes_each_deferred_fires_once_and_nothing_is_left() -> None:
    for cut in range(0, length() + 1, 3):
        clock = Clock()
        program = Program(clock)
        wire = Wire(program.protocol, Sink(), clock)
        wire.pump()
        for piece in cut_at(cut):
            program.protocol.dataReceived(piece)
            wire.pump()
        program.watch("closing", program.protocol.close())
        program.watch("closing again", program.protocol.close())
        wire.advance(20.0)  # nobody answers
        assert wire.client.lost is not None
        assert program.fired == Counter(program.expected), cut
        assert clock.getDelayedCalls() == [], cut


@pytest.mark.covers("T-FR-06")
def test_a_byte_that_was_changed_never_leaves_as_an_exception() -> None:
    for place in range(0, length(), 2):
        pieces = cut_at(place + 1)
        pieces[-1] = (
            pieces[-1][:-1] + bytes((pieces[-1][-1] ^ 0xA5,)) + session()[len(pieces) - 1][len(pieces[-1]) :]
        )
        program = play([*pieces, *session()[len(pieces) :]], ConnectionLost())
        assert program.fired == Counter(program.expected), place
