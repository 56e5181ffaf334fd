"""Whose turn it is to get a queue's next message."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator

from txamqpx.broker.consumer import Consumer

__all__ = ["SingleActive", "Turns"]


class Turns:
    """A queue's consumers: the highest priority first, and equals in turn.

    Who cannot take a message leaves the line, and joins it again at its end: an ack gives back a turn, not
    the place that was lost (as RabbitMQ has it).
    """

    __slots__ = ("_all", "_lines", "_out", "_ranks")

    def __init__(self) -> None:
        self._all: dict[Consumer, None] = {}
        # One line for each priority, the highest first, and the priorities, negated, to find it by.
        self._lines: list[deque[Consumer]] = []
        self._ranks: list[int] = []
        self._out: dict[Consumer, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._all)

    def __contains__(self, consumer: object) -> bool:
        return consumer in self._all

    @property
    def active(self) -> Consumer | None:
        """The one that alone gets messages; None: all do."""
        return None

    def next(self) -> Consumer | None:
        """Return who takes the next message; None: nobody can."""
        for line in self._lines:
            while line:
                consumer = line[0]
                if consumer.unsettled < consumer.limit and consumer.consuming.can_take(consumer):
                    line.rotate(-1)
                    return consumer
                line.popleft()
                consumer.is_out = True
                self._out[consumer] = None
        return None

    def add(self, consumer: Consumer) -> None:
        """Let a consumer have its turns."""
        self._all[consumer] = None
        self._join(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Let a consumer have no more turns."""
        del self._all[consumer]
        line = self._line(consumer.priority)
        if consumer.is_out:
            consumer.is_out = False
            del self._out[consumer]
        else:
            line.remove(consumer)
        if not line:  # or each priority that ever was would be looked at for each message
            at = self._ranks.index(-consumer.priority)
            del self._ranks[at], self._lines[at]

    def clear(self) -> list[Consumer]:
        """Remove all consumers, and return them."""
        consumers = list(self._all)
        for consumer in consumers:
            self.remove(consumer)
        return consumers

    def rejoin(self, consumer: Consumer) -> None:
        """Let a consumer that is out of the line join it again, if it has credit."""
        if consumer.is_out and consumer.unsettled < consumer.limit:
            consumer.is_out = False
            del self._out[consumer]
            self._join(consumer)

    def paused(self, consumer: Consumer) -> None:
        """Take note that a consumer can take nothing for a while, however little it has."""

    def rejoin_all(self) -> None:
        """Let all who have credit join the line again, those who left it first ahead of the others."""
        for consumer in list(self._out):
            self.rejoin(consumer)

    def _join(self, consumer: Consumer) -> None:
        self._line(consumer.priority).append(consumer)

    def _line(self, priority: int) -> deque[Consumer]:
        rank = -priority
        if rank not in self._ranks:
            insort(self._ranks, rank)
            self._lines.insert(self._ranks.index(rank), deque())
        return self._lines[self._ranks.index(rank)]


class SingleActive(Turns):
    """Consumers of which one gets all messages until it ends, and then the next one.

    Args:
        by_priority: Whether the next one is that of the highest priority, and not only the oldest.
        takes_over: Whether one of a higher priority need not wait for the end, but only until the active one
            has settled what it has, for which that gets no more.
    """

    __slots__ = ("_active", "_by_priority", "_takes_over", "_yields")

    def __init__(self, *, by_priority: bool, takes_over: bool = False) -> None:
        super().__init__()
        self._by_priority = by_priority
        self._takes_over = takes_over
        self._active: Consumer | None = None
        # Whether it gets no more, because a better one waits for it to settle what it has.
        self._yields = False

    @property
    def active(self) -> Consumer | None:
        """The one that gets the messages now."""
        return self._active

    def next(self) -> Consumer | None:
        """Return the active one, if it can take a message."""
        consumer = self._active
        if consumer is None or self._yields:
            return None
        if consumer.unsettled < consumer.limit and consumer.consuming.can_take(consumer):
            return consumer
        consumer.is_out = True
        return None

    def add(self, consumer: Consumer) -> None:
        """Let a consumer wait for its turn, which may come at once."""
        self._all[consumer] = None
        self._elect()

    def remove(self, consumer: Consumer) -> None:
        """Let a consumer get no more, and another one be active if it was."""
        del self._all[consumer]
        self.paused(consumer)

    def rejoin(self, consumer: Consumer) -> None:
        """Take note that a consumer has settled something, or can take something again."""
        if consumer is not self._active:
            self._elect()
        elif not self._yields:
            consumer.is_out = False
        elif not consumer.unsettled:
            self.paused(consumer)

    def paused(self, consumer: Consumer) -> None:
        """Let another consumer be active if this one was, and if there is one that can be."""
        if consumer is self._active:
            consumer.is_out = self._yields = False
            self._active = None
            self._elect()

    def rejoin_all(self) -> None:
        """Take note that consumers can take something again."""

    def _elect(self) -> None:
        active = self._active
        best = min(
            (one for one in self._all if one is not active and one.limit), key=self._rank, default=None
        )
        if best is None:
            return
        if active is None:
            self._active = best
        elif self._takes_over and best.priority > active.priority:
            if active.unsettled:
                active.is_out = self._yields = True
            else:
                active.is_out = False
                self._active = best

    def _rank(self, consumer: Consumer) -> tuple[int, int]:
        if not self._by_priority:
            return 0, 0
        room = consumer.limit - consumer.unsettled if self._takes_over else 0
        return -consumer.priority, -room
