"""Calls that wait, and calls that only begin."""

from __future__ import annotations

from inspect import signature
from threading import Semaphore
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.blocking.test_operation import SOON, on_the_thread
from txamqpx.blocking.calls import Beginning, Calls, begun
from txamqpx.blocking.operation import USUAL
from txamqpx.blocking.reactor_thread import ReactorThread
from txamqpx.errors import ReactorStopped, WaitTimeout, WrongThread


class Adder:
    def __init__(self, base: int) -> None:
        self.base = base
        self.later: Deferred[int] = Deferred()

    def add(self, number: int, *, twice: bool = False) -> Deferred[int]:
        """Add a number."""
        return succeed(self.base + number * (2 if twice else 1))

    def wait(self) -> Deferred[int]:
        """Wait for a number."""
        return self.later


class Begun(Beginning[Adder]):
    add = begun(Adder.add)
    wait = begun(Adder.wait)


def test_a_call_waits_as_long_as_the_client_was_told(thread: ReactorThread) -> None:
    assert Calls(thread, 7.0).seconds(USUAL) == 7.0
    assert Calls(thread, None).seconds(USUAL) is None
    assert Calls(thread, 7.0).seconds(3) == 3
    assert Calls(thread, 7.0).seconds(None) is None


def test_a_call_returns_the_result(thread: ReactorThread) -> None:
    assert Calls(thread, SOON).finish("add", lambda: succeed(3)) == 3
    with pytest.raises(WaitTimeout, match=r"add did not end within 0\.01 s"):
        Calls(thread, 0.01).finish("add", Deferred)
    with pytest.raises(WaitTimeout, match=r"add did not end within 0\.01 s"):
        Calls(thread, SOON).finish("add", Deferred, 0.01)


def test_what_is_begun_has_the_arguments_of_what_it_begins(calls: Calls) -> None:
    begin = Begun(Adder(10), calls, Semaphore(10))
    assert begin.add(1).result(SOON) == 11
    assert begin.add(1, twice=True).result(SOON) == 12
    assert begin.add(1).name == "add"
    assert (begin.add.__doc__, list(signature(Begun.add).parameters)) == (
        "Add a number.",
        ["self", "number", "twice"],
    )


def test_to_begin_more_than_there_is_room_for_waits(thread: ReactorThread) -> None:
    adder = Adder(1)
    begin = Begun(adder, Calls(thread, 0.01), Semaphore(1))
    first = begin.wait()
    with pytest.raises(WaitTimeout, match="operations that were begun before"):
        begin.add(1)
    thread.call(lambda: adder.later.callback(5))
    assert first.result(SOON) == 5
    assert Begun(adder, Calls(thread, None), begin._room).add(1).result(SOON) == 2


def test_what_cannot_begin_takes_no_room(thread: ReactorThread, calls: Calls) -> None:
    room = Semaphore(1)
    begin: Any = Begun(Adder(1), calls, room)
    assert isinstance(on_the_thread(thread, lambda: begin.add(1)), WrongThread)
    thread.shut_down()
    for _ in range(2):
        with pytest.raises(ReactorStopped):
            begin.add(1)
    assert room.acquire(blocking=False)
