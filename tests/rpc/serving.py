"""A server of requests, and the scripted peer that it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txamqpx.client import Client
from txamqpx.rpc.server import Server
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    BasicProperties,
    BasicPublish,
    BasicQos,
    BasicQosOk,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
)
from txamqpx.testing import Heard, ScriptedPeer, scripted, success_of


class Serving:
    """A client that serves the queue "rpc".

    Attributes:
        number: The channel of requests.
        replies: The channel of replies.
    """

    def __init__(
        self, function: Callable[[Any], object], *, product: str = "RabbitMQ", **options: Any
    ) -> None:
        self.peer: ScriptedPeer = scripted()
        self.peer.open()
        self.peer.protocol.server_properties["product"] = product
        self.client = Client(self.peer.protocol, confirms=True)
        started = self.client.serve("rpc", function, **options)
        self.number = self.peer.expect(ChannelOpen).channel
        self.peer.send(self.number, ChannelOpenOk())
        self.peer.expect(BasicQos, self.number)
        consume = self.peer.expect(BasicConsume, self.number).method
        assert consume.queue == "rpc"
        self.tag = consume.consumer_tag
        self.peer.send(self.number, BasicQosOk())
        self.peer.send(self.number, BasicConsumeOk(self.tag))
        self.server: Server = success_of(started)
        self.requested = 0
        self.replies = 0
        self.replied = 0

    def request(self, body: bytes = b"request", *, redelivered: bool = False, **fields: Any) -> None:
        """Send a request."""
        fields.setdefault("reply_to", "back")
        fields.setdefault("correlation_id", "7")
        given = {name: value for name, value in fields.items() if value is not None}
        self.requested += 1
        self.peer.deliver(
            self.number, self.tag, self.requested, body, BasicProperties(**given), redelivered=redelivered
        )

    def reply(self) -> Heard[BasicPublish]:
        """Return the next reply; for the first one, or the first since the channel was closed, open it."""
        self.peer.wire.pump()
        if isinstance(self.peer.heard[0].method, ChannelOpen):
            self.replies = self.peer.expect(ChannelOpen).channel
            self.replied = 0
            self.peer.send(self.replies, ChannelOpenOk())
            self.peer.expect(ConfirmSelect, self.replies)
            self.peer.send(self.replies, ConfirmSelectOk())
        heard = self.peer.expect(BasicPublish, self.replies)
        assert heard.method.exchange == ""
        self.replied += 1
        return heard

    def confirm(self) -> None:
        """Say that the broker has the last reply."""
        self.peer.send(self.replies, BasicAck(self.replied, False))

    def acked(self) -> None:
        """Check that the last request is done with."""
        self.peer.expect(BasicAck(self.requested, False), self.number)
