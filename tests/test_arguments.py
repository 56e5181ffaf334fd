from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txamqpx.arguments import Arguments, age, milliseconds, short_text, whole
from txamqpx.errors import InvalidParameter, TopologyError
from txamqpx.spec.wire import encode_table

VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=9)
    | st.binary(max_size=9)
    | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
TABLES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), VALUES, max_size=4)


@given(TABLES)
def test_a_table_is_what_it_was_made_from(table: dict[str, Any]) -> None:
    arguments = Arguments(table)
    assert len(encode_table(arguments)) == len(encode_table(table))
    assert arguments == table
    assert arguments == Arguments(dict(reversed(table.items())))
    assert hash(arguments) == hash(Arguments(dict(reversed(table.items()))))
    assert len(arguments) == len(table)
    assert set(arguments) == table.keys()
    assert deepcopy(arguments) == arguments
    assert Arguments(arguments) == arguments


@given(TABLES, TABLES)
def test_tables_are_equal_if_they_are_on_the_wire(one: dict[str, Any], other: dict[str, Any]) -> None:
    def wire(table: Mapping[str, Any]) -> bytes:
        return encode_table(Arguments(table))

    assert (Arguments(one) == Arguments(other)) is (wire(one) == wire(other))
    assert (Arguments(one) == other) is (wire(one) == wire(other))


@pytest.mark.covers("T-TB-02")
@pytest.mark.parametrize("other", [True, 1.0, "1", b"1", None, [1], {"a": 1}], ids=repr)
def test_what_python_takes_for_one_is_another_to_the_broker(other: object) -> None:
    assert Arguments({"x": 1}) != Arguments({"x": other})
    assert Arguments({"x": 1}) != {"x": other}


def test_a_table_is_equal_to_tables_only() -> None:
    assert Arguments({"x": 1}) != 1
    assert Arguments({"x": 1}) != {"x": object()}
    assert Arguments() == {}


def test_nothing_changes_in_it_afterwards() -> None:
    inner = {"list": [1, {"deep": 2}], "octets": bytearray(b"a"), "view": memoryview(b"b")}
    table = {"inner": inner}
    arguments = Arguments(table)
    inner["list"][1]["deep"] = 9  # type: ignore[index]
    inner["list"].append(3)  # type: ignore[attr-defined]
    inner["octets"][0] = 0  # type: ignore[index]
    table["more"] = {}
    assert arguments == {"inner": {"list": (1, {"deep": 2}), "octets": b"a", "view": b"b"}}
    with pytest.raises(TypeError):
        arguments["inner"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        arguments["inner"]["list"] = 1


def test_a_table_shows_what_is_in_it() -> None:
    assert repr(Arguments({"b": [1], "a": {"c": 2}})) == "{'a': {'c': 2}, 'b': (1,)}"


def test_what_has_no_form_on_the_wire_is_named() -> None:
    with pytest.raises(TopologyError) as caught:
        Arguments({"x": {"y": object()}}, "queue 'q'")
    assert caught.value.parameter == "queue 'q', 'x' > 'y'"
    assert "object" in caught.value.reason
    assert isinstance(caught.value, InvalidParameter)
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(TopologyError, match="contains itself"):
        Arguments(loop)
    for wrong in ({1: 2}, [1], {"x": datetime(2020, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(TopologyError):
            Arguments(wrong)  # type: ignore[arg-type]
    assert Arguments({"x": datetime(2020, 1, 1, tzinfo=UTC)})


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(minutes=5), 300_000),
        (timedelta(microseconds=1), 1),
        (timedelta(milliseconds=1, microseconds=1), 2),
        (timedelta(0), 0),
        (0, 0),
        (1500, 1500),
    ],
)
def test_a_duration_in_milliseconds(duration: timedelta | int, expected: int) -> None:
    assert milliseconds("x", duration) == expected


@pytest.mark.parametrize("wrong", [True, -1, 1.5, "5", None, timedelta(microseconds=-1000)])
def test_what_is_no_duration(wrong: Any) -> None:
    with pytest.raises(TopologyError, match=r"^x: must be a timedelta or a whole number of milliseconds"):
        milliseconds("x", wrong)


def test_a_number_has_a_least() -> None:
    assert whole("x", -1, least=-1) == -1
    with pytest.raises(TopologyError, match="at least -1, not -2"):
        whole("x", -2, least=-1)


def test_an_age() -> None:
    assert age("x", timedelta(days=1)) == "86400s"
    assert age("x", timedelta(microseconds=1)) == "1s"
    assert age("x", "7D") == "7D"
    for none in (timedelta(0), timedelta(seconds=-5)):
        with pytest.raises(TopologyError, match="x: must be longer than nothing"):
            age("x", none)


@pytest.mark.covers("T-FR-08")
def test_a_short_text_is_255_bytes_of_utf_8() -> None:
    assert short_text("x", "ü" * 127) == "ü" * 127
    for wrong in ("ü" * 128, "\ud800", b"x", None):
        with pytest.raises(TopologyError, match=r"^x: "):
            short_text("x", wrong)
