"""A channel: one method per AMQP method, each a Deferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from txamqpx.channel_methods import ChannelMethods
from txamqpx.errors import (
    AMQPError,
    Closed,
    EncodeError,
    LocalProtocolError,
    NotPublished,
    OutcomeUnknown,
    caused,
    twin,
)
from txamqpx.message import Confirmed, Delivery
from txamqpx.once import Once
from txamqpx.params import ConnectionParameters
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.outbox import Outbox
from txamqpx.protocol.states import ChannelState
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    BasicNack,
    BasicProperties,
    BasicQos,
    BasicQosOk,
    BasicRecover,
    BasicRecoverOk,
    BasicReject,
    ChannelClose,
)
from txamqpx.spec.base import Method, Request

__all__ = ["Channel", "Host"]

R = TypeVar("R", bound=Method)
T = TypeVar("T")

NO_PROPERTIES = BasicProperties()


class Host(Protocol):
    """What a channel needs of its connection, which is an ``AMQPProtocol``."""

    parameters: ConnectionParameters
    delegate: Any

    @property
    def writable(self) -> bool:
        """False while a publisher does better to wait."""

    def when_writable(self) -> Deferred[None]:
        """Fire once it is writable."""

    def limited(self, deferred: Deferred[T], operation: str, seconds: float | None) -> Deferred[T]:
        """Let ``deferred`` fail with ``RPCTimeout`` after ``seconds``."""

    def pump(self) -> None:
        """Deal with what a call has caused."""


class Channel(ChannelMethods):
    """One channel of an open connection; ``AMQPProtocol.open_channel`` makes it.

    Calls may be pipelined: the broker takes them in order and answers in order.  When it closes the
    channel over one of them, that one fails with its error, those behind it with ``NotProcessed``.

    A call's Deferred can be cancelled: the caller loses interest, the broker's answer is swallowed
    when it comes, and no other call is disturbed.
    """

    def __init__(self, protocol: Host, core: ChannelCore) -> None:
        self.protocol = protocol
        self.core = core
        core.owner = self
        self._opened: Once[Channel] = Once()
        self._closed: Once[AMQPError] = Once()
        self._confirmed: list[tuple[int, Deferred[None]]] = []
        #: Called when the broker has spoken of publishes: once for all that came at the same time.
        self.on_confirms: Callable[[], object] | None = None
        #: Called when ``flow_active`` has changed.
        self.on_flow: Callable[[], object] | None = None
        #: Called with the tag of a consumer that the broker has ended.
        self.on_cancelled: Callable[[str], object] | None = None

    def __repr__(self) -> str:
        return f"<Channel {self.number} of {self.protocol!r}, {self.core.state.value}>"

    @property
    def number(self) -> int:
        """The channel's number on its connection."""
        return self.core.number

    @property
    def is_open(self) -> bool:
        """Whether the broker has opened it and nobody closes it; calls may be sent ahead before."""
        return self.core.state is ChannelState.OPEN

    @property
    def flow_active(self) -> bool:
        """False while the broker asks not to publish on this channel."""
        return self.core.flow_active

    @property
    def next_publish_seq_no(self) -> int:
        """The number that the next publish will get in confirm mode; 0 in any other."""
        return self.core.confirms.next_seq if self.core.confirms is not None else 0

    @property
    def unconfirmed(self) -> int:
        """How many publishes wait for the broker's word."""
        return len(self.core.confirms) if self.core.confirms is not None else 0

    def when_open(self) -> Deferred[Channel]:
        """Return a Deferred of this channel that fires once the broker has opened it."""
        return self._opened.wait()

    def when_closed(self) -> Deferred[AMQPError]:
        """Return a Deferred that fires with the reason once the channel is over, whoever ended it."""
        return self._closed.wait()

    async def __aenter__(self) -> Self:
        """Use the channel for a block; it is closed at its end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close the channel."""
        await self.close()

    # ----------------------------------------------------------------------- calls

    def call(self, method: Request[R], timeout: float | None = None) -> Deferred[R]:
        """Send any method that is answered.

        Args:
            method: The method with its arguments.
            timeout: Seconds to wait for the answer; None: the connection's ``rpc_timeout``.

        Returns:
            A Deferred of the answer.  It fails with the subclass of ``ChannelClosed`` or
            ``ConnectionClosed`` that the broker's reply code stands for, with ``NotProcessed`` if
            another call was to blame, with ``RPCTimeout``, or with ``OutboxFull``.  With
            ``no_wait`` set, which consumers may not have, it fires at once with None.

        Raises:
            EncodeError: An argument does not fit; nothing was sent.
            LocalProtocolError: The channel's state forbids it, the method needs a content, or RabbitMQ would
                close the connection over it (540); nothing was sent.
        """
        if isinstance(method, BasicConsume):
            return self._call(method, timeout, self._to_delegate)
        return self._call(method, timeout)

    def _call(self, method: Any, timeout: float | None = None, consumer: Any = None) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        try:
            self.core.send(method, deferred, consumer=consumer)
        except (EncodeError, LocalProtocolError):
            raise
        except AMQPError as error:
            return fail(error)
        if method.expects_reply:
            return self.protocol.limited(deferred, method.name, timeout)
        deferred.callback(None)
        return deferred

    def close(self, reply_code: int = 200, reply_text: str = "") -> Deferred[None]:
        """Close the channel: calls that wait fail with ``ChannelClosed``, publishes with ``OutcomeUnknown``.

        Returns:
            A Deferred that fires when the channel is over: when the broker has agreed, at once if it is
            closed already, and also if the connection ends meanwhile.  It fails with ``RPCTimeout``
            after the connection's ``close_timeout``; the number is then not used again.  Closing twice
            is harmless.
        """
        if self.core.state is ChannelState.CLOSED:
            return succeed(None)
        closed: Deferred[Any]
        if self.core.closing:
            closed = self._closed.wait()
        else:
            closed = Deferred()
            self.core.send(ChannelClose(reply_code, reply_text), closed)
            self.protocol.pump()
        timeout = self.protocol.parameters.close_timeout
        return self.protocol.limited(closed, "channel.close", timeout).addCallbacks(_to_none, _closed_anyway)

    # ----------------------------------------------------------------------- publishing

    def basic_publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> Deferred[Confirmed | None]:
        """Publish a message.

        Args:
            body: The content; a ``bytearray`` or ``memoryview`` is copied.
            exchange: Where to; ``""`` is the default exchange, which routes to the queue of that name.
            routing_key: At most 255 bytes in UTF-8.
            properties: None: none.  One object for many messages is encoded only once.
            mandatory: Whether the broker shall return the message if it reaches no queue.

        Returns:
            In confirm mode a Deferred of ``Confirmed``, which fails with ``Unroutable``, ``Nacked``,
            ``OutcomeUnknown``, ``NotPublished``, or the ``ChannelClosed`` that this very message caused.
            Cancelling it gives up the interest, not the message.  In any other mode it fires with None
            at once, or when the transport has taken what waits, if that is too much.  In either it
            fails with ``OutboxFull``, a ``NotPublished``, if more waits than the connection allows.

        Raises:
            EncodeError: An argument does not fit; nothing was sent.
        """
        if type(body) is not bytes:
            if not isinstance(body, bytes | bytearray | memoryview):
                raise EncodeError(f"must be bytes, not {type(body).__name__}", "body")
            body = bytes(body)
        if properties is None:
            properties = NO_PROPERTIES
        elif type(properties) is not BasicProperties:
            raise EncodeError(f"must be BasicProperties, not {type(properties).__name__}", "properties")
        deferred: Deferred[Confirmed | None] = Deferred()
        try:
            waits = self.core.publish(deferred, body, exchange, routing_key, properties, mandatory)
        except (EncodeError, LocalProtocolError):
            raise
        except AMQPError as error:
            return fail(error)
        if waits:
            return deferred
        if self.protocol.writable:
            deferred.callback(None)
            return deferred
        written: Deferred[Any] = self.protocol.when_writable()
        outbox = self.core.connection.outbox
        return written.addErrback(_unless_taken, outbox, outbox.appended)

    def wait_for_confirms(self, timeout: float | None = None) -> Deferred[None]:
        """Wait until the broker has spoken of every publish so far, whatever it said.

        Args:
            timeout: Seconds; None: no limit.

        Returns:
            A Deferred of None; it fails with ``RPCTimeout``, or with the reason if the channel ends first.

        Raises:
            LocalProtocolError: The channel is not in confirm mode.
        """
        if self.core.confirms is None:
            refusal = self.core.refusal("waiting for confirms without confirm.select")
            if isinstance(refusal, LocalProtocolError):
                raise refusal
            return fail(refusal)
        if not self.unconfirmed:
            return succeed(None)
        until = self.next_publish_seq_no
        deferred: Deferred[None] = Deferred(lambda _: self._confirmed.remove((until, deferred)))
        self._confirmed.append((until, deferred))
        return deferred if timeout is None else self.protocol.limited(deferred, "confirms", timeout)

    # ----------------------------------------------------------------------- consuming

    def basic_qos(self, prefetch_count: int = 0, *, global_: bool = False) -> Deferred[BasicQosOk]:
        """Limit how many deliveries may be unsettled; 0 is no limit.

        It holds for consumers that are made *after* it.  ``global_`` means the whole channel together:
        RabbitMQ 4.3 ignores that, and quorum queues never knew it.  A window in bytes cannot be asked
        for: the broker would close the connection (540).
        """
        return self.call(BasicQos(0, prefetch_count, global_))

    def basic_consume(
        self,
        queue: str,
        handler: Callable[[Delivery], object] | None = None,
        *,
        consumer_tag: str = "",
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Deferred[BasicConsumeOk]:
        """Start a consumer.

        Args:
            queue: The queue; ``""`` is the one that was declared last on this channel.
            handler: Called with each ``Delivery``, in order.  What it raises is logged, as is the failure
                of a Deferred or coroutine that it returns.  None: the delegate's ``message_delivered``.
            consumer_tag: ``""``: one is made, because deliveries may come before the answer.
            no_local: Not implemented by RabbitMQ.
            no_ack: The broker forgets each message as soon as it is sent.
            exclusive: Nobody else may consume from the queue.
            arguments: Such as ``{"x-priority": 10}``.

        Returns:
            A Deferred of the answer, which has the tag.  If it is cancelled or times out, the consumer
            is cancelled too, and what comes for it until then is given back.

        Raises:
            ConsumerTagInUse: This channel has a consumer of that tag; nothing was sent.
            TypeError: ``handler`` cannot be called; nothing was sent.
        """
        if handler is None:
            handler = self._to_delegate
        elif not callable(handler):
            raise TypeError(f"a handler is called with each delivery, {type(handler).__name__} cannot be")
        tag = consumer_tag or self.core.next_consumer_tag()
        method = BasicConsume(queue, tag, no_local, no_ack, exclusive, False, arguments)
        answer = self._call(method, consumer=handler)
        return answer.addErrback(self._give_up, tag)

    def _give_up(self, failure: Failure, consumer_tag: str) -> Failure:
        self.core.orphan(consumer_tag)
        return failure

    def _to_delegate(self, delivery: Delivery) -> object:
        return self.protocol.delegate.message_delivered(self, delivery)

    def basic_cancel(self, consumer_tag: str) -> Deferred[BasicCancelOk]:
        """End a consumer; what was delivered can still be settled.  An unknown tag is no error.

        Raises:
            LocalProtocolError: The answer to its ``basic_consume`` is still to come; cancel that Deferred,
                or wait for it.  Nothing was sent.
        """
        return self.call(BasicCancel(consumer_tag))

    def basic_get(self, queue: str, *, no_ack: bool = False) -> Deferred[Delivery | None]:
        """Take one message, or None if there is none.  Several calls may wait at the same time."""
        answer: Deferred[Any] = self._call(BasicGet(queue, no_ack))
        return answer.addCallback(_none_if_empty)

    def basic_ack(self, delivery_tag: int, *, multiple: bool = False) -> Deferred[None]:
        """Ack a delivery by its number; with ``multiple`` all up to it, 0 for all that have come so far.

        Where 0 finds nothing that waits to be settled, nothing is sent.

        Raises:
            AlreadySettled: It was settled before; nothing was sent.
            UnknownDelivery: This channel never gave out that number; nothing was sent.
        """
        tag = self._covered(delivery_tag, multiple)
        return succeed(None) if tag is None else self._call(BasicAck(tag, multiple))

    def basic_nack(
        self, delivery_tag: int, *, multiple: bool = False, requeue: bool = True
    ) -> Deferred[None]:
        """Give deliveries back, or with ``requeue=False`` dead-letter them.  Raises as ``basic_ack``."""
        tag = self._covered(delivery_tag, multiple)
        return succeed(None) if tag is None else self._call(BasicNack(tag, multiple, requeue))

    def _covered(self, delivery_tag: int, multiple: bool) -> int | None:
        # To the broker 0 means all that it has sent, some of which may be on the way to us.
        if delivery_tag or not multiple or self.core.error is not None:
            return delivery_tag
        return self.core.unsettled.last or None

    def basic_reject(self, delivery_tag: int, *, requeue: bool = True) -> Deferred[None]:
        """Refuse one delivery.  Raises as ``basic_ack``."""
        return self._call(BasicReject(delivery_tag, requeue))

    def basic_recover(self) -> Deferred[BasicRecoverOk]:
        """Have all unsettled deliveries of this channel given out again, to whomever.

        The broker implements only this form; giving them to the same consumer closes the connection (540).
        """
        return self.call(BasicRecover(True))

    # ----------------------------------------------------------------------- told by the connection

    def opened(self) -> None:
        """Take note that the broker has opened the channel."""
        self._opened.fire(self)

    def ended(self, reason: AMQPError) -> None:
        """Take note that the channel is over."""
        if not self._opened.fired:
            self._opened.fail(reason)
        self._closed.fire(reason)
        while self._confirmed:
            self._confirmed.pop(0)[1].errback(twin(reason))

    def confirms_settled(self) -> None:
        """Take note that the broker has spoken of some publishes."""
        while self._confirmed and (confirms := self.core.confirms) is not None:
            if self._confirmed[0][0] > confirms.oldest:
                break
            self._confirmed.pop(0)[1].callback(None)
        if self.on_confirms is not None:
            self.on_confirms()

    def flow_changed(self) -> None:
        """Take note that the broker asks for a pause, or for an end to it."""
        if self.on_flow is not None:
            self.on_flow()

    def consumer_cancelled(self, consumer_tag: str) -> None:
        """Take note that the broker has ended a consumer."""
        if self.on_cancelled is not None:
            self.on_cancelled(consumer_tag)


def _closed_anyway(failure: Failure) -> None:
    failure.trap(Closed)


def _to_none(_: object) -> None:
    return None


def _unless_taken(failure: Failure, outbox: Outbox, position: int) -> Failure:
    """Say that the outcome is unknown of a message that the transport has got."""
    if failure.check(NotPublished) is not None and position <= outbox.taken:
        raise caused(OutcomeUnknown(failure.getErrorMessage()), failure.value)
    return failure


def _none_if_empty(answer: Delivery | BasicGetOk | BasicGetEmpty) -> Delivery | None:
    return answer if isinstance(answer, Delivery) else None
