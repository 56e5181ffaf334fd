"""How a connection ends, whoever ends it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.talk import Silent, nothing_is_left, opened
from txamqpx.connection import FAREWELL
from txamqpx.delegates import Delegate
from txamqpx.errors import (
    AMQPError,
    ConnectionClosed,
    ConnectionForced,
    ConnectionLost,
    EncodeError,
    NotPublished,
    OutcomeUnknown,
)
from txamqpx.message import Delivery
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicConsumeOk,
    ChannelClose,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpenOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import Watched, failure_of, is_pending, scripted, success_of


@pytest.mark.covers("S42", "T-CLS-03", "T-CLS-05", "T-CH-12", "T-HS-10")
def test_the_broker_closes_and_everything_ends_once_with_its_reason() -> None:
    order: list[str] = []

    class Notes(Delegate):
        def channel_closed(self, channel: object, reason: AMQPError) -> object:
            order.append("hook: channel")
            return None

        def connection_closed(self, protocol: object, reason: AMQPError) -> object:
            order.append("hook: connection")
            return None

    peer = opened(Notes())
    channel = peer.open_channel(confirm=True)
    published = channel.basic_publish(b"")
    declared = channel.queue_declare("q")
    renewed = peer.protocol.update_secret("s", "r")
    opening = peer.protocol.open_channel()

    def note(result: object, name: str) -> object:
        order.append(name)
        return result

    named: dict[str, Deferred[Any]] = {
        "publish": published,
        "declare": declared,
        "channel": channel.when_closed(),
        "connection": peer.protocol.when_closed(),
    }
    for name, deferred in named.items():
        deferred.addBoth(note, name)
    peer.wire.pump()
    peer.heard.clear()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED - shutdown", 0, 0))
    peer.expect(ConnectionCloseOk)
    assert type(failure_of(published, OutcomeUnknown).__cause__) is ConnectionForced
    errors = [failure_of(deferred, ConnectionForced) for deferred in (declared, renewed, opening)]
    assert len({id(error) for error in errors}) == 3
    assert all(error.reply_code == 320 for error in errors)
    assert type(success_of(peer.protocol.when_closed())) is ConnectionForced
    assert order == [
        "publish",
        "declare",
        "channel",
        "hook: channel",
        "hook: channel",
        "connection",
        "hook: connection",
    ]
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-03")
def test_a_peer_that_does_not_take_our_last_words_does_not_keep_us() -> None:
    peer = opened()
    channel = peer.open_channel()
    peer.wire.server.pauseProducing()
    published: list[Deferred[Any]] = []
    while peer.protocol.writable:
        published.append(channel.basic_publish(b"x" * 50_000))
        peer.clock.advance(0)
    waiting = peer.protocol.when_writable()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    failure_of(waiting, NotPublished)
    failure_of(published[-1], NotPublished)
    assert not peer.gone
    peer.advance(FAREWELL)
    nothing_is_left(peer)
    assert peer.wire.client.aborted


@pytest.mark.covers("T-CLS-04", "T-CLS-03")
def test_what_comes_after_the_end_is_nobodys() -> None:
    peer = opened()
    channel = peer.open_channel()
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    with peer.wire.held():
        peer.deliver(1, "c", 1)
        frames = bytes(peer.wire.server.unsent)
        peer.wire.server.unsent.clear()
        peer.send(0, ConnectionClose(320, "bye", 0, 0))
        peer.wire.server.unsent += frames
    assert got == []
    peer.protocol.dataReceived(b"\xff" * 100)
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-05")
@pytest.mark.parametrize("midst", [False, True])
def test_a_lost_connection_is_typed_and_says_where_it_was_cut(midst: bool) -> None:
    peer = opened()
    declared = peer.open_channel().queue_declare("q")
    if midst:
        peer.write(b"\x01\x00\x01\x00\x00\x00\x10half")
    peer.hang_up()
    error = failure_of(declared, ConnectionLost)
    assert ("in the middle of a frame, after 11 bytes of it" in str(error)) is midst
    assert error.retryable
    nothing_is_left(peer)


def test_a_connection_that_is_lost_before_it_was_written_to() -> None:
    peer = Silent()
    opening = peer.protocol.when_open()
    peer.hang_up()
    failure_of(opening, ConnectionLost)
    assert success_of(peer.protocol.close()) is None
    nothing_is_left(peer)


@pytest.mark.covers("S43", "T15", "T-CLS-01", "T-CLS-05")
def test_closing_waits_for_the_answer_and_then_for_the_transport() -> None:
    peer = opened()
    peer.mute = True
    closing = [peer.protocol.close(320, "going home"), peer.protocol.close(), peer.protocol.close()]
    peer.expect(ConnectionClose(320, "going home", 0, 0))
    peer.expect_nothing()
    assert not peer.gone
    peer.mute = False
    with peer.wire.held():
        peer.dataReceived(b"")
        peer.wire.server.carry()
        assert all(is_pending(deferred) for deferred in closing)
    assert [success_of(deferred) for deferred in closing] == [None] * 3
    assert success_of(peer.protocol.close()) is None
    reason = success_of(peer.protocol.when_closed())
    assert type(reason) is ConnectionForced
    assert reason.by_peer is False
    nothing_is_left(peer)


@pytest.mark.covers("S43", "T-CLS-01", "T-CLS-02", "T-BLK-02")
def test_a_close_that_is_not_answered_ends_by_itself() -> None:
    peer = opened(close_timeout=3.0)
    channel = peer.open_channel(confirm=True)
    published, declared = channel.basic_publish(b""), channel.queue_declare("q")
    peer.mute = True
    closing = peer.protocol.close()
    failure_of(published, OutcomeUnknown)
    failure_of(declared, ConnectionClosed)
    peer.advance(2.9)
    assert is_pending(closing)
    assert not peer.gone
    peer.advance(0.1)
    assert success_of(closing) is None
    assert peer.wire.client.aborted
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-04")
def test_when_both_close_at_once_each_is_answered() -> None:
    peer = opened()
    with peer.wire.held():
        closing = Watched(peer.protocol.close())
        peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    peer.expect(ConnectionClose)
    peer.expect(ConnectionCloseOk)
    assert closing.value is None
    assert success_of(peer.protocol.when_closed()).__class__ is ConnectionClosed
    nothing_is_left(peer)


@pytest.mark.covers("T-CLS-04")
def test_after_our_close_everything_else_is_discarded() -> None:
    peer = opened()
    channel = peer.open_channel()
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    with peer.wire.held():
        peer.deliver(1, "c", 1)
        peer.send(0, ConnectionBlocked("memory"))
        closing = Watched(peer.protocol.close())
    assert closing.value is None
    assert got == []
    nothing_is_left(peer)


def test_a_connection_that_is_lost_while_we_close_is_closed() -> None:
    peer = opened()
    peer.mute = True
    closing = peer.protocol.close(200, "enough")
    peer.hang_up()
    assert success_of(closing) is None
    reason = success_of(peer.protocol.when_closed())
    assert (type(reason), str(reason)) == (ConnectionClosed, "200 enough")
    nothing_is_left(peer)


def test_a_reason_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    peer = opened()
    declared = peer.open_channel().queue_declare("q")
    with pytest.raises(EncodeError):
        peer.protocol.close(200, "x" * 256)
    with pytest.raises(EncodeError):
        peer.protocol.close(70000)
    assert is_pending(declared)
    assert peer.protocol.is_open
    peer.expect(QueueDeclare)
    peer.expect_nothing()


@pytest.mark.covers("T-CLS-07")
@pytest.mark.parametrize("hook", ["connection_opened", "connection_blocked", "channel_closed", "unhandled"])
def test_a_hook_may_close(hook: str) -> None:
    closes: list[Watched[None]] = []
    delegate: Any = Delegate()
    peer = scripted(delegate)
    setattr(delegate, hook, lambda *_: closes.append(Watched(peer.protocol.close())))
    peer.tune()
    peer.send(0, ConnectionOpenOk())
    if hook != "connection_opened":
        channel = peer.open_channel()
        declared = channel.queue_declare("q").addErrback(lambda _: None)
        with peer.wire.held():
            peer.send(0, ConnectionBlocked("memory"))
            peer.deliver(1, "nobody", 1)
            peer.send(1, ChannelClose(404, "no", 0, 0))
        success_of(declared)
    assert [close.value for close in closes][:1] == [None]
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-CLS-07")
def test_a_connection_that_ends_inside_its_own_callbacks() -> None:
    peer = opened()
    channel = peer.open_channel()
    declared = [channel.queue_declare("q") for _ in range(3)]
    lost: list[str] = []

    def lose(_: object) -> None:
        # As a transport in memory may do it: at once.
        peer.protocol.abort()
        peer.wire.client.lose(ConnectionLost())
        lost.append("lost")

    declared[0].addCallback(lose)
    peer.wire.pump()
    with peer.wire.held():
        for _ in declared:
            peer.send(1, QueueDeclareOk("q", 0, 0))
    assert lost == ["lost"]
    assert success_of(declared[1]).queue == "q"
    assert success_of(declared[2]).queue == "q"
    assert isinstance(success_of(peer.protocol.when_closed()), ConnectionLost)
    assert success_of(peer.protocol.close()) is None
    assert peer.clock.getDelayedCalls() == []


def test_a_system_exit_in_a_consumer_loses_no_event() -> None:
    peer = opened()
    channel = peer.open_channel()

    def leave(delivery: Delivery) -> None:
        raise SystemExit

    channel.basic_consume("q", leave, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    declared = channel.queue_declare("q")
    peer.expect(QueueDeclare)
    with peer.wire.held():
        peer.deliver(1, "c", 1)
        peer.send(1, QueueDeclareOk("q", 0, 0))
        data = bytes(peer.wire.server.unsent)
        peer.wire.server.unsent.clear()
    with pytest.raises(SystemExit):
        peer.protocol.dataReceived(data)
    assert is_pending(declared)
    peer.hang_up()
    assert success_of(declared).queue == "q"
    nothing_is_left(peer)
