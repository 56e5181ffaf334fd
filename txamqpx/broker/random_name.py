"""Names that the broker makes for who has left the choice to it."""

from __future__ import annotations

import base64
import os

__all__ = ["random_name"]


def random_name(kind: str) -> str:
    """Return a name that nobody has, in RabbitMQ's form.

    Args:
        kind: What it is for: ``"gen"`` for a queue, ``"ctag"`` for a consumer.
    """
    return f"amq.{kind}-{base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip('=')}"
