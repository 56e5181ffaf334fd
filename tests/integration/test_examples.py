"""The house: every example runs, against a real broker, as a user would start it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration import tutorial_peers
from tests.integration.support import soon
from txamqpx.broker.profile import profile_named
from txamqpx.client import connect

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
TUTORIALS = EXAMPLES / "tutorials"
FORMS = ["", "_inline"]
PATIENCE = 120  # seconds, so that an example that hangs is named

Lines = Sequence[str]


class Program:
    """An example that runs.

    Args:
        path: Its file.
        said: A file for what it writes to the other stream.
        arguments: What is on its command line, first of all the URL of a broker.
    """

    def __init__(self, path: Path, said: IO[str], *arguments: str) -> None:
        self.path = path
        self._said = said
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def line(self) -> str:
        """Wait for the next line that it prints."""
        return self._printed().readline().rstrip("\n")

    def lines(self) -> Lines:
        """Wait for its end, which has to be a good one, and return the lines that nobody has read."""
        printed = self._printed().read()
        code, said = self._end()
        assert (code, said) == (0, ""), f"{self.path}:\n{printed}\n{said}"
        return printed.splitlines()

    def complaints(self) -> str:
        """Wait for its end, which has to be a bad one, and return what it said of that."""
        self._printed().read()
        code, said = self._end()
        assert code == 1, self.path
        return said

    def _printed(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _end(self) -> tuple[int, str]:
        code = self._process.wait(PATIENCE)
        self._said.seek(0)
        return code, self._said.read()

    def press_ctrl_c(self) -> None:
        """Interrupt it."""
        self._process.send_signal(signal.SIGINT)

    def interrupt(self) -> Lines:
        """Press Ctrl-C, and return the lines that nobody has read."""
        self.press_ctrl_c()
        return self.lines()

    def end(self) -> None:
        """End it, if it runs."""
        self._process.kill()
        self._process.wait()
        self._printed().close()


Start = Callable[..., Program]


@pytest.fixture
def start_alone() -> Iterator[Start]:
    """Start examples without a broker; what has not ended by the end of the test is ended."""
    with ExitStack() as ends:

        def start(path: Path, *arguments: str) -> Program:
            program = Program(path, ends.enter_context(TemporaryFile("w+")), *arguments)
            ends.callback(program.end)
            return program

        yield start


@pytest.fixture
def start(start_alone: Start, vhost: Vhost) -> Start:
    """Start examples with the URL of a virtual host."""
    return lambda path, *arguments: start_alone(path, vhost.url, *arguments)


def tutorial(name: str, form: str) -> Path:
    """Return the file of a tutorial's program."""
    (path,) = TUTORIALS.glob(f"*/{name}{form}.py")
    return path


def waiting(*programs: Program) -> None:
    """Wait until programs say that they wait for messages."""
    for program in programs:
        assert program.line().startswith("waiting for ")


# --------------------------------------------------------------------------- first contact


HELLO = [
    "published: Confirmed(1)",
    "came back: hello, world BasicProperties(content_type='text/plain')",
    "closed",
]


@pytest.mark.parametrize("form", FORMS)
def test_hello_runs(form: str, start: Start, vhost: Vhost) -> None:
    lines = start(EXAMPLES / f"hello{form}.py").lines()
    assert lines == [f"connected: RabbitMQ {vhost.node.version}", *HELLO]


@pytest.mark.parametrize("form", FORMS)
def test_hello_runs_without_a_broker(form: str, start_alone: Start) -> None:
    lines = start_alone(EXAMPLES / f"hello{form}.py").lines()
    assert lines == [f"connected: RabbitMQ {profile_named('rabbitmq-4.3').version}", *HELLO]


def test_the_script_that_waits_runs(start: Start) -> None:
    assert start(EXAMPLES / "blocking_script.py").lines() == [
        "published: 100",
        f"sum of squares: {sum(number**2 for number in range(100))}",
        "published: Confirmed(1)",
        "not published: NO_ROUTE",
        "came back: b'last' Settlement.SENT",
        "closed",
    ]


