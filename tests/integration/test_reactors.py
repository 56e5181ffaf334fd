"""Every reactor does: the first example runs on each, with heartbeats and deadlines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers_plugin import Vhost

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "hello.py"
PROGRAM = """
import runpy
import sys

from twisted.internet import {module}

{module}.install()
sys.argv = {arguments}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("on", type(sys.modules["twisted.internet.reactor"]).__module__)
"""


@pytest.mark.covers("T-HB-04")
@pytest.mark.parametrize("module", ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"])
def test_an_example_runs_on_each_reactor(module: str, vhost: Vhost) -> None:
    program = PROGRAM.format(module=module, arguments=[str(EXAMPLE), f"{vhost.url}?heartbeat=1"])
    done = subprocess.run(
        [sys.executable, "-c", program],  # some of Twisted's own reactors warn of what is deprecated
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "came back: hello, world" in done.stdout
    assert done.stdout.endswith(f"on twisted.internet.{module}\n")
