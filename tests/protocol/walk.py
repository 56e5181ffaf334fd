"""A random walk over everything that a client and a broker may do, checked against a model at each step.

Both sides are cores; between them lie bytes that are cut anywhere. The broker decides at random and writes
down what it did, so each outcome that the client tells can be judged: a token comes back in exactly one
event, a confirmed message was taken and acked, one that is called not published was never taken, and no ack
ever names a delivery that the broker does not wait for.

`python -m tests.protocol.walk --steps 1000000` walks for long; a walk is repeated by its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.protocol.pair import TUNING, fresh_client, publish, tokens_in, written
from txamqpx.errors import (
    AlreadySettled,
    AMQPError,
    Closed,
    LocalProtocolError,
    NoFreeChannels,
    NotFound,
    NotProcessed,
    NotPublished,
    OutcomeUnknown,
)
from txamqpx.protocol import events
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.events import Delivered
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

EXCHANGES = ("events", "events", "gone")
FEW_CHANNELS = Tuning(5, 4096, 0)  # so that numbers are used again, and bodies are cut


class Broker:
    """The other side: it answers when it likes, and remembers what it took and what it said."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.core = Connection(ServerHandshake())
        self.core.start()
        #: The tokens of requests and messages that were taken.
        self.taken: set[str] = set()
        #: What was said of each message, and those over which a channel was closed.
        self.verdicts: dict[str, str] = {}
        self.blamed: set[str] = set()
        self.given: list[str] = []
        self.happened: list[events.Event] = []
        self._unanswered: list[tuple[ChannelCore, Method]] = []
        self._unsettled: dict[ChannelCore, dict[int, str]] = {}
        self._numbers: Counter[ChannelCore] = Counter()
        self._deliveries: Counter[ChannelCore] = Counter()
        self._unacked: dict[ChannelCore, set[int]] = {}
        self._consumers: list[tuple[ChannelCore, str]] = []

    def take(self, data: bytes) -> None:
        """Read what the client wrote."""
        happened = self.core.receive_data(data) + self.core.take_events()
        self.happened += happened
        for event in happened:
            if isinstance(event, events.Requested):
                self._take(event)
            elif isinstance(event, events.ConnectionEnded):
                assert isinstance(event.error, Closed), f"the client broke the protocol: {event.error}"

    def _take(self, event: events.Requested) -> None:
        method, channel = event.method, event.channel
        if channel is None:
            self._take_connection(method)
            return
        assert isinstance(channel, ChannelCore)
        if channel.error is not None:
            return
        if isinstance(method, amqp.ChannelOpen):
            channel.send(amqp.ChannelOpenOk())
        elif isinstance(method, amqp.BasicPublish):
            assert event.content is not None
            self._take_message(channel, method, event.content.body)
        elif isinstance(method, amqp.BasicAck | amqp.BasicNack | amqp.BasicReject):
            multiple = getattr(method, "multiple", False)
            unacked = self._unacked[channel]
            covered = (
                {tag for tag in unacked if tag <= method.delivery_tag} if multiple else {method.delivery_tag}
            )
            assert covered, f"{method} covers nothing"
            assert covered <= unacked, f"{method} of a delivery that was settled, or never made"
            self._unacked[channel] = unacked - covered
        elif method.expects_reply:
            self._unanswered.append((channel, method))

    def _take_connection(self, method: Method) -> None:
        if isinstance(method, amqp.ConnectionStartOk):
            self.core.send(amqp.ConnectionTune(TUNING.channel_max, TUNING.frame_max, TUNING.heartbeat))
        elif isinstance(method, amqp.ConnectionOpen):
            self.core.send(amqp.ConnectionOpenOk())
        elif self.core.is_open:
            self.core.send(amqp.ConnectionUpdateSecretOk())

    def _take_message(self, channel: ChannelCore, method: amqp.BasicPublish, body: bytes) -> None:
        token = body.partition(b" ")[0].decode()
        if method.exchange == "gone":
            self.blamed.add(token)
            self.close(channel, 404, "NOT_FOUND - no exchange 'gone' in vhost '/'", method)
            return
        self.taken.add(token)
        if token.startswith("confirmed"):
            self._numbers[channel] += 1
            self._unsettled.setdefault(channel, {})[self._numbers[channel]] = token
        if method.mandatory and self.chance.random() < 0.3:
            self.verdicts[token] = "returned"
            message = amqp.BasicReturn(312, "NO_ROUTE", method.exchange, method.routing_key)
            channel.send_content(message, amqp.BasicProperties(), body)

    def act(self) -> None:
        """Do something on its own account, or answer something."""
        if not self.core.is_open:
            return
        step = self.chance.random()
        if self._unanswered and step < 0.5:
            self._answer()
        elif self._unsettled and step < 0.75:
            self._settle()
        elif self._consumers and step < 0.9:
            self._deliver()
        elif step < 0.92:
            self.core.send(amqp.ConnectionBlocked("memory") if step < 0.91 else amqp.ConnectionUnblocked())
        elif step < 0.94:
            self.core.heartbeat()
        elif step < 0.96:
            self._interfere()

    def _answer(self) -> None:
        channel, method = self._unanswered.pop(0)
        if channel.error is not None:
            return
        asked: Any = method
        if isinstance(method, amqp.QueueDeclare):
            if self.chance.random() < 0.05:
                self.blamed.add(method.queue)
                self.close(channel, 404, f"NOT_FOUND - no queue '{method.queue}' in vhost '/'", method)
                return
            self.taken.add(method.queue)
            channel.send(amqp.QueueDeclareOk(method.queue))
        elif isinstance(method, amqp.BasicConsume):
            self._consumers.append((channel, method.consumer_tag))
            channel.send(amqp.BasicConsumeOk(method.consumer_tag))
        elif isinstance(method, amqp.BasicCancel):
            self._consumers = [one for one in self._consumers if one != (channel, method.consumer_tag)]
            channel.send(amqp.BasicCancelOk(method.consumer_tag))
        elif isinstance(method, amqp.BasicGet) and self.chance.random() < 0.7:
            tag = self._next_delivery(channel, method.no_ack)
            channel.send_content(amqp.BasicGetOk(tag), amqp.BasicProperties(), b"got")
        else:
            if isinstance(method, amqp.BasicRecover):
                self._unacked[channel] = set()
            answer = self.core.dialect.methods[asked.responses[-1]]
            channel.send(answer())

    def _next_delivery(self, channel: ChannelCore, no_ack: bool) -> int:
        self._deliveries[channel] += 1
        tag = self._deliveries[channel]
        unacked = self._unacked.setdefault(channel, set())
        if not no_ack:
            unacked.add(tag)
        return tag

    def _settle(self) -> None:
        channel = self.chance.choice(list(self._unsettled))
        waiting = self._unsettled[channel]
        if channel.error is not None or not waiting:
            del self._unsettled[channel]
            return
        seq = self.chance.choice(list(waiting))
        multiple, nack = self.chance.random() < 0.3, self.chance.random() < 0.2
        covered = [one for one in waiting if one <= seq] if multiple else [seq]
        for one in covered:
            self.verdicts.setdefault(waiting.pop(one), "nacked" if nack else "acked")
        channel.send(amqp.BasicNack(seq, multiple) if nack else amqp.BasicAck(seq, multiple))

    def _deliver(self) -> None:
        channel, tag = self.chance.choice(self._consumers)
        if channel.error is not None:
            self._consumers.remove((channel, tag))
            return
        number = self._next_delivery(channel, tag.startswith("auto"))
        body = b"x" * self.chance.choice((0, 5, 5000))
        method = amqp.BasicDeliver(tag, number, False, "", "key")
        channel.send_content(method, amqp.BasicProperties(message_id=str(number)), body)

    def _interfere(self) -> None:
        channels = [one for one in self.core.channels.values() if one.state.value == "open"]
        if channels:
            channel = self.chance.choice(channels)
            if self.chance.random() < 0.3:
                self.close(channel, 406, "PRECONDITION_FAILED - delivery acknowledgement timed out", None)
            else:
                channel.send(amqp.ChannelFlow(self.chance.random() < 0.5), self.token("flow"))
        elif self.chance.random() < 0.1:
            self.core.close(self.token("connection"), 320, "CONNECTION_FORCED - bye")

    def close(self, channel: ChannelCore, code: int, text: str, method: Method | None) -> None:
        """Close a channel over ``method``."""
        index = method.index if method else 0
        channel.send(amqp.ChannelClose(code, text, index >> 16, index & 0xFFFF), self.token("channel"))

    def token(self, what: str) -> str:
        """Return a token of the broker's own requests."""
        self.given.append(f"{what} {len(self.given)}")
        return self.given[-1]


