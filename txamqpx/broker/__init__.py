"""A broker in the process, on the wire what RabbitMQ is."""

from txamqpx.broker.broker import Broker
from txamqpx.broker.scheme import open_memory

__all__ = ["Broker", "open_memory"]
