from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.talk import opened
from txamqpx.client import Client
from txamqpx.errors import (
    ConnectionClosed,
    ConnectionLost,
    EncodeError,
    InvalidParameter,
    LocalProtocolError,
    NotFound,
    OutboxFull,
)
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicGet,
    BasicGetOk,
    BasicProperties,
    BasicPublish,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    QueueDeclare,
    QueueDeclareOk,
    TxCommit,
    TxCommitOk,
    TxRollback,
    TxRollbackOk,
    TxSelect,
    TxSelectOk,
)
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, success_of
from txamqpx.transaction import Transaction


@pytest.fixture
def peer() -> ScriptedPeer:
    return opened()


@pytest.fixture
def client(peer: ScriptedPeer) -> Client:
    return Client(peer.protocol)


def accept(peer: ScriptedPeer) -> int:
    number = peer.expect(ChannelOpen).channel
    peer.send(number, ChannelOpenOk())
    peer.expect(TxSelect, number)
    peer.send(number, TxSelectOk())
    return number


@pytest.fixture
def tx(peer: ScriptedPeer, client: Client) -> Transaction:
    """Return a transaction that has begun, on channel 1."""
    begun = client.transaction().begin()
    assert accept(peer) == 1
    return success_of(begun)


def end(peer: ScriptedPeer, number: int = 1) -> None:
    peer.expect(ChannelClose, number)


@pytest.mark.covers("S55")
def test_a_block_is_committed_at_its_end(peer: ScriptedPeer, client: Client) -> None:
    async def block() -> str:
        async with client.transaction() as tx:
            delivery = await tx.get("q")
            assert delivery is not None
            tx.publish(b"done", exchange="x", routing_key="k", delivery_mode=2)
            delivery.ack()
            return "result"

    result = Deferred.fromCoroutine(block())
    accept(peer)
    peer.expect(BasicGet("q", False), 1)
    peer.send(1, BasicGetOk(1, False, "", "q", 0), b"work")
    published = peer.expect(BasicPublish("x", "k"), 1)
    assert (published.body, published.properties) == (b"done", BasicProperties(delivery_mode=2))
    peer.expect(BasicAck(1, False), 1)
    peer.expect(TxCommit, 1)
    assert is_pending(result)
    peer.send(1, TxCommitOk())
    end(peer)
    assert success_of(result) == "result"


@pytest.mark.covers("S55")
def test_a_block_that_raises_is_rolled_back(peer: ScriptedPeer, client: Client) -> None:
    async def block() -> None:
        async with client.transaction() as tx:
            tx.publish(b"done", properties=BasicProperties(type="t"), app_id="a", mandatory=True)
            raise ZeroDivisionError

    result = Deferred.fromCoroutine(block())
    accept(peer)
    published = peer.expect(BasicPublish("", "", True), 1)
    assert published.properties == BasicProperties(type="t", app_id="a")
    peer.expect(TxRollback, 1)
    peer.send(1, TxRollbackOk())
    end(peer)
    failure_of(result, ZeroDivisionError)


def test_a_block_that_raises_says_why_although_the_connection_is_lost(
    peer: ScriptedPeer, client: Client
) -> None:
    async def block() -> None:
        async with client.transaction() as tx:
            with suppress(ConnectionLost):
                await tx.get("q")
            raise ZeroDivisionError

    result = Deferred.fromCoroutine(block())
    accept(peer)
    peer.expect(BasicGet)
    peer.hang_up()
    failure_of(result, ZeroDivisionError)


def test_a_commit_fails_with_what_the_broker_says_of_a_publish(peer: ScriptedPeer, tx: Transaction) -> None:
    tx.publish(b"", exchange="missing")
    committed = tx.commit()
    peer.expect(BasicPublish)
    peer.expect(TxCommit)
    peer.send(1, ChannelClose(404, "no exchange 'missing'", 60, 40))
    error = failure_of(committed, NotFound)
    assert error.exchange == "missing"
    assert success_of(tx.publish(b"")) is None  # it shows in the commit
    failure_of(tx.commit(), NotFound)
    failure_of(tx.rollback(), NotFound)


