"""Publishes, gets and acks of a thread that take effect together, or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import Self, Unpack

from twisted.internet.defer import Deferred

from txamqpx import transaction as asynchronous
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery, for_threads
from txamqpx.blocking.operation import USUAL, Timeout
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Transaction"]


class Transaction:
    """What is done on it takes effect with ``commit``; ``BlockingClient.transaction`` makes it.

    ::

        with client.transaction() as tx:
            delivery = tx.get("orders")
            tx.publish(b"done", routing_key="results")
            delivery.ack()

    At the end of the block it is committed; if the block raises, it is rolled back.  What is promised is
    what the asynchronous ``Transaction`` promises.
    """

    def __init__(self, transaction: asynchronous.Transaction, calls: Calls) -> None:
        self._transaction = transaction
        self._calls = calls

    def __repr__(self) -> str:
        return repr(self._transaction)

    def __enter__(self) -> Self:
        """Begin."""
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Commit, or roll back if the block has raised."""

        def leave() -> Deferred[None]:
            return Deferred.fromCoroutine(self._transaction.__aexit__(kind, error, where))

        self._calls.finish("commit" if error is None else "rollback", leave)

    def begin(self, *, timeout: Timeout = USUAL) -> Self:
        """Begin, once all that the client was asked for before has taken effect."""
        self._calls.finish("tx_select", self._transaction.begin, timeout)
        return self

    def commit(self, *, timeout: Timeout = USUAL) -> None:
        """Let take effect what was done since the beginning, or the last commit.

        Raises:
            ChannelClosed: There was something wrong with it; nothing has taken effect.
            WaitTimeout: The broker has not answered; nobody knows whether it has taken effect.
        """
        self._calls.finish("commit", self._transaction.commit, timeout)

    def rollback(self, *, timeout: Timeout = USUAL) -> None:
        """Take back what was published since then; what was acked can be settled again."""
        self._calls.finish("rollback", self._transaction.rollback, timeout)

    def close(self, *, timeout: Timeout = USUAL) -> None:
        """End it; what was not committed is taken back, what was not settled is given back."""
        self._calls.finish("close", self._transaction.close, timeout)

    def publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: BasicProperties | None = None,
        mandatory: bool = False,
        timeout: Timeout = USUAL,
        **fields: Unpack[PropertyFields],
    ) -> None:
        """Publish a message with the commit, which is where it shows what goes wrong.

        Args:
            body: The content.
            exchange: Where to.
            routing_key: At most 255 bytes in UTF-8.
            properties: See ``BasicProperties``.
            mandatory: Whether the delegate's ``message_returned`` shall hear if it reaches no queue.
            timeout: Seconds until the message is on its way.
            **fields: Properties by name, which stand above those in ``properties``.

        Raises:
            EncodeError: A property does not fit on the wire.
        """
        self._calls.finish(
            "publish",
            lambda: self._transaction.publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=mandatory,
                **fields,
            ),
            timeout,
        )

    def get(self, queue: str, *, no_ack: bool = False, timeout: Timeout = USUAL) -> Delivery | None:
        """Take one message, or None if there is none; its ack takes effect with the commit.

        Args:
            queue: Its name.
            no_ack: The broker forgets the message as soon as it is sent.
            timeout: Seconds.

        Raises:
            ChannelClosed: There is no such queue, or it may not be read; the transaction is over.
            WaitTimeout: The broker has not answered in time.
        """

        def get() -> Deferred[Delivery | None]:
            return self._transaction.get(queue, no_ack=no_ack).addCallback(for_threads, self._calls)

        return self._calls.finish("get", get, timeout)
