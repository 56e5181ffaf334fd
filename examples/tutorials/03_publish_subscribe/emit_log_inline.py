"""Send a line of a log to whoever listens to the exchange "logs".

The same as ``emit_log.py``, with ``inlineCallbacks``.

python emit_log_inline.py amqp://guest:guest@localhost [words of the line]
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


@inlineCallbacks
def main(reactor: IReactorCore, url: str, *words: str) -> Generator[Deferred[Any], Any, None]:
    line = " ".join(words) or "info: Hello World!"
    client = yield txamqpx.connect(url)
    try:
        yield client.exchange_declare("logs", "fanout")
        # Not mandatory: that nobody listens is no error here.
        yield client.publish(line.encode(), exchange="logs", mandatory=False)
        print("sent:", line)
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
