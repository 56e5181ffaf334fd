from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conformance import DIFFERENCE, ROWS, Collector, Results, page, rows


def item(test: str, *marks: tuple[str, ...]) -> Any:
    marked = [pytest.mark.covers(*mark).mark for mark in marks]
    return SimpleNamespace(nodeid=test, iter_markers=lambda name: iter(marked if name == "covers" else []))


def report(
    test: str,
    outcome: str,
    when: str = "call",
    broker: str | None = None,
    *,
    marked: bool = True,
    reason: str = "because",
) -> Any:
    return SimpleNamespace(
        nodeid=test,
        outcome=outcome,
        when=when,
        failed=outcome == "failed",
        skipped=outcome == "skipped",
        longrepr=("a.py", 1, f"Skipped: {reason}") if outcome == "skipped" else "",
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


def test_what_is_skipped_on_a_broker_is_noted_with_its_reason(tmp_path: Path) -> None:
    assert results(
        tmp_path,
        report("new", "skipped", broker="RabbitMQ 3.10.8"),
        report("kept", "skipped", broker="embedded 4.3", reason=f"{DIFFERENCE}it keeps nothing"),
        report("plain", "skipped", broker="embedded 4.3", marked=False),
        report("odd", "skipped", broker="embedded 4.3", marked=False, reason=f"{DIFFERENCE}no streams"),
        report("nowhere", "skipped", broker="no broker"),
    ) == {
        "new": {"RabbitMQ 3.10.8": "skipped: because"},
        "kept": {"embedded 4.3": f"skipped: {DIFFERENCE}it keeps nothing"},
        "odd": {"embedded 4.3": f"skipped: {DIFFERENCE}no streams"},
    }


def test_the_page_says_what_ran_where() -> None:
    tests = {
        "S44": ["tests/a/test_b.py::test_c[1]", "tests/a/test_b.py::test_c[2]", "tests/test_d.py::test_e"],
        "S45": ["tests/test_f.py::test_g", "tests/test_f.py::test_h"],
    }
    text = page(
        tests,
        {
            "tests/a/test_b.py::test_c[1]": {"RabbitMQ 3.10.8": "passed", "memory": "passed"},
            "tests/a/test_b.py::test_c[2]": {"memory": "failed"},
            "tests/gone.py::test_gone": {"elsewhere": "passed"},
            "tests/test_f.py::test_g": {
                "RabbitMQ 3.10.8": "skipped: too old",
                "embedded 4.3": f"skipped: {DIFFERENCE}it keeps nothing",
            },
            "tests/test_i.py::test_j[1]": {"embedded 3.10": f"skipped: {DIFFERENCE}it keeps nothing"},
            "tests/test_i.py::test_j[2]": {"embedded 4.3": f"skipped: {DIFFERENCE}it keeps nothing"},
        },
    )
    assert f"2 of {len(ROWS)} rows are held, by 5 tests." in text
    assert "\n| Row | Test | memory | embedded 4.3 | RabbitMQ 3.10.8 |\n|---|---|---|---|---|\n" in text
    table = [line for line in text.splitlines() if line.startswith("| S4")]
    assert table == [
        "| S44 | [a/test_b.py](../tests/a/test_b.py) `test_c` | **failed** |  | passed |",
        "| S44 | [test_d.py](../tests/test_d.py) `test_e` |  |  |  |",
        "| S45 | [test_f.py](../tests/test_f.py) `test_g` |  | differs | n/a |",
        "| S45 | [test_f.py](../tests/test_f.py) `test_h` |  |  |  |",
    ]
    assert "gone" not in text
    assert "\nHeld by no test yet: S01 to S43, S46 to S100.\n" in text
    assert "\nHeld by no test yet: T-HS-01 to T-HS-11, T-FR-01 to T-FR-10, T-TB-01" in text
    assert "J01 to J09, " in text
    assert text.endswith(
        "F1 to F15.\n\n## Deliberate differences of the embedded broker\n\n**It keeps nothing.**\n\n"
        "- [test_f.py](../tests/test_f.py) `test_g`, on embedded 4.3\n"
        "- [test_i.py](../tests/test_i.py) `test_j`, on embedded 3.10, embedded 4.3\n"
    )


def test_a_page_without_differences_says_so() -> None:
    assert page({}, {}).endswith("\n## Deliberate differences of the embedded broker\n\nNone.\n")
