"""How much the broker may hold: above it publishers wait, as they do for a RabbitMQ short of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.history import History
from txamqpx.broker.message import Message

__all__ = ["MANY_MESSAGES", "MEMORY_LIMIT", "Alarmed", "MemoryLimit"]

#: What the queues may hold by default, in bytes of bodies and properties: enough for any test, and little
#: enough for the machine that it runs on.
MEMORY_LIMIT = 256 * 1024 * 1024

#: Above so many messages a warning is logged: a queue that nobody consumes from is mostly a mistake, and each
#: message costs some hundred bytes that are not counted.
MANY_MESSAGES = 1_000_000

# How often it is looked whether there is room again, in seconds.
_LOOK = 1.0


class Alarmed(Protocol):
    """Who keeps publishers from publishing."""

    def set_alarm(self, source: str = "memory") -> None:
        """Block who publishes."""

    def clear_alarm(self, source: str = "memory") -> None:
        """Let them publish again."""


class MemoryLimit:
    """Watches how much queues and transactions hold, and sets the alarm.

    To know it exactly all that they hold has to be looked at.  So that is done only when it may be too much:
    when, since the last look, as much was published as there was room for then.

    Args:
        broker: Who has the alarm.
        clock: The broker's time.
        history: Which counts what is published.
        messages: All that is held, once for each place where it is.
        most_bytes: How much they may hold.
        many_messages: How many messages are worth a warning.
    """

    log = Logger()

    def __init__(
        self,
        broker: Alarmed,
        clock: BrokerClock,
        history: History,
        messages: Callable[[], Iterable[Message]],
        most_bytes: int = MEMORY_LIMIT,
        many_messages: int = MANY_MESSAGES,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._history = history
        self._messages = messages
        self._most = most_bytes
        self._many = many_messages
        self._warned = False
        self._alarmed = False
        self._timer: IDelayedCall | None = None
        history.on_full = self.look
        history.leave_room(most_bytes, many_messages)

    def measure(self) -> tuple[int, int]:
        """Return how many bytes are held, a message that is in several places once, and how many messages."""
        sizes: dict[int, int] = {}
        count = 0
        for message in self._messages():
            sizes[id(message)] = len(message.body) + len(message.header)
            count += 1
        return sum(sizes.values()), count

    def look(self) -> None:
        """Set the alarm if too much is held, and clear it if that is over."""
        held, count = self.measure()
        if count > self._many and not self._warned:
            self._warned = True
            self.log.warn(
                "{count} messages are in the queues of an embedded broker, which keeps them all in memory",
                count=count,
            )
        if held <= self._most:
            self._history.leave_room(self._most - held, inf if self._warned else self._many - count)
            if self._alarmed:
                self._alarmed = False
                self._broker.clear_alarm("memory")
            return
        if not self._alarmed:
            self._alarmed = True
            self.log.warn(
                "an embedded broker holds {held} bytes, more than the {most} that it may: "
                "publishers are blocked",
                held=held,
                most=self._most,
            )
            self._broker.set_alarm("memory")
        self._history.leave_room(inf, inf)  # while nobody may publish, it is time that makes us look
        if self._timer is None:
            self._timer = self._clock.callLater(_LOOK, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look()

    def stop(self) -> None:
        """Look no more."""
        self._history.leave_room(inf, inf)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
