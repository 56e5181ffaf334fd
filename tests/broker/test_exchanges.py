from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broker.yard import PROFILES, Yard
from tests.oracle import DEFAULT_EXCHANGE, Rules, judge
from tests.toss import QUEUES, Toss
from txamqpx.broker import exchange as ways
from txamqpx.broker import exchanges as module
from txamqpx.broker.accepting import accept
from txamqpx.broker.exchanges import Exchanges
from txamqpx.broker.message import Message
from txamqpx.broker.profile import profile_named
from txamqpx.broker.refusal import Refusal
from txamqpx.spec.amqp0_9_1 import BasicProperties

NEW = profile_named(PROFILES[1])


def have(right: str, kind: str, name: str) -> None:
    """Have all rights."""


def declare(exchanges: Exchanges, name: str, kind: str = "direct", **features: Any) -> None:
    given_ = {
        "durable": False,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
        "demand": have,
        **features,
    }
    exchanges.declare(name, kind, **given_)


def message(exchange: str, key: str = "", headers: Mapping[str, Any] | None = None) -> Message:
    made = Message.made(exchange, key, BasicProperties(headers=headers), b"")
    return accept(made, NEW)


@pytest.fixture
def exchanges() -> Exchanges:
    return Exchanges("vhost '/'", NEW)


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.sampled_from([*zip(PROFILES, Rules, strict=True)]))
def test_it_agrees_with_the_oracle_whatever_changes(dice: random.Random, release: tuple[str, Rules]) -> None:
    """Each message is routed twice between changes: what was found once is known until something changes."""
    name, rules = release
    toss = Toss(dice)
    exchanges = Exchanges("vhost '/'", profile_named(name))
    yard = Yard(name)
    queues = {queue: yard.queue(queue) for queue in QUEUES}
    for exchange, one in toss.exchanges.items():
        alternate = {} if one.alternate is None else {"alternate-exchange": one.alternate}
        declare(exchanges, exchange, one.kind, internal=one.internal, arguments=alternate)
    messages = [toss.message() for _ in range(6)]
    for _ in range(6):
        if toss.bindings and dice.random() < 0.4:
            binding = toss.bindings.pop(dice.choice([*toss.bindings]))
            change = exchanges.unbind
        else:
            binding = toss.binding()
            toss.bindings[repr(binding)] = binding
            change = exchanges.bind
        destination: Any = queues.get(binding.destination)
        if binding.to_exchange:
            destination = exchanges[binding.destination]
        change(exchanges[binding.source], destination, binding.routing_key, binding.arguments)
        for exchange, key, headers in messages * 2:
            verdict = judge(toss.topology, exchange, key, headers, rules=rules)
            if exchange != DEFAULT_EXCHANGE and verdict.refused in {0, 403}:
                try:
                    sent = message(exchange, key, headers)
                except Refusal:
                    continue
                if verdict.refused:
                    continue  # to internal exchanges only other exchanges and dead letters go
                found = exchanges.route(sent)
                assert {queue.name for queue in found} == verdict.queues
                assert len(found) == len(verdict.queues)


def test_what_was_found_is_forgotten_with_every_change(exchanges: Exchanges) -> None:
    yard = Yard()
    jobs, spare = yard.queue("jobs"), yard.queue("spare")
    declare(exchanges, "x", arguments={"alternate-exchange": "y"})
    sent = message("x", "k")
    assert exchanges.route(sent) == []
    declare(exchanges, "y", "fanout")
    exchanges.bind(exchanges["y"], spare, "", {})
    assert exchanges.route(sent) == [spare]
    exchanges.bind(exchanges["x"], jobs, "k", {})
    assert exchanges.route(sent) == [jobs]
    exchanges.bind(exchanges["x"], exchanges["y"], "k", {})
    assert exchanges.route(sent) == [jobs, spare]
    exchanges.forget(jobs)
    assert exchanges.route(sent) == [spare]
    exchanges.delete("y", if_unused=False, demand=have)
    assert exchanges.route(sent) == []
    exchanges.delete("x", if_unused=False, demand=have)
    assert exchanges.route(sent) == ()


def test_an_exchange_that_comes_late_shows_the_way_on(exchanges: Exchanges) -> None:
    """It has no bindings of its own yet, but an alternate."""
    jobs = Yard().queue("jobs")
    exchanges.bind(exchanges["amq.fanout"], jobs, "", {})
    declare(exchanges, "x", arguments={"alternate-exchange": "late"})
    assert exchanges.route(message("x")) == []
    declare(exchanges, "late", arguments={"alternate-exchange": "amq.fanout"})
    assert exchanges.route(message("x")) == [jobs]


