"""The house: what the documents point to is there, and their tables are whole.

That the Python in the guide runs is held by `integration/test_guide.py`, of the README by `test_examples.py`.
"""

import re
from pathlib import Path

import pytest

from txamqpx import errors
from txamqpx.broker.faults import Faults
from txamqpx.errors import AMQPError, URLError
from txamqpx.interfaces import IDelegate
from txamqpx.params import parse_url

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "changes/*.md", "benchmarks/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)


def prose(text: str) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return what the headings of a document are called in links."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Return the relative links of a document that lead to no file, or to no heading in it."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match("[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        there = file == path or file.exists()
        if not there or (anchor and anchor not in anchors(text if file == path else file.read_text())):
            broken.append(link)
    return broken


def cells(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the tables under a heading of the guide."""
    text = (GUIDE / page).read_text()
    (section,) = re.findall(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def error_classes() -> dict[str, type[AMQPError]]:
    kinds = {name: getattr(errors, name) for name in errors.__all__}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type)}


# --------------------------------------------------------------------------- all documents


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_broken(path: Path) -> None:
    assert broken_links(path, path.read_text()) == []


def test_a_broken_link_is_named() -> None:
    text = "# A `b`-C, d\n[1](README.md) [2](none.md) [3](#a-b-c-d) [4](#e) [5](https://x.y/z)\n```\n[6](no)\n```\n"
    assert broken_links(ROOT / "made.md", text) == ["none.md", "#e"]


def test_every_page_of_the_guide_is_in_its_index() -> None:
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (GUIDE / "README.md").read_text())
    assert sorted({"README.md", *linked}) == [path.name for path in sorted(GUIDE.glob("*.md"))]


def test_python_stands_only_where_it_is_run() -> None:
    elsewhere = [path for path in DOCUMENTS if path.parent != GUIDE and path != ROOT / "README.md"]
    assert [str(path) for path in elsewhere if "```python" in path.read_text()] == []


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *sorted(GUIDE.glob("*.md")), *sorted(ROOT.glob("examples/**/*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_url_leads_to_the_virtual_host_without_a_name(path: Path) -> None:
    """A slash at the end is easily written, and its virtual host rarely exists."""
    text = path.read_text()
    code = text if path.suffix == ".py" else "".join(re.findall(r"```.*?```", text, re.DOTALL))
    for url in re.findall(r"amqps?://[^\s\"'`{}]+", code):
        try:
            assert parse_url(url).virtual_host, url
        except URLError:
            assert "heartbaet" in url, url  # which is about being wrong


# --------------------------------------------------------------------------- the tables of the guide


def test_every_query_parameter_is_in_the_guide() -> None:
    with pytest.raises(URLError, match="known are") as caught:
        parse_url("amqp://localhost?qqqqqqqq=1")
    known = str(caught.value).partition("known are ")[2].split(", ")
    assert sorted(row[0].strip("`") for row in cells("connecting.md", "By URL")) == known


def test_every_hook_is_in_the_guide() -> None:
    rows = cells("operating.md", "The delegate")
    described = {name: f"`{name}{IDelegate[name].getSignatureString()}`" for name in IDelegate.names()}
    assert sorted(row[0] for row in rows) == sorted(described.values())


def test_every_fault_is_in_the_guide() -> None:
    text = (GUIDE / "testing.md").read_text().partition("## Faults\n")[2].partition("```")[0]
    faults = {
        name
        for name, method in vars(Faults).items()
        if not name.startswith("_") and getattr(method, "__annotations__", {}).get("return") == "Fault"
    }
    assert set(re.findall(r"`(\w+)`", text)) == faults


def test_every_error_is_in_the_guide() -> None:
    text = (GUIDE / "errors.md").read_text().replace("-Refused", "ClientCertificateRefused")
    assert {name for name in error_classes() if not re.search(rf"\b{name}\b", text)} == set()


def test_the_guide_marks_what_is_worth_another_try() -> None:
    classes = error_classes()
    marked: dict[str, bool] = {}
    for row in cells("errors.md", "`retryable`"):
        for name, mark in re.findall(r"`(\w+)`( ●)?", " ".join(row)):
            if name in classes:
                marked[name] = marked.get(name, False) or bool(mark)
    assert marked
    assert {name: classes[name].retryable for name in marked} == marked
