"""The client's calls that consume: their order among the other calls."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.consuming.stage import Stage
from txamqpx.errors import ConnectionClosed, NotPublished
from txamqpx.message import Delivery
from txamqpx.testing import failure_of, success_of


def ignore(delivery: Delivery) -> None:
    pass


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.covers("S03")
def test_a_consumer_starts_when_what_was_called_before_is_done(stage: Stage) -> None:
    declared = stage.client.queue_declare("q")
    bound = stage.client.exchange_declare("x")
    consuming = stage.client.consume("q", ignore, exchange="x")
    stage.listen()
    assert "basic.consume" not in stage.names()
    stage.agree()
    success_of(declared)
    success_of(bound)
    success_of(consuming)
    assert "basic.consume" in stage.names()


@pytest.mark.parametrize(("one", "other"), [(True, False), (False, True)])
def test_who_wants_a_queue_for_himself_has_his_place_among_its_consumers(
    stage: Stage, one: bool, other: bool
) -> None:
    stage.client.consume("q", ignore, exclusive=one)
    later = stage.client.consume("q", ignore, exclusive=other)
    stage.listen()
    assert stage.names().count("basic.consume") == 1
    stage.agree()
    success_of(later)


def test_who_consumes_something_else_waits_for_nobody(stage: Stage) -> None:
    stage.client.queue_declare("other")
    stage.client.consume("", ignore)
    stage.listen()
    assert stage.names().count("channel.open") == 2
    stage.agree()


def test_a_loop_starts_at_once(stage: Stage) -> None:
    stage.client.deliveries("q", prefetch=3)
    stage.listen()
    assert stage.names() == ["channel.open", "basic.qos", "basic.consume"]
    stage.agree()


@pytest.mark.covers("L15")
def test_a_pipeline_takes_its_turn_too(stage: Stage) -> None:
    stage.client.queue_declare("q")
    piping = stage.client.pipe("q", None, "there")
    stage.listen()
    assert "basic.consume" not in stage.names()
    stage.agree()
    assert success_of(piping).consumer.is_active


@pytest.mark.covers("S33")
def test_calls_take_effect_until_the_last_handler_is_done(stage: Stage) -> None:
    client = stage.client
    work: Deferred[None] = Deferred()
    stage.consume(lambda delivery: work)
    stage.deliver(b"1")
    closed = client.close()
    stage.agree()
    calls: list[Deferred[Any]] = [
        client.publish(b"x", routing_key="a"),
        client.queue_declare("a"),
        client.get("a"),
    ]
    late: list[Deferred[Any]] = [client.consume("b", ignore), client.transaction().begin()]
    stage.agree()
    for call in calls:
        success_of(call)
    for call in late:
        failure_of(call, ConnectionClosed)
    work.callback(None)
    stage.agree()
    failure_of(client.publish(b"y", routing_key="a"), NotPublished)
    failure_of(client.queue_declare("a"), ConnectionClosed)
    assert success_of(closed) is None
