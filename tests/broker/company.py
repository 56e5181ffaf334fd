"""A broker and its clients on one ``Clock``: what a test asks for is done when the call returns."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txamqpx.broker import Broker
from txamqpx.broker.fault import Fault
from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.endpoints import connect_protocol
from txamqpx.testing.outcomes import Watched

T = TypeVar("T")


def protocol_of(channel: Channel) -> AMQPProtocol:
    """Return the connection that a channel is on."""
    return cast(AMQPProtocol, channel.protocol)


def struck(fault: Fault) -> int:
    """Return how often a fault has struck, of which a type checker would think that it stays as it was."""
    return fault.struck


class Company:
    """A broker, and who comes to it.

    Args:
        options: How the broker is.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.broker = Broker(clock=self.clock, **options)

    def settle(self) -> None:
        """Have all done that can be done without time passing."""
        assert self.broker.settled().called

    def watch(self, deferred: Deferred[T]) -> Watched[T]:
        """Watch what becomes of a call, and have it done as far as it goes."""
        watched = Watched(deferred)
        self.settle()
        return watched

    def do(self, deferred: Deferred[T]) -> T:
        """Have a call done."""
        return self.watch(deferred).value

    def connecting(self, query: str = "", delegate: Delegate | None = None) -> Watched[AMQPProtocol]:
        """Begin to connect a client."""
        return self.watch(
            connect_protocol(f"{self.broker.url}{query}", delegate=delegate, reactor=self.clock)
        )

    def connect(self, query: str = "", delegate: Delegate | None = None) -> AMQPProtocol:
        """Connect a client."""
        return self.connecting(query, delegate).value

    def channel(self, protocol: AMQPProtocol | None = None, *, confirms: bool = False) -> Channel:
        """Open a channel, on a connection of its own if there is none."""
        channel = self.do((protocol or self.connect()).open_channel())
        if confirms:
            self.do(channel.confirm_select())
        return channel
