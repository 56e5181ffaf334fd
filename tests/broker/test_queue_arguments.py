from __future__ import annotations

from typing import Any

import pytest

from txamqpx.broker.profile import PROFILES
from txamqpx.broker.queue_arguments import assert_equivalent, check_arguments, kind_of
from txamqpx.broker.refusal import Refusal

OLD, NEW = PROFILES["rabbitmq-3.10"], PROFILES["rabbitmq-4.3"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, "classic"),
        ({"x-queue-type": "quorum"}, "quorum"),
        ({"x-queue-type": b"quorum"}, "quorum"),
        ({"x-queue-type": 1}, "1"),
        ({"x-queue-type": None}, "undefined"),
    ],
)
def test_what_kind_of_queue_is_asked_for(arguments: dict[str, Any], kind: str) -> None:
    assert kind_of(arguments) == kind


def test_streams_are_refused_in_clear_words() -> None:
    for profile in (OLD, NEW):
        with pytest.raises(
            Refusal, match="406 PRECONDITION_FAILED - invalid arg 'x-queue-type' for it: this"
        ):
            check_arguments("it", {"x-queue-type": "stream"}, profile)


def test_what_is_deprecated_costs_the_connection() -> None:
    arguments = {"x-queue-master-locator": "client-local"}
    check_arguments("it", arguments, OLD)
    with pytest.raises(Refusal, match="541 INTERNAL_ERROR - Feature `queue_master_locator`") as caught:
        check_arguments("it", arguments, NEW)
    assert caught.value.hard


@pytest.mark.parametrize(
    ("received", "current"),
    [({}, {}), ({"a": 1}, {"a": 1}), ({"a": "x"}, {"a": b"x"}), ({"b": 1}, {"b": 2}), ({"b": 1}, {})],
)
def test_arguments_that_agree(received: dict[str, Any], current: dict[str, Any]) -> None:
    assert_equivalent("it", received, current, ["a"])


@pytest.mark.parametrize(
    ("received", "current", "text"),
    [
        ({"a": 1}, {"a": 2}, "received '1' but current is '2'"),
        ({"a": None}, {"a": 2}, "received none but current is '2'"),
        ({"a": 1}, {"a": 1.0}, "received '1' but current is '1.0'"),
        ({"a": 1}, {"a": True}, "received '1' but current is 'true'"),
        ({}, {"a": False}, "received none but current is the value 'false' of type 'bool'"),
        ({"a": None}, {}, "received the value 'undefined' of type 'void' but current is none"),
    ],
)
def test_arguments_that_do_not(received: dict[str, Any], current: dict[str, Any], text: str) -> None:
    with pytest.raises(Refusal) as caught:
        assert_equivalent("it", received, current, ["b", "a"])
    assert caught.value.text == f"PRECONDITION_FAILED - inequivalent arg 'a' for it: {text}"