@pytest.mark.parametrize("profile", PROFILES)
def test_each_release_compares_headers_in_its_way(profile: str) -> None:
    exchanges, jobs = Exchanges("vhost '/'", profile_named(profile)), Yard().queue("jobs")
    for name in ("amq.headers", "amq.match"):
        exchanges.bind(exchanges[name], jobs, "", {"h": 1})
        found = exchanges.route(message(name, headers={"h": 1.0}))
        assert [*found] == ([jobs] if profile == PROFILES[0] else [])


def test_a_way_that_was_found_is_not_looked_for_again(
    exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Yard().queue("jobs")
    exchanges.bind(exchanges["amq.direct"], jobs, "k", {})
    looked: list[str] = []
    route = ways.route

    def watched(start: Any, keys: Any, *rest: Any) -> Any:
        looked.extend(keys)
        return route(start, keys, *rest)

    monkeypatch.setattr(module, "route", watched)
    for key in ("k", "k", "other", "k", "other"):
        exchanges.route(message("amq.direct", key))
    assert looked == ["k", "other"]
    assert exchanges.route(message("amq.direct", "other", {"CC": ["k"]})) == [jobs]
    assert exchanges.route(message("amq.direct", "other")) == []


def test_headers_are_compared_each_time(exchanges: Exchanges) -> None:
    jobs = Yard().queue("jobs")
    exchanges.bind(exchanges["amq.headers"], jobs, "", {"h": 1})
    found = [exchanges.route(message("amq.headers", "k", {"h": value})) for value in (1, 2, 1)]
    assert found == [[jobs], [], [jobs]]


def test_what_is_known_of_keys_does_not_grow_with_them(
    exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_ROUTES", 10)
    for number in range(25):
        exchanges.route(message("amq.direct", str(number)))
    assert len(exchanges._routes) <= 10


def test_exchanges_that_go_with_their_last_binding_take_others_along(exchanges: Exchanges) -> None:
    jobs = Yard().queue("jobs")
    for name in ("a", "b", "c", "stays"):
        declare(exchanges, name, auto_delete=name != "stays")
    exchanges.bind(exchanges["stays"], exchanges["a"], "", {})
    exchanges.bind(exchanges["a"], exchanges["b"], "", {})
    exchanges.bind(exchanges["b"], exchanges["c"], "", {})
    exchanges.bind(exchanges["c"], exchanges["a"], "", {})
    exchanges.bind(exchanges["c"], jobs, "", {})
    exchanges.unbind(exchanges["c"], exchanges["a"], "", {})
    assert all(name in exchanges for name in "abc")
    exchanges.forget(jobs)
    assert not any(name in exchanges for name in "abc")
    assert "stays" in exchanges
    assert not exchanges["stays"].is_used


def test_a_long_chain_of_exchanges_goes_at_once(exchanges: Exchanges) -> None:
    jobs = Yard().queue("jobs")
    names = [str(number) for number in range(1000)]
    for name in names:
        declare(exchanges, name, auto_delete=True)
    for name, following in pairwise(names):
        exchanges.bind(exchanges[name], exchanges[following], "", {})
    exchanges.bind(exchanges[names[-1]], jobs, "", {})
    exchanges.forget(jobs)
    assert not any(name in exchanges for name in names)


def test_exchanges_in_a_circle_go_together(exchanges: Exchanges) -> None:
    for name in ("a", "b"):
        declare(exchanges, name, auto_delete=True)
    exchanges.bind(exchanges["a"], exchanges["b"], "", {})
    exchanges.bind(exchanges["b"], exchanges["a"], "", {})
    exchanges.unbind(exchanges["a"], exchanges["b"], "", {})
    assert "a" not in exchanges
    assert "b" not in exchanges


def test_bindings_of_a_random_exchange(exchanges: Exchanges) -> None:
    declare(exchanges, "any", "x-local-random")
    jobs = Yard().queue("jobs")
    exchanges.check_binding(exchanges["any"], jobs, "", {})
    jobs.kind = "quorum"  # type: ignore[misc]
    for destination, key, reason in (
        (jobs, "k", "Non empty binding 'k' key not permitted"),
        (jobs, "", "Queue type rabbit_quorum_queue not valid for this exchange type"),
        (exchanges["amq.fanout"], "", "Destination not found"),
    ):
        with pytest.raises(Refusal, match=f"406 PRECONDITION_FAILED - {reason}"):
            exchanges.check_binding(exchanges["any"], destination, key, {})


def test_a_type_with_a_hyphen_is_quoted_twice(exchanges: Exchanges) -> None:
    declare(exchanges, "x")
    with pytest.raises(Refusal, match="received ''x-local-random'' but current is 'direct'"):
        declare(exchanges, "x", "x-local-random")
