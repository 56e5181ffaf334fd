"""What distance costs: `python -m benchmarks.figures.distance URL COUNT`.

Prints the seconds from the first packet to the first confirm, and the confirms a second of a pipelined run.
"""

from __future__ import annotations

import json
import sys
import time

import txamqpx
from benchmarks.peers import loop

# Enough for 400,000 messages a second over 100 ms.
OUTSTANDING = 50_000


async def _measure(url: str, count: int) -> None:
    begun = time.perf_counter()
    client = await txamqpx.connect(url)
    await client.publish(b"first", routing_key="distance", mandatory=False)
    first = time.perf_counter() - begun
    publisher = client.publisher(max_outstanding=OUTSTANDING, mandatory=False, persistent=False)
    await publisher.publish(b"first", routing_key="distance")
    begun = time.perf_counter()
    summary = await publisher.publish_many((b"x" * 16 for _ in range(count)), routing_key="distance")
    wall = time.perf_counter() - begun
    if summary.failures:
        raise RuntimeError(f"{len(summary.failures)} of {summary.total} failed: {summary.failures[0]}")
    await client.close()
    json.dump({"first": first, "rate": count / wall}, sys.stdout)


if __name__ == "__main__":
    loop.run(lambda: _measure(sys.argv[1], int(sys.argv[2])))
