"""The other end of `tests.embedded`: a reactor with the embedded broker, which takes orders on its stdin.

An order is a line of JSON with its name and its arguments; the answer is one with a result and an error. The
first answer, to nobody's order, says that the broker listens. With the last byte of its stdin it ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor, stdio
from twisted.internet.interfaces import IReactorCore, IReactorSSL, IReactorTCP
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, PrivateCertificate
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from txamqpx.broker.broker import Broker
from txamqpx.broker.session import Session

SETTINGS = ("channel_max", "consumer_timeout", "frame_max", "heartbeat", "max_message_size")
"""What lines of the configuration may set, under RabbitMQ's names."""


class Orders(LineReceiver):
    """Takes orders until there is nobody to give them.

    Args:
        broker: What the orders are about.
    """

    delimiter = b"\n"
    MAX_LENGTH = 2**20

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def connectionMade(self) -> None:
        self._answer(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if cast(Any, reactor).running:
            cast(IReactorCore, reactor).stop()

    def lineReceived(self, line: bytes) -> None:
        order, arguments = json.loads(line)
        try:
            answer = getattr(self, f"order_{order}")(**arguments)
        except Exception as error:
            self._answer(None, f"{type(error).__name__}: {error}")
        else:
            self._answer(answer)

    def _answer(self, answer: object, error: str | None = None) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps([answer, error], default=str).encode() + b"\n")

    # Orders -----------------------------------------------------------------------------------

    def order_shut_down(self) -> None:
        self.order_close_all_connections("broker forced connection closure with reason 'shutdown'")
        cast(Any, reactor).callLater(0.2, cast(IReactorCore, reactor).stop)

    def order_list_vhosts(self) -> list[str]:
        return list(self.broker.vhosts)

    def order_add_vhost(self, name: str) -> None:
        self.broker.add_vhost(name)

    def order_delete_vhost(self, name: str) -> None:
        self.broker.delete_vhost(name)

    def order_add_user(self, name: str, password: str | None) -> None:
        self.broker.add_user(name, password)

    def order_delete_user(self, name: str) -> None:
        self.broker.delete_user(name)

    def order_set_permissions(self, user: str, vhost: str, configure: str, write: str, read: str) -> None:
        self.broker.set_permissions(user, vhost, configure, write, read)

    def order_list_connections(self) -> list[dict[str, Any]]:
        return [self._row(session) for session in self.broker.sessions if hasattr(session, "vhost")]

    def _row(self, session: Session) -> dict[str, Any]:
        transport: Any = session.transport
        tuning = session.core.tuning
        return {
            "name": str(transport.getPeer()),
            "user": session.user,
            "vhost": session.vhost.name,
            "state": "running",
            "channels": len(session.core.channels),
            "peer_port": transport.getPeer().port,
            "ssl": hasattr(transport, "getPeerCertificate"),
            "auth_mechanism": session.mechanism,
            "timeout": tuning.heartbeat,
            "frame_max": tuning.frame_max,
        }

    def order_client_properties(self, vhost: str) -> list[Mapping[str, Any]]:
        return [
            session.client_properties
            for session in self.broker.sessions
            if hasattr(session, "vhost") and session.vhost.name == vhost
        ]

    def order_close_all_connections(self, reason: str) -> int:
        return self.broker.close_connections(reason)

    def order_set_alarm(self, source: str) -> None:
        self.broker.set_alarm(source)

    def order_clear_alarm(self, source: str) -> None:
        self.broker.clear_alarm(source)

    def order_bear_consumers_for(self, seconds: float, tick: float) -> None:
        self.broker.consumer_timeout = seconds


def settings(conf: str) -> dict[str, Any]:
    """Return the settings in lines of a configuration file.

    Raises:
        ValueError: There is a line that sets something else.
    """
    found: dict[str, Any] = {}
    for line in filter(str.strip, conf.splitlines()):
        name, _, value = line.partition("=")
        if name.strip() not in SETTINGS:
            raise ValueError(f"the embedded broker has no setting {name.strip()}")
        found[name.strip()] = int(value)
    return found


def main(options: dict[str, Any]) -> None:
    """Listen, and do as ordered."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    broker = Broker(profile=options["profile"], **settings(options["conf"]))
    factory: Any = broker
    cast(IReactorTCP, reactor).listenTCP(options["amqp"], factory, interface="127.0.0.1")
    if tls := options.get("tls"):
        authority = Certificate.loadPEM(Path(tls["ca"]).read_bytes())
        pem = Path(tls["key"]).read_bytes() + Path(tls["certificate"]).read_bytes()
        context = PrivateCertificate.loadPEM(pem).options(authority)
        cast(IReactorSSL, reactor).listenSSL(options["amqps"], factory, context, interface="127.0.0.1")
    stdio.StandardIO(Orders(broker))
    cast(IReactorCore, reactor).run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
