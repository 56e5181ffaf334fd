"""Queues: messages that are ready, messages that somebody has, and who wants them."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Protocol

from txamqpx.broker.consumer import Consumer
from txamqpx.broker.message import Entry, Message

__all__ = ["Place", "Queue"]

_position = attrgetter("position")


class Place(Protocol):
    """A virtual host, as its queues see it."""

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue and its bindings; return how many messages were ready."""


class Queue:
    """One queue.

    Args:
        name: Its name.
        vhost: Where it is.
        durable: Whether it was declared to outlive the broker, which nothing does here.
        owner: The connection that alone may use it, and with which it ends; None: it is not exclusive.
        auto_delete: Whether it ends with its last consumer.
        arguments: What came with ``queue.declare``.
    """

    kind = "classic"

    def __init__(
        self,
        name: str,
        vhost: Place,
        *,
        durable: bool,
        owner: object | None,
        auto_delete: bool,
        arguments: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.vhost = vhost
        self.durable = durable
        self.owner = owner
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.ready: deque[Entry] = deque()
        self.unsettled: dict[Entry, None] = {}
        self.consumers: deque[Consumer] = deque()
        self.deleted = False
        self._next = 0

    def __repr__(self) -> str:
        return f"<{self.kind} queue {self.name!r}, {len(self.ready)} ready, {len(self.unsettled)} unsettled>"

    # ----------------------------------------------------------------------- messages in

    def publish(self, message: Message) -> bool:
        """Take a message; return False if it is refused, which its publisher is told by a nack."""
        entry = Entry(message, self, self._next)
        self._next += 1
        self.ready.append(entry)
        if self.consumers:
            self.dispatch()
        return True

    # ----------------------------------------------------------------------- messages out

    def get(self, *, no_ack: bool) -> Entry | None:
        """Take out the first message."""
        if not self.ready:
            return None
        entry = self.ready.popleft()
        if not no_ack:
            self.unsettled[entry] = None
        return entry

    def dispatch(self) -> None:
        """Give out what is ready to whoever has credit, in turn."""
        ready, consumers = self.ready, self.consumers
        idle = 0
        while ready and idle < len(consumers):
            consumer = consumers[0]
            consumers.rotate(-1)
            if not consumer.has_credit:
                idle += 1
                continue
            idle = 0
            entry = ready.popleft()
            if not consumer.no_ack:
                self.unsettled[entry] = None
            consumer.take(entry)

    def ack(self, entry: Entry) -> None:
        """Forget a message that was given out."""
        self.unsettled.pop(entry, None)

    def reject(self, entry: Entry) -> None:
        """Forget a message that somebody does not want, or make it a dead letter."""
        self.unsettled.pop(entry, None)

    def requeue(self, entries: Iterable[Entry]) -> None:
        """Take messages back to their places."""
        for entry in entries:
            if entry in self.unsettled:
                del self.unsettled[entry]
                entry.redelivered = True
                entry.consumer = None
                if self.ready and entry.position < self.ready[0].position:
                    self.ready.appendleft(entry)
                else:
                    insort(self.ready, entry, key=_position)
        self.dispatch()

    def purge(self) -> int:
        """Drop what is ready; return how many that were."""
        count = len(self.ready)
        self.ready.clear()
        return count

    # ----------------------------------------------------------------------- consumers

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer have its turn."""
        self.consumers.append(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Let it have no more; what it has not settled stays with its channel."""
        self.consumers.remove(consumer)
        if self.auto_delete and not self.consumers:
            self.vhost.delete_queue(self)

    def delete(self) -> None:
        """Drop everything, and tell the consumers; the virtual host has forgotten the queue already."""
        self.deleted = True
        self.ready.clear()
        self.unsettled.clear()
        consumers, self.consumers = self.consumers, deque()
        for consumer in consumers:
            consumer.consuming.cancelled_by_queue(consumer)
