"""A virtual host with no more to it than queues need, and consumers that keep what they get."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from txamqpx.broker.accepting import accept
from txamqpx.broker.consumer import Consumer
from txamqpx.broker.dead_letter import Burials
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.profile import profile_named
from txamqpx.broker.queue import Queue
from txamqpx.spec.amqp0_9_1 import BasicProperties

PROFILES = ("rabbitmq-3.10", "rabbitmq-4.3")


class House:
    """A broker, as queues see it."""

    consumer_timeout: float | None = None

    def __init__(self, profile: str) -> None:
        self.profile = profile_named(profile)
        self.clock = Clock()


class Yard:
    """A virtual host, as queues see it.

    Attributes:
        fanouts: Names of queues by the names of the exchanges that lead to them; the default exchange leads
            to each queue.
    """

    name = "/"

    def __init__(self, profile: str = "rabbitmq-4.3") -> None:
        self.broker = House(profile)
        self.burials = Burials(self._route)
        self.queues: dict[str, Queue] = {}
        self.fanouts: dict[str, list[str]] = {}

    @property
    def clock(self) -> Clock:
        """All the time that there is."""
        return self.broker.clock

    def queue(self, name: str = "jobs", *, auto_delete: bool = False, **arguments: Any) -> Queue:
        """Make a queue; what is short of a name gets its ``x-``."""
        named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        queue = self.queues[name] = Queue(
            name, self, durable=True, owner=None, auto_delete=auto_delete, arguments=named
        )
        return queue

    def publish(self, queue: Queue, body: bytes = b"", key: str | None = None, **properties: Any) -> bool:
        """Publish to one queue, as if to the default exchange."""
        made = Message.made("", queue.name if key is None else key, BasicProperties(**properties), body)
        return queue.publish(accept(made, self.broker.profile))

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue."""
        del self.queues[queue.name]
        count = len(queue.ready)
        queue.delete()
        return count

    def _route(self, letter: Message) -> list[Queue]:
        names = letter.keys if not letter.exchange else self.fanouts.get(letter.exchange, ())
        return [self.queues[name] for name in names if name in self.queues]


class Mouth:
    """A channel's side of a consumer, which takes whatever it has credit for."""

    def __init__(self) -> None:
        self.got: list[Entry] = []
        self.cancelled: list[Consumer] = []
        #: Who was too slow, and understands that; and how often the channel would have ended over it.
        self.slow: list[Consumer] = []
        self.understands = True
        self.ended = 0

    @property
    def bodies(self) -> list[bytes]:
        """What it got."""
        return bodies(self.got)

    def can_take(self, consumer: Consumer) -> bool:
        """Take everything."""
        return True

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Keep a delivery."""
        self.got.append(entry)
        if not consumer.no_ack:
            entry.consumer = consumer
            consumer.unsettled += 1

    def cancelled_by_queue(self, consumer: Consumer) -> None:
        """Note that a consumer's queue is gone."""
        self.cancelled.append(consumer)

    def released(self, consumer: Consumer) -> bool:
        """Note that a consumer was too slow."""
        self.slow.append(consumer)
        return self.understands

    def too_late(self) -> None:
        """Note that the channel would end."""
        self.ended += 1

    def consume(
        self,
        queue: Queue,
        *,
        prefetch: int = 0,
        no_ack: bool = False,
        exclusive: bool = False,
        tag: str = "tag",
        **arguments: Any,
    ) -> Consumer:
        """Consume from a queue; what is short of an argument's name gets its ``x-``."""
        named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        consumer = Consumer(
            tag, queue, self, no_ack=no_ack, exclusive=exclusive, arguments=named, prefetch=prefetch
        )
        queue.add_consumer(consumer)
        return consumer


def bodies(entries: Any) -> list[bytes]:
    """Return the bodies of the messages in some places."""
    return [entry.message.body for entry in entries]


def take(queue: Queue) -> Entry:
    """Get a message that is there, and hold it."""
    entry = queue.get(no_ack=False)
    assert entry is not None
    return entry
