"""The command line: `python -m benchmarks [run] [options]`, `compare A B`, `sink`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path

import attrs

from benchmarks import case, peers, result, suite, table
from benchmarks.feeder import rates
from benchmarks.sink import Sink, SinkFailed
from benchmarks.target import BrokerTarget, SinkTarget, Target

PARTS = ("layers", "peers", "growth")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit status: 1 when a run failed or a claim was false."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "run")
    options = parser.parse_args(words)
    try:
        status: int = options.command(options)
    except (SinkFailed, result.WrongFormat) as problem:
        print(f"python -m benchmarks: {problem}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    return status


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, and write the result."""
    chosen = [peers.BY_NAME[name] for name in options.peers]
    taken = result.blank(
        options.rounds, {peer.name: peer.version() if peer.installed() else "" for peer in chosen}
    )
    cells: list[result.Cell] = []
    with ExitStack() as stack:
        targets: list[Target] = []
        if "sink" in options.targets:
            with Sink() as sink:
                taken = attrs.evolve(taken, sink=rates(sink.url(), round(1_000_000 * min(1, options.scale))))
            targets.append(SinkTarget())
        if "rabbitmq" in options.targets and "peers" in options.parts:
            targets += stack.enter_context(_rabbitmq(options.rabbitmq))
        if "layers" in options.parts:
            cells += suite.measure_layers(rounds=options.rounds, scale=options.scale, report=_report)
        if "peers" in options.parts:
            cells += suite.measure(
                [
                    each
                    for each in case.CASES
                    if any(fnmatch(each.name, pattern) for pattern in options.cases)
                ],
                chosen,
                targets,
                sizes=options.sizes,
                rounds=options.rounds,
                scale=options.scale,
                report=_report,
            )
        if "growth" in options.parts:
            cells += suite.measure_growth(rounds=options.rounds, scale=options.scale, report=_report)
    taken = attrs.evolve(taken, cells=cells)
    show(taken)
    if options.json:
        taken.write(options.json)
    return 1 if table.failures(taken) else 0


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show(taken: result.Result) -> None:
    """Print a result."""
    versions = ", ".join(f"{name} {version or '(not installed)'}" for name, version in taken.peers.items())
    print(f"{taken.commit}, {taken.taken}, {taken.python}, {taken.machine}\n{versions}")
    if taken.sink:
        print(
            "the sink, messages a second: "
            + ", ".join(f"{name} {rate:,.0f}" for name, rate in taken.sink.items())
        )
    for text in (table.layer_table(taken), table.peer_tables(taken), table.growth_table(taken)):
        if text:
            print(f"\n{text}")
    for failure in table.failures(taken):
        print(f"\n{failure}")


def compare(options: argparse.Namespace) -> int:
    """Print what changed between two results."""
    before, after = result.read(options.before), result.read(options.after)
    found = result.changes(before, after, [*table.YARDSTICKS, "pika-select", "pamqp"])
    print(table.change_table(before, after, found))
    return 0


def show_again(options: argparse.Namespace) -> int:
    """Print the tables of a result that was written before."""
    show(result.read(options.result))
    return 0


def sink(options: argparse.Namespace) -> int:
    """Measure the sink itself, with both ways of confirming."""
    with Sink() as running:
        for vhost in ("/", "single"):
            for name, rate in rates(running.url(vhost), options.count).items():
                print(f"{vhost}: {name} {rate:,.0f} messages a second; it counted {running.next_count()}")
    return 0


@contextmanager
def _rabbitmq(url: str | None) -> Iterator[list[Target]]:
    """Start a private RabbitMQ, or use one that runs already; without either, say so and go on."""
    if url:
        yield [BrokerTarget("rabbitmq", url)]
        return
    from tests.installation import BrokerMissing
    from tests.rabbitmq import Node

    try:
        node = Node()
    except BrokerMissing as missing:
        print(f"rabbitmq is left out: {missing}", file=sys.stderr)
        yield []
        return
    with node:
        yield [BrokerTarget("rabbitmq", node.url())]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure txamqpx against its peers."
    )
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="measure (what happens without a command)")
    running.set_defaults(command=run)
    running.add_argument("--parts", type=_names(PARTS), default=PARTS, help=f"of {','.join(PARTS)}")
    running.add_argument("--targets", type=_names(("sink", "rabbitmq")), default=("sink", "rabbitmq"))
    running.add_argument("--rabbitmq", metavar="URL", help="use this broker in place of a private one")
    running.add_argument("--peers", type=_names(tuple(peers.BY_NAME)), default=tuple(peers.BY_NAME))
    running.add_argument(
        "--cases", type=lambda text: text.split(";"), default=["*"], help="name patterns, by ';'"
    )
    running.add_argument(
        "--sizes", type=lambda text: [int(size) for size in text.split(",")], help="body sizes"
    )
    running.add_argument("--rounds", type=int, default=3)
    running.add_argument("--scale", type=float, default=1.0, help="multiplies the number of messages")
    running.add_argument("--json", type=Path, metavar="FILE", help="write the result, to be compared later")
    comparing = commands.add_parser("compare", help="what changed between two results")
    comparing.set_defaults(command=compare)
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    showing = commands.add_parser("show", help="the tables of a result")
    showing.set_defaults(command=show_again)
    showing.add_argument("result", type=Path)
    measuring = commands.add_parser("sink", help="how fast the sink itself is")
    measuring.set_defaults(command=sink)
    measuring.add_argument("--count", type=int, default=2_000_000)
    return parser


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
        return names

    return parse
