"""The reactor's thread, from its start to its end."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from threading import Event, Thread, current_thread, get_ident
from typing import Any

import pytest
from twisted.internet.defer import Deferred, execute, succeed
from twisted.python import threadable

from tests.blocking.reactors import SmallReactor
from tests.blocking.test_operation import SOON, begin, on_the_thread
from txamqpx.blocking.operation import Operation, wait_any
from txamqpx.blocking.reactor_thread import ReactorThread
from txamqpx.errors import ForkedProcess, ReactorStopped, WrongThread


@pytest.fixture
def reactor() -> SmallReactor:
    return SmallReactor()


@pytest.fixture
def running(reactor: SmallReactor) -> Any:
    """Let the program run the reactor itself, in a thread of its own."""
    started = Event()
    reactor.callWhenRunning(started.set)
    reactor.callWhenRunning(threadable.registerAsIOThread)
    before = threadable.ioThread
    program = Thread(target=lambda: reactor.run(installSignalHandlers=False))
    program.start()
    assert started.wait(SOON)
    yield program
    threadable.ioThread = before
    if reactor.running:
        reactor.callFromThread(reactor.stop)
    program.join(SOON)


@pytest.fixture
def guest(running: Thread, reactor: SmallReactor) -> Any:
    """Use the reactor that the program runs."""
    made = ReactorThread(reactor)
    made.start()
    yield made
    made.shut_down()
    atexit.unregister(made.shut_down)


def test_the_reactor_runs_in_a_daemon_thread(thread: ReactorThread) -> None:
    there = on_the_thread(thread, current_thread)
    assert (there.name, there.daemon) == ("txamqpx reactor", True)
    assert not thread.is_here
    assert on_the_thread(thread, lambda: thread.is_here) is True


def test_a_reactor_that_has_run_is_refused(thread: ReactorThread) -> None:
    thread.shut_down()
    with pytest.raises(ReactorStopped, match="cannot run again") as caught:
        ReactorThread(thread.reactor).start()
    assert type(caught.value.__cause__).__name__ == "ReactorNotRestartable"


def test_a_reactor_that_runs_is_used(guest: ReactorThread, running: Thread) -> None:
    assert on_the_thread(guest, current_thread) is running
    assert on_the_thread(guest, lambda: guest.is_here) is True


def test_on_its_own_thread_it_refuses_to_begin(thread: ReactorThread) -> None:
    for call in (thread.check, lambda: begin(thread, succeed(1))):
        error = on_the_thread(thread, call)
        assert isinstance(error, WrongThread)
        assert "txamqpx.connect()" in str(error)
        assert "deferToThread" in str(error)


def test_the_end_closes_what_is_open_and_waits_for_it(thread: ReactorThread) -> None:
    closing = Event()
    closed: Deferred[None] = Deferred()

    def close() -> Deferred[None]:
        closing.set()
        return closed

    thread.closers.add(close)
    ending = Thread(target=thread.shut_down)
    ending.start()
    assert closing.wait(SOON)
    assert begin(thread, succeed("handlers may still wait")).result(SOON) == "handlers may still wait"
    assert thread.reactor.running
    thread.call(lambda: closed.callback(None))
    ending.join(SOON)
    assert not ending.is_alive()
    assert not thread.reactor.running


def test_who_waits_when_the_reactor_ends_is_told(thread: ReactorThread) -> None:
    waiting: Operation[None] = begin(thread, Deferred(), "get")
    thread.shut_down()
    with pytest.raises(ReactorStopped, match="before the end of get"):
        waiting.result(SOON)
    with pytest.raises(ReactorStopped, match="nothing was sent"):
        begin(thread, succeed(None))


def test_who_waits_when_the_programs_reactor_ends_is_told(guest: ReactorThread, running: Thread) -> None:
    waiting: Operation[None] = begin(guest, Deferred(), "get")
    guest.call(guest.reactor.stop)
    with pytest.raises(ReactorStopped):
        waiting.result(SOON)
    running.join(SOON)
    assert not running.is_alive()
    with pytest.raises(ReactorStopped, match="cannot run again"):
        begin(guest, succeed(None))
    reactor_thread = guest._ident
    guest._ident = get_ident()
    with pytest.raises(ReactorStopped, match="cannot run again"):
        begin(guest, succeed(None))
    guest._ident = reactor_thread


def test_the_end_leaves_the_programs_reactor_alone(guest: ReactorThread) -> None:
    closed = Event()
    guest.closers.add(lambda: execute(closed.set))
    guest.shut_down()
    assert closed.is_set()
    assert guest.reactor.running


def test_ending_twice_is_harmless(thread: ReactorThread) -> None:
    thread.shut_down()
    thread.shut_down()


def test_the_end_comes_as_well_when_a_callback_has_stopped_the_reactor(thread: ReactorThread) -> None:
    closed: Deferred[None] = Deferred()
    thread.closers.add(lambda: closed)
    thread.call(thread.reactor.stop)
    ending = Thread(target=thread.shut_down)
    ending.start()
    begin(thread, succeed(None)).result(SOON)
    thread.call(lambda: closed.callback(None))
    ending.join(SOON)
    assert not ending.is_alive()


def test_callbacks_that_are_due_are_called_before_the_end(thread: ReactorThread) -> None:
    called: list[int] = []
    for number in range(3):
        thread.call_back(lambda number=number: called.append(number))  # type: ignore[misc]
    thread.shut_down()
    assert called == [0, 1, 2]


def test_a_process_that_was_forked_is_told(thread: ReactorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    begun: Operation[str] = begin(thread, Deferred())
    ended = begin(thread, succeed("before"))
    ended.result(SOON)
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: parent + 1)
        assert ended.result() == "before"
        calls: list[Callable[[], object]] = [
            thread.check,
            lambda: begin(thread, succeed(1)),
            lambda: begun.result(SOON),
            lambda: wait_any([begun], SOON),
        ]
        for call in calls:
            with pytest.raises(ForkedProcess, match=f"belongs to process {parent}"):
                call()
        thread.shut_down()
    assert begin(thread, succeed("untouched")).result(SOON) == "untouched"


def test_ctrl_c_at_the_end_ends_it_at_once(thread: ReactorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient:
        def wait(self, timeout: float) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as tired:
        tired.setattr(thread, "_over", Impatient())
        thread.shut_down()
