"""The AMQP 0-9-1 client for Twisted.

``connect`` leads from a URL to a client; ``txamqpx.errors`` has every exception.
Importing this package installs no reactor.
"""

from __future__ import annotations

from txamqpx.channel import Channel
from txamqpx.client import Client, connect
from txamqpx.connection import AMQPClientFactory, AMQPProtocol
from txamqpx.consumer import Consumer
from txamqpx.delegates import Delegate
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import AMQPError, Nacked, NotPublished, OutcomeUnknown, Unroutable
from txamqpx.interfaces import IDelegate
from txamqpx.message import Confirmed, Delivery, ReturnedMessage, Settlement
from txamqpx.params import ConnectionParameters, TLSOptions, parse_url
from txamqpx.publisher import Publisher
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.topology import Binding, Exchange, Queue, Topology

__all__ = [
    "AMQPClientFactory",
    "AMQPError",
    "AMQPProtocol",
    "BasicProperties",
    "Binding",
    "Channel",
    "Client",
    "Confirmed",
    "ConnectionParameters",
    "Consumer",
    "Delegate",
    "Delivery",
    "Exchange",
    "IDelegate",
    "Nacked",
    "NotPublished",
    "OutcomeUnknown",
    "Publisher",
    "Queue",
    "ReturnedMessage",
    "Settlement",
    "TLSOptions",
    "Topology",
    "Unroutable",
    "__version__",
    "connect",
    "connect_protocol",
    "parse_url",
]

__version__ = "0.1.0"
