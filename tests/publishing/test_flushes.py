"""Who waits until everything so far has its outcome."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from txamqpx.protocol.confirms import ConfirmLedger
from txamqpx.publishing.flushes import Flushes
from txamqpx.publishing.turns import Mark
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.testing import is_pending


def _ledger(*tokens: Deferred[Any]) -> ConfirmLedger:
    ledger = ConfirmLedger()
    for token in tokens:
        ledger.register((token, 0, "", "", False, BasicProperties(), b""))
    return ledger


def _mark() -> Mark:
    return Mark(True, Deferred())


def _is_settled(flushes: Flushes) -> bool:
    return flushes.settled


def test_a_mark_is_passed_when_all_before_it_have_their_outcomes() -> None:
    one: Deferred[None] = Deferred()
    two: Deferred[None] = Deferred()
    ledger, flushes = _ledger(one), Flushes()
    assert _is_settled(flushes)
    flushes.begin(ledger)
    first, second = _mark(), _mark()
    flushes.add(first)
    ledger.register((two, 0, "", "", False, BasicProperties(), b""))
    flushes.add(second)
    flushes.fire()
    assert not _is_settled(flushes)
    one.callback(None)  # in its own time: the ledger knows nothing of it
    flushes.fire()
    assert not is_pending(first.deferred)
    assert is_pending(second.deferred)
    ledger.take(2)
    assert _is_settled(flushes)
    flushes.fire()
    assert not is_pending(second.deferred)


def test_what_is_given_up_at_the_end_of_the_ledger_counts() -> None:
    flushes = Flushes()
    flushes.begin(_ledger(succeed(None), succeed(None)))
    assert _is_settled(flushes)
    flushes.begin(_ledger(succeed(None), Deferred()))
    assert not _is_settled(flushes)


def test_marks_can_be_forgotten_and_taken() -> None:
    flushes = Flushes()
    flushes.begin(_ledger(Deferred()))
    forgotten, taken = _mark(), _mark()
    flushes.add(forgotten)
    flushes.add(taken)
    flushes.forget(forgotten)
    flushes.forget(forgotten)
    assert flushes.take() == [(taken, 2)]
    assert flushes.take() == []
