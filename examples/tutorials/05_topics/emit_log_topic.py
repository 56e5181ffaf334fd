"""Send a line of a log under a topic, such as "kern.critical", to the exchange "topic_logs".

python emit_log_topic.py amqp://guest:guest@localhost [topic [words of the line]]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, topic: str = "anonymous.info", *words: str) -> None:
    line = " ".join(words) or "Hello World!"
    async with await txamqpx.connect(url) as client:
        await client.exchange_declare("topic_logs", "topic")
        try:
            await client.publish(line.encode(), exchange="topic_logs", routing_key=topic)
        except txamqpx.Unroutable:
            print("nobody listens to:", topic)
        else:
            print("sent:", topic, line)


if __name__ == "__main__":
    react(main, sys.argv[1:])
