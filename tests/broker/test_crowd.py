"""Clients that do anything at all, at once."""

from __future__ import annotations

import pytest

from tests.broker.crowd import Crowd
from tests.broker.yard import PROFILES

STEPS = 80


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_clients_do_everybody_tells_the_same_and_nothing_is_left(seed: int, profile: str) -> None:
    crowd = Crowd(seed, profile)
    for _ in range(STEPS):
        crowd.step()
        crowd.check()
    crowd.part()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_or_doubled_as_long_as_nobody_is_done_with_it(seed: int, profile: str) -> None:
    crowd = Crowd(seed, profile, wasteful=False)
    for _ in range(STEPS):
        crowd.step()
        crowd.check()
    crowd.part()
