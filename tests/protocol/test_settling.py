from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import client, open_channel
from txamqpx.errors import AlreadySettled, RemoteProtocolError, UnknownDelivery
from txamqpx.protocol.events import Delivered
from txamqpx.protocol.settling import UnsettledLedger

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
