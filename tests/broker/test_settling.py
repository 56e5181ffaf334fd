"""When a broker is settled: on a ``Clock`` at once, on a reactor after some turns."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.broker.reactor import Reactor
from txamqpx.broker import Broker, settling
from txamqpx.broker.settling import advance, settled
from txamqpx.endpoints import connect_protocol
from txamqpx.testing.outcomes import Watched, failure_of, is_pending


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def broker(reactor: Reactor) -> Broker:
    return Broker(clock=reactor)


def turns(reactor: Reactor, watched: Watched[None]) -> int:
    """Return after how many turns something is done."""
    for number in range(1000):
        if not watched.pending:
            assert watched.value is None
            return number
        reactor.turn()
    raise AssertionError("it is never done")


def test_where_nothing_happens_it_takes_few_turns(reactor: Reactor, broker: Broker) -> None:
    assert turns(reactor, Watched(broker.settled())) <= 4
    assert reactor.calls == []


def test_it_takes_as_long_as_something_happens(reactor: Reactor, broker: Broker) -> None:
    connecting = Watched(connect_protocol(f"{broker.url}?heartbeat=0", reactor=reactor))
    turns(reactor, Watched(broker.settled()))
    protocol = connecting.value
    opening = Watched(protocol.open_channel())
    turns(reactor, Watched(broker.settled()))
    channel = opening.value
    declaring = Watched(channel.queue_declare("q"))
    publishing = [Watched(channel.basic_publish(bytes(100_000), routing_key="q")) for _ in range(20)]
    assert turns(reactor, Watched(broker.settled())) >= 16
    assert declaring.value.queue == "q"
    assert not any(one.pending for one in publishing)
    assert broker.queue("q").ready == 20


def test_calls_without_delay_are_waited_for_and_others_are_not(reactor: Reactor, broker: Broker) -> None:
    left = [10]

    def bounce() -> None:
        left[0] -= 1
        if left[0]:
            reactor.callLater(0, bounce)

    reactor.callLater(0, bounce)
    reactor.callLater(5, print)
    assert turns(reactor, Watched(broker.settled())) >= 10
    assert left == [0]


def test_what_has_no_end_fails(reactor: Reactor, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def bounce() -> None:
        reactor.callLater(0, bounce)

    monkeypatch.setattr(settling, "MOST_TURNS", 50)
    bounce()
    for waiting in (broker.settled(), broker.advance(1)):
        watched = Watched(waiting)
        for _ in range(60):
            reactor.turn()
        assert str(watched.error(AssertionError)).startswith("there is something to do still after 50 turns")


def test_who_does_not_read_is_not_waited_for(reactor: Reactor, broker: Broker) -> None:
    connecting = Watched(connect_protocol(f"{broker.url}?heartbeat=0", reactor=reactor))
    turns(reactor, Watched(broker.settled()))
    opening = Watched(connecting.value.open_channel())
    turns(reactor, Watched(broker.settled()))
    channel = opening.value
    for _ in range(10):
        Watched(channel.basic_publish(bytes(100_000), routing_key="q", mandatory=True)) if _ else Watched(
            channel.queue_declare("q")
        )
    turns(reactor, Watched(broker.settled()))
    connecting.value.pause_reading()
    consuming = Watched(channel.basic_consume("q", print, no_ack=True))
    turns(reactor, Watched(broker.settled()))
    assert consuming.pending
    assert broker.connections[0].tap.paused
    assert broker.connections[0].tap.session.core.outbox.size > 0


def test_what_still_comes_over_a_socket_is_waited_for(reactor: Reactor, broker: Broker) -> None:
    connecting = Watched(connect_protocol(f"{broker.url}?heartbeat=0", reactor=reactor))
    turns(reactor, Watched(broker.settled()))
    tap = broker.connections[0].tap
    settling = Watched(broker.settled())
    for _ in range(20):
        reactor.turn()
        tap.passed += 1  # no call of the reactor's brings it
    assert settling.pending
    turns(reactor, settling)
    connecting.value.abort()
    turns(reactor, Watched(broker.settled()))


def test_it_can_be_given_up(reactor: Reactor, broker: Broker) -> None:
    waiting = broker.settled()
    waiting.cancel()
    failure_of(waiting)
    assert reactor.calls == []


def test_time_passes_step_by_step(reactor: Reactor, broker: Broker) -> None:
    happened: list[tuple[str, float]] = []

    def again() -> None:
        now = broker.clock.seconds() - start
        # The answer takes some turns of the reactor, and asks for more of the broker's time.
        reactor.callLater(0, reactor.callLater, 0, answer, now)

    def answer(now: float) -> None:
        happened.append(("answer", now))
        broker.clock.callLater(100, again)

    start = broker.clock.seconds()
    broker.clock.callLater(100, again)
    advancing = broker.advance(350)
    assert is_pending(advancing)
    turns(reactor, Watched(advancing))
    assert happened == [("answer", 100), ("answer", 200), ("answer", 300)]
    assert broker.clock.seconds() - start == 350
    assert reactor.seconds() == start


def test_on_a_clock_all_is_done_at_once() -> None:
    clock = Clock()
    broker = Broker(clock=clock)
    connecting = Watched(connect_protocol(broker.url, reactor=clock))
    assert broker.settled().called
    assert connecting.value.is_open
    assert broker.advance(2).called
    assert clock.seconds() == 2


@pytest.mark.parametrize("clock", [Clock(), Reactor()])
def test_time_does_not_go_backwards(clock: Clock) -> None:
    with pytest.raises(ValueError, match="backwards"):
        Broker(clock=clock).advance(-1)


def test_both_are_functions_of_what_a_broker_has(broker: Broker) -> None:
    assert is_pending(settled(broker.clock, ()))
    assert is_pending(advance(broker.clock, (), 1))
