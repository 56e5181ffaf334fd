from __future__ import annotations

from collections.abc import Callable
from threading import Timer
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.consuming.stage import Stage
from tests.logged import LoggedErrors
from txamqpx.consuming import threaded
from txamqpx.consuming.batch import Batch, Bundle
from txamqpx.consuming.settlement import Drop
from txamqpx.consuming.threaded import ThreadDelivery
from txamqpx.errors import AlreadySettled
from txamqpx.message import Delivery, Settlement
from txamqpx.testing import HandPool


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def pool(stage: Stage) -> HandPool:
    return HandPool(stage.peer.clock)


@pytest.mark.covers("S89", "L08")
def test_a_threads_end_acks_as_any_other(stage: Stage, pool: HandPool, logged_errors: LoggedErrors) -> None:
    def handle(delivery: Delivery) -> None:
        assert delivery.properties.type is None
        if delivery.body == b"drop":
            raise Drop
        if delivery.body == b"bad":
            raise ValueError("in a thread")

    stage.consume(handle, thread=True, concurrency=2)
    stage.deliver(b"good", b"drop", b"bad")
    assert len(pool.tasks) == 2
    while pool.tasks:
        assert stage.take_settled() is not None
        pool.run()
    assert stage.take_settled()[-1] == ("reject requeue", 3)
    assert len(logged_errors.flush(ValueError)) == 1


@pytest.mark.covers("L08")
def test_what_a_thread_settles_is_settled_by_the_reactor(stage: Stage, pool: HandPool) -> None:
    results: list[Any] = []
    how: list[Callable[[ThreadDelivery], Settlement]] = [
        lambda delivery: delivery.ack(),
        lambda delivery: delivery.nack(requeue=False),
        lambda delivery: delivery.reject(requeue=True),
        lambda delivery: delivery.release(),
        lambda delivery: delivery.fail(),
        lambda delivery: delivery.discard(),
    ]

    def handle(delivery: ThreadDelivery) -> None:
        results.append(how[delivery.delivery_tag - 1](delivery))
        assert repr(delivery).startswith("<Delivery ")
        with pytest.raises(AlreadySettled):
            delivery.ack()

    stage.consume(handle, thread=True, concurrency=6)
    stage.deliver(*[b"1"] * 6)
    while pool.tasks:
        pool.run()
    assert results == [Settlement.SENT] * 6
    assert stage.take_settled() == [
        ("ack", 1),
        ("nack", 2),
        ("reject requeue", 3),
        ("nack requeue", 4),
        ("reject requeue", 5),
        ("reject", 6),
    ]


def test_a_thread_may_take_a_batch(stage: Stage, pool: HandPool) -> None:
    def handle(bundle: Bundle) -> None:
        bundle.fail(1, Drop())
        bundle[2].release()

    stage.consume(handle, thread=True, batch=Batch(3))
    stage.deliver(b"1", b"2", b"3")
    pool.run()
    assert sorted(stage.take_settled()) == [("ack", -2), ("nack requeue", 3)]


@pytest.mark.covers("S91", "T-ACK-08")
def test_a_thread_that_does_not_end_in_time_settles_nothing_any_more(stage: Stage, pool: HandPool) -> None:
    results: list[Settlement] = []
    consumer = stage.consume(lambda delivery: results.append(delivery.ack()), thread=True)
    stage.deliver(b"1")
    consumer.cancel(timeout=1.0)
    stage.agree()
    stage.advance(1)
    assert stage.settled == [("nack requeue", 1)]
    pool.run()
    assert results == [Settlement.STALE]
    assert stage.take_settled() == [("nack requeue", 1)]


def test_a_thread_does_not_wait_for_a_reactor_that_has_ended(
    stage: Stage, pool: HandPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Settlement] = []
    stage.consume(lambda delivery: told.append(delivery.ack()), ack="manual", thread=True)
    stage.deliver(b"1")
    clock = stage.peer.clock

    def end(*call: object) -> None:
        monkeypatch.setattr(clock, "running", False, raising=False)

    monkeypatch.setattr(clock, "callFromThread", end)
    pool.run()
    assert told == [Settlement.STALE]
    assert stage.take_settled() == []


def test_a_thread_waits_for_a_reactor_that_is_busy(
    stage: Stage, pool: HandPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Settlement] = []
    stage.consume(lambda delivery: told.append(delivery.ack()), ack="manual", thread=True)
    stage.deliver(b"1")

    waits = [0.05]

    def later(*call: Any) -> None:
        if waits:  # the ack; what follows is the handler's end
            Timer(waits.pop(), pool.callFromThread, call).start()
        else:
            pool.callFromThread(*call)

    monkeypatch.setattr(threaded, "GLANCE", 0.001)
    monkeypatch.setattr(stage.peer.clock, "callFromThread", later)
    pool.run()
    assert told == [Settlement.SENT]
    assert stage.take_settled() == [("ack", 1)]


def test_a_coroutine_function_is_no_handler_for_a_thread(stage: Stage, pool: HandPool) -> None:
    async def handle(delivery: Delivery) -> None:
        raise AssertionError("no thread runs it")

    with pytest.raises(TypeError, match="a function that threads can call"):
        stage.consume(handle, thread=True)


@pytest.mark.parametrize("kind", ["coroutine", "Deferred"])
def test_what_a_thread_leaves_undone_is_no_success(
    kind: str, stage: Stage, pool: HandPool, logged_errors: LoggedErrors
) -> None:
    async def later(delivery: Delivery) -> None:
        raise AssertionError("nobody runs it")

    stage.consume(lambda delivery: later(delivery) if kind == "coroutine" else Deferred(), thread=True)
    stage.deliver(b"1")
    pool.run()
    assert stage.take_settled() == [("reject requeue", 1)]
    (failure,) = logged_errors.flush(TypeError)
    assert f"returned a {kind}, for which no thread waits" in str(failure.value)
