"""Dead letters: what becomes of messages that a queue drops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.logger import Logger

from txamqpx.broker.deaths import added, is_circle, told_by_headers, told_by_record
from txamqpx.broker.fields import EXPIRATION, HEADERS, parts_of, properties_of, table, table_fields
from txamqpx.broker.message import Death, Elaborate, Message
from txamqpx.broker.profile import Profile

__all__ = ["Burials", "Grave", "Letter"]


class Letter(Elaborate):
    """A dead letter on its way.

    Attributes:
        places: Queue and reason of the deaths that a circle is told by, the last one first.
    """

    __slots__ = ("places",)

    places: list[tuple[str, str]]


class Target(Protocol):
    """A queue, as a dead letter sees it."""

    @property
    def name(self) -> str:
        """Its name."""

    def publish(self, message: Message) -> bool:
        """Take a message."""


class Burials:
    """Sends the dead letters of a virtual host on their way, one after the other.

    One may be the death of another, and that of a third: here they wait for each other, and not in each
    other's calls.  They also wait while this is entered, as a context manager: a message is in all queues
    that it goes to before any of them sends a letter.

    Args:
        route: Finds the queues that a letter goes to; there are none if its exchange is not there.
    """

    log = Logger()

    def __init__(self, route: Callable[[Message], Iterable[Target]]) -> None:
        self.route = route
        self._waiting: deque[tuple[Letter, str]] = deque()
        self._held = 0

    def __enter__(self) -> None:
        """Let letters wait."""
        self._held += 1

    def __exit__(self, *reason: object) -> None:
        """Send what has waited."""
        try:
            while self._held == 1 and self._waiting:
                self._send(*self._waiting.popleft())
        finally:
            self._held -= 1

    def add(self, letter: Letter, reason: str) -> None:
        """Send a letter to where its exchange leads, but not round in a circle that no client is part of."""
        self._waiting.append((letter, reason))
        if not self._held:
            with self:
                pass

    def _send(self, letter: Letter, reason: str) -> None:
        for queue in self.route(letter):
            if reason != "rejected" and is_circle(queue.name, letter.places):
                self.log.debug("a dead letter is dropped: it has been in {queue} before", queue=queue.name)
            else:
                queue.publish(letter)


class Grave:
    """Where the dead letters of one queue go.

    Args:
        queue: The queue's name.
        exchange: The exchange.
        key: The routing key; None: that of the message.
        profile: Which RabbitMQ the broker can be taken for.
        now: Tells the time, in seconds since 1970.
        burials: Takes the letters.
    """

    __slots__ = ("_burials", "_exchange", "_key", "_now", "_profile", "_queue")

    def __init__(
        self,
        queue: str,
        exchange: str,
        key: str | None,
        *,
        profile: Profile,
        now: Callable[[], float],
        burials: Burials,
    ) -> None:
        self._queue = queue
        self._exchange = exchange
        self._key = key
        self._profile = profile
        self._now = now
        self._burials = burials

    def leads_anywhere(self, message: Message) -> bool:
        """Return whether there is a queue that a dead letter of a message would go to."""
        return any(True for _ in self._burials.route(self._letter(message, "", 0)))

    def bury(self, message: Message, reason: str, attempts: int) -> None:
        """Make a dead letter of a message, and send it on its way.

        Args:
            message: The message.
            reason: What it died of.
            attempts: How many attempts to deal with it have failed, this one included.
        """
        self._burials.add(self._letter(message, reason, attempts), reason)

    def _letter(self, message: Message, reason: str, attempts: int) -> Letter:
        profile = self._profile
        copies, blind = message.copies, message.blind
        keys = [*message.keys]
        for key in blind:
            keys.remove(key)  # as Erlang takes one list from another: the first that is equal
        death = Death(
            queue=self._queue,
            reason=reason,
            count=1,
            time=int(self._now()),
            exchange=message.exchange,
            keys=tuple(keys) if profile.deaths_recorded else (message.routing_key, *copies),
            ttl=message.ttl,
        )
        parts = parts_of(message.header)
        expiration = parts.pop(EXPIRATION, None)
        fields = table_fields(parts[HEADERS]) if HEADERS in parts else {}
        deaths: tuple[Death, ...] = ()
        if profile.deaths_recorded:
            deaths = added(message.deaths, death)
            told_by_record(fields, deaths, death, first=not message.deaths)
            places = [(one.queue, one.reason) for one in deaths]
        else:
            text = None if expiration is None else expiration[1:].decode("utf-8", "surrogateescape")
            places = told_by_headers(fields, death, text)
        if self._key is not None:
            copies = blind = ()
            if not profile.deaths_recorded:
                fields.pop(b"CC", None)
        parts[HEADERS] = table(dict(sorted(fields.items())))
        letter = Letter.of(
            self._exchange,
            message.routing_key if self._key is None else self._key,
            properties_of(parts),
            message.body,
            copies=copies,
            blind=blind,
            attempts=attempts if profile.attempts_recorded else 0,
            deaths=deaths,
        )
        assert isinstance(letter, Letter)
        letter.places = places
        return letter
