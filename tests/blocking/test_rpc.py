"""Asking and answering from threads."""

from __future__ import annotations

from threading import Semaphore
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.blocking.doubles import Asked, asked, parameters, samples
from tests.blocking.test_delivery import Received
from tests.blocking.test_operation import SOON
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.rpc import BegunRequests, Caller, Server
from txamqpx.blocking.workers import Workers
from txamqpx.errors import CallTimeout, WaitTimeout, WrongThread
from txamqpx.rpc import caller, server


def ours(double: object, calls: Calls) -> Caller:
    return Caller(cast(caller.Caller, double), calls, Semaphore(10))


def test_a_call_is_that_of_the_caller_and_waits(calls: Calls) -> None:
    double = Asked(call=Received())
    arguments = samples(Caller.call, ["self"])
    for function in (Caller.call, BegunRequests.call):
        assert parameters(function, ["self"]) == parameters(caller.Caller.call, ["self"])
    assert asked(ours(double, calls).call, double, arguments) == ("call", arguments)
    assert asked(ours(double, calls).begin.call, double, arguments) == ("call", arguments)
    assert ours(double, calls).call(**cast(Any, arguments), priority=2).body == b"body"
    assert double.calls[-1][2]["priority"] == 2
    assert isinstance(ours(double, calls).begin.call("q").result(SOON), Delivery)


def test_a_call_fails_as_the_callers_does(calls: Calls) -> None:
    with pytest.raises(CallTimeout):
        ours(Asked(call=fail(CallTimeout("q", 1.0, sent=True))), calls).call("q")


def test_flushing_and_closing_wait(calls: Calls) -> None:
    double = Asked()
    assert asked(ours(double, calls).flush, double, {}) == ("flush", {})
    assert asked(ours(double, calls).close, double, {"timeout": "<timeout>"}) == (
        "close",
        {"timeout": "<timeout>"},
    )
    assert parameters(Caller.close, ["self"]) == parameters(caller.Caller.close, ["self"])
    with pytest.raises(WaitTimeout, match="flush"):
        ours(Asked(flush=Deferred()), calls).flush(timeout=0.01)


class Double:
    """A caller, or a server."""

    outstanding, late = 3, 4
    replied, failed, undeliverable, abandoned = 5, 6, 7, 8

    def __init__(self) -> None:
        self.closed_with: list[float] = []

    def __repr__(self) -> str:
        return "<double>"

    @property
    def closed(self) -> Deferred[None]:
        return Deferred()

    def close(self, timeout: float) -> Deferred[None]:
        self.closed_with.append(timeout)
        return succeed(None)


def test_a_caller_counts_and_closes_with_its_block(calls: Calls) -> None:
    double = Double()
    with ours(double, calls) as made:
        assert (made.outstanding, made.late, repr(made)) == (3, 4, "<double>")
    assert double.closed_with == [30.0]


def test_a_server_counts_and_closes_with_its_block(calls: Calls) -> None:
    double = Double()
    with Server(cast(server.Server, double), None, calls) as made:
        assert (made.replied, made.failed, made.undeliverable, made.abandoned) == (5, 6, 7, 8)
        assert repr(made) == "<double>"
        with pytest.raises(WaitTimeout, match="the server did not end"):
            made.wait(0.01)
    assert double.closed_with == [30.0]
    assert parameters(Server.close, ["self"]) == parameters(server.Server.close, ["self"])


def test_a_servers_function_may_not_wait_for_its_end(calls: Calls) -> None:
    held: list[Server] = []
    workers = Workers(lambda delivery: held[0].close(), 1, calls)
    held.append(Server(cast(server.Server, Double()), workers, calls))
    with pytest.raises(WrongThread, match="StopConsuming"):
        calls.finish("handle", lambda: workers(cast(Any, Received())))
    workers.end()
