"""What threads see of what goes on at the reactor's thread."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from concurrent import futures
from functools import partial
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread, get_ident, main_thread
from time import sleep
from typing import Any, TypeVar, cast

import pytest
from twisted.internet.defer import Deferred, execute, fail, succeed

from tests.logged import LoggedErrors
from txamqpx.blocking.operation import Operation, wait, wait_all, wait_any
from txamqpx.blocking.reactor_thread import ReactorThread
from txamqpx.errors import NotFound, NotPublished, WaitTimeout, WrongThread, caused

T = TypeVar("T")

SOON = 60.0
"""Seconds after which what takes a moment counts as not happening."""


def begin(thread: ReactorThread, deferred: Deferred[T], name: str = "try") -> Operation[T]:
    """Begin an operation that ends when a Deferred fires."""
    return thread.begin(name, lambda: deferred)


def fire(thread: ReactorThread, deferred: Deferred[T], result: T) -> None:
    thread.call(lambda: deferred.callback(result))


def turn(thread: ReactorThread) -> None:
    """Wait until the reactor's thread has done what it was asked for."""
    thread.begin("turn", lambda: succeed(None)).result(SOON)


# --------------------------------------------------------------------------- one operation


def test_a_result_comes_from_the_reactors_thread(thread: ReactorThread) -> None:
    idents: list[int] = []

    def there() -> str:
        idents.append(get_ident())
        return "done"

    assert thread.begin("try", lambda: execute(there)).result(SOON) == "done"
    assert idents != [get_ident()]


def test_what_is_begun_by_one_thread_happens_in_its_order(thread: ReactorThread) -> None:
    seen: list[int] = []
    wait_all([thread.begin("try", lambda n=n: execute(seen.append, n)) for n in range(1000)])  # type: ignore[misc]
    assert seen == list(range(1000))


def test_a_failure_is_raised_in_the_thread_that_waits(thread: ReactorThread) -> None:
    cause = ValueError("why")
    error = caused(NotFound("no queue 'q'", operation="queue.declare"), cause)
    operation = begin(thread, fail(error))
    raised: list[NotFound] = []
    for _ in range(2):
        with pytest.raises(NotFound, match="no queue 'q'") as caught:
            operation.result(SOON)
        raised.append(caught.value)
    assert raised[0] is not raised[1], "each has the traceback of whom it was raised to"
    assert [one.queue for one in raised] == ["q", "q"]
    assert raised[0].__cause__ is cause
    assert operation.exception() is error


def test_a_failure_of_the_callers_own_gathers_no_traceback(thread: ReactorThread) -> None:
    operation = begin(thread, fail(ZeroDivisionError()))
    lengths: list[int] = []
    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as caught:
            operation.result(SOON)
        lengths.append(len(caught.traceback))
    assert lengths == [lengths[0]] * 3


def test_what_is_raised_before_there_is_a_deferred_is_a_failure_as_well(thread: ReactorThread) -> None:
    def refuse() -> Deferred[None]:
        raise TypeError("no")

    with pytest.raises(TypeError, match="no"):
        thread.begin("try", refuse).finish(SOON)


def test_waiting_again_gives_the_result_again(thread: ReactorThread) -> None:
    operation = begin(thread, succeed(1))
    assert (wait(operation), wait(operation), operation.result(), operation.finish(0)) == (1, 1, 1, 1)


def test_waiting_in_vain_is_a_timeout_and_disturbs_nothing(thread: ReactorThread) -> None:
    deferred: Deferred[int] = Deferred()
    operation = begin(thread, deferred, "queue_declare")
    for call in (operation.result, operation.exception, partial(wait, operation)):
        with pytest.raises(WaitTimeout, match=r"queue_declare did not end within 0\.01 s"):
            call(0.01)
    fire(thread, deferred, 1)
    assert operation.result(SOON) == 1


