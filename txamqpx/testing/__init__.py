"""What users' tests import: the library's own parts, made so that a test holds every thread of them.

- ``running`` runs a broker in virtual time: how to test a program, its retries and its end.
- ``scripted`` gives a broker that says what the test makes it say: what goes over the wire, word by word.
- ``delivery`` makes what a handler is called with, and knows how it was settled.
- ``HandPool`` runs what is for threads when the test says so.
- ``success_of``, ``failure_of`` and ``is_pending`` say what became of a Deferred; ``Watched`` says it later.

All of it works under trial, pytest and unittest, and none of it needs a reactor; ``running`` uses it if it is
there.  The broker is imported when it is first run.
"""

from __future__ import annotations

from txamqpx.testing.deliveries import RecordedDelivery, Settled, delivery
from txamqpx.testing.outcomes import Watched, failure_of, is_pending, success_of
from txamqpx.testing.peer import Heard, ScriptedPeer, scripted
from txamqpx.testing.running import Running, running
from txamqpx.testing.threads import HandPool
from txamqpx.testing.wire import End, Wire

__all__ = [
    "End",
    "HandPool",
    "Heard",
    "RecordedDelivery",
    "Running",
    "ScriptedPeer",
    "Settled",
    "Watched",
    "Wire",
    "delivery",
    "failure_of",
    "is_pending",
    "running",
    "scripted",
    "success_of",
]
