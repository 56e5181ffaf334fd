"""A real broker routes as the oracle says: whole topologies, thrown together at random, and all short topics.

`--topologies 1000` takes more of them than a usual run does, and `--routing-seed` repeats one.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.integration.support import all_of, another, depth, failure_of, is_since, outcomes
from tests.oracle import Binding, Exchange, Rules, Topology, judge
from tests.toss import HEADER_VALUES, QUEUES, SHORT_KEYS, SHORT_PATTERNS, Toss
from txamqpx.channel import Channel
from txamqpx.errors import ChannelClosed, NoRoute, PreconditionFailed
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import BasicProperties


@attrs.define
class Broker:
    """The broker that is judged, as one channel of it sees it."""

    channel: Channel
    rules: Rules
    judged: Counter[str] = attrs.field(factory=Counter)
    _expected: defaultdict[str, list[bytes]] = attrs.field(factory=lambda: defaultdict(list))
    _sent: list[tuple[Any, str]] = attrs.field(factory=list)
    _changes: list[Deferred[Any]] = attrs.field(factory=list)

    async def build(self, exchanges: Mapping[str, Exchange], queues: Iterable[str]) -> None:
        """Declare everything anew, and so without a binding."""
        for name, exchange in exchanges.items():
            self._changes.append(self.channel.exchange_delete(name))
            arguments = None if exchange.alternate is None else {"alternate-exchange": exchange.alternate}
            declared = self.channel.exchange_declare(
                name, exchange.kind, internal=exchange.internal, durable=True, arguments=arguments
            )
            self._changes.append(declared)
        for queue in queues:
            self._changes.append(self.channel.queue_delete(queue))
            self._changes.append(self.channel.queue_declare(queue, durable=True))
        await self._changed()

    async def _changed(self) -> None:
        await all_of(self._changes)
        self._changes.clear()

    def bind(self, binding: Binding) -> None:
        self._binding(binding, "bind")

    def unbind(self, binding: Binding) -> None:
        self._binding(binding, "unbind")

    def _binding(self, binding: Binding, what: str) -> None:
        kind = "exchange" if binding.to_exchange else "queue"
        call = getattr(self.channel, f"{kind}_{what}")
        arguments = dict(binding.arguments)
        changed = call(binding.destination, binding.source, binding.routing_key, arguments=arguments)
        self._changes.append(changed)

    async def publish(
        self, topology: Topology, exchange: str, key: str = "", headers: Mapping[str, Any] | None = None
    ) -> None:
        """Publish a message, and expect of it what the oracle says; a refusal costs a channel of its own."""
        verdict = judge(topology, exchange, key, headers, rules=self.rules)
        publisher = await another(self.channel, confirms=True) if verdict.refused else self.channel
        body = str(sum(self.judged.values())).encode()
        told = f"message {body.decode()} to {exchange!r} with {key!r} and {headers}"
        properties = BasicProperties(headers=headers) if headers else None
        outcome = publisher.basic_publish(
            body, exchange=exchange, routing_key=key, properties=properties, mandatory=True
        )
        self._sent.append((outcome, told))
        if verdict.refused:
            (error,) = await outcomes([outcome])
            assert isinstance(error, ChannelClosed), told
            assert error.reply_code == verdict.refused, told
            self._sent.pop()
        for queue in verdict.queues:
            self._expected[queue].append(body)
        self.judged[f"{verdict.refused or min(len(verdict.queues), 2)}"] += 1

    async def compare(self, queues: Sequence[str]) -> None:
        """Look what came of all messages since the last look: where they are, and which were returned."""
        await self._changed()
        ends = await outcomes(outcome for outcome, _ in self._sent)
        reached = {body for bodies in self._expected.values() for body in bodies}
        for number, (end, (_, told)) in enumerate(zip(ends, self._sent, strict=True)):
            assert isinstance(end, Confirmed | NoRoute), f"{told}: {end!r}"
            body = told.split()[1].encode()
            assert isinstance(end, Confirmed) is (body in reached), f"{number}, {told}: {end!r}"
        found = dict(zip(queues, [await self._take(queue) for queue in queues], strict=True))
        expected = {queue: self._expected[queue] for queue in queues}
        assert found == expected, [told for _, told in self._sent]
        self._sent.clear()
        self._expected.clear()

    async def _take(self, queue: str) -> list[bytes]:
        # One more is asked for than is there.
        count = await depth(self.channel, queue)
        got = await all_of(self.channel.basic_get(queue, no_ack=True) for _ in range(count + 1))
        return [delivery.body for delivery in got if delivery is not None]


@pytest.fixture
def judged(vhost: Vhost, publisher: Channel) -> Broker:
    """The session's broker, empty."""
    return Broker(publisher, Rules.SAME_TERMS if is_since(vhost.node, "4.0") else Rules.EQUAL_TERMS)


