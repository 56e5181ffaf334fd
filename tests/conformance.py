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

Which test holds which row, and what became of it on each broker when it ran last; a test without a broker ran
in memory. *Passed* is all of its cases, *n/a* that it is about something which this broker's release does not
have, *differs* a deliberate difference of the embedded broker, which is explained at the end; an empty cell,
that it was not run there. `make conformance` writes this page from the tests' `covers` marks and from the
results of the runs in this checkout.

"""

DIFFERENCE = "deliberately different: "
"""How the reason begins for which a test, or its rest, is skipped where a broker is meant to differ."""

SKIPPED = "skipped: "
NO_BROKER = "no broker"


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
        """Note an outcome; a failure in any phase stands.

        Of the tests without a mark those are noted that are skipped for a deliberate difference.
        """
        if report.when != "call" and report.outcome == "passed":
            return
        broker = str(dict(report.user_properties).get("broker", "memory"))
        outcome = f"{SKIPPED}{_reason(report)}" if report.skipped else report.outcome
        if report.skipped and broker in {"memory", NO_BROKER}:
            return
        if "covers" not in report.keywords and DIFFERENCE not in outcome:
            return
        outcomes = self._outcomes[report.nodeid]
        if outcomes.get(broker) != "failed":
            outcomes[broker] = outcome

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
    marked = {test for row in held for test in tests[row]}
    brokers = _columns({broker for test in marked for broker in outcomes.get(test, ())})
    head = ["Row", "Test", *brokers]
    lines = [f"{len(held)} of {len(ROWS)} rows are held, by {len(marked)} tests."]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for row in section:
            functions: dict[str, list[Mapping[str, str]]] = defaultdict(list)
            for test in tests.get(row, ()):
                functions[test.partition("[")[0]].append(outcomes.get(test, {}))
            for function, found in functions.items():
                cells = [_cell([each[broker] for each in found if broker in each]) for broker in brokers]
                lines.append(f"| {' | '.join([row, _link(function), *cells])} |")
        lines += ["", f"Held by no test yet: {_missing(section, held)}."]
    return HEAD + "\n".join([*lines, "", *_differences(outcomes), ""])


def _columns(brokers: Set[str]) -> list[str]:
    """Order the brokers: none at all, ours, and then what ours is measured by."""
    return sorted(brokers, key=lambda broker: (broker != "memory", not broker.startswith("embedded"), broker))


def _link(function: str) -> str:
    path, _, name = function.partition("::")
    return f"[{path.removeprefix('tests/')}](../{path}) `{name}`"


def _cell(found: list[str]) -> str:
    """Say what became of the cases of a test on one broker."""
    if any(outcome == "failed" for outcome in found):
        return "**failed**"
    if any(DIFFERENCE in outcome for outcome in found):
        return "differs"
    if any(outcome == "passed" for outcome in found):
        return "passed"
    return "n/a" if found else ""


def _differences(outcomes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """List the deliberate differences: why, and the tests that say so."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for test, by_broker in outcomes.items():
        for broker, outcome in by_broker.items():
            if DIFFERENCE in outcome:
                why = outcome.partition(DIFFERENCE)[2]
                found[why][_link(test.partition("[")[0])].add(broker)
    lines = ["## Deliberate differences of the embedded broker"]
    for why, links in sorted(found.items()):
        lines += ["", f"**{why[:1].upper()}{why[1:]}.**", ""]
        lines += [f"- {link}, on {', '.join(sorted(links[link]))}" for link in sorted(links)]
    return lines if found else [*lines, "", "None."]


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


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
