"""What requests wait for, and who waits for them; what they do together is in `test_caller.py`."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from txamqpx.ordering import Footprint, Operations
from txamqpx.rpc import order
from txamqpx.rpc.order import Barriers, Unsettled
from txamqpx.spec.amqp0_9_1 import ExchangeDeclareOk
from txamqpx.testing import failure_of, is_pending, scripted, success_of


def test_a_flush_waits_for_what_was_there_and_not_for_what_comes() -> None:
    unsettled = Unsettled()
    success_of(unsettled.flush())
    first, second = unsettled.add("", "a"), unsettled.add("", "b")
    flush, given_up = unsettled.flush(), unsettled.flush()
    third = unsettled.add("", "c")
    given_up.cancel()
    failure_of(given_up, CancelledError)
    unsettled.settle(second)
    unsettled.settle(second)
    assert is_pending(flush)
    unsettled.settle(first)
    success_of(flush)
    last = unsettled.flush()
    assert is_pending(last)
    unsettled.settle(third)
    success_of(last)


def test_only_what_has_a_name_in_common_is_of_concern() -> None:
    unsettled = Unsettled()
    unsettled.add("", "q")
    assert unsettled.concern(Footprint(reads=(("queue", "q"),)))
    assert not unsettled.concern(Footprint(writes=(("queue", "other"), ("exchange", "x"))))
    unsettled.add("x", "k")
    assert unsettled.concern(Footprint(writes=(("binding", "q2", "x"),)))
    assert not unsettled.concern(Footprint(reads=(("exchange", "x"),)))


def test_requests_made_during_one_operation_share_a_barrier() -> None:
    peer = scripted()
    peer.open()
    operations = Operations(peer.protocol)
    passed: list[None] = []
    barriers = Barriers(operations, lambda: passed.append(None), lambda: None)
    assert barriers.before("") == []
    ends: list[Deferred[None]] = [Deferred(), Deferred()]
    operations.run(lambda: ends[0], Footprint())
    (first,), (again,) = barriers.before(""), barriers.before("")
    operations.run(lambda: ends[1], Footprint())
    (second,) = barriers.before("")
    assert first is again
    assert first is not second
    ends[0].callback(None)
    assert (first.called, second.called) == (True, False)
    ends[1].callback(None)
    assert second.called
    assert len(passed) == 2


def test_exchanges_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_EXCHANGES", 2)
    peer = scripted()
    peer.open()
    asked = []

    class Counting(Operations):
        def call(self, method, *arguments, **options):  # type: ignore[no-untyped-def]
            asked.append(method.exchange)
            answered: Deferred[ExchangeDeclareOk] = Deferred()
            answered.callback(ExchangeDeclareOk())
            return answered

    barriers = Barriers(Counting(peer.protocol), lambda: None, lambda: None)
    for exchange in "aabac":
        assert all(barrier.called for barrier in barriers.before(exchange))
    assert asked == ["a", "b", "c"]
    barriers.before("a")
    assert asked == ["a", "b", "c", "a"]