# --------------------------------------------------------------------------- the tests


@pytest.mark.covers("S27", "S36", "S56")
@pytest_twisted.ensureDeferred
async def test_every_message_goes_where_the_oracle_says(judged: Broker, pytestconfig: pytest.Config) -> None:
    """Bindings come and go between the messages, and nobody waits for an answer."""
    first = pytestconfig.getoption("--routing-seed")
    if first is None:
        first = random.SystemRandom().randrange(2**32)
    for seed in range(first, first + pytestconfig.getoption("--topologies")):
        print(f"--routing-seed {seed} --topologies 1")
        toss = Toss(random.Random(seed))
        await judged.build(toss.exchanges, QUEUES)
        for _ in range(3):
            for one in toss.dice.sample([*toss.bindings], len(toss.bindings) // 3):
                judged.unbind(toss.bindings.pop(one))
            for _ in range(toss.dice.randrange(8, 25)):
                binding = toss.binding()
                judged.bind(binding)
                # By its text: to the broker 1 and True are not the same.
                toss.bindings[repr(binding)] = binding
            for _ in range(toss.dice.randrange(5, 25)):
                await judged.publish(toss.topology, *toss.message())
        for binding in toss.bindings.values():
            judged.unbind(binding)
        await judged.compare(QUEUES)
    print(dict(sorted(judged.judged.items())))
    for outcome in ("0", "1", "2", "403", "404", "406"):
        if pytestconfig.getoption("--topologies") >= 20:
            assert judged.judged[outcome], f"no message has met {outcome}"


@pytest.mark.covers("S56")
@pytest.mark.parametrize("by", ["queue", "exchange"])
@pytest_twisted.ensureDeferred
async def test_all_short_topics(judged: Broker, by: str) -> None:
    """Every pattern of up to three words against every key; then half of the patterns go, and all again."""
    inner = {f"to {pattern}": Exchange("fanout") for pattern in SHORT_PATTERNS} if by == "exchange" else {}
    exchanges = {"topics": Exchange("topic"), **inner}
    await judged.build(exchanges, patterns_named := [f"is {pattern}" for pattern in SHORT_PATTERNS])
    if by == "queue":
        bindings = [Binding("topics", f"is {pattern}", pattern) for pattern in SHORT_PATTERNS]
    else:
        bindings = [Binding("topics", f"to {one}", one, to_exchange=True) for one in SHORT_PATTERNS]
    further = [Binding(f"to {pattern}", f"is {pattern}") for pattern in SHORT_PATTERNS if by == "exchange"]
    for binding in (*bindings, *further):
        judged.bind(binding)
    for _ in range(2):
        topology = Topology(exchanges, patterns_named, (*bindings, *further))
        for key in SHORT_KEYS:
            await judged.publish(topology, "topics", key)
        await judged.compare(patterns_named)
        gone, bindings = bindings[::2], bindings[1::2]
        for binding in gone:
            judged.unbind(binding)


@pytest.mark.covers("S36")
@pytest_twisted.ensureDeferred
async def test_all_pairs_of_header_values(judged: Broker) -> None:
    """What equals what in a headers exchange, by the rules of the release."""
    exchanges = {"values": Exchange("headers")}
    names = [f"{number} {value!r}" for number, value in enumerate(HEADER_VALUES)]
    await judged.build(exchanges, names)
    bindings = [
        Binding("values", name, "", {"h": value}) for name, value in zip(names, HEADER_VALUES, strict=True)
    ]
    for binding in bindings:
        judged.bind(binding)
    topology = Topology(exchanges, names, bindings)
    for value in HEADER_VALUES:
        await judged.publish(topology, "values", "", {"h": value})
    await judged.publish(topology, "values")
    await judged.compare(names)


@pytest_twisted.ensureDeferred
async def test_how_many_wildcards_a_pattern_may_have(judged: Broker, vhost: Vhost) -> None:
    """Since 4.3 two at most stand for any number of words, so the pairs above have none with three."""
    await judged.build({}, ["jobs"])
    three = judged.channel.queue_bind("jobs", "amq.topic", "#.a.#.#")
    if is_since(vhost.node, "4.3"):
        error = await failure_of(three, PreconditionFailed)
        assert "at most 2 are allowed" in error.reply_text
        return
    await three
    await judged.publish(
        Topology(queues=["jobs"], bindings=[Binding("amq.topic", "jobs", "#.a.#.#")]), "amq.topic", "a"
    )
    await judged.compare(["jobs"])
