"""Run one layer of one peer in a process of its own: `python -m benchmarks.layers.worker LAYER PEER ...`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import attrs

from benchmarks.layers import COUNT, layers
from benchmarks.worker import Meter, Sample


class Incomplete(Exception):
    """A layer dealt with fewer messages than it was given."""


def take(name: str, peer: str, size: int, count: int) -> Sample:
    """Prepare a layer, warm it up, and measure it.

    Raises:
        Incomplete: It did not deal with every message.
    """
    make = layers()[name].makers[peer]
    make(size, max(20, count // 20))()
    work = make(size, count)
    with Meter() as meter:
        done = work()
    if done != count:
        raise Incomplete(f"{name}: {peer} dealt with {done} of {count}")
    return Sample(count, meter.cpu, meter.wall)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for and print the sample as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers.worker")
    parser.add_argument("layer", choices=list(layers()))
    parser.add_argument("peer")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--count", type=int, default=COUNT)
    options = parser.parse_args(arguments)
    json.dump(attrs.asdict(take(options.layer, options.peer, options.size, options.count)), sys.stdout)


if __name__ == "__main__":
    main()
