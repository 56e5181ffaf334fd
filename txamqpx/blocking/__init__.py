"""The client for plain scripts and for threads: each call waits, and returns its result.

::

    with txamqpx.blocking.connect("amqp://guest:guest@localhost") as client:
        client.queue_declare("jobs", durable=True)
        client.publish(b"hello", routing_key="jobs")

The reactor runs in a thread of its own, which the first ``connect`` starts.
"""

from __future__ import annotations

from txamqpx.blocking.client import BlockingClient, connect
from txamqpx.blocking.consumer import Consumer, Deliveries, Pipeline
from txamqpx.blocking.delivery import Delivery
from txamqpx.blocking.operation import Operation, wait, wait_all, wait_any
from txamqpx.blocking.publisher import Publisher
from txamqpx.blocking.rpc import Caller, Server
from txamqpx.blocking.transaction import Transaction

__all__ = [
    "BlockingClient",
    "Caller",
    "Consumer",
    "Deliveries",
    "Delivery",
    "Operation",
    "Pipeline",
    "Publisher",
    "Server",
    "Transaction",
    "connect",
    "wait",
    "wait_all",
    "wait_any",
]
