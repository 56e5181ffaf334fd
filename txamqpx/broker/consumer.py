"""A subscription of a channel to a queue."""

from __future__ import annotations

from collections.abc import Mapping
from sys import maxsize
from typing import Any, Protocol

from txamqpx.broker.message import Entry

__all__ = ["Consumer", "Receiver", "Source"]


class Source(Protocol):
    """A queue, as its consumers see it."""

    @property
    def minds_channel_limit(self) -> bool:
        """Whether a limit for all consumers of a channel together counts what comes from here."""

    def rejoin(self, consumer: Consumer) -> None:
        """Let a consumer that could not take a message have its turns again."""

    def remove_consumer(self, consumer: Consumer) -> None:
        """Let a consumer have no more."""

    def resume(self) -> None:
        """Give out messages again: a consumer's channel can take some that could not."""


class Receiver(Protocol):
    """A channel's side of its consumers."""

    def can_take(self, consumer: Consumer) -> bool:
        """Return whether a consumer that has credit of its own may take a message now."""

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Write a delivery."""

    def cancelled_by_queue(self, consumer: Consumer) -> None:
        """Tell the client that a consumer's queue is gone."""

    def released(self, consumer: Consumer) -> bool:
        """Tell the client that a consumer was too slow; return whether it has, and understands that."""

    def too_late(self) -> None:
        """End the channel, which has not settled something in time."""


class Consumer:
    """Who gets a queue's messages, as long as there is credit.

    Args:
        tag: Its name on its channel.
        queue: Where its messages come from.
        consuming: The channel's side of it.
        no_ack: Whether a message is settled when it is given out.
        exclusive: Whether nobody else may consume from the queue.
        arguments: What came with ``basic.consume``.
        prefetch: How many messages it may have unsettled; 0: any number.

    Attributes:
        limit: How many messages it may have unsettled now; 0: none, while it is paused.
        unsettled: How many it has.
        is_out: Whether it lost its place among a queue's consumers.
        heir: Who has its tag now, and gets its credit: a queue tells consumers by their tags only.
    """

    __slots__ = (
        "__weakref__",
        "arguments",
        "consuming",
        "exclusive",
        "heir",
        "is_out",
        "limit",
        "no_ack",
        "prefetch",
        "priority",
        "queue",
        "tag",
        "unsettled",
    )

    def __init__(
        self,
        tag: str,
        queue: Source,
        consuming: Receiver,
        *,
        no_ack: bool,
        exclusive: bool,
        arguments: Mapping[str, Any],
        prefetch: int,
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.consuming = consuming
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.arguments = arguments
        self.priority: int = arguments.get("x-priority", 0)
        self.prefetch = prefetch
        self.limit = prefetch or maxsize
        self.unsettled = 0
        self.is_out = False
        self.heir: Consumer | None = None

    def __repr__(self) -> str:
        return f"<consumer {self.tag!r} of {self.queue!r}, {self.unsettled} unsettled>"

    def settled(self) -> bool:
        """Take note that it has one message fewer; return whether it has its turns again for that."""
        consumer = self
        consumer.unsettled -= 1
        while consumer.heir is not None:
            consumer = consumer.heir
            consumer.unsettled -= 1
        if not consumer.is_out:
            return False
        consumer.queue.rejoin(consumer)
        return True
