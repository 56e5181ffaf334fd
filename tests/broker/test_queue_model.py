"""A queue does what a list would do that is sorted, trimmed and looked through after each step."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broker.yard import Mouth, Yard
from txamqpx.broker.consumer import Consumer
from txamqpx.broker.message import Entry

T = TypeVar("T")

# Eighths of a second, of which floats make exact sums.
TIMES = st.integers(0, 40).map(lambda eighths: eighths * 125)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "message_ttl": TIMES,
        "max_length": st.integers(0, 6),
        "max_length_bytes": st.integers(0, 20),
        "overflow": st.sampled_from(["drop-head", "reject-publish", "reject-publish-dlx"]),
        "max_priority": st.integers(1, 3),
    },
)
PUBLISH = st.tuples(st.just("publish"), st.integers(0, 5), st.none() | st.integers(0, 3), st.none() | TIMES)
GET = st.tuples(st.just("get"), st.sampled_from([False, False, True]))
SETTLE = st.tuples(st.sampled_from(["ack", "reject", "requeue", "requeue"]), st.integers(1, 15))
STEPS = st.lists(
    st.one_of(
        *[PUBLISH] * 4,
        *[GET] * 3,
        *[SETTLE] * 2,
        st.tuples(st.just("advance"), TIMES),
        st.tuples(st.just("purge")),
        st.tuples(st.just("consume"), st.integers(1, 3)),
    ),
    min_size=12,
    max_size=40,
)


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


class Real:
    """The queue itself, its messages told apart by their message_id."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.yard = Yard()
        self.graves = self.yard.queue("dead")
        self.queue = self.yard.queue(
            "jobs", dead_letter_exchange="", dead_letter_routing_key="dead", **config
        )
        self.mouth = Mouth()
        self.consumer: Consumer | None = None
        self.held: list[Entry] = []
        self.numbers = 0
        self.given = 0

    def publish(self, size: int, priority: int | None, ttl: int | None) -> bool:
        expiration = None if ttl is None else str(ttl)
        self.numbers += 1
        return self.yard.publish(
            self.queue,
            b"x" * size,
            message_id=str(self.numbers - 1),
            priority=priority,
            expiration=expiration,
        )

    def get(self, no_ack: bool) -> int | None:
        entry = self.queue.get(no_ack=no_ack)
        if entry is None:
            return None
        if not no_ack:
            self.held.append(entry)
        return number(entry)

    def settle(self, how: str, bits: int) -> None:
        chosen = chosen_of(self.held, bits)
        self.held = [entry for entry in self.held if entry not in chosen]
        for entry in chosen:
            if entry.consumer is not None and self.consumer is not None:
                self.consumer.unsettled -= 1
                self.queue.rejoin(self.consumer)
        if how == "requeue":
            self.queue.requeue(chosen, failed=True)
            return
        for entry in chosen:
            self.queue.ack(entry) if how == "ack" else self.queue.reject(entry)
        self.queue.dispatch()

    def purge(self) -> int:
        return self.queue.purge()

    def advance(self, milliseconds: int) -> None:
        self.yard.clock.advance(milliseconds / 1000)

    def consume(self, prefetch: int) -> None:
        self.consumer = self.mouth.consume(self.queue, prefetch=prefetch)

    @property
    def got(self) -> list[int]:
        return [number(entry) for entry in self.mouth.got]

    @property
    def dead(self) -> list[tuple[int, str]]:
        return [(number(entry), entry.message.deaths[0].reason) for entry in self.graves.ready]

    def take_deliveries(self) -> None:
        self.held += self.mouth.got[self.given :]
        self.given = len(self.mouth.got)


def number(entry: Entry) -> int:
    return int(entry.message.properties.message_id)


@settings(max_examples=250)
@given(CONFIGS, STEPS)
def test_a_queue_does_what_a_list_would_do(config: dict[str, Any], steps: list[tuple[Any, ...]]) -> None:
    real, model = Real(config), Sorted(config)
    for name, *arguments in steps:
        if name == "consume" and real.consumer is not None:
            continue
        if name in {"ack", "reject", "requeue"}:
            name, arguments = "settle", [name, *arguments]
        assert getattr(real, name)(*arguments) == getattr(model, name)(*arguments)
        real.take_deliveries()
        assert [number(entry) for entry in real.queue.ready] == [message.number for message in model.ready]
        assert (real.got, real.dead) == (model.got, model.dead)
        assert real.held == [*real.queue.unsettled] or {*real.held} == {*real.queue.unsettled}
        assert [number(entry) for entry in real.held] == [message.number for message in model.held]
    assert real.queue.ready.weight in {0, sum(len(entry.message.body) for entry in real.queue.ready)}
