from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from txamqpx.testing import End, Wire
from txamqpx.testing.wire import HIGH_WATER


class Party(Protocol):
    """Notes what happens to it."""

    transport: End

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.lost: list[type[BaseException]] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason.type)


@implementer(IPushProducer)
class Producer:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


class Pair:
    """Two parties and what joins them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.client, self.server = Party(), Party()
        self.wire = Wire(self.client, self.server, self.clock)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_nothing_arrives_before_the_wire_is_pumped(pair: Pair) -> None:
    pair.client.transport.write(b"a")
    pair.client.transport.writeSequence([b"b", b"c"])
    assert pair.server.heard == []
    pair.wire.pump()
    assert (pair.server.heard, pair.client.heard) == ([b"abc"], [])


def test_both_sides_answer_each_other_until_nothing_moves(pair: Pair) -> None:
    def answer(data: bytes) -> None:
        if len(data) < 4:
            pair.server.transport.write(data + b"s")

    pair.server.dataReceived = answer  # type: ignore[method-assign]
    pair.client.dataReceived = pair.client.transport.write  # type: ignore[method-assign]
    pair.client.transport.write(b"c")
    pair.wire.pump()
    assert not pair.client.transport.unsent
    assert not pair.server.transport.unsent


def test_a_client_may_get_it_in_small_pieces(pair: Pair) -> None:
    pair.wire.chunk = 2
    pair.server.transport.write(b"abcde")
    pair.wire.pump()
    assert pair.client.heard == [b"ab", b"cd", b"e"]


def test_what_is_held_arrives_in_one_piece_and_in_the_end(pair: Pair) -> None:
    with pair.wire.held():
        for piece in (b"a", b"b"):
            pair.server.transport.write(piece)
            pair.wire.pump()
        assert pair.client.heard == []
    assert pair.client.heard == [b"ab"]


def test_a_block_that_fails_holds_nothing_afterwards(pair: Pair) -> None:
    with pytest.raises(ZeroDivisionError), pair.wire.held():
        raise ZeroDivisionError
    pair.server.transport.write(b"a")
    pair.wire.pump()
    assert pair.client.heard == [b"a"]


def test_who_reads_nothing_gets_it_later(pair: Pair) -> None:
    pair.client.transport.pauseProducing()
    pair.server.transport.write(b"a")
    pair.wire.pump()
    assert pair.client.heard == []
    pair.client.transport.resumeProducing()
    pair.wire.pump()
    assert pair.client.heard == [b"a"]


def test_a_producer_waits_while_too_much_is_unsent(pair: Pair) -> None:
    producer = Producer()
    pair.client.transport.registerProducer(producer, True)
    pair.client.transport.write(bytes(HIGH_WATER))
    assert producer.asked == []
    pair.client.transport.write(b"a")
    pair.client.transport.write(b"b")
    assert producer.asked == ["pause"]
    pair.wire.pump()
    assert producer.asked == ["pause", "resume"]
    pair.client.transport.write(bytes(HIGH_WATER + 1))
    assert producer.asked == ["pause", "resume", "pause"]


def test_a_producer_that_has_left_is_told_nothing(pair: Pair) -> None:
    producer = Producer()
    pair.client.transport.registerProducer(producer, True)
    pair.client.transport.write(bytes(HIGH_WATER + 1))
    pair.client.transport.unregisterProducer()
    pair.wire.pump()
    pair.client.transport.loseConnection()
    pair.wire.pump()
    assert producer.asked == ["pause"]


def test_who_closes_has_said_everything_before(pair: Pair) -> None:
    producer = Producer()
    pair.server.transport.registerProducer(producer, True)
    pair.client.transport.write(b"a")
    pair.client.transport.stopProducing()
    pair.client.transport.write(b"b")
    pair.wire.pump()
    assert pair.server.heard == [b"a"]
    assert (pair.client.lost, pair.server.lost) == ([ConnectionDone], [ConnectionDone])
    assert producer.asked == ["stop"]
    pair.server.transport.write(b"c")
    pair.wire.pump()
    assert pair.client.heard == []


def test_who_aborts_loses_what_was_unsent(pair: Pair) -> None:
    pair.client.transport.write(b"a")
    pair.client.transport.abortConnection()
    pair.wire.pump()
    assert pair.server.heard == []
    assert (pair.client.lost, pair.server.lost) == ([ConnectionAborted], [ConnectionLost])
    assert pair.client.transport.aborted
    assert not pair.server.transport.aborted


def test_a_party_is_told_once_that_it_is_over(pair: Pair) -> None:
    def told(reason: Any = None) -> None:
        pair.client.lost.append(reason.type)
        pair.wire.pump()

    pair.client.connectionLost = told  # type: ignore[method-assign]
    pair.client.transport.loseConnection()
    pair.server.transport.loseConnection()
    pair.wire.pump()
    assert (pair.client.lost, pair.server.lost) == ([ConnectionDone], [ConnectionDone])


def test_a_turn_ends_with_every_pump(pair: Pair) -> None:
    pair.clock.callLater(0, pair.client.transport.write, b"a")
    pair.wire.pump()
    assert pair.server.heard == [b"a"]


def test_each_call_is_made_at_its_time(pair: Pair) -> None:
    made: list[float] = []

    def call() -> None:
        made.append(pair.clock.seconds())
        if len(made) < 3:
            pair.clock.callLater(2, call)

    pair.clock.callLater(2, call)
    pair.wire.advance(5)
    assert made == [2, 4]
    assert pair.clock.seconds() == 5
    pair.wire.advance(1)
    assert made == [2, 4, 6]


def test_an_end_is_a_transport_like_any_other(pair: Pair) -> None:
    end = pair.client.transport
    end.setTcpNoDelay(True)
    end.setTcpKeepAlive(False)
    assert end.options == {"no delay": True, "keep alive": False}
    assert (end.getPeer().port, end.getHost().port) == (5672, 50000)
