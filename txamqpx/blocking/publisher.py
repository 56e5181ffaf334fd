"""Publishing from threads: each message has exactly one outcome, and a call returns when it is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from threading import Semaphore
from types import TracebackType
from typing import Self, Unpack

from twisted.internet.defer import Deferred

from txamqpx import publisher as asynchronous
from txamqpx.blocking.calls import Beginning, Calls, begun
from txamqpx.blocking.operation import USUAL, Operation, Timeout
from txamqpx.errors import AMQPError, ConfirmTimeout, GateTimeout, NotPublished, WaitTimeout
from txamqpx.message import Confirmed
from txamqpx.publishing.bulk import Item, Summary
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["BegunPublishes", "Publisher", "outcome_of"]

# How many messages go over to the reactor's thread at a time, and how many such loads there may be.
_LOAD = 500
_LOADS = 2


def outcome_of(operation: Operation[Confirmed | None], seconds: float | None) -> Confirmed | None:
    """Wait for the outcome of a publish, which is one even if the time is over.

    Raises:
        GateTimeout: The time is over, and the message is certainly not there.
        ConfirmTimeout: The time is over, and the message may be there or not.
        PublishError: It has another outcome.
    """
    try:
        return operation.finish(seconds)
    except WaitTimeout as late:
        known = late.__cause__
        if isinstance(known, NotPublished):
            raise GateTimeout(late.seconds, "it was still waiting for its turn") from known
        raise ConfirmTimeout(late.seconds) from known


class BegunPublishes(Beginning[asynchronous.Publisher]):
    """The calls of a publisher that return an ``Operation`` at once."""

    publish = begun(asynchronous.Publisher.publish)
    flush = begun(asynchronous.Publisher.flush)


class Publisher:
    """Publishes on a channel of its own; ``BlockingClient.publisher`` makes it.

    Attributes:
        begin: The same calls, each of which returns an ``Operation`` at once.
    """

    def __init__(self, publisher: asynchronous.Publisher, calls: Calls, room: Semaphore) -> None:
        self.begin = BegunPublishes(publisher, calls, room)
        self._publisher = publisher
        self._calls = calls

    def __repr__(self) -> str:
        return repr(self._publisher)

    def __enter__(self) -> Self:
        """Publish for a block; the publisher is closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def outstanding(self) -> int:
        """How many messages wait for the broker's word."""
        return self._publisher.outstanding

    @property
    def waiting(self) -> int:
        """How many messages wait for their turn."""
        return self._publisher.waiting

    def publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool | None = None,
        timeout: Timeout = USUAL,
        **fields: Unpack[PropertyFields],
    ) -> Confirmed | None:
        """Publish a message, and wait for its outcome; see the asynchronous ``Publisher.publish``.

        Args:
            body: The content.
            exchange: Where to; ``""`` is the default exchange, which routes to the queue of that name.
            routing_key: At most 255 bytes in UTF-8.
            properties: One object for many messages is checked and encoded only once.
            mandatory: None: as the publisher was made.
            timeout: Seconds in which the outcome must be known; None: the publisher's own limits.
            **fields: Properties by name, which stand above those in ``properties``.

        Returns:
            ``Confirmed``; None without confirms.

        Raises:
            PublishError: ``Unroutable``, ``Nacked``, ``NotPublished``, ``OutcomeUnknown``.
            ChannelClosed: The broker closed the channel over this very message, as with ``NotFound``.
            EncodeError: Something does not fit on the wire; nothing was sent.
        """
        begun = self._calls.thread.begin(
            "publish",
            lambda: self._publisher.publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=mandatory,
                **fields,
            ),
        )
        return outcome_of(begun, self._calls.seconds(timeout))

    def publish_many(
        self,
        messages: Iterable[Item],
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool | None = None,
        timeout: Timeout = USUAL,
        **fields: Unpack[PropertyFields],
    ) -> Summary:
        """Publish many messages, as fast as the broker takes them, and wait for all outcomes.

        The messages are taken from the iterable in this thread, a load at a time.  One that fails does not
        stop the others.

        Args:
            messages: Bodies; or pairs of a body and a dict of ``publish``'s other arguments for it.
            exchange: As in ``publish``; the other arguments likewise, for all messages.
            routing_key: As in ``publish``.
            properties: As in ``publish``.
            mandatory: As in ``publish``.
            timeout: Seconds for each load of messages; None: the publisher's own limits.
            **fields: As in ``publish``.

        Returns:
            How many there were, and the position and the error of each that was not confirmed.  If it is not
            ``complete``, the publisher was closed or lost its connection: the messages from position
            ``total`` on were not published, although some more were taken.

        Raises:
            WaitTimeout: The outcome of some messages is not known in time; no more were taken.
            Exception: What the iterable raises, once the messages before have their outcomes.
        """
        failures: list[tuple[int, AMQPError]] = []
        total = 0
        complete = True
        loads: deque[Operation[Summary]] = deque()
        seconds = self._calls.seconds(timeout)

        def finish() -> None:
            nonlocal complete, total
            summary = loads.popleft().finish(seconds)
            complete = complete and summary.complete
            failures.extend((total + position, error) for position, error in summary.failures)
            total += summary.total

        def begin(load: list[Item]) -> Deferred[Summary]:
            return self._publisher.publish_many(
                load,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=mandatory,
                **fields,
            )

        try:
            for load in _loads(messages):
                loads.append(self._calls.thread.begin("publish_many", partial(begin, load)))
                if len(loads) == _LOADS:
                    finish()
                if not complete:
                    break
        except Exception:  # but after Ctrl-C nobody wants to wait
            while loads:
                finish()
            raise
        while loads:
            finish()
        return Summary(total, tuple(failures), complete)

    def flush(self, *, timeout: Timeout = USUAL) -> None:
        """Wait until each publish so far has its outcome, whatever it is.

        Args:
            timeout: Seconds.

        Raises:
            WaitTimeout: Some have none in time; they go on, and it may be called again.
        """
        self._calls.finish("flush", self._publisher.flush, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Take no more messages, wait for the outcome of those that were taken, and close the channel.

        Args:
            timeout: Seconds; what has no outcome by then fails with ``NotPublished`` or ``OutcomeUnknown``.
        """
        self._calls.finish("close", lambda: self._publisher.close(timeout), None)


def _loads(messages: Iterable[Item]) -> Iterator[list[Item]]:
    load: list[Item] = []
    try:
        for message in messages:
            load.append(message)
            if len(load) == _LOAD:
                yield load
                load = []
    except Exception:
        yield load
        raise
    yield load
