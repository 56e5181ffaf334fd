"""py-amqp, on which Celery stands, sees the broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import amqp
import pytest
from amqp.exceptions import (
    AccessRefused,
    ConnectionForced,
    MessageNacked,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)

from tests.brokers_plugin import Vhost
from tests.integration.support import PATIENCE
from tests.interop import MOMENT, PROPERTIES


@pytest.fixture
def connections(vhost: Vhost) -> Iterator[Callable[..., amqp.Connection]]:
    """Open connections to the test's virtual host, and close those that are left."""
    made: list[amqp.Connection] = []

    def connect(**changes: Any) -> amqp.Connection:
        host = f"127.0.0.1:{vhost.node.ports['amqp']}"
        options = {"virtual_host": vhost.name, "read_timeout": PATIENCE, **changes}
        made.append(amqp.Connection(host, **options))
        made[-1].connect()
        return made[-1]

    yield connect
    for connection in made:
        if connection.connected:
            connection.close()
        connection.collect()


@pytest.fixture
def connection(connections: Callable[..., amqp.Connection]) -> amqp.Connection:
    """Open a connection on which a publish waits for its confirm."""
    return connections(confirm_publish=True)


@pytest.fixture
def channel(connection: amqp.Connection) -> amqp.Channel:
    """Open a channel."""
    return connection.channel()


@pytest.fixture
def queue(channel: amqp.Channel) -> str:
    """Declare a queue."""
    return str(channel.queue_declare(exclusive=True, auto_delete=False).queue)


