"""What differs between releases."""

from __future__ import annotations

import pytest

from txamqpx.broker.profile import PROFILES, profile_named


def test_each_is_found_by_its_name() -> None:
    for name, profile in PROFILES.items():
        assert profile_named(name) is profile
        assert profile.name == name
        assert name == f"rabbitmq-{profile.version.rpartition('.')[0]}"


def test_an_unknown_one_is_told_from_the_others() -> None:
    with pytest.raises(
        ValueError, match=r"unknown profile 'rabbitmq-2'; there are rabbitmq-3.10, rabbitmq-4.3"
    ):
        profile_named("rabbitmq-2")
