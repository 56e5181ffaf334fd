"""Queues for tests of what becomes of messages: short lives, and a place for dead letters."""

from __future__ import annotations

from typing import Any

from tests.integration.support import Inbox, outcomes
from txamqpx.channel import Channel
from txamqpx.spec.amqp0_9_1 import BasicProperties

TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
SHORT = 50
"""Milliseconds that some messages live."""


async def queue(channel: Channel, name: str, **arguments: Any) -> None:
    """Declare a queue whose dead letters go to the queue `dead`."""
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    await channel.queue_declare(name, durable=True, arguments={**TO_DEAD, **named})


async def send(publisher: Channel, name: str, *bodies: bytes, **properties: Any) -> list[Any]:
    """Publish to a queue, and return what became of each message: Confirmed, or an error."""
    made = BasicProperties(**properties) if properties else None
    return await outcomes(
        publisher.basic_publish(body, routing_key=name, properties=made, mandatory=True) for body in bodies
    )


async def dead_letters(publisher: Channel) -> Inbox:
    """Declare the queue `dead`, and consume from it."""
    inbox = Inbox()
    await publisher.queue_declare("dead", durable=True)
    await publisher.basic_consume("dead", inbox, no_ack=True)
    return inbox


async def short_time(publisher: Channel) -> None:
    """Wait until what was published before with the lifetime SHORT has expired, by the broker's own clock."""
    await publisher.queue_declare(
        "passed", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "late"}
    )
    await publisher.queue_declare("late", durable=True)
    inbox = Inbox()
    tag = (await publisher.basic_consume("late", inbox, no_ack=True)).consumer_tag
    await send(publisher, "passed", b"", expiration=str(SHORT))
    await inbox.take()
    await publisher.basic_cancel(tag)
