"""pika waits for the broker: getting, settling, consuming, and being answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.integration.foreign.pikas import NOTHING, code_of, depth, fill, got, until, until_sent
from tests.integration.support import PATIENCE

# --------------------------------------------------------------------------- getting and settling


def test_an_empty_queue_has_nothing(pika_channel: BlockingChannel, queue: str) -> None:
    assert pika_channel.basic_get(queue) == NOTHING


@pytest.mark.parametrize(
    ("settle", "left"),
    [
        (lambda channel, tag: channel.basic_ack(tag), []),
        (lambda channel, tag: channel.basic_ack(tag, multiple=True), []),
        (lambda channel, tag: channel.basic_ack(0, multiple=True), []),
        (lambda channel, tag: channel.basic_nack(tag, requeue=True), [b"2"]),
        (lambda channel, tag: channel.basic_nack(tag, requeue=False), []),
        (lambda channel, tag: channel.basic_nack(tag, multiple=True), [b"1", b"2"]),
        (lambda channel, tag: channel.basic_nack(0, multiple=True), [b"1", b"2"]),
        (lambda channel, tag: channel.basic_reject(tag, requeue=True), [b"2"]),
        (lambda channel, tag: channel.basic_reject(tag, requeue=False), []),
        (lambda channel, tag: channel.basic_recover(requeue=True), [b"1", b"2"]),
    ],
    ids=[
        "ack", "ack multiple", "ack all", "requeue", "drop", "requeue multiple", "requeue all", "reject",
        "reject and drop", "recover",
    ],
)  # fmt: skip
def test_what_was_got_is_settled(
    pika_channel: BlockingChannel,
    queue: str,
    settle: Callable[[BlockingChannel, int], None],
    left: list[bytes],
) -> None:
    """Of two messages, the second is settled, or both."""
    fill(pika_channel, queue, b"1", b"2")
    (_, _, first), (method, _, second) = pika_channel.basic_get(queue), pika_channel.basic_get(queue)
    assert (first, second) == (b"1", b"2")
    settle(pika_channel, method.delivery_tag)
    until(pika_channel, lambda: depth(pika_channel, queue) == len(left))
    found = [pika_channel.basic_get(queue) for _ in left]
    assert [(method.redelivered, body) for method, _, body in found] == [(True, body) for body in left]
    assert pika_channel.basic_get(queue) == NOTHING


def test_a_tag_that_was_never_given_closes_the_channel(pika_channel: BlockingChannel, queue: str) -> None:
    pika_channel.basic_ack(7)
    assert code_of(lambda: depth(pika_channel, queue)) == 406


@pytest.mark.parametrize("auto_ack", [False, True])
def test_what_was_not_acknowledged_goes_back_when_the_channel_closes(
    pika_channel: BlockingChannel, queue: str, auto_ack: bool
) -> None:
    fill(pika_channel, queue, b"1", b"2")
    seen: list[bytes] = []
    pika_channel.basic_consume(queue, lambda *told: seen.append(told[3]), auto_ack=auto_ack)
    until(pika_channel, lambda: len(seen) == 2)
    assert depth(pika_channel, queue) == 0
    pika_channel.close()
    left = [] if auto_ack else [b"1", b"2"]
    other = pika_channel.connection.channel()
    until(other, lambda: depth(other, queue) == len(left))
    assert got(other, queue) == left


# --------------------------------------------------------------------------- consuming


def test_the_prefetch_count_holds_until_an_ack(pika_publisher: BlockingChannel, queue: str) -> None:
    fill(pika_publisher, queue, b"1", b"2")
    pika_publisher.basic_qos(prefetch_count=1)
    seen: list[tuple[Any, bytes]] = []
    tag = pika_publisher.basic_consume(queue, lambda _, method, __, body: seen.append((method, body)))
    until(pika_publisher, lambda: seen)
    pika_publisher.connection.process_data_events(0.05)
    assert depth(pika_publisher, queue) == 1
    pika_publisher.basic_ack(seen[0][0].delivery_tag)
    until(pika_publisher, lambda: len(seen) == 2)
    assert [(one.consumer_tag, one.delivery_tag, body) for one, body in seen] == [
        (tag, 1, b"1"),
        (tag, 2, b"2"),
    ]
    pika_publisher.basic_ack(2)
    cancelled: list[Any] = []
    pika_publisher.add_on_cancel_callback(cancelled.append)
    pika_publisher.queue_delete(queue)
    pika_publisher.start_consuming()
    assert [frame.method.consumer_tag for frame in cancelled] == [tag]


def test_two_consumers_of_one_channel(pika_publisher: BlockingChannel) -> None:
    seen: dict[str, list[bytes]] = {"a": [], "b": []}
    for name in seen:
        pika_publisher.queue_declare(name, exclusive=True)
        fill(pika_publisher, name, *(f"{name}{number}".encode() for number in range(100)))
    tags = {pika_publisher.basic_consume("a", lambda *told: seen["a"].append(told[3]))}
    tags.add(pika_publisher.basic_consume("b", lambda *told: seen["b"].append(told[3])))
    until(pika_publisher, lambda: all(len(bodies) == 100 for bodies in seen.values()))
    assert seen == {name: [f"{name}{number}".encode() for number in range(100)] for name in seen}
    assert pika_publisher.queue_declare("a", passive=True).method.consumer_count == 1
    for tag in tags:
        pika_publisher.basic_cancel(tag)
    assert pika_publisher.queue_declare("a", passive=True).method.consumer_count == 0


def test_a_cancelled_consumer_gives_back_what_it_had_not_handled(
    pika_channel: BlockingChannel, queue: str
) -> None:
    fill(pika_channel, queue, b"1", b"2")
    tag = pika_channel.basic_consume(queue, print, auto_ack=True)
    until_sent(pika_channel, queue)
    assert [body for _, _, body in pika_channel.basic_cancel(tag)] == [b"1", b"2"]
    fill(pika_channel, queue, b"3", b"4")
    tag = pika_channel.basic_consume(queue, print)
    until_sent(pika_channel, queue)
    assert pika_channel.basic_cancel(tag) == []
    assert got(pika_channel, queue) == [b"3", b"4"]


def test_recover_brings_all_again(pika_channel: BlockingChannel, queue: str) -> None:
    fill(pika_channel, queue, b"1", b"2")
    seen = []
    for method, _, body in pika_channel.consume(queue, inactivity_timeout=PATIENCE):
        seen.append((method.redelivered, body))
        if len(seen) == 2:
            pika_channel.basic_recover(requeue=True)
        if len(seen) == 4:
            break
    assert seen == [(False, b"1"), (False, b"2"), (True, b"1"), (True, b"2")]


@pytest.mark.parametrize("way", ["consumer", "generator"])
def test_the_end_of_its_queue_ends_a_consumer(pika_channel: BlockingChannel, queue: str, way: str) -> None:
    pika_channel.connection.add_callback_threadsafe(
        lambda: pika_channel.connection.channel().queue_delete(queue)
    )
    if way == "consumer":
        pika_channel.basic_consume(queue, print)
        pika_channel.start_consuming()
    else:
        assert list(pika_channel.consume(queue)) == []
    assert pika_channel.is_open


def test_an_error_on_its_channel_ends_a_consumer(pika_channel: BlockingChannel, queue: str) -> None:
    pika_channel.connection.add_callback_threadsafe(lambda: pika_channel.basic_publish("missing", "", b""))
    pika_channel.basic_consume(queue, print)
    assert code_of(pika_channel.start_consuming) == 404


@pytest.mark.parametrize("what", ["consumer", "channel", "connection"])
def test_a_handler_ends_what_it_came_from(pikas: Callable[..., pika.BlockingConnection], what: str) -> None:
    connection = pikas()
    channel = connection.channel()
    channel.queue_declare("jobs", durable=True)
    fill(channel, "jobs", b"1", b"2")

    def handle(channel: BlockingChannel, *_: object) -> None:
        if what == "consumer":
            channel.stop_consuming()
        else:
            {"channel": channel, "connection": connection}[what].close()

    channel.basic_consume("jobs", handle)
    channel.start_consuming()
    if what == "consumer":
        channel.close()
    other = pikas().channel()
    until(other, lambda: depth(other, "jobs") == 2)
    assert got(other, "jobs") == [b"1", b"2"]


def test_a_handler_publishes_what_it_got(pika_publisher: BlockingChannel, queue: str) -> None:
    pika_publisher.queue_declare("next", exclusive=True)
    pika_publisher.basic_publish("", queue, b"job", pika.BasicProperties(message_id="1"))

    def pass_on(channel: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish("", "next", body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)

    pika_publisher.basic_consume(queue, pass_on)
    _, properties, body = next(pika_publisher.consume("next", auto_ack=True, inactivity_timeout=PATIENCE))
    assert (properties.message_id, body) == ("1", b"job")


def test_another_thread_acknowledges(pika_publisher: BlockingChannel, queue: str) -> None:
    fill(pika_publisher, queue, b"1", b"2")
    pika_publisher.basic_qos(prefetch_count=1)
    seen: list[bytes] = []

    def settle(tag: int, body: bytes) -> None:
        pika_publisher.basic_ack(tag)
        seen.append(body)
        if len(seen) == 2:
            pika_publisher.stop_consuming()

    def handle(_: object, method: Any, __: object, body: bytes) -> None:
        later = pika_publisher.connection.add_callback_threadsafe
        threading.Thread(target=later, args=[lambda: settle(method.delivery_tag, body)]).start()

    pika_publisher.basic_consume(queue, handle)
    pika_publisher.start_consuming()
    assert seen == [b"1", b"2"]
    assert depth(pika_publisher, queue) == 0


def test_many_messages_keep_their_order(pika_channel: BlockingChannel, queue: str) -> None:
    for number in range(1000):
        pika_channel.basic_publish("", queue, b"%d" % number)
    seen = []
    for method, _, body in pika_channel.consume(queue, inactivity_timeout=PATIENCE):
        seen.append((method.delivery_tag, method.redelivered, body))
        pika_channel.basic_ack(method.delivery_tag)
        if len(seen) == 1000:
            break
    assert seen == [(number + 1, False, b"%d" % number) for number in range(1000)]
    pika_channel.cancel()
    assert depth(pika_channel, queue) == 0


def test_an_exclusive_consumer_is_alone(pika_connection: pika.BlockingConnection, queue: str) -> None:
    pika_connection.channel().basic_consume(queue, print, exclusive=True)
    assert code_of(lambda: pika_connection.channel().basic_consume(queue, print)) == 403


def test_a_call_is_answered_through_the_direct_reply_queue(
    pikas: Callable[..., pika.BlockingConnection],
) -> None:
    server, caller = pikas().channel(), pikas().channel()
    server.queue_declare("rpc", durable=True)
    replies: list[tuple[str, bytes]] = []
    caller.basic_consume(
        "amq.rabbitmq.reply-to",
        lambda _, __, properties, body: replies.append((properties.correlation_id, body)),
        auto_ack=True,
    )
    asking = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    caller.basic_publish("", "rpc", b"question", asking)
    _, asked, body = next(server.consume("rpc", auto_ack=True, inactivity_timeout=PATIENCE))
    assert (asked.correlation_id, body) == ("7", b"question")
    assert asked.reply_to.startswith("amq.rabbitmq.reply-to.")
    server.basic_publish("", asked.reply_to, b"answer", pika.BasicProperties(correlation_id="7"))
    server.connection.process_data_events(0)
    until(caller, lambda: replies)
    assert replies == [("7", b"answer")]
