"""What was published: the last of it, kept for who asks afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from math import inf
from typing import Any

from attrs import frozen

from txamqpx.broker.message import Message
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Gate", "History", "PublishedMessage"]

#: How much is kept at most: messages, and bytes of their bodies and properties.
MOST_MESSAGES = 10_000
MOST_BYTES = 16 * 1024 * 1024

# How much of a history, and of a body, an error shows.
_SHOWN = 10
_LONGEST_BODY = 80

# Among so many of the last ones the nearest is looked for, which takes a tenth of a millisecond each.
_COMPARED = 500

#: Says whether a message is taken, by its session and by whether it will be confirmed.
Gate = Callable[[Message, object, bool], bool]


@frozen(kw_only=True)
class PublishedMessage:
    """A message as it was published.

    Attributes:
        vhost: The virtual host.
        exchange: The exchange that it was published to.
        routing_key: Its routing key.
        body: Its body.
        properties: Its properties.
    """

    vhost: str
    exchange: str
    routing_key: str
    body: bytes
    properties: BasicProperties

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers; empty if it has none."""
        return self.properties.headers or {}

    def __str__(self) -> str:
        body = self.body if len(self.body) <= _LONGEST_BODY else self.body[:_LONGEST_BODY] + b"..."
        headers = f", headers={dict(self.headers)!r}" if self.headers else ""
        return f"exchange={self.exchange!r}, routing_key={self.routing_key!r}, body={body!r}{headers}"


class History:
    """The messages that the broker's clients have published, in their order, as far as they are kept.

    Those count that were for an exchange that there is; what became of them is another matter.
    """

    def __init__(self, most_messages: int = MOST_MESSAGES, most_bytes: int = MOST_BYTES) -> None:
        self._messages: deque[tuple[str, Message]] = deque()
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._bytes = 0
        #: How many older messages were forgotten.
        self.forgotten = 0
        #: Who may refuse messages, which then count as not published.
        self.gates: list[Gate] = []
        #: Called with each message for which there is no room left.
        self.on_full: Callable[[], object] = lambda: None
        self._room = self._places = inf

    def admit(self, vhost: str, message: Message, session: object, confirm: bool) -> bool:
        """Note a message that was published; return False if it is not to be taken.

        Args:
            vhost: The virtual host.
            message: The message.
            session: The connection that it came from.
            confirm: Whether its publisher will be told whether it was taken.
        """
        if self.gates:
            for gate in tuple(self.gates):
                if not gate(message, session, confirm):
                    return False
        size = len(message.body) + len(message.header)
        self._messages.append((vhost, message))
        self._bytes += size
        self._room -= size
        self._places -= 1
        while self._bytes > self._most_bytes or len(self._messages) > self._most_messages:
            _, oldest = self._messages.popleft()
            self._bytes -= len(oldest.body) + len(oldest.header)
            self.forgotten += 1
        if self._room < 0 or self._places < 0:
            self.on_full()
        return True

    def leave_room(self, size: float, messages: float) -> None:
        """Say how much may be published before ``on_full`` is called."""
        self._room, self._places = size, messages

    def clear(self) -> None:
        """Forget all, as if nothing had been published yet."""
        self._messages.clear()
        self._bytes = self.forgotten = 0

    def __iter__(self) -> Iterator[PublishedMessage]:
        for vhost, message in self._messages:
            yield PublishedMessage(
                vhost=vhost,
                exchange=message.exchange,
                routing_key=message.routing_key,
                body=message.body,
                properties=message.properties,
            )

    def find(self, **wanted: Any) -> list[PublishedMessage]:
        """Return the messages that have all that is wanted, in their order.

        Args:
            **wanted: Attributes of ``PublishedMessage``; None: whatever.  Of headers it is those named that
                have to be there.
        """
        return [message for message in self if not _lacking(message, wanted)]

    def check(self, count: int | None, **wanted: Any) -> list[PublishedMessage]:
        """Return the messages that ``find`` finds.

        Args:
            count: How many there have to be; None: one at least.
            **wanted: As for ``find``.

        Raises:
            AssertionError: There are none, or not as many; it says what there is instead.
        """
        found = self.find(**wanted)
        if len(found) == count or (count is None and found):
            return found
        named = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value is not None)
        number = "no message" if not found else f"{len(found)} messages" if len(found) > 1 else "one message"
        lines = [
            f"{number} with {named or 'anything'} {'were' if len(found) > 1 else 'was'} published"
            + (f", not {count}" if count is not None else "")
        ]
        others = list(self)
        if not found and others:
            nearest = min(others[-_COMPARED:], key=lambda message: _distance(message, wanted))
            lacking = "; ".join(
                f"its {name} is {have!r}" for name, (have, _) in sorted(_lacking(nearest, wanted).items())
            )
            lines.append(f"the nearest is {nearest}, but {lacking}")
        if not others:
            lines.append("nothing was published")
        else:
            lines.append(f"published were, the last ones of {len(others) + self.forgotten}:")
            lines += [f"  {message}" for message in others[-_SHOWN:]]
        if self.forgotten:
            lines.append(f"{self.forgotten} older messages are forgotten, and may have been among them")
        raise AssertionError("\n".join(lines))


def _lacking(message: PublishedMessage, wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what a message has instead of what is wanted, and what that is, by name."""
    lacking: dict[str, tuple[Any, Any]] = {}
    for name, value in wanted.items():
        if value is None:
            continue
        have = getattr(message, name)
        if name == "headers":
            for key, header in value.items():
                if key not in have or have[key] != header:
                    lacking[f"header {key!r}"] = have.get(key), header
        elif have != value:
            lacking[name] = have, value
    return lacking


def _distance(message: PublishedMessage, wanted: Mapping[str, Any]) -> float:
    return sum(
        2 - SequenceMatcher(None, repr(have)[:500], repr(value)[:500]).ratio()
        for have, value in _lacking(message, wanted).values()
    )
