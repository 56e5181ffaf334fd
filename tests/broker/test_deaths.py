"""What is told of deaths: `txamqpx.broker.deaths`."""

from __future__ import annotations

from typing import Any

import pytest

from txamqpx.broker.deaths import added, is_circle, told_by_headers, told_by_record
from txamqpx.broker.fields import Fields, table, table_fields
from txamqpx.broker.message import Death
from txamqpx.spec.wire import decode_table, encode_table


def death(queue: str, reason: str = "rejected", **more: Any) -> Death:
    facts = {"count": 1, "time": 7, "exchange": "x", "keys": ("k", "c"), "ttl": None}
    return Death(queue=queue, reason=reason, **{**facts, **more})


def fields_of(headers: dict[str, Any]) -> Fields:
    return table_fields(encode_table(headers))


def headers_of(fields: Fields) -> dict[str, Any]:
    return decode_table(table(fields), 0)[0]


def counts(headers: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["queue"], one["count"]) for one in headers["x-death"]]


@pytest.mark.parametrize(
    ("deaths", "circle"),
    [
        ([], False),
        ([("b", "expired")], False),
        ([("a", "expired")], True),
        ([("a", "rejected")], False),
        ([("b", "maxlen"), ("a", "expired"), ("c", "rejected")], True),
        ([("b", "rejected"), ("a", "expired")], False),
    ],
)
def test_a_circle_has_no_refusal_in_it(deaths: list[tuple[str, str]], circle: bool) -> None:
    assert is_circle("a", deaths) is circle


def test_deaths_of_a_kind_are_counted() -> None:
    deaths = added((), death("a", time=1, ttl=5))
    deaths = added(deaths, death("b"))
    assert deaths == (death("b"), death("a", time=1, ttl=5))
    deaths = added(deaths, death("a", time=9))
    assert deaths == (death("a", time=1, ttl=5, count=2), death("b"))
    assert added(deaths, death("a", "expired"))[0] == death("a", "expired")


def test_the_record_overwrites_what_a_client_made_up() -> None:
    fields = fields_of(
        {"x-death": "mine", "x-first-death-queue": "mine", "x-last-death-queue": "mine", "a": 1}
    )
    first = death("a", ttl=5)
    told_by_record(fields, added((), first), first, first=True)
    headers = headers_of(fields)
    assert headers.pop("a") == 1
    ((told),) = headers.pop("x-death")
    assert list(told) == [
        "original-expiration",
        "count",
        "reason",
        "queue",
        "time",
        "exchange",
        "routing-keys",
    ]
    assert (told["original-expiration"], told["count"], told["queue"]) == ("5", 1, "a")
    assert (told["exchange"], told["routing-keys"], told["time"].timestamp()) == ("x", ["k", "c"], 7)
    assert headers == {
        f"x-{end}-death-{name}": value
        for end in ("first", "last")
        for name, value in (("queue", "a"), ("reason", "rejected"), ("exchange", "x"))
    }
    again = death("a", exchange="y")
    told_by_record(fields, added((first,), again), again, first=False)
    headers = headers_of(fields)
    assert counts(headers) == [("a", 2)]
    assert (headers["x-first-death-exchange"], headers["x-last-death-exchange"]) == ("x", "y")


def test_headers_are_gone_on_from() -> None:
    fields: Fields = {}
    assert told_by_headers(fields, death("a"), "0050") == [("a", "rejected")]
    headers = headers_of(fields)
    assert headers["x-first-death-queue"] == "a"
    ((told),) = headers["x-death"]
    assert list(told) == [
        "count",
        "reason",
        "queue",
        "time",
        "exchange",
        "routing-keys",
        "original-expiration",
    ]
    assert told["original-expiration"] == "0050"
    assert told_by_headers(fields, death("b", "expired"), None) == [("b", "expired"), ("a", "rejected")]
    assert headers_of(fields)["x-first-death-queue"] == "a"
    assert list(headers_of(fields)["x-death"][0]) == sorted(set(told) - {"original-expiration"})
    told_by_headers(fields, death("a"), None)
    assert counts(headers_of(fields)) == [("a", 2), ("b", 1)]
    assert headers_of(fields)["x-death"][0]["original-expiration"] == "0050"


def test_the_other_deaths_are_turned_round_each_time() -> None:
    fields: Fields = {}
    for name in "abcde":
        told_by_headers(fields, death(name), None)
    assert [name for name, _ in counts(headers_of(fields))] == ["e", "c", "a", "b", "d"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([{"queue": "a", "reason": "rejected", "count": 5}], [("a", 6)]),
        ([{"queue": "a", "reason": "rejected", "count": "5"}], [("a", 1)]),
        ([{"queue": "a", "reason": "rejected"}], [("a", 1)]),
        ([{"queue": "a", "reason": "rejected"}] * 3, [("a", 4)]),
        ([{"queue": "b"}, {"queue": "b"}, {"queue": "c", "count": 9}], [("a", 1), ("c", 9), ("b", 2)]),
        ([], [("a", 1)]),
        (["text", {"queue": "b"}], [("a", 1)]),
        ("text", [("a", 1)]),
    ],
)
def test_what_a_client_made_up_is_gone_on_from(told: Any, expected: list[tuple[str, int]]) -> None:
    fields = fields_of({"x-death": told})
    told_by_headers(fields, death("a"), None)
    headers = headers_of(fields)
    assert counts(headers) == expected
    assert "x-first-death-queue" not in headers
