from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.consuming.stage import Stage
from tests.logged import LoggedErrors
from txamqpx.consuming.batch import Batch, Bundle
from txamqpx.consuming.settlement import Drop, RetryLater


@pytest.mark.parametrize("options", [{"size": 0}, {"wait": -1.0}])
def test_a_batch_has_some_size_and_some_patience(options: Any) -> None:
    with pytest.raises(ValueError, match="must be >="):
        Batch(**options)


def test_only_what_is_there_can_be_marked() -> None:
    with pytest.raises(IndexError):
        Bundle([]).fail(0, ValueError())


def test_a_full_batch_goes_at_once_and_one_that_is_not_after_a_while() -> None:
    stage, got = Stage(), list[list[bytes]]()

    def handle(bundle: Bundle) -> None:
        got.append([one.body for one in bundle])

    stage.consume(handle, batch=Batch(3, 2.0))
    stage.deliver(b"1", b"2", b"3", b"4")
    assert got == [[b"1", b"2", b"3"]]
    assert stage.take_settled() == [("ack", -3)]
    stage.advance(1.9)
    assert len(got) == 1
    stage.advance(0.1)
    assert got[1:] == [[b"4"]]
    assert stage.take_settled() == [("ack", 4)]
    stage.deliver(b"5", b"6", b"7")  # before the next one's time, which begins with its first
    assert got[2:] == [[b"5", b"6", b"7"]]
    stage.advance(10)
    assert len(got) == 3


def test_what_waits_too_long_goes_as_soon_as_somebody_is_free() -> None:
    stage, work = Stage(), list[Deferred[None]]()
    sizes: list[int] = []

    def handle(bundle: Bundle) -> Deferred[None]:
        sizes.append(len(bundle))
        work.append(Deferred())
        return work[-1]

    stage.consume(handle, batch=Batch(2, 1.0))
    stage.deliver(b"1", b"2", b"3")
    stage.advance(5)
    assert sizes == [2]
    work[0].callback(None)
    stage.advance(1)
    assert sizes == [2, 1]


def test_an_exception_counts_for_all_and_a_mark_for_one(logged_errors: LoggedErrors) -> None:
    stage = Stage()

    def handle(bundle: Bundle) -> None:
        if bundle[0].body == b"bad":
            bundle.fail(1, Drop())
            raise ValueError("all of them")
        bundle[0].ack()
        bundle.fail(-1, KeyError("one of them"))

    stage.consume(handle, batch=Batch(3))
    stage.deliver(b"1", b"2", b"3")
    assert sorted(stage.take_settled(), key=lambda one: abs(one[1])) == [("ack", -2), ("reject requeue", 3)]
    stage.deliver(b"bad", b"5", b"6")
    assert sorted(stage.take_settled(), key=lambda one: abs(one[1])) == [
        ("reject requeue", 4),
        ("ack", 5),
        ("reject requeue", 6),
    ]
    assert len(logged_errors.flush(KeyError)) == 1
    assert len(logged_errors.flush(ValueError)) == 1


def test_what_is_to_be_tried_again_comes_without_the_others() -> None:
    stage, got = Stage(), list[list[bytes]]()

    def handle(bundle: Bundle) -> None:
        got.append([one.body for one in bundle])
        if len(got) == 1:
            bundle.fail(0, RetryLater(3.0))
            bundle.fail(2, RetryLater(1.0))

    stage.consume(handle, batch=Batch(3))
    stage.deliver(b"1", b"2", b"3")
    assert stage.take_settled() == [("ack", 2)]
    stage.advance(3)
    assert got == [[b"1", b"2", b"3"], [b"1", b"3"]]
    assert stage.take_settled() == [("ack", -3)]


def test_a_batch_that_waits_is_given_back_at_the_end() -> None:
    stage = Stage()
    consumer = stage.consume(lambda bundle: None, batch=Batch(3))
    stage.deliver(b"1", b"2")
    consumer.cancel()
    stage.agree()
    assert stage.settled == [("nack requeue", 1), ("nack requeue", 2)]
    assert stage.peer.clock.getDelayedCalls() == [] or stage.client.is_open
