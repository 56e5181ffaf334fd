"""Send one message to the queue "hello".

python send.py amqp://guest:guest@localhost [words of the message]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, *words: str) -> None:
    message = " ".join(words) or "Hello World!"
    async with await txamqpx.connect(url) as client:
        await client.queue_declare("hello", durable=True, arguments={"x-queue-type": "quorum"})
        # The next line is reached when the broker has the message; what went wrong would be raised here.
        await client.publish(message.encode(), routing_key="hello")
        print("sent:", message)


if __name__ == "__main__":
    react(main, sys.argv[1:])
