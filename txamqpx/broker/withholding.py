"""Confirms that come late, or not before somebody lets them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.tap import Tap
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.frames import METHOD, OVERHEAD, unpack_head
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicNack

__all__ = ["Withholding"]

# A broker has no others to say: the acks of deliveries are its clients'.
_CONFIRMS = frozenset(method.index.to_bytes(4, "big") for method in (BasicAck, BasicNack))

_HEADER = ord("A")


class Withholding:
    """Takes the confirms out of what a session writes, and sends them later.

    Args:
        tap: Where.
        clock: The broker's time.
        seconds: How much later; None: when it is ended.
        strike: Called for each confirm; False lets it pass.
    """

    def __init__(
        self, tap: Tap, clock: BrokerClock, seconds: float | None, strike: Callable[[], bool]
    ) -> None:
        self._tap = tap
        self._clock = clock
        self._seconds = seconds
        self._strike = strike
        self._kept: deque[tuple[ChannelCore | None, bytes]] = deque()
        self._timers: deque[IDelayedCall] = deque()
        tap.filters.append(self._filter)

    def end(self) -> None:
        """Send what is withheld, and withhold nothing more."""
        if self._filter in self._tap.filters:
            self._tap.filters.remove(self._filter)
            while self._timers:
                self._timers.popleft().cancel()
            self._send(len(self._kept))

    def _filter(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        kept = offset = 0
        while offset < len(data):
            kind, number, length = unpack_head(data, offset)
            if kind == _HEADER:  # the last word to a client that speaks something else
                passed.append(data[offset:])
                break
            start, offset = offset, offset + length + OVERHEAD
            if kind == METHOD and data[start + 7 : start + 11] in _CONFIRMS and self._strike():
                self._kept.append((self._tap.session.core.channels.get(number), data[start:offset]))
                kept += 1
            else:
                passed.append(data[start:offset])
        if kept and self._seconds is not None:
            self._timers.append(self._clock.callLater(self._seconds, self._due, kept))
        return b"".join(passed)

    def _due(self, count: int) -> None:
        self._timers.popleft()
        self._send(count)

    def _send(self, count: int) -> None:
        frames: list[bytes] = []
        for _ in range(count):
            channel, frame = self._kept.popleft()
            # The number may be another channel's by now, which has no such messages.
            if channel is not None and self._tap.session.core.channels.get(channel.number) is channel:
                frames.append(frame)
        self._tap.say(b"".join(frames))
