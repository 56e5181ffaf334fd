"""Print the lines of the log whose topic fits a pattern, until Ctrl-C.

The same as ``receive_logs_topic.py``, with ``inlineCallbacks``.

python receive_logs_topic_inline.py amqp://guest:guest@localhost pattern...

In a pattern ``*`` is one word and ``#`` any number of words: ``kern.*``, ``*.critical``, ``#``.
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
def main(reactor: IReactorCore, url: str, *patterns: str) -> Generator[Deferred[Any], Any, None]:
    if not patterns:
        sys.exit("which patterns? such as: 'kern.*' '*.critical'")
    client = yield txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    yield client.exchange_declare("topic_logs", "topic")
    # A queue of its own, bound once for each pattern; what fits several comes once.
    consumer = yield client.consume("", received, exchange="topic_logs", binding_keys=patterns)
    print("waiting for logs; Ctrl-C ends it")
    reason = yield consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
