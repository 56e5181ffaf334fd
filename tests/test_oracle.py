from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    STANDARD,
    Binding,
    Exchange,
    Rules,
    Topology,
    Verdict,
    headers_match,
    judge,
    topic_matches,
)

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def topology(
    exchanges: dict[str, Exchange], *bindings: Binding, queues: tuple[str, ...] = ("q", "r")
) -> Topology:
    return Topology({**STANDARD, **exchanges}, queues, bindings)


def goes_to(*queues: str) -> Verdict:
    return Verdict(frozenset(queues))


# --------------------------------------------------------------------------- topics


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("", [""], ["a", ".", "a."]),
        ("a.b", ["a.b"], ["a", "a.b.", ".a.b", "a.c", "A.B", "aXb"]),
        ("*", ["a", "*", "#"], ["", "a.b", ".", "a."]),
        ("#", ["", "a", ".", "a.b.c", ".."], []),
        ("*.*", [".", "a.", ".a", "a.b"], ["", "a", "a.b.c"]),
        ("#.#", ["", "a", "a.b"], []),
        ("*.#", ["a", "a.b", "."], [""]),
        ("#.*", ["a", "a.b", "."], [""]),
        ("a.#", ["a", "a.b", "a.b.c", "a."], ["", "ab", "b.a"]),
        ("#.a", ["a", "b.a", ".a"], ["a.b", "a."]),
        ("a.#.b.*", ["a.b.x", "a.x.b.y", "a.b.b.b", "a.b."], ["", "a.b", "a.x.b", "x.a.b.y", "a.b.x.y"]),
        ("a.#.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b"]),
        ("a..b", ["a..b"], ["a.b", "a.x.b"]),
        ("#.", [".", "..", "a."], ["", "a"]),
        ("a*", ["a*"], ["ab", "a", "a.b"]),
        ("#b", ["#b"], ["ab", "a.b"]),
    ],
    ids=repr,
)
def test_topics(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    assert [key for key in fits if not topic_matches(pattern, key)] == []
    assert [key for key in fits_not if topic_matches(pattern, key)] == []


def matches_by_expression(pattern: str, key: str) -> bool:
    """Ask a regular expression, on texts in which a dot ends each word."""
    pieces = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    words = pattern.split(".") if pattern else []
    expression = "".join(pieces.get(word, re.escape(word) + r"\.") for word in words)
    return re.fullmatch(expression, f"{key}." if key else "") is not None


def dotted(*words: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), max_size=6).map(".".join)


@given(dotted("a", "b", "", "*", "#", "#", "a*", "+"), dotted("a", "b", "", "*", "#", "a*", "+"))
def test_a_regular_expression_agrees_on_topics(pattern: str, key: str) -> None:
    assert topic_matches(pattern, key) is matches_by_expression(pattern, key)


def test_a_regular_expression_agrees_on_all_short_topics() -> None:
    patterns = [".".join(words) for size in range(4) for words in product(("a", "", "*", "#"), repeat=size)]
    keys = [".".join(words) for size in range(5) for words in product(("a", "b", ""), repeat=size)]
    pairs = [(pattern, key) for pattern in patterns for key in keys]
    assert len(pairs) == 10_285
    assert [pair for pair in pairs if topic_matches(*pair) is not matches_by_expression(*pair)] == []


