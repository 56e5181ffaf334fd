"""Which test holds which row of the conformance table, and on which brokers it ran: docs/conformance.md.

A test names its rows with `@pytest.mark.covers("S44", "T-PUB-03")`. Every run of pytest adds the results of
the marked tests to a file, where runs against several brokers meet; `python -m tests.conformance` makes the
page.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from contextlib import redirect_stdout
from io import StringIO
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"

RULES = {
    "HS": 11,
    "FR": 10,
    "TB": 8,
    "PUB": 15,
    "CH": 12,
    "CON": 16,
    "ACK": 8,
    "QOS": 4,
    "HB": 6,
    "BLK": 3,
    "CLS": 8,
    "REC": 20,
    "RPC": 5,
}
FEATURES = {
    "P": 40,
    "T": 28,
    "G": 23,
    "L": 15,
    "A": 12,
    "C": 5,
    "K": 16,
    "J": 9,
    "W": 2,
    "X": 8,
    "Y": 3,
    "Z": 5,
}
SECTIONS = {
    "Acceptance scenarios": [f"S{number:02}" for number in range(1, 101)],
    "Rules of correct behaviour": [
        f"T-{subject}-{number:02}" for subject, last in RULES.items() for number in range(1, last + 1)
    ],
    "Features and flaws of the predecessors": [
        *(f"{letter}{number:02}" for letter, last in FEATURES.items() for number in range(1, last + 1)),
        *(f"F{number}" for number in (*range(1, 14), "13b", 14, 15)),
    ],
}
ROWS = frozenset(row for section in SECTIONS.values() for row in section)
"""Every row there is."""

HEAD = """\
# Conformance

Which test holds which row, and where it passed last: in memory, or on which broker. `make conformance` writes
this page from the tests' `covers` marks and from the results of the runs in this checkout.

"""


def rows(item: pytest.Item) -> list[str]:
    """Return the rows that a test holds.

    Raises:
        pytest.UsageError: A mark names a row that does not exist.
    """
    named = [row for mark in item.iter_markers("covers") for row in mark.args]
    unknown = [str(row) for row in named if row not in ROWS]
    if unknown:
        raise pytest.UsageError(f"{item.nodeid} covers rows that do not exist: {', '.join(unknown)}")
    return named


class Results:
    """The outcomes of the marked tests, by test and broker, in a file that every run adds to.

    Args:
        root: The directory of the file.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / ".conformance.json"
        self._outcomes: dict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome; a failure in any phase stands, a test that was skipped did not run."""
        if "covers" not in report.keywords or report.skipped or (report.when != "call" and not report.failed):
            return
        broker = str(dict(report.user_properties).get("broker", "memory"))
        outcomes = self._outcomes[report.nodeid]
        if outcomes.get(broker) != "failed":
            outcomes[broker] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Add what this run found to what was known."""
        if not self._outcomes:
            return
        known = self.load()
        for test, outcomes in self._outcomes.items():
            known.setdefault(test, {}).update(outcomes)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(known, indent=1, sort_keys=True))
        partial.replace(self._path)

    def load(self) -> dict[str, dict[str, str]]:
        """Return the last outcome of each test on each broker."""
        if not self._path.exists():
            return {}
        known: dict[str, dict[str, str]] = json.loads(self._path.read_text())
        return known


class Collector:
    """Gather the marked tests of a run that only collects.

    Attributes:
        tests: The ids of the tests that hold each row.
    """

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = defaultdict(list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the marks."""
        for item in session.items:
            for row in rows(item):
                self.tests[row].append(item.nodeid)


def page(tests: Mapping[str, Iterable[str]], outcomes: Mapping[str, Mapping[str, str]]) -> str:
    """Make the page.

    Args:
        tests: The ids of the tests that hold each row.
        outcomes: Each test's last outcome, by broker.
    """
    held = ROWS & {row for row in tests if tests[row]}
    count = len({test for row in held for test in tests[row]})
    lines = [f"{len(held)} of {len(ROWS)} rows are held, by {count} tests."]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", "| Row | Test | Passed on |", "|---|---|---|"]
        for row in section:
            functions: dict[str, list[Mapping[str, str]]] = defaultdict(list)
            for test in tests.get(row, ()):
                functions[test.partition("[")[0]].append(outcomes.get(test, {}))
            for function, found in functions.items():
                path, _, name = function.partition("::")
                link = f"[{path.removeprefix('tests/')}](../{path}) `{name}`"
                lines.append(f"| {row} | {link} | {_passed_on(found)} |")
        lines += ["", f"Held by no test yet: {_missing(section, held)}."]
    return HEAD + "\n".join([*lines, ""])


def _passed_on(found: list[Mapping[str, str]]) -> str:
    """Say on which brokers all cases of a test passed, and where one of them did not."""
    brokers = sorted({broker for outcomes in found for broker in outcomes})
    said = []
    for broker in brokers:
        failed = sum(outcomes.get(broker) == "failed" for outcomes in found)
        said.append(f"**failed on {broker}**" if failed else broker)
    return ", ".join(said) or "not run"


def _missing(section: list[str], held: Set[str]) -> str:
    """Name the rows that no test holds, neighbours of one kind as a range."""
    said = []
    runs = groupby(section, lambda row: (row in held, row.rstrip("0123456789b")))
    for (is_held, _), run in runs:
        names = list(run)
        if not is_held:
            said += [f"{names[0]} to {names[-1]}"] if len(names) > 2 else names
    return ", ".join(said) or "none"


def main(arguments: list[str]) -> int:
    """Collect the tests and write the page.

    Args:
        arguments: Further arguments for pytest.

    Returns:
        The exit status; not 0 if a test could not be collected or names an unknown row.
    """
    collector = Collector()
    said = StringIO()
    with redirect_stdout(said):
        status = pytest.main(["--collect-only", "-qqq", *arguments, str(ROOT / "tests")], plugins=[collector])
    if status != pytest.ExitCode.OK:
        print(said.getvalue())
        return int(status)
    PAGE.write_text(page(collector.tests, Results(ROOT).load()))
    print(f"{PAGE.relative_to(ROOT)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
