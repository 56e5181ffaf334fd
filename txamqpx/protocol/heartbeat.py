"""When to send a heartbeat and when to give a peer up: arithmetic only, seconds in and out."""

from __future__ import annotations

__all__ = ["dead_at", "send_at"]


def send_at(interval: float, last_sent: float) -> float:
    """Return when a heartbeat is due: half an interval after the last write.

    Half, so that one that is held up on the way still arrives within the interval that was agreed.
    """
    return last_sent + interval / 2


def dead_at(interval: float, last_received: float) -> float:
    """Return when a silent peer is dead: two intervals after its last byte (0-9-1 section 4.2.7)."""
    return last_received + interval * 2
