"""What a client consumes: each consumer has a channel of its own, and starts in the order of the calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Unpack

from twisted.internet.defer import Deferred

from txamqpx.consumer import Consumer
from txamqpx.consuming.terms import ConsumeOptions
from txamqpx.deliveries import Deliveries
from txamqpx.ordering import Footprint, Operations
from txamqpx.pipeline import Pipeline, PipelineHost, Transform

__all__ = ["Consumption"]


class _Host(PipelineHost, Protocol):
    operations: Operations


class Consumption:
    """The calls of a ``Client`` that consume."""

    def consume(
        self: _Host, queue: str, handler: Callable[[Any], object], **options: Unpack[ConsumeOptions]
    ) -> Deferred[Consumer]:
        """Call ``handler`` with each message of a queue; when it is done the message is acked.

        Args:
            queue: The queue; ``""`` is a queue of its own, named by the broker.
            handler: A function, a coroutine function, or one that returns a Deferred.  What it raises
                settles the message otherwise: ``Requeue``, ``Reject``, ``Drop``, ``RetryLater``,
                ``StopConsuming``, or anything else, which ``on_error`` judges.
            options: ``prefetch``, ``concurrency``, ``order_by``, ``ack``, ``on_error``, ``thread``,
                ``batch``, ``resume`` and others; see ``txamqpx.consuming.terms.Terms``.

        Returns:
            A Deferred of the consumer, which fires when the broker has agreed.  It fails with ``NotFound``,
            ``AccessRefused`` and the like; with ``TopologyError`` if this client has declared the queue as a
            stream, and streams are not consumed like that.  Cancelling it ends the consumer.

        Raises:
            TypeError: An option, or the handler, is of the wrong kind; nothing was sent.
            InvalidParameter: An option does not fit; nothing was sent.
        """
        return _start(self, Consumer(self, queue, handler, **options))

    def consume_many(
        self: _Host,
        queues: Sequence[str],
        handler: Callable[[Any], object],
        **options: Unpack[ConsumeOptions],
    ) -> Deferred[Consumer]:
        """Consume several queues on one channel, with one limit for what is in the user's hands.

        It is as ``consume``, and one consumer for all of them: they share ``concurrency``, and in manual mode
        ``prefetch`` counts for all together.  A queue that the broker ends leaves the others alone; its
        ``Subscription`` in ``consumer.subscriptions`` tells.  ``consumer.queue_of(delivery)`` says where a
        delivery came from.

        Raises:
            TypeError: ``queues`` is one name and not several.
            InvalidParameter: There is none.
        """
        if isinstance(queues, str):
            raise TypeError("consume_many takes several queues")
        return _start(self, Consumer(self, queues, handler, **options))

    def deliveries(self: _Host, queue: str, **options: Unpack[ConsumeOptions]) -> Deliveries:
        """Consume a queue in a loop: ``async for delivery in client.deliveries("jobs")``.

        It starts at once.  Each delivery is to be settled by whoever takes it, unless ``ack`` says otherwise.

        Args:
            queue: The queue.
            options: As for ``consume``, but for what concerns a handler.
        """
        deliveries = Deliveries(self, queue, **options)
        deliveries.begin(_start(self, deliveries.consumer))
        return deliveries

    def pipe(
        self: _Host,
        source: str,
        transform: Transform | None,
        destination: str | tuple[str, str],
        **options: Unpack[ConsumeOptions],
    ) -> Deferred[Pipeline]:
        """Move messages from a queue to another, or to an exchange, and lose none whatever happens.

        Args:
            source: A queue.
            transform: Gives what is to be published: bytes, a ``Message``, several of them, or None for
                nothing.  None: messages pass as they are.
            destination: A queue, or an exchange and a routing key.
            options: As for ``consume``, but for ``ack`` and ``batch``.

        Returns:
            A Deferred of the ``Pipeline``, which fires when the broker has agreed.

        Raises:
            InvalidParameter: An option does not fit; nothing was sent.
        """
        pipeline = Pipeline(self, source, transform, destination, **options)
        return self.operations.run(pipeline.start, _footprint(pipeline.consumer), name="basic.consume")


def _footprint(consumer: Consumer) -> Footprint:
    names = [("queue", one.queue) for one in consumer.subscriptions if one.queue]
    if consumer.terms.exchange:
        names.append(("exchange", consumer.terms.exchange))
    if consumer.terms.exclusive:  # who comes first has the queue, and the others are refused
        return Footprint(writes=tuple(names))
    return Footprint(reads=tuple(names))


def _start(client: _Host, consumer: Consumer) -> Deferred[Consumer]:
    return client.operations.run(consumer.start, _footprint(consumer), name="basic.consume")
