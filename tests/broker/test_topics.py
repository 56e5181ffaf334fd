from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import topic_matches
from tests.toss import SHORT_KEYS, SHORT_PATTERNS
from txamqpx.broker.topics import Topics


def dotted(*words: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), max_size=6).map(".".join)


PATTERNS = dotted("a", "b", "", "*", "*", "#", "#", "a*", "+")
KEYS = dotted("a", "b", "", "*", "#", "a*", "+")


def holding(*patterns: str) -> Topics[str]:
    topics: Topics[str] = Topics()
    for pattern in patterns:
        topics.add(pattern, pattern)
    return topics


@given(st.lists(PATTERNS, unique=True), st.lists(KEYS, min_size=1))
def test_it_agrees_with_the_oracle(patterns: list[str], keys: list[str]) -> None:
    topics = holding(*patterns)
    for key in keys:
        assert {*topics.matching(key)} == {pattern for pattern in patterns if topic_matches(pattern, key)}


@given(st.lists(st.tuples(PATTERNS, st.booleans())), st.lists(KEYS, min_size=1))
def test_it_agrees_with_the_oracle_on_what_is_left(steps: list[tuple[str, bool]], keys: list[str]) -> None:
    topics = holding()
    held: list[str] = []
    for pattern, take in steps:
        if take and held:
            topics.remove(held[0], held.pop(0))
        else:
            topics.add(pattern, pattern)
            held.append(pattern)
    for key in keys:
        assert {*topics.matching(key)} == {pattern for pattern in held if topic_matches(pattern, key)}
    for pattern in held:
        topics.remove(pattern, pattern)
    assert not topics._root.further
    assert not topics._root.ends


def test_it_agrees_with_the_oracle_on_all_short_topics() -> None:
    patterns = [".".join(words) for size in range(5) for words in product(("a", "", "*", "#"), repeat=size)]
    keys = [".".join(words) for size in range(5) for words in product(("a", "b", ""), repeat=size)]
    patterns, keys = [*dict.fromkeys([*patterns, *SHORT_PATTERNS])], [*dict.fromkeys([*keys, *SHORT_KEYS])]
    pairs = [*product(patterns, keys)]
    assert len(pairs) > 40_000
    topics = holding(*patterns)
    found = {(pattern, key) for key in keys for pattern in topics.matching(key)}
    assert found == {pair for pair in pairs if topic_matches(*pair)}


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        # What stand-ins for a broker get wrong that make a regular expression of the pattern, or that let `#`
        # stand for one word at least.
        ("#", "", True),
        ("a.#", "a", True),
        ("#.a", "a", True),
        ("a.#.b", "a.b", True),
        ("#.#", "a", True),
        ("*.#", "", False),
        ("*", "", False),
        ("*", "a.b", False),
        ("*.*", ".", True),
        ("*", "a.", False),
        ("a.*", "a.", True),
        ("a..b", "a.b", False),
        ("a.b", "axb", False),
        ("a.+", "a.b", False),
        ("a*", "ab", False),
        ("#a", "ba", False),
        ("a.#", "ab", False),
        ("a.#", "a\nb.c", False),
        ("*.c", "a\nb.c", True),
        ("A", "a", False),
        ("#.a.#", "b.a.a.c", True),
        ("*.#.*", "a", False),
    ],
)
def test_it_is_right_where_others_are_not(pattern: str, key: str, fits: bool) -> None:
    assert [*holding(pattern).matching(key)] == [pattern] * fits
    assert topic_matches(pattern, key) is fits


def test_a_value_stays_as_long_as_one_of_its_bindings() -> None:
    topics: Topics[str] = Topics()
    for _ in range(2):
        topics.add("a.*", "q")
    topics.add("a.b", "q")
    topics.remove("a.*", "q")
    assert [*topics.matching("a.c")] == ["q"]
    topics.remove("a.*", "q")
    assert [*topics.matching("a.c")] == []
    assert [*topics.matching("a.b")] == ["q"]


@pytest.mark.parametrize("pattern", ["a.*", "a.b.c", "b", "a"])
def test_what_is_not_there_cannot_be_removed(pattern: str) -> None:
    topics: Topics[str] = Topics()
    topics.add("a.b", "q")
    with pytest.raises(KeyError):
        topics.remove(pattern, "q")
    with pytest.raises(KeyError):
        topics.remove("a.b", "r")
    assert [*topics.matching("a.b")] == ["q"]


def test_many_wildcards_do_not_take_for_ever() -> None:
    """Each way to read this pattern is one of billions."""
    topics = holding(".".join(["#", "a"] * 20))
    assert [*topics.matching(".".join(["a"] * 60 + ["b"]))] == []
    assert len([*topics.matching(".".join(["a"] * 60))]) == 1
