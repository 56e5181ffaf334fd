"""Say hello to a broker: declare, publish, consume, close.

The same as ``hello.py``, with ``inlineCallbacks``.

python examples/hello_inline.py
python examples/hello_inline.py amqp://guest:guest@localhost
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


@inlineCallbacks
def main(reactor: IReactorCore, url: str = "memory://") -> Generator[Deferred[Any], Any, None]:
    handled: Deferred[None] = Deferred()

    def handle(delivery: txamqpx.Delivery) -> None:
        print("came back:", delivery.body.decode(), delivery.properties)
        handled.callback(None)

    client = yield txamqpx.connect(url)
    print("connected:", client.server.product, client.server.version)
    declared = yield client.queue_declare(exclusive=True)
    outcome = yield client.publish(b"hello, world", routing_key=declared.queue, content_type="text/plain")
    print("published:", outcome)
    yield client.consume(declared.queue, handle, prefetch=10)
    yield handled
    yield client.close()
    print("closed")


if __name__ == "__main__":
    react(main, sys.argv[1:])
