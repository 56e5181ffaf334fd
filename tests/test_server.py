from __future__ import annotations

from typing import Any

import pytest

from txamqpx.server import ServerFacts


def test_a_broker_tells_who_it_is_and_what_it_can_do() -> None:
    properties = {
        "product": "RabbitMQ",
        "version": "3.10.8",
        "cluster_name": "rabbit@host",
        "capabilities": {"publisher_confirms": True, "basic.nack": True, "flying": False},
    }
    facts = ServerFacts.from_properties(properties)
    assert (facts.product, facts.version, facts.cluster_name) == ("RabbitMQ", "3.10.8", "rabbit@host")
    assert facts.version_info == (3, 10, 8)
    assert facts.version_info >= (3, 9)
    assert facts.rabbitmq == (3, 10, 8)
    assert facts.capabilities == {"publisher_confirms", "basic.nack"}
    assert facts.properties == properties
    assert "flying" not in repr(facts)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("4.3.0-rc.1", (4, 3, 0)),
        ("4", (4,)),
        ("unknown", ()),
        (b"3.10", ()),
        ("9" * 5000, (999_999_999,)),
        (None, ()),
    ],
)
def test_a_version_is_compared_by_its_numbers(version: Any, numbers: tuple[int, ...]) -> None:
    assert ServerFacts.from_properties({"version": version}).version_info == numbers


def test_another_broker_has_no_release_of_rabbitmq() -> None:
    assert ServerFacts.from_properties({"product": "another", "version": "3.10.8"}).rabbitmq is None


@pytest.mark.parametrize("capabilities", [None, [], "all", {"publisher_confirms": "yes"}])
def test_what_a_broker_says_in_another_form_it_has_not_said(capabilities: Any) -> None:
    assert ServerFacts.from_properties({"capabilities": capabilities}).capabilities == frozenset()
    assert ServerFacts.from_properties({}) == ServerFacts("", "", (), frozenset(), "", {})
