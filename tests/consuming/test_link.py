from __future__ import annotations

import pytest

from tests.consuming.stage import Stage
from txamqpx.consumer import Consumer
from txamqpx.consuming.subscription import Subscription
from txamqpx.message import Delivery
from txamqpx.testing import success_of


def ignore(delivery: Delivery) -> None:
    pass


def test_before_it_starts_there_is_nothing() -> None:
    consumer = Consumer(Stage().client, "q", ignore, ack="manual")
    assert consumer.channel is None
    assert consumer._link.handed_out() == []
    assert consumer._link.cancel(consumer.subscriptions) == []
    assert repr(consumer) == "<Consumer of 'q', starting>"
    consumer._link.close()
    consumer.set_prefetch(5)
    assert success_of(consumer.cancel()) is None
    assert success_of(consumer.closed) is None


@pytest.mark.covers("T-CON-02", "S25")
def test_tags_are_made_here_and_never_twice_the_same() -> None:
    stage = Stage()
    named = stage.consume_many(["a", "b"], ignore, consumer_tag="t")
    unnamed = stage.consume_many(["a", "b"], ignore)
    assert [one.consumer_tag for one in named.subscriptions] == ["t", "t.2"]
    assert [one.consumer_tag for one in unnamed.subscriptions] == ["ctag-2.1", "ctag-2.2"]


def test_a_channel_that_is_over_is_not_used_again() -> None:
    stage = Stage()
    consumer = stage.consume(ignore)
    first = consumer.channel
    assert consumer._link.usable() is first
    stage.close_channel()
    assert consumer._link.usable() is None
    assert consumer._link.cancel([Subscription("q")]) == []


def test_what_waits_here_was_not_handed_out() -> None:
    stage, got = Stage(), list[Delivery]()
    consumer = stage.consume_many(["a", "b"], got.append, ack="manual", prefetch=1)
    stage.deliver(b"1", b"2")
    assert consumer._link.handed_out() == got
