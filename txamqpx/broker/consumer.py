"""A subscription of a channel to a queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from txamqpx.broker.message import Entry

if TYPE_CHECKING:
    from txamqpx.broker.consuming import Consuming
    from txamqpx.broker.queue import Queue

__all__ = ["Consumer"]


class Consumer:
    """Who gets a queue's messages, as long as there is credit.

    Args:
        tag: Its name on its channel.
        queue: Where its messages come from.
        consuming: The channel's side of it.
        no_ack: Whether a message is settled when it is given out.
        exclusive: Whether nobody else may consume from the queue.
        arguments: What came with ``basic.consume``.
        limit: How many messages it may have unsettled; 0: any number.
    """

    __slots__ = (
        "arguments",
        "consuming",
        "exclusive",
        "limit",
        "no_ack",
        "priority",
        "queue",
        "tag",
        "unsettled",
    )

    def __init__(
        self,
        tag: str,
        queue: Queue,
        consuming: Consuming,
        *,
        no_ack: bool,
        exclusive: bool,
        arguments: Mapping[str, Any],
        limit: int,
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.consuming = consuming
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.arguments = arguments
        self.priority: int = arguments.get("x-priority", 0)
        self.limit = limit
        #: How many messages it has that wait to be settled.
        self.unsettled = 0

    @property
    def has_credit(self) -> bool:
        """Whether it can take a message now."""
        if self.limit and self.unsettled >= self.limit:
            return False
        return self.consuming.can_take(self)

    def take(self, entry: Entry) -> None:
        """Give it a message."""
        self.consuming.deliver(self, entry)