def test_a_call_that_takes_too_long_is_given_up(thread: ReactorThread) -> None:
    cancelled = Event()
    operation: Operation[None] = begin(thread, Deferred(lambda _: cancelled.set()))
    with pytest.raises(WaitTimeout) as caught:
        operation.finish(0.01)
    assert cancelled.is_set()
    assert operation.cancelled()
    assert caught.value.__cause__ is None


def test_a_timeout_holds_what_is_known_of_what_was_given_up(thread: ReactorThread) -> None:
    unsent = NotPublished("it waited for its turn")
    with pytest.raises(WaitTimeout) as caught:
        begin(thread, Deferred(lambda deferred: deferred.errback(unsent))).finish(0.01)
    assert caught.value.__cause__ is unsent


def test_a_result_that_comes_in_the_very_moment_is_not_lost(thread: ReactorThread) -> None:
    assert begin(thread, Deferred(lambda deferred: deferred.callback("late"))).finish(0.01) == "late"


def test_what_cannot_be_given_up_in_time_is_a_timeout_all_the_same(
    thread: ReactorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txamqpx.blocking.operation.GIVING_UP", 0.01)
    cleaning_up: Deferred[None] = Deferred()
    operation = begin(
        thread, Deferred().addErrback(lambda failure: cleaning_up.addCallback(lambda _: failure))
    )
    with pytest.raises(WaitTimeout):
        operation.finish(0.01)
    assert not operation.done()
    fire(thread, cleaning_up, None)
    with pytest.raises(futures.CancelledError):
        operation.result(SOON)


def test_a_timeout_of_none_is_no_limit(thread: ReactorThread) -> None:
    deferred: Deferred[int] = Deferred()
    operation = begin(thread, deferred)
    assert not operation.done()
    fire(thread, deferred, 1)
    assert operation.finish(None) == 1


def test_cancelling_cancels_the_deferred(thread: ReactorThread) -> None:
    cancelled = Event()
    operation: Operation[None] = begin(thread, Deferred(lambda _: cancelled.set()))
    turn(thread)
    assert operation.cancel()
    assert operation.cancel()
    assert cancelled.is_set()
    with pytest.raises(futures.CancelledError):
        operation.result()
    done = begin(thread, succeed(1))
    assert done.result(SOON) == 1
    assert not done.cancel()


def test_what_is_cancelled_before_it_began_never_begins(
    thread: ReactorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txamqpx.blocking.operation.GIVING_UP", 0.01)
    held, begun = Event(), Event()
    thread.call(held.wait)
    operation = thread.begin("try", lambda: execute(begun.set))
    assert not operation.cancel()
    held.set()
    with pytest.raises(futures.CancelledError):
        operation.result(SOON)
    turn(thread)
    assert not begun.is_set()


def test_what_was_abandoned_stays_so(thread: ReactorThread) -> None:
    never: Operation[None] = thread.begin("try", Deferred)
    for ending in (lambda one: one.callback(None), lambda one: one.errback(NotFound()), Deferred.cancel):
        deferred: Deferred[None] = Deferred()
        operation = begin(thread, deferred)
        turn(thread)
        thread.call(partial(operation.abandon, NotPublished("it is over")))
        thread.call(partial(ending, deferred))
        thread.call(partial(operation.run, Deferred))
        thread.call(operation._give_up)
        with pytest.raises(NotPublished, match="it is over"):
            operation.result(SOON)
        assert isinstance(operation.exception(), NotPublished)
    turn(thread)
    assert never.cancel()


def test_who_gives_up_what_is_abandoned_hears_of_it_once(thread: ReactorThread) -> None:
    held: list[Operation[None]] = []
    abandoned = NotPublished("it is over")
    held.append(begin(thread, Deferred(lambda _: held[0].abandon(abandoned))))
    turn(thread)
    assert not held[0].cancel()
    assert held[0].exception() is abandoned


def test_it_says_what_it_is_and_how_it_stands(thread: ReactorThread) -> None:
    deferred: Deferred[int] = Deferred()
    operation = begin(thread, deferred, "queue_declare")
    assert repr(operation) == "<Operation queue_declare, pending>"
    fire(thread, deferred, 1)
    wait(operation)
    assert repr(operation) == "<Operation queue_declare, finished>"
    given_up: Operation[None] = begin(thread, Deferred(), "get")
    given_up.cancel()
    assert repr(given_up) == "<Operation get, cancelled>"


def test_its_room_is_free_again_when_it_has_ended(thread: ReactorThread) -> None:
    room = Semaphore(0)
    deferred: Deferred[None] = Deferred()
    operation = thread.begin("try", lambda: deferred, room)
    turn(thread)
    assert not room.acquire(blocking=False)
    fire(thread, deferred, None)
    operation.result(SOON)
    assert room.acquire(timeout=SOON)


def test_ctrl_c_interrupts_a_wait_and_gives_the_operation_up(thread: ReactorThread) -> None:
    cancelled, interrupted = Event(), Event()

    def interrupt(number: int, frame: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def insist() -> None:
        while not cast(Any, waiting)._condition._waiters:
            sleep(0.001)
        while not interrupted.wait(0.01):  # what comes when the wait is about to begin does not end it
            signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)

    assert current_thread() is main_thread()
    waiting: Operation[None] = begin(thread, Deferred(lambda _: cancelled.set()))
    before = signal.signal(signal.SIGINT, interrupt)
    insisting = Thread(target=insist)
    insisting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            waiting.finish(SOON)
    finally:
        insisting.join(SOON)
        signal.signal(signal.SIGINT, before)
    assert cancelled.wait(SOON)


# --------------------------------------------------------------------------- callbacks and forgotten failures


@pytest.mark.covers("S87")
def test_a_callback_may_wait(thread: ReactorThread) -> None:
    results: SimpleQueue[int] = SimpleQueue()
    operation = begin(thread, succeed(1))
    operation.add_done_callback(
        lambda ended: results.put(ended.result() + begin(thread, succeed(1)).finish(SOON))
    )
    assert results.get(timeout=SOON) == 2


@pytest.mark.covers("S87")
def test_a_callback_that_raises_is_logged_and_hurts_nobody(
    thread: ReactorThread, logged_errors: LoggedErrors
) -> None:
    called: SimpleQueue[str] = SimpleQueue()

    def careless(ended: futures.Future[int]) -> None:
        raise ZeroDivisionError

    operation = begin(thread, succeed(1))
    operation.add_done_callback(careless)
    operation.add_done_callback(lambda ended: called.put("the next one"))
    assert called.get(timeout=SOON) == "the next one"
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


def test_a_failure_that_nobody_asks_for_is_logged(thread: ReactorThread, logged_errors: LoggedErrors) -> None:
    forgotten = begin(thread, fail(NotFound("no queue 'q'")), "queue_purge")
    turn(thread)
    assert logged_errors.flush() == []
    del forgotten
    gc.collect()
    assert [failure.type for failure in logged_errors.flush(NotFound)] == [NotFound]


def test_a_failure_that_somebody_asked_for_is_not_logged(thread: ReactorThread) -> None:
    seen: SimpleQueue[object] = SimpleQueue()
    begin(thread, fail(NotFound())).exception(SOON)
    begin(thread, fail(NotFound())).add_done_callback(seen.put)
    wait_all([begin(thread, fail(NotFound()))], return_exceptions=True)
    seen.get(timeout=SOON)
    turn(thread)
    gc.collect()


def test_asyncio_can_wait_for_it(thread: ReactorThread) -> None:
    async def main() -> int:
        return await asyncio.wrap_future(begin(thread, succeed(7)))

    assert asyncio.run(main()) == 7


def test_the_standard_library_can_wait_for_it(thread: ReactorThread) -> None:
    operations = [begin(thread, succeed(n)) for n in range(3)]
    assert {one.result() for one in futures.as_completed(operations, SOON)} == {0, 1, 2}
    given_up: Operation[int] = begin(thread, Deferred())
    given_up.cancel()
    assert futures.wait([given_up], SOON).done == {given_up}


# --------------------------------------------------------------------------- the wrong thread


def on_the_thread(thread: ReactorThread, function: Callable[[], Any]) -> Any:
    """Return what a function returns, or raises, on the reactor's thread."""
    operation = thread.begin("there", lambda: execute(function))
    return operation.exception(SOON) or operation.result()


def test_the_reactors_thread_may_not_wait(thread: ReactorThread) -> None:
    operation: Operation[None] = begin(thread, Deferred(), "publish")
    waits: list[Callable[[], object]] = [
        operation.result,
        operation.exception,
        lambda: operation.finish(1),
        lambda: wait(operation),
        lambda: wait_any([operation]),
        lambda: wait_all([operation]),
    ]
    for function in waits:
        error = on_the_thread(thread, function)
        assert isinstance(error, WrongThread)
        assert "publish ends on the reactor's thread" in str(error)
        assert "deferToThread" in str(error)
    assert not operation.done()
    assert on_the_thread(thread, operation.cancel) is True


def test_the_reactors_thread_may_look_at_what_has_ended(thread: ReactorThread) -> None:
    operation = begin(thread, succeed(1))
    operation.result(SOON)
    assert on_the_thread(thread, operation.result) == 1


# --------------------------------------------------------------------------- one of several, and all


def test_the_first_of_several_is_told(thread: ReactorThread) -> None:
    deferreds: list[Deferred[str]] = [Deferred() for _ in range(3)]
    operations = [begin(thread, deferred) for deferred in deferreds]
    fire(thread, deferreds[1], "first")
    assert wait_any(operations, SOON) is operations[1]
    fire(thread, deferreds[0], "second")
    turn(thread)
    assert wait_any(operations) is operations[1], "of those that have ended, the first"
    assert wait(operations) == "first"
    operations.remove(operations[1])
    assert wait_any(iter(operations)).result() == "second"
    fire(thread, deferreds[2], "third")
    assert wait_all(operations, SOON) == ["second", "third"]


def test_the_first_of_several_may_have_failed(thread: ReactorThread) -> None:
    operations: list[Operation[None]] = [begin(thread, Deferred()), begin(thread, fail(NotFound("q")))]
    assert wait_any(operations, SOON) is operations[1]
    with pytest.raises(NotFound):
        wait(operations, SOON)


def test_waiting_for_nothing_does_not_hang(thread: ReactorThread) -> None:
    with pytest.raises(ValueError, match="nothing to wait for"):
        wait_any([])
    with pytest.raises(ValueError, match="nothing to wait for"):
        wait([])
    assert wait_all([]) == []


def test_waiting_for_several_has_a_limit(thread: ReactorThread) -> None:
    operations: list[Operation[int]] = [begin(thread, Deferred()), begin(thread, Deferred())]
    with pytest.raises(WaitTimeout, match=r"any of 2 operations did not end within 0\.01 s"):
        wait_any(operations, 0.01)
    third = begin(thread, succeed(1))
    third.result(SOON)
    with pytest.raises(WaitTimeout, match=r"2 of 3 operations did not end within 0\.01 s"):
        wait_all([*operations, third], 0.01)


def test_all_have_ended_when_one_is_raised(thread: ReactorThread) -> None:
    late: Deferred[int] = Deferred()
    operations = [begin(thread, fail(NotFound("q"))), begin(thread, late), begin(thread, fail(NotFound("r")))]
    thread.call(lambda: thread.call(lambda: late.callback(1)))
    with pytest.raises(NotFound, match="q"):
        wait_all(operations, SOON)
    assert all(one.done() for one in operations)


def test_all_outcomes_can_be_had_as_values(thread: ReactorThread) -> None:
    error = NotFound("q")
    given_up: Operation[int] = begin(thread, Deferred())
    given_up.cancel()
    outcomes = wait_all(
        [begin(thread, succeed(1)), begin(thread, fail(error)), given_up], return_exceptions=True
    )
    assert outcomes[:2] == [1, error]
    assert isinstance(outcomes[2], futures.CancelledError)
    with pytest.raises(futures.CancelledError):
        wait_all([given_up])
