"""Quorum queues: they count how often a message was given out in vain, and draw the line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, cast

from txamqpx.broker.consumer import Consumer, Receiver
from txamqpx.broker.fields import HEADERS, number, parts_of, properties_of, table, table_fields
from txamqpx.broker.line import Ready
from txamqpx.broker.message import Entry, Keeper, Message
from txamqpx.broker.queue import Place, Queue
from txamqpx.broker.quorum_limit import QuorumLimit
from txamqpx.broker.quorum_line import QuorumLine
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.retry import Delayed, RetryPolicy
from txamqpx.broker.tardiness import Tardiness
from txamqpx.broker.turns import SingleActive, Turns
from txamqpx.broker.undelivered import Undelivered, gives_none_up

__all__ = ["QuorumEntry", "QuorumQueue"]

# What a consumer without a window can have unsettled all the same.
_MOST = 2000


class QuorumEntry(Entry):
    """A message's place in a quorum queue.

    Attributes:
        origin: The message as it came, without the counts.
        returns: How often it was given out and came back.
        failures: How often somebody had failed with it, then.
        due: When it has to be settled, by the broker's clock; None: it is not given out.
        fetcher: Whose channel has fetched it; None: it went to a consumer.
    """

    __slots__ = ("due", "failures", "fetcher", "origin", "returns")

    def __init__(self, message: Message, queue: Keeper, position: int) -> None:
        super().__init__(message, queue, position)
        self.origin = message
        self.returns = 0
        self.failures = 0
        self.due: float | None = None
        self.fetcher: Receiver | None = None

    def renewed(self) -> QuorumEntry:
        """Return another one of the same message, for when somebody still believes to have this one."""
        other = QuorumEntry(self.origin, self.queue, self.position)
        other.returns, other.failures, other.expires = self.returns, self.failures, self.expires
        return other


class QuorumQueue(Queue):
    """One quorum queue, of one member."""

    kind: ClassVar[str] = "quorum"
    minds_channel_limit: ClassVar[bool] = False
    knows_tags_again: ClassVar[bool] = True
    entry_type: ClassVar[type[Entry]] = QuorumEntry

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
        super().__init__(
            name, vhost, durable=durable, owner=owner, auto_delete=auto_delete, arguments=arguments
        )
        profile = vhost.broker.profile
        self._ways = profile.quorum
        #: How often somebody may fail with a message; None: any number of times.
        self.delivery_limit = self._delivery_limit()
        #: What waits to be given out again.
        self.delayed = Delayed(vhost.broker.clock, self._due)
        #: Dead letters that nobody takes.
        self.undelivered = Undelivered(vhost.broker.clock, self._bury)
        self._keeps_letters = gives_none_up(arguments)
        self.limit = QuorumLimit.beside(self.delayed, arguments)
        self._policy = RetryPolicy.of(arguments) if self._ways.retries_later else None
        self._tardiness: Tardiness | None = None
        if self._ways.releases_late:
            self._tardiness = Tardiness(vhost.broker.clock, self.unsettled, self._release)
        # What was taken back from a consumer that is still to admit it.
        self._lapsed: dict[Entry, Consumer] = {}

    def _delivery_limit(self) -> int | None:
        limit = self.arguments.get("x-delivery-limit", self._ways.delivery_limit)
        if type(limit) is not int or (limit < 0 and self._ways.negative_is_unlimited):
            return None
        return limit

    def line(self) -> Ready:
        """Return what messages that are ready stand in."""
        return QuorumLine(
            priorities=self.vhost.broker.profile.quorum.priorities,
            weighed=self.limit is not None and self.limit.weighs,
        )

    def entries(self) -> Iterator[Entry]:
        """Return all that lies here, given out or not, and what waits for its time or for who takes it."""
        return chain(super().entries(), self.delayed, self.undelivered)

    # ----------------------------------------------------------------------- messages out

    def publish(self, message: Message) -> bool:
        """Take a message; return False if it is refused."""
        taken = super().publish(message)
        self._mark()
        return taken

    def dispatch(self) -> None:
        """Give out what is ready to whoever has credit, in turn."""
        super().dispatch()
        self._mark()

    def _trim(self) -> None:
        """Drop what is too much, or note that it is; and drop what is too old."""
        if self.limit is not None:
            self.bury(self.limit.excess(self.ready), "maxlen")
        if self._expiry is not None:
            self._expiry.sweep()

    def _mark(self) -> None:
        """Note by when what was given out just now has to be settled."""
        if self._tardiness is None or not self.unsettled:
            return
        new: list[tuple[QuorumEntry, float]] = []
        for entry in reversed(self.unsettled):
            one = cast(QuorumEntry, entry)
            if one.due is not None:
                break
            patience = self._patience(cast("Consumer | None", one.consumer))
            new.append((one, patience))
        if new:
            self._tardiness.note(new)

    def _patience(self, consumer: Consumer | None) -> float:
        """Return how many seconds somebody may have a message."""
        own = None if consumer is None else consumer.arguments.get("x-consumer-timeout")
        if own is None:
            own = self.arguments.get("x-consumer-timeout")
        if own is not None:
            return float(own) / 1000
        timeout = self.vhost.broker.consumer_timeout
        return float("inf") if timeout is None else timeout

    def get(self, *, no_ack: bool) -> Entry | None:
        """Take out the first message.

        Raises:
            Refusal: 405, messages are for the single active consumer only.
        """
        if self.single_active:
            raise Refusal(
                405,
                f"cannot obtain access to locked queue '{self.name}' in vhost '{self.vhost.name}'. basic.get "
                f"operations are not supported by {self._ways.called} queues with single active consumer",
            )
        entry = super().get(no_ack=no_ack)
        if entry is not None:
            if self._ways.tells_no_failures and entry.message is cast(QuorumEntry, entry).origin:
                self._annotate(cast(QuorumEntry, entry))
            self._mark()
        return entry

    def fetched(self, entry: Entry, receiver: Receiver) -> None:
        """Note who has fetched a message, for it has to be settled in time."""
        cast(QuorumEntry, entry).fetcher = receiver

    # ----------------------------------------------------------------------- messages back

    def ack(self, entry: Entry) -> None:
        """Forget a message that was given out."""
        if entry in self.unsettled:
            del self.unsettled[entry]
        else:
            self._admitted(entry)

    def reject(self, entry: Entry, *, failed: bool = True) -> None:
        """Forget a message that somebody does not want, or make it a dead letter."""
        if entry in self.unsettled:
            super().reject(entry, failed=failed)
        else:
            self._admitted(entry)

    def requeue(self, entries: Iterable[Entry], *, failed: bool, gone: bool = False) -> None:
        """Take messages back.

        Args:
            entries: Those that were given out.
            failed: Whether somebody has failed with them.
            gone: Whether that one's channel is over.
        """
        for entry in self._by_consumer(entries, gone):
            if entry in self.unsettled:
                del self.unsettled[entry]
                self._take_back(entry, failed=failed, gone=gone)
            else:
                self._admitted(entry)
        self._trim()
        self.dispatch()

    def _by_consumer(self, entries: Iterable[Entry], gone: bool) -> list[QuorumEntry]:
        """Sort what comes back: what one consumer had does so together."""
        groups: dict[str, list[QuorumEntry]] = {}
        for entry in entries:
            consumer = cast("Consumer | None", entry.consumer)
            groups.setdefault("" if consumer is None else consumer.tag, []).append(cast(QuorumEntry, entry))
        oldest_first = gone and self._ways.oldest_consumer_first
        return [entry for tag in (groups if oldest_first else sorted(groups)) for entry in groups[tag]]

    def _take_back(self, entry: QuorumEntry, *, failed: bool, gone: bool) -> None:
        entry.consumer = None
        entry.fetcher = None
        entry.due = None
        entry.redelivered = True
        entry.returns += 1
        entry.failures += failed
        if self.delivery_limit is not None and entry.failures > self.delivery_limit:
            self.bury([entry], "delivery_limit")
            return
        self._annotate(entry)
        delay = None
        if self._policy is not None:
            delay = self._policy.delay(failed=failed, failures=entry.failures)
        if delay is not None:
            self.delayed.add(entry, delay)
        elif self._ways.requeues_at_the_end and self.delivery_limit is None and not gone:
            self.ready.append(entry)
        else:
            self.ready.restore([entry])

    def _annotate(self, entry: QuorumEntry) -> None:
        """Put the counts into the headers of a message that is given out again."""
        message = entry.origin
        parts = parts_of(message.header)
        fields = table_fields(parts[HEADERS]) if HEADERS in parts else {}
        if self._ways.tells_returns:
            fields[b"x-acquired-count"] = number(entry.returns)
        if entry.failures or self._ways.tells_no_failures:
            fields[b"x-delivery-count"] = number(entry.failures)
        parts[HEADERS] = table(dict(sorted(fields.items())))
        entry.message = Message.of(message.exchange, message.routing_key, properties_of(parts), message.body)

    def _due(self, entries: list[Entry]) -> None:
        self.ready.restore(entries)
        self._trim()
        self.dispatch()

    def bury(self, entries: Iterable[Entry], reason: str, *, failed: bool = False) -> None:
        """Make dead letters of messages that were dropped, as they came."""
        for entry in entries:
            entry.message = cast(QuorumEntry, entry).origin
            cast(QuorumEntry, entry).failures += failed
            self._bury(entry, reason)

    def _bury(self, entry: Entry, reason: str) -> None:
        if self._keeps_letters and self.grave is not None and not self.grave.leads_anywhere(entry.message):
            self.undelivered.add(entry, reason)
        else:
            super().bury([entry], reason)

    def attempts(self, entry: Entry) -> int:
        """Return how many attempts at a message have failed."""
        return entry.message.attempts + cast(QuorumEntry, entry).failures

    def purge(self) -> int:
        """Drop what is ready, and what waits to be given out again; return how many that were."""
        count = super().purge() + len(self.delayed)
        self.delayed.clear()
        if self._ways.purges_letters:
            count += len(self.undelivered)
            self.undelivered.clear()
        return count

    # ----------------------------------------------------------------------- too late

    def _release(self, entries: list[Entry]) -> None:
        """Take messages back from those who have kept them for too long."""
        late: dict[Consumer | Receiver, None] = {}
        for entry in entries:
            one = cast(QuorumEntry, entry)
            holder = cast("Consumer | None", one.consumer) or one.fetcher
            del self.unsettled[one]
            self._take_back(one.renewed(), failed=False, gone=False)
            one.consumer = None
            if isinstance(holder, Consumer):  # all are noted before one of them ends a channel with others
                self._lapsed[one] = holder
                holder.unsettled -= 1
            if holder is not None:
                late[holder] = None
        for holder in late:
            if isinstance(holder, Consumer):
                self._pause(holder)
            else:
                holder.too_late()
        self._trim()
        self.dispatch()

    def _pause(self, consumer: Consumer) -> None:
        consumer.limit = 0
        self.consumers.paused(consumer)
        if not consumer.consuming.released(consumer):
            consumer.consuming.too_late()

    def _admitted(self, entry: Entry) -> None:
        """Note that somebody has settled what was taken back, after all."""
        consumer = self._lapsed.pop(entry, None)
        if consumer is not None and consumer not in self._lapsed.values():
            consumer.limit = consumer.prefetch or _MOST
            self.rejoin(consumer)
            self.dispatch()

    # ----------------------------------------------------------------------- consumers

    @property
    def consumer_count(self) -> int:
        """How many have messages or can get them: those who only wait for their turn do not count."""
        holders: set[object] = {self.consumers.active} if self.single_active else set(self.consumers)
        fetched = 0
        for entry in self.unsettled:
            holder = cast("Consumer | None", entry.consumer)
            while holder is not None and holder.heir is not None:
                holder = holder.heir
            if holder is None:
                fetched += 1
            else:
                holders.add(holder)
        holders.discard(None)
        return len(holders) + fetched

    def turns(self) -> Turns:
        """Return what tells whose turn it is."""
        if not self.single_active:
            return Turns()
        takes_over = self.vhost.broker.profile.quorum.takes_over
        return SingleActive(by_priority=takes_over, takes_over=takes_over)

    def admit(self, *, exclusive: bool, limited: bool) -> None:
        """Look whether one more consumer may come; none is alone here.

        Raises:
            Refusal: 540, its channel has a limit for all its consumers together.
        """
        if limited:
            raise Refusal(
                540, f"queue '{self.name}' in vhost '{self.vhost.name}' does not support global qos"
            )

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer have its turns."""
        consumer.limit = consumer.prefetch or _MOST
        super().add_consumer(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Let it have no more; what it has not settled stays with its channel."""
        super().remove_consumer(consumer)
        if self.single_active:
            self.dispatch()

    def delete(self) -> None:
        """Drop everything, and tell the consumers."""
        self.delayed.clear()
        self.undelivered.clear()
        if self._tardiness is not None:
            self._tardiness.stop()
        super().delete()
