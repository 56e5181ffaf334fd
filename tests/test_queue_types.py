"""What a client has declared, and what it does not do with it then."""

from __future__ import annotations

from operator import methodcaller as calling
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.consuming.stage import Stage
from txamqpx.client import Client
from txamqpx.errors import TopologyError
from txamqpx.queue_types import MOST, QueueTypes
from txamqpx.server import ServerFacts
from txamqpx.spec.amqp0_9_1 import BasicCancel, QueueDeclare, QueueDelete, QueuePurge
from txamqpx.testing import failure_of, success_of
from txamqpx.topology import Queue, Topology

RABBITMQ = ServerFacts.from_properties({"product": "RabbitMQ", "version": "4.3.0"})


def ignore(delivery: Any) -> None:
    pass


def stage_of(product: str = "RabbitMQ") -> Stage:
    stage = Stage()
    stage.peer.protocol.core.server_properties = {"product": product, "version": "4.3.0"}
    stage.client = Client(stage.peer.protocol)
    return stage


@pytest.fixture
def stage() -> Stage:
    return stage_of()


def declare(stage: Stage, thing: Any) -> None:
    declared: Deferred[Any] = stage.client.declare(thing)
    stage.agree()
    success_of(declared)
    stage.names()


IMPOSSIBLE: list[tuple[Queue, calling, str]] = [
    (Queue.stream("q"), calling("get", "q"), "gives no single messages; consume it"),
    (Queue.stream("q"), calling("queue_purge", "q"), "cannot be purged; delete it"),
    (Queue.quorum("q"), calling("queue_delete", "q", if_unused=True), "without a condition"),
    (Queue.quorum("q"), calling("queue_delete", "q", if_empty=True), "without a condition"),
    (Queue.stream("q"), calling("consume", "q", ignore, ack="none"), "leave out no_ack"),
    (Queue.stream("q"), calling("consume", "q", ignore, prefetch=None), "needs a prefetch count"),
    (Queue.stream("q"), calling("consume", "q", ignore, priority=1), "no priority"),
    (Queue.stream("q"), calling("consume_many", ["p", "q"], ignore, ack="none"), "leave out no_ack"),
    (Queue.stream("q"), calling("pipe", "q", None, "p", priority=1), "no priority"),
    (Queue.stream("q"), calling("serve", "q", ignore, ack="none"), "leave out no_ack"),
]


@pytest.mark.parametrize(("queue", "call", "reason"), IMPOSSIBLE, ids=repr)
def test_what_the_type_of_a_queue_does_not_allow_is_not_sent(
    stage: Stage, queue: Queue, call: calling, reason: str
) -> None:
    declare(stage, queue)
    what = "a stream" if queue.type == "stream" else "a quorum queue"
    error = failure_of(call(stage.client), TopologyError)
    assert reason in str(error)
    assert f"this client has declared the queue as {what}" in str(error)
    stage.agree()
    assert stage.names() == []
    assert not stage.client.operations.busy
    assert not stage.client.publishers  # those of a pipe and a server have ended with it


@pytest.mark.parametrize(("queue", "call", "reason"), IMPOSSIBLE, ids=repr)
def test_it_is_known_when_the_turn_of_a_call_comes(
    stage: Stage, queue: Queue, call: calling, reason: str
) -> None:
    declared = stage.client.declare(Topology(queue))
    called = call(stage.client)
    stage.agree()
    success_of(declared)
    assert reason in str(failure_of(called, TopologyError))
    assert stage.names() == ["channel.open", "queue.declare"]


@pytest.mark.parametrize(("queue", "call", "reason"), IMPOSSIBLE, ids=repr)
def test_of_the_queues_of_others_nothing_is_known(
    stage: Stage, queue: Queue, call: calling, reason: str
) -> None:
    asked = stage.client.queue_declare("q", passive=True)
    stage.agree()
    success_of(asked)
    stage.names()
    call(stage.client)
    stage.agree()
    assert len(stage.names()) >= 1


