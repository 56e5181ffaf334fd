"""What becomes of publishes on a channel, and of a publisher that is too fast."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.talk import Talk
from txamqpx.errors import (
    AMQPError,
    ConnectionLost,
    NotFound,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    RPCTimeout,
)
from txamqpx.message import Confirmed
from txamqpx.protocol.outbox import HIGH_WATER
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicNack,
    BasicProperties,
    BasicPublish,
    ChannelFlow,
    ChannelFlowOk,
    ConnectionBlocked,
    ConnectionUnblocked,
)
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def confirming() -> Talk:
    return Talk(confirm=True)


@pytest.mark.covers("T08")
def test_without_confirms_a_publish_fires_at_once(talk: Talk) -> None:
    assert success_of(talk.channel.basic_publish(b"body", exchange="e", routing_key="k")) is None
    heard = talk.peer.expect(BasicPublish("e", "k"), 1)
    assert heard.body == b"body"
    assert heard.properties == BasicProperties()


@pytest.mark.covers("T05")
@pytest.mark.parametrize("body", [bytearray(b"body"), memoryview(b"body"), memoryview(b"-b-o-d-y")[1::2]])
def test_bodies_that_can_change_are_copied(talk: Talk, body: Any) -> None:
    talk.channel.basic_publish(body, mandatory=True, properties=BasicProperties(delivery_mode=2))
    if isinstance(body, bytearray):
        body[:] = b"XXXX"
    heard = talk.peer.expect(BasicPublish(mandatory=True))
    assert heard.body == b"body"
    assert heard.properties.delivery_mode == 2


@pytest.mark.covers("T-PUB-01", "T-PUB-03", "J06", "K11")
def test_each_publish_gets_its_own_confirm(confirming: Talk) -> None:
    channel = confirming.channel
    published = [channel.basic_publish(b"%d" % number) for number in range(6)]
    assert (channel.next_publish_seq_no, channel.unconfirmed) == (7, 6)
    confirming.peer.wire.pump()
    confirming.peer.send(1, BasicAck(2))
    assert [is_pending(deferred) for deferred in published] == [True, False, True, True, True, True]
    confirming.peer.send(1, BasicAck(2, True))
    confirming.peer.send(1, BasicAck(99))
    confirming.peer.send(1, BasicAck(4, True))
    confirming.peer.send(1, BasicAck(0, True))
    confirms: list[Any] = [success_of(deferred) for deferred in published]
    assert [(one.delivery_tag, one.multiple) for one in confirms] == [
        (2, True),
        (2, False),
        (4, True),
        (4, True),
        (0, True),
        (0, True),
    ]
    assert channel.unconfirmed == 0


@pytest.mark.covers("T-PUB-09")
def test_a_publish_that_nobody_waits_for_still_takes_its_confirm(confirming: Talk) -> None:
    first, second = confirming.channel.basic_publish(b"1"), confirming.channel.basic_publish(b"2")
    first.cancel()
    failure_of(first, CancelledError)
    confirming.peer.expect(BasicPublish)
    confirming.peer.expect(BasicPublish)
    assert confirming.channel.unconfirmed == 2
    confirming.peer.send(1, BasicAck(1))
    assert is_pending(second)
    confirming.peer.send(1, BasicAck(2))
    assert isinstance(success_of(second), Confirmed)
    assert confirming.channel.unconfirmed == 0


@pytest.mark.covers("T-PUB-07", "T-PUB-10")
def test_the_broker_closes_over_one_publish_and_each_gets_its_own_outcome(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    before = channel.basic_publish(b"1")
    culprit = channel.basic_publish(b"2", exchange="none")
    after = channel.basic_publish(b"3")
    for _ in range(3):
        peer.expect(BasicPublish)
    with peer.wire.held():
        confirming.closed_by_broker(404, "NOT_FOUND - no exchange 'none' in vhost '/'", BasicPublish)
        unwritten = channel.basic_publish(b"4")
    assert type(failure_of(before, OutcomeUnknown).__cause__) is NotFound
    assert failure_of(culprit, NotFound).exchange == "none"
    assert type(failure_of(after, NotPublished).__cause__) is NotFound
    failure_of(unwritten, NotPublished)
    failure_of(channel.basic_publish(b"5"), NotFound)


@pytest.mark.covers("T-PUB-08", "T-CH-12")
def test_a_lost_connection_leaves_publishes_in_doubt_and_says_so(confirming: Talk) -> None:
    written = [confirming.channel.basic_publish(b"x") for _ in range(3)]
    confirming.peer.wire.pump()
    with confirming.peer.wire.held():
        confirming.peer.hang_up()
        unwritten = confirming.channel.basic_publish(b"y")
        confirming.peer.wire.server.hang_up()
    errors = [failure_of(deferred, OutcomeUnknown) for deferred in written]
    assert len({id(error) for error in errors}) == 3
    assert type(errors[0].__cause__) is ConnectionLost
    failure_of(unwritten, NotPublished)


@pytest.mark.covers("T-PUB-08")
@pytest.mark.parametrize("who", ["channel", "connection"])
def test_what_waits_in_front_of_our_own_close_is_written_so_its_outcome_is_unknown(
    confirming: Talk, who: str
) -> None:
    published = confirming.channel.basic_publish(b"x")
    closing = (confirming.channel if who == "channel" else confirming.peer.protocol).close()
    error = failure_of(published, OutcomeUnknown)
    assert isinstance(error.__cause__, AMQPError)
    confirming.peer.expect(BasicPublish)
    success_of(closing)


@pytest.mark.covers("T-CLS-07")
def test_a_publish_inside_a_confirm_and_a_close_inside_a_failure(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    second: list[Watched[Any]] = []

    def publish_again(_: object) -> None:
        second.append(Watched(channel.basic_publish(b"2")))

    channel.basic_publish(b"1").addCallback(publish_again)
    peer.expect(BasicPublish)
    peer.send(1, BasicAck(1))
    assert peer.expect(BasicPublish).body == b"2"
    peer.send(1, BasicAck(2))
    assert isinstance(second[0].value, Confirmed)

    closes: list[Watched[None]] = []

    def close(failure: Failure) -> None:
        closes.append(Watched(channel.close()))
        closes.append(Watched(peer.protocol.close()))

    failing = [channel.queue_declare("q").addErrback(close) for _ in range(3)]
    peer.wire.pump()
    confirming.closed_by_broker()
    assert [success_of(deferred) for deferred in failing] == [None] * 3
    assert [close.value for close in closes] == [None] * 6
    assert peer.gone
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("J06")
def test_waiting_for_the_confirms_of_what_was_published_so_far(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    assert success_of(channel.wait_for_confirms()) is None
    published: list[Deferred[Any]] = [channel.basic_publish(b"%d" % number) for number in range(3)]
    so_far = Watched(channel.wait_for_confirms())
    published.append(channel.basic_publish(b"later"))
    all_of_it = Watched(channel.wait_for_confirms())
    peer.wire.pump()
    peer.send(1, BasicAck(3))
    peer.send(1, BasicNack(1))
    assert so_far.pending
    peer.send(1, BasicAck(2))
    assert so_far.value is None
    assert all_of_it.pending
    peer.send(1, BasicAck(4))
    assert all_of_it.value is None
    for deferred in published:
        deferred.addErrback(lambda _: None)


@pytest.mark.covers("J06", "T-PUB-09")
def test_waiting_for_confirms_has_an_end_and_leaves_nothing(confirming: Talk) -> None:
    channel, peer = confirming.channel, confirming.peer
    published = channel.basic_publish(b"1")
    for _ in range(10):
        waiting = channel.wait_for_confirms(timeout=1.0)
        peer.advance(1.0)
        assert failure_of(waiting, RPCTimeout).operation == "confirms"
    assert channel._confirmed == []
    waiting = channel.wait_for_confirms()
    confirming.closed_by_broker()
    failure_of(waiting, NotFound)
    failure_of(published, OutcomeUnknown)
    failure_of(channel.wait_for_confirms(), NotFound)


@pytest.mark.covers("T-CH-10", "K05")
def test_flow_is_answered_and_shown(talk: Talk) -> None:
    for active in (False, True):
        talk.peer.send(1, ChannelFlow(active))
        talk.peer.expect(ChannelFlowOk(active))
        assert talk.channel.flow_active is active


@pytest.mark.covers("T-BLK-03", "T-PUB-15", "K13")
def test_a_flood_against_a_socket_that_takes_nothing_stays_bounded() -> None:
    talk = Talk(confirm=True, max_outbox=1_000_000)
    talk.peer.wire.server.pauseProducing()
    refused = 0
    published: list[Deferred[Any]] = []
    for _ in range(300):
        deferred = talk.channel.basic_publish(b"x" * 10_000)
        talk.peer.clock.advance(0)
        if is_pending(deferred):
            published.append(deferred)
        else:
            refused += 1
            error = failure_of(deferred, OutboxFull)
            assert "the limit is 1000000" in str(error)
    outbox = talk.peer.protocol.core.outbox
    assert refused > 150
    assert outbox.size <= 1_000_000
    assert len(talk.peer.wire.client.unsent) <= 300_000
    assert talk.channel.unconfirmed == len(published)
    talk.peer.wire.server.resumeProducing()
    talk.peer.wire.pump()
    assert outbox.size == 0
    assert len(talk.peer.heard) == len(published)
    talk.peer.send(1, BasicAck(0, True))
    for deferred in published:
        success_of(deferred)


def fill(talk: Talk) -> list[Deferred[Any]]:
    """Publish against a stalled socket until publishers are asked to wait; return those that wait."""
    talk.peer.wire.server.pauseProducing()
    waiting: list[Deferred[Any]] = []
    while len(waiting) < 3:
        deferred = talk.channel.basic_publish(b"x" * 100_000)
        talk.peer.clock.advance(0)
        if is_pending(deferred):
            waiting.append(deferred)
    return waiting


@pytest.mark.covers("T-BLK-03")
def test_without_confirms_a_publisher_is_made_to_wait(talk: Talk) -> None:
    waiting = fill(talk)
    assert talk.peer.protocol.core.outbox.size > HIGH_WATER
    waiting[0].cancel()
    failure_of(waiting[0], CancelledError)
    talk.peer.wire.server.resumeProducing()
    talk.peer.wire.pump()
    assert [success_of(deferred) for deferred in waiting[1:]] == [None, None]
    bodies = {heard.body for heard in talk.peer.heard}
    assert bodies == {b"x" * 100_000}


@pytest.mark.covers("T-PUB-08", "T-BLK-03")
def test_a_publisher_that_waits_when_the_connection_ends_learns_whether_its_bytes_were_taken(
    talk: Talk,
) -> None:
    waiting = fill(talk)
    end = talk.peer.wire.client
    while talk.peer.protocol.core.outbox.size > HIGH_WATER + 100_000:
        end.unsent.clear()
        end._producer_waits = False
        talk.peer.protocol._writer.resumeProducing()
    more = talk.channel.basic_publish(b"x" * 1_000_000)
    outbox = talk.peer.protocol.core.outbox
    while outbox.appended - outbox.taken > 2:
        end.unsent.clear()
        end._producer_waits = False
        talk.peer.protocol._writer.resumeProducing()
    assert is_pending(more)
    talk.peer.protocol.abort()
    talk.peer.wire.pump()
    assert type(failure_of(waiting[0], OutcomeUnknown).__cause__) is NotPublished
    failure_of(more, NotPublished)
    for deferred in waiting[1:]:
        deferred.addErrback(lambda _: None)
    failure_of(talk.peer.protocol.when_writable(), NotPublished)


@pytest.mark.covers("T-BLK-01")
def test_blocked_and_unblocked_are_shown(talk: Talk) -> None:
    shown = [talk.peer.protocol.blocked]
    for method in (ConnectionBlocked("low on disk"), ConnectionUnblocked()):
        talk.peer.send(0, method)
        shown.append(talk.peer.protocol.blocked)
    assert shown == [None, "low on disk", None]


@pytest.mark.covers("T-CLS-02")
def test_a_full_outbox_lets_a_channel_close_all_the_same() -> None:
    talk = Talk(max_outbox=100_000, close_timeout=1.0)
    outbox = talk.peer.protocol.core.outbox
    talk.peer.wire.server.pauseProducing()
    while outbox.size <= outbox.most:
        talk.channel.queue_declare("q" * 200).addErrback(lambda _: None)
        talk.peer.clock.advance(0)
    failure_of(talk.channel.queue_declare("q"), OutboxFull)
    failure_of(talk.channel.basic_publish(b""), OutboxFull)
    failure_of(talk.peer.protocol.open_channel(), OutboxFull)
    assert list(talk.peer.protocol.core.channels) == [1]
    closing = talk.channel.close()
    talk.peer.clock.advance(1.0)
    failure_of(closing, RPCTimeout)
