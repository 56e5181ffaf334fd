"""Publishes, gets and acks that take effect together, or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

from attrs import Factory, define
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.python.failure import Failure

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.declaration import named
from txamqpx.errors import AMQPError, Closed, LocalProtocolError, NotProcessed, TopologyError, twin
from txamqpx.message import Delivery
from txamqpx.once import Once
from txamqpx.ordering import Operations
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.spec.amqp0_9_1 import BasicGet, BasicProperties

__all__ = ["Transaction"]

T = TypeVar("T")


class TransactionHost(Protocol):
    """Whom a transaction belongs to: a ``Client``."""

    @property
    def protocol(self) -> AMQPProtocol:
        """The connection."""

    @property
    def operations(self) -> Operations:
        """What the program has called."""

    def flush(self) -> Deferred[None]:
        """Fire when each publish so far has its outcome."""

    def adopt(self, thing: Transaction) -> None:
        """Have ``thing`` drained at the end."""

    def release(self, thing: Transaction) -> None:
        """Take note that it has ended."""


@define(eq=False)
class _Turn:
    """A place in the line."""

    come: Deferred[None] = Factory(Deferred)
    #: Whether what the client was asked for before it has taken effect.
    is_due: bool = False


class Transaction:
    """A channel in transaction mode: what is done on it takes effect with ``commit``.

    ``Client.transaction`` makes one::

        async with client.transaction() as tx:
            delivery = await tx.get("orders")
            tx.publish(b"done", routing_key="results")
            delivery.ack()

    At the end of the block it is committed; if the block raises, it is rolled back: nothing was published,
    and what was taken is given back.  The broker promises that only for one queue at a time: if it dies in
    the middle of a commit that concerns several, some may have it and others not.

    Args:
        host: Whose connection it uses.
    """

    def __init__(self, host: TransactionHost) -> None:
        self._host = host
        self._begun = False
        self._channel: Channel | None = None
        # What waits for its turn.
        self._line: deque[_Turn] = deque()
        # Why the next commit cannot be the one that was meant.
        self._spoiled: Failure | None = None
        self._ended: Once[None] = Once()

    def __repr__(self) -> str:
        return f"<Transaction on {self._channel!r}>"

    @property
    def channel(self) -> Channel:
        """Its channel, for what is not a method here, such as ``basic_consume``.

        Raises:
            LocalProtocolError: It has not begun.
        """
        if self._channel is None:
            raise LocalProtocolError("the transaction has not begun; use `async with`, or wait for begin()")
        return self._channel

    async def __aenter__(self) -> Self:
        """Begin."""
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Commit, or roll back if the block has raised."""
        try:
            if error is None:
                await self.commit()
            else:
                with suppress(AMQPError):  # then the channel is gone, and with it what was not committed
                    await self.rollback()
        finally:
            await self.close()

    # ----------------------------------------------------------------------- without a block

    def begin(self) -> Deferred[Self]:
        """Open the channel, once all that the client was asked for before has taken effect.

        Raises:
            LocalProtocolError: It has begun already; after a commit it just goes on.
        """
        if self._begun:
            raise LocalProtocolError("the transaction has begun already")
        self._begun = True
        return Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> Self:
        self._host.adopt(self)
        try:
            await self._host.operations.when_idle()
            await self._host.flush()
            self._channel = await self._host.protocol.open_channel()
            await self._channel.tx_select()
        except Exception:
            await self.close()
            raise
        return self

    def commit(self) -> Deferred[None]:
        """Let take effect what was done since the beginning, or the last commit.

        Returns:
            A Deferred that fails with the error that there was with any of it; nothing has taken effect
            then.  If the connection ends before the answer, nobody knows.
        """
        return self._in_turn(self._commit)

    def _commit(self) -> Deferred[None]:
        spoiled, self._spoiled = self._spoiled, None
        if spoiled is None:
            return self.channel.tx_commit().addCallbacks(_to_none, _as_caused)
        return self.channel.tx_rollback().addBoth(lambda _: spoiled)

    def rollback(self) -> Deferred[None]:
        """Take back what was published since then; what was acked can be settled again."""
        return self._in_turn(self._rollback)

    def _rollback(self) -> Deferred[None]:
        self._spoiled = None
        return self.channel.tx_rollback().addCallback(_to_none)

    def close(self) -> Deferred[None]:
        """End it; what was not committed is taken back, what was not settled is given back."""
        self._host.release(self)
        if not self._ended.fired:
            self._ended.fire(None)
        if self._channel is None:
            return self._ended.wait()
        return self._channel.close().addErrback(_to_none)

    def drain(self, timeout: float) -> Deferred[None]:
        """Return a Deferred that fires when it has ended: it belongs to somebody's block."""
        return self._ended.wait()

    # ----------------------------------------------------------------------- what is done in it

    def publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool = False,
        **fields: Unpack[PropertyFields],
    ) -> Deferred[None]:
        """Publish a message with the commit.

        Args:
            body: The content.
            exchange: Where to; that it is missing shows in the commit.
            routing_key: At most 255 bytes in UTF-8.
            properties: See ``BasicProperties``.
            mandatory: Whether the delegate's ``message_returned`` shall hear if it reaches no queue.
            **fields: Properties by name, which stand above those in ``properties``.

        Returns:
            A Deferred that fires when the message is on its way; there is no need to wait for it, and it
            does not fail: what goes wrong shows in the commit.

        Raises:
            EncodeError: A property does not fit on the wire.
        """
        made = (BasicProperties() if properties is None else properties).replace(**fields)

        def publish() -> Deferred[None]:
            sent = self.channel.basic_publish(
                body, exchange=exchange, routing_key=routing_key, properties=made, mandatory=mandatory
            )
            return sent.addCallback(_to_none)

        return self._in_turn(publish).addErrback(self._spoil)

    def _spoil(self, failure: Failure) -> None:
        self._spoiled = self._spoiled or failure

    def get(self, queue: str, *, no_ack: bool = False) -> Deferred[Delivery | None]:
        """Take one message, or None if there is none; its ack takes effect with the commit.

        It fails with ``TopologyError`` if the client has declared the queue as a stream.

        Raises:
            InvalidParameter: The name is empty.
        """
        method = BasicGet(named(queue), no_ack)

        def get() -> Deferred[Delivery | None]:
            try:
                self._host.operations.queue_types.check(method)
            except TopologyError:
                return fail()
            return self.channel.basic_get(queue, no_ack=no_ack)

        return self._in_turn(get)

    def _in_turn(self, start: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Do something once what the client was asked for before has taken effect."""
        if self.channel.core.error is not None:
            return fail(self.channel.core.refusal("a transaction"))
        before = [self._host.operations.when_idle(), self._host.flush()]
        if not self._line and all(each.called for each in before):
            return start()
        turn = _Turn()
        self._line.append(turn)
        DeferredList(before).addCallback(self._advance, turn)
        return turn.come.addCallback(lambda _: start())

    def _advance(self, _: object, turn: _Turn) -> None:
        turn.is_due = True
        while self._line and self._line[0].is_due:
            come = self._line.popleft().come
            if not come.called:  # it was cancelled
                come.callback(None)


def _to_none(_: object) -> None:
    return None


def _as_caused(failure: Failure) -> Failure:
    """Return the reason why a commit was not dealt with: the publish that the broker disliked."""
    error = failure.value
    if isinstance(error, NotProcessed) and isinstance(error.__cause__, Closed):
        return Failure(twin(error.__cause__))
    return failure
