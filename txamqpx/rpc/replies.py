"""The channel on which requests go out and their replies come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.errors import AMQPError, ConsumerCancelled, NotProcessed
from txamqpx.message import Confirmed, Delivery
from txamqpx.spec.amqp0_9_1 import BasicProperties, QueueDeclareOk

__all__ = ["DIRECT", "Replies"]

#: What RabbitMQ replaces by an address of the channel that publishes; to be consumed on that very channel.
DIRECT = "amq.rabbitmq.reply-to"


class Replies:
    """A channel in confirm mode with a consumer of replies.

    Nothing else is on it: a reply never waits behind somebody else's deliveries, and nobody else's mistake
    can close it.

    Args:
        protocol: The connection.
        own_queue: Whether replies come through an exclusive queue, and not directly.
        on_reply: Called with each reply.
        on_change: Called when ``usable`` may have changed.
        on_end: Called once, with this object and the reason, when no reply will come any more.

    Raises:
        NoFreeChannels: Each number is in use.
        ConnectionClosed: The connection is over.
    """

    def __init__(
        self,
        protocol: AMQPProtocol,
        own_queue: bool,
        on_reply: Callable[[Delivery], object],
        on_change: Callable[[], object],
        on_end: Callable[[Replies, AMQPError], object],
    ) -> None:
        self.channel: Channel = protocol.new_channel()
        #: Where replies are to be sent to, as the requests say it.
        self.address = DIRECT
        self._on_change = on_change
        self._on_end = on_end
        #: Whether requests can be sent, or could be once; and whether no reply can come any more.
        self.started = False
        self.over = False
        steps: list[Deferred[Any]] = [self.channel.confirm_select()]
        if own_queue:
            # It goes with its consumer: a connection that lives on must not keep those of dead channels.
            declared = self.channel.queue_declare(exclusive=True, auto_delete=True)
            steps.append(declared.addCallback(self._named))
        queue = "" if own_queue else DIRECT  # "": the one that was declared last
        steps.append(self.channel.basic_consume(queue, on_reply, no_ack=True))
        gatherResults(steps, consumeErrors=True).addCallbacks(self._ready, self._failed)
        self.channel.on_flow = on_change
        self.channel.on_cancelled = self._cancelled
        self.channel.when_closed().addCallback(self._end)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self.started and not self.over and self.channel.flow_active

    def publish(
        self, body: bytes, exchange: str, routing_key: str, properties: BasicProperties
    ) -> Deferred[Confirmed | None]:
        """Send a request, which comes back if it reaches nobody."""
        return self.channel.basic_publish(
            body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=True
        )

    def close(self) -> Deferred[None]:
        """Close the channel, at which ``on_end`` is not called."""
        self.over = True
        return self.channel.close().addErrback(lambda failure: None)

    def _named(self, answer: QueueDeclareOk) -> QueueDeclareOk:
        self.address = answer.queue
        return answer

    def _ready(self, answers: object) -> None:
        self.started = True
        self._on_change()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert isinstance(error, FirstError)
        reason = error.subFailure.value
        if isinstance(reason, NotProcessed):  # an earlier step fails first, and a later one was to blame
            reason = reason.__cause__
        assert isinstance(reason, AMQPError)
        self._end(reason)
        self.close()

    def _cancelled(self, consumer_tag: str) -> None:
        self._end(ConsumerCancelled(self.address, consumer_tag))
        self.close()

    def _end(self, reason: AMQPError) -> None:
        if not self.over:
            self.over = True
            self._on_end(self, reason)
