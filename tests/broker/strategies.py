"""What hypothesis throws at the broker's routing: values of headers, topologies, and messages."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st

MOMENT: Final = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
_SECONDS: Final = int(MOMENT.timestamp())

_SCALARS: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [
        *(0, 1, -1, 2, 2**40, 0.0, -0.0, 1.0, float(2**40), True, False, None, "", "1", "a", "é", "true"),
        *(b"", b"1", b"a", "é".encode(), Decimal(1), Decimal("1.0"), MOMENT, _SECONDS, _SECONDS * 1000),
    ]
)

HEADER_VALUES: Final[st.SearchStrategy[Any]] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=3,
)
"""Few different ones, so that two are often equal, or nearly."""
