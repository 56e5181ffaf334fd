"""Send the invoices of a queue: what cannot be sent now is tried again, and put aside in the end.

python invoices.py amqp://guest:guest@localhost

How it is tested stands in test_invoices.py, which needs no broker.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.task import deferLater, react

import txamqpx
from txamqpx.consuming import Reject, RetryLater

QUEUE = "invoices"
ASIDE = "invoices.aside"


class Busy(Exception):
    """The mail server takes no mail at the moment."""


async def consume(client: txamqpx.Client, send: Callable[[bytes], Awaitable[None]]) -> txamqpx.Consumer:
    """Send each invoice, with a minute between two attempts; after five it is put aside."""

    async def handle(delivery: txamqpx.Delivery) -> None:
        if delivery.properties.content_type != "application/pdf":
            raise Reject
        try:
            await send(delivery.body)
        except Busy as busy:
            raise RetryLater(60) from busy

    await client.queue_declare(ASIDE, durable=True)
    aside = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": ASIDE}
    await client.queue_declare(QUEUE, durable=True, arguments=aside)
    return await client.consume(QUEUE, handle, prefetch=10, concurrency=10, attempts=5)


async def main(reactor: Any, url: str) -> None:
    async def send(invoice: bytes) -> None:
        await deferLater(reactor, 0.1)
        print("sent:", len(invoice), "bytes")

    client = await txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)
    consumer = await consume(client, send)
    print("waiting for invoices; Ctrl-C ends it")
    reason = await consumer.closed
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
