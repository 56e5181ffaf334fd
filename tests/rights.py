"""Which rights RabbitMQ asks for, and in which order, before it does what is asked."""

from __future__ import annotations

from typing import Any

from tests.refusals import exchange, queue
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicGet,
    ExchangeBind,
    ExchangeDelete,
    ExchangeUnbind,
    QueueBind,
    QueueDelete,
    QueuePurge,
    QueueUnbind,
)
from txamqpx.spec.base import Request

FURNITURE: list[Request[Any]] = [
    queue("jobs"),
    queue("dying", dead_letter_exchange="x"),
    exchange("x"),
    exchange("y"),
    exchange("other", alternate="y"),
]
"""What is there before."""

NEEDS: list[tuple[Request[Any], list[str]]] = [
    (queue("new"), ["configure queue new"]),
    (queue("jobs"), ["configure queue jobs"]),
    (queue("new", dead_letter_exchange="x"), ["configure queue new", "read queue new", "write exchange x"]),
    (queue("dying", dead_letter_exchange="x"), ["configure queue dying"]),
    (QueueDelete("jobs"), ["configure queue jobs"]),
    (QueueDelete("missing"), ["configure queue missing"]),
    (QueuePurge("jobs"), ["read queue jobs"]),
    (QueueBind("jobs", "x", "k"), ["write queue jobs", "read exchange x"]),
    (QueueBind("jobs", "amq.topic", "k"), ["write queue jobs", "read exchange amq.topic"]),
    (QueueUnbind("jobs", "x", "k"), ["write queue jobs", "read exchange x"]),
    (QueueUnbind("missing", "gone", "k"), ["write queue missing", "read exchange gone"]),
    (exchange("new"), ["configure exchange new"]),
    (exchange("x"), ["configure exchange x"]),
    (exchange("new", alternate="y"), ["configure exchange new", "read exchange new", "write exchange y"]),
    (exchange("other", alternate="y"), ["configure exchange other"]),
    (ExchangeDelete("x"), ["configure exchange x"]),
    (ExchangeDelete("missing"), ["configure exchange missing"]),
    (ExchangeBind("x", "y", "k"), ["write exchange x", "read exchange y"]),
    (ExchangeUnbind("x", "y", "k"), ["write exchange x", "read exchange y"]),
    (BasicGet("jobs"), ["read queue jobs"]),
    (BasicConsume("jobs"), ["read queue jobs"]),
]
