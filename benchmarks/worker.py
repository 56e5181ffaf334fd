"""Run one case with one peer in a process of its own: `python -m benchmarks.worker PEER CASE --url URL ...`.

A fresh process each time, because a client's CPU time is that of its process: nothing that another peer has
imported, grown or fragmented is counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Self

import attrs

from benchmarks import case, peers


class Meter:
    """Take the CPU seconds of this process (user and system) and the wall time of a `with` block."""

    cpu: float
    wall: float

    def __enter__(self) -> Self:
        self._begun = _cpu_seconds(), time.perf_counter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cpu = _cpu_seconds() - self._begun[0]
        self.wall = time.perf_counter() - self._begun[1]


@attrs.frozen
class Sample:
    """Report one run.

    `published`, `confirmed`, `delivered`, `acked` and `delivered_bytes` are what the client claims to have
    done in all, warm-up included; `count`, `cpu` and `wall` are of the measured part alone. Latencies are in
    microseconds.
    """

    count: int
    cpu: float
    wall: float
    published: int = 0
    confirmed: int = 0
    delivered: int = 0
    acked: int = 0
    delivered_bytes: int = 0
    p50: float | None = None
    p99: float | None = None


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the value that this fraction of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(fraction * len(ordered)) - 1))]


async def measure(
    session: peers.Session,
    what: case.Case,
    *,
    url: str,
    size: int,
    count: int,
    queue: str,
    warmup: int,
    warmup_queue: str,
) -> Sample:
    """Connect, warm up on one queue, measure on the other, close."""
    await session.open(url, confirm=what.confirm, channels=what.channels)
    body = b"x" * size
    received = 0
    seconds: list[float] = []

    async def burst(queue: str, count: int) -> None:
        nonlocal received, seconds
        if what.action == "deliver":
            received += await session.deliver(queue, count, ack=what.ack)
        elif what.action == "publish_one_by_one":
            seconds = await session.publish_one_by_one(queue, body, count)
        elif what.action == "publish_confirmed":
            await session.publish_confirmed(queue, body, count)
        else:
            await session.publish(queue, body, count)

    await burst(warmup_queue, warmup)
    with Meter() as meter:
        for _ in range(what.bursts):
            await burst(queue, count)
    await session.close()
    total = warmup + count * what.bursts
    delivering = what.action == "deliver"
    return Sample(
        count * what.bursts,
        meter.cpu,
        meter.wall,
        published=0 if delivering else total,
        confirmed=total * what.confirm,
        delivered=total * delivering,
        acked=total * what.ack,
        delivered_bytes=received,
        p50=percentile(seconds, 0.50) * 1e6 if seconds else None,
        p99=percentile(seconds, 0.99) * 1e6 if seconds else None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for and print the sample as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=list(peers.BY_NAME))
    parser.add_argument("case", choices=list(case.BY_NAME))
    parser.add_argument("--url", required=True)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--queue", default="flood-10000-16")
    parser.add_argument("--warmup", type=int, default=1_000)
    parser.add_argument("--warmup-queue", default="flood-1000-16")
    options = parser.parse_args(arguments)
    driver = peers.BY_NAME[options.peer].driver()
    sample = driver.run(
        lambda: measure(
            driver.session(),
            case.BY_NAME[options.case],
            url=options.url,
            size=options.size,
            count=options.count,
            queue=options.queue,
            warmup=options.warmup,
            warmup_queue=options.warmup_queue,
        )
    )
    json.dump(attrs.asdict(sample), sys.stdout)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