def until(channel: amqp.Channel, happens: Callable[[], object]) -> None:
    """Let the connection work until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        with suppress(TimeoutError):
            channel.connection.drain_events(timeout=0.05)


def depth(channel: amqp.Channel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def publish(channel: amqp.Channel, queue: str, *bodies: bytes) -> None:
    """Publish to a queue."""
    for body in bodies:
        channel.basic_publish(amqp.Message(body), routing_key=queue)


def bodies_in(channel: amqp.Channel, queue: str) -> list[bytes]:
    """Take all that is ready in a queue."""
    bodies = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        bodies.append(message.body)
    return bodies


def test_a_connection_knows_the_broker(vhost: Vhost, connection: amqp.Connection) -> None:
    assert connection.server_properties["version"] == vhost.node.version
    assert connection.server_properties["product"] == "RabbitMQ"
    assert {"basic.nack", "publisher_confirms"} <= set(connection.server_properties["capabilities"])
    connection.close()
    assert not connection.connected


def test_both_mechanisms_log_in(connections: Callable[..., amqp.Connection]) -> None:
    for mechanism in ("PLAIN", "AMQPLAIN"):
        assert connections(login_method=mechanism).connected
    with pytest.raises(AccessRefused):
        connections(password="wrong")
    with pytest.raises(NotAllowed):
        connections(virtual_host="missing")


def test_heartbeats_keep_the_connection(connections: Callable[..., amqp.Connection]) -> None:
    connection = connections(heartbeat=2)
    channel = connection.channel()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        connection.heartbeat_tick()
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.5)
    assert channel.queue_declare(exclusive=True).message_count == 0


def test_a_large_body_goes_in_many_frames(channel: amqp.Channel, queue: str) -> None:
    for size in (131_063, 131_064, 131_065, 4_000_000):
        publish(channel, queue, b"x" * size)
        (body,) = bodies_in(channel, queue)
        assert len(body) == size


@pytest.mark.parametrize(
    ("kind", "binding", "match", "other"),
    [
        ("direct", {"routing_key": "a"}, "a", "b"),
        ("topic", {"routing_key": "#.b"}, "a.a.b", "b.a"),
        ("headers", {"arguments": {"x-match": "all", "k": "a"}}, "a", "b"),
        ("fanout", {}, "a", None),
    ],
)
def test_each_type_of_exchange_routes(
    channel: amqp.Channel, queue: str, kind: str, binding: dict[str, Any], match: str, other: str | None
) -> None:
    """The key is a header, too, for the exchange that looks at those."""
    returned: list[Any] = []
    channel.events["basic_return"].add(lambda *told: returned.append(told[-1].body))
    channel.exchange_declare("x", kind)
    channel.queue_bind(queue, "x", **binding)
    for key in filter(None, (match, other)):
        message = amqp.Message(key.encode(), application_headers={"k": key})
        channel.basic_publish(message, "x", key, mandatory=True)
    assert bodies_in(channel, queue) == [match.encode()]
    assert returned == ([other.encode()] if other else [])
    channel.exchange_declare("source", "fanout")
    channel.exchange_bind("x", "source")
    message = amqp.Message(b"through", application_headers={"k": match})
    channel.basic_publish(message, "source", match)
    assert bodies_in(channel, queue) == [b"through"]
    channel.exchange_unbind("x", "source")
    channel.queue_unbind(queue, "x", **binding)
    channel.exchange_delete("source")
    with pytest.raises(NotFound):
        channel.exchange_declare("x", kind, passive=True)


def test_errors_end_the_channel_and_no_more(
    connection: amqp.Connection, connections: Callable[..., amqp.Connection]
) -> None:
    first = connection.channel()
    first.queue_declare("q", exclusive=True, auto_delete=False)
    errors: list[tuple[type[Exception], Callable[[amqp.Channel], object]]] = [
        (NotFound, lambda channel: channel.queue_declare("missing", passive=True)),
        (NotFound, lambda channel: channel.basic_consume("missing")),
        (NotFound, lambda channel: channel.basic_publish_confirm(amqp.Message(b""), "missing")),
        (PreconditionFailed, lambda channel: channel.queue_declare("q", exclusive=True, auto_delete=True)),
        (PreconditionFailed, lambda channel: channel.tx_commit()),
        (AccessRefused, lambda channel: channel.exchange_delete("amq.direct")),
        (ResourceLocked, lambda _: connections().channel().queue_declare("q", passive=True)),
    ]
    for error, call in errors:
        with pytest.raises(error):
            call(connection.channel())
    publish(first, "q", b"still here")
    assert depth(first, "q") == 1


def test_a_message_is_what_it_was(channel: amqp.Channel, queue: str) -> None:
    told = {name: value for name, value in PROPERTIES.items() if name != "headers"}
    told["timestamp"] = int(MOMENT.timestamp())
    headers: dict[str, Any] = {
        "true": True,
        "int": 2**40,
        "float": 0.1,
        "text": "grün",
        "none": None,
        "list": [1, "two", [3]],
        "table": {"deep": {"er": "é"}},
        "time": MOMENT.replace(tzinfo=None),
    }
    body = bytes(range(256)) * 5000
    channel.basic_publish(amqp.Message(body, application_headers=headers, **told), routing_key=queue)
    message = channel.basic_get(queue, no_ack=True)
    info = message.delivery_info
    assert bytes(message.body) == body
    assert (info["exchange"], info["routing_key"], info["redelivered"]) == ("", queue, False)
    assert {name: message.properties[name] for name in told} == told
    assert message.headers == headers


def test_a_full_queue_that_refuses_nacks(channel: amqp.Channel) -> None:
    limit = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare("small", exclusive=True, arguments=limit)
    publish(channel, "small", b"1")
    with pytest.raises(MessageNacked):
        publish(channel, "small", b"2")
    assert bodies_in(channel, "small") == [b"1"]


def test_what_was_got_is_settled(channel: amqp.Channel, queue: str) -> None:
    assert channel.basic_get(queue) is None
    publish(channel, queue, b"1", b"2", b"3")
    tags = [channel.basic_get(queue).delivery_tag for _ in range(3)]
    channel.basic_ack(tags[0])
    channel.basic_reject(tags[1], requeue=True)
    channel.basic_recover(requeue=True)
    until(channel, lambda: depth(channel, queue) == 2)
    first, second = channel.basic_get(queue), channel.basic_get(queue)
    assert [(one.body, one.delivery_info["redelivered"]) for one in (first, second)] == [
        (b"2", True),
        (b"3", True),
    ]
    channel.basic_ack(second.delivery_tag, multiple=True)
    publish(channel, queue, b"4")
    assert channel.queue_purge(queue) == 1
    assert channel.queue_delete(queue) == 0


def test_the_prefetch_count_holds(channel: amqp.Channel, queue: str) -> None:
    publish(channel, queue, *(b"%d" % number for number in range(5)))
    seen: list[Any] = []
    channel.basic_qos(0, 2, False)
    tag = channel.basic_consume(queue, callback=seen.append)
    until(channel, lambda: len(seen) == 2)
    assert depth(channel, queue) == 3
    seen[1].channel.basic_ack(seen[1].delivery_tag, multiple=True)
    until(channel, lambda: len(seen) == 4)
    channel.basic_cancel(tag)
    assert [message.body for message in seen] == [b"0", b"1", b"2", b"3"]
    assert [message.delivery_tag for message in seen] == [1, 2, 3, 4]
    assert channel.queue_declare(queue, passive=True).consumer_count == 0


def test_the_end_of_a_queue_cancels_its_consumer(connection: amqp.Connection) -> None:
    channel = connection.channel()
    channel.queue_declare("jobs", exclusive=True, auto_delete=False)
    cancelled: list[str] = []
    tag = channel.basic_consume("jobs", callback=print, on_cancel=cancelled.append)
    connection.channel().queue_delete("jobs")
    until(channel, lambda: cancelled)
    assert cancelled == [tag]


def test_a_late_message_is_dead_lettered(channel: amqp.Channel) -> None:
    channel.queue_declare("dead", exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 50}
    channel.queue_declare("jobs", exclusive=True, arguments=arguments)
    publish(channel, "jobs", b"late")
    until(channel, lambda: depth(channel, "dead") == 1)
    (death,) = channel.basic_get("dead", no_ack=True).headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == ("jobs", "expired", 1)


def test_a_transaction_is_committed_or_rolled_back(connections: Callable[..., amqp.Connection]) -> None:
    channel = connections().channel()
    channel.queue_declare("q", exclusive=True, auto_delete=False)
    channel.tx_select()
    publish(channel, "q", b"1")
    channel.tx_commit()
    publish(channel, "q", b"2")
    channel.tx_rollback()
    assert bodies_in(channel, "q") == [b"1"]


def test_a_call_is_answered_through_the_direct_reply_queue(
    channel: amqp.Channel, queue: str, connections: Callable[..., amqp.Connection]
) -> None:
    caller = connections().channel()
    replies: list[Any] = []
    caller.basic_consume("amq.rabbitmq.reply-to", no_ack=True, callback=replies.append)
    asked = amqp.Message(b"question", reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    caller.basic_publish(asked, routing_key=queue)
    until(channel, lambda: depth(channel, queue) == 1)
    question = channel.basic_get(queue, no_ack=True)
    answer = amqp.Message(b"answer", correlation_id=question.properties["correlation_id"])
    channel.basic_publish(answer, routing_key=question.properties["reply_to"])
    until(caller, lambda: replies)
    assert [(reply.body, reply.properties["correlation_id"]) for reply in replies] == [(b"answer", "7")]


def test_an_alarm_blocks_the_publisher(vhost: Vhost, connections: Callable[..., amqp.Connection]) -> None:
    heard: list[str] = []
    connection = connections(
        on_blocked=lambda _: heard.append("blocked"), on_unblocked=lambda: heard.append("unblocked")
    )
    channel = connection.channel()
    vhost.node.set_alarm()
    try:
        publish(channel, "nowhere", b"")
        until(channel, lambda: heard)
    finally:
        vhost.node.clear_alarm()
    until(channel, lambda: len(heard) == 2)
    assert heard == ["blocked", "unblocked"]


def test_the_broker_closes_the_connection(vhost: Vhost, connection: amqp.Connection) -> None:
    channel = connection.channel()
    vhost.node.close_all_connections("enough")
    with pytest.raises(ConnectionForced, match="enough"):
        connection.drain_events(timeout=PATIENCE)
    assert not connection.connected
    assert not channel.is_open
