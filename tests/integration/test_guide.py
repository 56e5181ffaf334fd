"""The guide: every block of Python in it runs against a real broker, and prints what it says it prints."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.threads import deferToThread

from tests.brokers_plugin import Vhost
from tests.certificates import Certificates
from tests.integration.support import Connector, outcomes, soon
from txamqpx import blocking
from txamqpx.client import Client
from txamqpx.errors import AccessRefused
from txamqpx.message import Delivery

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs" / "guide"

URL = "amqp://guest:guest@localhost"
"""What the guide calls the broker; a test runs on its own virtual host instead."""

BLOCKING = "blocking.md"
"""The page whose blocks are scripts that wait."""

TESTING = "testing.md"
"""The page whose blocks are tests."""

RIGHTS = ("configure", "write", "read")
NOTHING = "^$"


@dataclass(frozen=True)
class Block:
    """A block of Python, where it stands, and what it prints by its own account."""

    line: int
    source: str
    printed: str | None


@dataclass
class Section:
    """What stands under one heading; its blocks continue each other."""

    page: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def sections(page: str, text: str) -> Iterator[Section]:
    """Cut a page at its headings, and keep what has Python in it.

    A block of ``text`` right behind one of ``python`` is what that prints.
    """
    section = Section(page, page)
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if heading := re.match("#+ (.*)", line):
            if section.blocks:
                yield section
            section = Section(page, heading[1])
        elif opened := re.fullmatch("```(.*)", line):
            inside = []
            for _, line in lines:
                if line == "```":
                    break
                inside.append(f"{line}\n")
            if opened[1] == "python":
                section.blocks.append(Block(number, "".join(inside), None))
            elif opened[1] == "text" and section.blocks and section.blocks[-1].printed is None:
                last = section.blocks.pop()
                section.blocks.append(Block(last.line, last.source, "".join(inside)))
    if section.blocks:
        yield section


def pages() -> list[Path]:
    return sorted(GUIDE.glob("*.md"))


SECTIONS = [
    section
    for page in pages()
    for section in sections(page.name, page.read_text())
    if section.page != TESTING
]
TESTS = list(sections(TESTING, (GUIDE / TESTING).read_text()))


async def run(
    section: Section, names: dict[str, Any], replaced: Mapping[str, str], *, waits: bool = False
) -> None:
    """Run the blocks of a section, one after the other, as the body of one async function.

    If it ``waits`` it is a plain script, for a thread.
    """
    for block in section.blocks:
        printed = StringIO()
        names["print"] = partial(print, file=printed)
        source = block.source
        for old, new in replaced.items():
            source = source.replace(old, new)
        code = compile(
            "\n" * block.line + source,
            str(GUIDE / section.page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        done = await soon(deferToThread(eval, code, names)) if waits else eval(code, names)
        if inspect.iscoroutine(done):
            await soon(Deferred.fromCoroutine(done))
        assert printed.getvalue() == (block.printed or ""), f"{section.page}, line {block.line}"


@pytest.mark.parametrize("section", SECTIONS, ids=str)
@pytest_twisted.ensureDeferred
async def test_a_section_runs(
    section: Section, vhost: Vhost, connect: Connector, request: pytest.FixtureRequest
) -> None:
    replaced = {URL: vhost.url}
    if any("rabbit.example" in block.source for block in section.blocks):
        encrypted: Vhost = request.getfixturevalue("tls_vhost")
        certificates: Certificates = request.getfixturevalue("certificates")
        replaced |= {
            "amqps://guest:guest@rabbit.example?": f"{encrypted.tls_url}?",
            "amqps://rabbit.example?": f"amqps://{encrypted.tls_url.partition('@')[2]}?",
            "rabbit.example": "localhost",
            "port=5671": f"port={encrypted.node.ports['amqps']}, virtual_host={encrypted.name!r}",
            "/etc/rabbit/ca.pem": str(certificates.ca),
            "/etc/rabbit/client.pem": str(certificates.client.certificate),
            "/etc/rabbit/client.key": str(certificates.client.key),
        }
    if section.page == BLOCKING:
        client = await soon(deferToThread(blocking.connect, vhost.url))
        await run(section, {"client": client, "__name__": "a page"}, replaced, waits=True)
        await soon(deferToThread(client.close))
        return
    protocol = await connect()
    channel = await protocol.open_channel()
    given = {"reactor": reactor, "protocol": protocol, "channel": channel, "client": Client(protocol)}
    await run(section, given, replaced)


PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_txamqpx"]

RUNNERS: dict[str, list[str]] = {
    "trial": ["-m", "twisted.trial", "test_section"],
    "pytest": [*PYTEST, "test_section.py"],
    "pytest-twisted": [*PYTEST, "-p", "pytest_twisted", "test_section.py"],
}
"""With what tests are run; no plugin of pytest is loaded but those that are named."""


def runners(section: Section) -> list[str]:
    """Return with what a section of the page of tests is run."""
    source = "".join(block.source for block in section.blocks)
    if "TestCase" in source:
        return ["trial", "pytest"]
    return ["pytest-twisted" if "pytest_twisted" in source else "pytest"]


@pytest.mark.parametrize(
    ("section", "runner"),
    [(section, runner) for section in TESTS for runner in runners(section)],
    ids=str,
)
def test_a_section_of_tests_passes(section: Section, runner: str, tmp_path: Path) -> None:
    source = "".join(block.source for block in section.blocks)
    (tmp_path / "test_section.py").write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", *RUNNERS[runner]],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{section}:\n{done.stdout}"
    tests = len(re.findall(r"^ *(?:async )?def test_", source, re.MULTILINE))
    assert f"{tests} passed" in done.stdout or f"successes={tests}" in done.stdout


# --------------------------------------------------------------------------- the table of permissions

OPERATIONS = {
    "declare a queue": "channel.queue_declare('q')",
    "declare a queue that dead-letters to an exchange": (
        "channel.queue_declare('new', arguments={'x-dead-letter-exchange': 'e'})"
    ),
    "delete a queue": "channel.queue_delete('q')",
    "purge a queue": "channel.queue_purge('q')",
    "declare an exchange": "channel.exchange_declare('e')",
    "declare an exchange with an alternate exchange": (
        "channel.exchange_declare('new', arguments={'alternate-exchange': 'e'})"
    ),
    "delete an exchange": "channel.exchange_delete('e')",
    "bind a queue to an exchange, or unbind it": "channel.queue_bind('q', 'e')",
    "bind an exchange to another, or unbind it": "channel.exchange_bind('e', 'e2')",
    "publish to an exchange": "channel.basic_publish(b'', exchange='e')",
    "publish to the default exchange": "channel.basic_publish(b'', routing_key='q')",
    "consume, or get": "channel.basic_consume('q', print)",
}
"""The rows of the guide's table, and what each of them is."""