def test_a_commit_fails_with_the_connection(peer: ScriptedPeer, tx: Transaction) -> None:
    committed = tx.commit()
    peer.hang_up()
    failure_of(committed, ConnectionLost)


def test_a_publish_that_could_not_be_sent_spoils_the_commit(tx: Transaction, peer: ScriptedPeer) -> None:
    peer.protocol.core.outbox.most = 100
    assert success_of(tx.publish(b"x" * 1000)) is None  # the first is always taken
    assert success_of(tx.publish(b"y" * 1000)) is None
    peer.wire.pump()
    assert len(peer.heard) == 1
    peer.heard.clear()
    committed = tx.commit()
    peer.expect(TxRollback)
    peer.send(1, TxRollbackOk())
    failure_of(committed, OutboxFull)
    again = tx.commit()
    peer.expect(TxCommit)
    peer.send(1, TxCommitOk())
    assert success_of(again) is None


def test_a_rollback_takes_back_what_could_not_be_sent_as_well(tx: Transaction, peer: ScriptedPeer) -> None:
    peer.protocol.core.outbox.most = 100
    for _ in range(2):
        tx.publish(b"x" * 1000)
    peer.wire.pump()
    peer.heard.clear()
    rolled_back = tx.rollback()
    peer.expect(TxRollback)
    peer.send(1, TxRollbackOk())
    assert success_of(rolled_back) is None
    tx.commit()
    peer.expect(TxCommit)


def test_a_rollback_takes_back_what_will_not_fit_when_its_turn_has_come(
    tx: Transaction, peer: ScriptedPeer, client: Client
) -> None:
    client.queue_declare("q")
    tx.publish(b"", routing_key="k" * 256)
    tx.rollback()
    number = peer.expect(ChannelOpen).channel
    peer.expect(QueueDeclare, number)
    peer.send(number, ChannelOpenOk())
    peer.send(number, QueueDeclareOk("q", 0, 0))
    peer.expect(TxRollback, 1)
    peer.send(1, TxRollbackOk())
    tx.commit()
    peer.expect(TxCommit, 1)


def test_what_does_not_fit_is_refused_at_once(tx: Transaction, peer: ScriptedPeer) -> None:
    unfit: Any = {"priority": "high"}
    with pytest.raises(EncodeError):
        tx.publish(b"", **unfit)
    with pytest.raises(EncodeError):
        tx.publish(b"", routing_key="k" * 256)
    with pytest.raises(InvalidParameter):
        tx.get("")
    peer.expect_nothing()


@pytest.mark.parametrize("order", [("declared", "published"), ("published", "declared")], ids="-".join)
def test_it_begins_after_what_was_called_and_published_before(
    peer: ScriptedPeer, client: Client, order: tuple[str, str]
) -> None:
    client.queue_declare("q")
    published: Deferred[None] = Deferred()
    publisher: Any = Flushing(published)
    client.publishers.append(publisher)
    begun = client.transaction().begin()
    peer.send(peer.expect(ChannelOpen).channel, ChannelOpenOk())
    peer.expect(QueueDeclare)
    for what in order:
        peer.expect_nothing()
        if what == "declared":
            peer.send(1, QueueDeclareOk("q", 0, 0))
        else:
            published.callback(None)
    accept(peer)
    assert success_of(begun).channel.number == 2


def test_what_is_done_in_it_keeps_its_order_whoever_waits_too(
    peer: ScriptedPeer, client: Client, tx: Transaction
) -> None:
    client.queue_declare("q")
    client.operations.when_idle().addCallback(lambda _: tx.publish(b"", routing_key="second"))
    tx.publish(b"", routing_key="first")
    number = peer.expect(ChannelOpen).channel
    peer.expect(QueueDeclare, number)
    peer.send(number, ChannelOpenOk())
    peer.send(number, QueueDeclareOk("q", 0, 0))
    assert [peer.expect(BasicPublish).method.routing_key for _ in range(2)] == ["first", "second"]


