from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.consuming.stage import Stage
from txamqpx.consuming.subscription import Subscription
from txamqpx.message import Delivery
from txamqpx.testing import failure_of, is_pending, success_of


def test_it_remembers_the_tags_of_the_past() -> None:
    stage, got = Stage(), list[Delivery]()
    consumer = stage.consume(got.append, consumer_tag="t")
    stage.deliver(b"1", tag="t")
    (subscription,) = consumer.subscriptions
    assert subscription.gave(got[0])
    assert repr(subscription) == "<Subscription 't' to 'q'>"
    for number in range(63):
        subscription.consumer_tag = str(number)
    assert subscription.gave(got[0])
    subscription.consumer_tag = "one too many"
    assert not subscription.gave(got[0])


def test_it_ends_once_and_tells_everybody() -> None:
    one = Subscription("q")
    renewal: Deferred[None] = Deferred()
    one.is_active, one.renewal = True, renewal
    waiting = one.closed
    assert is_pending(waiting)
    before = one.is_closed
    one.end(None)
    one.end(None)
    assert success_of(waiting) is None
    assert success_of(one.closed) is None
    failure_of(renewal, CancelledError)
    assert (before, one.is_closed, one.is_active) == (False, True, False)


def test_a_queue_without_a_name_is_its_own() -> None:
    assert Subscription("").is_temporary
    assert not Subscription("q").is_temporary