# --------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("arguments", "fits", "fits_not"),
    [
        ({}, [{}, {"a": 1}], []),
        ({"a": 1}, [{"a": 1}, {"a": 1, "b": 2}], [{}, {"b": 1}, {"a": 2}, {"a": None}]),
        ({"x-match": "all"}, [{}, {"a": 1}], []),
        ({"x-match": "all", "a": 1, "b": 2}, [{"a": 1, "b": 2, "c": 3}], [{"a": 1}, {"b": 2}, {}]),
        ({"x-match": "any"}, [], [{}, {"a": 1}]),
        ({"x-match": "any", "a": 1, "b": 2}, [{"a": 1}, {"a": 0, "b": 2}], [{}, {"a": 2, "b": 1}]),
        ({"x-match": "all", "a": None}, [{"a": 1}, {"a": None}, {"a": {}}], [{}, {"b": 1}]),
        ({"x-match": "any", "a": None, "b": 1}, [{"a": 2}, {"b": 1}], [{"b": 2}]),
        ({"x-match": "all", "a": 1, "x-b": 1}, [{"a": 1}, {"a": 1, "x-b": 2}], [{"x-b": 1}]),
        ({"x-match": "any", "x-b": 1}, [], [{"x-b": 1}]),
        ({"x-match": "all-with-x", "a": 1, "x-b": 1}, [{"a": 1, "x-b": 1}], [{"a": 1}, {"x-b": 1}]),
        ({"x-match": "any-with-x", "a": 1, "x-b": 1}, [{"a": 1}, {"x-b": 1}], [{"x-match": "any-with-x"}]),
    ],
    ids=str,
)
@pytest.mark.parametrize("rules", Rules)
def test_headers(
    arguments: dict[str, Any], fits: list[dict[str, Any]], fits_not: list[dict[str, Any]], rules: Rules
) -> None:
    assert [headers for headers in fits if not headers_match(arguments, headers, rules)] == []
    assert [headers for headers in fits_not if headers_match(arguments, headers, rules)] == []


def same(ours: Any, theirs: Any) -> set[Rules]:
    """Return by which rules a binding's value fits a message's."""
    return {rules for rules in Rules if headers_match({"h": ours}, {"h": theirs}, rules)}


ALWAYS, BEFORE, NEVER = set(Rules), {Rules.EQUAL_TERMS}, set[Rules]()


@pytest.mark.parametrize(
    ("ours", "theirs", "by"),
    [
        (1, 1, ALWAYS),
        ("é", "é", ALWAYS),
        ("é", "é".encode(), ALWAYS),
        (True, True, ALWAYS),
        (Decimal("1.0"), Decimal("1.0"), ALWAYS),
        ([1, {"a": [None]}], [1, {"a": [None]}], ALWAYS),
        ([], {}, ALWAYS),
        (1, 1.0, BEFORE),
        (0.0, -0.0, BEFORE),
        ([0.0], [-0.0], BEFORE),
        (int(MOMENT.timestamp()), MOMENT, BEFORE),
        (MOMENT, MOMENT, BEFORE),
        (MOMENT, int(MOMENT.timestamp()), ALWAYS),
        (int(MOMENT.timestamp()) * 1000, MOMENT, {Rules.SAME_TERMS}),
        ([MOMENT], [MOMENT], ALWAYS),
        ([MOMENT], [int(MOMENT.timestamp())], NEVER),
        (1, True, NEVER),
        (1, "1", NEVER),
        ("", [], NEVER),
        ("true", True, NEVER),
        (1, Decimal(1), NEVER),
        (Decimal(1), Decimal("1.0"), NEVER),
        ([1], [1.0], NEVER),
        (["a"], [b"a"], NEVER),
        ({"a": True}, {"a": 1}, NEVER),
        ([[]], [{}], NEVER),
        ([1, 2], [2, 1], NEVER),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, NEVER),
    ],
    ids=repr,
)
def test_values(ours: Any, theirs: Any, by: set[Rules]) -> None:
    assert same(ours, theirs) == by


# --------------------------------------------------------------------------- exchanges


def test_the_default_exchange_knows_queues_by_name() -> None:
    host = topology({}, queues=("q", "r"))
    assert judge(host, "", "q") == goes_to("q")
    assert judge(host, "", "Q").returned
    assert judge(host, "", "s", {"CC": ["q"], "BCC": ["r", "nobody"]}) == goes_to("q", "r")


def test_a_direct_exchange_compares_whole_keys() -> None:
    host = topology({"x": Exchange("direct")}, Binding("x", "q", "a.*"), Binding("x", "r", "a.b"))
    assert judge(host, "x", "a.b") == goes_to("r")
    assert judge(host, "x", "a.*") == goes_to("q")
    assert judge(host, "x").returned


def test_a_fanout_exchange_and_a_queue_that_is_bound_twice() -> None:
    host = topology({}, Binding("amq.fanout", "q", "a"), Binding("amq.fanout", "q", "b"))
    assert judge(host, "amq.fanout", "c") == goes_to("q")


