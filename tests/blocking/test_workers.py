"""Threads that call handlers."""

from __future__ import annotations

import gc
import weakref
from queue import SimpleQueue
from threading import Event, current_thread
from threading import enumerate as threads
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from tests.blocking.test_delivery import Received
from tests.blocking.test_operation import SOON
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.workers import Workers, at_work
from txamqpx.consuming.batch import Bundle
from txamqpx.errors import WrongThread


def give(workers: Workers, received: Any, calls: Calls) -> Any:
    """Have workers handle a delivery, as a consumer does; return what came of it."""
    return calls.finish("handle", lambda: workers(received), SOON)


def names(workers: Workers) -> list[str]:
    return [thread.name for thread in threads() if thread.name.startswith(f"txamqpx {workers.__qualname__} ")]


def test_a_handler_is_called_with_a_delivery_for_threads(calls: Calls) -> None:
    received = Received()

    def handler(delivery: Delivery) -> str:
        delivery.ack()
        return current_thread().name

    workers = Workers(handler, 1, calls)
    assert give(workers, received, calls) == f"txamqpx {handler.__qualname__} 1"
    assert received.told == [("ack", False)]
    workers.end()


def test_what_a_handler_raises_is_the_failure(calls: Calls) -> None:
    workers = Workers(lambda delivery: 1 / 0, 1, calls)
    with pytest.raises(ZeroDivisionError):
        give(workers, Received(), calls)
    with pytest.raises(ZeroDivisionError):
        give(workers, Received(), calls)
    workers.end()


def test_who_returns_what_no_thread_waits_for_has_failed(calls: Calls) -> None:
    class Later:
        async def __call__(self, delivery: Delivery) -> None: ...

    for handler in (Later(), lambda delivery: succeed(None)):
        workers = Workers(handler, 1, calls)
        with pytest.raises(TypeError, match=r"returned a (coroutine|Deferred), for which no thread waits"):
            give(workers, Received(), calls)
        workers.end()


def test_a_bundle_is_one_of_deliveries_for_threads(calls: Calls) -> None:
    def handler(bundle: Any) -> list[type]:
        bundle.fail(1, ValueError("the second"))
        return [type(one) for one in bundle]

    bundle = Bundle(cast(Any, [Received(), Received()]))
    workers = Workers(handler, 1, calls)
    assert give(workers, bundle, calls) == [Delivery, Delivery]
    assert list(bundle.failures) == [1]
    workers.end()


@pytest.mark.covers("S89")
def test_so_many_are_at_work_as_there_are_threads(calls: Calls) -> None:
    begun: SimpleQueue[str] = SimpleQueue()
    go_on = Event()

    def handler(delivery: Delivery) -> None:
        begun.put(current_thread().name)
        go_on.wait(SOON)

    workers = Workers(handler, 3, calls)
    operations = [calls.thread.begin("handle", lambda: workers(cast(Any, Received()))) for _ in range(6)]
    assert len({begun.get(timeout=SOON) for _ in range(3)}) == 3
    assert begun.empty()
    assert not any(one.done() for one in operations)
    go_on.set()
    for one in operations:
        one.result(SOON)
    workers.end()


def test_what_was_given_up_before_its_turn_is_not_begun(calls: Calls) -> None:
    held, begun = Event(), SimpleQueue[bytes]()

    def handler(delivery: Delivery) -> None:
        begun.put(delivery.body)
        held.wait(SOON)

    workers = Workers(handler, 1, calls)
    first = calls.thread.begin("handle", lambda: workers(cast(Any, Received())))
    assert begun.get(timeout=SOON) == b"body"
    waiting: list[Deferred[Any]] = []

    def line_up() -> Deferred[None]:
        waiting.append(
            workers(cast(Any, Received())).addErrback(lambda failure: failure.trap(CancelledError))
        )
        waiting[0].cancel()
        return succeed(None)

    calls.finish("line up", line_up)
    held.set()
    first.result(SOON)
    give(workers, Received(), calls)
    assert begun.get(timeout=SOON) == b"body"
    assert begun.empty()
    workers.end()


def test_a_handler_that_was_given_up_ends_in_peace(calls: Calls) -> None:
    held, begun = Event(), Event()

    def handler(delivery: Delivery) -> None:
        begun.set()
        held.wait(SOON)

    workers = Workers(handler, 1, calls)
    operation = calls.thread.begin("handle", lambda: workers(cast(Any, Received())))
    assert begun.wait(SOON)
    assert operation.cancel()
    held.set()
    give(workers, Received(), calls)
    workers.end()


def test_the_threads_are_daemons_and_end(calls: Calls) -> None:
    def unmistakable(delivery: Delivery) -> bool:
        return current_thread().daemon

    workers = Workers(unmistakable, 3, calls)
    assert len(names(workers)) == 3
    assert give(workers, Received(), calls) is True
    ending = [thread for thread in threads() if thread.name in names(workers)]
    workers.end()
    for thread in ending:
        thread.join(SOON)
    assert names(workers) == []


def test_a_thread_that_waits_keeps_no_message_in_memory(calls: Calls) -> None:
    class Heavy(Received):
        pass

    workers = Workers(lambda delivery: None, 1, calls)
    heavy = Heavy()
    forgotten = Event()
    weakref.finalize(heavy, forgotten.set)
    give(workers, heavy, calls)
    calls.finish("turn", lambda: succeed(None))
    del heavy
    gc.collect()
    assert forgotten.wait(5.0)
    workers.end()


def test_what_threads_cannot_call_is_refused(calls: Calls) -> None:
    async def coroutine_function(delivery: Delivery) -> None: ...

    before = len(threads())
    for handler in (coroutine_function, None, "handler"):
        with pytest.raises(TypeError, match="a handler is a function"):
            Workers(handler, 1, calls)
    assert len(threads()) == before


def test_a_handler_may_not_wait_for_its_own_end(calls: Calls) -> None:
    def handler(delivery: Delivery) -> bool:
        others.refuse_to_wait("cancel")
        assert at_work() is workers
        workers.refuse_to_wait("cancel")
        return True

    workers = Workers(handler, 1, calls)
    others = Workers(lambda delivery: None, 1, calls)
    with pytest.raises(WrongThread, match=r"cancel waits for handlers .* may raise StopConsuming"):
        give(workers, Received(), calls)
    workers.refuse_to_wait("cancel")
    assert at_work() is None
    workers.end()
    others.end()


def test_each_thread_is_named_after_the_handler(calls: Calls) -> None:
    class Callable:
        def __call__(self, delivery: Delivery) -> str:
            return current_thread().name

        def __repr__(self) -> str:
            return "<callable>"

    workers = Workers(Callable(), 1, calls)
    assert give(workers, Received(), calls) == "txamqpx <callable> 1"
    workers.end()
