"""Calls from a thread that is not the reactor's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.python import threadable

from tests.talk import Talk, elsewhere
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.spec.wire import encode_short_string
from txamqpx.testing import is_pending, success_of


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def confirming() -> Talk:
    return Talk(confirm=True)


@pytest.fixture
def io_thread() -> Iterator[None]:
    before = threadable.ioThread
    threadable.registerAsIOThread()
    yield
    threadable.ioThread = before


@pytest.mark.usefixtures("io_thread")
def test_calls_from_another_thread_are_refused_and_leave_no_trace(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    peer.deliver(1, "c", 1)
    waiting = channel.queue_declare("q")
    peer.expect(QueueDeclare)
    calls: list[Callable[[], object]] = [
        lambda: channel.queue_declare("x"),
        lambda: channel.basic_publish(b""),
        lambda: channel.basic_consume("q", got.append, consumer_tag="new"),
        lambda: channel.basic_ack(1),
        got[0].ack,
        got[0].nack,
        got[0].reject,
        channel.close,
        peer.protocol.close,
        peer.protocol.open_channel,
    ]
    for call in calls:
        error = elsewhere(call)
        assert isinstance(error, RuntimeError)
        assert "reactor.callFromThread" in str(error)
    peer.expect_nothing()
    assert (channel.unconfirmed, channel.next_publish_seq_no) == (0, 1)
    assert set(channel.core.consumers) == {encode_short_string("c")[1:]}
    assert is_pending(waiting)
    assert channel.is_open
    got[0].ack()
    peer.expect(BasicAck(1))
    peer.send(1, QueueDeclareOk("q", 0, 0))
    success_of(waiting)
