from benchmarks.case import GROWTHS
from benchmarks.result import LAYERS, NOT_INSTALLED, Cell, Result, changes
from benchmarks.table import (
    change_table,
    columns,
    failures,
    figure_name,
    growth_table,
    layer_table,
    peer_tables,
    size_name,
    verdict,
)
from benchmarks.worker import Sample
from tests.benchmarks.test_result import cell, result


def row_of(table: str, beginning: str) -> list[str]:
    """Return the words of the one row that begins so."""
    (row,) = [line for line in table.splitlines() if line.startswith(beginning)]
    return row.removeprefix(beginning).split()


def latency(peer: str, p50: float, target: str = "rabbitmq") -> Cell:
    return Cell(target, "one at a time", 16, peer, [Sample(10, 1.0, 1.0, p50=p50, p99=p50 * 3)])


def test_columns_are_aligned() -> None:
    assert columns([["a", "bb"], ["ccc", "d"]]) == "a    bb\n-------\nccc   d"


def test_sizes_are_said_as_people_do() -> None:
    assert [size_name(size) for size in (16, 1000, 1024, 65536)] == ["16 B", "1000 B", "1 KiB", "64 KiB"]


def test_a_goal_is_met_or_missed_by_so_much() -> None:
    assert verdict(0.25, 1.0, 2.5) == "4.00x of 2.5x, met by 60 %"
    assert verdict(0.5, 1.0, 2.5) == "2.00x of 2.5x, MISSED by 20 %"
    assert verdict(0.5, 1.0, None) == "2.00x"


def test_a_figure_or_why_there_is_none() -> None:
    assert figure_name(cell("txamqpx", 0.002)) == "0.200"
    assert figure_name(cell("aio-pika", 0.2)) == "20.0"
    assert figure_name(latency("txamqpx", 100)) == "100 / 300 us"
    assert figure_name(cell("aio-pika", failure=NOT_INSTALLED)) == "not installed"
    assert figure_name(cell("aio-pika", failure="no such queue")) == "failed"
    assert figure_name(None) == "-"


def test_each_case_is_a_row_with_its_ratios() -> None:
    table = peer_tables(
        result(
            cell("txamqpx", 0.002),
            cell("pika-twisted", 0.008),
            cell("aio-pika", 0.02),
            cell("txamqpx", 0.002, case="deliver + ack"),
            cell("pika-twisted", failure=NOT_INSTALLED, case="deliver + ack"),
        )
    )
    words = row_of(table, "publish ")
    assert words[:5] == ["16", "B", "0.200", "0.800", "2.000"]
    assert " ".join(words[5:]) == "4.00x of 3x, met by 33 % 10.00x of 20x, MISSED by 50 %"
    assert row_of(table, "deliver + ack ") == ["16", "B", "0.200", "not", "installed", "-", "-", "-"]


def test_each_target_has_a_table_and_latencies_their_goal() -> None:
    table = peer_tables(
        result(
            cell("txamqpx", 0.002),
            latency("txamqpx", 130),
            latency("pika-twisted", 200),
            latency("aio-pika", 200),
        )
    )
    first, second = table.split("\n\n")
    assert first.startswith("sink: client CPU seconds per 100,000 messages")
    assert second.startswith("rabbitmq: ")
    assert " ".join(row_of(second, "one at a time ")) == (
        "16 B 130 / 390 us 200 / 600 us 200 / 600 us 1.54x of 1.54x, met by 0 % 1.54x of 1.67x, MISSED by 8 %"
    )


def test_growth_has_a_table_of_its_own() -> None:
    growth = GROWTHS[0]
    taken = result(cell("txamqpx", 0.002, case=growth.base), cell("txamqpx", 0.0024, case=growth.grown))
    table = growth_table(taken)
    assert row_of(table, growth.grown) == ["0.200", "0.240", "1.200", "1.05", "MISSED", "by", "14", "%"]
    assert peer_tables(taken) == ""
    within = result(cell("txamqpx", 0.002, case=growth.base), cell("txamqpx", 0.002, case=growth.grown))
    assert row_of(growth_table(within), growth.grown)[-1] == "met"
    assert growth_table(result()) == ""


def test_layers_have_a_table_of_their_own() -> None:
    taken = result(
        cell("txamqpx", 0.001, case="codec: x", target=LAYERS),
        cell("pamqp", 0.004, case="codec: x", target=LAYERS),
        cell("txamqpx", 0.002, case="core: y", target=LAYERS),
    )
    table = layer_table(taken)
    assert row_of(table, "codec: x") == ["16", "B", "0.100", "0.400", "4.00x"]
    assert row_of(table, "core: y") == ["16", "B", "0.200", "-", "-"]
    assert peer_tables(taken) == ""
    assert layer_table(result()) == ""


def test_equal_failures_are_told_once_with_their_cells() -> None:
    told = failures(
        result(
            cell("txamqpx", failure="somewhere\nBroken: badly", case="publish"),
            cell("txamqpx", failure="elsewhere\nBroken: badly", case="deliver"),
            cell("aio-pika", failure=NOT_INSTALLED),
            cell("aio-pika", failure="another"),
        )
    )
    first, second = told
    assert first.splitlines() == [
        "sink: publish, 16 B: txamqpx failed:",
        "sink: deliver, 16 B: txamqpx failed:",
        "somewhere",
        "Broken: badly",
    ]
    assert second.splitlines() == ["sink: publish, 16 B: aio-pika failed:", "another"]


def test_changes_are_shown_in_percent() -> None:
    def taken(commit: str, ours: float, theirs: float) -> Result:
        return Result(1, commit, "", "", "", 1, {}, {}, [cell("txamqpx", ours), cell("pika-twisted", theirs)])

    before, after = taken("aaa", 0.01, 0.02), taken("bbb", 0.009, 0.02)
    table = change_table(before, after, changes(before, after, ["pika-twisted"]))
    assert table.splitlines()[0].split()[4:6] == ["aaa", "bbb"]
    assert " ".join(row_of(table, "sink")) == "publish 16 B txamqpx 1.000 0.900 -10.0 % -10.0 %"
