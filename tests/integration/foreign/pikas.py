"""What the tests with pika say often: it does nothing while nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.integration.support import PATIENCE

NOTHING: tuple[Any, Any, Any] = (None, None, None)
"""What a queue gives that has nothing."""


def until(channel: BlockingChannel, happens: Callable[[], object]) -> None:
    """Let the connection work until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        channel.connection.process_data_events(0.05)


def until_sent(channel: BlockingChannel, queue: str) -> None:
    """Wait until the broker has sent all that was ready, and leave it with the client."""
    deadline = time.monotonic() + PATIENCE
    while depth(channel, queue):
        assert time.monotonic() < deadline, "it was not sent"


def depth(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def fill(channel: BlockingChannel, queue: str, *bodies: bytes) -> None:
    """Publish to a queue, and wait until all is there."""
    expected = depth(channel, queue) + len(bodies)
    for body in bodies:
        channel.basic_publish("", queue, body)
    until(channel, lambda: depth(channel, queue) == expected)


def got(channel: BlockingChannel, queue: str) -> list[bytes]:
    """Take all that is ready in a queue."""
    bodies = []
    while (message := channel.basic_get(queue, auto_ack=True)) != NOTHING:
        bodies.append(message[2])
    return bodies


def code_of(call: Callable[[], object]) -> int:
    """Return the code with which the broker closes a channel over a call."""
    with pytest.raises(ChannelClosedByBroker) as closed:
        call()
    return int(closed.value.reply_code)
