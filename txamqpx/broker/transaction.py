"""Transactions: publishes and settlements that wait for a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from txamqpx.broker.consuming import CONSUMING, Consumes
from txamqpx.broker.message import Entry, Message
from txamqpx.broker.publishing import Destination, Publishes
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.reply_to import ReplyTo
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["TRANSACTIONS", "Transaction"]

#: Does with a list of delivery tags what was asked for.
Settle = Callable[[Sequence[int]], None]


class Transacting(Consumes, Publishes, Protocol):
    """A channel that both publishes and consumes."""

    transaction: Transaction | None


class Transaction:
    """What has been asked of a channel since its last commit.

    Args:
        channel: The channel, which is in transaction mode from now on.
    """

    def __init__(self, channel: Transacting) -> None:
        self._channel = channel
        self._profile = channel.vhost.broker.profile
        self._published: list[tuple[Message, Sequence[Destination]]] = []
        self._settled: list[tuple[Settle, dict[int, Entry]]] = []

    # ----------------------------------------------------------------------- what waits

    def publish(self, message: Message, destinations: Sequence[Destination]) -> None:
        """Keep a message that has been routed: its ways are those of now, and not those of the commit."""
        if not self._profile.replies_are_queues:
            replies = [one for one in destinations if isinstance(one, ReplyTo)]
            for reply in replies:  # which do not wait
                reply.publish(message)
            destinations = [one for one in destinations if one not in replies]
        self._published.append((message, destinations))

    def messages(self) -> Iterator[Message]:
        """Yield what was published, which takes room even though no queue has it."""
        return (message for message, _ in self._published)

    def ack(self, words: Iterable[tuple[int, bool]]) -> None:
        """Keep acks.

        Raises:
            Refusal: 406, a tag is unknown.
        """
        for tag, multiple in words:
            self._take(self._ack, tag, multiple)

    def nack(self, method: amqp.BasicNack) -> None:
        """Keep a nack.

        Raises:
            Refusal: 406, a tag is unknown.
        """
        settle = self._nack_requeue if method.requeue else self._nack_discard
        self._take(settle, method.delivery_tag, method.multiple)

    def reject(self, method: amqp.BasicReject) -> None:
        """Keep a reject.

        Raises:
            Refusal: 406, the tag is unknown.
        """
        settle = self._reject_requeue if method.requeue else self._reject_discard
        self._take(settle, method.delivery_tag, False)

    def _take(self, settle: Settle, tag: int, multiple: bool) -> None:
        unsettled = self._channel.consuming.unsettled
        tags = [one for one in unsettled.held if not tag or one <= tag] if multiple else [tag]
        entries = unsettled.take(tag, multiple)
        self._settled.append((settle, dict(zip(tags, entries, strict=True))))

    # ----------------------------------------------------------------------- what becomes of it

    def commit(self) -> None:
        """Let it all take effect, and say so: after what was published, before what was settled.

        Raises:
            Refusal: 406, not all of it can; 506, a queue is gone.
        """
        settled = [(settle, list(entries)) for settle, entries in self._settled]
        published, self._published = self._published, []
        self._put_back()
        deliver = self._channel.publishing.deliver
        complete = True
        for message, ways in published:
            complete &= deliver(message, self._found_again(message, ways))
        if complete:
            self._channel.core.send(amqp.TxCommitOk())
        for settle, tags in settled:
            settle(tags)
        if not complete:
            raise Refusal(406, "partial tx completion")

    def roll_back(self) -> None:
        """Forget it: the deliveries wait to be settled again."""
        self._published.clear()
        self._put_back()

    def _put_back(self) -> None:
        settled, self._settled = self._settled, []
        held = self._channel.consuming.unsettled.held
        for _, entries in settled:
            held.update(entries)
        ordered = sorted(held.items())
        held.clear()
        held.update(ordered)

    def _found_again(self, message: Message, destinations: Sequence[Destination]) -> Sequence[Destination]:
        vhost = self._channel.vhost
        if self._profile.transactions_keep_names:
            names = [one.name for one in destinations] if message.exchange else message.keys
            return [vhost.queues[name] for name in dict.fromkeys(names) if name in vhost.queues]
        for one in destinations:
            if one.deleted and one.name not in vhost.queues:
                where = f'{{not_found,{{resource,<<"{vhost.name}">>,queue,<<"{one.name}">>}}}}'
                raise Refusal(506, f"failed to deliver message: {where}", hard=True)
        return destinations

    # ----------------------------------------------------------------------- settling

    def _ack(self, tags: Sequence[int]) -> None:
        self._channel.consuming.unsettled.ack((tag, False) for tag in tags)

    def _nack_requeue(self, tags: Sequence[int]) -> None:
        self._requeue(tags, failed=self._profile.nack_fails)

    def _reject_requeue(self, tags: Sequence[int]) -> None:
        self._requeue(tags, failed=True)

    def _requeue(self, tags: Sequence[int], *, failed: bool) -> None:
        self._channel.consuming.unsettled.put_back(self._entries(tags), failed=failed)

    def _nack_discard(self, tags: Sequence[int]) -> None:
        self._discard(tags, failed=self._profile.nack_fails)

    def _reject_discard(self, tags: Sequence[int]) -> None:
        self._discard(tags, failed=True)

    def _discard(self, tags: Sequence[int], *, failed: bool) -> None:
        self._channel.consuming.unsettled.discard(self._entries(tags), failed=failed)

    def _entries(self, tags: Sequence[int]) -> list[Entry]:
        held = self._channel.consuming.unsettled.held
        return [held.pop(tag) for tag in tags]


# --------------------------------------------------------------------------- methods


def _select(channel: Transacting, method: amqp.TxSelect) -> Method:
    if channel.publishing.last is not None:
        raise Refusal(406, "cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = channel.publishing.transaction = Transaction(channel)
    return amqp.TxSelectOk()


def _of(channel: Transacting) -> Transaction:
    if channel.transaction is None:
        raise Refusal(406, "channel is not transactional")
    return channel.transaction


def _commit(channel: Transacting, method: amqp.TxCommit) -> None:
    _of(channel).commit()


def _rollback(channel: Transacting, method: amqp.TxRollback) -> Method:
    _of(channel).roll_back()
    return amqp.TxRollbackOk()


def _nack(channel: Transacting, method: amqp.BasicNack) -> Method | None:
    if channel.transaction is None:
        return CONSUMING[method.index](channel, method)
    channel.transaction.nack(method)
    return None


def _reject(channel: Transacting, method: amqp.BasicReject) -> Method | None:
    if channel.transaction is None:
        return CONSUMING[method.index](channel, method)
    channel.transaction.reject(method)
    return None


#: What channels do that transactions have a part in.
TRANSACTIONS: Mapping[int, Callable[[Any, Any], Method | None]] = {
    amqp.TxSelect.index: _select,
    amqp.TxCommit.index: _commit,
    amqp.TxRollback.index: _rollback,
    amqp.BasicNack.index: _nack,
    amqp.BasicReject.index: _reject,
}
