"""Print what comes from the queue "hello", until Ctrl-C.

The same as ``receive.py``, with ``inlineCallbacks``.

python receive_inline.py amqp://guest:guest@localhost
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


def received(delivery: txamqpx.Delivery) -> None:
    print("received:", delivery.body.decode())  # when this function returns, the message is acked


@inlineCallbacks
def main(reactor: IReactorCore, url: str) -> Generator[Deferred[Any], Any, None]:
    client = yield txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    yield client.queue_declare("hello", durable=True, arguments={"x-queue-type": "quorum"})
    consumer = yield client.consume("hello", received)
    print("waiting for messages; Ctrl-C ends it")
    reason = yield consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
