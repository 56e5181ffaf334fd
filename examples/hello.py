"""Say hello to a broker: declare, publish, consume, close.

python examples/hello.py
python examples/hello.py amqp://guest:guest@localhost

The first runs on a broker in its own process, the second on the one at that place.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str = "memory://") -> None:
    handled: Deferred[None] = Deferred()

    async def handle(delivery: txamqpx.Delivery) -> None:
        print("came back:", delivery.body.decode(), delivery.properties)
        handled.callback(None)

    client = await txamqpx.connect(url)
    print("connected:", client.server.product, client.server.version)
    queue = (await client.queue_declare(exclusive=True)).queue
    outcome = await client.publish(b"hello, world", routing_key=queue, content_type="text/plain")
    print("published:", outcome)
    await client.consume(queue, handle, prefetch=10)
    await handled
    await client.close()
    print("closed")


if __name__ == "__main__":
    react(main, sys.argv[1:])
