from __future__ import annotations

from math import nan

import pytest

from txamqpx.testing.durations import Duration, seconds_of


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(0, 0), (1.5, 1.5), ("500ms", 0.5), ("30s", 30), ("12m", 720), ("1h 30m", 5400), (" 2d1.5s ", 172801.5)],
)
def test_a_duration_has_seconds(duration: Duration, seconds: float) -> None:
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize("duration", ["", " ", "12", "m", "-1s", "1 week", "1h and 30m"])
def test_other_words_are_no_duration(duration: str) -> None:
    with pytest.raises(ValueError, match="a duration is like"):
        seconds_of(duration)


@pytest.mark.parametrize("duration", [-1, nan])
def test_other_numbers_are_no_duration(duration: float) -> None:
    with pytest.raises(ValueError, match="a number of seconds from 0 on"):
        seconds_of(duration)
