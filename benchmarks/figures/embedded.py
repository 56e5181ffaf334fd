"""A message's whole way, in and out: `python -m benchmarks.figures.embedded PEER URL COUNT SIZE`.

Over `memory://` the process that is measured is client and broker in one; any other URL leads to a broker
whose CPU time is not counted.
"""

from __future__ import annotations

import json
import secrets
import sys
from typing import Any

from benchmarks.feeder import Feeder
from benchmarks.peers import BY_NAME
from benchmarks.worker import Meter

WAYS = ("txamqpx", "pika-select", "pika-twisted")

_WARMUP = 0.05


async def _through(peer: str, url: str, count: int, size: int) -> float:
    session = BY_NAME[peer].driver().session()
    await session.open(url, confirm=True, channels=1)
    names = [f"embedded-{secrets.token_hex(4)}" for _ in range(2)]
    for name in names:
        await _declare(url, name)
    for name, messages in zip(names, (round(count * _WARMUP), count), strict=True):
        with Meter() as meter:
            await session.publish_confirmed(name, b"x" * size, messages)
            received = await session.deliver(name, messages, ack=True)
        if received != messages * size:
            raise RuntimeError(f"{received} bytes came out, {messages * size} went in")
    await session.close()
    return meter.cpu


async def _declare(url: str, name: str) -> None:
    if not url.startswith("memory:"):
        with Feeder(url) as feeder:
            feeder.declare(name)
        return
    import txamqpx

    client = await txamqpx.connect(url)
    await client.queue_declare(name, durable=True)
    await client.close()


def main(peer: str, url: str, count: int, size: int) -> None:
    """Measure one client, and print the CPU seconds of its process as JSON."""
    driver: Any = BY_NAME[peer].driver()
    json.dump({"cpu": driver.run(lambda: _through(peer, url, count, size))}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
