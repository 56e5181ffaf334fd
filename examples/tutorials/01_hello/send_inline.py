"""Send one message to the queue "hello".

The same as ``send.py``, with ``inlineCallbacks``.

python send_inline.py amqp://guest:guest@localhost [words of the message]
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
    message = " ".join(words) or "Hello World!"
    client = yield txamqpx.connect(url)
    try:
        yield client.queue_declare("hello", durable=True, arguments={"x-queue-type": "quorum"})
        # The next line is reached when the broker has the message; what went wrong would be raised here.
        yield client.publish(message.encode(), routing_key="hello")
        print("sent:", message)
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