@pytest.mark.parametrize(("queue", "call", "reason"), IMPOSSIBLE, ids=repr)
def test_another_broker_may_have_other_rules(queue: Queue, call: calling, reason: str) -> None:
    stage = stage_of("another")
    declare(stage, queue)
    call(stage.client)
    stage.agree()
    assert len(stage.names()) >= 1


def test_what_a_stream_and_a_quorum_queue_allow_is_done(stage: Stage) -> None:
    declare(stage, Topology(Queue.stream("st"), Queue.quorum("qq")))
    client = stage.client
    done: list[Deferred[Any]] = [
        client.consume("st", ignore),
        client.consume("qq", ignore, ack="none", priority=1),
        client.get("qq"),
        client.queue_purge("qq"),
        client.queue_delete("qq"),
        client.queue_delete("st", if_unused=True),
    ]
    stage.agree()
    for each in done:
        success_of(each)


def test_a_purge_waits_for_who_may_change_the_type_and_for_nobody_else(stage: Stage) -> None:
    stage.client.queue_bind("q", "x")
    stage.client.queue_purge("q")
    stage.listen()
    stage.agree()
    assert stage.names() == ["channel.open", "queue.bind", "queue.purge"]
    stage.client.queue_declare("q")
    stage.client.queue_delete("q")
    stage.client.queue_purge("q")
    stage.listen()
    assert stage.names() == ["queue.declare", "queue.delete"]
    stage.agree()
    assert stage.names() == ["queue.purge"]


def test_a_queue_that_was_deleted_is_forgotten(stage: Stage) -> None:
    declare(stage, Queue.stream("q"))
    stage.client.queue_delete("q")
    got = stage.client.get("q")
    stage.agree()
    assert success_of(got) is None


def test_a_queue_that_is_made_anew_is_of_its_new_type(stage: Stage) -> None:
    declare(stage, Queue.stream("q"))
    declare(stage, Queue.classic("q"))  # which the broker takes if somebody else has deleted the old one
    purged = stage.client.queue_purge("q")
    stage.agree()
    success_of(purged)


def test_a_declaration_that_nobody_waits_for_is_learned_of(stage: Stage) -> None:
    declared = stage.client.declare(Queue.stream("q"))
    stage.listen()
    declared.addErrback(lambda _: None).cancel()
    stage.agree()
    failure_of(stage.client.get("q"), TopologyError)


def test_a_transaction_takes_nothing_out_of_a_stream(stage: Stage) -> None:
    declare(stage, Queue.stream("st"))
    begun = stage.client.transaction().begin()
    stage.agree()
    failure_of(success_of(begun).get("st"), TopologyError)


def test_a_consumer_that_resumes_does_not_begin_with_what_is_a_stream_now(stage: Stage) -> None:
    consumer = stage.consume(ignore, "q", ack="none", resume=True)
    stage.peer.send(1, BasicCancel(consumer.consumer_tag, True))
    stage.agree()
    declare(stage, Queue.stream("q"))
    stage.advance(0.5)
    assert "basic.consume" not in stage.names()
    assert not consumer.is_active
    declare(stage, Queue.classic("q"))
    stage.advance(1.0)
    assert "basic.consume" in stage.names()


def test_so_many_queues_are_known_at_most() -> None:
    types = QueueTypes(RABBITMQ)
    for number in range(MOST + 5):
        types.learn(Queue.stream(f"q{number}").method())
    assert len(types) == MOST
    types.check(QueuePurge("q4"))
    with pytest.raises(TopologyError):
        types.check(QueuePurge("q5"))


@pytest.mark.parametrize(
    "method",
    [
        Queue.classic("q").method(),
        Queue("q").method(),
        QueueDeclare("q", passive=True, arguments={"x-queue-type": "stream"}),
        QueueDeclare("q", arguments={"x-queue-type": "of a plugin"}),
        QueueDelete("q"),
        QueuePurge("q"),
    ],
)
def test_nothing_is_kept_of_other_requests(method: Any) -> None:
    types = QueueTypes(RABBITMQ)
    types.learn(method)
    assert len(types) == 0
