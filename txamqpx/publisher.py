"""Publishing that can be trusted: each message has exactly one outcome, and nobody pays for a neighbour."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Protocol, TypeVar, Unpack

from twisted.internet.defer import Deferred

from txamqpx.connection import AMQPProtocol
from txamqpx.errors import (
    Closed,
    ConfirmTimeout,
    ConnectionClosed,
    EncodeError,
    GateTimeout,
    InvalidParameter,
    NotPublished,
)
from txamqpx.message import Confirmed
from txamqpx.once import Once
from txamqpx.ordering import Footprint
from txamqpx.publishing.bulk import Bulk, Item, Summary
from txamqpx.publishing.gate import Gate, Limits
from txamqpx.publishing.outgoing import Outgoing, PropertyFields
from txamqpx.publishing.turns import Content, Predecessors, Publish
from txamqpx.spec.amqp0_9_1 import BasicProperties, BasicPublish

__all__ = ["Publisher", "PublisherHost"]

#: The default limit of RabbitMQ since 4.0; a broker closes the channel over a message that is larger than
#: what it was configured for.
OFTEN_TOO_LARGE = 16 * 1024 * 1024

T = TypeVar("T")

# How many characters a short string surely holds, if each takes one byte.
_SURELY_SHORT = 255


class PublisherHost(Protocol):
    """Whom a publisher belongs to: a ``Client``."""

    @property
    def protocol(self) -> AMQPProtocol:
        """The connection."""

    @property
    def operations(self) -> Predecessors:
        """What the program has called."""


class Publisher:
    """Publishes on a channel of its own, which is replaced when the broker closes it over a message.

    ``Client.publisher`` makes one.

    Args:
        client: Whose connection it uses.
        confirm: Whether the broker shall speak of each message.  Without that a Deferred fires with None
            as soon as the message is on its way.  What is lost with a channel is only logged.
        mandatory: Whether messages that reach no queue fail as ``Unroutable``, unless a publish says
            otherwise.
        persistent: Whether messages that have no ``delivery_mode`` shall outlive the broker's restart.
        message_ids: Whether messages that have no ``message_id`` get one.
        impersonate: Whether ``user_id`` may be another than the login.
        max_outstanding: How many messages may wait for the broker's word.
        max_waiting: How many may wait for their turn; more fail with ``OutboxFull``.
        confirm_timeout: Seconds after which a message that the broker has not spoken of fails with
            ``ConfirmTimeout``, or an eighth later.  It stands still while the broker is blocked.
        gate_timeout: Seconds after which a message that waits for its turn fails with ``GateTimeout``.
        max_message_size: The largest body in bytes; None: what the broker allows.

    Raises:
        InvalidParameter: A limit makes no sense.
    """

    def __init__(
        self,
        client: PublisherHost,
        *,
        confirm: bool = True,
        mandatory: bool = True,
        persistent: bool = True,
        message_ids: bool = False,
        impersonate: bool = False,
        max_outstanding: int = 1000,
        max_waiting: int = 100_000,
        confirm_timeout: float = 30.0,
        gate_timeout: float = 60.0,
        max_message_size: int | None = None,
    ) -> None:
        for name, value in (("max_outstanding", max_outstanding), ("max_waiting", max_waiting)):
            if type(value) is not int or value < 1:
                raise InvalidParameter(name, "must be a whole number from 1 on")
        for name, limit in (("confirm_timeout", confirm_timeout), ("gate_timeout", gate_timeout)):
            _check_seconds(name, limit)
        if max_message_size is not None and (type(max_message_size) is not int or max_message_size < 1):
            raise InvalidParameter("max_message_size", "must be a whole number from 1 on, or None")
        self.protocol = protocol = client.protocol
        self.confirm = confirm
        self.mandatory = mandatory
        self._max_message_size = max_message_size
        self._small = min(OFTEN_TOO_LARGE, max_message_size or OFTEN_TOO_LARGE)
        parameters = protocol.parameters
        self._outgoing = Outgoing(
            persistent=persistent,
            message_ids=message_ids,
            login=None if parameters.mechanism == "EXTERNAL" else parameters.username,
            impersonate=impersonate,
            tuning=protocol.tuning,
        )
        self._gate = Gate(
            protocol,
            client.operations,
            confirm=confirm,
            limits=Limits(max_outstanding, max_waiting, confirm_timeout, gate_timeout),
            risky=self._is_risky,
        )
        self._most = max_outstanding
        self._outbox = protocol.core.outbox
        self._enough = protocol.core.outbox.high_water
        self._before = client.operations.unfinished
        self._closing = False
        self._closed: Once[None] = Once()

    def __repr__(self) -> str:
        return f"<Publisher on {self.protocol!r}, {self.outstanding} outstanding, {self.waiting} waiting>"

    @property
    def outstanding(self) -> int:
        """How many messages wait for the broker's word."""
        return len(self._gate.entries)

    @property
    def waiting(self) -> int:
        """How many messages wait for their turn."""
        return self._gate.waiting

    @property
    def moved(self) -> int:
        """How many messages were sent again, because the channel was closed before their turn."""
        return self._gate.moved

    # ----------------------------------------------------------------------- what the user calls

    def publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool | None = None,
        timeout: float | None = None,
        **fields: Unpack[PropertyFields],
    ) -> Deferred[Confirmed | None]:
        """Publish a message.

        It waits for its turn behind earlier ones while the broker is blocked or asks for a pause, the
        transport is full, or too many wait for confirms.  The first message to an exchange travels
        alone: if the exchange is missing, the broker closes the channel, and nobody else is on it.

        Args:
            body: The content; a ``bytearray`` or ``memoryview`` is copied.
            exchange: Where to; ``""`` is the default exchange, which routes to the queue of that name.
            routing_key: At most 255 bytes in UTF-8.
            properties: One object for many messages is checked and encoded only once.
            mandatory: None: as the publisher was made.
            timeout: Seconds in which the outcome must be known; None: the publisher's own limits.
            **fields: Properties by name, which stand above those in ``properties``.

        Returns:
            A Deferred of ``Confirmed`` (None without confirms).  It fails with exactly one of

            * ``Unroutable``: it reached no queue, and is held by the error;
            * ``Nacked``: a queue refused it;
            * ``NotFound``, ``AccessRefused``, ``PreconditionFailed``: the broker closed the channel over
              this very message;
            * ``NotPublished`` (``GateTimeout``, ``OutboxFull``): it is certainly not there;
            * ``OutcomeUnknown`` (``ConfirmTimeout``): it may be there or not.

            Cancelled before it was written, it fails with ``NotPublished``; afterwards with
            ``CancelledError``, and the message is out of reach.

        Raises:
            EncodeError: Something does not fit on the wire; nothing was sent.
            InvalidParameter: The timeout makes no sense; nothing was sent.
        """
        if type(body) is not bytes:
            body = _as_bytes(body)
        if timeout is not None:
            _check_seconds("timeout", timeout)
        if mandatory is None:
            mandatory = self.mandatory
        outgoing = self._outgoing
        if fields or properties is not outgoing.given:
            properties = outgoing.prepare(properties, fields)
        else:
            properties = outgoing.prepared
        # This runs for every message, so what else is to be asked is asked here, and costs no call.
        publish = Publish()
        publish.gate = gate = self._gate
        if (
            gate.ready
            and exchange in gate.proven
            and len(gate.entries) < self._most
            and self._outbox.size <= self._enough
            and len(body) <= self._small
            and timeout is None
            and not self._before
            and not (outgoing.wary and outgoing.is_foreign(properties))
        ):
            try:
                if not gate.core.publish(publish, body, exchange, routing_key, properties, mandatory):
                    publish.callback(None)
                return publish
            except (Closed, NotPublished):
                pass  # the channel has just ended, and the gate is about to hear of it
        publish.content = content = (body, exchange, routing_key, properties, mandatory)
        self._check(content)
        gate.line_up(publish)
        if timeout is not None:
            self._limit(publish, timeout)
        return publish

    def _check(self, content: Content) -> None:
        """Refuse what could be refused only when its turn has come.

        Raises:
            EncodeError: It does not fit.
        """
        body, exchange, routing_key, _, mandatory = content
        if self._max_message_size is not None and len(body) > self._max_message_size:
            raise EncodeError(f"has {len(body)} bytes, the publisher allows {self._max_message_size}", "body")
        for name in (exchange, routing_key):
            if type(name) is not str or len(name) > _SURELY_SHORT or not name.isascii():
                BasicPublish(exchange, routing_key, mandatory).encode()

    def _is_risky(self, content: Content) -> bool:
        return len(content[0]) > OFTEN_TOO_LARGE or self._outgoing.is_foreign(content[3])

    def _limit(self, publish: Publish, seconds: float) -> None:
        def too_late() -> None:
            if publish.since is None:
                publish.give_up(ConfirmTimeout(seconds))
            else:
                publish.give_up(GateTimeout(seconds, self._gate.why(publish)))

        def ended(result: T) -> T:
            if timer.active():
                timer.cancel()
            return result

        timer = self.protocol.clock.callLater(seconds, too_late)
        publish.addBoth(ended)

    def flush(self) -> Deferred[None]:
        """Return a Deferred that fires once each publish so far has its outcome; it never fails."""
        return self._gate.mark(settled=True)

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires once no publish waits for its turn: for loops that make many."""
        return self._gate.mark(settled=False)

    def affected_by(self, footprint: Footprint) -> Deferred[None] | None:
        """Return a Deferred that fires once an operation can overtake no publish so far, or None."""
        queues = {name[1] for name in (*footprint.writes, *footprint.reads) if name[0] == "queue"}
        routes = any(name[0] != "queue" for name in footprint.writes)

        def concerns(exchange: str, routing_key: str) -> bool:
            # Only bindings, which the broker knows, tell where a message goes by a named exchange.
            return routing_key in queues if not exchange else bool(queues or routes)

        return self.flush() if self._gate.affects(concerns) else None

    def publish_many(
        self,
        messages: Iterable[Item],
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool | None = None,
        **fields: Unpack[PropertyFields],
    ) -> Deferred[Summary]:
        """Publish many messages, as fast as the gate lets them through.

        The messages are taken from the iterable only when there is room for them, so that it may be endless
        for what memory there is.  One that fails does not stop the others.

        Args:
            messages: Bodies; or pairs of a body and a dict of ``publish``'s other arguments for it.
            exchange: As in ``publish``; the other arguments likewise, for all messages.

        Returns:
            A Deferred of a ``Summary``, which fails if the iterable raises, or yields something that cannot
            be published: with that error, once the messages before it have their outcomes.  Cancelling it
            takes no more messages.  Neither does a publisher that is closed, or has lost its connection:
            then the summary is not ``complete``, and the rest is still in the iterator.
        """
        common = {
            "exchange": exchange,
            "routing_key": routing_key,
            "properties": self._outgoing.merge(properties, fields),
            "mandatory": mandatory,
        }
        return Bulk(self, iter(messages), common).summary

    def when_closed(self) -> Deferred[None]:
        """Return a Deferred that fires once ``close`` has come to its end."""
        return self._closed.wait()

    def close(self, timeout: float = 30.0) -> Deferred[None]:
        """Take no more messages, wait for the outcome of those that were taken, and close the channel.

        Args:
            timeout: Seconds; what has no outcome by then fails with ``NotPublished`` or ``OutcomeUnknown``.

        Returns:
            A Deferred that fires when all is done; it never fails.  Closing twice is harmless.

        Raises:
            InvalidParameter: ``timeout`` is no number of seconds; nothing is closed.
        """
        if not 0 <= timeout < inf:
            raise InvalidParameter("timeout", "must be a number of seconds from 0 on")
        if not self._closing:
            self._closing = True
            reason = ConnectionClosed("the publisher was closed", by_peer=False)
            self._gate.shut(reason)
            done = self.flush().addTimeout(timeout, self.protocol.clock)
            done.addBoth(lambda _: self._gate.close(reason))
            done.addBoth(lambda _: self._closed.fire(None))
        return self._closed.wait()


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise EncodeError(f"must be bytes, not {type(body).__name__}", "body")


def _check_seconds(name: str, value: float) -> None:
    if not 0 < value < inf:
        raise InvalidParameter(name, "must be a number of seconds above 0")
