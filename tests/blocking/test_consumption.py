"""Consuming, asking and answering from threads: the calls are those of the asynchronous client."""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore
from threading import enumerate as threads
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.blocking.doubles import Asked, asked, parameters, samples
from tests.blocking.test_consumer import Consuming
from tests.blocking.test_delivery import Received
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.consumer import Consumer, Deliveries, Pipeline
from txamqpx.blocking.consumption import Consumption
from txamqpx.blocking.rpc import Caller, Server
from txamqpx.blocking.workers import Workers
from txamqpx.client import Client
from txamqpx.errors import InvalidParameter, NotFound, WaitTimeout


def handler(delivery: object) -> None: ...


STARTS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "consume": (("jobs", handler), Consumer),
    "consume_many": ((["jobs", "more"], handler), Consumer),
    "pipe": (("jobs", handler, "done"), Pipeline),
    "serve": (("jobs", handler), Server),
}
"""What calls a function in threads: its arguments, and what it returns."""


def consumption(client: object, calls: Calls) -> Consumption:
    made = Consumption()
    made._client, made._calls, made._room = cast(Client, client), calls, Semaphore(10)
    return made


def threads_of(function: Callable[..., object]) -> list[str]:
    return [one.name for one in threads() if one.name.startswith(f"txamqpx {function.__qualname__} ")]


@pytest.mark.parametrize("name", STARTS)
def test_it_starts_as_the_client_does_with_threads_that_call_the_function(name: str, calls: Calls) -> None:
    (*arguments,), kind = STARTS[name]
    consuming = Consuming()
    client = Asked(**{name: consuming})
    options = {"concurrency": 3, "prefetch": 10, "thread": True}
    made = cast(Any, getattr(consumption(client, calls), name)(*arguments, **options))
    assert type(made) is kind
    ((called, given, options),) = client.calls
    workers = next(one for one in given if isinstance(one, Workers))
    assert called == name
    assert [handler if one is workers else one for one in given] == arguments
    assert {key: value for key, value in options.items() if value not in (None, False)} == {
        "concurrency": 3,
        "prefetch": 10,
    }
    assert made.workers is workers
    ending = [one for one in threads() if one.name in threads_of(handler)]
    assert len(ending) == 3
    calls.thread.call(lambda: consuming.over[0].callback(None))
    for thread in ending:
        thread.join(60.0)
    assert threads_of(handler) == []


@pytest.mark.parametrize("name", STARTS)
def test_its_arguments_are_those_of_the_client(name: str) -> None:
    ours, theirs = getattr(Consumption, name), getattr(Client, name)
    assert [one[:2] for one in parameters(ours)] == [one[:2] for one in parameters(theirs)]


@pytest.mark.parametrize(
    ("answer", "error", "options"),
    [
        (lambda: fail(NotFound("no queue")), NotFound, {}),
        (Deferred, WaitTimeout, {"timeout": 0.01}),
        (lambda: succeed(None), InvalidParameter, {"concurrency": 0}),
    ],
)
def test_what_does_not_start_leaves_no_threads(
    answer: Callable[[], Deferred[Any]], error: type[Exception], options: dict[str, Any], calls: Calls
) -> None:
    def unmistakable(delivery: object) -> None: ...

    client = Asked(consume=answer())
    with pytest.raises(error):
        consumption(client, calls).consume("jobs", unmistakable, **options)
    for thread in threads():
        if thread.name in threads_of(unmistakable):
            thread.join(60.0)
    assert threads_of(unmistakable) == []


def test_a_pipeline_without_a_function_has_no_threads(calls: Calls) -> None:
    client = Asked(pipe=Consuming())
    pipeline = consumption(client, calls).pipe("jobs", None, ("exchange", "key"), prefetch=3)
    assert client.calls == [("pipe", ("jobs", None, ("exchange", "key")), {"prefetch": 3})]
    assert pipeline.workers is None
    pipeline.cancel()


def test_a_loop_is_made_there_and_waits_here(calls: Calls) -> None:
    made: list[tuple[str, dict[str, Any]]] = []

    class Looping:
        def deliveries(self, queue: str, **options: Any) -> str:
            made.append((queue, options))
            return "the deliveries"

    loop = consumption(Looping(), calls).deliveries("jobs", timeout=3.0, prefetch=7)
    assert isinstance(loop, Deliveries)
    assert loop.timeout == 3.0
    assert made == [("jobs", {"prefetch": 7})]


def test_a_call_is_that_of_the_client(calls: Calls) -> None:
    client = Asked(call=Received())
    ours = consumption(client, calls).call
    arguments = samples(ours, ["self"])
    assert parameters(Consumption.call, ["self"]) == parameters(Client.call, ["self"])
    assert asked(ours, client, arguments) == ("call", arguments)
    assert ours(**arguments, priority=2).body == b"body"  # type: ignore[arg-type]
    assert client.calls[-1][2]["priority"] == 2


def test_a_caller_is_made_there(calls: Calls) -> None:
    made: list[dict[str, Any]] = []

    class Calling:
        def caller(self, **options: Any) -> str:
            made.append(options)
            return "the caller"

    assert isinstance(consumption(Calling(), calls).caller(reply_queue=True), Caller)
    assert made == [{"reply_queue": True}]
