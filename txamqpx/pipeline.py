"""From one queue to another place: a message is acked where it came from once it is safe where it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self, Unpack

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txamqpx.consumer import Consumer, ConsumerHost
from txamqpx.consuming.settlement import Requeue
from txamqpx.consuming.subscription import Ending
from txamqpx.consuming.terms import ConsumeOptions
from txamqpx.consuming.threaded import in_thread
from txamqpx.errors import AMQPError, EncodeError, InvalidParameter
from txamqpx.message import Delivery
from txamqpx.publisher import Publisher, PublisherHost
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Message", "Pipeline", "PipelineHost", "Transform"]

#: After so many seconds, and twice as many each time, a message is given back that its destination refused.
FIRST_PAUSE = 1.0
LAST_PAUSE = 30.0

# The broker refuses a message in another user's name, and sends copies to whom these headers name.
_ROUTES = ("CC", "BCC")


@frozen
class Message:
    """A message to be published.

    Attributes:
        body: The content.
        properties: None: those of the message it is made of.
        exchange: None: the pipeline's.
        routing_key: None: the pipeline's.
    """

    body: bytes
    properties: BasicProperties | None = None
    exchange: str | None = None
    routing_key: str | None = None


Made = Message | bytes | None
Transform = Callable[[Delivery], Any]


class PipelineHost(ConsumerHost, PublisherHost, Protocol):
    """What a pipeline needs of its client."""

    def publisher(self, *, confirm: bool) -> Publisher:
        """Return a publisher."""


class Pipeline:
    """Takes messages from a queue, makes others of them, and publishes those; ``client.pipe`` makes it.

    A source message is acked if and only if the broker has confirmed all that was made of it, and
    each of those has reached a queue.  Otherwise it is given back after a pause.  So nothing is lost,
    whatever breaks at whatever moment; after a break some messages may come twice.

    Args:
        client: Whose connection it uses.
        source: A queue.
        transform: Called with each ``Delivery``; it gives bytes, a ``Message``, several of those, or None for
            nothing, or a coroutine or Deferred of that.  What it raises is as in a handler.  None: messages
            pass as they are.
        destination: A queue, or an exchange and a routing key.
        options: As for ``client.consume``, but for ``ack`` and ``batch``.

    Raises:
        InvalidParameter: An option makes no sense here.

    Attributes:
        consumer: What takes.
        publisher: What gives.
    """

    log = Logger()

    def __init__(
        self,
        client: PipelineHost,
        source: str,
        transform: Transform | None,
        destination: str | tuple[str, str],
        **options: Unpack[ConsumeOptions],
    ) -> None:
        for name in ("ack", "batch"):
            if name in options:
                raise InvalidParameter(name, "is the pipeline's own business")
        self._exchange, self._routing_key = ("", destination) if isinstance(destination, str) else destination
        self._clock = client.protocol.clock
        transform = _as_it_is if transform is None else transform
        if not callable(transform):
            raise TypeError(f"a transform is called with each delivery, {type(transform).__name__} cannot be")
        self.transform: Transform = (
            in_thread(transform, self._clock) if options.pop("thread", False) else transform
        )
        self.consumer = Consumer(client, source, self._pass, **options)
        self.publisher = client.publisher(confirm=True)
        self._refused = 0
        self._pauses: set[Deferred[None]] = set()

    def __repr__(self) -> str:
        return f"<Pipeline of {self.consumer!r} to {(self._exchange, self._routing_key)!r}>"

    @property
    def closed(self) -> Deferred[Ending]:
        """A Deferred, new each time, that fires once the pipeline is over; see ``Consumer.closed``."""
        return self.consumer.closed

    def start(self) -> Deferred[Self]:
        """Begin to take.

        Returns:
            A Deferred of this pipeline; it fails as ``Consumer.start`` does.
        """
        self.consumer.closed.addCallback(self._ended)
        return self.consumer.start().addCallbacks(lambda _: self, self._not_started)

    def _not_started(self, failure: Any) -> Any:
        self.publisher.close(0.0)
        return failure

    def cancel(self, timeout: float | None = 30.0) -> Deferred[None]:
        """End it: what is under way may come to its end, what is not is given back.

        Args:
            timeout: Seconds after which what is under way is given back; None: never.

        Returns:
            A Deferred that fires when it is over.
        """
        left = self.consumer.cancel(timeout)
        for pause in tuple(self._pauses):
            pause.cancel()
        return left

    def _ended(self, reason: Ending) -> None:
        self.publisher.close()

    # ----------------------------------------------------------------------- one message

    async def _pass(self, delivery: Delivery) -> None:
        made = self.transform(delivery)
        if isinstance(made, Awaitable):
            made = await made
        if made is None:
            return
        if isinstance(made, bytearray | memoryview):
            made = bytes(made)
        messages = [made] if isinstance(made, Message | bytes) else list(made)
        # One that cannot be published leaves the others what they are.
        publishes = [maybeDeferred(self._publish, one, delivery) for one in messages]
        results = await DeferredList(publishes, consumeErrors=True)
        errors = [failure.value for confirmed, failure in results if not confirmed]
        if not errors:
            self._refused = 0
            return
        for error in errors:
            if isinstance(error, EncodeError) or not isinstance(error, AMQPError):
                raise error  # it is the transform's, and would be the same the next time
        await self._pause(delivery, errors[0])
        raise Requeue

    def _publish(self, made: Message | bytes, delivery: Delivery) -> Deferred[Any]:
        message = made if isinstance(made, Message) else Message(made)
        return self.publisher.publish(
            message.body,
            exchange=self._exchange if message.exchange is None else message.exchange,
            routing_key=self._routing_key if message.routing_key is None else message.routing_key,
            properties=_carried(delivery) if message.properties is None else message.properties,
        )

    async def _pause(self, delivery: Delivery, error: AMQPError) -> None:
        # Given back at once it would come again at once, for as long as the destination refuses it.
        seconds = min(FIRST_PAUSE * 2**self._refused, LAST_PAUSE)
        self._refused = min(self._refused + 1, 10)
        self.log.warn(
            "{delivery} goes back in {seconds:g} s, as what was made of it was not confirmed: {error}",
            delivery=delivery,
            seconds=seconds,
            error=error,
        )
        pause: Deferred[None] = deferLater(self._clock, seconds)
        self._pauses.add(pause)
        try:
            await pause
        except CancelledError:
            return
        finally:
            self._pauses.discard(pause)


def _as_it_is(delivery: Delivery) -> bytes:
    return delivery.body


def _carried(delivery: Delivery) -> BasicProperties:
    """Return the properties that a message keeps on its way."""
    properties = delivery.properties
    kept: dict[str, Any] = {name: getattr(properties, name) for name, _ in properties.fields}
    del kept["user_id"]
    if kept["headers"] is not None:
        kept["headers"] = {name: value for name, value in kept["headers"].items() if name not in _ROUTES}
    return BasicProperties(**kept)
