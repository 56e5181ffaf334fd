"""The specification files that others have published, where Debian's package amqp-specs puts them."""

from __future__ import annotations

from pathlib import Path

import pytest

DIRECTORY = Path("/usr/share/amqp/specs")

#: Files that must load, and the version that each of them is.
USABLE = {
    "0-8/amqp0-8.stripped.xml": (8, 0, 0),
    "0-8-qpid/amqp0-8-qpid.stripped.xml": (8, 0, 0),
    "0-9/amqp0-9.stripped.xml": (0, 9, 0),
    "0-9-qpid/amqp0-9-qpid.stripped.xml": (0, 9, 0),
    "0-9-1/amqp0-9-1.stripped.xml": (0, 9, 1),
    "0-9-1-qpid/amqp0-9-1.stripped.xml": (0, 9, 1),
    "0-9-1-rabbit/amqp0-9-1.stripped.extended.xml": (0, 9, 1),
}

#: Files of other protocols, and what to call them.
OTHERS = {
    "0-10/amqp.0-10.stripped.xml": "AMQP 0-10",
    "0-10-qpid/amqp.0-10-qpid-errata.stripped.xml": "AMQP 0-10",
    "1-0/index.bare.xml": "AMQP 1.0",
    "1-0/messaging.bare.xml": "AMQP 1.0",
    "1-0/transport.bare.xml": "AMQP 1.0",
    "1-0/types.bare.xml": "AMQP 1.0",
}


def published(name: str) -> Path:
    """Return the path of a published file; skip the test where it is not installed."""
    path = DIRECTORY / name
    if not path.exists():
        pytest.skip(f"NOT CHECKED against {path}: install Debian's package amqp-specs")
    return path
