"""Publish messages and hear of each what became of it, in three ways that differ in speed.

python publisher_confirms.py amqp://guest:guest@localhost [number of messages]
"""

import sys

from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react

import txamqpx


async def one_by_one(client: txamqpx.Client, queue: str, messages: list[bytes]) -> int:
    """Wait for each before the next: the simplest way, and the slowest."""
    publisher = client.publisher()
    for message in messages:
        await publisher.publish(message, routing_key=queue)  # raises what became of it otherwise
    return len(messages)


async def many(client: txamqpx.Client, queue: str, messages: list[bytes]) -> int:
    """Hand over any number, even an endless generator: no more are under way than there is room for."""
    summary = await client.publisher().publish_many(messages, routing_key=queue)
    for position, error in summary.failures:
        print("failed:", messages[position], error)
    return summary.confirmed


async def at_once(client: txamqpx.Client, queue: str, messages: list[bytes]) -> int:
    """Start them all, and go on meanwhile: each has a Deferred of its own."""
    publisher = client.publisher()
    publishes = [publisher.publish(message, routing_key=queue) for message in messages]
    return len(await gatherResults(publishes, consumeErrors=True))


async def main(reactor: IReactorTime, url: str, count: str = "1000") -> None:
    messages = [str(number).encode() for number in range(int(count))]
    async with await txamqpx.connect(url) as client:
        for publish in (one_by_one, many, at_once):
            queue = (await client.queue_declare(exclusive=True)).queue
            start = reactor.seconds()
            confirmed = await publish(client, queue, messages)
            print(f"{publish.__name__}: {confirmed} confirmed in {reactor.seconds() - start:.3f} s")


if __name__ == "__main__":
    react(main, sys.argv[1:])
