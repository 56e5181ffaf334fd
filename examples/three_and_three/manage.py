"""Send commands to the management queue: "report", "stop".

python manage.py amqp://guest:guest@localhost command...
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, *commands: str) -> None:
    async with await txamqpx.connect(url) as client:
        await client.queue_declare("three.management", durable=True, arguments={"x-queue-type": "quorum"})
        publisher = client.publisher()
        for command in commands:
            await publisher.publish(command.encode(), routing_key="three.management")
            print("commanded:", command)


if __name__ == "__main__":
    react(main, sys.argv[1:])
