"""`python -m tests.differential [--version 4.3] [--seed N] [--programs N] [--length N]`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from tests.differential.judge import search
from tests.rabbitmq import Node


def main() -> int:
    """Search for differences, and return whether there were any."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--version", default="3.10", help="which RabbitMQ")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", type=int, default=20)
    parser.add_argument("--length", type=int, default=40)
    options = parser.parse_args()
    with Node(options.version) as node:
        found = search(
            node,
            f"rabbitmq-{options.version}",
            seed=options.seed,
            length=options.length,
            programs=options.programs,
            report=partial(print, flush=True),
        )
    print(f"{len(found)} of {options.programs} programs differ")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
