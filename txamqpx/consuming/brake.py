"""What slows a connection down on which messages come faster than they are handled, and nothing is acked."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from txamqpx.connection import AMQPProtocol
from txamqpx.message import Delivery

__all__ = ["Brake"]

# From so many deliveries or bytes on that wait, reading pauses for a while at a time.
MANY = 1000
MANY_BYTES = 16 * 1024 * 1024

# From so many on it pauses until it is less.
TOO_MANY = 10_000
TOO_MANY_BYTES = 64 * 1024 * 1024

# How many seconds a pause lasts, if the handlers do not catch up before.
BREATH = 1.0

# How often, in seconds, the same is said again in the log.
REMINDER = 60.0


class Brake:
    """Pauses reading while too much waits for a handler.

    Prefetch bounds what waits; without acks nothing does but the pace at which the connection is read.
    A handler may wait for something else that comes on the same connection, so a pause has an end, until
    so much waits that memory counts for more: then handlers have to go on, or to fail, before reading does.

    Args:
        protocol: The connection.
        consumer: Whose handlers are too slow, for the log.
    """

    log = Logger()

    def __init__(self, protocol: AMQPProtocol, consumer: object) -> None:
        self._protocol = protocol
        self._consumer = consumer
        self._count = 0
        self._bytes = 0
        self._pause: IDelayedCall | None = None
        self._released = False
        # When what was said may be said again.
        self._reminders: dict[str, float] = {}

    def came(self, delivery: Delivery) -> None:
        """Count one that waits."""
        self._count += 1
        self._bytes += len(delivery.body)

    def went(self, delivery: Delivery) -> None:
        """Count one that waits no longer."""
        self._count -= 1
        self._bytes -= len(delivery.body)
        if self._pause is not None and not self._exceeds(MANY // 2, MANY_BYTES // 2):
            self._pause.cancel()
            self._read_on()

    def look(self) -> None:
        """Pause reading if too much waits."""
        if self._pause is None and self._exceeds(MANY, MANY_BYTES) and not self._released:
            self._say("as nothing is acked, all that can be done is not to read for a while at a time")
            self._protocol.pause_reading(self)
            self._pause = self._protocol.clock.callLater(BREATH, self._paused)

    def release(self) -> None:
        """Pause no more: the broker is to say that nothing else comes."""
        self._released = True
        if self._pause is not None:
            self._pause.cancel()
            self._read_on()

    def _exceeds(self, count: int, size: int) -> bool:
        return self._count > count or self._bytes > size

    def _paused(self) -> None:
        if not self._exceeds(TOO_MANY, TOO_MANY_BYTES):
            self._read_on()
            return
        self._say("the connection is not read until it is less")
        self._pause = self._protocol.clock.callLater(BREATH, self._paused)

    def _read_on(self) -> None:
        self._pause = None
        self._protocol.resume_reading(self)

    def _say(self, what: str) -> None:
        now = self._protocol.clock.seconds()
        if now < self._reminders.get(what, now):
            return
        self._reminders[what] = now + REMINDER
        self.log.warn(
            "{consumer}: {count} deliveries of {bytes} bytes wait, more than handlers keep up with; {what}: "
            "give it a connection of its own",
            consumer=self._consumer,
            count=self._count,
            bytes=self._bytes,
            what=what,
        )
