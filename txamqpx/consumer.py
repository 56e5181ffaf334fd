"""Consuming that can be trusted: a function is called with each message, and its end settles it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.consuming.brake import Brake
from txamqpx.consuming.crew import Crew
from txamqpx.consuming.forgotten import Forgotten
from txamqpx.consuming.link import Link
from txamqpx.consuming.settlement import StopConsuming
from txamqpx.consuming.subscription import Ending, Subscription
from txamqpx.consuming.terms import ConsumeOptions, Terms, check_prefetch
from txamqpx.consuming.window import Window
from txamqpx.errors import AMQPError, ConnectionClosed, ConsumerCancelled, InvalidParameter
from txamqpx.message import Delivery
from txamqpx.once import Once
from txamqpx.ordering import Operations
from txamqpx.spec.amqp0_9_1 import BasicConsume

__all__ = ["Consumer", "ConsumerHost"]

# A consumer that the broker has ended tries again after so many seconds, then after twice as many.
FIRST_DELAY = 0.5
LAST_DELAY = 30.0


class ConsumerHost(Protocol):
    """What a consumer needs of its client."""

    @property
    def protocol(self) -> AMQPProtocol:
        """The connection."""

    @property
    def operations(self) -> Operations:
        """What knows of queues that were declared."""

    def adopt(self, thing: Any) -> object:
        """Take note of something with ``drain(timeout)``, to be called before the connection is closed."""

    def release(self, thing: Any) -> object:
        """Forget it."""


class Consumer:
    """Consumes one queue or several on a channel of its own.

    ``client.consume`` and ``client.consume_many`` make it, and start it.

    Args:
        client: Whose connection it uses.
        queue: A queue, or several that share ``concurrency`` and what may be in the user's hands.  ``""`` is
            a queue of its own, named by the broker.
        handler: Called with each ``Delivery``; a function, a coroutine function, or one that returns a
            Deferred.  With ``batch`` it is called with a ``Bundle``.
        options: See ``Terms``.

    Raises:
        TypeError: An option, or the handler, is of the wrong kind.
        InvalidParameter: An option does not fit.

    Attributes:
        terms: The options.
        subscriptions: One for each queue, in their order.
    """

    log = Logger()

    def __init__(
        self,
        client: ConsumerHost,
        queue: str | Sequence[str],
        handler: Callable[[Any], object],
        **options: Unpack[ConsumeOptions],
    ) -> None:
        queues = [queue] if isinstance(queue, str) else list(queue)
        if not queues:
            raise InvalidParameter("queues", "there is none to consume from")
        self.terms = Terms(**options)
        self.subscriptions = tuple(map(Subscription, queues))
        self._client = client
        self._protocol = client.protocol
        clock = self._protocol.clock
        self._brake = Brake(self._protocol, self) if self.terms.ack == "none" else None
        self._crew = Crew(handler, self.terms, clock, self._stopped, self._brake)
        self._link = Link(
            self._protocol, self.terms, self._crew, self._cancelled_by_broker, self._channel_ended
        )
        if len(queues) > 1 and self.terms.ack == "manual" and self.terms.prefetch is not None:
            self._crew.window = Window(self.terms.prefetch, self._room)
        self._started = False
        self._leaving = False
        self._over: Once[Ending] = Once()
        self._left: Once[None] = Once()
        self._lock = DeferredLock()
        self._wake: IDelayedCall | None = None
        self._forgotten: Forgotten | None = None
        self._connection_over: Deferred[AMQPError] | None = None

    def __repr__(self) -> str:
        state = "over" if self._over.fired else "leaving" if self._leaving else "running"
        queues = ", ".join(repr(one.queue) for one in self.subscriptions)
        return f"<Consumer of {queues}, {state if self._started else 'starting'}>"

    # ----------------------------------------------------------------------- what it is

    @property
    def channel(self) -> Channel | None:
        """The channel; None before ``start``, and another one after a channel that has ended."""
        return self._link.channel

    @property
    def queue(self) -> str:
        """The queue, or the first of several."""
        return self.subscriptions[0].queue

    @property
    def consumer_tag(self) -> str:
        """The tag of the queue, or of the first of several; see ``Subscription.consumer_tag``."""
        return self.subscriptions[0].consumer_tag

    def queue_of(self, delivery: Delivery) -> str:
        """Return the queue from which a delivery came.

        Raises:
            LookupError: It came from none of this consumer's.
        """
        for one in self.subscriptions:
            if one.gave(delivery):
                return one.queue
        raise LookupError(f"{delivery!r} is not of {self!r}")

    @property
    def waiting(self) -> int:
        """How many deliveries are here for which no handler was called yet."""
        return self._crew.waiting

    @property
    def at_work(self) -> int:
        """How many deliveries there are whose handler has not ended."""
        return len(self._crew.at_work)

    @property
    def abandoned(self) -> bool:
        """Whether handlers were cancelled that had not ended within the ``timeout`` of ``cancel``."""
        return self._crew.abandoned

    @property
    def is_active(self) -> bool:
        """Whether the broker delivers for all its queues, as far as we know."""
        return not self._leaving and all(one.is_active for one in self.subscriptions)

    @property
    def closed(self) -> Deferred[Ending]:
        """A Deferred, new each time, that fires once the consumer is over.

        It fires with the ``ConsumerCancelled``, ``ChannelClosed`` or ``ConnectionClosed`` that ended it, with
        the ``StopConsuming`` that a handler raised, with what kept it from starting, or with None after
        ``cancel``.
        """
        return self._over.wait()

    async def __aenter__(self) -> Self:
        """Consume for a block; the consumer is cancelled at its end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Cancel it."""
        await self.cancel()

    # ----------------------------------------------------------------------- starting

    def start(self) -> Deferred[Self]:
        """Open the channel and consume; all of it is sent at once, but for what needs a queue's new name.

        Returns:
            A Deferred of this consumer.  It fails with ``NotFound``, ``AccessRefused`` and the like, and is
            then over.  Cancelling it ends the consumer, and what has come for it is given back.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> Self:
        try:
            await self._lock.run(Deferred.fromCoroutine, self._consume(self.subscriptions))
            self._client.adopt(self)
        except BaseException as error:
            self._leaving = True
            self._link.close()
            self._depart()
            self._end(error if isinstance(error, AMQPError) else None)
            raise
        self._started = True
        self._connection_over = self._protocol.when_closed()
        self._connection_over.addCallbacks(self._end, lambda _: None)
        limit = self.terms.forgotten_after
        if self.terms.ack == "manual" and limit is not None:
            self._forgotten = Forgotten(self._protocol.clock, limit, self._left_unsettled, self._crew.name)
        return self

    async def _consume(self, subscriptions: Sequence[Subscription]) -> None:
        terms, types = self.terms, self._client.operations.queue_types
        for one in subscriptions:
            method = BasicConsume(one.queue, no_ack=terms.ack == "none", arguments=terms.consume_arguments)
            types.check(method, terms.prefetch or 0)
        await self._link.consume(subscriptions)

    # ----------------------------------------------------------------------- how many at a time

    def set_prefetch(self, prefetch: int) -> Deferred[None]:
        """Change how many deliveries may be unsettled.

        A broker keeps to the limit that was in force when a consumer was made, so each queue is consumed
        anew, under a fresh tag, and the old tag is cancelled.  What is in the user's hands stays there; until
        some of it is settled, no more comes than the new limit allows.

        Returns:
            A Deferred that fires when the broker has done it.

        Raises:
            TypeError: It is no number.
            InvalidParameter: It is less than ``concurrency`` or the size of a batch, or does not fit; or
                nothing is acked, so that there is nothing to limit; or the queue is a stream that is read
                from an offset on.
        """
        if type(prefetch) is not int:
            raise TypeError(f"prefetch is an int, not {type(prefetch).__name__}")
        check_prefetch(prefetch, self.terms.concurrency, self.terms.batch)
        if self.terms.ack == "none":
            raise InvalidParameter("prefetch", "is unknown to the broker where nothing is acked")
        if self.terms.has_offset:
            raise InvalidParameter(
                "prefetch", "of a stream's consumer stays: it would begin at its offset again"
            )
        self.terms = self._link.terms = evolve(self.terms, prefetch=prefetch)
        if self.terms.ack == "manual":
            self._open_window(prefetch)
        return self._lock.run(lambda: Deferred.fromCoroutine(self._consume_anew(prefetch)))

    def _open_window(self, size: int) -> None:
        window = self._crew.window
        if window is not None:
            window.size = size
            self._room()
            return
        window = self._crew.window = Window(size, self._room)
        if self.channel is not None:
            window.watch(self.channel.core, self._link.handed_out())

    async def _consume_anew(self, prefetch: int) -> None:
        if not self._leaving:
            await self._link.consume_anew([one for one in self.subscriptions if one.is_active], prefetch)

    def _room(self) -> None:
        # Not at once: whoever has settled something may not be done with what he does.
        if self._wake is None:
            self._wake = self._protocol.clock.callLater(0, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._crew.advance()

    def _left_unsettled(self) -> list[Delivery]:
        at_work = set(self._crew.at_work)
        return [delivery for delivery in self._link.handed_out() if delivery not in at_work]

    def _release_brake(self) -> None:
        if self._brake is not None:
            self._brake.release()

    # ----------------------------------------------------------------------- ended by the broker

    def _cancelled_by_broker(self, consumer_tag: str) -> None:
        for one in self.subscriptions:
            if one.is_active and one.consumer_tag == consumer_tag:
                one.is_active = False
                self._in_background(self._bury(one))

    async def _bury(self, subscription: Subscription) -> None:
        error = ConsumerCancelled(subscription.queue, subscription.consumer_tag)
        await self._link.bury(subscription.consumer_tag)
        if subscription.is_temporary:
            subscription.queue = ""  # another one, which gets another name
        self._lost(subscription, error)

    def _channel_ended(self, reason: AMQPError, channel: Channel) -> None:
        if channel is not self.channel or not self._started or self._over.fired:
            return
        self._crew.purge(lambda delivery: delivery.stale)
        if isinstance(reason, ConnectionClosed) or self._leaving:
            self._end(reason)
            return
        for one in self.subscriptions:
            if one.is_active:
                one.is_active = False
                self._lost(one, reason)

    def _lost(self, subscription: Subscription, error: AMQPError) -> None:
        if self._over.fired or self._leaving:
            return
        if self.terms.resume:
            self.log.warn("{consumer} will try again: {error}", consumer=self, error=error)
            subscription.renewal = self._in_background(self._renew(subscription))
            return
        subscription.end(error)
        if all(one.is_closed for one in self.subscriptions):
            self._link.close()
            self._end(error)

    async def _renew(self, subscription: Subscription) -> None:
        delay = FIRST_DELAY
        while True:
            await deferLater(self._protocol.clock, delay)
            delay = min(delay * 2, LAST_DELAY)
            try:
                if subscription.queue:
                    await self._link.probe(subscription.queue)
                await self._consume([subscription])
            except AMQPError as error:
                self.log.warn("{consumer} cannot consume yet: {error}", consumer=self, error=error)
            else:
                subscription.renewal = None
                return

    def _in_background(self, work: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(work).addErrback(self._slipped)

    def _slipped(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("{consumer} failed", failure, consumer=self)

    # ----------------------------------------------------------------------- ended by us

    def cancel(self, timeout: float | None = 30.0) -> Deferred[None]:
        """End the consumer: what waits here is given back, and handlers at work may finish.

        In manual mode what was handed out can still be settled afterwards; the channel is open for so long.
        Without acks what has come is handled to the end.

        Args:
            timeout: Seconds after which handlers are cancelled and their messages given back; None: never.

        Returns:
            A Deferred that fires when no handler is at work and the broker has all acks.  Cancelling a
            consumer twice is harmless.

        Raises:
            InvalidParameter: ``timeout`` is no number of seconds; nothing is cancelled.
        """
        if timeout is not None and not 0 <= timeout < inf:
            raise InvalidParameter("timeout", "must be a number of seconds from 0 on, or None")
        return self._leave(timeout, None)

    def drain(self, timeout: float | None) -> Deferred[None]:
        """Do as ``cancel`` within ``timeout``, a tenth of which is for the broker's answers."""
        return self.cancel(None if timeout is None else timeout * 0.9)

    def _stopped(self, verdict: StopConsuming) -> None:
        self._leave(30.0, verdict)

    def _leave(self, timeout: float | None, reason: Ending) -> Deferred[None]:
        if not self._leaving:
            self._leaving = True
            self._crew.hold()
            self._release_brake()
            self._in_background(self._cancel(timeout, reason))
        return self._left.wait()

    async def _cancel(self, timeout: float | None, reason: Ending) -> None:
        try:
            for one in self.subscriptions:
                if one.renewal is not None:
                    one.renewal.cancel()
            await self._lock.acquire()  # a tag cannot be cancelled before it is answered
            cancelled = self._link.cancel(self.subscriptions)
            self._lock.release()
            self._crew.leave(timeout)
            await DeferredList(cancelled, consumeErrors=True)
            await self._crew.finish()
            if self._forgotten is not None:
                self._forgotten.stop()
            await self._link.finish()
        finally:
            self._depart()
            self._end(reason)

    def _depart(self) -> None:
        if not self._left.fired:  # a start may fail while it is being cancelled
            self._left.fire(None)

    def _end(self, reason: Ending) -> None:
        if self._over.fired:
            return
        self._release_brake()
        if self._forgotten is not None:
            self._forgotten.stop()
        if self._connection_over is not None:
            self._connection_over.cancel()
        self._crew.purge(lambda delivery: delivery.stale)
        for one in self.subscriptions:
            one.end(reason)
        self._over.fire(reason)
        self._client.release(self)
