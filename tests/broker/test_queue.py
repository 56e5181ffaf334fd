"""Queues: `txamqpx.broker.queue`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.broker.yard import Mouth, Yard, bodies, take
from txamqpx.broker.queue import Queue

DEAD: dict[str, Any] = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}


@pytest.fixture
def yard() -> Yard:
    made = Yard()
    made.queue("dead")
    return made


def dead(yard: Yard) -> list[bytes]:
    return bodies(yard.queues["dead"].ready)


def reasons(yard: Yard) -> list[str]:
    return [entry.message.deaths[0].reason for entry in yard.queues["dead"].ready]


def fill(yard: Yard, queue: Queue, *words: bytes) -> None:
    for word in words:
        assert yard.publish(queue, word)


# --------------------------------------------------------------------------- messages in and out


def test_first_in_first_out(yard: Yard) -> None:
    jobs = yard.queue()
    fill(yard, jobs, b"a", b"b", b"c")
    assert jobs.message_count == 3
    held = take(jobs)
    forgotten = jobs.get(no_ack=True)
    assert forgotten is not None
    assert [*jobs.unsettled] == [held]
    jobs.ack(held)
    jobs.ack(held)
    assert (jobs.unsettled, bodies(jobs.ready)) == ({}, [b"c"])
    assert repr(jobs) == "<classic queue 'jobs', 1 ready, 0 unsettled>"
    take(jobs)
    assert jobs.get(no_ack=False) is None


def test_who_waits_is_served_at_once(yard: Yard) -> None:
    jobs, some, any_ = yard.queue(), Mouth(), Mouth()
    consumer = some.consume(jobs, prefetch=2)
    fill(yard, jobs, b"a", b"b", b"c")
    assert (some.bodies, bodies(jobs.ready), len(jobs.unsettled)) == ([b"a", b"b"], [b"c"], 2)
    any_.consume(jobs, no_ack=True)
    assert (any_.bodies, len(jobs.unsettled)) == ([b"c"], 2)
    jobs.remove_consumer(consumer)
    fill(yard, jobs, b"d")
    assert any_.bodies == [b"c", b"d"]
    assert jobs.consumer_count == 1


def test_who_comes_back_in_line_gets_what_is_there_first(yard: Yard) -> None:
    jobs, mouth = yard.queue(), Mouth()
    consumer = mouth.consume(jobs, prefetch=1)
    fill(yard, jobs, b"a", b"b")
    consumer.unsettled -= 1
    jobs.rejoin(consumer)
    fill(yard, jobs, b"c")
    assert mouth.bodies == [b"a", b"b"]
    consumer.unsettled -= 1
    jobs.resume()
    assert mouth.bodies == [b"a", b"b", b"c"]


def test_what_comes_back_has_its_old_place(yard: Yard) -> None:
    jobs = yard.queue()
    fill(yard, jobs, b"a", b"b", b"c", b"d")
    held = [take(jobs) for _ in range(3)]
    jobs.requeue([held[2], held[0]], failed=True)
    assert [(entry.message.body, entry.redelivered) for entry in jobs.ready] == [
        (b"a", True),
        (b"c", True),
        (b"d", False),
    ]
    jobs.requeue([held[0], held[1]], failed=False)
    assert bodies(jobs.ready) == [b"a", b"b", b"c", b"d"]


def test_what_comes_back_goes_to_who_waits(yard: Yard) -> None:
    jobs, mouth = yard.queue(), Mouth()
    fill(yard, jobs, b"a")
    held = take(jobs)
    mouth.consume(jobs)
    jobs.requeue([held], failed=True)
    assert mouth.got == [held]
    assert held.redelivered


def test_a_purge_leaves_what_somebody_has(yard: Yard) -> None:
    jobs = yard.queue("jobs", **DEAD)
    fill(yard, jobs, b"a", b"b", b"c")
    held = take(jobs)
    assert jobs.purge() == 2
    jobs.requeue([held], failed=True)
    assert (bodies(jobs.ready), dead(yard)) == ([b"a"], [])


def test_what_matters_comes_first(yard: Yard) -> None:
    jobs = yard.queue("jobs", max_priority=2)
    for priority in (None, 2, 1, 7):
        yard.publish(jobs, b"%r" % priority, priority=priority)
    assert bodies(jobs.ready) == [b"2", b"7", b"1", b"None"]


# --------------------------------------------------------------------------- limits


def test_the_oldest_make_room(yard: Yard) -> None:
    few = yard.queue("few", max_length=2, **DEAD)
    fill(yard, few, b"a", b"b", b"c")
    assert (bodies(few.ready), dead(yard), reasons(yard)) == ([b"b", b"c"], [b"a"], ["maxlen"])
    held = take(few)
    fill(yard, few, b"d")
    few.requeue([held], failed=True)
    assert (bodies(few.ready), dead(yard)) == ([b"c", b"d"], [b"a", b"b"])
    small = yard.queue("small", max_length_bytes=3)
    fill(yard, small, b"ab", b"cd", b"too much", b"e")
    assert bodies(small.ready) == [b"e"]
    weighed = yard.queue("weighed", max_length_bytes=3, max_priority=1)
    yard.publish(weighed, b"ab", priority=1)
    yard.publish(weighed, b"cd")
    assert bodies(weighed.ready) == [b"cd"]


def test_a_full_queue_may_refuse(yard: Yard) -> None:
    few = yard.queue("few", max_length=1, overflow="reject-publish", **DEAD)
    assert [yard.publish(few, word) for word in (b"a", b"b")] == [True, False]
    held = take(few)
    assert yard.publish(few, b"c")
    few.requeue([held], failed=True)
    assert (bodies(few.ready), dead(yard)) == ([b"a", b"c"], [])


def test_a_refused_message_may_be_a_dead_letter(yard: Yard) -> None:
    few = yard.queue("few", max_length=0, overflow="reject-publish-dlx", **DEAD)
    Mouth().consume(few)
    assert not yard.publish(few, b"a")
    assert (dead(yard), reasons(yard)) == ([b"a"], ["maxlen"])
    assert not yard.publish(yard.queue("no grave", max_length=0, overflow="reject-publish-dlx"))


def test_for_who_waits_there_is_always_room(yard: Yard) -> None:
    none, mouth = yard.queue("none", max_length=0), Mouth()
    mouth.consume(none, no_ack=True)
    fill(yard, none, b"a")
    assert mouth.bodies == [b"a"]


# --------------------------------------------------------------------------- time


def test_the_shorter_time_counts(yard: Yard) -> None:
    jobs = yard.queue("jobs", message_ttl=2000, **DEAD)
    yard.publish(jobs, b"own", expiration="1000")
    yard.publish(jobs, b"all", expiration="3000")
    yard.publish(jobs, b"none")
    yard.clock.advance(1)
    assert dead(yard) == [b"own"]
    yard.clock.advance(1)
    assert (dead(yard), set(reasons(yard))) == ([b"own", b"all", b"none"], {"expired"})


def test_a_message_of_no_time_is_for_who_waits(yard: Yard) -> None:
    jobs, mouth = yard.queue("jobs", **DEAD), Mouth()
    yard.publish(jobs, b"missed", expiration="0")
    consumer = mouth.consume(jobs, prefetch=1)
    yard.publish(jobs, b"caught", expiration="0")
    assert (mouth.bodies, dead(yard)) == ([b"caught"], [b"missed"])
    (caught,) = mouth.got
    consumer.unsettled -= 1
    jobs.rejoin(consumer)
    jobs.requeue([caught], failed=True)
    assert (mouth.bodies, dead(yard)) == ([b"caught"], [b"missed", b"caught"])


def test_nobody_gets_what_is_behind_the_head_and_too_old(yard: Yard) -> None:
    jobs, mouth = yard.queue("jobs", **DEAD), Mouth()
    for word in (b"a", b"b"):
        yard.publish(jobs, word)
        yard.publish(jobs, b"old", expiration="1000")
    yard.clock.advance(2)
    assert dead(yard) == []
    assert take(jobs).message.body == b"a"
    assert (bodies(jobs.ready), dead(yard)) == ([b"b", b"old"], [b"old"])
    mouth.consume(jobs)
    assert (mouth.bodies, dead(yard)) == ([b"b"], [b"old", b"old"])


def test_a_timer_that_is_late_lets_nobody_have_what_is_too_old(yard: Yard) -> None:
    jobs = yard.queue("jobs", **DEAD)
    yard.publish(jobs, b"old", expiration="1000")
    yard.clock.rightNow += 2
    assert jobs.get(no_ack=True) is None
    assert dead(yard) == [b"old"]


def test_what_somebody_has_grows_no_older(yard: Yard) -> None:
    jobs = yard.queue("jobs", **DEAD)
    yard.publish(jobs, b"held", expiration="1000")
    held = take(jobs)
    yard.clock.advance(2)
    assert dead(yard) == []
    jobs.requeue([held], failed=True)
    assert dead(yard) == [b"held"]


def test_a_queue_that_nobody_uses_ends(yard: Yard) -> None:
    jobs, mouth = yard.queue("jobs", expires=3000, **DEAD), Mouth()
    fill(yard, jobs, b"lost")
    yard.clock.advance(2)
    jobs.get(no_ack=True)
    yard.clock.advance(2)
    jobs.used()
    yard.clock.advance(2)
    consumer = mouth.consume(jobs)
    yard.clock.advance(9)
    jobs.remove_consumer(consumer)
    yard.clock.advance(2.9)
    assert [*yard.queues] == ["dead", "jobs"]
    fill(yard, jobs, b"lost")
    yard.clock.advance(0.1)
    assert jobs.deleted
    assert ([*yard.queues], dead(yard), yard.clock.getDelayedCalls()) == (["dead"], [], [])


def test_a_queue_has_one_timer_at_most(yard: Yard) -> None:
    jobs = yard.queue("jobs", expires=9000, message_ttl=5000)
    for ttl in (4000, 3000, 6000):
        yard.publish(jobs, expiration=str(ttl))
    assert len(yard.clock.getDelayedCalls()) == 1
    plain = yard.queue("plain", **DEAD)
    fill(yard, plain, b"a")
    assert len(yard.clock.getDelayedCalls()) == 1
    yard.delete_queue(jobs)
    assert yard.clock.getDelayedCalls() == []


# --------------------------------------------------------------------------- dead letters, and the end


def test_what_is_refused_is_a_dead_letter_once(yard: Yard) -> None:
    jobs = yard.queue("jobs", **DEAD)
    fill(yard, jobs, b"a")
    held = take(jobs)
    for _ in range(2):
        jobs.reject(held)
    assert (dead(yard), reasons(yard), jobs.unsettled) == ([b"a"], ["rejected"], {})
    nobody = yard.queue("nobody")
    fill(yard, nobody, b"b")
    nobody.reject(take(nobody))
    assert dead(yard) == [b"a"]


def test_a_letter_that_failed_before_was_delivered_unless_somebody_waits(yard: Yard) -> None:
    jobs, mouth = yard.queue("jobs", **DEAD), Mouth()
    for _ in range(2):
        fill(yard, jobs, b"a")
        jobs.reject(take(jobs))
        mouth.consume(yard.queues["dead"])
    assert [entry.redelivered for entry in mouth.got] == [True, False]


def test_whoever_failed_before_counts_too(yard: Yard) -> None:
    jobs = yard.queue("jobs", **DEAD)
    fill(yard, jobs, b"a")
    for failed in (True, False, True):
        jobs.requeue([take(jobs)], failed=failed)
    held = take(jobs)
    jobs.reject(held)
    (letter,) = yard.queues["dead"].ready
    assert (letter.redelivered, letter.message.attempts) == (True, 3)
    assert letter.message.body is held.message.body


@pytest.mark.parametrize(
    ("profile", "order"), [("rabbitmq-3.10", [b"0", b"1"]), ("rabbitmq-4.3", [b"1", b"0"])]
)
def test_no_priorities_are_two_since_rabbitmq_4(profile: str, order: list[bytes]) -> None:
    yard = Yard(profile)
    jobs = yard.queue("jobs", max_priority=0)
    for priority in (0, 1):
        yard.publish(jobs, b"%d" % priority, priority=priority)
    assert bodies(jobs.ready) == order


def test_what_nobody_failed_with_was_not_delivered(yard: Yard) -> None:
    jobs = yard.queue("jobs", **DEAD)
    fill(yard, jobs, b"a")
    jobs.reject(take(jobs), failed=False)
    (letter,) = yard.queues["dead"].ready
    assert (letter.redelivered, letter.message.attempts) == (False, 0)


def test_a_queue_may_end_with_its_last_consumer(yard: Yard) -> None:
    jobs, mouth = yard.queue("jobs", auto_delete=True), Mouth()
    consumers = [mouth.consume(jobs) for _ in range(2)]
    jobs.remove_consumer(consumers[0])
    assert [*yard.queues] == ["dead", "jobs"]
    jobs.remove_consumer(consumers[1])
    assert jobs.deleted


def test_what_is_held_when_its_queue_goes_may_be_settled_all_the_same(yard: Yard) -> None:
    jobs, mouth = yard.queue("jobs", **DEAD), Mouth()
    fill(yard, jobs, b"a", b"b", b"c", b"d")
    held = [take(jobs) for _ in range(3)]
    consumer = mouth.consume(jobs)
    assert yard.delete_queue(jobs) == 0
    assert mouth.cancelled == [consumer]
    jobs.ack(held[0])
    jobs.reject(held[1])
    jobs.requeue([held[2]], failed=True)
    assert (bodies(jobs.ready), dead(yard)) == ([], [])
