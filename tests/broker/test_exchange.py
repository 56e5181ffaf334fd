from __future__ import annotations

import random
from collections.abc import Hashable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import STANDARD, Binding, Rules, Topology, judge
from tests.oracle import Exchange as Described
from tests.toss import HEADER_VALUES, SHORT_KEYS, SHORT_PATTERNS, Toss
from txamqpx.broker.exchange import KINDS, Exchange, route


class Host:
    """The exchanges of a topology, and names for queues: as much of a virtual host as routing needs."""

    def __init__(self, described: Mapping[str, Described], rules: Rules) -> None:
        self.exchanges = {
            name: Exchange(
                name,
                one.kind,
                internal=one.internal,
                arguments={} if one.alternate is None else {"alternate-exchange": one.alternate},
                exact_headers=rules is Rules.SAME_TERMS,
            )
            for name, one in described.items()
        }

    def _ends(self, binding: Binding) -> tuple[Exchange, Hashable]:
        destination: Hashable = binding.destination
        if binding.to_exchange:
            destination = self.exchanges[binding.destination]
        return self.exchanges[binding.source], destination

    def bind(self, binding: Binding) -> bool:
        source, destination = self._ends(binding)
        return source.bind(destination, binding.routing_key, binding.arguments)

    def unbind(self, binding: Binding) -> bool:
        source, destination = self._ends(binding)
        return source.unbind(destination, binding.routing_key, binding.arguments)

    def route(self, exchange: str, key: str, headers: Mapping[str, Any]) -> list[str]:
        copies = [*headers.get("CC", ()), *headers.get("BCC", ())]
        keys = [key, *(copy for copy in copies if isinstance(copy, str))]
        seen = {name: value for name, value in headers.items() if name != "BCC"}
        way = route(self.exchanges[exchange], keys, lambda: seen, self.exchanges.get)
        assert len(way.queues) == len({*way.queues})
        return [*way.queues]


@settings(max_examples=80)
@given(st.randoms(use_true_random=False), st.sampled_from(Rules))
def test_it_agrees_with_the_oracle(dice: random.Random, rules: Rules) -> None:
    """On whole topologies with cycles and alternates, while bindings come and go."""
    toss = Toss(dice)
    host = Host(toss.sources, rules)
    for _ in range(2):
        for one in dice.sample([*toss.bindings], len(toss.bindings) // 3):
            assert host.unbind(toss.bindings.pop(one))
        for _ in range(dice.randrange(4, 20)):
            binding = toss.binding()
            assert host.bind(binding) is (repr(binding) not in toss.bindings)
            toss.bindings[repr(binding)] = binding
        for _ in range(dice.randrange(1, 10)):
            exchange, key, headers = toss.message()
            verdict = judge(toss.topology, exchange, key, headers, rules=rules)
            if exchange not in host.exchanges:
                continue
            if not verdict.refused:  # that it is, is for the virtual host to say
                assert frozenset(host.route(exchange, key, headers)) == verdict.queues


@pytest.mark.parametrize("by", ["queue", "exchange"])
def test_it_agrees_with_the_oracle_on_all_short_topics(by: str) -> None:
    described = {**STANDARD, **{pattern: Described("fanout") for pattern in SHORT_PATTERNS}}
    host = Host(described, Rules.SAME_TERMS)
    bindings = [Binding("amq.topic", one, one, to_exchange=by == "exchange") for one in SHORT_PATTERNS]
    if by == "exchange":
        bindings += [Binding(pattern, pattern) for pattern in SHORT_PATTERNS]
    assert len(SHORT_PATTERNS) * len(SHORT_KEYS) == 2070
    assert all(host.bind(binding) for binding in bindings)
    topology = Topology(described, SHORT_PATTERNS, bindings)
    for key in SHORT_KEYS:
        assert {*host.route("amq.topic", key, {})} == judge(topology, "amq.topic", key).queues


@pytest.mark.parametrize("rules", Rules)
def test_it_agrees_with_the_oracle_on_all_pairs_of_header_values(rules: Rules) -> None:
    host = Host(STANDARD, rules)
    names = [f"{number}" for number, _ in enumerate(HEADER_VALUES)]
    bindings = [
        Binding("amq.headers", name, "", {"h": value})
        for name, value in zip(names, HEADER_VALUES, strict=True)
    ]
    assert all(host.bind(binding) for binding in bindings)
    topology = Topology(queues=names, bindings=bindings)
    for value in HEADER_VALUES:
        verdict = judge(topology, "amq.headers", "", {"h": value}, rules=rules)
        assert {*host.route("amq.headers", "", {"h": value})} == verdict.queues


def no_headers() -> Mapping[str, Any]:
    raise AssertionError("headers are decoded for a headers exchange only")


@pytest.mark.parametrize("kind", sorted(KINDS - {"headers"}))
def test_headers_are_not_asked_for_in_vain(kind: str) -> None:
    exchange = Exchange("x", kind)
    exchange.bind("q", "a", {"h": 1})
    assert exchange.matching(["a"], no_headers) == ["q"]
    assert exchange.is_fickle is (kind == "x-local-random")


def test_a_headers_exchange_without_bindings_does_not_ask_for_headers() -> None:
    exchange = Exchange("x", "headers")
    assert exchange.is_fickle
    assert exchange.matching(["a"], no_headers) == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_bindings_come_and_go(kind: str) -> None:
    exchange = Exchange("x", kind)
    used = [exchange.is_used]
    assert exchange.bind("q", "a", {"h": 1, "i": 2})
    assert not exchange.bind("q", "a", {"i": 2, "h": 1})
    for other in ({"h": True, "i": 2}, {"h": 1.0, "i": 2}, {"h": 1}):
        assert exchange.bind("q", "a", other)
        assert not exchange.bind("q", "a", other)
    assert exchange.bind("q", "b", {"h": 1})
    assert exchange.bind("r", "a", {"h": 1})
    assert len([*exchange.bindings()]) == 6
    found = exchange.matching(["a"], lambda: {"h": 1})
    assert len(found) == len({*found})
    assert {*found} <= {"q", "r"}
    for other in ({"h": True, "i": 2}, {"h": 1.0, "i": 2}, {"h": 1}):
        assert exchange.unbind("q", "a", other)
        assert not exchange.unbind("q", "a", other)
    assert not exchange.unbind("s", "a", {})
    assert {(one.destination, one.routing_key) for one in exchange.bindings()} == {
        ("q", "a"),
        ("q", "b"),
        ("r", "a"),
    }
    assert exchange.forget("q")
    assert not exchange.forget("q")
    assert exchange.matching(["a", "b"], lambda: {"h": 1}) == ["r"]
    used.append(exchange.is_used)
    assert exchange.unbind("r", "a", {"h": 1})
    used.append(exchange.is_used)
    assert used == [False, True, False]
    assert exchange.matching(["a", "b"], lambda: {"h": 1}) == []


def test_a_random_exchange_chooses_one() -> None:
    exchange = Exchange("x", "x-local-random")
    for name in "abc":
        exchange.bind(name, "", {})
    chosen = [exchange.matching(["any"], no_headers) for _ in range(200)]
    assert {len(one) for one in chosen} == {1}
    assert {one for (one,) in chosen} == {*"abc"}


def test_it_tells_what_it_is() -> None:
    assert repr(Exchange("events", "topic")) == "<Exchange 'events' (topic)>"
