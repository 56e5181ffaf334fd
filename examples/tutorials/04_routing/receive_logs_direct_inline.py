"""Print the lines of the log that have one of some severities, until Ctrl-C.

The same as ``receive_logs_direct.py``, with ``inlineCallbacks``.

python receive_logs_direct_inline.py amqp://guest:guest@localhost severity...
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


def received(delivery: txamqpx.Delivery) -> None:
    print("received:", delivery.routing_key, delivery.body.decode())


@inlineCallbacks
def main(reactor: IReactorCore, url: str, *severities: str) -> Generator[Deferred[Any], Any, None]:
    if not severities:
        sys.exit("which severities? such as: info warning error")
    client = yield txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    yield client.exchange_declare("direct_logs", "direct")
    # A queue of its own, bound once for each severity.
    consumer = yield client.consume("", received, exchange="direct_logs", binding_keys=severities)
    print("waiting for logs; Ctrl-C ends it")
    reason = yield consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
