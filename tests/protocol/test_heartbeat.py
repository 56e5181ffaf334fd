from __future__ import annotations

import pytest

from txamqpx.protocol.heartbeat import dead_at, send_at


@pytest.mark.covers("T-HB-01")
def test_a_heartbeat_is_due_after_half_an_interval_of_silence() -> None:
    assert send_at(60, 1000.0) == 1030.0
    assert send_at(1, 1000.0) == 1000.5


@pytest.mark.covers("T-HB-01")
def test_a_peer_is_dead_after_two_intervals_of_silence() -> None:
    assert dead_at(60, 1000.0) == 1120.0
    assert dead_at(1, 1000.0) == 1002.0
