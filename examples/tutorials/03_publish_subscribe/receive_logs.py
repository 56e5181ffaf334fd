"""Print what comes to the exchange "logs", until Ctrl-C; start several of it.

python receive_logs.py amqp://guest:guest@localhost
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


def received(delivery: txamqpx.Delivery) -> None:
    print("received:", delivery.body.decode())


async def main(reactor: IReactorCore, url: str) -> None:
    client = await txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    await client.exchange_declare("logs", "fanout")
    # "" is a queue of this consumer's own, which is bound to the exchange and goes when the program ends.
    consumer = await client.consume("", received, exchange="logs")
    print("waiting for logs; Ctrl-C ends it")
    reason = await consumer.closed  # None after Ctrl-C
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
