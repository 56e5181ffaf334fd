"""Put numbered jobs into the work queue.

python produce_jobs.py amqp://guest:guest@localhost [how many]
"""

import sys

from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

import txamqpx


async def main(reactor: IReactorCore, url: str, count: str = "10") -> None:
    jobs = (f"job {number}".encode() for number in range(1, int(count) + 1))
    async with await txamqpx.connect(url) as client:
        await client.queue_declare("three.jobs", durable=True, arguments={"x-queue-type": "quorum"})
        summary = await client.publisher().publish_many(jobs, routing_key="three.jobs")
        print("produced:", summary.confirmed, "jobs")
        for position, error in summary.failures:
            print("not produced: job", position + 1, error)


if __name__ == "__main__":
    react(main, sys.argv[1:])
