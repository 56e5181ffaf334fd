"""Connections of pika, for the tests of what it sees of the broker."""

from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.brokers_plugin import Vhost


@pytest.fixture
def pikas(vhost: Vhost) -> Iterator[Callable[..., pika.BlockingConnection]]:
    """Open connections to the test's virtual host, and close those that are left."""
    made: list[pika.BlockingConnection] = []

    def connect(url: str = "") -> pika.BlockingConnection:
        made.append(pika.BlockingConnection(pika.URLParameters(url or vhost.url)))
        return made[-1]

    yield connect
    for connection in made:
        if connection.is_open:
            connection.close()


@pytest.fixture
def pika_connection(pikas: Callable[..., pika.BlockingConnection]) -> pika.BlockingConnection:
    """Open a connection."""
    return pikas()


@pytest.fixture
def pika_channel(pika_connection: pika.BlockingConnection) -> BlockingChannel:
    """Open a channel on that connection."""
    return pika_connection.channel()


@pytest.fixture
def pika_publisher(pika_channel: BlockingChannel) -> BlockingChannel:
    """Put the channel into confirm mode: from then on a publish waits for its confirm."""
    pika_channel.confirm_delivery()
    return pika_channel


@pytest.fixture
def queue(pika_channel: BlockingChannel) -> str:
    """Declare a queue."""
    return str(pika_channel.queue_declare("", exclusive=True).method.queue)
