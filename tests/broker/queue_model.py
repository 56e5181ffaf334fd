"""A queue as a list: sorted, trimmed and looked through after each step."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

T = TypeVar("T")


def chosen_of(held: list[T], bits: int) -> list[T]:
    """Return some of what is held: the first four are the bits of a number, the others go with the last."""
    return [one for place, one in enumerate(held) if bits >> min(place, 3) & 1]


@attrs.define(eq=False)
class Plain:
    """A message, as the list sees it."""

    number: int
    size: int
    priority: int
    expires: float


class Sorted:
    """A queue that takes no care of its time: everything is looked through after each step."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.now = 0
        self.numbers = 0
        self.ready: list[Plain] = []
        self.held: list[Plain] = []
        self.dead: list[tuple[int, str]] = []
        self.got: list[int] = []
        self.credit = 0
        self.of_consumer: set[Plain] = set()

    def publish(self, size: int, priority: int | None, ttl: int | None) -> bool:
        ttls = [one for one in (ttl, self.config.get("message_ttl")) if one is not None]
        level = min(priority or 0, self.config.get("max_priority", 0))
        self.numbers += 1
        message = Plain(self.numbers - 1, size, level, self.now + min(ttls) if ttls else float("inf"))
        refuses = self.config.get("overflow", "drop-head")
        if refuses != "drop-head" and self._is_too_much([*self.ready, message]):
            if refuses == "reject-publish-dlx":
                self.dead.append((message.number, "maxlen"))
            return False
        if not self.ready and self.credit:
            self._give(message)
            return True
        self.ready.append(message)
        self._look()
        return True

    def get(self, no_ack: bool) -> int | None:
        if not self.ready:
            return None
        message = self.ready.pop(0)
        if not no_ack:
            self.held.append(message)
        self._look()
        return message.number

    def settle(self, how: str, bits: int) -> None:
        chosen = chosen_of(self.held, bits)
        self.held = [message for message in self.held if message not in chosen]
        self.credit += len(self.of_consumer & set(chosen))
        self.of_consumer -= set(chosen)
        if how == "requeue":
            self.ready += chosen
        elif how == "reject":
            self.dead += [(message.number, "rejected") for message in chosen]
        self._look()

    def purge(self) -> int:
        count = len(self.ready)
        self.ready = []
        return count

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds
        self._look()

    def consume(self, prefetch: int) -> None:
        self.credit = prefetch
        self._look()

    def _look(self) -> None:
        self.ready.sort(key=lambda message: (-message.priority, message.number))
        while self.config.get("overflow", "drop-head") == "drop-head" and self._is_too_much(self.ready):
            self.dead.append((self.ready.pop(0).number, "maxlen"))
        while True:
            while self.ready and self.ready[0].expires <= self.now:
                self.dead.append((self.ready.pop(0).number, "expired"))
            if not self.ready or not self.credit:
                return
            self._give(self.ready.pop(0))

    def _give(self, message: Plain) -> None:
        self.credit -= 1
        self.got.append(message.number)
        self.held.append(message)
        self.of_consumer.add(message)

    def _is_too_much(self, messages: list[Plain]) -> bool:
        most, heaviest = self.config.get("max_length"), self.config.get("max_length_bytes")
        weight = sum(message.size for message in messages)
        return (most is not None and len(messages) > most) or (heaviest is not None and weight > heaviest)
