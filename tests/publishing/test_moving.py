"""The broker closes the channel over a message: who is to blame, and who is sent again."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError

from tests.publishing.press import Press, tag_of
from txamqpx.errors import (
    GateTimeout,
    NoFreeChannels,
    NotFound,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import (
    BasicPublish,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
)
from txamqpx.testing import Watched, failure_of, is_pending


@pytest.fixture
def press() -> Press:
    return Press()


@pytest.mark.covers("S07", "T-PUB-10", "P25", "T-PUB-07")
def test_a_missing_exchange_costs_its_own_message_alone(press: Press) -> None:
    good, bad, after = press.publish(b"1"), press.publish(b"2", exchange="gone"), press.publish(b"3")
    press.open()
    press.take(b"1")
    press.ack()
    press.take(b"2")
    press.nothing()
    press.refuse()
    assert tag_of(good) == (1, False)
    assert bad.error(NotFound).exchange == "gone"
    press.open()
    press.take(b"3")
    press.ack()
    assert tag_of(after) == (1, False)
    assert press.publisher.moved == 0
    press.publish(b"4")
    press.take(b"4")


def _midair(press: Press) -> tuple[list[Watched[Confirmed | None]], ...]:
    """Publish to an exchange that is deleted meanwhile, between others."""
    press.prove()
    press.prove("gone")
    before = [press.publish(b"a"), press.publish(b"b")]
    culprit = [press.publish(b"c", exchange="gone")]
    after = [press.publish(b"d"), press.publish(b"e")]
    press.take(b"a", b"b", b"c", b"d", b"e")
    return before, culprit, after


@pytest.mark.covers("T-PUB-07", "T-PUB-10")
def test_of_many_the_one_to_blame_is_found_and_those_behind_it_are_moved(press: Press) -> None:
    before, culprit, after = _midair(press)
    press.refuse()
    errors = [one.error(OutcomeUnknown) for one in before]
    assert errors[0] is not errors[1]
    culprit[0].error(NotFound)
    assert all(one.pending for one in after)
    press.open()
    press.take(b"d", b"e")
    press.ack(2, multiple=True)
    assert [tag_of(one) for one in after] == [(2, True)] * 2
    assert press.publisher.moved == 2
    press.publish(b"f", exchange="gone")
    press.publish(b"g")
    press.take(b"f")
    press.nothing()


def test_what_is_moved_stays_before_what_waits_and_what_is_published_meanwhile(press: Press) -> None:
    _, culprit, after = _midair(press)
    press.publish(b"f", exchange="new")
    flushed = press.publisher.flush()
    late = [press.publish(b"g")]
    press.refuse()
    press.open()
    press.take(b"d", b"e")
    press.nothing()
    press.ack(2, multiple=True)
    press.take(b"f")
    press.ack()
    press.take(b"g")
    assert not is_pending(flushed)
    press.ack()
    assert tag_of(late[0]) == (4, False)
    assert [tag_of(one) for one in after] == [(2, True)] * 2
    culprit[0].error(NotFound)


@pytest.mark.covers("T-CLS-07", "T-PUB-07", "S87")
def test_who_publishes_in_the_middle_of_a_channels_end_stands_behind_those_that_are_moved(
    press: Press,
) -> None:
    press.prove()
    press.prove("gone")
    culprit = press.publisher.publish(b"a", exchange="gone")
    culprit.addErrback(lambda _: press.publish(b"d"))
    press.publish(b"b")
    press.publish(b"c")
    press.take(b"a", b"b", b"c")
    press.refuse()
    press.open()
    press.take(b"b", b"c", b"d")


@pytest.mark.covers("T-CLS-07")
def test_who_flushes_in_the_middle_of_a_channels_end_waits_for_those_that_are_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    flushed: list[Watched[None]] = []
    culprit = press.publisher.publish(b"a", exchange="gone")
    culprit.addErrback(lambda _: flushed.append(Watched(press.publisher.flush())))
    press.publish(b"b")
    press.take(b"a", b"b")
    press.refuse()
    press.open()
    press.take(b"b")
    assert flushed[0].pending
    press.ack()
    assert flushed[0].value is None


@pytest.mark.covers("T-CLS-07")
def test_who_cancels_in_the_middle_of_a_channels_end_is_not_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    culprit = press.publisher.publish(b"a", exchange="gone")
    cancelled = press.publisher.publish(b"b")
    culprit.addErrback(lambda _: cancelled.cancel())
    moved = press.publish(b"c")
    press.take(b"a", b"b", b"c")
    press.refuse()
    failure_of(cancelled, CancelledError)
    press.open()
    press.take(b"c")
    press.ack()
    assert tag_of(moved) == (1, False)


@pytest.mark.covers("T-CLS-07")
def test_who_closes_in_the_middle_of_a_channels_end_waits_for_those_that_are_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    closed: list[Watched[None]] = []
    culprit = press.publisher.publish(b"a", exchange="gone")
    culprit.addErrback(lambda _: closed.append(Watched(press.publisher.close())))
    moved = press.publish(b"b")
    press.take(b"a", b"b")
    press.refuse()
    press.open()
    press.take(b"b")
    assert closed[0].pending
    press.ack()
    press.peer.expect(ChannelClose)
    assert tag_of(moved) == (1, False)
    assert closed[0].value is None
    assert press.timers() == 0


@pytest.mark.covers("T-PUB-07")
def test_a_mark_keeps_its_place_among_those_that_are_moved(press: Press) -> None:
    press.prove()
    press.prove("gone")
    Watched(press.publisher.publish(b"b", exchange="gone"))
    press.publish(b"c")
    flushed = Watched(press.publisher.flush())
    press.publish(b"d")
    press.take(b"b", b"c", b"d")
    press.refuse()
    press.open()
    press.take(b"c", b"d")
    assert flushed.pending
    press.ack(1)
    assert flushed.value is None


@pytest.mark.covers("T-PUB-11")
def test_a_message_that_is_too_large_for_the_broker_is_blamed(press: Press) -> None:
    press.prove()
    before, culprit = press.publish(b"1"), press.publish(b"22222")
    after = press.publish(b"3")
    press.take(b"1", b"22222", b"3")
    press.refuse(406, "PRECONDITION_FAILED - message size 5 is larger than configured max size 4")
    before.error(OutcomeUnknown)
    culprit.error(PreconditionFailed)
    press.open()
    press.take(b"3")
    assert after.pending


def test_the_default_exchange_is_called_by_another_name_in_complaints(press: Press) -> None:
    press.prove()
    denied = press.publish(b"1")
    press.take(b"1")
    press.refuse(403, "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused")
    assert denied.failures
    press.publish(b"2")
    press.publish(b"3")
    press.open()
    press.take(b"2")
    press.nothing()


def test_a_close_that_names_no_exchange_leaves_all_of_them_proven(press: Press) -> None:
    press.prove()
    press.peer.send(press.channel, ChannelClose(541, "INTERNAL_ERROR", 0, 0))
    press.peer.expect(ChannelCloseOk)
    press.publish(b"1")
    press.publish(b"2")
    press.open()
    press.take(b"1", b"2")


def test_without_a_free_number_nothing_can_be_published() -> None:
    press = Press(channel_max=1)
    press.peer.open_channel()
    error = press.publish(b"1").error(NotPublished)
    assert isinstance(error.__cause__, NoFreeChannels)


@pytest.mark.parametrize("room", [-1, 5])
def test_who_finds_no_room_to_open_a_channel_is_refused(press: Press, room: int) -> None:
    other = press.peer.open_channel()
    other.basic_publish(b"x" * 100)
    outbox = press.protocol.core.outbox
    outbox.most, kept = outbox.size + room, outbox.most
    press.publish(b"1").error(OutboxFull)
    outbox.most = kept
    press.peer.expect(BasicPublish, other.number)
    if room > 0:  # enough to open it, and too little for confirms
        press.peer.expect(ChannelClose, press.peer.expect(ChannelOpen).channel)
    press.publish(b"2")
    press.open()
    press.take(b"2")


@pytest.mark.parametrize("confirm", [True, False])
@pytest.mark.parametrize("size", [150, 300, 495])
def test_a_message_for_which_the_outbox_has_no_room_waits_for_it(size: int, confirm: bool) -> None:
    press = Press({"max_outbox": 500}, confirm=confirm)
    press.prove()
    bodies = [b"1" * 150, b"2" * size, b"3"]
    press.stall()
    sent = [press.publish(body) for body in bodies]
    assert press.publisher.waiting == (1 if size == 150 else 2)
    press.flow_again()
    press.take(*bodies)
    if confirm:
        press.ack(multiple=True)
        assert [tag_of(one) for one in sent] == [(4, True)] * 3
    assert not any(one.pending for one in sent)


def test_who_waits_for_room_is_told_so_when_his_time_is_over() -> None:
    press = Press({"max_outbox": 10_000_000}, gate_timeout=5.0)
    press.prove()
    press.stall()
    filling = press.publish(bytes(100_000))
    press.protocol.pump()
    first = press.publish(bytes(900_000))
    large = press.publish(bytes(9_500_000))
    press.publish(b"behind it")
    press.peer.advance(5)
    assert "the transport takes no more" in str(large.error(GateTimeout))
    press.flow_again()
    press.take(bytes(100_000), bytes(900_000))
    press.ack(multiple=True)
    assert [tag_of(one) for one in (filling, first)] == [(3, True)] * 2