NAMES = {"the queue": "q", "the exchange": "e", "`amq.default`": "amq.default", "the destination": "e"} | {
    "the source": "e2",
    "the dead-letter exchange": "e",
    "the alternate exchange": "e",
}
"""What the cells of the table say, and the name that it is."""


def permissions() -> dict[str, dict[str, str]]:
    """Return for each row of the guide's table the names that are needed, by kind of right."""
    rows = re.findall(
        r"^\| (.+?) \| (.*?) \| (.*?) \| (.*?) \|$", (GUIDE / "operating.md").read_text(), re.MULTILINE
    )
    return {row[0]: dict(zip(RIGHTS, row[1:], strict=True)) for row in rows if row[0] in OPERATIONS}


def name_of(operation: str, cell: str) -> str:
    """Return the name that a cell speaks of; what is declared with arguments is a new one."""
    declared = cell in ("the queue", "the exchange") and "'new'" in OPERATIONS[operation]
    return "new" if declared else NAMES[cell]


def test_every_operation_is_in_the_table() -> None:
    assert permissions().keys() == OPERATIONS.keys()


async def things(connect: Connector) -> None:
    """Declare what the operations are about."""
    channel = await (await connect()).open_channel()
    await channel.queue_declare("q")
    await channel.exchange_declare("e")
    await channel.exchange_declare("e2")


