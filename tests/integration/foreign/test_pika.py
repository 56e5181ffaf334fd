"""pika waits for the broker: connections, channels, exchanges and queues, and publishing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, ReturnedMessage
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ChannelWrongStateError,
    ConnectionClosedByBroker,
    ConnectionWrongStateError,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from tests.brokers_plugin import Vhost
from tests.integration.foreign.pikas import code_of, depth, got, until
from tests.integration.support import PATIENCE, is_since
from tests.interop import MOMENT, PROPERTIES
from tests.ports import reserve_port

# --------------------------------------------------------------------------- connections


def test_a_connection_opens_and_closes(pika_connection: pika.BlockingConnection) -> None:
    assert pika_connection.is_open
    assert pika_connection.basic_nack_supported
    assert pika_connection.consumer_cancel_notify_supported
    assert pika_connection.exchange_exchange_bindings_supported
    assert pika_connection.publisher_confirms_supported
    pika_connection.close()
    assert pika_connection.is_closed
    with pytest.raises(ConnectionWrongStateError):
        pika_connection.close()


def test_a_connection_may_be_idle_longer_than_its_heartbeats(
    vhost: Vhost, pikas: Callable[..., pika.BlockingConnection]
) -> None:
    connection = pikas(f"{vhost.url}?heartbeat=1")
    connection.sleep(3.5)
    assert connection.channel().queue_declare("", exclusive=True).method.queue


def test_the_second_of_two_hosts_is_taken_when_the_first_is_down(vhost: Vhost, unused_port: int) -> None:
    down, up = (pika.URLParameters(vhost.url) for _ in range(2))
    down.port = unused_port
    with pika.BlockingConnection([down, up]) as connection:
        assert connection.is_open
    with pytest.raises(AMQPConnectionError):
        pika.BlockingConnection(down)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Reserve a port on which nobody listens."""
    with reserve_port() as reserved:
        yield reserved.getsockname()[1]


def test_a_wrong_password_and_a_wrong_virtual_host_are_told_apart(vhost: Vhost) -> None:
    with pytest.raises(ProbableAuthenticationError, match="ACCESS_REFUSED"):
        pika.BlockingConnection(pika.URLParameters(vhost.node.url(vhost.name, password="wrong")))
    with pytest.raises(ProbableAccessDeniedError, match="NOT_ALLOWED"):
        pika.BlockingConnection(pika.URLParameters(vhost.node.url("missing")))


def test_the_secret_is_renewed(pika_connection: pika.BlockingConnection) -> None:
    channel = pika_connection.channel()
    pika_connection.update_secret("another secret", "it is time")
    assert pika_connection.is_open
    assert channel.is_open


def test_the_connection_is_closed_by_the_broker(
    vhost: Vhost, pika_connection: pika.BlockingConnection
) -> None:
    channel = pika_connection.channel()
    vhost.node.close_all_connections("enough")
    with pytest.raises(ConnectionClosedByBroker, match="enough") as closed:
        pika_connection.process_data_events(PATIENCE)
    assert closed.value.reply_code == 320
    assert channel.is_closed


def test_an_alarm_blocks_the_publisher(
    vhost: Vhost, pika_connection: pika.BlockingConnection, pika_channel: BlockingChannel
) -> None:
    heard: list[str] = []
    pika_connection.add_on_connection_blocked_callback(lambda _, frame: heard.append(frame.method.reason))
    pika_connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))
    vhost.node.set_alarm()
    try:
        pika_channel.basic_publish("", "nowhere", b"")
        until(pika_channel, lambda: heard)
    finally:
        vhost.node.clear_alarm()
    until(pika_channel, lambda: len(heard) == 2)
    assert heard == ["low on memory", "unblocked"]


# --------------------------------------------------------------------------- channels


def test_a_channel_opens_and_closes(pika_connection: pika.BlockingConnection) -> None:
    with pika_connection.channel() as channel:
        assert channel.is_open
        assert channel.flow(True) is True
    assert channel.is_closed
    with pytest.raises(ChannelWrongStateError):
        channel.close()
    with pytest.raises(ChannelWrongStateError):
        channel.queue_declare("q")
    assert pika_connection.channel().channel_number == 1


def test_what_is_wrong_closes_the_channel_and_no_more(pika_connection: pika.BlockingConnection) -> None:
    first = pika_connection.channel()
    first.queue_declare("q", exclusive=True)
    channel = pika_connection.channel
    wrong: list[tuple[int, Callable[[], object]]] = [
        (404, lambda: channel().queue_declare("missing", passive=True)),
        (404, lambda: channel().exchange_declare("missing", passive=True)),
        (404, lambda: channel().basic_consume("missing", print)),
        (404, lambda: channel().basic_get("missing")),
        (404, lambda: channel().queue_bind("q", "missing")),
        (404, lambda: channel().queue_purge("missing")),
        (406, lambda: channel().queue_declare("q", exclusive=True, arguments={"x-max-length": 1})),
        (406, lambda: channel().exchange_declare("amq.direct", "fanout", durable=True)),
        (403, lambda: channel().exchange_declare("amq.mine", "direct")),
        (403, lambda: channel().exchange_delete("amq.direct")),
        (406, lambda: channel().tx_commit()),
        (406, lambda: channel().tx_rollback()),
    ]
    assert [code_of(call) for _, call in wrong] == [code for code, _ in wrong]
    assert first.is_open
    assert depth(first, "q") == 0


