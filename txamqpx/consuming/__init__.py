"""What stands behind a consumer, and the words in which a handler tells what becomes of its message."""

from __future__ import annotations

from txamqpx.consuming.batch import Batch, Bundle
from txamqpx.consuming.settlement import (
    Drop,
    Outcome,
    Reject,
    Requeue,
    RetryLater,
    StopConsuming,
    Verdict,
)

__all__ = [
    "Batch",
    "Bundle",
    "Drop",
    "Outcome",
    "Reject",
    "Requeue",
    "RetryLater",
    "StopConsuming",
    "Verdict",
]
