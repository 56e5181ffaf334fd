"""Two ends of a line, as the protocols at them see it; on a ``Clock``, where a turn is a call at once."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.logged import LoggedErrors
from txamqpx.broker.memory import HIGH_WATER, MOST_AT_ONCE, End, MemoryAddress, MemoryEndpoint
from txamqpx.testing.outcomes import Watched, failure_of, success_of


class Peer(Protocol):
    """Notes what happens to it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.lost: list[type[BaseException]] = []
        self.on_data: Callable[[bytes], object] = lambda data: None
        self.on_made: Callable[[], object] = lambda: None
        self.on_lost: Callable[[], object] = lambda: None

    @property
    def end(self) -> End:
        return cast(End, self.transport)

    def connectionMade(self) -> None:
        self.on_made()

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        self.on_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.type is not None
        self.lost.append(reason.type)
        self.on_lost()


@implementer(IPushProducer)
class Source:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.on_resume: Callable[[], object] = lambda: None

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")
        self.on_resume()

    def stopProducing(self) -> None:
        self.asked.append("stop")


class Pair:
    """A client and a broker that have just met."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.client, self.broker = Peer(), Peer()
        self.came_from: list[MemoryAddress] = []
        self.answer: Peer | None = self.broker
        self.endpoint = MemoryEndpoint(self.clock, "b", self.accept)

    def accept(self, address: MemoryAddress) -> IProtocol | None:
        self.came_from.append(address)
        return cast(IProtocol | None, self.answer)

    def connect(self) -> Deferred[Any]:
        return self.endpoint.connect(Factory.forProtocol(lambda: self.client))

    def turns(self) -> None:
        self.clock.advance(0)


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    connecting = pair.connect()
    pair.turns()
    assert success_of(connecting) is pair.client
    return pair


# --------------------------------------------------------------------------- connecting


def test_they_meet_in_a_later_turn() -> None:
    pair = Pair()
    connecting = Watched(pair.connect())
    assert connecting.pending
    assert pair.came_from == []
    pair.turns()
    assert connecting.value is pair.client
    (address,) = pair.came_from
    assert pair.broker.end.getPeer() == pair.client.end.getHost() == address
    assert pair.broker.end.getHost() == pair.client.end.getPeer() == MemoryAddress("b")
    assert str(pair.client.end.getPeer()) == "memory://b"
    assert str(address) == f"memory://b#{address.number}"
    assert repr(pair.endpoint) == "<MemoryEndpoint memory://b>"


def test_they_provide_what_they_say(pair: Pair) -> None:
    assert verifyObject(IStreamClientEndpoint, pair.endpoint)
    for interface in (ITransport, IConsumer, IPushProducer):
        assert verifyObject(interface, pair.client.end)
    assert verifyObject(IAddress, pair.client.end.getHost())


def test_options_of_sockets_are_taken(pair: Pair) -> None:
    pair.client.end.setTcpNoDelay(True)
    pair.client.end.setTcpKeepAlive(True)


def test_a_broker_may_refuse() -> None:
    pair = Pair()
    pair.answer = None
    connecting = pair.connect()
    pair.turns()
    failure_of(connecting, ConnectionRefusedError)
    assert pair.client.transport is None
    assert pair.clock.getDelayedCalls() == []


def test_a_factory_may_refuse() -> None:
    pair = Pair()

    class Refusing(Factory):
        def buildProtocol(self, addr: IAddress | None) -> None:
            assert addr == MemoryAddress("b")

    connecting = pair.endpoint.connect(Refusing())
    pair.turns()
    failure_of(connecting, NoProtocol)
    assert pair.broker.transport is None


def test_a_protocol_that_cannot_begin_takes_the_other_with_it() -> None:
    pair = Pair()
    pair.client.on_made = lambda: 1 / 0
    connecting = pair.connect()
    pair.turns()
    failure_of(connecting, ZeroDivisionError)
    assert pair.broker.lost == [ConnectionLost]


def test_who_cancels_meets_nobody() -> None:
    pair = Pair()
    connecting = pair.connect()
    connecting.cancel()
    failure_of(connecting, ConnectingCancelledError)
    pair.turns()
    assert pair.came_from == []


# --------------------------------------------------------------------------- bytes


def test_bytes_arrive_in_a_later_turn_and_together(pair: Pair) -> None:
    pair.client.end.write(b"one ")
    pair.client.end.writeSequence([b"two ", b"", b"three"])
    pair.client.end.write(b"")
    assert pair.broker.heard == []
    assert pair.client.end.line.in_flight == pair.client.end.in_flight == 13
    assert not pair.client.end.line.idle
    assert len(pair.clock.getDelayedCalls()) == 1
    pair.turns()
    assert pair.broker.heard == [b"one two three"]
    assert pair.client.end.line.in_flight == 0
    assert pair.client.end.line.idle


def test_an_answer_comes_back_in_the_same_turn(pair: Pair) -> None:
    pair.broker.on_data = lambda _: pair.broker.end.write(b"answer")
    pair.client.end.write(b"question")
    (turn,) = pair.clock.calls
    turn.func()
    turn.cancel()
    assert pair.client.heard == [b"answer"]


def test_bytes_are_handed_on_as_they_are(pair: Pair) -> None:
    data = bytes(1000)
    pair.client.end.write(data)
    pair.turns()
    assert pair.broker.heard[0] is data


def test_nothing_but_bytes_is_written(pair: Pair) -> None:
    with pytest.raises(TypeError, match="not str"):
        pair.client.end.write("text")  # type: ignore[arg-type]


def test_what_is_large_comes_in_parts(pair: Pair) -> None:
    data = bytes(range(256)) * 4096
    end = pair.client.end
    end.write(b"before")
    end.write(data)
    end.write(b"after")
    sizes: list[int] = []
    pair.broker.on_data = lambda data: sizes.append(end.in_flight)
    pair.turns()
    assert b"".join(pair.broker.heard) == b"before" + data + b"after"
    assert max(map(len, pair.broker.heard)) == MOST_AT_ONCE
    assert len(pair.broker.heard) == len(data) // MOST_AT_ONCE + 2
    assert all(after < before for before, after in pairwise(sizes))


def test_small_pieces_are_joined_up_to_the_limit(pair: Pair) -> None:
    piece = bytes(MOST_AT_ONCE // 3)
    pair.client.end.writeSequence([piece] * 7)
    pair.turns()
    assert [len(data) // len(piece) for data in pair.broker.heard] == [3, 3, 1]


# --------------------------------------------------------------------------- pace


def test_a_producer_is_asked_to_wait_above_the_mark_and_to_go_on_when_all_is_carried(pair: Pair) -> None:
    source = Source()
    end = pair.client.end
    end.registerProducer(source, True)
    end.write(bytes(HIGH_WATER))
    assert source.asked == []
    end.write(b"!")
    end.write(b"!")
    assert source.asked == ["pause"]
    pair.turns()
    assert source.asked == ["pause", "resume"]
    end.write(bytes(HIGH_WATER + 1))
    end.unregisterProducer()
    pair.turns()
    assert source.asked == ["pause", "resume", "pause"]


def test_who_does_not_read_holds_the_writer_up(pair: Pair) -> None:
    source = Source()
    pair.client.end.registerProducer(source, True)
    pair.broker.end.pauseProducing()
    pair.client.end.write(bytes(HIGH_WATER + 1))
    pair.turns()
    assert source.asked == ["pause"]
    assert pair.broker.heard == []
    assert pair.client.end.in_flight == HIGH_WATER + 1
    assert pair.client.end.line.idle
    pair.broker.end.write(b"the other way is free")
    pair.turns()
    assert pair.client.heard == [b"the other way is free"]
    pair.broker.end.resumeProducing()
    pair.turns()
    assert source.asked == ["pause", "resume"]
    assert len(pair.broker.heard) == 1


def test_a_producer_that_pauses_the_reader_is_heard_between_two_parts(pair: Pair) -> None:
    pair.broker.on_data = lambda _: pair.broker.end.pauseProducing()
    pair.client.end.write(bytes(3 * MOST_AT_ONCE))
    pair.turns()
    assert len(pair.broker.heard) == 1
    pair.broker.end.resumeProducing()
    pair.turns()
    assert len(pair.broker.heard) == 2


def test_a_pull_producer_is_asked_each_time_there_is_room(pair: Pair) -> None:
    source = Source()
    parts = [b"a", b"b", b"c"]
    end = pair.client.end

    def produce() -> None:
        if parts:
            end.write(parts.pop(0))
        else:
            end.unregisterProducer()

    source.on_resume = produce
    end.registerProducer(source, False)
    end.loseConnection()
    pair.turns()
    assert pair.broker.heard == [b"a", b"b", b"c"]
    assert pair.broker.lost == [ConnectionDone]


def test_there_is_one_producer(pair: Pair) -> None:
    pair.client.end.registerProducer(Source(), True)
    with pytest.raises(RuntimeError, match="never unregistered"):
        pair.client.end.registerProducer(Source(), True)


def test_a_producer_that_comes_too_late_is_stopped(pair: Pair) -> None:
    end = pair.client.end
    end.loseConnection()
    pair.turns()
    source = Source()
    end.registerProducer(source, True)
    assert source.asked == ["stop"]


# --------------------------------------------------------------------------- closing


def test_what_was_written_is_carried_before_the_end(pair: Pair) -> None:
    source = Source()
    end = pair.client.end
    end.registerProducer(source, True)
    line = end.line
    pair.broker.on_data = lambda _: pair.broker.end.write(b"to nobody" * MOST_AT_ONCE)
    left: list[int] = []
    pair.broker.on_lost = lambda: left.append(line.in_flight)
    end.write(b"goodbye")
    end.loseConnection()
    end.loseConnection()
    assert pair.client.lost == []
    pair.turns()
    assert pair.broker.heard == [b"goodbye"]
    assert pair.client.heard == []
    assert left == [0]
    assert pair.client.lost == pair.broker.lost == [ConnectionDone]
    assert source.asked == ["stop"]
    assert pair.clock.getDelayedCalls() == []


def test_the_end_waits_for_a_reader_that_is_slow_and_for_a_producer_that_waits(pair: Pair) -> None:
    source = Source()
    end = pair.client.end
    end.registerProducer(source, True)
    pair.broker.end.pauseProducing()
    end.write(bytes(HIGH_WATER + 1))
    end.stopProducing()
    pair.turns()
    assert pair.client.lost == []

    def finish() -> None:
        end.write(b"last")
        end.unregisterProducer()

    source.on_resume = finish
    pair.broker.end.resumeProducing()
    pair.turns()
    assert pair.broker.heard[-1] == b"last"
    assert pair.client.lost == pair.broker.lost == [ConnectionDone]


def test_two_that_say_goodbye_at_once_do_not_wait_for_each_other(pair: Pair) -> None:
    for peer in (pair.client, pair.broker):
        peer.end.pauseProducing()
        peer.end.write(b"goodbye")
        peer.end.loseConnection()
    pair.turns()
    assert pair.client.lost == pair.broker.lost == [ConnectionDone]
    assert pair.client.heard == pair.broker.heard == []


def test_who_has_said_goodbye_cannot_begin_to_listen_again(pair: Pair) -> None:
    pair.client.end.loseConnection()
    pair.client.end.resumeProducing()
    pair.broker.end.write(b"late")
    pair.turns()
    assert pair.client.heard == []


def test_to_abort_loses_what_is_on_the_way(pair: Pair) -> None:
    pair.client.end.write(b"lost")
    pair.broker.end.write(b"lost as well")
    pair.client.end.abortConnection()
    pair.broker.end.abortConnection()
    pair.client.end.write(b"never sent")
    pair.client.end.writeSequence([b"never sent"])
    assert pair.client.end.line.in_flight == 0
    assert pair.client.lost == []
    pair.turns()
    assert pair.client.lost == [ConnectionAborted]
    assert pair.broker.lost == [ConnectionLost]
    assert pair.client.heard == pair.broker.heard == []


def test_what_is_over_stays_over(pair: Pair) -> None:
    ends = pair.client.end, pair.broker.end
    ends[0].abortConnection()
    pair.turns()
    for end in ends:
        end.write(b"late")
        end.writeSequence([b"late"])
        end.loseConnection()
        end.abortConnection()
        end.resumeProducing()
        end.unregisterProducer()
    pair.turns()
    assert len(pair.client.lost) == len(pair.broker.lost) == 1
    assert pair.clock.getDelayedCalls() == []


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_a_protocol_may_close_when_it_is_told_something(pair: Pair, how: str) -> None:
    pair.broker.on_data = lambda _: getattr(pair.broker.end, how)()
    pair.client.end.write(bytes(2 * MOST_AT_ONCE))
    pair.turns()
    assert len(pair.broker.heard) == 1
    assert len(pair.broker.lost) == len(pair.client.lost) == 1
    assert pair.clock.getDelayedCalls() == []


def test_a_protocol_that_fails_is_dropped_and_logged(pair: Pair, logged_errors: LoggedErrors) -> None:
    pair.broker.on_data = lambda _: 1 / 0
    pair.client.end.write(b"data")
    pair.turns()
    assert pair.broker.lost == [ConnectionAborted]
    assert pair.client.lost == [ConnectionLost]
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


def test_a_protocol_that_fails_at_the_end_does_not_keep_the_other_from_it(
    pair: Pair, logged_errors: LoggedErrors
) -> None:
    pair.client.on_lost = lambda: 1 / 0
    pair.client.end.loseConnection()
    pair.turns()
    assert pair.broker.lost == [ConnectionDone]
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
