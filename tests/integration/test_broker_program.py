"""The embedded broker as a program: `python -m txamqpx.broker`."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.integration.wire import Wire, plain
from txamqpx.spec import amqp0_9_1 as amqp


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the program until the block ends; yield it with the lines that it says at its beginning."""
    command = [sys.executable, "-m", "txamqpx.broker", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        try:
            assert program.stdout is not None
            lines: list[str] = []
            while not lines or (lines[-1] and "Ctrl-C" not in lines[-1]):
                lines.append(program.stdout.readline())
            yield program, lines
        finally:
            program.kill()


def port_in(lines: list[str]) -> int:
    (line,) = [line for line in lines if line.startswith("Listening")]
    return int(line.rpartition(":")[2])


def wire_to(port: int) -> Wire:
    node: Any = SimpleNamespace(ports={"amqp": port})
    return Wire(node)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_clients_are_told_when_it_is_ended(number: int) -> None:
    options = ["--user", "me:secret", "--vhost", "work", "--profile", "rabbitmq-3.10"]
    with running("--listen", "tcp:0:interface=127.0.0.1", *options) as (program, lines):
        assert "It keeps nothing." in lines[0]
        with wire_to(port_in(lines)) as wire:
            wire.open("work", 1, response=plain("me", "secret"))
            wire.send(1, amqp.QueueDeclare("jobs"))
            wire.expect(amqp.QueueDeclareOk, 1)
            program.send_signal(number)
            text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
            assert wire.refusal() == (320, text, 0, 0)
            wire.send(0, amqp.ConnectionCloseOk())
            assert wire.is_over()
        assert program.wait(timeout=30) == 0
        assert program.stdout is not None
        assert program.stdout.read() == ""


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running("--listen", f"tcp:{port}:interface=127.0.0.1") as (program, lines):
            assert program.wait(timeout=30) == 2
            assert lines[0].startswith("python -m txamqpx.broker: ")
            assert str(port) in lines[0]


@pytest.mark.parametrize("wrong", [["--listen", "nonsense:1"], ["--user", "me"], ["--profile", "rabbitmq-1"]])
def test_a_command_line_that_is_wrong_is_said(wrong: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "txamqpx.broker", *wrong], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "python -m txamqpx.broker: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_over_tls(certificates: Certificates) -> None:
    server = certificates.server
    where = f"ssl:0:privateKey={server.key}:certKey={server.certificate}:interface=127.0.0.1"
    with running("--listen", where) as (_, lines):
        wire = wire_to(port_in(lines))
        context = ssl.create_default_context(cafile=str(certificates.ca))
        wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
        with wire:
            start = wire.greet()
            assert b"EXTERNAL" in start.mechanisms.split()
            wire.log_in("EXTERNAL", b"")  # and there is no certificate in which a name could be
            assert wire.is_over()
