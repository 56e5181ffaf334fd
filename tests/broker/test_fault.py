"""Faults: what they tell of themselves, and where they strike."""

from __future__ import annotations

import pytest

from tests.broker.company import Company
from txamqpx.broker.fault import Fault, Spot
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicPublish
from txamqpx.testing.outcomes import is_pending, success_of


def test_a_fault_strikes_as_often_as_was_said() -> None:
    fault = Fault("it rains", times=2)
    assert repr(fault) == "<Fault: it rains; active, struck 0x>"
    assert [fault.strike() for _ in range(3)] == [True, True, False]
    assert fault.struck == 2
    assert fault.over
    assert repr(fault) == "<Fault: it rains; over, struck 2x>"


def test_a_fault_without_end_strikes_until_it_is_lifted() -> None:
    fault = Fault("it rains", times=None)
    undone: list[str] = []
    fault.undo(lambda: undone.append("dried"))
    assert all(fault.strike() for _ in range(100))
    assert not fault.over
    fault.lift()
    fault.lift()
    assert undone == ["dried"]
    assert not fault.strike()
    assert repr(fault) == "<Fault: it rains; lifted, struck 100x>"


def test_a_fault_that_never_strikes_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="once at least"):
        Fault("it rains", times=0)


def test_who_waits_for_it_is_told() -> None:
    fault = Fault("it rains")
    waiting, cancelled = fault.when_struck(), fault.when_struck()
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()
    assert is_pending(waiting)
    fault.strike()
    assert success_of(waiting) is fault
    assert success_of(fault.when_struck()) is fault


def test_a_fault_concerns_the_connections_that_it_is_on() -> None:
    company = Company()
    company.connect()
    company.connect()
    one, other = (view.tap for view in company.broker.connections)
    everywhere, here, next_time = Fault("", "all"), Fault("", one), Fault("", "next")
    assert [fault.concerns(one) for fault in (everywhere, here, next_time)] == [True, True, False]
    assert [fault.concerns(other) for fault in (everywhere, here, next_time)] == [True, False, False]
    everywhere.lift()
    assert not everywhere.concerns(one)


@pytest.mark.parametrize(
    ("place", "meaning", "text"),
    [
        ((3, None, None, None), (3, 0, 0, "broker"), "at frame 3, byte 0, of what the broker says"),
        ((None, None, 17, "client"), (None, 0, 17, "client"), "at byte 17 of what the client says"),
        (
            (None, "basic.publish", None, None),
            (1, BasicPublish.index, 0, "client"),
            "at basic.publish 1, byte 0, of what the client says",
        ),
        (
            (2, "basic.ack", -1, "broker"),
            (2, BasicAck.index, -1, "broker"),
            "at basic.ack 2, byte -1, of what the broker says",
        ),
        ((None, "basic.deliver", None, None), None, "at basic.deliver 1, byte 0, of what the broker says"),
    ],
)
def test_a_spot_is_where_it_is_named(
    place: tuple[int | None, str | None, int | None, str | None],
    meaning: tuple[int | None, int, int, str] | None,
    text: str,
) -> None:
    spot = Spot(*place)
    assert str(spot) == text
    assert meaning in (None, (spot.frame, spot.method, spot.byte, spot.sent_by))


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ((0, None, None, None), "counted from 1"),
        ((None, None, -1, None), "no end yet"),
        ((None, "basic.nope", None, None), "no method"),
        ((None, "basic.ack", None, None), "said by both sides"),
        ((1, None, None, "peer"), "'client' or 'broker', not 'peer'"),
    ],
)
def test_a_spot_that_makes_no_sense_is_a_mistake(
    place: tuple[int | None, str | None, int | None, str | None], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Spot(*place)
