"""A broker of its own: ``python -m txamqpx.broker --listen tcp:5672``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, TextIO
from urllib.parse import quote

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from txamqpx.broker.broker import Broker
from txamqpx.broker.profile import PROFILES

__all__ = ["Program", "main", "options"]


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line says; if that cannot be, say why and end the process with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m txamqpx.broker",
        description="An AMQP 0-9-1 broker for tests and for trying things out. It keeps nothing: what is "
        "in it when it ends is gone.",
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ENDPOINT",
        help="where to listen, as Twisted describes servers, such as tcp:5672 or "
        "ssl:5671:privateKey=key.pem:certKey=certificate.pem; may be said several times "
        "(tcp:5672:interface=127.0.0.1)",
    )
    parser.add_argument(
        "--profile",
        default="rabbitmq-4.3",
        choices=sorted(PROFILES),
        help="which RabbitMQ it can be taken for (%(default)s)",
    )
    parser.add_argument(
        "--user",
        action="append",
        type=_user,
        metavar="NAME:PASSWORD",
        help="who may log in, with all rights; may be said several times (guest:guest)",
    )
    parser.add_argument(
        "--vhost", action="append", metavar="NAME", help="a virtual host; may be said several times (/)"
    )
    chosen = parser.parse_args(arguments)
    chosen.listen = chosen.listen or ["tcp:5672:interface=127.0.0.1"]
    chosen.user = dict(chosen.user or [("guest", "guest")])
    chosen.vhost = chosen.vhost or ["/"]
    return chosen


def _user(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise argparse.ArgumentTypeError("a user is written as NAME:PASSWORD")
    return name, password


class Program:
    """A broker from its first port to its last connection.

    Args:
        reactor: What it runs on.
        chosen: What the command line says.
        output: Where it says what people want to know.
    """

    def __init__(self, reactor: Any, chosen: argparse.Namespace, output: TextIO) -> None:
        self._reactor = reactor
        self._chosen = chosen
        self._output = output
        self._ports: list[IListeningPort] = []
        self.broker = Broker(
            "txamqpx.broker",
            profile=chosen.profile,
            clock=reactor,
            users=chosen.user,
            vhosts=chosen.vhost,
        )

    async def run(self) -> None:
        """Listen, and see that it all ends with the reactor.

        Raises:
            OSError: A port cannot be had.
            ValueError: An endpoint's description is wrong.
        """
        self._reactor.addSystemEventTrigger("before", "shutdown", self._end)
        for description in self._chosen.listen:
            port = await serverFromString(self._reactor, description).listen(self.broker)
            self._ports.append(port)
        self._say(f"An embedded broker, to be taken for {self._chosen.profile}. It keeps nothing.")
        for port in self._ports:
            self._say(f"Listening on {self._where(port)}")
        host: Any = self._ports[0].getHost()
        if hasattr(host, "port"):
            self._say(f"Connect with {self._url(host.port)}")
        self._say("Ctrl-C ends it.")

    def _url(self, port: int) -> str:
        scheme = "amqps" if self._chosen.listen[0].startswith("ssl") else "amqp"
        user, vhost = quote(next(iter(self._chosen.user)), safe=""), self._chosen.vhost[0]
        # A slash with nothing behind it would name a virtual host without a name.
        path = "" if vhost == "/" else f"/{quote(vhost, safe='')}"
        return f"{scheme}://{user}:...@localhost:{port}{path}"

    def _where(self, port: IListeningPort) -> str:
        host: Any = port.getHost()
        return f"{host.host}:{host.port}" if hasattr(host, "port") else str(host)

    def _say(self, line: str) -> None:
        print(line, file=self._output, flush=True)

    def _end(self) -> Deferred[Any]:
        closing = [maybeDeferred(port.stopListening) for port in self._ports]
        return gatherResults([*closing, self.broker.close()])


def main(arguments: Sequence[str] | None = None, reactor: Any = None) -> int:
    """Run a broker until somebody ends it.

    Args:
        arguments: The words of the command line; None: those of this process.
        reactor: What it runs on; None: the reactor.

    Returns:
        The exit code: 0, or 2 if it cannot do what the command line asks for.
    """
    chosen = options(sys.argv[1:] if arguments is None else arguments)
    if reactor is None:
        from twisted.internet import reactor  # not before the command line is known to be right
    _begin_logging()
    program = Program(reactor, chosen, sys.stdout)
    failed: list[str] = []

    def cannot(failure: Failure) -> None:
        failed.append(failure.getErrorMessage())
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(program.run()).addErrback(cannot)

    reactor.callWhenRunning(begin)
    reactor.run()
    for why in failed:
        sys.stderr.write(f"python -m txamqpx.broker: {why}\n")
    return 2 if failed else 0


def _begin_logging() -> None:
    warnings = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [warnings])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


if __name__ == "__main__":
    sys.exit(main())
