"""A client that asks a scripted peer."""

from __future__ import annotations

from typing import Any

from txamqpx.client import Client
from txamqpx.rpc.caller import Caller
from txamqpx.rpc.replies import DIRECT
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    BasicProperties,
    BasicPublish,
    BasicReturn,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import Heard, ScriptedPeer, scripted


class Asking:
    """A client and its peer, and a caller of the client.

    Attributes:
        number: The channel on which the caller is.
        tag: Of its consumer of replies.
    """

    def __init__(self, *, parameters: dict[str, Any] | None = None, **options: Any) -> None:
        self.peer: ScriptedPeer = scripted(**(parameters or {}))
        self.peer.open()
        self.client = Client(self.peer.protocol, confirms=True)
        self.caller: Caller = self.client.caller(**options)
        self.reply_queue: bool = options.get("reply_queue", False)
        self.number = 0
        self.tag = ""
        self.delivered = 0

    def open(self) -> None:
        """Answer what the caller sends before its first request."""
        peer = self.peer
        self.number = peer.expect(ChannelOpen).channel
        self.delivered = 0
        peer.expect(ConfirmSelect, self.number)
        if self.reply_queue:
            declare = peer.expect(QueueDeclare, self.number).method
            assert (declare.queue, declare.exclusive, declare.auto_delete) == ("", True, True)
        consume = peer.expect(BasicConsume, self.number).method
        assert (consume.queue, consume.no_ack) == ("" if self.reply_queue else DIRECT, True)
        self.tag = consume.consumer_tag
        peer.expect_nothing()
        peer.send(self.number, ChannelOpenOk())
        peer.send(self.number, ConfirmSelectOk())
        if self.reply_queue:
            peer.send(self.number, QueueDeclareOk("amq.gen-1", 0, 0))
        peer.send(self.number, BasicConsumeOk(self.tag))

    def request(self, queue: str = "rpc") -> Heard[BasicPublish]:
        """Return the next request."""
        heard = self.peer.expect(BasicPublish, self.number)
        assert (heard.method.exchange, heard.method.routing_key, heard.method.mandatory) == ("", queue, True)
        return heard

    def confirm(self, number: int = 1, *, multiple: bool = False) -> None:
        """Say that the broker has a request."""
        self.peer.send(self.number, BasicAck(number, multiple))

    def reply(self, request: Heard[BasicPublish], body: bytes = b"reply", **fields: Any) -> None:
        """Reply to a request."""
        fields.setdefault("correlation_id", request.properties.correlation_id)
        self.deliver(body, BasicProperties(**fields))

    def deliver(self, body: bytes, properties: BasicProperties) -> None:
        """Send something to where replies come to; RabbitMQ does not count what comes directly."""
        self.delivered += self.reply_queue or not self.delivered
        self.peer.deliver(self.number, self.tag, self.delivered, body, properties)

    def return_(self, request: Heard[BasicPublish]) -> None:
        """Give back a request that reached nobody."""
        method = request.method
        back = BasicReturn(312, "NO_ROUTE", method.exchange, method.routing_key)
        self.peer.send(self.number, back, request.body, request.properties)

    def close(self, code: int, text: str) -> None:
        """Close the channel over a request."""
        index = BasicPublish.index
        self.peer.send(self.number, ChannelClose(code, text, index >> 16, index & 0xFFFF))
