"""The house: every example runs, against a real broker, as a user would start it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rabbitmq import Node

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(example: Path, broker: Node) -> str:
    """Run an example.

    Returns:
        What it printed.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example), broker.url()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,  # so that an example that hangs is named
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_examples() -> None:
    assert {"hello.py", "hello_inline.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(example: Path, broker: Node) -> None:
    assert run(example, broker)


def test_the_quick_start_of_the_readme_runs(broker: Node, tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    example = tmp_path / "hello.py"
    example.write_text(source)
    assert run(example, broker) == "received b'hello, world'\n"
