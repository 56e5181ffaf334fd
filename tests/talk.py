"""What tests of channels and connections begin with."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from txamqpx.channel import Channel
from txamqpx.connection import AMQPProtocol
from txamqpx.params import ConnectionParameters
from txamqpx.spec.amqp0_9_1 import (
    ChannelClose,
    QueueDeclare,
)
from txamqpx.testing import ScriptedPeer, Wire, scripted


class Talk:
    """A peer, and channel 1 of the connection with it."""

    def __init__(self, *, confirm: bool = False, **parameters: Any) -> None:
        self.peer: ScriptedPeer = scripted(**parameters)
        self.peer.open()
        self.channel: Channel = self.peer.open_channel(confirm=confirm)

    def closed_by_broker(self, code: int = 404, text: str = "NOT_FOUND", failed: Any = QueueDeclare) -> None:
        self.peer.send(1, ChannelClose(code, text, failed.index >> 16, failed.index & 0xFFFF))


def opened(delegate: Any = None, *, heartbeat: int = 60, **parameters: Any) -> ScriptedPeer:
    peer = scripted(delegate, **parameters)
    peer.open(heartbeat=heartbeat)
    return peer


def nothing_is_left(peer: ScriptedPeer) -> None:
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []
    assert peer.protocol.core.channels == {}
    assert not peer.protocol.core.waiting


class Silent(ScriptedPeer):
    """A peer that takes the connection and says nothing, not even its greeting."""

    def __init__(self, **parameters: Any) -> None:
        clock = Clock()
        super().__init__(AMQPProtocol(ConnectionParameters(**parameters), None, clock), clock)

    def dataReceived(self, data: bytes) -> None:
        pass


class Sink(Protocol):
    """The other end of a wire for who only needs one: it takes everything and says nothing by itself."""

    def dataReceived(self, data: bytes) -> None:
        """Leave it."""

    def hang_up(self, wire: Wire) -> None:
        """Close this end."""
        wire.server.loseConnection()
        wire.pump()


def elsewhere(call: Callable[[], object]) -> BaseException | None:
    """Make a call in another thread; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None
