"""A broker in memory that decides at random what becomes of each message, and writes down what it did.

Whatever it does, a broker may do: so whoever publishes to it can be judged by what it wrote down. A message's
body begins with its number, and the numbers grow in the order of publishing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import attrs
from twisted.internet.protocol import Protocol

from txamqpx.protocol import events
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

EXCHANGES = ("", "events", "logs", "gone")
LARGEST = 100_000
"""In bytes; over a larger message it closes the channel."""


def number_of(body: bytes) -> int:
    """Return the number of a message."""
    return int(body.partition(b" ")[0])


@attrs.frozen
class Closure:
    """A channel that the broker has closed.

    Attributes:
        code: Why.
        culprit: Over which message, or None.
        fits: Tells whether the broker's words may be about a message to an exchange, of so many bytes.
        untried: The exchange, if it is one that had taken nothing since it last cost a channel.
    """

    code: int
    culprit: int | None
    fits: Callable[[str, int], bool]
    untried: str | None = None


class ModelBroker(Protocol):
    """The other side of a connection.

    Attributes:
        taken: The messages that it took, in order.
        verdicts: What it said of each: acked, nacked or returned.
        received: When each message that was not refused came, by ``clock``.
        closures: The channels that it closed, in order.
        paused: Whether it has asked for a pause on its youngest channel.
        blocked: Whether it has said that it reads no more.
    """

    def __init__(self, chance: random.Random, window: int, clock: Callable[[], float]) -> None:
        self.chance = chance
        self.core = Connection(ServerHandshake(), max_message_size=1 << 30)
        self.taken: list[int] = []
        self.verdicts: dict[int, str] = {}
        self.received: dict[int, float] = {}
        self.closures: list[Closure] = []
        self.denied: set[int] = set()
        self.blocked = False
        self.paused = False
        self._window = window
        self._clock = clock
        self._last = -1
        self._missing = {"gone"}
        self._forbidden: set[str] = set()
        self._tried: set[str] = set()
        self._numbers: Counter[ChannelCore] = Counter()
        self._unsettled: dict[ChannelCore, dict[int, int]] = {}

    def connectionMade(self) -> None:
        """Wait for the client's greeting."""
        self.core.start()

    def dataReceived(self, data: bytes) -> None:
        """Take what the client has sent."""
        for event in self.core.receive_data(data):
            if isinstance(event, events.Requested):
                self._take(event)
            elif isinstance(event, events.ConnectionEnded):
                fault = type(event.error).__name__
                assert fault != "RemoteProtocolError", f"the client broke the protocol: {event.error}"
        self.say()

    def say(self) -> None:
        """Send what was said."""
        for piece in self.core.outbox.take():
            assert self.transport is not None
            self.transport.write(piece)

    def _take(self, event: events.Requested) -> None:
        method, channel = event.method, event.channel
        if isinstance(method, amqp.ConnectionStartOk):
            self.core.send(amqp.ConnectionTune(8, 16384, 0))
        elif isinstance(method, amqp.ConnectionOpen):
            self.core.send(amqp.ConnectionOpenOk())
        elif channel is None or channel.error is not None:
            pass  # of what comes after its close a channel knows nothing
        elif isinstance(method, amqp.ChannelOpen):
            self.paused = False
            channel.send(amqp.ChannelOpenOk())
        elif isinstance(method, amqp.ConfirmSelect):
            assert isinstance(channel, ChannelCore)
            self._unsettled[channel] = {}
            channel.send(amqp.ConfirmSelectOk())
        elif isinstance(method, amqp.BasicPublish):
            assert isinstance(channel, ChannelCore)
            assert event.content is not None
            self._take_message(channel, method, event.content.body)

    def _take_message(self, channel: ChannelCore, method: amqp.BasicPublish, body: bytes) -> None:
        number, exchange = number_of(body), method.exchange
        assert number > self._last, f"message {number} came after {self._last}"
        self._last = number
        assert number not in self.denied, f"message {number} came, which was called not published"
        if self.chance.random() < 0.03:
            self._change_rules()  # also between two messages that came at once
        if exchange in self._missing:
            self._refuse(channel, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", method, number)
        elif exchange in self._forbidden:
            text = f"ACCESS_REFUSED - access to exchange '{exchange}' in vhost '/' refused for user 'guest'"
            self._refuse(channel, 403, text, method, number)
        elif len(body) > LARGEST:
            text = (
                f"PRECONDITION_FAILED - message size {len(body)} is larger than configured max size {LARGEST}"
            )
            self._refuse(channel, 406, text, method, number, len(body))
        else:
            self._accept(channel, method, number, body)

    def _accept(self, channel: ChannelCore, method: amqp.BasicPublish, number: int, body: bytes) -> None:
        self.taken.append(number)
        self._tried.add(method.exchange)
        if method.mandatory and self.chance.random() < 0.2:
            self.verdicts[number] = "returned"
            message = amqp.BasicReturn(312, "NO_ROUTE", method.exchange, method.routing_key)
            channel.send_content(message, amqp.BasicProperties(delivery_mode=2), body)
        if channel in self._unsettled:
            self.received[number] = self._clock()
            self._numbers[channel] += 1
            self._unsettled[channel][self._numbers[channel]] = number
            assert len(self._unsettled[channel]) <= self._window, "more are outstanding than the limit"

    def _refuse(
        self,
        channel: ChannelCore,
        code: int,
        text: str,
        method: amqp.BasicPublish,
        number: int,
        size: int | None = None,
    ) -> None:
        def fits(exchange: str, length: int) -> bool:
            return exchange == method.exchange if size is None else length == size

        untried = None if size is not None or method.exchange in self._tried else method.exchange
        self.closures.append(Closure(code, number, fits, untried))
        if size is None:
            self._tried.discard(method.exchange)
        self._close(channel, code, text, method)

    def _close(self, channel: ChannelCore, code: int, text: str, method: Method | None) -> None:
        index = method.index if method else 0
        channel.send(amqp.ChannelClose(code, text, index >> 16, index & 0xFFFF), text)
        self._unsettled.pop(channel, None)

    # ----------------------------------------------------------------------- what it does by itself

    def act(self) -> None:
        """Do something of its own accord."""
        if not self.core.is_open:
            return
        step = self.chance.random()
        if step < 0.8:
            self._settle()
        elif step < 0.84:
            self.block(not self.blocked)
        elif step < 0.92:
            self._change_rules()
        elif step < 0.95:
            self.pause(not self.paused)
        elif step < 0.98:
            self._close_for_another_reason()
        elif step < 0.983:
            self.core.close("close", 320, "CONNECTION_FORCED - bye")
        self.say()

    def _settle(self) -> None:
        waiting = [one for one in self._unsettled if self._unsettled[one] and one.error is None]
        if not waiting:
            return
        channel = self.chance.choice(waiting)
        unsettled = self._unsettled[channel]
        tag = self.chance.choice(list(unsettled))
        multiple, nack = self.chance.random() < 0.4, self.chance.random() < 0.15
        covered = [one for one in unsettled if one <= tag] if multiple else [tag]
        for one in covered:
            self.verdicts.setdefault(unsettled.pop(one), "nacked" if nack else "acked")
        channel.send(amqp.BasicNack(tag, multiple) if nack else amqp.BasicAck(tag, multiple))

    def settle_all(self) -> None:
        """Take away what holds a publisher up, and ack all that it has taken."""
        if self.core.is_open:
            self.block(False)
            self.pause(False)
            for channel, unsettled in self._unsettled.items():
                if unsettled and channel.error is None:
                    self.verdicts.update(
                        (one, "acked") for one in unsettled.values() if one not in self.verdicts
                    )
                    channel.send(amqp.BasicAck(max(unsettled), True))
                    unsettled.clear()
            self.say()

    def block(self, blocked: bool) -> None:
        """Say that it reads no more, or that it does again."""
        if blocked is not self.blocked:
            self.blocked = blocked
            self.core.send(amqp.ConnectionBlocked("low on memory") if blocked else amqp.ConnectionUnblocked())

    def pause(self, paused: bool) -> None:
        """Ask for a pause on the youngest channel, or for an end to it."""
        channels = [one for one in self._unsettled if one.error is None and one.state.value == "open"]
        if channels and paused is not self.paused:
            self.paused = paused
            channels[-1].send(amqp.ChannelFlow(not paused), "flow")

    def _change_rules(self) -> None:
        exchange = self.chance.choice(EXCHANGES[1:3])
        rules = self.chance.choice((self._missing, self._forbidden))
        if exchange in rules:
            rules.discard(exchange)
        elif self.chance.random() < 0.4:
            rules.add(exchange)

    def _close_for_another_reason(self) -> None:
        channels = [one for one in self.core.channels.values() if one.state.value == "open"]
        if channels:
            channel = self.chance.choice(channels)
            assert isinstance(channel, ChannelCore)
            self.closures.append(Closure(541, None, lambda exchange, length: True))
            self._close(channel, 541, "INTERNAL_ERROR - out of luck", None)
