"""Queues: messages that are ready, messages that somebody has, and who wants them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Protocol

from twisted.internet.interfaces import IReactorTime

from txamqpx.broker.consumer import Consumer, Receiver
from txamqpx.broker.dead_letter import Burials, Grave
from txamqpx.broker.expiry import Expiry
from txamqpx.broker.line import Line, PriorityLine, Ready, WeighedLine
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.overflow import Limit
from txamqpx.broker.profile import Profile
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.turns import SingleActive, Turns

__all__ = ["Owner", "Place", "Queue"]


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

    @property
    def burials(self) -> Burials:
        """Where dead letters go."""

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

    #: Whether what a consumer has still counts for the next one of its tag.
    knows_tags_again: ClassVar[bool] = False

    #: What a message's place here is.
    entry_type: ClassVar[type[Entry]] = Entry

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
        #: What is too much; None: nothing is.
        self.limit = Limit.of(arguments)
        #: How many milliseconds messages live here; None: as long as they like.
        self.ttl: int | None = arguments.get("x-message-ttl")
        self.ready = self.line()
        self.unsettled: dict[Entry, None] = {}
        self.consumers = self.turns()
        self.grave = self._grave()
        self.deleted = False
        self._next = 0
        lease: int | None = arguments.get("x-expires")
        self._expiry = None if lease is None else self._new_expiry(lease / 1000)

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

    @property
    def is_shared(self) -> bool:
        """Whether it has more than one consumer."""
        return len(self.consumers) > 1

    def entries(self) -> Iterator[Entry]:
        """Return all that lies here, given out or not."""
        return chain(self.ready, self.unsettled)

    # ----------------------------------------------------------------------- messages in

    def publish(self, message: Message) -> bool:
        """Take a message; return False if it is refused, which its publisher is told by a nack."""
        ready, limit = self.ready, self.limit
        if limit is not None and limit.refuses and not limit.has_room(ready, message):
            if limit.buries and self.grave is not None:
                self.grave.bury(message, "maxlen", message.attempts)
            return False
        entry = self.entry_type(message, self, self._next)
        self._next += 1
        ages = self.ttl is not None or message.ttl is not None
        if ages:
            if self._expiry is None:
                self._expiry = self._new_expiry(None)
            entry.expires = self._expiry.time_of(self.ttl, message.ttl)
        consumers = self.consumers
        # Who waits gets it as it comes, even if it had no time to live.
        if not ready and consumers and (consumer := consumers.next()) is not None:
            if not consumer.no_ack:
                self.unsettled[entry] = None
            consumer.consuming.deliver(consumer, entry)
            return True
        if message.attempts:
            entry.redelivered = True
        ready.append(entry)
        if limit is not None or ages:
            self._trim()
        if consumers and len(ready) > 1:
            self.dispatch()
        return True

    def _trim(self) -> None:
        """Drop what is too much, and what is too old."""
        if self.limit is not None and not self.limit.refuses:
            self.bury(self.limit.excess(self.ready), "maxlen")
        if self._expiry is not None:
            self._expiry.sweep()

    # ----------------------------------------------------------------------- messages out

    def get(self, *, no_ack: bool) -> Entry | None:
        """Take out the first message."""
        self.used()
        if self._expiry is not None:
            self._expiry.sweep()
        if not self.ready:
            return None
        entry = self.ready.popleft()
        if not no_ack:
            self.unsettled[entry] = None
        if self._expiry is not None:
            self._expiry.sweep()
        return entry

    def dispatch(self) -> None:
        """Give out what is ready to whoever has credit, in turn."""
        ready, unsettled, turn, expiry = self.ready, self.unsettled, self.consumers.next, self._expiry
        if expiry is not None:
            expiry.sweep()
        while ready and (consumer := turn()) is not None:
            entry = ready.popleft()
            if not consumer.no_ack:
                unsettled[entry] = None
            consumer.consuming.deliver(consumer, entry)
            if expiry is not None:
                expiry.sweep()

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

    def reject(self, entry: Entry, *, failed: bool = True) -> None:
        """Forget a message that somebody does not want, or make it a dead letter.

        Args:
            entry: One that was given out.
            failed: Whether somebody failed to deal with it, of which a dead letter knows.
        """
        if entry in self.unsettled:
            del self.unsettled[entry]
            self.bury([entry], "rejected", failed=failed)

    def fetched(self, entry: Entry, receiver: Receiver) -> None:
        """Note whose channel has fetched a message, and not got it by a consumer."""

    def requeue(self, entries: Iterable[Entry], *, failed: bool, gone: bool = False) -> None:
        """Take messages back to their places.

        Args:
            entries: Those that were given out.
            failed: Whether somebody failed to deal with them, of which their dead letters know.
            gone: Whether the channel of who had them is over.
        """
        back = [entry for entry in entries if entry in self.unsettled]
        for entry in back:
            del self.unsettled[entry]
            entry.redelivered = True
            entry.consumer = None
            if failed and self.grave is not None:
                entry.message = entry.message.failed()
        self.ready.restore(back)
        self._trim()
        self.dispatch()

    def bury(self, entries: Iterable[Entry], reason: str, *, failed: bool = False) -> None:
        """Make dead letters of messages that were dropped, if this queue has any."""
        if self.grave is not None:
            for entry in entries:
                self.grave.bury(entry.message, reason, self.attempts(entry) + failed)

    def attempts(self, entry: Entry) -> int:
        """Return how many attempts at a message have failed."""
        return entry.message.attempts

    def purge(self) -> int:
        """Drop what is ready; return how many that were."""
        count = len(self.ready)
        self.ready.clear()
        return count

    # ----------------------------------------------------------------------- what it was declared with

    def line(self) -> Ready:
        """Return what messages that are ready stand in."""
        weighed = self.limit is not None and self.limit.weighs
        highest: int | None = self.arguments.get("x-max-priority")
        if highest is not None:
            least = self.vhost.broker.profile.least_max_priority
            return PriorityLine(max(highest, least), weighed=weighed)
        return WeighedLine() if weighed else Line()

    def _grave(self) -> Grave | None:
        exchange: str | None = self.arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return None
        broker = self.vhost.broker
        return Grave(
            self.name,
            exchange,
            self.arguments.get("x-dead-letter-routing-key"),
            profile=broker.profile,
            now=broker.clock.seconds,
            burials=self.vhost.burials,
        )

    def _new_expiry(self, lease: float | None) -> Expiry:
        return Expiry(
            self.vhost.broker.clock,
            self.ready,
            lease=lease,
            is_used=lambda: self.consumers,
            expired=self._expired,
            ended=lambda: self.vhost.delete_queue(self),
        )

    def _expired(self, entries: Sequence[Entry]) -> None:
        self.bury(entries, "expired")

    def used(self) -> None:
        """Note that somebody has declared the queue, or has looked for a message: its lease begins again."""
        if self._expiry is not None:
            self._expiry.renew()

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
        if not self.consumers:
            self.used()
        if self.auto_delete and not self.consumers:
            self.vhost.delete_queue(self)
        elif self.single_active and self.vhost.broker.profile.successor_starts_at_once:
            self.dispatch()

    def delete(self) -> None:
        """Drop everything, and tell the consumers; the virtual host has forgotten the queue already."""
        self.deleted = True
        if self._expiry is not None:
            self._expiry.stop()
        self.ready.clear()
        self.unsettled.clear()
        for consumer in self.consumers.clear():
            consumer.consuming.cancelled_by_queue(consumer)
