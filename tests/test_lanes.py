from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.talk import opened
from txamqpx.errors import ConnectionClosed, ConnectionLost
from txamqpx.lanes import KEPT, MOST, Lane, Lanes
from txamqpx.message import Delivery
from txamqpx.ordering import Footprint, Operations
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import ScriptedPeer, failure_of, scripted, success_of


@pytest.fixture
def peer() -> ScriptedPeer:
    return opened()


class Freed:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def found(lanes: Lanes, place: str | None = None) -> Lane:
    lane = lanes.find(place)
    assert lane is not None
    return lane


def taken(lanes: Lanes) -> Lane:
    """Return a lane, which has one thing more to do."""
    lane = found(lanes)
    lane.load += 1
    return lane


def small(channel_max: int) -> ScriptedPeer:
    """Return a peer that allows few channels."""
    peer = scripted()
    peer.open(channel_max=channel_max)
    return peer


def accept(peer: ScriptedPeer) -> int:
    number = peer.expect(ChannelOpen).channel
    peer.send(number, ChannelOpenOk())
    return number


def close(peer: ScriptedPeer, number: int) -> None:
    with peer.wire.held():
        peer.send(number, ChannelClose(404, "", 0, 0))
    peer.expect(ChannelCloseOk, number)


def test_an_idle_lane_is_used_again(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed())
    assert found(lanes) is found(lanes)


def test_more_lanes_are_opened_while_all_have_something_to_do_but_not_too_many(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed())
    used = [taken(lanes) for _ in range(2 * MOST)]
    assert len(set(used[:MOST])) == MOST
    assert set(used[MOST:]) == set(used[:MOST])  # each has two: it is the one with the least to do
    assert lanes.lanes == tuple(used[:MOST])


def test_what_the_broker_is_stuck_with_holds_up_no_other_lane(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed(), most=1)
    stuck = taken(lanes)
    assert found(lanes) is stuck
    stuck.overdue += 1
    fresh = taken(lanes)
    assert fresh is not stuck
    assert taken(lanes) is fresh  # though the other one has less to do
    fresh.overdue += 1
    assert found(lanes) is stuck  # there is an end to it
    stuck.overdue -= 1
    assert found(lanes) is stuck


def test_a_lane_that_the_broker_has_closed_is_replaced(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed())
    common, placed = found(lanes), found(lanes, "here")
    assert common is not placed
    assert found(lanes, "here") is placed
    for number in (accept(peer), accept(peer)):
        close(peer, number)
    assert lanes.lanes == ()
    assert not lanes._placed  # or there would be more of them for each queue that is missing
    assert not common.is_live
    assert found(lanes) not in (common, placed)
    assert found(lanes, "here") not in (common, placed)


@pytest.mark.parametrize("place", [None, "here"])
def test_a_lane_is_replaced_as_soon_as_anybody_hears_that_it_was_closed(
    peer: ScriptedPeer, place: str | None
) -> None:
    lanes = Lanes(peer.protocol, Freed())
    lane = found(lanes, place)
    number = accept(peer)
    seen: list[Lane] = []
    lane.channel.queue_declare("q").addErrback(lambda _: seen.append(found(lanes, place)))
    peer.expect(QueueDeclare, number)
    close(peer, number)
    assert len(seen) == 1
    assert seen[0] is not lane
    assert lanes.lanes == (seen[0],)  # the end of the old one did not end the new one


def test_a_few_idle_lanes_are_kept(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed())
    used = [taken(lanes) for _ in range(KEPT + 3)]
    numbers = [accept(peer) for _ in used]
    for lane in used:
        lane.load = 0
        lanes.rest(lane)
    closed = [peer.expect(ChannelClose).channel for _ in range(3)]
    peer.expect_nothing()
    assert closed == numbers[:3]
    assert lanes.lanes == tuple(used[3:])


def test_a_lane_with_work_is_not_closed(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed())
    used = [taken(lanes) for _ in range(KEPT + 3)]
    for lane in used:
        lanes.rest(lane)
    assert lanes.lanes == tuple(used)


def test_a_lane_with_unsettled_messages_stays_and_may_go_when_another_is_opened(peer: ScriptedPeer) -> None:
    operations = Operations(peer.protocol)
    deliveries: list[Delivery] = []
    for number in range(1, KEPT + 3):
        got: Deferred[Any] = operations.call(BasicGet("q", False), Footprint(), place=number)
        got.addCallback(deliveries.append)
        assert accept(peer) == number
        peer.expect(BasicGet("q", False), number)
        peer.send(number, BasicGetOk(1, False, "", "q", 0), b"")
    peer.expect_nothing()
    for delivery in deliveries:
        delivery.ack()
        peer.expect(BasicAck)
    peer.expect_nothing()
    operations.call(BasicGet("q", False), Footprint(), place="another")
    accept(peer)
    assert [peer.expect(ChannelClose).channel for _ in range(2)] == [1, 2]


