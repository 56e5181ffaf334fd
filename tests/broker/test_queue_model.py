"""A queue does what a list would do that is sorted, trimmed and looked through after each step."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broker.queue_model import Sorted, chosen_of
from tests.broker.yard import Mouth, Yard
from txamqpx.broker.consumer import Consumer
from txamqpx.broker.message import Entry

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