def test_an_exchange_of_no_kind(vhost: Vhost, pika_channel: BlockingChannel) -> None:
    expected = ChannelClosedByBroker if is_since(vhost.node, "4.3") else ConnectionClosedByBroker
    with pytest.raises(expected) as closed:
        pika_channel.exchange_declare("x", "nonsense")
    assert closed.value.reply_code == (406 if is_since(vhost.node, "4.3") else 503)


def test_a_publish_to_nowhere_closes_the_channel(pika_channel: BlockingChannel) -> None:
    pika_channel.basic_publish("missing", "q", b"")
    assert code_of(lambda: pika_channel.queue_declare("q")) == 404


def test_a_queue_that_is_exclusive_is_locked_for_others(
    pikas: Callable[..., pika.BlockingConnection], pika_channel: BlockingChannel, queue: str
) -> None:
    other = pikas()
    assert code_of(lambda: other.channel().queue_declare(queue, passive=True)) == 405
    assert code_of(lambda: other.channel().basic_consume(queue, print)) == 405
    pika_channel.connection.close()
    with pytest.raises(ChannelClosedByBroker):
        until_gone(other, queue)


def until_gone(connection: pika.BlockingConnection, queue: str) -> None:
    """Ask for a queue until it is not locked any more, and the error says that it is gone."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except ChannelClosedByBroker as closed:
            if closed.reply_code == 404:
                raise


# --------------------------------------------------------------------------- exchanges and queues

ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "direct": ({"routing_key": "a"}, {"routing_key": "a"}, {"routing_key": "a.b"}),
    "topic": ({"routing_key": "a.#"}, {"routing_key": "a.b"}, {"routing_key": "b.a"}),
    "headers": (
        {"arguments": {"x-match": "all", "k": 1}},
        {"properties": pika.BasicProperties(headers={"k": 1, "l": 2}), "routing_key": ""},
        {"properties": pika.BasicProperties(headers={"k": 2}), "routing_key": ""},
    ),
}
"""For each type of exchange a binding, a publish that it leads on, and one that it does not."""


@pytest.mark.parametrize("kind", ROUTES)
def test_each_type_of_exchange_routes(pika_publisher: BlockingChannel, queue: str, kind: str) -> None:
    binding, match, other = ROUTES[kind]
    pika_publisher.exchange_declare("x", kind, auto_delete=True)
    pika_publisher.exchange_declare("x", kind, passive=True)
    pika_publisher.queue_bind(queue, "x", **binding)
    pika_publisher.basic_publish("x", body=b"match", mandatory=True, **match)
    with pytest.raises(UnroutableError):
        pika_publisher.basic_publish("x", body=b"other", mandatory=True, **other)
    pika_publisher.exchange_declare("more", "fanout")
    pika_publisher.queue_bind(queue, "more")
    pika_publisher.basic_publish("more", "any", b"fanned out", mandatory=True)
    assert got(pika_publisher, queue) == [b"match", b"fanned out"]
    pika_publisher.queue_unbind(queue, "x", **binding)
    assert code_of(lambda: pika_publisher.exchange_declare("x", kind, passive=True)) == 404


def test_an_exchange_is_bound_to_another(pika_publisher: BlockingChannel, queue: str) -> None:
    pika_publisher.exchange_declare("source", "direct")
    pika_publisher.exchange_declare("destination", "direct", internal=True)
    pika_publisher.queue_bind(queue, "destination", "key")
    pika_publisher.exchange_bind("destination", "source", "key")
    pika_publisher.basic_publish("source", "key", b"through", mandatory=True)
    assert depth(pika_publisher, queue) == 1
    pika_publisher.exchange_unbind("destination", "source", "key")
    with pytest.raises(UnroutableError):
        pika_publisher.basic_publish("source", "key", b"", mandatory=True)
    pika_publisher.exchange_delete("source")
    assert code_of(lambda: pika_publisher.exchange_declare("source", passive=True)) == 404


def test_a_queue_is_declared_purged_and_deleted(pika_publisher: BlockingChannel) -> None:
    declared = pika_publisher.queue_declare("jobs", durable=True).method
    assert (declared.queue, declared.message_count, declared.consumer_count) == ("jobs", 0, 0)
    for _ in range(3):
        pika_publisher.basic_publish("", "jobs", b"job")
    assert depth(pika_publisher, "jobs") == 3
    assert pika_publisher.queue_purge("jobs").method.message_count == 3
    pika_publisher.basic_publish("", "jobs", b"job")
    assert pika_publisher.queue_delete("jobs").method.message_count == 1
    assert pika_publisher.queue_delete("jobs").method.message_count == 0
    assert code_of(lambda: pika_publisher.queue_declare("jobs", passive=True)) == 404


def test_a_message_that_expires_is_dead_lettered(pika_publisher: BlockingChannel) -> None:
    pika_publisher.queue_declare("dead", durable=True)
    arguments = {"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    pika_publisher.queue_declare("jobs", durable=True, arguments=arguments)
    pika_publisher.basic_publish("", "jobs", b"late")
    until(pika_publisher, lambda: depth(pika_publisher, "dead") == 1)
    _, properties, body = pika_publisher.basic_get("dead", auto_ack=True)
    (death,) = properties.headers["x-death"]
    assert body == b"late"
    assert {name: death[name] for name in ("queue", "reason", "count", "exchange", "routing-keys")} == {
        "queue": "jobs",
        "reason": "expired",
        "count": 1,
        "exchange": "",
        "routing-keys": ["jobs"],
    }
    assert abs(datetime.now(UTC) - death["time"]).total_seconds() < PATIENCE
    assert properties.headers["x-first-death-queue"] == "jobs"


# --------------------------------------------------------------------------- publishing


def test_a_message_is_what_it_was(pika_publisher: BlockingChannel, queue: str) -> None:
    told = {**PROPERTIES, "timestamp": int(MOMENT.timestamp())}
    headers: dict[str, Any] = {
        "true": True,
        "small": -1,
        "large": 2**40,
        "text": "grün",
        "bytes": b"\xff",
        "none": None,
        "list": [1, "two", [3]],
        "table": {"deep": {"er": "é"}},
        "time": MOMENT,
    }
    pika_publisher.basic_publish("", queue, b"body", pika.BasicProperties(**told), mandatory=True)
    pika_publisher.basic_publish("", queue, b"", pika.BasicProperties(headers=headers), mandatory=True)
    method, properties, body = pika_publisher.basic_get(queue, auto_ack=True)
    assert (method.exchange, method.routing_key, method.redelivered) == ("", queue, False)
    assert (method.delivery_tag, method.message_count) == (1, 1)
    assert {name: getattr(properties, name) for name in told} == told
    assert body == b"body"
    _, properties, body = pika_publisher.basic_get(queue, auto_ack=True)
    assert properties.headers == headers
    assert body == b""


@pytest.mark.parametrize("size", [131_063, 131_064, 131_065, 1_000_000, 16_000_000])
def test_a_large_body_goes_in_many_frames(pika_channel: BlockingChannel, queue: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    pika_channel.basic_publish("", queue, body)
    method, _, found = next(pika_channel.consume(queue, inactivity_timeout=PATIENCE))
    assert found == body
    pika_channel.basic_ack(method.delivery_tag)


def test_what_cannot_be_routed_comes_back_before_its_confirm(pika_publisher: BlockingChannel) -> None:
    sent = pika.BasicProperties(headers={"test": "returned"})
    with pytest.raises(UnroutableError) as unroutable:
        pika_publisher.basic_publish("amq.direct", "nowhere", b"lost", sent, mandatory=True)
    (message,) = unroutable.value.messages
    assert isinstance(message, ReturnedMessage)
    assert (message.method.reply_code, message.method.reply_text) == (312, "NO_ROUTE")
    assert (message.method.exchange, message.method.routing_key) == ("amq.direct", "nowhere")
    assert (message.properties.headers, message.body) == (sent.headers, b"lost")
    pika_publisher.basic_publish("amq.direct", "nowhere", b"lost")


def test_what_cannot_be_routed_comes_back_without_confirms(pika_channel: BlockingChannel, queue: str) -> None:
    back: list[tuple[Any, ...]] = []
    pika_channel.add_on_return_callback(lambda *told: back.append(told))
    for body in (b"1", b"2"):
        pika_channel.basic_publish("amq.direct", "nowhere", body, mandatory=True)
    pika_channel.basic_publish("", queue, b"3", mandatory=True)
    until(pika_channel, lambda: len(back) == 2)
    assert [(told[1].reply_code, told[3]) for told in back] == [(312, b"1"), (312, b"2")]
    pika_channel.confirm_delivery()
    assert got(pika_channel, queue) == [b"3"]


def test_a_full_queue_that_refuses_nacks(pika_publisher: BlockingChannel) -> None:
    pika_publisher.queue_declare(
        "small", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    pika_publisher.basic_publish("", "small", b"1")
    with pytest.raises(NackError):
        pika_publisher.basic_publish("", "small", b"2")
    assert got(pika_publisher, "small") == [b"1"]


def test_a_transaction_is_committed_or_rolled_back(pika_channel: BlockingChannel, queue: str) -> None:
    pika_channel.tx_select()
    pika_channel.basic_publish("", queue, b"committed")
    assert depth(pika_channel, queue) == 0
    pika_channel.tx_commit()
    assert depth(pika_channel, queue) == 1
    pika_channel.basic_publish("", queue, b"rolled back")
    pika_channel.tx_rollback()
    assert depth(pika_channel, queue) == 1
    method, _, body = pika_channel.basic_get(queue)
    assert body == b"committed"
    pika_channel.basic_ack(method.delivery_tag)
    pika_channel.tx_rollback()
    pika_channel.basic_ack(method.delivery_tag)
    pika_channel.tx_commit()
    pika_channel.connection.channel().close()
    assert depth(pika_channel, queue) == 0
