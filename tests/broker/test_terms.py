from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from tests.broker.strategies import HEADER_VALUES
from tests.oracle import Rules, headers_match
from txamqpx.broker.terms import exact_term, exact_term_of_message, term_by_value, type_name
from txamqpx.spec.wire import RawTimestamp

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@given(HEADER_VALUES, HEADER_VALUES)
def test_what_is_equal(ours: Any, theirs: Any) -> None:
    """The oracle takes None in a binding for a header of any value, so that is not asked here."""
    if ours is None:
        return
    by_value = headers_match({"h": ours}, {"h": theirs}, Rules.EQUAL_TERMS)
    assert (term_by_value(ours) == term_by_value(theirs)) is by_value
    exactly = headers_match({"h": ours}, {"h": theirs}, Rules.SAME_TERMS)
    assert (exact_term(ours) == exact_term_of_message(theirs)) is exactly


def test_a_moment_beyond_the_calendar_is_one_as_well() -> None:
    far = RawTimestamp(10**15)
    assert term_by_value(far) == term_by_value(10**15)
    assert exact_term(far) == exact_term(10**15) == exact_term_of_message(10**15)
    assert exact_term_of_message(far) == exact_term(10**18)
    assert exact_term([far]) == exact_term([RawTimestamp(10**15)]) != exact_term([10**15])


def test_text_that_is_none_is_what_it_was() -> None:
    assert term_by_value(b"\xff".decode("utf-8", "surrogateescape")) == b"\xff"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((None, "void"), (True, "bool"), (1.5, "double"), ("a", "longstr"), (b"a", "binary")),
        *(([1], "array"), ({"a": 1}, "table"), (Decimal(1), "decimal")),
        *((MOMENT, "timestamp"), (RawTimestamp(SECONDS), "timestamp")),
        *((0, "signedint"), (2**31 - 1, "signedint"), (-(2**31), "signedint")),
        *((2**31, "long"), (-(2**31) - 1, "long")),
    ],
)
def test_names_of_types(value: Any, name: str) -> None:
    assert type_name(value) == name
