"""A flood for a consumer that is stuck: `python -m benchmarks.figures.flood URL QUEUE ACK SECONDS`.

Prints by how many bytes the process has grown, and how many messages have reached the handler.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Literal

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import txamqpx
from benchmarks.peers import loop


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _measure(url: str, queue: str, ack: Literal["auto", "none"], seconds: float) -> None:
    client = await txamqpx.connect(url)
    before = _resident()
    handled = 0

    def stuck(delivery: txamqpx.Delivery) -> Deferred[None]:
        nonlocal handled
        handled += 1
        return Deferred()

    await client.consume(queue, stuck, ack=ack)
    await deferLater(reactor, seconds)
    json.dump({"grown": _resident() - before, "handled": handled}, sys.stdout)
    sys.stdout.flush()
    client.protocol.abort()


if __name__ == "__main__":
    way: Literal["auto", "none"] = "none" if sys.argv[3] == "none" else "auto"
    loop.run(lambda: _measure(sys.argv[1], sys.argv[2], way, float(sys.argv[4])))
