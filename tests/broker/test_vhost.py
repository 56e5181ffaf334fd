from __future__ import annotations

from typing import Any

import pytest

from tests.broker.yard import PROFILES, House, Mouth
from tests.queue_cases import LOCKED
from txamqpx.broker.accepting import accept
from txamqpx.broker.message import Message
from txamqpx.broker.queue import Queue
from txamqpx.broker.quorum import QuorumQueue
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.vhost import VirtualHost
from txamqpx.spec.amqp0_9_1 import BasicProperties

MINE, YOURS = object(), object()


@pytest.fixture
def vhost() -> VirtualHost:
    return VirtualHost("/", House(PROFILES[1]))


def have(right: str, kind: str, name: str) -> None:
    """Have all rights."""


def declare(vhost: VirtualHost, name: str, session: object = MINE, **features: Any) -> Queue:
    given = {
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "arguments": {},
        "demand": have,
        **features,
    }
    return vhost.declare_queue(name, session, **given)


def declare_fanout(
    vhost: VirtualHost, name: str, *, auto_delete: bool = False, internal: bool = False
) -> None:
    vhost.exchanges.declare(
        name, "fanout", durable=False, auto_delete=auto_delete, internal=internal, arguments={}, demand=have
    )


def publish(vhost: VirtualHost, key: str = "", exchange: str = "", **headers: Any) -> list[str]:
    """Publish a message, and return the names of where it went."""
    made = Message.made(exchange, key, BasicProperties(headers=headers or None), b"")
    vhost.admit(exchange)
    queues = vhost.route(accept(made, vhost.broker.profile))
    for queue in queues:
        queue.publish(made)
    return [queue.name for queue in queues]


def delete(vhost: VirtualHost, name: str, session: object = MINE, **conditions: bool) -> int:
    return vhost.delete_queue_if(name, session, **{"if_unused": False, "if_empty": False, **conditions})


def test_queues_are_of_the_type_that_was_asked_for(vhost: VirtualHost) -> None:
    assert type(declare(vhost, "a")) is Queue
    assert type(declare(vhost, "b", arguments={"x-queue-type": "classic"})) is Queue
    assert type(declare(vhost, "c", arguments={"x-queue-type": "quorum"})) is QuorumQueue
    with pytest.raises(Refusal, match="406 PRECONDITION_FAILED - unknown queue type 'nonsense'"):
        declare(vhost, "", arguments={"x-queue-type": "nonsense"})


def test_an_exclusive_queue_is_its_connection_s(vhost: VirtualHost) -> None:
    queue = declare(vhost, "mine", exclusive=True)
    assert declare(vhost, "mine", exclusive=True, durable=False) is queue
    vhost.bind_queue("mine", MINE, "amq.topic", "k", {})
    for ask in (
        lambda: vhost.queue("mine", YOURS),
        lambda: declare(vhost, "mine", YOURS, exclusive=True),
        lambda: declare(vhost, "mine", YOURS),
        lambda: delete(vhost, "mine", YOURS),
        lambda: vhost.bind_queue("mine", YOURS, "amq.topic", "j", {}),
        lambda: vhost.unbind_queue("mine", YOURS, "amq.topic", "k", {}),
    ):
        with pytest.raises(Refusal) as caught:
            ask()
        assert caught.value.code == 405
        assert caught.value.text == "RESOURCE_LOCKED - " + LOCKED.format("mine", v="vhost '/'")
    vhost.unbind_queue("mine", YOURS, "amq.topic", "never bound", {})
    assert vhost.queue("mine", MINE) is queue


def test_exclusive_queues_end_with_their_connection(vhost: VirtualHost) -> None:
    for name, session, exclusive in (
        ("a", MINE, True),
        ("b", YOURS, True),
        ("c", MINE, False),
        ("d", MINE, True),
    ):
        declare(vhost, name, session, exclusive=exclusive)
    vhost.bind_queue("a", MINE, "amq.fanout", "", {})
    vhost.delete_exclusive(MINE)
    assert [*vhost.queues] == ["b", "c"]
    assert not vhost.exchanges["amq.fanout"].is_used


