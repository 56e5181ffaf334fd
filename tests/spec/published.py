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

#: What our data says (+) and theirs (-), each of it on purpose; our files in the order of BUNDLED.
DELIBERATE_DIFFERENCES = {
    # What RabbitMQ added after that file was made.
    "0-9-1-rabbit/amqp0-9-1.stripped.extended.xml": """
        + constant no-route 312 soft-error
        + method connection.blocked 60 to client
        + field connection.blocked 0 reason shortstr
        + method connection.unblocked 61 to client
        + method connection.update-secret 70 to server synchronous update-secret-ok
        + field connection.update-secret 0 new-secret longstr
        + field connection.update-secret 1 reason shortstr
        + method connection.update-secret-ok 71 to client
        + class access 30
        + method access.request 10 to server synchronous request-ok
        + field access.request 0 realm shortstr
        + field access.request 1 exclusive bit
        + field access.request 2 passive bit
        + field access.request 3 active bit
        + field access.request 4 write bit
        + field access.request 5 read bit
        + method access.request-ok 11 to client
        + field access.request-ok 0 ticket short
        - property basic 13 reserved shortstr
        + property basic 13 cluster-id shortstr
        - field confirm.select 0 nowait bit
        + field confirm.select 0 no-wait bit
    """,
    "0-9/amqp0-9.stripped.xml": "",
    "0-8/amqp0-8.stripped.xml": """
        + method queue.unbind 50 to server synchronous unbind-ok
        + field queue.unbind 0 ticket short
        + field queue.unbind 1 queue shortstr
        + field queue.unbind 2 exchange shortstr
        + field queue.unbind 3 routing key shortstr
        + field queue.unbind 4 arguments table
        + method queue.unbind-ok 51 to client
    """,
}


def published(name: str) -> Path:
    """Return the path of a published file; skip the test where it is not installed."""
    path = DIRECTORY / name
    if not path.exists():
        pytest.skip(f"NOT CHECKED against {path}: install Debian's package amqp-specs")
    return path
