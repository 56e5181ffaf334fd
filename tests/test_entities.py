from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from txamqpx.entities import Exchange, Queue
from txamqpx.errors import TopologyError
from txamqpx.spec.amqp0_9_1 import ExchangeDeclare, QueueDeclare

MINUTE = timedelta(minutes=1)


# --------------------------------------------------------------------------- exchanges


@pytest.mark.covers("P20")
@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_an_exchange_of_each_type(kind: str) -> None:
    exchange = getattr(Exchange, kind)("events", internal=True)
    assert exchange == Exchange("events", kind, internal=True)
    assert exchange.method() == ExchangeDeclare("events", kind, durable=True, internal=True, arguments={})


@pytest.mark.covers("P20")
def test_all_of_an_exchange_is_in_its_request() -> None:
    exchange = Exchange(
        "events", "x-odd", durable=False, auto_delete=True, passive=True, arguments={"a": [1]}
    )
    assert exchange.method() == ExchangeDeclare(
        "events", "x-odd", passive=True, durable=False, auto_delete=True, arguments={"a": (1,)}
    )


def test_an_alternate_exchange() -> None:
    lost = Exchange.fanout("lost")
    exchange = Exchange("events", alternate_exchange=lost, arguments={"a": 1})
    assert exchange.alternate_exchange == "lost"
    assert exchange.arguments == {"a": 1}
    assert exchange.method().arguments == {"alternate-exchange": "lost", "a": 1}
    assert exchange == Exchange("events", arguments={"alternate-exchange": "lost", "a": 1})
    assert attrs.evolve(exchange, durable=False).method().arguments == exchange.method().arguments
    for other in ("other", None):
        assert attrs.evolve(exchange, alternate_exchange=other) == Exchange(
            "events", alternate_exchange=other, arguments={"a": 1}
        )
    with pytest.raises(TopologyError, match="given twice"):
        attrs.evolve(exchange, arguments={"alternate-exchange": "other"})
    with pytest.raises(TopologyError, match="given twice"):
        Exchange("events", alternate_exchange="a", arguments={"alternate-exchange": "b"})


def test_what_an_exchange_is_known_by() -> None:
    assert Exchange("events").key == ("exchange", "events")
    assert str(Exchange("events")) == "exchange 'events'"
    assert Exchange.topic("amq.topic").predeclared
    assert not Exchange("events").predeclared


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"name": ""}, "exchange ''"),
        ({"name": "amq.mine"}, "exchange 'amq.mine'"),
        ({"name": "ü" * 128}, "exchange"),
        ({"name": 5}, "exchange"),
        ({"name": "e", "type": ""}, "exchange 'e'"),
        ({"name": "e", "type": None}, "exchange 'e', type"),
        ({"name": "e", "durable": 1}, "exchange 'e', durable"),
        ({"name": "e", "auto_delete": None}, "exchange 'e', auto_delete"),
        ({"name": "e", "internal": "no"}, "exchange 'e', internal"),
        ({"name": "e", "passive": 0}, "exchange 'e', passive"),
        ({"name": "e", "alternate_exchange": 1}, "exchange 'e', alternate_exchange"),
        ({"name": "e", "arguments": {"alternate-exchange": 1}}, "exchange 'e', alternate-exchange"),
        ({"name": "e", "arguments": {"x": object()}}, "exchange 'e', 'x'"),
    ],
)
def test_an_exchange_that_cannot_be(options: dict[str, Any], where: str) -> None:
    with pytest.raises(TopologyError) as caught:
        Exchange(**options)
    assert caught.value.parameter == where


# --------------------------------------------------------------------------- queues


@pytest.mark.covers("P17")
def test_all_of_a_queue_is_in_its_request() -> None:
    queue = Queue("jobs", durable=False, exclusive=True, auto_delete=True, arguments={"x-expires": 5})
    assert queue.method() == QueueDeclare(
        "jobs", durable=False, exclusive=True, auto_delete=True, arguments={"x-expires": 5}
    )
    assert Queue("jobs", passive=True).method() == QueueDeclare(
        "jobs", passive=True, durable=True, arguments={}
    )


