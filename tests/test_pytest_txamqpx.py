"""What pytest gets from us, in projects of others: as they have it, through the entry point."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ALONE = ["-p", "no:twisted"]
"""Without what else may be installed, and installs a reactor."""

NOTHING_IS_LOADED = """
import sys

def test_nothing_is_loaded():
    ours = sorted(name for name in sys.modules if name.partition(".")[0] == "txamqpx")
    assert ours == []
    assert "twisted.internet.reactor" not in sys.modules
"""

IS_THERE = """
def test_it_is_there(request):
    assert request.config.pluginmanager.has_plugin("txamqpx")
"""

ON_THE_REACTOR = """
import pytest
import pytest_twisted
from txamqpx import connect

names = set()

@pytest_twisted.ensureDeferred
async def test_a_broker(amqp_broker):
    client = await connect(amqp_broker.url)
    await client.queue_declare("q", durable=True)
    await client.publish(b"m", routing_key="q")
    assert amqp_broker.queue("q").ready == 1
    names.add(amqp_broker.name)
    await client.close()

@pytest_twisted.ensureDeferred
async def test_another(amqp_broker):
    client = await connect(amqp_broker.url)
    await client.queue_declare("q", durable=True)
    assert amqp_broker.queue("q").ready == 0
    assert amqp_broker.name not in names
    await client.close()

@pytest.mark.parametrize("amqp_broker", [{"profile": "rabbitmq-3.10"}], indirect=True)
def test_options(amqp_broker):
    assert amqp_broker.profile.name == "rabbitmq-3.10"
"""

BLOCKING = """
from txamqpx import blocking

def test_a_script(amqp_broker):
    with blocking.connect(amqp_broker.url) as client:
        client.queue_declare("q", durable=True)
        client.publish(b"m", routing_key="q")
        assert client.get("q").body == b"m"

def test_one_that_nobody_connects_to(amqp_broker):
    assert amqp_broker.url.startswith("memory://")
"""

IS_CLOSED = """
import sys

def test_a_broker(amqp_broker):
    global url
    url = amqp_broker.url
    assert "twisted.internet.reactor" not in sys.modules

def test_is_closed_afterwards():
    from txamqpx.broker.names import names
    assert names.find(url.removeprefix("memory://")) is None
    assert "twisted.internet.reactor" not in sys.modules
"""

FAILS = """
import pytest
import pytest_twisted
from txamqpx import connect

async def declare(broker):
    client = await connect(broker.url)
    await client.queue_declare("a-queue", durable=True)
    await client.close()

@pytest_twisted.ensureDeferred
async def test_fails(amqp_broker):
    await declare(amqp_broker)
    assert False, "as it should"

@pytest_twisted.ensureDeferred
async def test_passes(amqp_broker):
    await declare(amqp_broker)

def test_fails_without_it():
    assert False, "as it should"
"""

OWN = """
import pytest

@pytest.fixture
def amqp_broker():
    return "amqp://localhost"

def test_fails(amqp_broker):
    assert amqp_broker == "amqps://localhost"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which we are installed, as far as entry points tell."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "txamqpx-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: txamqpx\nVersion: 0\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    return folder


class Run:
    """A run of pytest in a project of its own."""

    def __init__(self, project: Path, installed: Path, source: str, *options: str) -> None:
        (project / "test_it.py").write_text(source)
        (project / "pytest.ini").write_text("[pytest]\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *options],
            cwd=project,
            env={"PYTHONPATH": f"{installed}:{ROOT}", "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.code = done.returncode
        self.said = done.stdout


def passed(run: Run) -> bool:
    assert run.code == 0, run.said
    return True


def test_nothing_is_imported_where_nobody_asks_for_the_fixture(tmp_path: Path, installed: Path) -> None:
    assert passed(Run(tmp_path, installed, IS_THERE + NOTHING_IS_LOADED, *ALONE))


def test_it_is_at_peace_with_a_plugin_that_brings_the_reactor(tmp_path: Path, installed: Path) -> None:
    assert passed(Run(tmp_path, installed, IS_THERE + ON_THE_REACTOR))


def test_a_program_without_a_reactor_in_sight_can_use_the_fixture(tmp_path: Path, installed: Path) -> None:
    assert passed(Run(tmp_path, installed, BLOCKING, *ALONE))


def test_a_broker_is_closed_after_its_test(tmp_path: Path, installed: Path) -> None:
    assert passed(Run(tmp_path, installed, IS_CLOSED, *ALONE))


def test_what_went_over_the_wire_is_shown_with_a_test_that_fails(tmp_path: Path, installed: Path) -> None:
    run = Run(tmp_path, installed, FAILS)
    assert run.code == 1
    assert "2 failed, 1 passed" in run.said
    assert run.said.count("what went over the wire of memory://") == 1
    assert "QueueDeclare(queue='a-queue'" in run.said


def test_a_fixture_of_that_name_may_be_the_project_s_own(tmp_path: Path, installed: Path) -> None:
    run = Run(tmp_path, installed, OWN, *ALONE)
    assert run.code == 1
    assert "1 failed" in run.said
    assert "INTERNALERROR" not in run.said
    assert "what went over the wire" not in run.said
