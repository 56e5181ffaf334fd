from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import client, deliver, open_channel, said, say
from txamqpx.errors import AlreadySettled, ChannelClosed, RemoteProtocolError, UnknownDelivery
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.events import Delivered
from txamqpx.protocol.settling import UnsettledLedger, WatchedLedger
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicConsume,
    BasicNack,
    BasicReject,
    ChannelClose,
    ChannelCloseOk,
    ConnectionClose,
    ConnectionCloseOk,
)
from txamqpx.spec.base import Method

CORE = open_channel(client())


def delivery(tag: int, *, no_ack: bool = False) -> Delivered:
    return Delivered(CORE, "token", "ctag", tag, False, "", "key", no_ack)


def ledger(*tags: int) -> tuple[UnsettledLedger, dict[int, Delivered]]:
    kept, deliveries = UnsettledLedger(), {tag: delivery(tag) for tag in tags}
    for one in deliveries.values():
        kept.add(one)
    return kept, deliveries


def settled(deliveries: dict[int, Delivered]) -> list[int]:
    return [tag for tag, one in deliveries.items() if one.settled]


def test_each_delivery_is_settled_by_its_tag() -> None:
    kept, deliveries = ledger(1, 2, 3)
    kept.settle(2, False)
    assert settled(deliveries) == [2]
    assert len(kept) == 2


@pytest.mark.covers("T-ACK-02")
@pytest.mark.parametrize("multiple", [False, True])
def test_a_delivery_is_settled_only_once(multiple: bool) -> None:
    kept, _ = ledger(1, 2)
    kept.settle(1, False)
    with pytest.raises(AlreadySettled, match="delivery tag 1 is settled") as caught:
        kept.settle(1, multiple)
    assert caught.value.reply_code == 406
    assert len(kept) == 1


@pytest.mark.covers("T-ACK-02")
@pytest.mark.parametrize("multiple", [False, True])
def test_a_tag_that_was_never_given_out_is_unknown(multiple: bool) -> None:
    kept, _ = ledger(1, 2)
    with pytest.raises(UnknownDelivery, match="no delivery tag 3") as caught:
        kept.settle(3, multiple)
    assert caught.value.reply_code == 406
    assert len(kept) == 2


@pytest.mark.covers("T-ACK-03")
def test_zero_is_a_tag_only_for_several() -> None:
    kept, _ = ledger(1, 2)
    with pytest.raises(UnknownDelivery):
        kept.settle(0, False)
    kept.settle(0, True)
    assert len(kept) == 0
    kept.settle(0, True)  # all of nothing is no mistake


@pytest.mark.covers("T-ACK-03")
def test_several_are_all_up_to_the_tag_whoever_got_them() -> None:
    kept, deliveries = ledger(1, 2, 5, 9)
    kept.settle(5, True)
    assert settled(deliveries) == [1, 2, 5]
    assert len(kept) == 1


def test_several_may_be_settled_by_a_tag_that_is_settled_itself() -> None:
    kept, deliveries = ledger(1, 2, 3)
    kept.settle(2, False)
    kept.settle(2, True)
    assert settled(deliveries) == [1, 2]


@pytest.mark.covers("T-ACK-03")
def test_the_last_is_the_highest_tag_that_waits() -> None:
    kept, _ = ledger(1, 2, 3)
    assert kept.last == 3
    kept.settle(3, False)
    assert kept.last == 2
    kept.settle(0, True)
    assert kept.last == 0


def test_the_last_is_the_highest_after_a_rollback_too() -> None:
    kept, _ = ledger(1, 2)
    kept.begin()
    kept.settle(1, False)
    kept.undo()
    assert kept.last == 2


@pytest.mark.covers("T-ACK-05")
def test_what_wants_no_ack_cannot_be_settled() -> None:
    kept = UnsettledLedger()
    kept.add(delivery(1, no_ack=True))
    assert len(kept) == 0
    with pytest.raises(AlreadySettled, match="or needed no settling"):
        kept.settle(1, False)


