"""Publish messages and hear of each what became of it, in three ways that differ in speed.

The same as ``publisher_confirms.py``, with ``inlineCallbacks``.

python publisher_confirms_inline.py amqp://guest:guest@localhost [number of messages]
"""

import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import react

import txamqpx

Steps = Generator[Deferred[Any], Any, int]


@inlineCallbacks
def one_by_one(client: txamqpx.Client, queue: str, messages: list[bytes]) -> Steps:
    """Wait for each before the next: the simplest way, and the slowest."""
    publisher = client.publisher()
    for message in messages:
        yield publisher.publish(message, routing_key=queue)  # raises what became of it otherwise
    return len(messages)


@inlineCallbacks
def many(client: txamqpx.Client, queue: str, messages: list[bytes]) -> Steps:
    """Hand over any number, even an endless generator: no more are under way than there is room for."""
    summary = yield client.publisher().publish_many(messages, routing_key=queue)
    for position, error in summary.failures:
        print("failed:", messages[position], error)
    return int(summary.confirmed)


@inlineCallbacks
def at_once(client: txamqpx.Client, queue: str, messages: list[bytes]) -> Steps:
    """Start them all, and go on meanwhile: each has a Deferred of its own."""
    publisher = client.publisher()
    publishes = [publisher.publish(message, routing_key=queue) for message in messages]
    return len((yield gatherResults(publishes, consumeErrors=True)))


@inlineCallbacks
def main(reactor: IReactorTime, url: str, count: str = "1000") -> Generator[Deferred[Any], Any, None]:
    messages = [str(number).encode() for number in range(int(count))]
    client = yield txamqpx.connect(url)
    try:
        for publish in (one_by_one, many, at_once):
            declared = yield client.queue_declare(exclusive=True)
            start = reactor.seconds()
            confirmed = yield publish(client, declared.queue, messages)
            print(f"{publish.__name__}: {confirmed} confirmed in {reactor.seconds() - start:.3f} s")
    finally:
        yield client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
