"""Render results as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from benchmarks import case
from benchmarks.result import LAYERS, NOT_INSTALLED, Cell, Change, Result

T = TypeVar("T")

OURS = "txamqpx"
YARDSTICKS = ("pika-twisted", "aio-pika")


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of text; the first row is the heading, the first column is left-aligned."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def size_name(size: int) -> str:
    """Return a body size as people say it."""
    return f"{size // 1024} KiB" if size >= 1024 and size % 1024 == 0 else f"{size} B"


def figure_name(cell: Cell | None) -> str:
    """Return a cell's figure, or why there is none."""
    if cell is None:
        return "-"
    if cell.figure is None:
        return NOT_INSTALLED if cell.failure == NOT_INSTALLED else "failed"
    if cell.p99 is not None:
        return f"{cell.figure:.0f} / {cell.p99:.0f} us"
    return f"{cell.figure:.3f}" if cell.figure < 10 else f"{cell.figure:.1f}"


def verdict(ours: float, peer: float, goal: float | None) -> str:
    """Say how many times less ours costs, and by how much that meets or misses the goal."""
    times = peer / ours
    if goal is None:
        return f"{times:.2f}x"
    distance = abs(times / goal - 1) * 100
    outcome = f"met by {distance:.0f} %" if times >= goal else f"MISSED by {distance:.0f} %"
    return f"{times:.2f}x of {goal:.3g}x, {outcome}"


def _verdict(ours: Cell | None, other: Cell | None, goal: float | None) -> str:
    if ours is None or other is None or not ours.figure or not other.figure:
        return "-"
    return verdict(ours.figure, other.figure, goal)


def peer_tables(result: Result) -> str:
    """Render a table for each target: a row for each case, a column for each peer, and the goals."""
    growing = {name for growth in case.GROWTHS for name in (growth.base, growth.grown)}
    tables = []
    for target in _in_order(cell.target for cell in result.cells if cell.target != LAYERS):
        cells = {
            cell.key: cell for cell in result.cells if cell.target == target and cell.case not in growing
        }
        if not cells:
            continue
        peers = _in_order(key[3] for key in cells)
        rows = [["case", "body", *peers, *(f"against {name}" for name in YARDSTICKS)]]
        for _, name, size, _ in _in_order((*key[:3], "") for key in cells):
            row = {peer: cells.get((target, name, size, peer)) for peer in peers}
            verdicts = [
                _verdict(row.get(OURS), row.get(other), case.goal(name, size, target, other))
                for other in YARDSTICKS
            ]
            rows.append([name, size_name(size), *(figure_name(cell) for cell in row.values()), *verdicts])
        tables.append(
            f"{target}: client CPU seconds per 100,000 messages (p50 / p99 for one at a time), "
            f"median of {result.rounds}\n{columns(rows)}"
        )
    return "\n\n".join(tables)


def growth_table(result: Result) -> str:
    """Render how the cost of a message grows with their number and with the open channels."""
    figures = result.figures()
    rows = [["growth", "before", "after", "ratio", "limit", ""]]
    for growth in case.GROWTHS:
        before, after = (figures.get(("sink", name, 16, OURS)) for name in (growth.base, growth.grown))
        if before is None or after is None:
            continue
        ratio = after / before
        outcome = "met" if ratio <= growth.limit else f"MISSED by {(ratio / growth.limit - 1) * 100:.0f} %"
        rows.append(
            [growth.grown, f"{before:.3f}", f"{after:.3f}", f"{ratio:.3f}", f"{growth.limit:.2f}", outcome]
        )
    return columns(rows) if len(rows) > 1 else ""


def layer_table(result: Result) -> str:
    """Render the layers, from the codec up: what one message costs in each."""
    cells = {cell.key: cell for cell in result.cells if cell.target == LAYERS}
    if not cells:
        return ""
    peers = _in_order(key[3] for key in cells)
    others = [peer for peer in peers if peer != OURS]
    rows = [["layer", "body", *peers, *(f"against {other}" for other in others)]]
    for _, name, size, _ in _in_order((*key[:3], "") for key in cells):
        row = {peer: cells.get((LAYERS, name, size, peer)) for peer in peers}
        verdicts = [_verdict(row.get(OURS), row[other], None) for other in others]
        rows.append([name, size_name(size), *(figure_name(cell) for cell in row.values()), *verdicts])
    return f"layers: CPU seconds per 100,000 messages, nothing on the wire\n{columns(rows)}"


def failures(result: Result) -> list[str]:
    """Return a paragraph for each thing that went wrong, with the cells in which it did."""
    found: dict[str, list[Cell]] = {}
    for cell in result.cells:
        if cell.failure not in ("", NOT_INSTALLED):
            found.setdefault(cell.failure.splitlines()[-1], []).append(cell)
    return [
        "\n".join(
            [
                *(
                    f"{cell.target}: {cell.case}, {size_name(cell.size)}: {cell.peer} failed:"
                    for cell in cells
                ),
                cells[0].failure,
            ]
        )
        for cells in found.values()
    ]


def change_table(before: Result, after: Result, found: Sequence[Change]) -> str:
    """Render what changed between two results."""
    rows = [
        ["target", "case", "body", "peer", before.commit, after.commit, "absolute", "against the yardstick"]
    ]
    for change in found:
        target, name, size, peer = change.key
        relative = "-" if change.relative is None else f"{(change.relative - 1) * 100:+.1f} %"
        rows.append(
            [
                target,
                name,
                size_name(size),
                peer,
                f"{change.before:.3f}",
                f"{change.after:.3f}",
                f"{(change.absolute - 1) * 100:+.1f} %",
                relative,
            ]
        )
    return columns(rows)


def _in_order(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
