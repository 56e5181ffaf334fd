"""Consuming with threads: what works until it is over, and loops."""

from __future__ import annotations

from threading import Thread
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, execute, fail, succeed

from tests.blocking.doubles import parameters
from tests.blocking.test_delivery import Received
from tests.blocking.test_operation import SOON
from txamqpx import consumer as asynchronous
from txamqpx import deliveries as asynchronous_deliveries
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.consumer import Consumer, Deliveries, Pipeline
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.workers import Workers
from txamqpx.errors import (
    ConnectionClosed,
    ConnectionForced,
    ConsumerCancelled,
    HeartbeatTimeout,
    WaitTimeout,
    WrongThread,
)


class Consuming:
    """An asynchronous consumer.

    Attributes:
        over: Fires when it is over.
        told: What it was asked for.
    """

    queue, consumer_tag, is_active = "jobs", "tag", True

    def __init__(self) -> None:
        self.over: list[Deferred[Any]] = []
        self.told: list[tuple[str, Any]] = []

    def __repr__(self) -> str:
        return "<Consumer of 'jobs', running>"

    @property
    def closed(self) -> Deferred[Any]:
        self.over.append(Deferred())
        return self.over[-1]

    def cancel(self, timeout: float | None) -> Deferred[None]:
        self.told.append(("cancel", timeout))
        return succeed(None)

    def set_prefetch(self, prefetch: int) -> Deferred[None]:
        self.told.append(("set_prefetch", prefetch))
        return succeed(None)


def consumer(consuming: Consuming, calls: Calls, workers: Workers | None = None) -> Consumer:
    return Consumer(cast(asynchronous.Consumer, consuming), workers, calls)


def test_it_tells_what_the_consumer_tells(calls: Calls) -> None:
    ours = consumer(Consuming(), calls)
    assert (ours.queue, ours.consumer_tag, ours.is_active) == ("jobs", "tag", True)
    assert repr(ours) == "<Consumer of 'jobs', running>"


def test_its_calls_are_those_of_the_consumer(calls: Calls) -> None:
    for name in ("cancel", "set_prefetch"):
        assert parameters(getattr(Consumer, name), ["self"])[:1] == (
            parameters(getattr(asynchronous.Consumer, name), ["self"])
        )
    consuming = Consuming()
    ours = consumer(consuming, calls)
    ours.set_prefetch(7)
    ours.cancel(2.0)
    assert consuming.told == [("set_prefetch", 7), ("cancel", 2.0)]


def test_a_block_cancels_at_its_end(calls: Calls) -> None:
    consuming = Consuming()
    with consumer(consuming, calls) as ours:
        assert isinstance(ours, Consumer)
        assert consuming.told == []
    assert consuming.told == [("cancel", 30.0)]


def test_waiting_for_its_end_gives_the_reason(calls: Calls) -> None:
    consuming = Consuming()
    ours = consumer(consuming, calls)
    with pytest.raises(WaitTimeout, match=r"the consumer did not end within 0\.01 s"):
        ours.wait(0.01)
    reasons: list[object] = []
    waiting = Thread(target=lambda: reasons.append(ours.wait(SOON)))
    waiting.start()
    reason = ConsumerCancelled("jobs", "tag")
    while len(consuming.over) < 2:
        calls.finish("turn", lambda: succeed(None))
    calls.thread.call(lambda: consuming.over[-1].callback(reason))
    waiting.join(SOON)
    assert reasons == [reason]


def test_a_pipeline_says_that_it_is_one(calls: Calls) -> None:
    with pytest.raises(WaitTimeout, match="the pipeline did not end"):
        Pipeline(cast(Any, Consuming()), None, calls).wait(0.01)


def test_its_own_threads_may_not_wait_for_its_end(calls: Calls) -> None:
    consuming = Consuming()
    held: list[Consumer] = []

    def handler(delivery: Delivery) -> list[Any]:
        raised = []
        for call in (held[0].cancel, held[0].wait):
            with pytest.raises(WrongThread, match="StopConsuming") as caught:
                call()
            raised.append(caught.type)
        return raised

    workers = Workers(handler, 1, calls)
    held.append(consumer(consuming, calls, workers))
    assert calls.finish("handle", lambda: workers(cast(Any, Received()))) == [WrongThread] * 2
    assert consuming.told == []
    held[0].cancel()
    workers.end()


# --------------------------------------------------------------------------- loops


class Looped:
    """Asynchronous deliveries that are all there, and then their end.

    Attributes:
        end: What ends them; None: nothing does.
        cancelled: With which limit they were.
    """

    consumer = Consuming()

    def __init__(self, count: int, end: Exception | None = None) -> None:
        self.left = count
        self.end = end
        self.cancelled: list[float | None] = []
        self.waiting: list[Deferred[Any]] = []

    def get(self) -> Deferred[Any]:
        if self.left:
            self.left -= 1
            return succeed(Received())
        if self.end is not None:
            return fail(self.end)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def cancel(self, timeout: float | None) -> Deferred[None]:
        self.cancelled.append(timeout)
        return succeed(None)


def deliveries(looped: Looped, calls: Calls, timeout: float | None = None) -> Deliveries:
    return Deliveries(cast(asynchronous_deliveries.Deliveries, looped), timeout, calls)


def test_a_loop_takes_what_comes_until_it_is_cancelled(calls: Calls) -> None:
    taken = list(deliveries(Looped(3, StopAsyncIteration()), calls))
    assert [type(one) for one in taken] == [Delivery] * 3


def test_a_loop_raises_what_ended_it(calls: Calls) -> None:
    loop = iter(deliveries(Looped(1, ConsumerCancelled("jobs", "tag")), calls))
    assert next(loop).body == b"body"
    for _ in range(2):
        with pytest.raises(ConsumerCancelled):
            next(loop)


@pytest.mark.parametrize(
    "end", [ConnectionClosed("bye"), HeartbeatTimeout("silence", by_peer=False), ConnectionForced("restart")]
)
def test_a_loop_raises_what_others_did_to_the_connection(calls: Calls, end: ConnectionClosed) -> None:
    with pytest.raises(type(end)):
        next(deliveries(Looped(0, end), calls))


def test_a_loop_ends_when_we_close_the_connection(calls: Calls) -> None:
    assert list(deliveries(Looped(0, ConnectionClosed("closing", by_peer=False)), calls)) == []


def test_a_loop_waits_as_long_as_it_was_told(calls: Calls) -> None:
    looped = Looped(1)
    loop = deliveries(looped, calls, 0.01)
    next(loop)
    with pytest.raises(WaitTimeout, match=r"the next delivery did not end within 0\.01 s"):
        next(loop)
    assert looped.waiting[0].called, "who waits no longer takes none"
    looped.left = 1
    assert loop.get(timeout=SOON).body == b"body"
    with pytest.raises(WaitTimeout, match=r"within 0\.02 s"):
        loop.get(timeout=0.02)


def test_a_block_gives_back_what_was_not_taken(calls: Calls) -> None:
    looped = Looped(1)
    with deliveries(looped, calls) as ours:
        assert repr(ours) == "<Deliveries of <Consumer of 'jobs', running>>"
    assert looped.cancelled == [0.0]
    ours.cancel()
    assert looped.cancelled == [0.0, 30.0]
    assert parameters(Deliveries.cancel, ["self"]) == (
        parameters(asynchronous_deliveries.Deliveries.cancel, ["self"])
    )
    assert calls.finish("turn", lambda: execute(lambda: True))
