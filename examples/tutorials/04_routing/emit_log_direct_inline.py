"""Send a line of a log under its severity to the exchange "direct_logs".

The same as ``emit_log_direct.py``, with ``inlineCallbacks``.

python emit_log_direct_inline.py amqp://guest:guest@localhost [severity [words of the line]]
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
    reactor: IReactorCore, url: str, severity: str = "info", *words: str
) -> Generator[Deferred[Any], Any, None]:
    line = " ".join(words) or "Hello World!"
    client = yield txamqpx.connect(url)
    try:
        yield client.exchange_declare("direct_logs", "direct")
        try:
            yield client.publish(line.encode(), exchange="direct_logs", routing_key=severity)
        except txamqpx.Unroutable:
            print("nobody listens to:", severity)
        else:
            print("sent:", severity, line)
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