def test_what_is_done_in_it_comes_after_what_was_published_before(
    peer: ScriptedPeer, client: Client, tx: Transaction
) -> None:
    published: list[Deferred[None]] = [Deferred(), Deferred()]
    publishers: list[Any] = [Flushing(settled) for settled in published]
    client.publishers = publishers[:1]
    tx.get("q")
    client.publishers = publishers[1:]
    given_up = tx.get("p")
    tx.get("o")
    given_up.cancel()
    failure_of(given_up, CancelledError)
    published[1].callback(None)
    peer.expect_nothing()
    published[0].callback(None)
    assert [peer.expect(BasicGet, 1).method.queue for _ in range(2)] == ["q", "o"]
    peer.expect_nothing()


class Flushing:
    """A publisher with something outstanding."""

    def __init__(self, settled: Deferred[None]) -> None:
        self._settled = settled

    def flush(self) -> Deferred[None]:
        return self._settled

    def affected_by(self, footprint: object) -> None:
        return None


def test_what_is_done_in_it_comes_after_what_was_called_before(
    peer: ScriptedPeer, client: Client, tx: Transaction
) -> None:
    client.queue_declare("q")
    published = tx.publish(b"", routing_key="q")
    got = tx.get("q")
    given_up = tx.get("q")
    given_up.cancel()
    failure_of(given_up, CancelledError)
    number = peer.expect(ChannelOpen).channel
    peer.expect(QueueDeclare, number)
    peer.expect_nothing()
    peer.send(number, ChannelOpenOk())
    peer.send(number, QueueDeclareOk("q", 0, 0))
    peer.expect(BasicPublish, 1)
    peer.expect(BasicGet, 1)
    peer.expect_nothing()
    assert success_of(published) is None
    peer.send(1, BasicGetOk(1, False, "", "q", 0), b"")
    assert isinstance(success_of(got), Delivery)
    tx.publish(b"")
    peer.expect(BasicPublish, 1)


def test_before_it_has_begun_there_is_nothing_to_do(client: Client) -> None:
    tx = client.transaction()
    with pytest.raises(LocalProtocolError, match="has not begun"):
        tx.get("q")
    assert repr(tx) == "<Transaction on None>"


def test_it_begins_once(tx: Transaction) -> None:
    with pytest.raises(LocalProtocolError, match="has begun already"):
        tx.begin()


def test_one_that_cannot_begin_leaves_nothing_behind(peer: ScriptedPeer, client: Client) -> None:
    begun = Watched(client.transaction().begin())
    peer.expect(ChannelOpen)
    peer.send(1, ChannelOpenOk())
    peer.expect(TxSelect)
    peer.send(1, ChannelClose(406, "not here", 90, 10))
    assert begun.failures
    peer.expect(ChannelCloseOk)
    peer.expect_nothing()
    refused = client.transaction().begin()
    refused.cancel()
    failure_of(refused, CancelledError)
    closed = client.close()
    failure_of(client.transaction().begin(), ConnectionClosed)
    peer.wire.pump()
    assert success_of(closed) is None


def test_a_client_that_is_closed_waits_for_the_end_of_the_block(
    peer: ScriptedPeer, client: Client, tx: Transaction
) -> None:
    closed = client.close()
    tx.publish(b"")
    peer.expect(BasicPublish)
    committed = tx.commit()
    peer.expect(TxCommit)
    peer.send(1, TxCommitOk())
    assert success_of(committed) is None
    assert is_pending(closed)
    ended = tx.close()
    peer.wire.pump()
    assert success_of(ended) is None
    assert success_of(closed) is None
    assert client._adopted == []
    assert success_of(tx.close()) is None  # twice does no harm
