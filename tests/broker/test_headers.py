from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.strategies import HEADER_VALUES
from tests.oracle import Rules, headers_match
from tests.toss import HEADER_VALUES as DISTINCT_VALUES
from tests.toss import MATCHES
from txamqpx.broker.headers import HeadersPattern
from txamqpx.broker.terms import exact_term, exact_term_of_message, term_by_value

TERMS = {
    Rules.EQUAL_TERMS: (term_by_value, term_by_value),
    Rules.SAME_TERMS: (exact_term, exact_term_of_message),
}
NAMES = st.sampled_from(["h", "i", "x-h", ""])


def fits(arguments: dict[str, Any], headers: dict[str, Any], rules: Rules) -> bool:
    of_binding, of_message = TERMS[rules]
    pattern = HeadersPattern.of(arguments, of_binding)
    return pattern.fits({name: of_message(value) for name, value in headers.items()})


@given(
    st.dictionaries(NAMES, HEADER_VALUES, max_size=3),
    st.sampled_from(MATCHES),
    st.dictionaries(NAMES | st.just("x-match"), HEADER_VALUES, max_size=4),
    st.sampled_from(Rules),
)
def test_it_agrees_with_the_oracle(
    arguments: dict[str, Any], match: str | None, headers: dict[str, Any], rules: Rules
) -> None:
    arguments |= {} if match is None else {"x-match": match}
    assert fits(arguments, headers, rules) is headers_match(arguments, headers, rules)


@pytest.mark.parametrize("rules", Rules)
def test_it_agrees_with_the_oracle_on_all_pairs_of_values(rules: Rules) -> None:
    pairs = [({"h": ours}, {"h": theirs}) for ours, theirs in product(DISTINCT_VALUES, repeat=2)]
    assert [pair for pair in pairs if fits(*pair, rules) is not headers_match(*pair, rules)] == []
