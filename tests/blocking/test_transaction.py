"""Transactions of threads."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.blocking.doubles import Asked, asked, parameters, samples
from tests.blocking.test_delivery import Received
from txamqpx import transaction as asynchronous
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.transaction import Transaction
from txamqpx.errors import PreconditionFailed, WaitTimeout

CALLS = ("begin", "commit", "rollback", "close", "publish", "get")


def transaction(double: object, calls: Calls) -> Transaction:
    return Transaction(cast(asynchronous.Transaction, double), calls)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_that_of_the_transaction_and_waits(name: str, calls: Calls) -> None:
    double = Asked(get=None)
    ours = getattr(transaction(double, calls), name)
    assert parameters(ours) == parameters(getattr(asynchronous.Transaction, name))
    assert asked(ours, double, samples(ours)) == (name, samples(ours))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_a_limit(name: str, calls: Calls) -> None:
    ours = getattr(transaction(Asked(**{name: Deferred()}), calls), name)
    with pytest.raises(WaitTimeout):
        ours(**samples(ours), timeout=0.01)


def test_what_it_gets_is_for_threads(calls: Calls) -> None:
    delivery = transaction(Asked(get=Received()), calls).get("q")
    assert isinstance(delivery, Delivery)
    assert delivery.body == b"body"


def test_properties_go_with_a_publish(calls: Calls) -> None:
    double = Asked()
    transaction(double, calls).publish(b"", priority=3)
    assert double.calls[0][2]["priority"] == 3


class Block:
    """A transaction that can be entered, and left."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.told: list[Any] = []

    def __repr__(self) -> str:
        return "<Transaction on a channel>"

    def begin(self) -> Deferred[Any]:
        self.told.append("begin")
        return succeed(self)

    async def __aexit__(self, kind: Any, error: Any, where: Any) -> None:
        self.told.append(error)
        if self.refusal is not None:
            raise self.refusal


def test_a_block_begins_and_commits(calls: Calls) -> None:
    block = Block()
    with transaction(block, calls) as tx:
        assert isinstance(tx, Transaction)
        assert block.told == ["begin"]
    assert block.told == ["begin", None]
    assert repr(tx) == "<Transaction on a channel>"


def test_a_block_that_raises_says_so(calls: Calls) -> None:
    block, error = Block(), ValueError("no")
    with pytest.raises(ValueError, match="no"), transaction(block, calls):
        raise error
    assert block.told == ["begin", error]


def test_a_commit_that_fails_is_raised_by_the_block(calls: Calls) -> None:
    with pytest.raises(PreconditionFailed), transaction(Block(PreconditionFailed("no")), calls):
        pass
