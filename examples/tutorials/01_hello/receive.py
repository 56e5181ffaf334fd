"""Print what comes from the queue "hello", until Ctrl-C.

python receive.py amqp://guest:guest@localhost
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


def received(delivery: txamqpx.Delivery) -> None:
    print("received:", delivery.body.decode())  # when this function returns, the message is acked


async def main(reactor: IReactorCore, url: str) -> None:
    client = await txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    await client.queue_declare("hello", durable=True, arguments={"x-queue-type": "quorum"})
    consumer = await client.consume("hello", received)
    print("waiting for messages; Ctrl-C ends it")
    reason = await consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
