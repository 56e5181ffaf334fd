"""The house: the generated modules that are checked in are what the generator writes, byte for byte."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from txamqpx.spec.callgen import channel_source
from txamqpx.spec.codegen import module_source
from txamqpx.spec.model import Spec
from txamqpx.spec.xmlspec import bundled

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("path", "generate"),
    [("txamqpx/spec/amqp0_9_1.py", module_source), ("txamqpx/channel_methods.py", channel_source)],
)
def test_the_checked_in_module_is_what_the_generator_writes(
    path: str, generate: Callable[[Spec], str]
) -> None:
    assert (ROOT / path).read_bytes() == generate(bundled("0-9-1")).encode()


def test_the_command_agrees() -> None:
    command = [sys.executable, "-m", "txamqpx.spec.codegen", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
