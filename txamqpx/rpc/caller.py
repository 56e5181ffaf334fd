"""Requests, and the replies that they get: each request ends once, at the latest with its timeout."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from secrets import token_hex
from typing import Protocol, Unpack

from attrs import define
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txamqpx.connection import AMQPProtocol
from txamqpx.errors import (
    AMQPError,
    CallTimeout,
    ChannelClosed,
    ConnectionClosed,
    DecodeError,
    EncodeError,
    InvalidParameter,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    ReplyLost,
    caused,
    twin,
)
from txamqpx.message import Delivery
from txamqpx.once import Once
from txamqpx.ordering import Footprint, Operations
from txamqpx.publishing.outgoing import Outgoing, PropertyFields
from txamqpx.rpc.order import Barrier, Barriers, Unsettled
from txamqpx.rpc.remote import remote_error
from txamqpx.rpc.replies import Replies
from txamqpx.spec.amqp0_9_1 import BasicProperties, BasicPublish

__all__ = ["Caller", "CallerHost"]

#: What RabbitMQ takes by default since 4.0.
LARGEST = 16 * 1024 * 1024

NOTHING = BasicProperties()

# As long as what goes with a request can be.
OURS: PropertyFields = {"correlation_id": "0" * 32, "reply_to": "0" * 255, "expiration": "0" * 10}


class CallerHost(Protocol):
    """Whom a caller belongs to: a ``Client``."""

    @property
    def protocol(self) -> AMQPProtocol:
        """The connection."""

    @property
    def operations(self) -> Operations:
        """What orders the calls that name no channel."""


@define(eq=False)
class _Call:
    """A request that has not ended, or whose publish has not."""

    number: int
    what: str
    content: tuple[bytes, str, str]
    properties: BasicProperties
    deadline: float
    result: Deferred[Delivery]
    timer: IDelayedCall
    barriers: list[Barrier]
    #: Where its reply comes to, once it was sent.
    replies: Replies | None = None
    #: Whether it was sent again, as the channel was closed before its turn.
    moved: bool = False


class Caller:
    """Sends requests and hands out their replies, all on one channel of its own.

    ``Client.call`` has one with the defaults, ``Client.caller`` makes others.

    Args:
        client: Whose connection it uses.
        reply_queue: Whether replies come through an exclusive queue.  By default they come directly
            (``amq.rabbitmq.reply-to``), which costs the broker less and works with every RabbitMQ.
        max_outstanding: How many calls may be under way, sent or not; more fail with ``OutboxFull``.
        max_message_size: The largest request in bytes.  The broker closes the channel over one that it
            finds too large, and with it the replies to all others would be lost.

    Attributes:
        late: How many replies nobody waited for: they came too late, twice, or from somebody who guessed.
    """

    def __init__(
        self,
        client: CallerHost,
        *,
        reply_queue: bool = False,
        max_outstanding: int = 10_000,
        max_message_size: int = LARGEST,
    ) -> None:
        for name, value in (("max_outstanding", max_outstanding), ("max_message_size", max_message_size)):
            if type(value) is not int or value < 1:
                raise InvalidParameter(name, "must be a whole number from 1 on")
        self.late = 0
        self._protocol = protocol = client.protocol
        self._clock = protocol.clock
        self._outbox = protocol.core.outbox
        self._reply_queue = reply_queue
        self._most = max_outstanding
        self._max_message_size = max_message_size
        parameters = protocol.parameters
        self._outgoing = Outgoing(
            persistent=False,
            message_ids=False,
            login=None if parameters.mechanism == "EXTERNAL" else parameters.username,
            impersonate=False,
            tuning=protocol.tuning,
        )
        # All that have not ended, and those of them that were not sent.
        self._calls: dict[str, _Call] = {}
        self._line: OrderedDict[str, _Call] = OrderedDict()
        self._unsettled = Unsettled()
        self._barriers = Barriers(client.operations, self._pump, self._fail_hopeless)
        # To be sent again when we hear that the channel has ended, which is at once.
        self._again: list[tuple[str, _Call]] = []
        self._replies: Replies | None = None
        self._listening = False
        # Why nobody else is let in.
        self._shut: AMQPError | None = None
        self._deadline: IDelayedCall | None = None
        self._ending = False
        self._closed: Once[None] = Once()
        protocol.on_blocked.append(self._pump)
        self._connection_over = protocol.when_closed()
        self._connection_over.addCallbacks(self._end_all, lambda _: None)

    def __repr__(self) -> str:
        return f"<Caller on {self._protocol!r}, {self.outstanding} outstanding>"

    @property
    def outstanding(self) -> int:
        """How many calls have not ended."""
        return len(self._calls)

    def when_closed(self) -> Deferred[None]:
        """Return a Deferred that fires once it is over, by ``close`` or with the connection."""
        return self._closed.wait()

    # ----------------------------------------------------------------------- what the user calls

    def call(
        self,
        queue: str = "",
        body: bytes = b"",
        *,
        exchange: str = "",
        routing_key: str = "",
        timeout: float = 30.0,
        properties: BasicProperties | None = None,
        **fields: Unpack[PropertyFields],
    ) -> Deferred[Delivery]:
        """Send a request and wait for its reply.

        The request is mandatory, and gets a ``correlation_id``, a ``reply_to``, and what is left of the
        timeout as its ``expiration`` unless it has one.

        Args:
            queue: The queue from which it is served.
            body: The request.
            exchange: In the place of a queue: where to publish to.
            routing_key: For the exchange.
            timeout: Seconds until the call fails, whatever it waits for.
            properties: What else goes with it.
            **fields: Properties by name, which stand above those in ``properties``.

        Returns:
            A Deferred of the reply.  It fails with exactly one of

            * ``RemoteError``: a ``Server`` says that its function failed;
            * ``Unroutable``, ``Nacked``: nobody has the request;
            * ``NotFound``, ``AccessRefused``, ``PreconditionFailed``: nobody has it, and nobody would;
            * ``NotPublished`` (``OutboxFull``): nobody has it, and it can be asked again;
            * ``CallTimeout``: no reply came; ``sent`` says whether somebody may have the request;
            * ``ReplyLost``: the channel or the connection ended; somebody may have the request.

            Cancelling it forgets the request; the reply is dropped.

        Raises:
            InvalidParameter: Not exactly one of queue and exchange is named, the timeout is none, or
                ``correlation_id`` or ``reply_to`` is given; nothing was sent.
            EncodeError: Something does not fit on the wire; nothing was sent.
        """
        if bool(queue) == bool(exchange) or (queue and routing_key):
            raise InvalidParameter("queue", "name either a queue, or an exchange and a routing key")
        if not 0 < timeout < inf:
            raise InvalidParameter("timeout", "must be a number of seconds above 0")
        body = self._checked(body)
        routing_key = queue or routing_key
        BasicPublish(exchange, routing_key, True).encode()
        ready = self._prepared(properties, fields)
        if self._shut is not None:
            return fail(caused(NotPublished(f"nothing can be called: {self._shut}"), self._shut))
        if len(self._calls) >= self._most:
            return fail(OutboxFull(f"{self._most} calls wait for replies already"))
        if not self._outbox.size:
            self._outbox.wake()  # which raises on a foreign thread: before anything is noted
        barriers = self._barriers.before(exchange)
        correlation_id = token_hex(16)
        result: Deferred[Delivery] = Deferred(lambda _: self._cancelled(correlation_id))
        where = f"queue {queue!r}" if queue else f"exchange {exchange!r} with routing key {routing_key!r}"
        call = _Call(
            self._unsettled.add(exchange, routing_key),
            f"a call to {where}",
            (body, exchange, routing_key),
            ready.replace(correlation_id=correlation_id),
            self._clock.seconds() + timeout,
            result,
            self._clock.callLater(timeout, self._too_late, correlation_id, timeout),
            barriers,
        )
        self._calls[correlation_id] = self._line[correlation_id] = call
        if any(barrier.error is not None for barrier in barriers):
            self._fail_hopeless()
        else:
            self._pump()
        return result

    def _prepared(self, properties: BasicProperties | None, fields: PropertyFields) -> BasicProperties:
        if properties is None and not fields:
            return NOTHING
        ready = self._outgoing.prepare(properties, fields)
        for name in ("correlation_id", "reply_to"):
            if name in ready.as_dict():
                raise InvalidParameter(name, "is made for each call")
        self._outgoing.prepare(ready, OURS)  # with them it has to fit into a frame, too
        return ready

    def _checked(self, body: object) -> bytes:
        if not isinstance(body, bytes | bytearray | memoryview):
            raise EncodeError(f"must be bytes, not {type(body).__name__}", "body")
        body = bytes(body)
        if len(body) > self._max_message_size:
            raise EncodeError(f"has {len(body)} bytes, the caller allows {self._max_message_size}", "body")
        return body

    def flush(self) -> Deferred[None]:
        """Return a Deferred that fires once it is known of each request so far whether it was taken."""
        return self._unsettled.flush()

    def affected_by(self, footprint: Footprint) -> Deferred[None] | None:
        """Return a Deferred that fires once an operation can overtake no request so far, or None."""
        for name in footprint.writes:
            if name[0] == "exchange":
                self._barriers.doubt(name[1])  # who knows whether it is there afterwards
        return self.flush() if self._unsettled.concern(footprint) else None

    def close(self, timeout: float = 30.0) -> Deferred[None]:
        """Take no more calls, wait for the replies to those that were made, and close the channel.

        Args:
            timeout: Seconds; calls that have not ended by then fail with ``ReplyLost`` or ``NotPublished``.

        Returns:
            A Deferred that fires when all is done; it never fails.  Closing twice is harmless.

        Raises:
            InvalidParameter: ``timeout`` is no number of seconds; nothing is closed.
        """
        if not 0 <= timeout < inf:
            raise InvalidParameter("timeout", "must be a number of seconds from 0 on")
        if self._shut is None:
            self._shut = ConnectionClosed("the caller was closed", by_peer=False)
            self._deadline = self._clock.callLater(timeout, self._end_all, self._shut)
            self._end_if_idle()
        return self._closed.wait()

    # ----------------------------------------------------------------------- the line

    def _pump(self) -> None:
        """Send what can be sent."""
        while self._line:
            correlation_id, call = next(iter(self._line.items()))
            if not all(barrier.called for barrier in call.barriers) or not self._can_send():
                return
            del self._line[correlation_id]
            self._send(call)

    def _fail_hopeless(self) -> None:
        """Fail those that can never be sent."""
        for call in list(self._line.values()):
            errors = [barrier.error for barrier in call.barriers if barrier.error is not None]
            if errors:
                self._fail(call, twin(errors[0]))
        self._pump()

    def _can_send(self) -> bool:
        if self._protocol.blocked is not None:
            return False
        if self._replies is None:
            self._open()
            return False
        if not self._protocol.writable:
            if not self._listening:
                self._listening = True
                self._protocol.when_writable().addCallbacks(self._writable, lambda failure: None)
            return False
        return self._replies.usable

    def _writable(self, _: object) -> None:
        self._listening = False
        self._pump()

    def _open(self) -> None:
        try:
            replies = Replies(
                self._protocol, self._reply_queue, self._replied, self._pump, self._replies_ended
            )
        except AMQPError as error:
            self._fail_line(error)
            return
        if not replies.over:
            self._replies = replies

    def _send(self, call: _Call) -> None:
        assert self._replies is not None
        call.replies = self._replies
        properties = call.properties.replace(reply_to=call.replies.address)
        if properties.expiration is None:
            left = call.deadline - self._clock.seconds()
            properties = properties.replace(expiration=str(max(1, int(left * 1000))))
        published = call.replies.publish(*call.content, properties)
        published.addCallbacks(self._taken, self._refused, callbackArgs=(call,), errbackArgs=(call,))

    # ----------------------------------------------------------------------- how it ends

    def _replied(self, reply: Delivery) -> None:
        try:
            correlation_id = reply.properties.correlation_id
        except DecodeError:
            correlation_id = None
        call = self._calls.get(correlation_id or "")
        if call is None:
            self.late += 1
            return
        self._forget(call)
        error = remote_error(reply)
        if error is None:
            call.result.callback(reply)
        else:
            call.result.errback(Failure(error))
        self._end_if_idle()

    def _taken(self, _: object, call: _Call) -> None:
        self._unsettled.settle(call.number)

    def _refused(self, failure: Failure, call: _Call) -> None:
        error = failure.value
        assert isinstance(error, AMQPError)
        waits = call.properties.correlation_id in self._calls
        closed = isinstance(error.__cause__, ChannelClosed)
        if waits and closed and isinstance(error, NotPublished) and not call.moved:
            call.moved = True
            self._again.append((str(call.properties.correlation_id), call))
            return
        self._unsettled.settle(call.number)
        if isinstance(error, ChannelClosed) and error.exchange is not None:
            self._barriers.doubt(error.exchange)
        if waits:
            lost = isinstance(error, OutcomeUnknown)
            self._fail(call, _lost(error.__cause__ or error) if lost else error)

    def _replies_ended(self, replies: Replies, reason: AMQPError) -> None:
        self._replies = None
        again, self._again = self._again, []
        for correlation_id, call in reversed(again):
            call.replies = None
            self._line[correlation_id] = call
            self._line.move_to_end(correlation_id, last=False)
        for call in [call for call in self._calls.values() if call.replies is replies]:
            self._fail(call, _lost(reason))
        if not replies.started:
            self._fail_line(reason)
        self._pump()

    def _end_all(self, reason: AMQPError) -> None:
        """Fail everything that has not ended, and everything to come."""
        self._shut = self._shut or reason
        for call in [call for call in self._calls.values() if call.replies is not None]:
            self._fail(call, _lost(reason))
        self._fail_line(reason)
        self._end_if_idle()

    def _fail_line(self, reason: AMQPError) -> None:
        for call in list(self._line.values()):
            self._fail(call, caused(NotPublished(f"it was not sent: {reason}"), reason))

    def _too_late(self, correlation_id: str, seconds: float) -> None:
        call = self._calls[correlation_id]
        sent = call.replies is not None
        self._fail(call, CallTimeout(call.what, seconds, self._protocol.blocked, sent=sent))

    def _cancelled(self, correlation_id: str) -> None:
        self._forget(self._calls[correlation_id])
        self._end_if_idle()

    def _fail(self, call: _Call, error: AMQPError) -> None:
        if call.properties.correlation_id in self._calls:
            self._forget(call)
            call.result.errback(Failure(error))
            self._end_if_idle()

    def _forget(self, call: _Call) -> None:
        correlation_id = call.properties.correlation_id
        assert correlation_id is not None
        del self._calls[correlation_id]
        if call.timer.active():
            call.timer.cancel()
        if call.replies is None:
            self._line.pop(correlation_id, None)
            self._unsettled.settle(call.number)

    def _end_if_idle(self) -> None:
        if self._shut is None or self._calls or self._ending:
            return
        self._ending = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._protocol.on_blocked.remove(self._pump)
        self._connection_over.cancel()  # a connection outlives many callers, and would keep each
        closing = succeed(None) if self._replies is None else self._replies.close()
        closing.addBoth(lambda _: self._closed.fire(None))


def _lost(reason: BaseException | None) -> ReplyLost:
    return caused(ReplyLost(f"the reply can no longer arrive: {reason}"), reason)
