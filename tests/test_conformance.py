from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conformance import ROWS, Collector, Results, page, rows


def item(test: str, *marks: tuple[str, ...]) -> Any:
    marked = [pytest.mark.covers(*mark).mark for mark in marks]
    return SimpleNamespace(nodeid=test, iter_markers=lambda name: iter(marked if name == "covers" else []))


def report(
    test: str, outcome: str, when: str = "call", broker: str | None = None, *, marked: bool = True
) -> Any:
    return SimpleNamespace(
        nodeid=test,
        outcome=outcome,
        when=when,
        failed=outcome == "failed",
        skipped=outcome == "skipped",
        keywords={"covers": 1} if marked else {},
        user_properties=[("broker", broker)] if broker else [],
    )


def results(path: Path, *reports: Any) -> dict[str, dict[str, str]]:
    run = Results(path)
    for one in reports:
        run.pytest_runtest_logreport(one)
    run.pytest_sessionfinish()
    return run.load()


def test_the_rows_are_scenarios_rules_and_features() -> None:
    assert {"S01", "S44", "S100", "T-PUB-03", "T-REC-20", "T20", "J02", "F1", "F13b"} < ROWS
    assert not {"S00", "S1", "S101", "T-PUB-16", "T-PUB-3", "T-XXX-01", "T29", "F13c", "Q01"} & ROWS


def test_marks_name_rows() -> None:
    assert rows(item("test", ("S44", "T-PUB-03"), ("S01",))) == ["S44", "T-PUB-03", "S01"]


def test_an_unknown_row_is_an_error() -> None:
    with pytest.raises(pytest.UsageError, match="test_a covers rows that do not exist: S101, T-PUB-99"):
        rows(item("test_a", ("S44", "S101", "T-PUB-99")))


def test_the_collector_gathers_tests_by_row() -> None:
    collector = Collector()
    collected = [item("first", ("S44",)), item("second", ("S45", "S44")), item("third")]
    session: Any = SimpleNamespace(items=collected)
    collector.pytest_collection_finish(session)
    assert collector.tests == {"S44": ["first", "second"], "S45": ["second"]}


def test_a_failure_in_any_phase_stands(tmp_path: Path) -> None:
    assert results(
        tmp_path,
        report("good", "passed", "setup"),
        report("good", "passed"),
        report("good", "passed", "teardown"),
        report("bad", "failed"),
        report("late", "passed"),
        report("late", "failed", "teardown"),
        report("early", "failed", "setup"),
        report("absent", "skipped"),
        report("plain", "passed", marked=False),
    ) == {
        "good": {"memory": "passed"},
        "bad": {"memory": "failed"},
        "late": {"memory": "failed"},
        "early": {"memory": "failed"},
    }


def test_runs_against_several_brokers_meet(tmp_path: Path) -> None:
    results(tmp_path, report("test", "failed", broker="RabbitMQ 3.10.8"))
    results(tmp_path, report("test", "passed", broker="RabbitMQ 4.3.6"))
    results(tmp_path, report("test", "passed", broker="RabbitMQ 3.10.8"))
    assert results(tmp_path) == {"test": {"RabbitMQ 3.10.8": "passed", "RabbitMQ 4.3.6": "passed"}}


def test_the_page_says_what_ran_where() -> None:
    tests = {
        "S44": ["tests/a/test_b.py::test_c[1]", "tests/a/test_b.py::test_c[2]", "tests/test_d.py::test_e"]
    }
    text = page(
        tests,
        {
            "tests/a/test_b.py::test_c[1]": {"memory": "passed", "RabbitMQ 3.10.8": "passed"},
            "tests/a/test_b.py::test_c[2]": {"memory": "failed"},
            "tests/gone.py::test_gone": {"memory": "passed"},
        },
    )
    assert f"1 of {len(ROWS)} rows are held, by 3 tests." in text
    table = [line for line in text.splitlines() if line.startswith("| S44")]
    assert table == [
        "| S44 | [a/test_b.py](../tests/a/test_b.py) `test_c` | RabbitMQ 3.10.8, **failed on memory** |",
        "| S44 | [test_d.py](../tests/test_d.py) `test_e` | not run |",
    ]
    assert "gone" not in text
    assert "\nHeld by no test yet: S01 to S43, S45 to S100.\n" in text
    assert "\nHeld by no test yet: T-HS-01 to T-HS-11, T-FR-01 to T-FR-10, T-TB-01" in text
    assert "J01 to J09, " in text
    assert text.endswith("F1 to F15.\n")
