"""Subscriptions: `txamqpx.broker.consumer`."""

from __future__ import annotations

from sys import maxsize

from tests.broker.yard import Mouth, Yard, bodies


def test_what_a_consumer_may_have() -> None:
    queue, mouth = Yard().queue(), Mouth()
    consumer = mouth.consume(queue, prefetch=2, priority=3)
    assert (consumer.limit, consumer.prefetch, consumer.priority, consumer.unsettled) == (2, 2, 3, 0)
    assert mouth.consume(queue).limit == maxsize
    assert repr(consumer) == "<consumer 'tag' of <classic queue 'jobs', 0 ready, 0 unsettled>, 0 unsettled>"


def test_who_settles_has_a_turn_again() -> None:
    yard, mouth = Yard(), Mouth()
    queue = yard.queue()
    consumer = mouth.consume(queue, prefetch=2)
    for body in (b"a", b"b", b"c", b"d"):
        yard.publish(queue, body)
    assert (mouth.bodies, consumer.is_out) == ([b"a", b"b"], True)
    assert consumer.settled()
    assert (consumer.unsettled, consumer.is_out) == (1, False)
    assert not consumer.settled()
    consumer.unsettled += 1
    queue.dispatch()
    consumer.settled()
    consumer.settled()
    queue.dispatch()
    assert (mouth.bodies, bodies(queue.ready)) == ([b"a", b"b", b"c", b"d"], [])


def test_who_has_the_tag_now_gets_the_credit() -> None:
    yard, mouth = Yard(), Mouth()
    queue = yard.queue()
    former = mouth.consume(queue, prefetch=1)
    yard.publish(queue)
    queue.remove_consumer(former)
    heir = former.heir = mouth.consume(queue, prefetch=1)
    for _ in range(2):
        yard.publish(queue)
    assert (former.unsettled, heir.unsettled, heir.is_out) == (1, 1, True)
    assert former.settled()
    assert (former.unsettled, heir.unsettled, heir.is_out) == (0, 0, False)


def test_a_tag_has_as_many_heirs_as_it_likes() -> None:
    queue, mouth = Yard().queue(), Mouth()
    first = last = mouth.consume(queue)
    for _ in range(2000):
        last.heir = mouth.consume(queue)
        last = last.heir
    assert not first.settled()
    assert (first.unsettled, last.unsettled) == (-1, -1)
