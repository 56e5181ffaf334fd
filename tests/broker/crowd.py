"""Several clients that do anything at all, at once, over wires that are cut anywhere.

What has to hold whatever they do: nobody but them is to blame, so nothing is logged; each message that
somebody has is known to its queue, and the other way round; and when all have gone nothing of them is left.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.task import Clock

from tests.broker.visitor import Visitor, methods
from txamqpx.broker import Broker
from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.message import Entry
from txamqpx.broker.session import CLOSING
from txamqpx.protocol.frames import BODY, HEARTBEAT, HEARTBEAT_FRAME, METHOD, frame, header_frame, unpack_head
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

CHANNELS = (1, 2, 3)
QUEUES = ("q", "r", "shared")
EXCHANGES = ("", "amq.fanout", "amq.topic", "x")
INTERVAL = 1
PROPERTIES = {
    "capabilities": {
        "authentication_failure_close": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
    }
}

#: What a queue may be declared with.
SHAPES: Sequence[dict[str, Any]] = (
    {},
    {"x-queue-type": "quorum"},
    {"x-single-active-consumer": True},
    {"x-max-length": 3},
    {"x-max-length": 3, "x-overflow": "reject-publish"},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "r"},
    {"x-max-priority": 3},
)

_ENDS = {
    one.index
    for one in (amqp.ChannelClose, amqp.ChannelCloseOk, amqp.ConnectionClose, amqp.ConnectionCloseOk)
}
_AT_AN_END = _ENDS | {amqp.ChannelOpenOk.index, HEARTBEAT}


class Crowd:
    """Clients of one broker.

    Args:
        seed: Tells one run from another.
        profile: The broker's.
        wasteful: Whether messages are ever done with; if not, each one has to be there to the end.
    """

    def __init__(self, seed: int, profile: str, *, wasteful: bool = True) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.broker = Broker(profile=profile, clock=self.clock)
        self.wasteful = wasteful
        self.visitors: list[Visitor] = []
        # Which channels have ended, as their clients see it; with 0 all have.
        self._closed: defaultdict[Visitor, set[int]] = defaultdict(set)
        self._numbers = 0
        chance = self.chance
        self.shapes = {name: chance.choice(SHAPES) if wasteful else {} for name in QUEUES}
        with_heir = Visitor(self.broker).open(1)
        for name, shape in self.shapes.items():
            with_heir.send(1, amqp.QueueDeclare(name, durable=True, arguments=shape))
            with_heir.send(1, amqp.QueueBind(name, "amq.fanout", ""), amqp.QueueBind(name, "amq.topic", "#"))
        with_heir.leave()

    # ----------------------------------------------------------------------- what happens

    def step(self) -> None:
        """Let something happen."""
        chance = self.chance
        if not self.visitors or (len(self.visitors) < 3 and chance.random() < 0.1):
            self.visitors.append(
                Visitor(self.broker).open(
                    *CHANNELS,
                    heartbeat=chance.choice((0, INTERVAL)),
                    properties=chance.choice((PROPERTIES, {})),
                )
            )
        visitor = chance.choice(self.visitors)
        happening: Callable[[Visitor], None] = chance.choices(
            (self._speak, self._pass_time, self._dawdle, self._leave, self._rule), (60, 12, 8, 3, 3)
        )[0]
        happening(visitor)
        for one in list(self.visitors):
            self._answer(one)
            if one.is_dropped() or one.is_sent_away():
                one.leave()
                self.visitors.remove(one)

    def _answer(self, visitor: Visitor) -> None:
        """Answer what is closed, mostly, and open it again; nothing may follow that."""
        transport: Any = visitor.transport
        data, offset = transport.value(), 0
        transport.clear()
        while offset < len(data):
            kind, number, length = unpack_head(data, offset)
            index = int.from_bytes(data[offset + 7 : offset + 11]) if kind == METHOD else kind
            offset += length + 8
            closed = self._closed[visitor]
            assert index in _AT_AN_END or not closed & {0, number}
            if index == amqp.ChannelOpenOk.index:
                closed.discard(number)
            elif index in _ENDS:
                closed.add(number)
            if self.chance.random() < 0.1 or not visitor.is_heard():
                continue
            if index == amqp.ChannelClose.index:
                visitor.send(number, amqp.ChannelCloseOk(), amqp.ChannelOpen())
            elif index == amqp.ChannelCloseOk.index:
                visitor.send(number, amqp.ChannelOpen())
            elif index == amqp.ConnectionClose.index:
                visitor.send(0, amqp.ConnectionCloseOk())

    def _speak(self, visitor: Visitor) -> None:
        chance = self.chance
        data = b"".join(self._said(visitor) for _ in range(chance.choice((1, 1, 2, 5, 10))))
        size = chance.choice((1, 7, 50, len(data)))
        for start in range(0, len(data), size):
            if visitor.is_heard():
                visitor.write(data[start : start + size])

    def _said(self, visitor: Visitor) -> bytes:
        chance = self.chance
        channel = chance.choice(tuple(visitor.session.core.channels) or CHANNELS)
        kind = chance.random()
        if kind < 0.4:
            return self._publish(channel)
        if kind < 0.41:
            return methods(chance.choice(CHANNELS), amqp.ChannelOpen())
        if kind < 0.43:
            number, method = chance.choice(
                (
                    (channel, amqp.ChannelClose(200, "")),
                    (channel, amqp.ChannelCloseOk()),
                    (0, amqp.ConnectionClose(200, "")),
                    (0, amqp.ConnectionCloseOk()),
                )
            )
            return methods(number, method)
        core = visitor.session.core.channels.get(channel)
        consuming = core.owner.consuming if core is not None and core.owner is not None else None
        held = consuming.unsettled.held if consuming is not None else ()
        there = consuming.consumers if consuming is not None else ()
        return methods(channel, self._method(chance.choice((*held, *range(4))), (*there, "nobody")))

    def _publish(self, channel: int) -> bytes:
        chance = self.chance
        self._numbers += 1
        body = b"%d" % self._numbers + b"." * chance.choice((0, 0, 10, 300))
        exchange = chance.choice(EXCHANGES[:3] * 10 + EXCHANGES if self.wasteful else EXCHANGES[:1])
        key = chance.choice(QUEUES)
        publish = amqp.BasicPublish(exchange, key, mandatory=chance.random() < 0.2)
        properties = amqp.BasicProperties(priority=chance.randrange(4)).encode()
        pieces = [methods(channel, publish), header_frame(channel, 60, properties, len(body))]
        half = chance.randrange(len(body))
        pieces += [frame(BODY, channel, part) for part in (body[:half], body[half:]) if part]
        return b"".join(pieces)

    def _method(self, tag: int, consumers: Sequence[str]) -> Method:
        chance, queue = self.chance, self.chance.choice(QUEUES)
        # A tag that is used again gets what its former owner had coming, and then no sum comes out even.
        self._numbers += 1
        new = "" if chance.random() < 0.1 else f"tag-{self._numbers}"
        multiple = chance.random() < 0.5
        keeping: tuple[Method, ...] = (
            amqp.BasicConsume(queue, new, exclusive=chance.random() < 0.05),
            amqp.BasicConsume(queue, new, arguments={"x-priority": chance.randrange(3)}),
            amqp.BasicCancel(chance.choice(consumers), no_wait=multiple),
            amqp.BasicGet(queue),
            amqp.BasicNack(tag, multiple, True),
            amqp.BasicReject(tag, True),
            amqp.BasicRecover(True),
            amqp.BasicRecoverAsync(chance.random() < 0.9),
            amqp.BasicQos(0, chance.randrange(4), multiple),
            amqp.BasicQos(int(chance.random() < 0.05), 1),
            amqp.ConfirmSelect(),
            amqp.QueueDeclare(queue, durable=True, arguments=self.shapes[queue]),
        )
        if not self.wasteful or chance.random() < 0.7:
            return chance.choice(keeping)
        return chance.choice(
            (
                amqp.BasicAck(tag, multiple),
                amqp.BasicAck(tag, multiple),
                amqp.BasicNack(tag, multiple, False),
                amqp.BasicReject(tag, False),
                amqp.BasicConsume(queue, new, no_ack=True),
                amqp.BasicConsume("amq.rabbitmq.reply-to", new, no_ack=True),
                amqp.TxSelect(),
                amqp.TxCommit(),
                amqp.TxRollback(),
                amqp.BasicGet(queue, no_ack=True),
                amqp.QueueDeclare("mine", exclusive=True, auto_delete=multiple),
                amqp.BasicConsume("mine", new),
                amqp.QueueBind("mine", "amq.fanout", ""),
                amqp.QueuePurge(queue),
                amqp.QueueDelete(queue, if_unused=multiple),
                amqp.ExchangeDeclare("x", "fanout", auto_delete=True),
                amqp.ExchangeBind("x", "amq.topic", "q"),
            )
        )

    def _pass_time(self, visitor: Visitor) -> None:
        """Let a moment pass, in which most who promised it are heard of."""
        silent = self.chance.random() < 0.1
        for _ in range(4):
            self.clock.advance(INTERVAL / 2)
            for one in self.visitors:
                if one.is_heard() and not (silent and one is visitor):
                    one.write(HEARTBEAT_FRAME if not one.session.core.reader.pending else b"")

    def _dawdle(self, visitor: Visitor) -> None:
        """Stop reading, or begin to."""
        writer = visitor.session._writer
        writer.resumeProducing() if writer._paused else writer.pauseProducing()

    def _leave(self, visitor: Visitor) -> None:
        """Be gone, in the midst of a word perhaps."""
        if self.chance.random() < 0.5 and visitor.is_heard():
            visitor.write(self._said(visitor)[: self.chance.randrange(1, 30)])
        visitor.leave()
        self.visitors.remove(visitor)

    def _rule(self, visitor: Visitor) -> None:
        """Do what an operator does."""
        broker = self.broker
        self.chance.choice(
            (
                lambda: visitor.session.force("maintenance"),
                lambda: broker.close_connections("maintenance"),
                broker.set_alarm,
                broker.clear_alarm,
                broker.clear_alarm,
            )
        )()

    # ----------------------------------------------------------------------- what has to hold

    def channels(self) -> Iterator[BrokerChannel]:
        """Yield the channels that are open, as far as the broker is concerned."""
        for session in self.broker.sessions:
            for core in session.core.channels.values():
                if core.owner is not None and not core.owner.closed:
                    yield core.owner

    def held(self, channel: BrokerChannel) -> list[Entry]:
        """Return what a channel has not settled for good."""
        entries = list(channel.consuming.unsettled.held.values())
        if channel.transaction is not None:
            for _, taken in channel.transaction._settled:
                entries += taken.values()
        return entries

    def check(self) -> None:
        """See that everybody tells the same."""
        queues = self.broker.vhosts["/"].queues
        held: dict[Any, list[Entry]] = {queue: [] for queue in queues.values()}
        consumers: dict[Any, set[Any]] = {queue: set() for queue in queues.values()}
        for channel in self.channels():
            entries = self.held(channel)
            for entry in entries:
                place: Any = entry.queue
                assert place.deleted or place in held
                held.get(place, []).append(entry)
            has = Counter(id(entry.consumer) for entry in entries)
            for consumer in channel.consuming.consumers.values():
                source: Any = consumer.queue
                consumers[source].add(consumer)
                assert consumer.unsettled == has[id(consumer)]
            assert channel.consuming.unsettled._volume >= 0
        for queue, entries in held.items():
            assert len(entries) == len(queue.unsettled)
            assert set(entries) == set(queue.unsettled)
            assert not set(entries) & set(queue.ready)
            assert set(queue.consumers) == consumers[queue]
            assert queue.owner is None or queue.owner in self.broker.sessions
        if not self.wasteful:
            there = Counter(
                entry.message.body for queue in queues.values() for entry in (*queue.ready, *queue.unsettled)
            )
            assert there == Counter(one.body for one in self.broker.published())

    def part(self) -> None:
        """Let everybody go, and see that nothing is left of them."""
        for visitor in self.visitors:
            if self.chance.random() < 0.5 and visitor.is_heard() and visitor.is_in():
                visitor.write(methods(0, amqp.ConnectionClose(200, "")))
            visitor.leave()
        self.broker.clear_alarm()
        self.clock.advance(CLOSING)
        assert self.broker.sessions == set()
        vhost = self.broker.vhosts["/"]
        assert vhost.replies._open == {}
        assert "mine" not in vhost.queues
        for queue in vhost.queues.values():
            assert not queue.consumers
            assert not queue.unsettled
        assert not any(self.broker.limits._of_users.values())
        self.broker.delete_vhost("/")
        assert self.clock.getDelayedCalls() == []