@pytest.mark.parametrize("tag", [0, 1, 2])
def test_tags_that_do_not_rise_are_the_brokers_mistake(tag: int) -> None:
    kept, _ = ledger(2)
    with pytest.raises(RemoteProtocolError, match=f"delivery tag {tag} came after 2") as caught:
        kept.add(delivery(tag))
    assert caught.value.operation == "basic.deliver"
    assert len(kept) == 1


@pytest.mark.covers("T-CON-16")
def test_direct_replies_take_no_tags_away() -> None:
    """RabbitMQ numbers them all like the delivery that comes next."""
    kept, _ = ledger(1)
    for _ in range(3):
        kept.add(delivery(2, no_ack=True))
    kept.add(delivery(2))
    kept.settle(2, False)
    with pytest.raises(RemoteProtocolError, match="delivery tag 2 came after 2"):
        kept.add(delivery(2, no_ack=True))
    kept.add(delivery(5, no_ack=True))
    with pytest.raises(AlreadySettled):
        kept.settle(4, False)
    with pytest.raises(UnknownDelivery):
        kept.settle(6, True)


@pytest.mark.covers("T-ACK-04")
def test_what_is_forgotten_is_stale() -> None:
    kept, deliveries = ledger(1, 2)
    kept.forget()
    assert settled(deliveries) == [1, 2]
    assert all(one.stale for one in deliveries.values())
    assert len(kept) == 0
    with pytest.raises(AlreadySettled):
        kept.settle(1, False)


@pytest.mark.covers("T-ACK-04")
def test_what_crosses_a_recover_is_stale_from_the_start() -> None:
    kept, deliveries = ledger(1)
    kept.recover()
    crossing, after = delivery(2), delivery(3)
    kept.add(crossing)
    kept.undo()
    assert settled({**deliveries, 2: crossing}) == [1, 2]
    assert crossing.stale
    assert len(kept) == 0
    with pytest.raises(AlreadySettled):
        kept.settle(2, False)
    kept.recovered()
    kept.add(after)
    kept.settle(3, False)


# --------------------------------------------------------------------------- transactions


def test_what_a_transaction_settled_comes_back_with_the_rollback_in_order() -> None:
    kept, deliveries = ledger(1, 2, 3, 4)
    kept.settle(1, False)
    kept.begin()
    kept.settle(3, True)
    assert settled(deliveries) == [1, 2, 3]
    kept.undo()
    assert settled(deliveries) == [1]
    kept.settle(2, True)
    assert settled(deliveries) == [1, 2]
    assert len(kept) == 2


def test_what_was_committed_does_not_come_back() -> None:
    kept, deliveries = ledger(1, 2)
    kept.begin()
    kept.settle(1, False)
    kept.begin()
    kept.settle(2, False)
    kept.undo()
    assert settled(deliveries) == [1]


def test_a_second_rollback_finds_nothing() -> None:
    kept, deliveries = ledger(1)
    kept.begin()
    kept.undo()
    kept.undo()
    assert settled(deliveries) == []
    assert len(kept) == 1


def test_without_a_transaction_nothing_is_undone() -> None:
    kept, deliveries = ledger(1)
    kept.settle(1, False)
    kept.undo()
    assert settled(deliveries) == [1]


def test_what_is_forgotten_in_a_transaction_does_not_come_back() -> None:
    kept, deliveries = ledger(1, 2)
    kept.begin()
    kept.settle(1, False)
    kept.forget()
    kept.undo()
    assert settled(deliveries) == [1, 2]
    assert len(kept) == 0


# --------------------------------------------------------------------------- against a model


