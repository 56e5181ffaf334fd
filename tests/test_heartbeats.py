"""Heartbeats, as both sides see them."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests.talk import nothing_is_left, opened
from txamqpx.errors import (
    HeartbeatTimeout,
    OutcomeUnknown,
    RPCTimeout,
)
from txamqpx.protocol.frames import HEARTBEAT_FRAME
from txamqpx.spec.amqp0_9_1 import (
    ConnectionBlocked,
    ConnectionClose,
    ConnectionOpenOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import failure_of, is_pending, scripted, success_of


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