def test_a_classic_queue() -> None:
    queue = Queue.classic(
        "jobs",
        durable=False,
        exclusive=True,
        auto_delete=True,
        message_ttl=MINUTE,
        expires=timedelta(microseconds=1),
        max_length=10,
        max_length_bytes=0,
        overflow="reject-publish-dlx",
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
        max_priority=5,
        single_active_consumer=False,
        arguments={"x-more": True},
    )
    assert (queue.durable, queue.exclusive, queue.auto_delete, queue.type) == (False, True, True, "classic")
    assert queue.arguments == {
        "x-queue-type": "classic",
        "x-message-ttl": 60_000,
        "x-expires": 1,
        "x-max-length": 10,
        "x-max-length-bytes": 0,
        "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
        "x-max-priority": 5,
        "x-single-active-consumer": False,
        "x-more": True,
    }


def test_a_quorum_queue() -> None:
    queue = Queue.quorum(
        "jobs",
        delivery_limit=-1,
        message_ttl=0,
        expires=1,
        max_length=2,
        max_length_bytes=3,
        overflow="reject-publish",
        dead_letter_exchange=Exchange("dead"),
        dead_letter_routing_key="key",
        dead_letter_strategy="at-least-once",
        single_active_consumer=True,
        initial_group_size=3,
        leader_locator="balanced",
        consumer_timeout=MINUTE,
        delayed_retry_type="all",
        delayed_retry_min=1000,
        delayed_retry_max=MINUTE,
        arguments={"x-more": 1},
    )
    assert (queue.durable, queue.exclusive, queue.auto_delete, queue.type) == (True, False, False, "quorum")
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": -1,
        "x-message-ttl": 0,
        "x-expires": 1,
        "x-max-length": 2,
        "x-max-length-bytes": 3,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "dead",
        "x-dead-letter-routing-key": "key",
        "x-dead-letter-strategy": "at-least-once",
        "x-single-active-consumer": True,
        "x-quorum-initial-group-size": 3,
        "x-queue-leader-locator": "balanced",
        "x-consumer-timeout": 60_000,
        "x-delayed-retry-type": "all",
        "x-delayed-retry-min": 1000,
        "x-delayed-retry-max": 60_000,
        "x-more": 1,
    }


def test_a_stream() -> None:
    queue = Queue.stream(
        "log",
        max_age=timedelta(days=1),
        max_length_bytes=5,
        segment_size_bytes=4,
        filter_size_bytes=16,
        initial_cluster_size=1,
        leader_locator="client-local",
        arguments={"x-more": 1},
    )
    assert queue.type == "stream"
    assert queue.arguments == {
        "x-queue-type": "stream",
        "x-max-age": "86400s",
        "x-max-length-bytes": 5,
        "x-stream-max-segment-size-bytes": 4,
        "x-stream-filter-size-bytes": 16,
        "x-initial-cluster-size": 1,
        "x-queue-leader-locator": "client-local",
        "x-more": 1,
    }
    assert Queue.stream("log").arguments == {"x-queue-type": "stream"}


@pytest.mark.covers("S94", "K16")
def test_a_temporary_queue() -> None:
    queue = Queue.temporary(
        expires=MINUTE, message_ttl=1, max_length=2, max_length_bytes=3, overflow="drop-head"
    )
    assert queue.server_named
    assert (queue.name, queue.durable, queue.exclusive, queue.auto_delete) == ("", False, True, True)
    assert queue.arguments == {
        "x-queue-type": "classic",
        "x-expires": 60_000,
        "x-message-ttl": 1,
        "x-max-length": 2,
        "x-max-length-bytes": 3,
        "x-overflow": "drop-head",
    }
    assert not Queue("jobs").server_named
    assert Queue("jobs").type is None


@pytest.mark.covers("T-REC-06")
def test_queues_without_a_name_are_known_by_their_handle() -> None:
    one, other = Queue.temporary(), Queue.temporary()
    assert one != other
    assert len({one.key, other.key, Queue("", exclusive=True).key}) == 3
    assert Queue.temporary(handle="replies") == Queue.temporary(handle="replies")
    assert Queue.temporary(handle="replies").key == ("queue", "", "replies")
    assert str(Queue.temporary(handle="replies")) == "queue '' (replies)"
    assert attrs.evolve(one, durable=True).key == one.key
    assert Queue("jobs").key == ("queue", "jobs")
    assert str(Queue("jobs")) == "queue 'jobs'"