@pytest.mark.covers("T-ACK-02", "T-ACK-03")
@given(st.data())
def test_the_ledger_agrees_with_a_plain_set(data: st.DataObject) -> None:
    kept, model, last = UnsettledLedger(), set[int](), 0
    for _ in range(data.draw(st.integers(0, 30))):
        if data.draw(st.booleans()):
            last += data.draw(st.integers(1, 3))
            no_ack = data.draw(st.booleans())
            kept.add(delivery(last, no_ack=no_ack))
            model |= set() if no_ack else {last}
            continue
        tag, multiple = data.draw(st.integers(0, last + 1)), data.draw(st.booleans())
        covered = {one for one in model if one <= (tag or last)} if multiple else model & {tag}
        expected: Any = None
        if tag > last or (tag == 0 and not multiple):
            expected = UnknownDelivery
        elif not covered and tag:
            expected = AlreadySettled
        if expected is None:
            kept.settle(tag, multiple)
            model -= covered
        else:
            with pytest.raises(expected):
                kept.settle(tag, multiple)
        assert len(kept) == len(model)


# --------------------------------------------------------------------------- in how few words


@pytest.mark.covers("T-ACK-03")
@pytest.mark.parametrize(
    ("given", "acked", "words"),
    [
        ([1], [1], [(1, False)]),
        ([1, 2, 3], [1, 2, 3], [(3, True)]),
        ([1, 2, 3], [3, 1, 2], [(3, True)]),
        ([1, 2, 3], [2], [(2, False)]),
        ([1, 2, 3], [3, 2], [(3, False), (2, False)]),
        ([1, 2, 3, 4], [1, 2, 4], [(2, True), (4, False)]),
        ([1, 2, 3], [1, 3], [(1, False), (3, False)]),
    ],
)
def test_several_acks_are_one_only_where_nothing_below_waits(
    given: list[int], acked: list[int], words: list[tuple[int, bool]]
) -> None:
    kept, _ = ledger(*given)
    for tag in acked:
        kept.settle(tag, False)
    assert kept.fewest(acked) == words


# --------------------------------------------------------------------------- who is told


def watched(*tags: int) -> tuple[WatchedLedger, dict[int, Delivered], list[int]]:
    plain, deliveries = ledger(*tags)
    kept, told = WatchedLedger(plain), list[int]()
    kept.listeners.append(told.append)
    return kept, deliveries, told


def test_a_watched_ledger_takes_over_and_tells_of_each_that_is_settled() -> None:
    kept, deliveries, told = watched(1, 2, 3, 4)
    kept.settle(2, False)
    kept.settle(3, True)
    assert told == [2, 1, 3]
    assert settled(deliveries) == [1, 2, 3]
    assert [one.delivery_tag for one in kept] == [4]
    with pytest.raises(RemoteProtocolError):
        kept.add(delivery(4))


def test_what_is_refused_is_not_told_and_what_is_forgotten_is() -> None:
    kept, _, told = watched(1, 2)
    with pytest.raises(UnknownDelivery):
        kept.settle(3, False)
    assert told == []
    kept.forget()
    assert told == [1, 2]
    assert list(kept) == []


def test_what_waits_can_be_settled_while_it_is_looked_at() -> None:
    kept, deliveries = ledger(1, 2, 3)
    for one in kept:
        kept.settle(one.delivery_tag, False)
    assert settled(deliveries) == [1, 2, 3]


@pytest.mark.covers("T-ACK-02")
def test_the_place_of_the_first_settling_is_kept_for_who_wants_it() -> None:
    kept, _, _ = watched(*range(1, 1003))
    kept.settle(1, False)
    assert kept.place(1) is None
    kept.places = {}
    for tag in range(2, 1003):
        kept.settle(tag, False)
    assert kept.place(2) is None  # too long ago
    assert "test_the_place_of_the_first_settling_is_kept" in str(kept.place(3))
    assert UnsettledLedger().place(1) is None


# --------------------------------------------------------------------------- acks of one turn


