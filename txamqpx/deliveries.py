"""A queue as a loop: deliveries that are asked for one by one."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self, Unpack

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from txamqpx.consumer import Consumer, ConsumerHost
from txamqpx.consuming.settlement import Outcome, settle
from txamqpx.consuming.subscription import Ending
from txamqpx.consuming.terms import ConsumeOptions
from txamqpx.errors import AMQPError, InvalidParameter, twin
from txamqpx.message import Delivery

__all__ = ["Deliveries"]

# What says how a handler is called, which makes no sense where there is none.
_FOR_HANDLERS = ("attempts", "batch", "concurrency", "on_error", "order_by", "thread")


class Deliveries:
    """The messages of a queue, for ``async for`` or for ``get``; ``client.deliveries`` makes it.

    What has come and was not taken is bounded by ``prefetch``.  Leaving the loop does not end the consumer:
    use ``async with``, or call ``cancel``.

    Args:
        client: Whose connection it uses.
        queue: The queue.
        options: See ``Terms``; ``ack`` is "manual", or "none".

    Raises:
        InvalidParameter: An option makes no sense without a handler.

    Attributes:
        consumer: What feeds it.
    """

    def __init__(self, client: ConsumerHost, queue: str, **options: Unpack[ConsumeOptions]) -> None:
        mode = options.setdefault("ack", "manual")
        if mode not in ("manual", "none"):
            raise ValueError(
                f"nobody knows when a turn of a loop is done: ack is manual or none, not {mode!r}"
            )
        for name in _FOR_HANDLERS:
            if name in options:
                raise InvalidParameter(name, "is for handlers, and a loop has none")
        self.consumer = Consumer(client, queue, self._put, **options)
        self._gives_back = mode == "manual"
        # The next one, and what to fire when it is taken: as a handler at work that has the others wait.
        self._next: tuple[Delivery, Deferred[None]] | None = None
        self._waiting: deque[Deferred[Delivery]] = deque()
        self._starting: Deferred[Consumer] | None = None
        self._over = False
        self._reason: Ending = None

    def begin(self, starting: Deferred[Consumer]) -> None:
        """Take note that the consumer starts."""
        self._starting = starting
        starting.addCallbacks(lambda consumer: consumer.closed.addCallback(self._end), self._not_started)

    def _not_started(self, failure: Failure) -> None:
        error, expected = failure.value, self._over
        self._end(error if isinstance(error, AMQPError) else None)
        if not expected and not isinstance(error, AMQPError):
            failure.raiseException()

    # ----------------------------------------------------------------------- taking

    def get(self) -> Deferred[Delivery]:
        """Take the next one.

        Returns:
            A Deferred of the delivery; cancelling it takes none.  When the consumer is over, and nothing is
            left that came before, it fails with the reason: ``ConsumerCancelled``, ``ChannelClosed``,
            ``ConnectionClosed``, or what kept it from starting; after ``cancel`` with ``StopAsyncIteration``.
        """
        while self._next is not None:
            (delivery, taken), self._next = self._next, None
            taken.callback(None)
            if not delivery.stale:
                return succeed(delivery)
        if self._over:
            return fail(self._failure())
        deferred: Deferred[Delivery] = Deferred(self._waiting.remove)
        self._waiting.append(deferred)
        return deferred

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Deferred[Delivery]:
        return self.get()

    def _put(self, delivery: Delivery) -> Deferred[None] | None:
        if self._waiting:
            self._waiting.popleft().callback(delivery)
            return None
        taken: Deferred[None] = Deferred(self._drop)
        self._next = delivery, taken
        return taken

    def _drop(self, taken: Deferred[None]) -> None:
        self._next = None

    # ----------------------------------------------------------------------- the end

    async def __aenter__(self) -> Self:
        """Consume for a block; what was not taken by its end is given back."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Cancel it, and do not wait for somebody to take the rest."""
        await self.cancel(timeout=0.0)

    def cancel(self, timeout: float | None = 30.0) -> Deferred[None]:
        """End it: what was not taken is given back; without acks it can still be taken.

        Args:
            timeout: Seconds after which what nobody takes is lost, where nothing is acked; None: never.

        Returns:
            A Deferred that fires when it is over.  What was taken can still be settled.
        """
        if self._starting is None or not self._starting.called:
            self._end(None)
            if self._starting is not None:
                self._starting.cancel()
            return succeed(None)
        left = self.consumer.cancel(timeout)
        if self._gives_back:
            if self._next is not None:
                (delivery, taken), self._next = self._next, None
                settle(delivery, Outcome.RELEASED)
                taken.callback(None)
            self._end(None)
        return left

    def _end(self, reason: Ending) -> None:
        if self._over:
            return
        self._over, self._reason = True, reason
        while self._waiting:
            self._waiting.popleft().errback(self._failure())

    def _failure(self) -> Failure:
        reason = self._reason
        return Failure(twin(reason) if isinstance(reason, AMQPError) else StopAsyncIteration())
