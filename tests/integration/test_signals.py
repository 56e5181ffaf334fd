"""SIGTERM, at every stage of a program that consumes: it ends in time, and no message is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted

import txamqpx
from tests.brokers_plugin import Vhost
from tests.integration.support import PATIENCE
from txamqpx import Client

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import sys
from twisted.internet.task import deferLater, react
import txamqpx

async def main(reactor, url):
    print("connecting", flush=True)
    client = await txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)

    async def work(delivery):
        print("begun", flush=True)
        await deferLater(reactor, 0.3)
        print("done", flush=True)

    consumer = await client.consume("jobs", work, prefetch=10)
    print("ready", flush=True)
    await consumer.closed
    await client.close()

react(main, sys.argv[1:])
"""


@contextmanager
def program(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run the script, and end it if it does not end by itself."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", SCRIPT, url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], word: str) -> None:
    """Wait until the script says ``word``, as its next line."""
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def rest(process: subprocess.Popen[str]) -> list[str]:
    """Send SIGTERM, wait for the end, and return what was still said."""
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    printed = process.stdout.read().split()
    process.wait(PATIENCE)
    return printed


@pytest.fixture
def silence() -> Iterator[str]:
    """A place that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.covers("S92", "L12")
def test_sigterm_ends_a_program_that_is_still_connecting(silence: str) -> None:
    with program(silence) as process:
        said(process, "connecting")
        assert rest(process) == []


async def _declared(vhost: Vhost, bodies: list[bytes]) -> Client:
    client = await txamqpx.connect(vhost.url)
    await client.queue_declare("jobs", durable=True)
    for body in bodies:
        await client.publish(body, routing_key="jobs")
    return client


@pytest.mark.covers("S92", "L12")
@pytest.mark.parametrize("count", [0, 3])
@pytest_twisted.ensureDeferred
async def test_sigterm_lets_a_handler_finish_and_leaves_the_others(vhost: Vhost, count: int) -> None:
    client = await _declared(vhost, [b"%d" % number for number in range(count)])
    with program(vhost.url) as process:
        said(process, "connecting")
        said(process, "ready")
        if count:
            said(process, "begun")
        assert rest(process) == ["done"] * bool(count)
    left = await client.queue_declare("jobs", passive=True)
    assert left.message_count == max(0, count - 1)
    await client.close()


@pytest.mark.covers("S92", "L12")
@pytest.mark.parametrize("lines", [0, 1, 2])
@pytest_twisted.ensureDeferred
async def test_sigterm_while_a_program_begins_ends_it_and_loses_nothing(vhost: Vhost, lines: int) -> None:
    client = await _declared(vhost, [b"job"])
    with program(vhost.url) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        handled = rest(process).count("done")
    left = await client.queue_declare("jobs", passive=True)
    assert left.message_count == 1 - handled
    await client.close()