def test_a_binding_to_one_exchange_is_none_to_another() -> None:
    host = topology({}, Binding("amq.direct", "q"), Binding("amq.topic", "r", "#"))
    assert judge(host, "amq.direct") == goes_to("q")
    assert judge(host, "amq.topic", "a") == goes_to("r")


def test_copies_are_more_keys_for_all_but_the_headers_exchange() -> None:
    host = topology(
        {"t": Exchange("topic"), "h": Exchange("headers")},
        Binding("t", "q", "a.*"),
        Binding("t", "r", "b"),
        Binding("h", "q", "", {"x-match": "any", "CC": None}),
        Binding("h", "r", "", {"x-match": "any", "BCC": None}),
    )
    assert judge(host, "t", "c", {"CC": ["a.b"], "BCC": ("b",)}) == goes_to("q", "r")
    assert judge(host, "t", "c", {"CC": [b"a.b", 1, None], "cc": ["b"]}).returned
    assert judge(host, "h", "", {"CC": [], "BCC": []}) == goes_to("q")
    for wrong in ("a.b", None, {"a": "b"}, 1):
        assert judge(host, "t", "c", {"BCC": wrong}) == Verdict(refused=PRECONDITION_FAILED)


def test_what_cannot_be_published_to() -> None:
    host = topology(
        {"in": Exchange("fanout", internal=True), "x": Exchange("fanout")},
        Binding("x", "in", to_exchange=True),
        Binding("in", "q"),
    )
    assert judge(host, "in") == Verdict(refused=ACCESS_REFUSED)
    assert judge(host, "nowhere") == Verdict(refused=NOT_FOUND)
    assert judge(host, "nowhere", "", {"CC": 1}) == Verdict(refused=NOT_FOUND)
    assert not judge(host, "nowhere").returned
    assert judge(host, "x") == goes_to("q")


def test_each_exchange_on_the_way_compares_for_itself() -> None:
    host = topology(
        {"x": Exchange("topic"), "y": Exchange("direct"), "z": Exchange("headers")},
        Binding("x", "y", "a.#", to_exchange=True),
        Binding("x", "z", "#.b", to_exchange=True),
        Binding("y", "q", "a.b"),
        Binding("z", "r", "", {"h": 1}),
    )
    assert judge(host, "x", "a.b") == goes_to("q")
    assert judge(host, "x", "a.b", {"h": 1}) == goes_to("q", "r")
    assert judge(host, "x", "a.c", {"h": 1}).returned


def test_cycles_end() -> None:
    host = topology(
        {"x": Exchange("fanout"), "y": Exchange("fanout", alternate="x")},
        Binding("x", "x", to_exchange=True),
        Binding("x", "y", to_exchange=True),
        Binding("y", "x", to_exchange=True),
        Binding("y", "q"),
    )
    assert judge(host, "x") == judge(host, "y") == goes_to("q")


def test_an_alternate_gets_what_matches_no_binding() -> None:
    host = topology(
        {
            "x": Exchange("direct", alternate="y"),
            "y": Exchange("direct", alternate="z"),
            "z": Exchange("fanout", alternate="x", internal=True),
            "astray": Exchange("fanout", alternate="nowhere"),
            "default": Exchange("fanout", alternate=""),
        },
        Binding("x", "q", "a"),
        Binding("y", "q", "b"),
        Binding("z", "r"),
    )
    assert judge(host, "x", "a") == goes_to("q")
    assert judge(host, "x", "b") == goes_to("q")
    assert judge(host, "x", "c") == goes_to("r")
    assert judge(host, "astray").returned
    assert judge(host, "default", "q").returned


def test_a_binding_that_leads_nowhere_still_keeps_the_alternate_out() -> None:
    host = topology(
        {"x": Exchange("direct", alternate="y"), "y": Exchange("fanout"), "empty": Exchange("fanout")},
        Binding("x", "empty", "a", to_exchange=True),
        Binding("x", "x", "b", to_exchange=True),
        Binding("y", "q"),
    )
    assert judge(host, "x", "a").returned
    assert judge(host, "x", "b").returned
    assert judge(host, "x", "c") == goes_to("q")


def test_other_kinds_are_not_judged() -> None:
    host = topology({"x": Exchange("x-random")}, Binding("x", "q"))
    with pytest.raises(ValueError, match="x-random"):
        judge(host, "x")
