"""Queues: messages that are ready, messages that somebody has, and who wants them."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import Any, ClassVar, Protocol

from twisted.internet.interfaces import IReactorTime

from txamqpx.broker.consumer import Consumer
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.profile import Profile
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.turns import SingleActive, Turns

__all__ = ["Owner", "Place", "Queue"]

_position = attrgetter("position")


class Owner(Protocol):
    """A broker, as its queues see it."""

    @property
    def profile(self) -> Profile:
        """Which RabbitMQ it can be taken for."""

    @property
    def clock(self) -> IReactorTime:
        """Its time."""

    @property
    def consumer_timeout(self) -> float | None:
        """After how many seconds a delivery has to be settled; None: never."""


class Place(Protocol):
    """A virtual host, as its queues see it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def broker(self) -> Owner:
        """Whose it is."""

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

    kind: ClassVar[str] = "classic"

    #: Whether a limit for all consumers of a channel together counts what comes from here.
    minds_channel_limit: ClassVar[bool] = True

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
        self.consumers = self.turns()
        self.deleted = False
        self._next = 0

    def __repr__(self) -> str:
        return f"<{self.kind} queue {self.name!r}, {len(self.ready)} ready, {len(self.unsettled)} unsettled>"

    @property
    def message_count(self) -> int:
        """How many messages are ready, as clients are told."""
        return len(self.ready)

    @property
    def consumer_count(self) -> int:
        """How many consumers there are, as clients are told."""
        return len(self.consumers)

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
        ready, unsettled, turn = self.ready, self.unsettled, self.consumers.next
        while ready and (consumer := turn()) is not None:
            entry = ready.popleft()
            if not consumer.no_ack:
                unsettled[entry] = None
            consumer.consuming.deliver(consumer, entry)

    def rejoin(self, consumer: Consumer) -> None:
        """Let a consumer that could not take a message have its turns again."""
        self.consumers.rejoin(consumer)

    def resume(self) -> None:
        """Give out messages again: a consumer's channel can take some that could not."""
        self.consumers.rejoin_all()
        self.dispatch()

    def ack(self, entry: Entry) -> None:
        """Forget a message that was given out."""
        self.unsettled.pop(entry, None)

    def reject(self, entry: Entry) -> None:
        """Forget a message that somebody does not want, or make it a dead letter."""
        self.unsettled.pop(entry, None)

    def requeue(self, entries: Iterable[Entry], *, failed: bool) -> None:
        """Take messages back to their places.

        Args:
            entries: Those that were given out.
            failed: Whether somebody failed to deal with them, which classic queues do not count.
        """
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

    @property
    def single_active(self) -> bool:
        """Whether one consumer gets all messages."""
        return self.arguments.get("x-single-active-consumer") is True

    def turns(self) -> Turns:
        """Return what tells whose turn it is."""
        return SingleActive(by_priority=True) if self.single_active else Turns()

    @property
    def consumer_arguments(self) -> tuple[Collection[str], Collection[str]]:
        """Which arguments of consumers have a meaning here, and which are for queues of other kinds."""
        return self.vhost.broker.profile.consumer_arguments[self.kind]

    def admit(self, *, exclusive: bool, limited: bool) -> None:
        """Look whether one more consumer may come.

        Args:
            exclusive: Whether it wants to be alone.
            limited: Whether its channel has a limit for all its consumers together.

        Raises:
            Refusal: 403, it may not.
        """
        alone = any(consumer.exclusive for consumer in self.consumers)
        if alone or (exclusive and (self.single_active or self.consumers)):
            raise Refusal(403, f"queue '{self.name}' in vhost '{self.vhost.name}' in exclusive use")

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer have its turns."""
        self.consumers.add(consumer)
        self.dispatch()

    def remove_consumer(self, consumer: Consumer) -> None:
        """Let it have no more; what it has not settled stays with its channel."""
        self.consumers.remove(consumer)
        if self.auto_delete and not self.consumers:
            self.vhost.delete_queue(self)
        elif self.single_active and self.vhost.broker.profile.successor_starts_at_once:
            self.dispatch()

    def delete(self) -> None:
        """Drop everything, and tell the consumers; the virtual host has forgotten the queue already."""
        self.deleted = True
        self.ready.clear()
        self.unsettled.clear()
        for consumer in self.consumers.clear():
            consumer.consuming.cancelled_by_queue(consumer)
