"""Run cases in interleaved rounds, each sample in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec

import attrs

from benchmarks.case import BY_NAME, GROWTHS, Case
from benchmarks.feeder import FeederFailed
from benchmarks.layers import NEEDS, layers
from benchmarks.peers import BY_NAME as PEERS
from benchmarks.peers import Peer
from benchmarks.result import LAYERS, NOT_INSTALLED, ROOT, Cell
from benchmarks.target import FalseClaim, SinkTarget, Target
from benchmarks.worker import Sample

TIMEOUT = 600
"""Seconds that one worker may take: the slowest needs a minute on a busy machine, a stuck one for ever."""

LAST_WORDS = 12
"""Lines of a failed worker's standard error that are kept; a traceback says what it has to say at its end."""

Report = Callable[[str], None]


class WorkerFailed(Exception):
    """A worker ended without a sample; the message is what it said last."""


def measure(
    cases: Iterable[Case],
    peers: Sequence[Peer],
    targets: Sequence[Target],
    *,
    sizes: Sequence[int] | None = None,
    rounds: int = 3,
    scale: float = 1.0,
    report: Report = lambda line: None,
) -> list[Cell]:
    """Measure every case with every peer that is installed.

    The rounds of one case are interleaved (A B A B), so that what disturbs the machine for a minute disturbs
    all peers of a row alike.

    Args:
        cases: What to measure.
        peers: With whom.
        targets: Against what; a case is left out on a target about which it says nothing.
        sizes: The body sizes to measure; None takes those of each case.
        rounds: How often each peer runs each case.
        scale: By what to multiply the number of messages.
        report: Told before each run what is about to be done.
    """
    cells = []
    for target in targets:
        for case in cases:
            if target.name not in case.targets:
                continue
            columns = [(case, peer) for peer in peers]
            for size in case.sizes:
                if sizes is None or size in sizes:
                    cells += _row(target, size, columns, rounds, scale, report)
    return cells


def measure_growth(*, rounds: int = 3, scale: float = 1.0, report: Report = lambda line: None) -> list[Cell]:
    """Measure each pair of cases that shall cost alike, interleaved with each other."""
    cells: list[Cell] = []
    ours = PEERS["txamqpx"]
    for growth in GROWTHS:
        base, grown = BY_NAME[growth.base], BY_NAME[growth.grown]
        for size in base.sizes:
            cells += _row(SinkTarget(), size, [(base, ours), (grown, ours)], rounds, scale, report)
    return cells


def _row(
    target: Target,
    size: int,
    columns: Sequence[tuple[Case, Peer]],
    rounds: int,
    scale: float,
    report: Report,
) -> list[Cell]:
    cells = [
        Cell(target.name, case.name, size, peer.name, failure="" if peer.installed() else NOT_INSTALLED)
        for case, peer in columns
    ]
    for number in range(1, rounds + 1):
        for at, (case, peer) in enumerate(columns):
            if cells[at].failure:
                continue
            report(f"{target.name}: {case.name}, {size} bytes, round {number} of {rounds}: {peer.name}")
            try:
                cells[at].samples.append(sample(target, case, size, peer, scale))
            except (WorkerFailed, FalseClaim, FeederFailed, OSError) as failure:
                cells[at] = attrs.evolve(cells[at], failure=str(failure))
    return cells


def sample(target: Target, case: Case, size: int, peer: Peer, scale: float) -> Sample:
    """Run one case once.

    Raises:
        WorkerFailed: The worker did not come to its end.
        FalseClaim: It did, but not with what the target saw.
    """
    count = case.count_for(size, peer.weight, scale)
    warmup = case.warmup_for(count, scale)
    with target.run(case, size, count, warmup) as run:
        words = [peer.name, case.name, "--url", run.url, "--size", str(size), "--count", str(count)]
        words += ["--queue", run.queue, "--warmup", str(warmup), "--warmup-queue", run.warmup_queue]
        taken = work("benchmarks.worker", words)
        run.check(taken)
    return taken


def measure_layers(*, rounds: int = 3, scale: float = 1.0, report: Report = lambda line: None) -> list[Cell]:
    """Measure every layer with everybody who can do it, in interleaved rounds."""
    cells: list[Cell] = []
    for layer in layers().values():
        for size in layer.sizes:
            row = {
                peer: Cell(
                    LAYERS, layer.name, size, peer, failure="" if find_spec(NEEDS[peer]) else NOT_INSTALLED
                )
                for peer in layer.makers
            }
            for number in range(1, rounds + 1):
                for peer, cell in row.items():
                    if cell.failure:
                        continue
                    report(f"{layer.name}, {size} bytes, round {number} of {rounds}: {peer}")
                    words = [
                        layer.name,
                        peer,
                        "--size",
                        str(size),
                        "--count",
                        str(layer.count_for(size, scale)),
                    ]
                    try:
                        cell.samples.append(work("benchmarks.layers.worker", words))
                    except WorkerFailed as failure:
                        row[peer] = attrs.evolve(cell, failure=str(failure))
            cells += row.values()
    return cells


def work(module: str, words: Sequence[str]) -> Sample:
    """Run a worker in a process of its own and return its sample.

    Raises:
        WorkerFailed: It ended with an error, or did not end.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise WorkerFailed(f"no end after {TIMEOUT} s") from expired
    if done.returncode:
        raise WorkerFailed(
            "\n".join([f"it ended with {done.returncode}", *done.stderr.splitlines()[-LAST_WORDS:]])
        )
    return Sample(**json.loads(done.stdout))