async def attempt(vhost: Vhost, connect: Connector, call: str, granted: Mapping[str, str]) -> Any:
    """Return the result of a call by a user with these rights, or its error."""
    vhost.node.add_user("clerk", "secret")
    try:
        vhost.node.set_permissions("clerk", vhost.name, **granted)
        protocol = await connect(url=vhost.node.url(vhost.name, user="clerk", password="secret"))
        channel = await protocol.open_channel()
        await channel.confirm_select()
        (outcome,) = await outcomes([eval(call, {"channel": channel})])
        await soon(protocol.close())
        return outcome
    finally:
        vhost.node.delete_user("clerk")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest_twisted.ensureDeferred
async def test_an_operation_needs_what_the_table_says_and_nothing_else(
    operation: str, vhost: Vhost, connect: Connector
) -> None:
    await things(connect)
    call = OPERATIONS[operation]
    needed = {
        right: f"^{re.escape(name_of(operation, cell))}$" if cell else NOTHING
        for right, cell in permissions()[operation].items()
    }
    for right, pattern in needed.items():
        if pattern != NOTHING:
            less = await attempt(vhost, connect, call, {**needed, right: NOTHING})
            assert isinstance(less, AccessRefused), right
    assert not isinstance(await attempt(vhost, connect, call, needed), Exception)


@pytest.mark.parametrize("call", ["queue_declare('q', passive=True)", "exchange_declare('e', passive=True)"])
@pytest_twisted.ensureDeferred
async def test_to_declare_passively_needs_nothing_or_any_right(
    call: str, vhost: Vhost, connect: Connector
) -> None:
    await things(connect)
    none = dict.fromkeys(RIGHTS, NOTHING)
    for right in RIGHTS:
        outcome = await attempt(vhost, connect, f"channel.{call}", {**none, right: "^[qe]$"})
        assert not isinstance(outcome, Exception), right
    refused = isinstance(await attempt(vhost, connect, f"channel.{call}", none), AccessRefused)
    assert refused is not vhost.node.version.startswith("3.")


# --------------------------------------------------------------------------- nack and reject


@pytest.mark.parametrize("way", ["nack", "reject"])
@pytest_twisted.ensureDeferred
async def test_what_counts_as_a_failed_delivery_on_a_quorum_queue(
    way: str, vhost: Vhost, connect: Connector
) -> None:
    """All but a nack since RabbitMQ 4.3: beyond the limit the message is dead-lettered."""
    channel = await (await connect()).open_channel()
    await channel.queue_declare("dead", durable=True)
    await channel.queue_declare(
        "jobs",
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": 2,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
        },
    )
    await channel.confirm_select()
    await channel.basic_publish(b"job", routing_key="jobs")
    given: DeferredQueue[tuple[str, Delivery]] = DeferredQueue()
    await channel.basic_consume("jobs", lambda delivery: given.put(("jobs", delivery)))
    await channel.basic_consume("dead", lambda delivery: given.put(("dead", delivery)))
    seen: list[str] = []
    while len(seen) < 5 and "dead" not in seen:
        queue, delivery = await soon(given.get())
        seen.append(queue)
        getattr(delivery, way)()
    counted = way == "reject" or vhost.node.version.startswith("3.")
    assert seen == (["jobs"] * 3 + ["dead"] if counted else ["jobs"] * 5)


# --------------------------------------------------------------------------- what holds the above


def test_the_blocks_of_a_page_are_found_by_heading() -> None:
    one = "# One\n```python\na\n```\n```sh\nls\n```\n"
    three = "### Three\n```python\nb\n```\n```text\nc\n```\n"
    text = f"{one}## Two\nwords\n{three}"
    assert list(sections("page", text)) == [
        Section("page", "One", [Block(2, "a\n", None)]),
        Section("page", "Three", [Block(11, "b\n", "c\n")]),
    ]


@pytest_twisted.ensureDeferred
async def test_a_block_that_prints_something_else_is_named() -> None:
    wrong = Section("page.md", "Wrong", [Block(7, "print('one')\n", "two\n")])
    with pytest.raises(AssertionError, match=r"page.md, line 7"):
        await run(wrong, {}, {})


@pytest_twisted.ensureDeferred
async def test_blocks_continue_each_other_and_may_await() -> None:
    first = Block(1, "from twisted.internet.defer import succeed\nkept = await succeed('URL')\n", None)
    await run(Section("page.md", "Right", [first, Block(5, "print(kept)\n", "url\n")]), {}, {"URL": "url"})
