"""A publisher, and a broker that says what the test makes it say."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from txamqpx.message import Confirmed
from txamqpx.protocol.outbox import HIGH_WATER
from txamqpx.publisher import Publisher
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicPublish,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    ConnectionBlocked,
    ConnectionUnblocked,
)
from txamqpx.testing import Heard, ScriptedPeer, Watched, scripted

__all__ = ["BIG", "Calls", "Press", "tag_of"]

#: More than the transport takes at once.
BIG = b"x" * (HIGH_WATER + 200_000)


class Calls:
    """Stands for the operations of a client: they begin and end when the test says so."""

    def __init__(self) -> None:
        self.made = 0
        self.unfinished: set[int] = set()
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def begin(self) -> int:
        """Begin one and return its number."""
        self.made += 1
        self.unfinished.add(self.made)
        return self.made

    def end(self, number: int) -> None:
        """End one."""
        self.unfinished.remove(number)
        first = min(self.unfinished, default=self.made + 1)
        due = [waiter for last, waiter in self._waiting if last < first]
        self._waiting = [(last, waiter) for last, waiter in self._waiting if last >= first]
        for waiter in due:
            waiter.callback(None)

    def when_idle(self) -> Deferred[None]:
        """Fire when all that there were so far have ended."""
        if not self.unfinished:
            return succeed(None)
        self._waiting.append((self.made, Deferred()))
        return self._waiting[-1][1]


class Press:
    """A publisher on a connection with a scripted broker.

    Args:
        connection: Parameters of the connection.
        **options: The publisher's.
    """

    def __init__(self, connection: dict[str, Any] | None = None, **options: Any) -> None:
        self.peer: ScriptedPeer = scripted(**(connection or {}))
        self.peer.open(channel_max=options.pop("channel_max", 2047))
        self.protocol = self.peer.protocol
        self.operations = Calls()
        self.confirm = options.get("confirm", True)
        self.publisher = Publisher(self, **options)
        self.channel = 0
        self.seq = 0

    def publish(self, body: bytes = b"body", **arguments: Any) -> Watched[Confirmed | None]:
        """Publish, and watch what becomes of it."""
        return Watched(self.publisher.publish(body, **arguments))

    def open(self) -> None:
        """Let the publisher open its channel."""
        self.channel = self.peer.expect(ChannelOpen).channel
        self.peer.send(self.channel, ChannelOpenOk())
        if self.confirm:
            self.peer.expect(ConfirmSelect, self.channel)
            self.peer.send(self.channel, ConfirmSelectOk())
        self.seq = 0

    def take(self, *bodies: bytes) -> list[Heard[BasicPublish]]:
        """Check that the next messages on the wire are these."""
        taken = []
        for body in bodies:
            taken.append(self.peer.expect(BasicPublish, self.channel))
            self.seq += 1
            assert taken[-1].body == body
        return taken

    def nothing(self) -> None:
        """Check that nothing else is on the wire."""
        self.peer.expect_nothing()

    def ack(self, number: int | None = None, multiple: bool = False) -> None:
        """Confirm a message: the last one taken, unless a number is given."""
        self.peer.send(self.channel, BasicAck(self.seq if number is None else number, multiple))

    def prove(self, exchange: str = "") -> None:
        """Let the exchange take a first message, on a channel that is opened if need be."""
        proof = self.publish(b"proof", exchange=exchange)
        if not self.channel:
            self.open()
        self.take(b"proof")
        if self.confirm:
            self.ack()
        assert not proof.pending

    def refuse(self, code: int = 404, text: str = "NOT_FOUND - no exchange 'gone' in vhost '/'") -> None:
        """Close the channel over a message."""
        self.peer.send(self.channel, ChannelClose(code, text, BasicPublish.index >> 16, 40))
        self.peer.expect(ChannelCloseOk, self.channel)

    def block(self) -> None:
        """Stop reading, by the broker's word."""
        self.peer.send(0, ConnectionBlocked("low on memory"))

    def unblock(self) -> None:
        """Read on."""
        self.peer.send(0, ConnectionUnblocked())

    def stall(self) -> None:
        """Let the network take nothing; what is to be written piles up."""
        self.peer.wire.server.reading = False

    def flow_again(self) -> None:
        """Let the network take everything again."""
        self.peer.wire.server.reading = True
        self.peer.wire.pump()

    def lose(self) -> None:
        """End the connection without a word."""
        self.peer.hang_up()
        assert self.peer.gone

    def timers(self) -> int:
        """Return how many timers there are besides the heartbeat's."""
        self.peer.wire.pump()
        return len(self.peer.clock.getDelayedCalls()) - (not self.peer.gone)


def tag_of(outcome: Watched[Confirmed | None]) -> tuple[int, bool]:
    """Return the number that confirmed a message, and whether it stood for others too."""
    confirmed = outcome.value
    assert confirmed is not None
    return confirmed.delivery_tag, confirmed.multiple
