"""Confirms that come late; the client's side of it is in ``test_faults.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.withholding import Withholding
from txamqpx.protocol.frames import HEARTBEAT_FRAME, METHOD, body_frames, frame
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicGetEmpty, BasicNack

ACK = frame(METHOD, 1, BasicAck(1).encode())
NACK = frame(METHOD, 2, BasicNack(1).encode())
OTHER = frame(METHOD, 1, BasicGetEmpty().encode())
BODY = body_frames(1, ACK, 0)


class Numbered:
    def __init__(self, number: int) -> None:
        self.number = number


class Tap:
    """As much of a tap, its session and its core as is looked at."""

    def __init__(self) -> None:
        self.filters: list[Callable[[bytes], bytes]] = []
        self.said: list[bytes] = []
        self.session = self.core = self
        self.channels: dict[int, Any] = {1: Numbered(1), 2: Numbered(2)}

    def say(self, data: bytes) -> None:
        self.said.append(data)

    def write(self, data: bytes) -> bytes:
        (change,) = self.filters
        return change(data)


@pytest.fixture
def tap() -> Any:
    return Tap()


def test_confirms_are_taken_out_and_everything_else_passes(tap: Any) -> None:
    struck: list[bool] = []
    withholding = Withholding(tap, BrokerClock(Clock()), None, lambda: not struck.append(True))  # type: ignore[func-returns-value]
    assert tap.write(OTHER + ACK + BODY + HEARTBEAT_FRAME + NACK) == OTHER + BODY + HEARTBEAT_FRAME
    assert tap.write(b"AMQP\0\0\x09\x01") == b"AMQP\0\0\x09\x01"
    assert len(struck) == 2
    withholding.end()
    withholding.end()
    assert tap.said == [ACK + NACK]
    assert tap.filters == []


def test_those_that_are_not_struck_pass(tap: Any) -> None:
    Withholding(tap, BrokerClock(Clock()), None, lambda: False)
    assert tap.write(ACK + NACK) == ACK + NACK


def test_each_comes_when_it_is_due(tap: Any) -> None:
    clock = Clock()
    withholding = Withholding(tap, BrokerClock(clock), 2, lambda: True)
    tap.write(ACK + ACK)
    clock.advance(1)
    tap.write(NACK)
    clock.advance(1)
    assert tap.said == [ACK + ACK]
    withholding.end()
    assert tap.said == [ACK + ACK, NACK]
    assert clock.getDelayedCalls() == []


def test_what_was_for_a_channel_that_is_gone_is_not_said_to_its_successor(tap: Any) -> None:
    withholding = Withholding(tap, BrokerClock(Clock()), None, lambda: True)
    tap.write(ACK + NACK)
    tap.channels = {1: Numbered(1)}
    tap.write(NACK)
    tap.channels[2] = Numbered(2)
    tap.write(NACK)
    withholding.end()
    assert tap.said == [NACK]
