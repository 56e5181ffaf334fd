"""Print what comes to the exchange "logs", until Ctrl-C; start several of it.

The same as ``receive_logs.py``, with ``inlineCallbacks``.

python receive_logs_inline.py amqp://guest:guest@localhost
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


def received(delivery: txamqpx.Delivery) -> None:
    print("received:", delivery.body.decode())


@inlineCallbacks
def main(reactor: IReactorCore, url: str) -> Generator[Deferred[Any], Any, None]:
    client = yield txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    yield client.exchange_declare("logs", "fanout")
    # "" is a queue of this consumer's own, which is bound to the exchange and goes when the program ends.
    consumer = yield client.consume("", received, exchange="logs")
    print("waiting for logs; Ctrl-C ends it")
    reason = yield consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
