"""Put a task into the queue "task_queue"; each dot in it stands for a second of work.

The same as ``new_task.py``, with ``inlineCallbacks``.

python new_task_inline.py amqp://guest:guest@localhost [words of the task]
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
    task = " ".join(words) or "Hello World!"
    client = yield txamqpx.connect(url)
    try:
        yield client.queue_declare("task_queue", durable=True, arguments={"x-queue-type": "quorum"})
        # A publisher's messages are persistent: with a durable queue they outlive the broker's restart.
        yield client.publisher().publish(task.encode(), routing_key="task_queue")
        print("sent:", task)
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
