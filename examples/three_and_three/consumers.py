"""One process with three consumers: of a work queue, a management queue, and a topic.

python consumers.py amqp://guest:guest@localhost

``produce_jobs.py``, ``manage.py`` and ``emit_events.py`` feed it.  The command "stop" ends it, like Ctrl-C.
"""

import sys
from typing import Any

from twisted.internet.task import deferLater, react

import txamqpx
from txamqpx.consuming import Reject


class Consumers:
    """What the three do, and what they know of each other."""

    def __init__(self, reactor: Any, client: txamqpx.Client) -> None:
        self.reactor = reactor
        self.client = client
        self.jobs = self.events = 0

    async def work(self, delivery: txamqpx.Delivery) -> None:
        """Do a job; when this has returned it is acked."""
        await deferLater(self.reactor, 0.01)
        self.jobs += 1
        print("job:", delivery.body.decode())

    def manage(self, delivery: txamqpx.Delivery) -> None:
        """Obey."""
        match delivery.body.decode():
            case "report":
                print(f"management: {self.jobs} jobs, {self.events} events")
            case "stop":
                print("management: stop")
                self.client.close()  # not waited for, as it waits for this very function
            case command:
                print("management: there is no command", command)
                raise Reject  # dead-lettered if the queue says where to, else dropped

    def observe(self, delivery: txamqpx.Delivery) -> None:
        """Take note of an event."""
        self.events += 1
        print("event:", delivery.routing_key, delivery.body.decode())


async def main(reactor: Any, url: str) -> None:
    client = await txamqpx.connect(url)
    reactor.addSystemEventTrigger("before", "shutdown", client.close)  # Ctrl-C: finish what was begun
    consumers = Consumers(reactor, client)

    await client.queue_declare("three.jobs", durable=True, arguments={"x-queue-type": "quorum"})
    await client.queue_declare("three.management", durable=True, arguments={"x-queue-type": "quorum"})
    await client.exchange_declare("three.events", "topic", durable=True)

    # Each has a channel of its own, so that a long line of jobs holds up no command.
    await client.consume("three.jobs", consumers.work, prefetch=10, concurrency=5)
    management = await client.consume("three.management", consumers.manage, prefetch=1)
    await client.consume("", consumers.observe, exchange="three.events", binding_keys=["disk.#", "*.failed"])

    print("waiting for jobs, commands and events; Ctrl-C ends it")
    reason = await management.closed  # None after a stop
    if reason is not None:
        raise reason


if __name__ == "__main__":
    react(main, sys.argv[1:])
