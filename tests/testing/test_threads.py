from __future__ import annotations

from threading import Event, get_ident
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThreadPool

from txamqpx.testing import HandPool, Watched


class Threads:
    """A clock with threads, and where things happened."""

    def __init__(self) -> None:
        self.reactor: Any = Clock()
        self.pool = HandPool(self.reactor)
        self.here = get_ident()
        self.seen: list[tuple[str, bool]] = []

    def saw(self, what: str) -> str:
        self.seen.append((what, get_ident() == self.here))
        return what

    def defer(self, call: Any, *arguments: Any) -> Watched[Any]:
        return Watched(deferToThreadPool(self.reactor, self.reactor.getThreadPool(), call, *arguments))


def test_a_task_waits_until_it_is_run_in_a_thread_of_its_own() -> None:
    threads = Threads()
    done = threads.defer(threads.saw, "work")
    assert done.pending
    assert len(threads.pool.tasks) == 1
    threads.pool.run()
    assert done.value == "work"
    assert threads.seen == [("work", False)]
    assert threads.pool.tasks == []


def test_what_a_task_has_called_is_called_where_the_test_runs() -> None:
    threads = Threads()

    def work() -> None:
        threads.saw("work")
        threads.reactor.callFromThread(threads.saw, what="call")

    threads.defer(work)
    threads.pool.run()
    assert threads.seen == [("work", False), ("call", True)]


def test_what_a_task_raises_is_its_failure() -> None:
    threads = Threads()
    done = threads.defer(divmod, 1, 0)
    threads.pool.run()
    done.error(ZeroDivisionError)


def test_tasks_run_in_order_and_those_that_come_meanwhile_too() -> None:
    threads = Threads()

    def first() -> None:
        threads.saw("first")
        threads.reactor.callFromThread(threads.defer, threads.saw, "third")

    threads.defer(first)
    threads.defer(threads.saw, "second")
    threads.pool.run_all()
    assert [what for what, _ in threads.seen] == ["first", "second", "third"]


def test_running_what_is_not_there_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match=r"^nothing waits for a thread$"):
        Threads().pool.run()


def test_a_thread_that_is_no_task_can_call_as_well() -> None:
    threads = Threads()
    threads.reactor.callFromThread(threads.saw, "before")
    assert threads.pool.called
    threads.defer(threads.saw, "task")
    threads.pool.run()
    threads.reactor.callFromThread(threads.saw, "after")
    threads.pool.run_all()
    assert threads.seen == [("before", True), ("task", False), ("after", True)]


def test_a_task_can_be_followed_step_by_step() -> None:
    threads = Threads()
    told = Event()

    def work() -> None:
        threads.reactor.callFromThread(threads.saw, "call")
        told.wait()

    done = threads.defer(work)
    threads.pool.step()
    assert threads.seen == [("call", True)]
    threads.pool.step(patience=0.001)
    assert (threads.pool.at_work, done.pending) == (True, True)
    told.set()
    while threads.pool.at_work:
        threads.pool.step()
    assert (threads.pool.at_work, done.pending) == (False, False)
