"""``memory://[user:password@][name][/vhost][?query]``: a URL that leads to a broker in this process."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from txamqpx.broker.broker import Broker
from txamqpx.broker.memory import MemoryEndpoint
from txamqpx.broker.names import DEFAULT, names
from txamqpx.endpoints import register_scheme
from txamqpx.errors import URLError
from txamqpx.params import ConnectionParameters, parse_url

__all__ = ["open_memory"]


def open_memory(url: str, reactor: Any) -> tuple[IStreamClientEndpoint, ConnectionParameters]:
    """Return where a ``memory://`` URL leads to; a broker that is not there yet is made.

    All of an amqp URL's parts mean the same here, and are read as strictly; there are no ports.  Where a
    broker was that had made up its name, connections are refused.

    Raises:
        URLError: The URL cannot be used, or the broker of that name lives on another reactor.
    """
    parameters = parse_url(url, schemes={"memory": False})
    if parameters.port is not None:
        raise URLError("port", "there is none in a memory:// URL: the name is the whole address")
    name = parameters.host or DEFAULT
    if names.is_over(name):
        return MemoryEndpoint(reactor, name, lambda address: None), parameters
    broker = names.find(name) or Broker(name, clock=reactor)
    if reactor not in (broker.clock.base, broker.clock):
        raise URLError(
            "host",
            "the broker of that name lives on another reactor or Clock, and has but one time: "
            "connect with that one as reactor, close the broker first, or take another name",
        )
    return MemoryEndpoint(broker.clock.base, name, broker.buildProtocol), parameters


register_scheme("memory", open_memory)
