"""A broker of its own, from its command line to its end."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from txamqpx.broker import __main__ as program
from txamqpx.broker.names import names
from txamqpx.params import parse_url
from txamqpx.testing.outcomes import Watched


class Port:
    """A port that is not one."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.open = True

    def getHost(self) -> Any:
        return self.host

    def stopListening(self) -> None:
        self.open = False


class Reactor(Clock):
    """A reactor that does what a program asks for when it runs, and listens nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.triggers: list[Callable[[], Any]] = []
        self.begin: list[Callable[[], Any]] = []
        self.stopped = False

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], Any]) -> None:
        self.triggers.append(call)

    def callWhenRunning(self, call: Callable[[], Any]) -> None:
        self.begin.append(call)

    def run(self) -> None:
        for call in self.begin:
            call()
        for call in self.triggers:
            call()

    def stop(self) -> None:
        self.stopped = True


class Place:
    """What an endpoint's address looks like."""

    host = "127.0.0.1"
    port = 5672


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> list[Port]:
    """Have endpoints that listen nowhere; return their ports."""
    made: list[Port] = []

    class Endpoint:
        def __init__(self, description: str) -> None:
            self.description = description

        def listen(self, factory: object) -> Deferred[Port]:
            if self.description == "taken":
                return fail(OSError("the port is taken"))
            made.append(Port(UNIXAddress("/run/x") if self.description == "unix" else Place()))
            return succeed(made[-1])

    monkeypatch.setattr(program, "serverFromString", lambda reactor, description: Endpoint(description))
    return made


def run(*arguments: str) -> tuple[str, Reactor]:
    reactor, output = Reactor(), io.StringIO()
    one = program.Program(reactor, program.options(arguments), output)
    Watched(Deferred.fromCoroutine(one.run())).value  # noqa: B018
    return output.getvalue(), reactor


def test_what_the_command_line_means() -> None:
    chosen = program.options([])
    assert chosen.listen == ["tcp:5672:interface=127.0.0.1"]
    assert (chosen.profile, chosen.user, chosen.vhost) == ("rabbitmq-4.3", {"guest": "guest"}, ["/"])
    wanted = (
        "--listen tcp:1 --listen tcp:2 --profile rabbitmq-3.10 --user a:b:c --user d:e --vhost x --vhost y"
    )
    chosen = program.options(wanted.split())
    assert chosen.listen == ["tcp:1", "tcp:2"]
    assert chosen.profile == "rabbitmq-3.10"
    assert chosen.user == {"a": "b:c", "d": "e"}
    assert chosen.vhost == ["x", "y"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--user", "guest"], "a user is written as NAME:PASSWORD"),
        (["--user", ":x"], "a user is written as NAME:PASSWORD"),
        (["--profile", "rabbitmq-2.0"], "invalid choice: 'rabbitmq-2.0'"),
        (["--port", "5672"], "unrecognized arguments"),
    ],
)
def test_what_it_does_not_mean(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        program.options(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_what_it_says_and_how_it_ends(listening: list[Port]) -> None:
    said, reactor = run("--listen", "tcp", "--listen", "unix", "--user", "me:secret")
    assert said.splitlines() == [
        "An embedded broker, to be taken for rabbitmq-4.3. It keeps nothing.",
        "Listening on 127.0.0.1:5672",
        "Listening on UNIXAddress('/run/x')",
        "Connect with amqp://me:...@localhost:5672",
        "Ctrl-C ends it.",
    ]
    assert "secret" not in said
    assert all(port.open for port in listening)
    (end,) = reactor.triggers
    Watched(end()).value  # noqa: B018
    assert not any(port.open for port in listening)
    assert names.find("txamqpx.broker") is None


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(("user", "vhost"), [("guest", "/"), ("a/b@c", "shop"), ("u", "v/1 ")])
def test_the_url_that_it_says_leads_to_it(user: str, vhost: str) -> None:
    said, reactor = run("--listen", "tcp", "--user", f"{user}:p", "--vhost", vhost, "--vhost", "other")
    (line,) = [line for line in said.splitlines() if line.startswith("Connect with ")]
    parameters = parse_url(line.removeprefix("Connect with ").replace(":...@", ":p@"))
    assert (parameters.username, parameters.virtual_host) == (user, vhost)
    reactor.triggers[0]()


@pytest.mark.usefixtures("listening")
def test_a_broker_over_tls_or_without_ports() -> None:
    said, reactor = run("--listen", "ssl:5671")
    assert "Connect with amqps://guest:...@localhost:5672\n" in said
    reactor.triggers[0]()
    said, reactor = run("--listen", "unix")
    assert "Connect with" not in said
    reactor.triggers[0]()


@pytest.mark.usefixtures("listening")
def test_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(program, "_begin_logging", lambda: None)
    reactor = Reactor()
    assert program.main(["--listen", "tcp"], reactor) == 0
    assert not reactor.stopped
    assert "It keeps nothing" in capsys.readouterr().out
    reactor = Reactor()
    assert program.main(["--listen", "taken"], reactor) == 2
    assert reactor.stopped
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "python -m txamqpx.broker: the port is taken\n")


@pytest.mark.usefixtures("listening")
def test_the_reactor_is_taken_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor, observers = Reactor(), list[object]()

    class Beginner:
        def __getattr__(self, name: str) -> Callable[..., object]:
            return lambda given, **options: observers.extend(given)

    monkeypatch.setattr(program, "globalLogBeginner", Beginner())
    monkeypatch.setattr("twisted.internet.reactor", reactor, raising=False)
    assert program.main(["--listen", "tcp"]) == 0
    assert len(reactor.triggers) == len(observers) == 1


def test_the_program_itself() -> None:
    """It is a program, and needs no reactor to explain itself."""
    done = subprocess.run(
        [sys.executable, "-m", "txamqpx.broker", "--help"], capture_output=True, text=True, check=True
    )
    assert "It keeps nothing" in done.stdout
