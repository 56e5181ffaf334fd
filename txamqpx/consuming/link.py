"""The channel of a consumer, and the tags under which it consumes there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.consuming.crew import Crew
from txamqpx.consuming.settlement import Outcome, settle
from txamqpx.consuming.subscription import Subscription
from txamqpx.consuming.terms import Terms
from txamqpx.consuming.window import watched
from txamqpx.errors import AMQPError, NotProcessed
from txamqpx.message import Delivery

__all__ = ["Link"]


class Link:
    """Consumes on a channel that nobody else uses, or on a new one when that is over.

    Args:
        protocol: The connection.
        terms: How to consume.
        crew: Gets the deliveries.
        cancelled: Called with the tag of a consumer that the broker has ended.
        ended: Called with the reason and the channel when that is over.

    Attributes:
        terms: How to consume from now on.
        channel: The channel; None before the first one.
    """

    def __init__(
        self,
        protocol: AMQPProtocol,
        terms: Terms,
        crew: Crew,
        cancelled: Callable[[str], object],
        ended: Callable[[AMQPError, Channel], object],
    ) -> None:
        self.terms = terms
        self.channel: Channel | None = None
        self._protocol = protocol
        self._crew = crew
        self._cancelled = cancelled
        self._ended = ended
        self._tags_made = 0

    def usable(self) -> Channel | None:
        """Return the channel unless it is over."""
        return None if self.channel is None or self.channel.core.error is not None else self.channel

    def _open(self) -> Channel:
        channel = self.channel = self._protocol.new_channel()
        channel.on_cancelled = self._cancelled
        channel.when_closed().addCallback(self._ended, channel)
        if self.terms.ack != "none":
            channel.core.gather_acks()
            if self.terms.prefetch is not None:
                unheard(channel.basic_qos(self.terms.prefetch))
        if self.terms.debug:
            watched(channel.core).places = {}
        if self._crew.window is not None:
            self._crew.window.watch(channel.core)
        return channel

    # ----------------------------------------------------------------------- tags

    async def consume(self, subscriptions: Iterable[Subscription]) -> None:
        """Consume queues; all is sent at once, but for what needs the name of a queue that has none yet."""
        channel = self.usable() or self._open()
        await _all([Deferred.fromCoroutine(self._subscribe(channel, one)) for one in subscriptions])

    async def _subscribe(self, channel: Channel, subscription: Subscription) -> None:
        terms = self.terms
        if not subscription.queue:
            subscription.queue = (await channel.queue_declare(exclusive=True)).queue
        queue = subscription.queue
        answers: list[Deferred[Any]] = []
        if terms.exchange:
            keys = [queue if key is None else key for key in terms.binding_keys]
            answers += [channel.queue_bind(queue, terms.exchange, key) for key in keys]
        subscription.consumer_tag = self._new_tag(channel)
        answers.append(
            channel.basic_consume(
                queue,
                self._crew.take,
                consumer_tag=subscription.consumer_tag,
                no_ack=terms.ack == "none",
                exclusive=terms.exclusive,
                arguments=terms.consume_arguments,
            )
        )
        await _all(answers)
        subscription.is_active = True

    def _new_tag(self, channel: Channel) -> str:
        self._tags_made += 1
        wanted = self.terms.consumer_tag
        if not wanted:
            return channel.core.next_consumer_tag()
        return wanted if self._tags_made == 1 else f"{wanted}.{self._tags_made}"

    async def consume_anew(self, subscriptions: Sequence[Subscription], prefetch: int) -> None:
        """Let a new limit be in force: for consumers that are made after it, so they are made again."""
        channel = self.usable()
        if channel is None:
            return  # what is consumed later is consumed on the new terms
        answers: list[Deferred[Any]] = [channel.basic_qos(prefetch)]
        for one in subscriptions:
            old = one.consumer_tag
            # Without a consumer for a moment an auto-delete queue would go; with two an exclusive one would
            # refuse the second.
            if self.terms.exclusive:
                answers.append(channel.basic_cancel(old))
            answers.append(Deferred.fromCoroutine(self._subscribe(channel, one)))
            if not self.terms.exclusive:
                answers.append(channel.basic_cancel(old))
        await _all(answers)

    def cancel(self, subscriptions: Iterable[Subscription]) -> list[Deferred[Any]]:
        """Cancel what is active; the answers are all the same to who leaves."""
        channel = self.usable()
        if channel is None:
            return []
        return [channel.basic_cancel(one.consumer_tag) for one in subscriptions if one.is_active]

    async def bury(self, consumer_tag: str) -> None:
        """Part with a tag that the broker has ended.

        RabbitMQ 4.3 keeps it, and delivers for it again once what took too long is settled.
        """
        channel = self.channel
        assert channel is not None
        if self.terms.ack != "none":
            channel.core.orphan(consumer_tag)
            self._crew.purge(lambda delivery: delivery.consumer_tag == consumer_tag)
        with suppress(AMQPError):  # the channel is over, or the broker silent: what follows is right anyway
            await channel.basic_cancel(consumer_tag)
        for delivery in self._deliveries(channel):
            if delivery.consumer_tag == consumer_tag:
                settle(delivery, Outcome.RELEASED)
                delivery.stale = True

    async def probe(self, queue: str) -> None:
        """Ask for a queue on a channel that may be closed over it: there are others on ours."""
        async with self._protocol.new_channel() as channel:
            await channel.queue_declare(queue, passive=True)

    # ----------------------------------------------------------------------- deliveries

    def handed_out(self) -> list[Delivery]:
        """Return what is unsettled, and not because it waits here."""
        if self.channel is None:
            return []
        waiting = self._crew.in_line()
        return [one for one in self._deliveries(self.channel) if one not in waiting]

    def _deliveries(self, channel: Channel) -> list[Delivery]:
        return [one for one in channel.core.unsettled if isinstance(one, Delivery)]

    # ----------------------------------------------------------------------- the end

    async def finish(self) -> None:
        """Close the channel, at once or when what was handed out is settled."""
        channel = self.usable()
        if channel is None:
            return
        if not len(channel.core.unsettled):
            await channel.close().addErrback(lambda _: None)
            return
        ledger = watched(channel.core)

        def settled(_: int) -> None:
            if not len(ledger):  # not at once: the ack is not on its way yet
                self._protocol.clock.callLater(0, self.close)

        ledger.listeners.append(settled)

    def close(self) -> None:
        """Close the channel; what is unsettled is given to somebody else."""
        if self.channel is not None:
            unheard(self.channel.close())


async def _all(answers: list[Deferred[Any]]) -> None:
    """Wait for all; of several errors the one counts that caused the others."""
    results = await DeferredList(answers, consumeErrors=True)
    errors = [result.value for succeeded, result in results if not succeeded]
    for error in sorted(errors, key=lambda error: isinstance(error, NotProcessed)):
        raise error


def unheard(deferred: Deferred[Any]) -> None:
    """Let a failure be told by others: here it is the channel's end."""
    deferred.addErrback(lambda _: None)
