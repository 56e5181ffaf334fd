"""What a channel was given and has not settled, and the settling of it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from txamqpx.broker.consumer import Consumer, Source
from txamqpx.broker.message import Entry, Keeper
from txamqpx.broker.patience import Patience
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Channel

__all__ = ["Unsettled", "too_late"]


class Unsettled:
    """The deliveries of a channel that wait for their acks.

    Args:
        channel: The channel.

    Attributes:
        held: The entries by delivery tag, in order.
        last: The last delivery tag that was given out.
        limit: How many the channel's consumers may have together; 0: any number.
        minds: Whether ``given`` wants to hear what is put into ``held``.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.held: dict[int, Entry] = {}
        self.last = 0
        self.limit = 0
        # How many of them count towards that limit.
        self._volume = 0
        # Queues that have something for this channel once that limit allows it.
        self._waiting: dict[Source, None] = {}
        house = channel.vhost.broker
        self._patience: Patience | None = None
        if house.consumer_timeout and house.profile.consumer_timeout_ends_channel:
            self._patience = Patience(house.clock, house.consumer_timeout, self.held, self._timed_out)
        self.minds = self._patience is not None

    # ----------------------------------------------------------------------- what was given out

    def add(self, entry: Entry) -> None:
        """Note that the message with the last tag is to be settled."""
        self.held[self.last] = entry
        if self.minds:
            self.given(entry)

    def given(self, entry: Entry) -> None:
        """Count what is held from now on, and for how long."""
        if self._patience is not None and not self._patience.watching:
            self._patience.start()
        if self.limit and entry.consumer is not None and entry.queue.minds_channel_limit:
            self._volume += 1

    def is_full(self, consumer: Consumer) -> bool:
        """Return whether the channel's limit keeps a consumer from taking a message now."""
        if self._volume < self.limit or not consumer.queue.minds_channel_limit:
            return False
        self._waiting[consumer.queue] = None
        return True

    def limit_to(self, count: int) -> None:
        """Let all consumers of the channel together have no more than so many; 0: any number."""
        if not self.limit or not count:
            self._volume = len(self.held) if count else 0
        self.limit = count
        self.minds = self._patience is not None or count > 0
        self._resume()

    def _resume(self) -> None:
        if self._waiting and (not self.limit or self._volume < self.limit):
            waiting, self._waiting = self._waiting, {}
            for queue in waiting:
                queue.resume()

    # ----------------------------------------------------------------------- settling

    def ack(self, words: Iterable[tuple[int, bool]]) -> None:
        """Forget what was acked, and give out what there is room for then.

        Args:
            words: Delivery tags, and whether all up to them are meant.

        Raises:
            Refusal: 406, a tag is unknown; those before it are acked.
        """
        held = self.held
        queues: dict[Keeper, None] = {}
        try:
            for tag, multiple in words:
                if multiple:
                    for entry in self.take(tag, True):
                        entry.queue.ack(entry)
                        if self._release(entry):
                            queues[entry.queue] = None
                    continue
                one = held.pop(tag, None)
                if one is None:
                    raise _unknown(tag)
                queue = one.queue
                queue.ack(one)
                consumer = one.consumer
                if consumer is not None:
                    if consumer.settled():
                        queues[queue] = None
                        if queue.is_shared:  # who acks first comes first, and not who ranks higher
                            queue.dispatch()
                    if self._volume and queue.minds_channel_limit:
                        self._volume -= 1
        finally:
            for queue in queues:
                queue.dispatch()
            self._resume()

    def _release(self, entry: Entry) -> bool:
        consumer = entry.consumer
        if consumer is None:
            return False
        if self._volume and entry.queue.minds_channel_limit:
            self._volume -= 1
        return consumer.settled()

    def take(self, tag: int, multiple: bool) -> list[Entry]:
        """Take out what a client settles.

        Raises:
            Refusal: 406, the tag is unknown.
        """
        held = self.held
        if not multiple:
            entry = held.pop(tag, None)
            if entry is None:
                raise _unknown(tag)
            return [entry]
        if tag and tag not in held:
            raise _unknown(tag)
        if not tag:
            entries = list(held.values())
            held.clear()
            return entries
        return [held.pop(one) for one in list(takewhile(tag.__ge__, held))]

    def discard(self, entries: Iterable[Entry], *, failed: bool) -> None:
        """Let queues drop messages, or make dead letters of them.

        Args:
            entries: What was taken out of here.
            failed: As in ``put_back``.
        """
        for queue, mine in self._by_queue(entries).items():
            for entry in mine:
                queue.reject(entry, failed=failed)
            queue.dispatch()
        self._resume()

    def put_back(self, entries: Iterable[Entry], *, failed: bool, gone: bool = False) -> None:
        """Give messages back to their queues.

        Args:
            entries: What was taken out of here.
            failed: Whether that counts as a failure to deal with them; the releases differ in what does.
            gone: Whether the channel is over.
        """
        for queue, mine in self._by_queue(entries).items():
            queue.requeue(mine, failed=failed, gone=gone)
        self._resume()

    def _by_queue(self, entries: Iterable[Entry]) -> dict[Keeper, list[Entry]]:
        queues: dict[Keeper, list[Entry]] = {}
        for entry in entries:
            queues.setdefault(entry.queue, []).append(entry)
            self._release(entry)
        return queues

    def end(self) -> None:
        """Give back everything: the channel is over."""
        if self._patience is not None:
            self._patience.stop()
        entries = list(self.held.values())
        self.held.clear()
        self.put_back(entries, failed=True, gone=True)

    def _timed_out(self) -> None:
        timeout = self._channel.vhost.broker.consumer_timeout or 0
        self._channel.refuse(too_late(self._channel.core.number, round(timeout * 1000)))


def too_late(channel: int, milliseconds: int) -> Refusal:
    """Return the refusal of a channel that has not settled something in time."""
    return Refusal(
        406,
        f"delivery acknowledgement on channel {channel} timed out. Timeout value used: {milliseconds} ms. "
        "This timeout value can be configured, see consumers doc guide to learn more",
    )


def _unknown(tag: int) -> Refusal:
    return Refusal(406, f"unknown delivery tag {tag}")