@pytest.fixture
def quick_start(tmp_path: Path) -> Path:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    example = tmp_path / "hello.py"
    example.write_text(source)
    return example


def test_the_quick_start_of_the_readme_runs(quick_start: Path, start: Start) -> None:
    assert start(quick_start).lines() == ["received b'hello'"]


def test_the_quick_start_of_the_readme_runs_without_a_broker(quick_start: Path, start_alone: Start) -> None:
    assert start_alone(quick_start).lines() == ["received b'hello'"]


# --------------------------------------------------------------------------- the tutorials


@pytest.mark.covers("S94")
@pytest.mark.parametrize("form", FORMS)
def test_the_tutorials_do_what_they_are_about(form: str, start: Start) -> None:
    """All that wait are started first, at once, and then all that send: to start takes longest."""
    hello = start(tutorial("receive", form))
    worker = start(tutorial("worker", form))
    logs = [start(tutorial("receive_logs", form)) for _ in range(2)]
    direct = start(tutorial("receive_logs_direct", form), "warning", "error")
    topics = start(tutorial("receive_logs_topic", form), "kern.*", "*.critical")
    server = start(tutorial("rpc_server", form))
    waiting(hello, worker, *logs, direct, topics, server)

    sent = {
        start(tutorial("send", form), "Good", "morning"): ["sent: Good morning"],
        start(tutorial("new_task", form), "long", "task."): ["sent: long task."],
        start(tutorial("emit_log", form), "info:", "up"): ["sent: info: up"],
        start(tutorial("emit_log_direct", form), "error", "disk", "full"): ["sent: error disk full"],
        start(tutorial("emit_log_direct", form), "debug", "x"): ["nobody listens to: debug"],
        start(tutorial("emit_log_topic", form), "kern.critical", "panic"): ["sent: kern.critical panic"],
        start(tutorial("emit_log_topic", form), "cron.info", "x"): ["nobody listens to: cron.info"],
        start(tutorial("rpc_client", form), "12"): ["fib(12) = 144"],
    }
    for program, lines in sent.items():
        assert program.lines() == lines

    assert worker.line() == "received: long task."
    assert worker.interrupt() == ["done: long task."]  # what was begun is finished
    assert hello.line() == "received: Good morning"
    assert [program.line() for program in logs] == ["received: info: up"] * 2
    assert direct.line() == "received: error disk full"
    assert topics.line() == "received: kern.critical panic"
    assert server.line() == "asked for: fib(12)"
    for program in (hello, *logs, direct, topics, server):
        program.press_ctrl_c()
    for program in (hello, *logs, direct, topics, server):
        assert program.lines() == []


@pytest.mark.parametrize("form", FORMS)
def test_publisher_confirms_are_told_in_three_ways(form: str, start: Start) -> None:
    lines = start(tutorial("publisher_confirms", form), "50").lines()
    assert [re.sub(r"\d+\.\d+ s", "", line) for line in lines] == [
        "one_by_one: 50 confirmed in ",
        "many: 50 confirmed in ",
        "at_once: 50 confirmed in ",
    ]


def test_a_tutorial_that_cannot_do_its_work_says_why(start: Start) -> None:
    """No request queue, a request that is no number, nothing to listen to."""
    unheard = start(tutorial("rpc_client", ""))
    topics = start(tutorial("receive_logs_topic", ""))
    assert "rpc_queue" in unheard.complaints()
    assert topics.complaints() == "which patterns? such as: 'kern.*' '*.critical'\n"


def test_a_receiver_says_why_it_is_over(start: Start, vhost: Vhost) -> None:
    receiver = start(tutorial("receive", ""))
    waiting(receiver)
    vhost.node.close_all_connections("for maintenance")
    assert "for maintenance" in receiver.complaints()


# --------------------------------------------------------------------------- the other half of a pair


