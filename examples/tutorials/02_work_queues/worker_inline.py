"""Work on the tasks of the queue "task_queue", one at a time, until Ctrl-C; start several of it.

The same as ``worker.py``, with ``inlineCallbacks``.

python worker_inline.py amqp://guest:guest@localhost
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater, react

import txamqpx


@inlineCallbacks
def main(reactor: Any, url: str) -> Generator[Deferred[Any], Any, None]:
    @inlineCallbacks
    def work(delivery: txamqpx.Delivery) -> Generator[Deferred[Any], Any, None]:
        task = delivery.body.decode()
        print("received:", task)
        yield deferLater(reactor, task.count("."))
        print("done:", task)  # and only now it is acked: who dies before leaves the task to others

    client = yield txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    yield client.queue_declare("task_queue", durable=True, arguments={"x-queue-type": "quorum"})
    # With prefetch=1 a task goes to whoever is idle, and none waits behind a long one.
    consumer = yield client.consume("task_queue", work, prefetch=1)
    print("waiting for tasks; Ctrl-C ends it")
    reason = yield consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