def test_values_hash_and_compare() -> None:
    assert Queue.quorum("a") == Queue("a", arguments={"x-queue-type": "quorum"})
    assert hash(Queue.quorum("a")) == hash(Queue("a", arguments={"x-queue-type": "quorum"}))
    assert Queue("a", arguments={"x": 1}) != Queue("a", arguments={"x": True})
    assert {Exchange("e"), Exchange("e"), Queue("e")} == {Exchange("e"), Queue("e")}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Queue("a").name = "b"  # type: ignore[misc]


WRONG: list[tuple[Callable[[], Queue], str]] = [
    (lambda: Queue("amq.gen-1"), "queue 'amq.gen-1'"),
    (lambda: Queue("ü" * 128), "queue"),
    (lambda: Queue(b"jobs"), "queue"),  # type: ignore[arg-type]
    (lambda: Queue("q", durable=1), "queue 'q', durable"),  # type: ignore[arg-type]
    (lambda: Queue("q", handle="h"), "queue 'q' (h), handle"),
    (lambda: Queue("", passive=True), "queue ''"),
    (lambda: Queue.classic("q", message_ttl=True), "queue 'q', message_ttl"),
    (lambda: Queue.classic("q", message_ttl=-MINUTE), "queue 'q', message_ttl"),
    (lambda: Queue.classic("q", expires=0), "queue 'q', x-expires"),
    (lambda: Queue.classic("q", max_length=True), "queue 'q', x-max-length"),
    (lambda: Queue.classic("q", max_length_bytes=-1), "queue 'q', x-max-length-bytes"),
    (lambda: Queue.classic("q", max_priority=256), "queue 'q', x-max-priority"),
    (lambda: Queue.classic("q", dead_letter_routing_key="k"), "queue 'q', x-dead-letter-routing-key"),
    (lambda: Queue.classic("q", arguments={"x-queue-type": "quorum"}), "queue 'q', x-queue-type"),
    (lambda: Queue.quorum(""), "queue ''"),
    (lambda: Queue.quorum("q", delivery_limit=-2), "queue 'q', delivery_limit"),
    (lambda: Queue.quorum("q", consumer_timeout=1.5), "queue 'q', consumer_timeout"),  # type: ignore[arg-type]
    (lambda: Queue.quorum("q", delayed_retry_min=-1), "queue 'q', delayed_retry_min"),
    (lambda: Queue.quorum("q", arguments={"x-max-priority": 5}), "queue 'q', x-max-priority"),
    (lambda: Queue.stream("q", max_age="1W"), "queue 'q', x-max-age"),
    (lambda: Queue.stream("q", max_age=timedelta(0)), "queue 'q', max_age"),
    (lambda: Queue.temporary(arguments={"x-queue-type": "quorum"}), "queue '', x-queue-type"),
]


@pytest.mark.parametrize(("make", "where"), WRONG, ids=map(str, range(len(WRONG))))
def test_a_queue_that_cannot_be(make: Callable[[], Queue], where: str) -> None:
    with pytest.raises(TopologyError) as caught:
        make()
    assert caught.value.parameter.startswith(where)


def test_a_queue_that_is_only_asked_for_may_be_the_brokers() -> None:
    assert Queue("amq.gen-1", passive=True).method().passive
    assert Exchange("amq.rabbitmq.event", passive=True).method().passive


def test_a_value_is_checked_for_a_broker() -> None:
    queue = Queue("jobs", durable=False)
    assert queue.check() == []
    assert queue.check((3, 10, 8)) == []
    assert len(queue.check((4, 3, 6))) == 1
    assert queue.check((4, 3, 6), allow_deprecated=True) == []
    with pytest.raises(TopologyError):
        queue.check((4, 3, 6), allow_deprecated=False)
    assert len(Exchange("e", "odd").check()) == 1
