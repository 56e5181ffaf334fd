"""The channel of requests and replies by itself; what a caller makes of it is in `test_caller.py`."""

from __future__ import annotations

import pytest

from txamqpx.errors import AccessRefused, AMQPError, ConsumerCancelled, RPCTimeout
from txamqpx.message import Delivery
from txamqpx.rpc.replies import Replies
from txamqpx.spec.amqp0_9_1 import (
    BasicCancel,
    BasicConsume,
    BasicConsumeOk,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConfirmSelectOk,
    ConnectionClose,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import ScriptedPeer, scripted, success_of


class Listening:
    """A channel of replies and its peer, and what was heard of it."""

    def __init__(self, *, own_queue: bool = False) -> None:
        self.peer: ScriptedPeer = scripted(rpc_timeout=5.0, close_timeout=5.0)
        self.peer.open()
        self.bodies: list[bytes] = []
        self.changes: list[bool] = []
        self.ends: list[AMQPError] = []
        self.replies = Replies(
            self.peer.protocol, own_queue, self._replied, lambda: self.changes.append(True), self._ended
        )
        self.peer.expect(ChannelOpen)
        self.peer.send(1, ChannelOpenOk())
        self.peer.expect(ConfirmSelect, 1)
        if own_queue:
            self.peer.expect(QueueDeclare, 1)
        self.tag = self.peer.expect(BasicConsume, 1).method.consumer_tag

    def start(self) -> None:
        """Answer all steps of one without a queue."""
        self.peer.send(1, ConfirmSelectOk())
        self.peer.send(1, BasicConsumeOk(self.tag))

    def _replied(self, reply: Delivery) -> None:
        self.bodies.append(reply.body)

    def _ended(self, replies: Replies, reason: AMQPError) -> None:
        assert replies is self.replies
        self.ends.append(reason)


@pytest.mark.covers("T-CON-16")
def test_it_can_be_used_once_it_consumes() -> None:
    listening = Listening()
    listening.peer.send(1, ConfirmSelectOk())
    assert (listening.replies.usable, listening.changes) == (False, [])
    listening.peer.send(1, BasicConsumeOk(listening.tag))
    assert (listening.replies.usable, listening.changes) == (True, [True])
    assert listening.replies.address == "amq.rabbitmq.reply-to"
    # RabbitMQ numbers direct replies all alike.
    for body in (b"one", b"two"):
        listening.peer.deliver(1, listening.tag, 1, body)
    assert listening.bodies == [b"one", b"two"]
    assert listening.ends == []


def test_the_address_of_a_queue_is_what_the_broker_calls_it() -> None:
    listening = Listening(own_queue=True)
    listening.peer.send(1, ConfirmSelectOk())
    listening.peer.send(1, QueueDeclareOk("amq.gen-1", 0, 0))
    listening.peer.send(1, BasicConsumeOk(listening.tag))
    assert listening.replies.address == "amq.gen-1"
    listening.peer.send(1, BasicCancel(listening.tag, True))
    (end,) = listening.ends
    assert isinstance(end, ConsumerCancelled)
    assert (end.queue, end.consumer_tag) == ("amq.gen-1", listening.tag)
    assert listening.replies.over
    listening.peer.expect(ChannelClose)


def test_a_pause_makes_it_unusable_for_a_while() -> None:
    listening = Listening()
    listening.start()
    listening.peer.send(1, ChannelFlow(False))
    usable = [listening.replies.usable]
    listening.peer.send(1, ChannelFlow(True))
    assert [*usable, listening.replies.usable] == [False, True]
    assert len(listening.changes) == 3


@pytest.mark.parametrize("answered", [False, True])
def test_the_step_that_is_refused_is_the_reason(answered: bool) -> None:
    listening = Listening()
    if answered:
        listening.peer.send(1, ConfirmSelectOk())
    listening.peer.send(1, ChannelClose(403, "ACCESS_REFUSED", 60, 20))
    listening.peer.expect(ChannelCloseOk)
    (end,) = listening.ends
    assert isinstance(end, AccessRefused)
    assert (listening.replies.started, listening.replies.over) == (False, True)


def test_steps_that_are_not_answered_are_given_up() -> None:
    listening = Listening()
    listening.peer.advance(5.0)
    assert [type(end) for end in listening.ends] == [RPCTimeout]
    listening.peer.expect(ChannelClose)


def test_an_end_is_told_once_and_ours_not_at_all() -> None:
    listening = Listening()
    listening.start()
    listening.peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    assert len(listening.ends) == 1
    ours = Listening()
    ours.start()
    closed = ours.replies.close()
    ours.peer.expect(ChannelClose)
    success_of(closed)
    assert ours.ends == []
