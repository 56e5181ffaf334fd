"""A client and a broker that agrees to everything, for tests of what consumes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from txamqpx.client import Client
from txamqpx.consumer import Consumer
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicGet,
    BasicGetEmpty,
    BasicNack,
    BasicProperties,
    BasicPublish,
    BasicQos,
    BasicQosOk,
    BasicReject,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    ExchangeDeclare,
    ExchangeDeclareOk,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
    TxSelect,
    TxSelectOk,
)
from txamqpx.spec.base import Method
from txamqpx.testing import Heard, ScriptedPeer, scripted, success_of

ANSWERS: dict[type[Method], Callable[[Any], Method]] = {
    ChannelOpen: lambda method: ChannelOpenOk(),
    BasicQos: lambda method: BasicQosOk(),
    BasicConsume: lambda method: BasicConsumeOk(method.consumer_tag),
    BasicCancel: lambda method: BasicCancelOk(method.consumer_tag),
    ConfirmSelect: lambda method: ConfirmSelectOk(),
    QueueDeclare: lambda method: QueueDeclareOk(method.queue or "amq.gen-1", 0, 0),
    QueueBind: lambda method: QueueBindOk(),
    QueueDelete: lambda method: QueueDeleteOk(0),
    QueuePurge: lambda method: QueuePurgeOk(0),
    BasicGet: lambda method: BasicGetEmpty(),
    TxSelect: lambda method: TxSelectOk(),
    ExchangeDeclare: lambda method: ExchangeDeclareOk(),
}

SETTLES = {BasicAck: "ack", BasicNack: "nack", BasicReject: "reject"}


class Stage:
    """A client, and the other side of its connection.

    Attributes:
        asked: What the client has asked, in order.
        settled: What it said of deliveries, in order: ("ack", 3), ("nack requeue", 4), ("reject", 5); where
            one ack stands for several, its tag is negative.
        published: The messages that it published: channel, body, routing key.
        properties: Those of the messages that it published.
    """

    def __init__(self, **parameters: Any) -> None:
        self.peer: ScriptedPeer = scripted(**{"heartbeat": 0, **parameters})
        self.peer.open(heartbeat=0)
        self.client = Client(self.peer.protocol)
        self.asked: list[Method] = []
        self.settled: list[tuple[str, int]] = []
        self.published: list[tuple[int, bytes, str]] = []
        self.properties: list[BasicProperties] = []
        self._tags = 0
        self._unanswered: deque[Heard[Any]] = deque()

    # What the broker does.

    def listen(self) -> None:
        """Take what the client has sent, and leave it unanswered."""
        self.peer.wire.pump()
        assert self.peer.breach is None
        while self.peer.heard:
            heard = self.peer.heard.popleft()
            self._hear(heard)
            self._unanswered.append(heard)

    def agree(self) -> None:
        """Answer everything, until nobody asks any more."""
        self.listen()
        while self._unanswered:
            heard = self._unanswered.popleft()
            answer = ANSWERS.get(type(heard.method))
            if answer is not None and heard.channel in self.peer.core.channels:
                self.peer.send(heard.channel, answer(heard.method))
            self.listen()

    def _hear(self, heard: Any) -> None:
        method = heard.method
        if type(method) in SETTLES:
            tag = -method.delivery_tag if getattr(method, "multiple", False) else method.delivery_tag
            self.settled.append((SETTLES[type(method)] + " requeue" * getattr(method, "requeue", False), tag))
        elif isinstance(method, BasicPublish):
            self.published.append((heard.channel, heard.body, method.routing_key))
            self.properties.append(heard.properties)
        elif not isinstance(method, ChannelCloseOk):
            self.asked.append(method)

    def deliver(self, *bodies: bytes, tag: str = "", channel: int = 1, redelivered: bool = False) -> None:
        """Deliver messages, all of them in one piece, and listen."""
        with self.peer.wire.held():
            for body in bodies:
                self._tags += 1
                self.peer.deliver(
                    channel, tag or f"ctag-{channel}.1", self._tags, body, redelivered=redelivered
                )
        self.listen()

    def close_channel(self, channel: int = 1, code: int = 406, text: str = "PRECONDITION_FAILED") -> None:
        """Close a channel over nothing in particular; what comes then is counted anew."""
        self.peer.send(channel, ChannelClose(code, text, 0, 0))
        self._tags = 0

    def advance(self, seconds: float) -> None:
        """Let time pass, and answer what is asked meanwhile."""
        self.peer.advance(seconds)
        self.agree()

    def names(self) -> list[str]:
        """Return the names of what was asked since the last time."""
        names = [method.name for method in self.asked]
        self.asked.clear()
        return names

    def take_settled(self) -> list[tuple[str, int]]:
        """Return what was said of deliveries since the last time."""
        self.listen()
        settled, self.settled = self.settled, []
        return settled

    def answered(self, kind: type[Method]) -> None:
        """Take note that the test has answered the oldest request of a kind."""
        self._unanswered.remove(next(one for one in self._unanswered if isinstance(one.method, kind)))

    def answer(self, *answers: Method) -> None:
        """Give these answers, in the place of those that it would give."""
        for answer in answers:
            self.peer.send(self._unanswered.popleft().channel, answer)
        self.listen()

    # What the client does.

    def consume(self, handler: Callable[[Any], object], queue: str = "q", **options: Any) -> Consumer:
        """Return a consumer that has started."""
        starting = self.client.consume(queue, handler, **options)
        self.agree()
        return success_of(starting)

    def consume_many(
        self, queues: Sequence[str], handler: Callable[[Any], object], **options: Any
    ) -> Consumer:
        """Return a consumer of several queues that has started."""
        starting = self.client.consume_many(queues, handler, **options)
        self.agree()
        return success_of(starting)
