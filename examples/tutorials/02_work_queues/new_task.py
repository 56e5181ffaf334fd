"""Put a task into the queue "task_queue"; each dot in it stands for a second of work.

python new_task.py amqp://guest:guest@localhost [words of the task]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, *words: str) -> None:
    task = " ".join(words) or "Hello World!"
    async with await txamqpx.connect(url) as client:
        await client.queue_declare("task_queue", durable=True, arguments={"x-queue-type": "quorum"})
        # A publisher's messages are persistent: with a durable queue they outlive the broker's restart.
        await client.publisher().publish(task.encode(), routing_key="task_queue")
        print("sent:", task)


if __name__ == "__main__":
    react(main, sys.argv[1:])
