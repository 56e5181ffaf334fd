"""Send a line of a log under a topic, such as "kern.critical", to the exchange "topic_logs".

The same as ``emit_log_topic.py``, with ``inlineCallbacks``.

python emit_log_topic_inline.py amqp://guest:guest@localhost [topic [words of the line]]
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


@inlineCallbacks
def main(
    reactor: IReactorCore, url: str, topic: str = "anonymous.info", *words: str
) -> Generator[Deferred[Any], Any, None]:
    line = " ".join(words) or "Hello World!"
    client = yield txamqpx.connect(url)
    try:
        yield client.exchange_declare("topic_logs", "topic")
        try:
            yield client.publish(line.encode(), exchange="topic_logs", routing_key=topic)
        except txamqpx.Unroutable:
            print("nobody listens to:", topic)
        else:
            print("sent:", topic, line)
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
