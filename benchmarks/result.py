"""Keep what was measured: medians, files, and what changed between two of them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import attrs
import cattrs

from benchmarks.worker import Sample

FORMAT = 1
NOT_INSTALLED = "not installed"
LAYERS = "layers"
"""The target of cells in which there is no other side."""

ROOT = Path(__file__).parent.parent


class WrongFormat(Exception):
    """A file does not hold a result of this suite."""


@attrs.frozen
class Cell:
    """Hold the samples of one peer in one case; `failure` says why there are none, or not all."""

    target: str
    case: str
    size: int
    peer: str
    samples: list[Sample] = attrs.field(factory=list)
    failure: str = ""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what tells this cell from all others of a result."""
        return self.target, self.case, self.size, self.peer

    @property
    def figure(self) -> float | None:
        """Return the one number that stands for the cell, or None when a run failed.

        It is the median latency in microseconds where latencies were taken, or else the median CPU seconds
        per 100,000 messages.
        """
        if self.failure or not self.samples:
            return None
        return statistics.median(
            sample.cpu / sample.count * 100_000 if sample.p50 is None else sample.p50
            for sample in self.samples
        )

    @property
    def p99(self) -> float | None:
        """Return the median of the rounds' 99th percentiles, in microseconds."""
        values = [sample.p99 for sample in self.samples if sample.p99 is not None]
        return statistics.median(values) if values else None


@attrs.frozen
class Result:
    """Hold one run of the suite, with all that has to be known to judge it.

    `peers` maps the name of each peer to its version, or to an empty string where it is not installed; `sink`
    holds the messages a second that the sink was found to take in, confirm and deliver.
    """

    format: int
    commit: str
    taken: str
    python: str
    machine: str
    rounds: int
    peers: dict[str, str]
    sink: dict[str, float] = attrs.field(factory=dict)
    cells: list[Cell] = attrs.field(factory=list)

    def figures(self) -> dict[tuple[str, str, int, str], float]:
        """Return every figure by its cell's key."""
        return {cell.key: cell.figure for cell in self.cells if cell.figure is not None}

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        path.write_text(json.dumps(attrs.asdict(self), indent=1) + "\n")


def read(path: Path) -> Result:
    """Read a result.

    Raises:
        WrongFormat: The file holds something else.
    """
    try:
        result = cattrs.structure(json.loads(path.read_text()), Result)
    except (ValueError, cattrs.BaseValidationError) as error:
        raise WrongFormat(f"{path} is no benchmark result: {error}") from error
    if result.format != FORMAT:
        raise WrongFormat(f"{path} has format {result.format}, this suite reads {FORMAT}")
    return result


def blank(rounds: int, peers: dict[str, str]) -> Result:
    """Return a result without cells, taken here and now from the source as it stands."""
    return Result(
        format=FORMAT,
        commit=_commit(),
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        machine=f"{os.cpu_count()} x {platform.machine()}, {platform.system()} {platform.release()}",
        rounds=rounds,
        peers=peers,
    )


@attrs.frozen
class Change:
    """Say what became of one figure from one result to another.

    `absolute` is the new figure by the old. `relative` is the same after each was divided by the yardstick's
    figure of its own run, which takes out how fast and how busy the machine was; None where the yardstick was
    not measured.
    """

    key: tuple[str, str, int, str]
    before: float
    after: float
    absolute: float
    relative: float | None


def changes(before: Result, after: Result, yardsticks: Iterable[str]) -> list[Change]:
    """Return the change of every figure that both results have, in the order of the later one.

    Args:
        before: The earlier result.
        after: The later result.
        yardsticks: Peers that did not change between the two; the first that has a figure beside it is taken.
    """
    old, new = before.figures(), after.figures()
    yardsticks = list(yardsticks)
    found = []
    for key in new:
        if key not in old or key[3] in yardsticks:
            continue
        absolute = new[key] / old[key]
        beside = [(*key[:3], yardstick) for yardstick in yardsticks]
        usable = [other for other in beside if other in old and other in new]
        relative = absolute * old[usable[0]] / new[usable[0]] if usable else None
        found.append(Change(key, old[key], new[key], absolute, relative))
    return found


def _commit() -> str:
    """Return the commit that is checked out, with a plus sign when the tree differs from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True
        )
        dirty = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout else "")
