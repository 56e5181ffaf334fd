"""What distance costs: `python -m benchmarks.figures.distance URL COUNT`.

Prints the seconds from the first packet to the first confirm, and the confirms a second of a pipelined run.
"""

from __future__ import annotations

import json
import sys
import time

import txamqpx
from benchmarks.peers import loop

# Enough for 100,000 messages a second over a round trip of 50 ms, twice.
OUTSTANDING = 10_000


async def _measure(url: str, count: int) -> None:
    begun = time.perf_counter()
    client = await txamqpx.connect(url)
    await client.publish(b"first", routing_key="distance", mandatory=False)
    first = time.perf_counter() - begun
    await client.queue_declare("distance", exclusive=True)
    publisher = client.publisher(max_outstanding=OUTSTANDING, persistent=False)
    await publisher.publish(b"first", routing_key="distance")
    begun = time.perf_counter()
    cpu = time.process_time()
    summary = await publisher.publish_many((b"x" * 16 for _ in range(count)), routing_key="distance")
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if summary.failures:
        raise RuntimeError(f"{len(summary.failures)} of {summary.total} failed: {summary.failures[0]}")
    await client.close()
    json.dump({"first": first, "rate": count / wall, "cpu": cpu}, sys.stdout)


if __name__ == "__main__":
    loop.run(lambda: _measure(sys.argv[1], int(sys.argv[2])))
