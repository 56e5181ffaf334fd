import json
from pathlib import Path

import attrs
import pytest

from benchmarks.result import FORMAT, NOT_INSTALLED, Cell, Result, WrongFormat, blank, changes, read
from benchmarks.worker import Sample


def cell(peer: str, *seconds: float, case: str = "publish", target: str = "sink", failure: str = "") -> Cell:
    samples = [Sample(count=1000, cpu=each, wall=each) for each in seconds]
    return Cell(target, case, 16, peer, samples, failure)


def result(*cells: Cell) -> Result:
    return Result(
        FORMAT, "abc", "now", "CPython", "a machine", 3, {"txamqpx": "1"}, {"publish": 1e6}, list(cells)
    )


def test_the_figure_is_the_median_for_100_000_messages() -> None:
    assert cell("txamqpx", 0.009, 0.001, 0.002).figure == pytest.approx(0.2)


def test_the_figure_is_the_median_latency_where_there_is_one() -> None:
    samples = [Sample(10, 1.0, 1.0, p50=p50, p99=p50 * 2) for p50 in (100.0, 300.0, 120.0)]
    timed = Cell("sink", "one at a time", 16, "txamqpx", samples)
    assert (timed.figure, timed.p99) == (120.0, 240.0)


def test_a_cell_that_failed_has_no_figure() -> None:
    assert cell("txamqpx", 0.001, failure="it broke").figure is None
    assert cell("txamqpx", failure=NOT_INSTALLED).figure is None
    assert cell("txamqpx").p99 is None


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = result(cell("txamqpx", 0.001, 0.002), cell("aio-pika", failure=NOT_INSTALLED))
    written.write(tmp_path / "a.json")
    assert read(tmp_path / "a.json") == written


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"format": 1}'])
def test_something_else_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(WrongFormat, match=r"other\.json is no benchmark result"):
        read(tmp_path / "other.json")


def test_another_format_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**attrs.asdict(result()), "format": 99}))
    with pytest.raises(WrongFormat, match="has format 99"):
        read(tmp_path / "a.json")


def test_a_change_is_taken_against_the_yardstick_of_its_own_run() -> None:
    before = result(cell("txamqpx", 0.010), cell("pika-twisted", 0.020))
    after = result(cell("txamqpx", 0.015), cell("pika-twisted", 0.040))  # a machine half as fast
    (change,) = changes(before, after, ["pika-twisted", "aio-pika"])
    assert change.key == ("sink", "publish", 16, "txamqpx")
    assert [change.before, change.after] == pytest.approx([1.0, 1.5])
    assert change.absolute == pytest.approx(1.5)
    assert change.relative == pytest.approx(0.75)


def test_the_next_yardstick_is_taken_when_the_first_was_not_measured_both_times() -> None:
    before = result(cell("txamqpx", 0.010), cell("aio-pika", 0.1))
    after = result(cell("txamqpx", 0.010), cell("pika-twisted", 0.040), cell("aio-pika", 0.2))
    (change,) = changes(before, after, ["pika-twisted", "aio-pika"])
    assert change.relative == pytest.approx(0.5)


def test_without_a_yardstick_only_the_absolute_change_is_known() -> None:
    (change,) = changes(result(cell("txamqpx", 0.010)), result(cell("txamqpx", 0.005)), ["pika-twisted"])
    assert change.absolute == pytest.approx(0.5)
    assert change.relative is None


def test_what_only_one_result_has_did_not_change() -> None:
    before = result(cell("txamqpx", 0.010, case="publish"), cell("txamqpx", failure="broken", case="deliver"))
    after = result(cell("txamqpx", 0.010, case="confirm"), cell("txamqpx", 0.010, case="deliver"))
    assert changes(before, after, []) == []


def test_a_blank_result_knows_where_it_was_taken() -> None:
    taken = blank(3, {"txamqpx": "1"})
    assert (taken.format, taken.rounds, taken.peers, taken.cells) == (FORMAT, 3, {"txamqpx": "1"}, [])
    assert taken.python.startswith("CPython 3.")
    assert taken.commit
