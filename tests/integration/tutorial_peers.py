"""The other side of the tutorials: small programs of the same shape, with pika, in the test's own thread.

They declare and say what the public tutorials' programs do, and nothing of them is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pika
from pika.adapters.blocking_connection import BlockingChannel

PATIENCE = 60.0
"""Seconds after which a message that takes milliseconds counts as not coming."""


@contextmanager
def tutorial_channel(url: str, queue: str) -> Iterator[BlockingChannel]:
    """Open a channel, and declare a queue as the tutorials do."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.queue_declare(queue=queue, durable=True, arguments={"x-queue-type": "quorum"})
        yield channel
    finally:
        connection.close()


def send(url: str, body: str) -> None:
    """Do as the sender of the first tutorial."""
    with tutorial_channel(url, "hello") as channel:
        channel.basic_publish(exchange="", routing_key="hello", body=body.encode())


def receive(url: str) -> str:
    """Do as the receiver of the first tutorial, for one message."""
    with tutorial_channel(url, "hello") as channel:
        for _, _, body in channel.consume("hello", auto_ack=True, inactivity_timeout=PATIENCE):
            assert body is not None, "nothing came"
            return bytes(body).decode()
    raise AssertionError("the consumer was cancelled")


def ask(url: str, number: int) -> int:
    """Do as the client of the sixth tutorial: an exclusive queue for replies, and a correlation id."""
    with tutorial_channel(url, "rpc_queue") as channel:
        replies = channel.queue_declare(queue="", exclusive=True).method.queue
        correlation_id = str(uuid4())
        channel.basic_publish(
            exchange="",
            routing_key="rpc_queue",
            properties=pika.BasicProperties(reply_to=replies, correlation_id=correlation_id),
            body=str(number).encode(),
        )
        for _, properties, body in channel.consume(replies, auto_ack=True, inactivity_timeout=PATIENCE):
            assert body is not None, "no reply came"
            if properties.correlation_id == correlation_id:
                return int(body)
    raise AssertionError("the consumer was cancelled")


def answer_one(url: str) -> int:
    """Do as the server of the sixth tutorial, for one request, and return what was asked."""
    with tutorial_channel(url, "rpc_queue") as channel:
        channel.basic_qos(prefetch_count=1)
        for method, properties, body in channel.consume("rpc_queue", inactivity_timeout=PATIENCE):
            assert body is not None, "no request came"
            number = int(body)
            channel.basic_publish(
                exchange="",
                routing_key=properties.reply_to,
                properties=pika.BasicProperties(correlation_id=properties.correlation_id),
                body=str(_fibonacci(number)).encode(),
            )
            channel.basic_ack(delivery_tag=method.delivery_tag)
            return number
    raise AssertionError("the consumer was cancelled")


def _fibonacci(number: int) -> int:
    one, other = 0, 1
    for _ in range(number):
        one, other = other, one + other
    return one
