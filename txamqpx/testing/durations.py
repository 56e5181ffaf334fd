"""Durations as people write them."""

from __future__ import annotations

import re

__all__ = ["Duration", "seconds_of"]

#: Seconds, or a text such as ``"500ms"``, ``"30s"``, ``"12m"``, ``"1h"`` or ``"1h 30m"``.
Duration = float | str

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*")


def seconds_of(duration: Duration) -> float:
    """Return how many seconds a duration has.

    Raises:
        ValueError: It is negative, or cannot be read.
    """
    if not isinstance(duration, str):
        if not duration >= 0:
            raise ValueError(f"a duration is a number of seconds from 0 on, not {duration!r}")
        return duration
    seconds, place = 0.0, 0
    while place < len(duration) or not duration:
        part = PART.match(duration, place)
        if part is None:
            raise ValueError(f"a duration is like '500ms', '30s', '12m', '1h 30m' or '2d', not {duration!r}")
        seconds += float(part[1]) * UNITS[part[2]]
        place = part.end()
    return seconds
