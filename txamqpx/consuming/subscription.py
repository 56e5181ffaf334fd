"""One queue that a consumer consumes from, and the tag under which it does."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred

from txamqpx.consuming.settlement import StopConsuming
from txamqpx.errors import AMQPError
from txamqpx.message import Delivery
from txamqpx.once import Once

__all__ = ["Ending", "Subscription"]

#: Why a consumer is over; None: it was cancelled by its owner.
Ending = AMQPError | StopConsuming | None

# Under how many tags of the past a delivery is still known to come from here.
_OLD_TAGS = 64


class Subscription:
    """What a consumer holds of one of its queues.

    Attributes:
        queue: The queue's name; of one that the broker names, once it has.
        is_temporary: Whether the queue is the consumer's own, and goes with the connection.
        is_active: Whether the broker delivers for it.
        renewal: What tries to consume again; None: nothing does.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.is_temporary = not queue
        self.is_active = False
        self.renewal: Deferred[None] | None = None
        self._tags: deque[str] = deque([""], _OLD_TAGS)
        self._closed: Once[Ending] = Once()

    def __repr__(self) -> str:
        return f"<Subscription {self.consumer_tag!r} to {self.queue!r}>"

    @property
    def consumer_tag(self) -> str:
        """The tag under which it consumes now; it changes with the prefetch and when it resumes."""
        return self._tags[-1]

    @consumer_tag.setter
    def consumer_tag(self, tag: str) -> None:
        self._tags.append(tag)

    def gave(self, delivery: Delivery) -> bool:
        """Tell whether a delivery came from here."""
        return delivery.consumer_tag in self._tags

    @property
    def closed(self) -> Deferred[Ending]:
        """A Deferred, new each time, that fires with the reason once this queue is consumed no longer."""
        return self._closed.wait()

    @property
    def is_closed(self) -> bool:
        """Whether this queue is consumed no longer, and will not be again."""
        return self._closed.fired

    def end(self, reason: Ending) -> None:
        """Take note that it is over."""
        self.is_active = False
        renewal, self.renewal = self.renewal, None
        if renewal is not None:
            renewal.cancel()
        if not self._closed.fired:
            self._closed.fire(reason)
