from __future__ import annotations

import pytest

from tests.consuming.stage import Stage
from txamqpx.consuming.window import Window, watched
from txamqpx.message import Delivery


@pytest.mark.covers("S22")
def test_a_window_has_room_when_one_of_its_own_is_settled() -> None:
    stage, got, told = Stage(), list[Delivery](), list[int]()
    consumer = stage.consume(got.append, ack="manual")
    stage.deliver(b"1", b"2", b"3")
    assert consumer.channel is not None
    core = consumer.channel.core
    window = Window(2, lambda: told.append(1))
    window.watch(core, got[:1])
    full = [window.is_full]
    window.hand_out(got[1])
    full.append(window.is_full)
    got[2].ack()  # which it does not count
    assert told == []
    got[0].reject()
    assert told == [1]
    full.append(window.is_full)
    window.size = 1
    assert [*full, window.is_full] == [False, True, False, True]


def test_a_ledger_is_watched_once() -> None:
    stage = Stage()
    consumer = stage.consume(lambda delivery: None, ack="manual")
    assert consumer.channel is not None
    core = consumer.channel.core
    assert watched(core) is watched(core) is core.unsettled
