"""The client for threads; what needs a connection is in the integration tests."""

from __future__ import annotations

from inspect import getmembers, isfunction, signature
from threading import get_ident
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from tests.blocking.doubles import Asked, asked, parameters, samples
from tests.blocking.test_delivery import Received
from tests.blocking.test_operation import SOON
from tests.blocking.test_transaction import Block
from txamqpx import client as asynchronous
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.client import BegunCalls, BlockingClient, connect
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.publisher import Publisher
from txamqpx.blocking.reactor_thread import AT_EXIT
from txamqpx.blocking.workers import Workers
from txamqpx.client import Client
from txamqpx.errors import AMQPError, ConfirmTimeout, ConnectionClosed, WrongThread
from txamqpx.once import Once


def public(kind: type) -> set[str]:
    return {name for name, _ in getmembers(kind, isfunction) if not name.startswith("_")}


INSIDE = {"adopt", "release"}
"""What is between the asynchronous client and its parts."""

RAW = {"channel"}
"""What ``run`` is for."""

LASTING = {"consume", "consume_many", "pipe", "serve", "deliveries"}
IMMEDIATE = {"publisher", "caller", "transaction", "close"}
"""What there is no point in beginning."""


class Double(Asked):
    """A client that answers all calls."""

    is_open = True
    server = "the server's facts"
    protocol = "<AMQPProtocol>"

    def __init__(self, **answers: Any) -> None:
        self.over: Once[AMQPError] = Once()
        super().__init__(**answers)

    def when_closed(self) -> Deferred[AMQPError]:
        return self.over.wait()


def client(double: object, calls: Calls) -> BlockingClient:
    return BlockingClient(cast(Client, double), calls)


# --------------------------------------------------------------------------- the same calls


def test_there_is_a_call_for_everything_that_the_client_does() -> None:
    assert public(Client) - INSIDE - RAW <= public(BlockingClient)
    assert public(BlockingClient) - public(Client) == {"run"}
    assert public(Client) - INSIDE - RAW - LASTING - IMMEDIATE == public(BegunCalls)


@pytest.mark.parametrize("name", sorted(public(BegunCalls)))
def test_what_is_begun_has_the_arguments_of_the_client(name: str) -> None:
    assert parameters(getattr(BegunCalls, name), ["self"]) == parameters(getattr(Client, name), ["self"])


@pytest.mark.parametrize("name", sorted(public(Client) - INSIDE - RAW - {"serve", "transaction"}))
def test_a_call_has_the_arguments_of_the_client(name: str) -> None:
    ours, theirs = getattr(BlockingClient, name), getattr(Client, name)
    assert [one[:2] for one in parameters(ours)] == [one[:2] for one in parameters(theirs)]
    assert "timeout" in signature(ours).parameters


def test_connecting_takes_what_the_client_takes() -> None:
    ours = parameters(connect, ["timeout", "call_timeout"])
    assert ours == parameters(asynchronous.connect, ["reactor"])


@pytest.mark.parametrize("name", ["publish", "flush", "get", "declare"])
def test_a_call_is_that_of_the_client_and_waits(name: str, calls: Calls) -> None:
    double = Double(get=None)
    ours = getattr(client(double, calls), name)
    assert asked(ours, double, samples(ours)) == (name, samples(ours))
    assert get_ident() not in double.threads


@pytest.mark.parametrize("name", ["get", "call", "declare"])
def test_what_is_begun_is_a_call_of_the_client(name: str, calls: Calls) -> None:
    double = Double(get=Received(), call=Received())
    begin = getattr(client(double, calls).begin, name)
    arguments = samples(begin, ["self"])
    operation = begin(**arguments)
    assert operation.name == name
    answer = operation.result(SOON)
    assert isinstance(answer, Delivery) or answer == "declare"
    called, positional, options = double.calls[-1]
    assert (called, [*positional, *options.values()]) == (name, list(arguments.values()))


def test_properties_go_with_a_publish_and_its_outcome_is_exact(calls: Calls) -> None:
    double = Double(publish=Deferred())
    with pytest.raises(ConfirmTimeout):
        client(double, calls).publish(b"", priority=3, timeout=0.01)
    assert double.calls[0][2]["priority"] == 3


def test_publishers_and_transactions_are_for_threads(calls: Calls) -> None:
    made: list[dict[str, Any]] = []
    block = Block()

    class Makes(Double):
        def publisher(self, **options: Any) -> str:
            made.append(options)
            return "the publisher"

        def transaction(self) -> Block:
            return block

    ours = client(Makes(), calls)
    assert isinstance(ours.publisher(persistent=False), Publisher)
    assert made == [{"persistent": False}]
    with ours.transaction():
        assert block.told == ["begin"]


def test_a_function_can_be_run_with_the_client_itself(calls: Calls) -> None:
    double = Double(channel="a channel")
    ours = client(double, calls)

    async def coroutine_function(given: Any) -> tuple[Any, int]:
        return await given.channel(), get_ident()

    assert ours.run(lambda given: given.channel()) == "a channel"  # type: ignore[comparison-overlap]
    result, thread = ours.run(coroutine_function)
    assert result == "a channel"
    assert thread != get_ident()


# --------------------------------------------------------------------------- its life


def test_it_tells_what_it_is(calls: Calls) -> None:
    ours = client(Double(), calls)
    assert ours.is_open is True
    assert cast(Any, ours.server) == "the server's facts"
    assert repr(ours) == "<BlockingClient of '<AMQPProtocol>'>"


def test_a_block_closes_at_its_end(calls: Calls) -> None:
    double = Double()
    with client(double, calls):
        assert double.calls == []
    assert double.calls == [("close", (30.0,), {})]


def test_the_end_of_the_process_closes_it_unless_it_is_over(calls: Calls) -> None:
    first, second = Double(), Double()
    client(first, calls)
    ours = client(second, calls)
    reason = ConnectionClosed("bye")
    calls.thread.call(lambda: second.over.fire(reason))
    assert ours.when_closed() is reason
    calls.thread.shut_down()
    assert first.calls == [("close", (AT_EXIT,), {})]
    assert second.calls == []


def test_a_handler_may_not_close_its_client(calls: Calls) -> None:
    double = Double()
    ours = client(double, calls)
    others = client(Double(), Calls(calls.thread, SOON))

    def handler(delivery: Delivery) -> None:
        others.close()
        ours.close()

    workers = Workers(handler, 1, calls)
    with pytest.raises(WrongThread, match=r"close waits for handlers .* StopConsuming"):
        calls.finish("handle", lambda: workers(cast(Any, Received())))
    assert double.calls == []
    workers.end()
