"""Quorum queues: `txamqpx.broker.quorum`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.broker.yard import PROFILES, Mouth, Yard, bodies, take
from txamqpx.broker.message import Entry
from txamqpx.broker.quorum import QuorumEntry, QuorumQueue
from txamqpx.broker.refusal import Refusal

OLD, NEW = PROFILES

DEAD: dict[str, Any] = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}


@pytest.fixture
def old() -> Yard:
    return Yard(OLD)


@pytest.fixture
def new() -> Yard:
    return Yard(NEW)


def quorum(yard: Yard, *words: bytes, name: str = "jobs", **arguments: Any) -> QuorumQueue:
    """Make a queue with messages in it."""
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    queue = QuorumQueue(name, yard, durable=True, owner=None, auto_delete=False, arguments=named)
    yard.queues[name] = queue
    for word in words:
        assert yard.publish(queue, word)
    return queue


def counts(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.message.headers.items() if name.endswith("-count")}


def give_back(queue: QuorumQueue, *entries: Entry, failed: bool = False, gone: bool = False) -> None:
    for entry in entries:
        if entry.consumer is not None:
            entry.consumer.settled()
    queue.requeue(entries, failed=failed, gone=gone)


def ack(queue: QuorumQueue, *entries: Entry) -> None:
    for entry in entries:
        queue.ack(entry)
        if entry.consumer is not None:
            entry.consumer.settled()
    queue.dispatch()


class Hasty(Mouth):
    """A channel that does not understand, and gives everything back when it ends over that.

    Args:
        queue: Where all that it has is from.
    """

    def __init__(self, queue: QuorumQueue) -> None:
        super().__init__()
        self.understands = False
        self.queue = queue

    def too_late(self) -> None:
        """End."""
        for consumer in list(self.queue.consumers):
            self.queue.remove_consumer(consumer)
        self.queue.requeue(self.got, failed=True, gone=True)
        self.got = []


# --------------------------------------------------------------------------- counts and limits


def test_two_counts(new: Yard) -> None:
    queue = quorum(new)
    new.publish(queue, b"1", headers={"mine": 1})
    seen = []
    for failed in (False, True, False, True):
        entry = take(queue)
        seen.append((entry.redelivered, counts(entry)))
        assert entry.message.headers["mine"] == 1
        give_back(queue, entry, failed=failed)
    assert seen == [
        (False, {}),
        (True, {"x-acquired-count": 1}),
        (True, {"x-acquired-count": 2, "x-delivery-count": 1}),
        (True, {"x-acquired-count": 3, "x-delivery-count": 1}),
    ]


def test_one_count_that_begins_with_what_is_fetched(old: Yard) -> None:
    queue, mouth = quorum(old, b"1", b"2", delivery_limit=9), Mouth()
    assert counts(take(queue)) == {"x-delivery-count": 0}
    mouth.consume(queue, prefetch=1)
    assert counts(mouth.got[0]) == {}
    give_back(queue, mouth.got[0], failed=True)
    assert counts(mouth.got[1]) == {"x-delivery-count": 1}


def test_all_that_lies_there(new: Yard) -> None:
    careful: dict[str, Any] = {"dead_letter_strategy": "at-least-once", "overflow": "reject-publish", **DEAD}
    later: dict[str, Any] = {"delayed_retry_type": "failed", "delayed_retry_min": 1000}
    queue = quorum(new, b"dead", b"waits", b"taken", b"ready", **careful, **later)
    queue.reject(take(queue))
    give_back(queue, take(queue), failed=True)
    take(queue)
    assert bodies(queue.entries()) == [b"ready", b"taken", b"waits", b"dead"]
    queue.delete()
    assert bodies(queue.entries()) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_the_counts_are_in_the_order_of_all_headers(profile: str) -> None:
    yard = Yard(profile)
    queue = quorum(yard)
    yard.publish(queue, b"1", headers={"mine": 1, "x-mine": 2})
    give_back(queue, take(queue), failed=True)
    names = [*take(queue).message.headers]
    assert names == sorted(names)
    assert "x-delivery-count" in names


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_enough_is_enough(profile: str, limit: int) -> None:
    yard = Yard(profile)
    yard.queue("dead")
    queue = quorum(yard, b"1", delivery_limit=limit, **DEAD)
    for _ in range(limit + 1):
        give_back(queue, take(queue), failed=True)
    assert (queue.message_count, queue.unsettled) == (0, {})
    (letter,) = yard.queues["dead"].ready
    assert counts(letter) == {}
    assert letter.message.headers["x-death"][0]["reason"] == "delivery_limit"
    assert letter.redelivered is (profile == NEW)


@pytest.mark.parametrize(
    ("profile", "given", "limit"),
    [
        (OLD, {}, None),
        (NEW, {}, 20),
        (OLD, {"delivery_limit": -1}, -1),
        (NEW, {"delivery_limit": -1}, None),
        (NEW, {"delivery_limit": "x"}, None),
    ],
)
def test_the_limit(profile: str, given: dict[str, Any], limit: int | None) -> None:
    assert quorum(Yard(profile), **given).delivery_limit == limit


def test_who_drops_a_message_has_failed_with_it(new: Yard) -> None:
    new.queue("dead")
    queue = quorum(new, b"1", b"2", **DEAD)
    queue.reject(take(queue))
    queue.ack(held := take(queue))
    queue.ack(held)
    queue.reject(held)
    assert [entry.redelivered for entry in new.queues["dead"].ready] == [True]
    assert bodies(new.queues["dead"].ready) == [b"1"]


@pytest.mark.parametrize(("profile", "purged"), [(OLD, 0), (NEW, 1)])
def test_a_queue_that_gives_up_no_dead_letter(profile: str, purged: int) -> None:
    yard = Yard(profile)
    careful: dict[str, Any] = {"dead_letter_strategy": "at-least-once", "overflow": "reject-publish", **DEAD}
    queue = quorum(yard, b"0", b"1", **careful)
    queue.reject(take(queue))
    assert (queue.message_count, len(queue.undelivered)) == (0 + 1, 1)
    yard.clock.advance(180)
    assert len(queue.undelivered) == 1
    yard.queue("dead")
    yard.clock.advance(180)
    assert (bodies(yard.queues["dead"].ready), len(queue.undelivered)) == ([b"0"], 0)
    queue.reject(take(queue))
    assert bodies(yard.queues["dead"].ready) == [b"0", b"1"]
    del yard.queues["dead"]
    yard.publish(queue, b"2")
    queue.reject(take(queue))
    assert queue.purge() == purged
    assert len(queue.undelivered) == 1 - purged


# --------------------------------------------------------------------------- order


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("limit", "gone"), [(None, False), (None, True), (9, False)])
def test_where_messages_come_back_to(profile: str, limit: int | None, gone: bool) -> None:
    given: dict[str, Any] = {} if limit is None else {"delivery_limit": limit}
    queue = quorum(Yard(profile), b"0", b"1", b"2", **given)
    held = [take(queue) for _ in range(2)]
    give_back(queue, *held, gone=gone)
    last = profile == OLD and limit is None and not gone
    assert bodies(queue.ready) == ([b"2", b"0", b"1"] if last else [b"0", b"1", b"2"])


@pytest.mark.parametrize(
    ("profile", "gone", "order"),
    [
        (NEW, True, [b"0", b"2", b"1", b"3"]),
        (NEW, False, [b"1", b"3", b"0", b"2"]),
        (OLD, True, [b"1", b"3", b"0", b"2"]),
    ],
)
def test_what_one_consumer_had_comes_back_together(profile: str, gone: bool, order: list[bytes]) -> None:
    yard = Yard(profile)
    queue, mouth = quorum(yard), Mouth()
    consumers = [mouth.consume(queue, tag=tag) for tag in ("z", "a")]
    for body in (b"0", b"1", b"2", b"3"):
        yard.publish(queue, body)
    for consumer in consumers:
        queue.remove_consumer(consumer)
    give_back(queue, *mouth.got, gone=gone)
    assert bodies(queue.ready) == order


def test_what_came_back_is_the_first_to_go(new: Yard) -> None:
    queue = quorum(new, b"0", b"1", b"2", max_length=2)
    held = [take(queue) for _ in range(2)]
    assert bodies(held) == [b"1", b"2"]
    for body in (b"a", b"b"):
        new.publish(queue, body)
    give_back(queue, *held)
    assert bodies(queue.ready) == [b"a", b"b"]


def test_a_queue_that_is_full(new: Yard) -> None:
    queue = quorum(new, max_length=1, overflow="reject-publish")
    assert [new.publish(queue) for _ in range(3)] == [True, True, False]
    take(queue)
    assert not new.publish(queue)
    take(queue)
    assert new.publish(queue)


# --------------------------------------------------------------------------- later


def test_what_came_back_waits(new: Yard) -> None:
    queue = quorum(new, b"0", b"1", delayed_retry_type="all", delayed_retry_min=1000, delayed_retry_max=2000)
    mouth = Mouth()
    give_back(queue, take(queue), failed=True)
    assert (queue.message_count, len(queue.delayed)) == (1, 1)
    new.clock.advance(0.9)
    assert queue.message_count == 1
    new.clock.advance(0.1)
    assert bodies(queue.ready) == [b"0", b"1"]
    mouth.consume(queue, prefetch=1)
    give_back(queue, mouth.got[0], failed=True)
    assert mouth.bodies == [b"0", b"1"]
    ack(queue, mouth.got[1])
    new.clock.advance(1.9)
    assert len(mouth.got) == 2
    new.clock.advance(0.1)
    assert mouth.bodies == [b"0", b"1", b"0"]


def test_who_waits_is_purged_too(new: Yard) -> None:
    queue = quorum(new, b"0", b"1", delayed_retry_type="returned", delayed_retry_min=1000)
    give_back(queue, take(queue))
    assert queue.purge() == 2
    new.clock.advance(5)
    assert (queue.message_count, len(queue.delayed)) == (0, 0)


def test_who_waits_grows_old_only_afterwards(new: Yard) -> None:
    queue = quorum(new, b"0", message_ttl=500, delayed_retry_type="all", delayed_retry_min=1000)
    give_back(queue, take(queue))
    new.clock.advance(0.9)
    assert len(queue.delayed) == 1
    new.clock.advance(0.1)
    assert (queue.message_count, len(queue.delayed)) == (0, 0)


def test_nothing_waits_in_an_old_one(old: Yard) -> None:
    queue = quorum(old, b"0", delayed_retry_type="all", delayed_retry_min=1000)
    give_back(queue, take(queue), failed=True)
    assert queue.message_count == 1


def test_a_queue_that_is_deleted_has_no_timers_left(new: Yard) -> None:
    queue = quorum(new, b"0", b"1", delayed_retry_type="all", delayed_retry_min=1000, consumer_timeout=1000)
    give_back(queue, take(queue))
    take(queue)
    assert len(new.clock.getDelayedCalls()) == 2
    new.delete_queue(queue)
    assert new.clock.getDelayedCalls() == []
    old_one = quorum(Yard(OLD))
    old_one.delete()
    assert old_one.deleted


# --------------------------------------------------------------------------- too late


def test_what_is_kept_for_too_long_comes_back(new: Yard) -> None:
    queue, slow, quick = quorum(new, consumer_timeout=1000), Mouth(), Mouth()
    consumer = slow.consume(queue, prefetch=2)
    for body in (b"0", b"1"):
        new.publish(queue, body)
    new.clock.advance(1)
    assert slow.slow == [consumer]
    assert (bodies(queue.ready), queue.consumer_count) == ([b"0", b"1"], 1)
    assert [counts(entry) for entry in queue.ready] == [{"x-acquired-count": 1}] * 2
    queue.reject(slow.got[0])
    queue.dispatch()
    assert len(slow.got) == 2
    ack(queue, slow.got[1])
    assert slow.bodies == [b"0", b"1", b"0", b"1"]
    assert consumer.unsettled == 2
    quick.consume(queue, consumer_timeout=5000)
    new.clock.advance(1)
    assert quick.bodies == [b"0", b"1"]
    queue.requeue(slow.got[2:], failed=True, gone=True)
    assert queue.message_count == 0
    assert len(queue.unsettled) == 2


def test_the_next_one_is_active_when_one_is_slow(new: Yard) -> None:
    queue, slow, quick = (
        quorum(new, b"0", consumer_timeout=1000, single_active_consumer=True),
        Mouth(),
        Mouth(),
    )
    slow.consume(queue)
    other = quick.consume(queue, consumer_timeout=9000)
    new.clock.advance(1)
    assert (quick.bodies, queue.consumers.active) == ([b"0"], other)
    ack(queue, slow.got[0])
    queue.remove_consumer(other)
    give_back(queue, *quick.got, gone=True)
    assert slow.bodies == [b"0", b"0"]


@pytest.mark.parametrize("fetched", [False, True])
def test_who_cannot_be_told_loses_the_channel(new: Yard, fetched: bool) -> None:
    queue, mouth = quorum(new, b"0", consumer_timeout=1000), Mouth()
    mouth.understands = False
    if fetched:
        queue.fetched(take(queue), mouth)
    else:
        mouth.consume(queue)
    new.clock.advance(1)
    assert mouth.ended == 1
    assert queue.message_count == 1


def test_nothing_is_kept_of_a_channel_that_ends_over_it(new: Yard) -> None:
    queue = quorum(new, b"0", b"1", consumer_timeout=1000)
    mouth = Hasty(queue)
    for tag in ("t", "u"):
        mouth.consume(queue, prefetch=1, tag=tag)
    new.clock.advance(1)
    assert queue.message_count == 2
    assert not queue._lapsed


def test_who_has_fetched_without_a_channel_just_loses_it(new: Yard) -> None:
    queue = quorum(new, b"0", consumer_timeout=1000)
    take(queue)
    new.clock.advance(1)
    assert queue.message_count == 1


@pytest.mark.parametrize(("timeout", "back"), [(60.0, 1), (None, 0)])
def test_the_broker_s_own_timeout(new: Yard, timeout: float | None, back: int) -> None:
    new.broker.consumer_timeout = timeout
    queue = quorum(new, b"0")
    take(queue)
    new.clock.advance(60)
    assert queue.message_count == back


# --------------------------------------------------------------------------- consumers


def test_no_window_is_a_large_one(new: Yard) -> None:
    queue = quorum(new)
    consumer = Mouth().consume(queue)
    assert consumer.limit == 2000
    assert Mouth().consume(queue, prefetch=3).limit == 3


def test_who_counts_as_a_consumer(new: Yard) -> None:
    queue, mouth = quorum(new, b"0", b"1", b"2"), Mouth()
    consumer = mouth.consume(queue, prefetch=1)
    take(queue)
    assert queue.consumer_count == 2
    queue.remove_consumer(consumer)
    assert queue.consumer_count == 2
    ack(queue, mouth.got[0])
    assert queue.consumer_count == 1


def test_who_has_taken_over_a_tag_counts_once(new: Yard) -> None:
    queue, mouth = quorum(new, b"0"), Mouth()
    former = mouth.consume(queue)
    queue.remove_consumer(former)
    former.heir = mouth.consume(queue)
    assert queue.consumer_count == 1


def test_of_single_active_consumers_only_who_has_something_counts(new: Yard) -> None:
    queue, mouth = quorum(new, b"0", single_active_consumer=True), Mouth()
    assert queue.consumer_count == 0
    first = mouth.consume(queue)
    mouth.consume(queue)
    assert queue.consumer_count == 1
    queue.remove_consumer(first)
    assert queue.consumer_count == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_the_next_single_active_consumer(profile: str) -> None:
    yard = Yard(profile)
    queue, one, other, high = (
        quorum(yard, b"0", b"1", b"2", single_active_consumer=True),
        Mouth(),
        Mouth(),
        Mouth(),
    )
    consumer = one.consume(queue, prefetch=1)
    other.consume(queue, prefetch=1)
    high.consume(queue, prefetch=1, priority=1)
    queue.remove_consumer(consumer)
    assert (high if profile == NEW else other).bodies == [b"1"]


@pytest.mark.parametrize(("profile", "called"), [(OLD, "quorum"), (NEW, '<<"quorum">>')])
def test_what_is_refused(profile: str, called: str) -> None:
    queue = quorum(Yard(profile), b"0", single_active_consumer=True)
    with pytest.raises(Refusal) as refused:
        queue.get(no_ack=True)
    assert refused.value.code == 405
    assert f"not supported by {called} queues" in refused.value.text
    queue.admit(exclusive=True, limited=False)
    with pytest.raises(Refusal) as refused:
        queue.admit(exclusive=False, limited=True)
    assert (refused.value.code, refused.value.hard) == (540, True)


def test_nothing_to_fetch(new: Yard) -> None:
    assert quorum(new).get(no_ack=False) is None


def test_a_second_place_of_the_same_message(new: Yard) -> None:
    queue = quorum(new, b"0")
    entry = take(queue)
    assert isinstance(entry, QuorumEntry)
    entry.returns, entry.failures, entry.expires = 3, 2, 9.0
    other = entry.renewed()
    assert (other.returns, other.failures, other.expires, other.due) == (3, 2, 9.0, None)
    assert other.message is entry.origin