def test_conditions_of_a_delete(vhost: VirtualHost) -> None:
    assert delete(vhost, "jobs") == 0
    queue = declare(vhost, "jobs")
    publish(vhost, "jobs")
    with pytest.raises(Refusal, match="406 PRECONDITION_FAILED - queue 'jobs' in vhost '/' not empty"):
        delete(vhost, "jobs", if_empty=True, if_unused=True)
    consumer = Mouth().consume(queue)
    with pytest.raises(Refusal, match="406 PRECONDITION_FAILED - queue 'jobs' in vhost '/' in use"):
        delete(vhost, "jobs", if_empty=True, if_unused=True)
    queue.remove_consumer(consumer)
    assert delete(vhost, "jobs", if_empty=True, if_unused=True) == 0
    assert vhost.queues == {}


def test_a_delete_says_how_many_were_ready_and_drops_the_bindings(vhost: VirtualHost) -> None:
    declare(vhost, "jobs")
    vhost.bind_queue("jobs", MINE, "amq.fanout", "", {})
    for _ in range(3):
        assert publish(vhost, exchange="amq.fanout") == ["jobs"]
    assert delete(vhost, "jobs") == 3
    assert publish(vhost, exchange="amq.fanout") == []
    declare(vhost, "jobs")
    assert publish(vhost, exchange="amq.fanout") == []


def test_a_queue_that_goes_with_its_last_consumer_takes_its_exchange_along(vhost: VirtualHost) -> None:
    queue = declare(vhost, "jobs", auto_delete=True)
    vhost.exchanges.declare(
        "x", "fanout", durable=False, auto_delete=True, internal=False, arguments={}, demand=have
    )
    vhost.bind_queue("jobs", MINE, "x", "", {})
    one, two = Mouth().consume(queue), Mouth().consume(queue)
    queue.remove_consumer(one)
    assert vhost.queues == {"jobs": queue}
    queue.remove_consumer(two)
    assert vhost.queues == {}
    assert "x" not in vhost.exchanges


def test_the_default_exchange_knows_queues_by_name(vhost: VirtualHost) -> None:
    for name in "abc":
        declare(vhost, name)
    assert publish(vhost, "a") == ["a"]
    assert publish(vhost, "missing") == []
    assert publish(vhost, "a", CC=["b", "a", "missing"], BCC=["c", "b"]) == ["a", "b", "c"]
    assert publish(vhost, "missing", CC=["c"]) == ["c"]


def test_replies_go_to_their_channel(vhost: VirtualHost) -> None:
    got: list[Message] = []
    address = vhost.replies.open(got.append)
    assert publish(vhost, address.name) == [address.name]
    assert len(got) == 1


def test_where_clients_cannot_publish_to_dead_letters_go(vhost: VirtualHost) -> None:
    declare(vhost, "dead")
    vhost.exchanges.declare(
        "inner", "fanout", durable=False, auto_delete=False, internal=True, arguments={}, demand=have
    )
    vhost.bind_queue("dead", MINE, "inner", "", {})
    with pytest.raises(Refusal, match="403 ACCESS_REFUSED - cannot publish to internal exchange 'inner' in"):
        publish(vhost, exchange="inner")
    with pytest.raises(Refusal, match="404 NOT_FOUND - no exchange 'missing' in vhost '/'"):
        publish(vhost, exchange="missing")
    queue = declare(vhost, "jobs", arguments={"x-dead-letter-exchange": "inner", "x-max-length": 0})
    publish(vhost, "jobs")
    assert vhost.queues["dead"].message_count == 1
    assert queue.message_count == 0
    assert vhost.route(Message.made("missing", "jobs", BasicProperties(), b"")) == ()