@pytest.mark.covers("S38")
@pytest.mark.parametrize("form", FORMS)
def test_the_other_half_can_be_a_program_of_another_library(form: str, start: Start, vhost: Vhost) -> None:
    receiver = start(tutorial("receive", form))
    server = start(tutorial("rpc_server", form))
    waiting(receiver, server)
    tutorial_peers.send(vhost.url, "from elsewhere")
    assert receiver.line() == "received: from elsewhere"
    assert tutorial_peers.ask(vhost.url, 17) == 1597
    assert server.line() == "asked for: fib(17)"
    assert [receiver.interrupt(), server.interrupt()] == [[], []]

    sender, client = (
        start(tutorial("send", form), "to", "elsewhere"),
        start(tutorial("rpc_client", form), "18"),
    )
    assert tutorial_peers.receive(vhost.url) == "to elsewhere"
    assert tutorial_peers.answer_one(vhost.url) == 18
    assert [sender.lines(), client.lines()] == [["sent: to elsewhere"], ["fib(18) = 2584"]]


# --------------------------------------------------------------------------- three and three


@pytest.mark.covers("S37")
def test_each_of_three_producers_reaches_its_consumer_and_no_other(start: Start) -> None:
    folder = EXAMPLES / "three_and_three"
    consumers = start(folder / "consumers.py")
    waiting(consumers)
    jobs = start(folder / "produce_jobs.py", "30")
    events = start(folder / "emit_events.py", "disk.full=sda", "cpu.hot=x", "backup.failed=b", "disk.a.b=c")
    orders = start(folder / "manage.py", "dance")
    assert jobs.lines() == ["produced: 30 jobs"]
    emitted = [
        "emitted: disk.full",
        "nobody listens to: cpu.hot",
        "emitted: backup.failed",
        "emitted: disk.a.b",
    ]
    assert events.lines() == emitted
    assert orders.lines() == ["commanded: dance"]

    handled = sorted(consumers.line() for _ in range(34))
    assert handled == sorted(
        [
            *(f"job: job {number}" for number in range(1, 31)),
            "event: disk.full sda",
            "event: backup.failed b",
            "event: disk.a.b c",
            "management: there is no command dance",
        ]
    )
    assert start(folder / "manage.py", "report", "stop").lines() == ["commanded: report", "commanded: stop"]
    assert consumers.lines() == ["management: 30 jobs, 3 events", "management: stop"]


# --------------------------------------------------------------------------- a program with its tests


@pytest_twisted.ensureDeferred
async def test_a_program_that_has_tests_runs(start: Start, vhost: Vhost) -> None:
    program = start(EXAMPLES / "tested" / "invoices.py")
    waiting(program)
    async with await soon(connect(vhost.url)) as client:
        await client.publish(b"12345", routing_key="invoices", content_type="application/pdf")
    assert program.line() == "sent: 5 bytes"
    assert program.interrupt() == []


@pytest.mark.parametrize(
    "runner", [["twisted.trial", "test_invoices"], ["pytest", "-p", "no:cacheprovider", "test_invoices.py"]]
)
def test_the_tests_of_a_program_pass(runner: list[str], tmp_path: Path) -> None:
    for path in (EXAMPLES / "tested").glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *runner],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "successes=3" in done.stdout or "3 passed" in done.stdout


# --------------------------------------------------------------------------- none is left out


def test_every_example_is_run_by_a_test_and_named_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    here = Path(__file__).read_text()
    for path in EXAMPLES.rglob("*.py"):
        name = path.stem.removesuffix("_inline")
        assert f"{name}.py" in index, path
        assert f'"{name}"' in here or f"{name}.py" in here or name == "hello", path


def test_each_program_of_a_tutorial_is_there_in_both_forms() -> None:
    names = {str(path.relative_to(TUTORIALS)) for path in TUTORIALS.rglob("*.py")}
    plain = {name for name in names if not name.endswith("_inline.py")}
    assert len(plain) == 13
    assert names - plain == {name.replace(".py", "_inline.py") for name in plain}