@pytest.mark.covers("T-CH-02")
def test_without_a_free_number_fewer_lanes_have_to_do() -> None:
    lanes = Lanes(small(2).protocol, Freed())
    used = [taken(lanes) for _ in range(4)]
    assert used[:2] == used[2:]


@pytest.mark.covers("T-CH-02")
def test_where_others_have_all_numbers_the_end_of_any_channel_is_waited_for() -> None:
    peer = small(2)
    freed = Freed()
    lanes = Lanes(peer.protocol, freed)
    theirs = [peer.open_channel() for _ in range(2)]
    assert lanes.find() is None
    assert lanes.find("here") is None
    theirs[0].close()
    peer.expect(ChannelClose)
    peer.wire.pump()
    assert freed.times == 1
    assert found(lanes, "here").is_live
    theirs[1].close()
    peer.wire.pump()
    assert freed.times == 2
    assert not lanes._watched


@pytest.mark.covers("T-CH-02")
def test_an_idle_lane_of_ours_makes_room_for_one_that_is_needed() -> None:
    peer = small(1)
    freed = Freed()
    lanes = Lanes(peer.protocol, freed)
    found(lanes)
    accept(peer)
    assert lanes.find("here") is None
    peer.expect(ChannelClose)
    assert freed.times == 1
    assert lanes.find("here") is not None


@pytest.mark.covers("T-CH-02")
def test_calls_wait_for_a_channel() -> None:
    peer = small(1)
    channel = peer.open_channel()
    operations = Operations(peer.protocol)
    declared = operations.call(QueueDeclare("q"))
    peer.expect_nothing()
    channel.close()
    peer.expect(ChannelClose)
    number = accept(peer)
    peer.expect(QueueDeclare("q"), number)
    peer.send(number, QueueDeclareOk("q", 0, 0))
    assert success_of(declared).queue == "q"


@pytest.mark.covers("T-CH-02")
def test_a_lane_of_ours_that_gets_idle_makes_room_for_one_that_is_needed() -> None:
    peer = small(1)
    operations = Operations(peer.protocol)
    declared = operations.call(QueueDeclare("q"))
    number = accept(peer)
    peer.expect(QueueDeclare("q"), number)
    got = operations.call(BasicGet("p", False), place="p")
    peer.expect_nothing()
    peer.send(number, QueueDeclareOk("q", 0, 0))
    success_of(declared)
    peer.expect(ChannelClose, number)
    number = accept(peer)
    peer.expect(BasicGet("p", False), number)
    peer.send(number, BasicGetEmpty())
    assert isinstance(success_of(got), BasicGetEmpty)


@pytest.mark.covers("T-CH-02")
@pytest.mark.parametrize("answered_before", [True, False])
def test_a_channel_that_is_needed_is_to_be_had_when_the_messages_on_another_are_settled(
    answered_before: bool,
) -> None:
    peer = small(1)
    operations = Operations(peer.protocol)
    held: list[Deferred[Any]] = [operations.call(BasicGet("q", False), place="q") for _ in range(2)]
    number = accept(peer)
    for _ in held:
        peer.expect(BasicGet("q", False), number)
    peer.send(number, BasicGetOk(1, False, "", "q", 1), b"")
    if answered_before:
        peer.send(number, BasicGetOk(2, False, "", "q", 0), b"")
    second = operations.call(BasicGet("p", False), place="p")
    third = operations.call(BasicGet("o", False), place="o")
    if not answered_before:
        peer.send(number, BasicGetOk(2, False, "", "q", 0), b"")
    for got in held:
        peer.expect_nothing()
        success_of(got).ack()
        peer.expect(BasicAck, number)
    peer.expect(ChannelClose, number)
    for got, queue in ((second, "p"), (third, "o")):
        number = accept(peer)
        peer.expect(BasicGet(queue, False), number)
        peer.send(number, BasicGetEmpty())
        success_of(got)
        if queue == "p":
            peer.expect(ChannelClose, number)


def test_messages_that_are_lost_with_the_connection_make_no_room() -> None:
    peer = small(1)
    operations = Operations(peer.protocol)
    operations.call(BasicGet("q", False), place="q")
    number = accept(peer)
    peer.expect(BasicGet("q", False), number)
    peer.send(number, BasicGetOk(1, False, "", "q", 0), b"")
    got = operations.call(BasicGet("p", False), place="p")
    peer.protocol.connectionLost()  # and no turn of the reactor since then
    failure_of(got, ConnectionLost)
    assert not peer.clock.getDelayedCalls()


def test_on_a_connection_that_is_over_there_are_none(peer: ScriptedPeer) -> None:
    lanes = Lanes(peer.protocol, Freed())
    peer.hang_up()
    with pytest.raises(ConnectionClosed):
        lanes.find()
