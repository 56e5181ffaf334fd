"""Run them all and print what they say: `python -m benchmarks.figures`; ten minutes on two cores."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from benchmarks.figures.declares import CLIENTS
from benchmarks.figures.embedded import WAYS
from benchmarks.result import ROOT
from benchmarks.sink import Sink

NEEDS = {"pika-twisted": "pika", "aio-pika": "aio_pika", "puka": "puka"}
DELAY = 0.025
"""Seconds one way: a round trip of 50 ms."""

FLOOD_SECONDS = 20.0


def run(module: str, *words: object) -> dict[str, Any]:
    """Run one measurement in a process of its own and return what it printed.

    Raises:
        RuntimeError: It failed; the message is what it said last.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.figures.{module}", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.splitlines()[-8:]))
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@contextmanager
def delayed(url: str, seconds: float) -> Iterator[str]:
    """Lead to the same place by a wire that takes ``seconds`` each way."""
    parts = urlsplit(url)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.figures.delay",
            str(parts.hostname),
            str(parts.port),
            str(seconds),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}").geturl()
    finally:
        process.terminate()
        process.wait()


def declares(url: str, rounds: int, count: int) -> None:
    """Print how fast each client declares queues that it asks for all at once."""
    print(f"\n{count} queues declared at once on RabbitMQ, median of {rounds}")
    clients = [client for client in CLIENTS if find_spec(NEEDS.get(client, "txamqpx"))]
    taken: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for _ in range(rounds):
        for client in clients:
            taken[client].append(run("declares", client, url, count))
    for client, samples in taken.items():
        wall, cpu = (median(sample[key] for sample in samples) for key in ("wall", "cpu"))
        print(f"{client:16} {count / wall:8.0f} a second  {cpu * 1000:8.0f} ms of client CPU")


def distance(url: str, rounds: int, count: int) -> None:
    """Print what a round trip of 50 ms costs."""
    print(f"\na round trip of {DELAY * 2000:.0f} ms to RabbitMQ, median of {rounds}")
    near: list[dict[str, float]] = []
    far: list[dict[str, float]] = []
    for _ in range(rounds):
        for samples, seconds in ((near, 0.0), (far, DELAY)):
            with delayed(url, seconds) as way:
                samples.append(run("distance", way, count))
    trips = median(sample["first"] for sample in far) / (2 * DELAY)
    rates = [median(sample["rate"] for sample in samples) for samples in (near, far)]
    print(f"connect to first confirm: {trips:.2f} round trips (goal: at most 5)")
    print(f"pipelined confirms: {rates[1] / rates[0]:.0%} of {rates[0]:.0f} a second without it (goal: 90 %)")


def flood() -> None:
    """Print how much memory a flood takes that nobody handles."""
    print(f"\n1,000,000 messages of 2 kB for a consumer that is stuck, {FLOOD_SECONDS:.0f} s (goal: 64 MB)")
    for ack in ("auto", "none"):
        with Sink() as sink:
            seen = run("flood", sink.url(), "flood-1000000-2048", ack, FLOOD_SECONDS)
        print(f"ack={ack!r:7} grown by {seen['grown'] / 1e6:6.1f} MB, {seen['handled']} handled")


def embedded(url: str, rounds: int, count: int) -> None:
    """Print what it costs to bring messages through the embedded broker, and what to pika's loop alone."""
    print(f"\n{count} messages of 16 bytes published, confirmed, delivered and acked, median of {rounds}")
    ways = [(peer, "memory://" if peer == "txamqpx" else url) for peer in WAYS]
    taken: dict[str, list[float]] = {peer: [] for peer, _ in ways}
    for _ in range(rounds):
        for peer, way in ways:
            taken[peer].append(run("embedded", peer, way, count, 16)["cpu"])
    for peer, samples in taken.items():
        what = "client and embedded broker" if peer == "txamqpx" else "the client alone, with RabbitMQ"
        print(f"{peer:16} {median(samples):6.2f} s of CPU: {what}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", choices=("declares", "distance", "embedded", "flood"))
    options = parser.parse_args(arguments)
    if options.only in (None, "flood"):
        flood()
    if options.only != "flood":
        from tests.rabbitmq import Node

        with Node() as node:
            if options.only in (None, "declares"):
                declares(node.url(), options.rounds, round(1000 * options.scale))
            if options.only in (None, "distance"):
                distance(node.url(), options.rounds, round(200_000 * options.scale))
            if options.only in (None, "embedded"):
                embedded(node.url(), options.rounds, round(100_000 * options.scale))


if __name__ == "__main__":
    main()