def gathering(tags: int) -> tuple[Connection, ChannelCore, dict[int, Delivered]]:
    """Return a channel that gathers acks, and what was delivered on it."""
    core = client()
    channel = open_channel(core)
    channel.gather_acks()
    channel.send(BasicConsume("q", "c"), "consume", consumer="C")
    said(core)
    happened = core.receive_data(b"".join(map(deliver, range(1, tags + 1))))
    return core, channel, {one.delivery_tag: one for one in happened if isinstance(one, Delivered)}


def words(core: Connection) -> list[Method | None]:
    return [one.method for one in said(core)]


@pytest.mark.covers("T-ACK-03")
def test_acks_of_one_turn_are_one_word() -> None:
    core, channel, deliveries = gathering(4)
    for tag in (1, 3, 2):
        channel.ack(tag)
        assert deliveries[tag].settled
    assert core.outbox
    assert words(core) == [BasicAck(3, True)]
    channel.gather_acks()
    channel.ack(4)
    assert words(core) == [BasicAck(4, False)]
    assert words(core) == []


def test_a_gathered_ack_is_refused_at_once() -> None:
    core, channel, _ = gathering(2)
    channel.ack(1)
    for tag, error in ((1, AlreadySettled), (3, UnknownDelivery)):
        with pytest.raises(error):
            channel.ack(tag)
    assert words(core) == [BasicAck(1, False)]


def test_what_is_said_afterwards_does_not_overtake_acks() -> None:
    core, channel, _ = gathering(3)
    channel.ack(3)
    channel.send(BasicNack(1, False, True))
    channel.ack(2)
    assert words(core) == [BasicAck(3, False), BasicNack(1, False, True), BasicAck(2, False)]


def test_a_close_takes_the_acks_along() -> None:
    core, channel, _ = gathering(2)
    channel.ack(1)
    channel.send(ChannelClose(200, ""), "close")
    assert words(core) == [BasicAck(1, False), ChannelClose(200, "")]
    core, channel, _ = gathering(2)
    channel.ack(1)
    core.close("close")
    assert words(core) == [BasicAck(1, False), ConnectionClose(200, "")]


def test_acks_do_not_follow_the_last_word() -> None:
    core, channel, _ = gathering(2)
    channel.ack(1)
    core.receive_data(say(ChannelClose(404, "NOT_FOUND", 50, 10)))
    assert words(core) == [BasicAck(1, False), ChannelCloseOk()]
    with pytest.raises(ChannelClosed):
        channel.ack(2)
    core, channel, _ = gathering(2)
    channel.ack(1)
    core.receive_data(deliver(1))  # a tag that does not rise
    (last,) = words(core)
    assert isinstance(last, ConnectionClose)
    core, channel, _ = gathering(2)
    channel.ack(1)
    core.receive_data(say(ConnectionClose(320, "CONNECTION_FORCED", 0, 0), channel=0))
    assert words(core) == [ConnectionCloseOk()]


@pytest.mark.covers("T-ACK-02", "T-ACK-03")
@given(st.data())
def test_whatever_the_order_acks_settle_exactly_what_was_acked(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    core, channel, _ = gathering(count)
    order = data.draw(st.permutations(range(1, count + 1)))
    intended: dict[int, str] = {}
    heard: dict[int, str] = {}

    def listen() -> None:
        for word in words(core):
            assert isinstance(word, BasicAck | BasicReject | BasicNack)
            kind, many = word.name, getattr(word, "multiple", False)
            covered = [tag for tag in range(1, count + 1) if tag not in heard and tag <= word.delivery_tag]
            heard.update(dict.fromkeys(covered if many else [word.delivery_tag], kind))

    for tag in order[: data.draw(st.integers(0, count))]:
        method = data.draw(st.sampled_from([None, None, None, BasicReject(tag, True), BasicNack(tag)]))
        if method is None:
            channel.ack(tag)
        else:
            channel.send(method)
        intended[tag] = "basic.ack" if method is None else method.name
        if data.draw(st.booleans()):
            listen()
    listen()
    assert heard == intended