class Walk:
    """One connection, from its handshake to its end; then the next.

    Args:
        seed: Tells one walk from another.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.steps = 0
        self.outcomes: Counter[str] = Counter()
        self._count = 0
        self._moves: list[tuple[Callable[[], None], int]] = [
            (self._carry_out, 12),
            (self._carry_in, 12),
            (self._let_the_broker_act, 16),
            (self._publish, 14),
            (self._declare, 4),
            (self._settle, 8),
            (self._get, 2),
            (self._consume, 2),
            (self._cancel, 1),
            (self._recover, 1),
            (self._open, 2),
            (self._close_channel, 1),
            (self._beat, 1),
        ]
        self._begin()

    def _begin(self) -> None:
        self.broker = Broker(self.chance)
        self.core = fresh_client(tuning=FEW_CHANNELS, max_outbox=60_000)
        self.channels: list[ChannelCore] = []
        self.deliveries: list[Delivered] = []
        self.given: list[str] = []
        self.happened: list[events.Event] = []
        self._out, self._in = b"", b""
        self._denied: set[str] = set()
        self._spoiled = False
        self._ended: events.ConnectionEnded | None = None

    def run(self, steps: int) -> None:
        """Walk on, and let the last connection end."""
        moves = [move for move, weight in self._moves for _ in range(weight)]
        for _ in range(steps):
            self.steps += 1
            step = self.chance.random()
            if self._ended is not None:
                self._finish()
            elif step < 0.0005:
                self._hear(self.core.connection_lost())
            elif step < 0.0008 and self.core.is_open:
                self.core.close(self._token("connection"), 200, "bye")
            elif step < 0.0010 and self.core.is_open:
                self._in += self.chance.randbytes(20)
                self._spoiled = True
            elif step < 0.003:
                self._agree()
            else:
                self.chance.choice(moves)()
            self._hear(self.core.take_events())
        if self._ended is None:
            self._hear(self.core.connection_lost())
        self._finish()

    # ----------------------------------------------------------------------- what we do

    def _token(self, kind: str) -> str:
        self._count += 1
        token = f"{kind}-{self._count}"
        self.given.append(token)
        return token

    def _try(self, call: Callable[[str], object], kind: str) -> bool:
        """Ask for something; a refusal leaves the token with us."""
        token = self._token(kind)
        waits = self.core.outbox.appended
        try:
            call(token)
        except (Closed, LocalProtocolError, NotPublished):
            assert self.core.outbox.appended == waits, "a refused call has written something"
            self.given.remove(token)
            return False
        return True

    def _channel(self) -> ChannelCore | None:
        return self.chance.choice(self.channels) if self.channels else None

    def _open(self) -> None:
        def call(token: str) -> None:
            self.channels.append(self.core.open_channel(token))

        try:
            opened = self._try(call, "open")
        except NoFreeChannels:
            assert len(self.core.channels) == FEW_CHANNELS.channel_max
            return
        if opened and self.chance.random() < 0.6:
            self._try(lambda token: self.channels[-1].send(amqp.ConfirmSelect(), token), "select")

    def _publish(self) -> None:
        channel = self._channel()
        if channel is None:
            return
        kind = "confirmed" if channel.confirms is not None else "plain"
        exchange = self.chance.choice(EXCHANGES) if self.chance.random() < 0.05 else ""

        def call(token: str) -> None:
            body = token.encode() + b" " * self.chance.choice((1, 100, 9000))
            mandatory = self.chance.random() < 0.5
            if not publish(channel, token, body, exchange, "key", mandatory):
                self.given.remove(token)

        self._try(call, kind)

    def _declare(self) -> None:
        self._request("declare", amqp.QueueDeclare)

    def _get(self) -> None:
        self._request("get", lambda token: amqp.BasicGet("q", self.chance.random() < 0.2))

    def _recover(self) -> None:
        if self.chance.random() < 0.3:
            self._request("recover", lambda token: amqp.BasicRecover(True))

    def _request(self, kind: str, make: Callable[[str], Method]) -> None:
        channel = self._channel()
        if channel is not None:
            self._try(lambda token: channel.send(make(token), token), kind)

    def _consume(self) -> None:
        no_ack = self.chance.random() < 0.3
        tag = f"{'auto' if no_ack else 'manual'}-{self.chance.randrange(3)}"
        self._request("consume", lambda token: amqp.BasicConsume("q", tag, no_ack=no_ack))

    def _cancel(self) -> None:
        self._request("cancel", lambda token: amqp.BasicCancel(f"manual-{self.chance.randrange(3)}"))

    def _settle(self) -> None:
        if not self.deliveries:
            return
        delivery = self.chance.choice(self.deliveries)
        channel = delivery.core
        stale = delivery.settled
        try:
            if self.chance.random() < 0.5:
                channel.ack(delivery.delivery_tag)
            else:
                multiple = self.chance.random() < 0.3
                stale = stale and not multiple
                channel.send(amqp.BasicNack(delivery.delivery_tag, multiple, True))
        except AlreadySettled:
            assert delivery.settled
        except Closed:
            assert channel.error is not None
        else:
            assert not stale, "a delivery was settled twice"
            assert delivery.settled
        self.deliveries = self.deliveries[-50:]

    def _close_channel(self) -> None:
        if self.chance.random() < 0.3:
            self._request("close", lambda token: amqp.ChannelClose(200, "enough"))

    def _beat(self) -> None:
        if not self.core.is_open:
            return
        self.core.heartbeat()
        if self.chance.random() < 0.05:
            self._try(lambda token: self.core.send(amqp.ConnectionUpdateSecret("s", "r"), token), "secret")

    # ----------------------------------------------------------------------- what lies on the wire

    def _let_the_broker_act(self) -> None:
        self.broker.act()

    def _carry_out(self) -> None:
        self._out += b"".join(self.core.outbox.take(self.chance.choice((None, 1, 5000))))
        size = self.chance.choice((len(self._out), len(self._out), self.chance.randrange(1, 40)))
        data, self._out = self._out[:size], self._out[size:]
        self.broker.take(data)

    def _carry_in(self) -> None:
        self._in += written(self.broker.core)
        size = self.chance.choice((len(self._in), len(self._in), self.chance.randrange(1, 40)))
        data, self._in = self._in[:size], self._in[size:]
        self._hear(self.core.receive_data(data))

    def _agree(self) -> None:
        """Let everything arrive that was written; then both sides see the same."""
        while self.core.outbox or self.broker.core.outbox or self._out or self._in:
            self._out, data = b"", self._out + written(self.core)
            self.broker.take(data)
            self._in, data = b"", self._in + written(self.broker.core)
            self._hear(self.core.receive_data(data))
        if self._ended is None and not self._spoiled:
            assert self.core.state is self.broker.core.state
            ours, theirs = self.core.channels, self.broker.core.channels
            assert {number: one.state for number, one in ours.items()} == {
                number: one.state for number, one in theirs.items()
            }
            assert self.core.tuning == self.broker.core.tuning
            self.outcomes["both sides agree"] += 1

    # ----------------------------------------------------------------------- what we are told

    def _hear(self, happened: Iterable[events.Event]) -> None:
        for event in happened:
            assert self._ended is None, f"{event} after the end"
            self.happened.append(event)
            if isinstance(event, Delivered):
                self.deliveries.append(event)
            elif isinstance(event, events.Replied):
                self._check_reply(event)
            elif isinstance(event, events.Confirmed | events.Nacked):
                verdict = "acked" if isinstance(event, events.Confirmed) else "nacked"
                for token in event.tokens:
                    assert self.broker.verdicts[token] == verdict, (
                        f"{token} was {self.broker.verdicts[token]}"
                    )
                    self.outcomes[verdict] += 1
            elif isinstance(event, events.Unrouted):
                assert event.message.body.startswith(event.token.encode() + b" ")
                assert self.broker.verdicts[event.token] == "returned"
                self.outcomes["returned"] += 1
            elif isinstance(event, events.Failed):
                self._check_failure(event.token, event.error)
            elif isinstance(event, events.ChannelEnded):
                assert isinstance(event.channel, ChannelCore)
                self.channels.remove(event.channel)
                assert event.channel.error is event.error
            elif isinstance(event, events.ConnectionEnded):
                self._ended = event

    def _check_reply(self, event: events.Replied) -> None:
        kind = event.token.partition("-")[0]
        self.outcomes[f"{kind} answered"] += 1
        if isinstance(event.method, amqp.QueueDeclareOk):
            assert event.method.queue == event.token
        elif isinstance(event.method, Delivered):
            assert kind == "get"
            self.deliveries.append(event.method)

    def _check_failure(self, token: str, error: AMQPError) -> None:
        kind = token.partition("-")[0]
        self.outcomes[f"{kind} failed: {type(error).__name__}"] += 1
        if isinstance(error, NotFound):
            assert token in self.broker.blamed, f"{token} was not to blame"
        elif isinstance(error, NotPublished | NotProcessed):
            self._denied.add(token)
        elif kind == "confirmed":
            assert isinstance(error, OutcomeUnknown), error
        else:
            assert isinstance(error, Closed), error

    def _finish(self) -> None:
        """Judge a connection that is over; begin the next."""
        assert self._ended is not None
        # The broker reads what the transport has got, and, if we part with a word, what is left as well.
        if self._ended.flush:
            self._out += written(self.core)
        self.broker.take(self._out)
        self.broker.happened += self.broker.core.connection_lost()
        assert not self._denied & self.broker.taken, f"denied, but taken: {self._denied & self.broker.taken}"
        assert Counter(tokens_in(self.happened)) == Counter(self.given)
        assert Counter(filter(None, tokens_in(self.broker.happened))) == Counter(self.broker.given)
        assert not self.channels
        assert not self.core.channels
        assert all(delivery.settled for delivery in self.deliveries)
        self.outcomes[f"ended: {type(self._ended.error).__name__}"] += 1
        self._begin()


def main(arguments: list[str] | None = None) -> None:
    """Walk, print the seed first and the outcomes last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    walk = Walk(options.seed)
    walk.run(options.steps)
    for outcome, count in sorted(walk.outcomes.items()):
        print(f"{count:9,} {outcome}")


if __name__ == "__main__":
    main(sys.argv[1:])
