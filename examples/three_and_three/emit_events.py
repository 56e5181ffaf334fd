"""Tell of events under topics, to whoever listens.

python emit_events.py amqp://guest:guest@localhost topic=text...
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, *events: str) -> None:
    async with await txamqpx.connect(url) as client:
        await client.exchange_declare("three.events", "topic", durable=True)
        for event in events:
            topic, _, text = event.partition("=")
            try:
                await client.publish(text.encode(), exchange="three.events", routing_key=topic)
            except txamqpx.Unroutable:
                print("nobody listens to:", topic)
            else:
                print("emitted:", topic)


if __name__ == "__main__":
    react(main, sys.argv[1:])
