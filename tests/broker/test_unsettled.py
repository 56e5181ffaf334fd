"""What a channel has not settled: `txamqpx.broker.unsettled`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.broker.company import Company
from txamqpx.channel import Channel
from txamqpx.errors import PreconditionFailed
from txamqpx.message import Delivery
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import BasicAck, BasicNack, BasicReject
from txamqpx.spec.base import Method

OLD, NEW = "rabbitmq-3.10", "rabbitmq-4.3"


class Desk(Company):
    """A broker with a queue of messages, and a channel that has some of them."""

    def __init__(self, count: int, profile: str = NEW, **options: Any) -> None:
        super().__init__(profile=profile, **options)
        self.mine = self.channel()
        self.do(self.mine.queue_declare("q", durable=True))
        for number in range(count):
            self.do(self.mine.basic_publish(str(number).encode(), routing_key="q"))

    def hold(self, prefetch: int = 0) -> list[Delivery]:
        got: list[Delivery] = []
        self.do(self.mine.basic_qos(prefetch))
        self.do(self.mine.basic_consume("q", got.append))
        self.settle()
        return got

    def say(self, *methods: Method) -> None:
        """Send, in one piece, what our own client would not."""
        for method in methods:
            self.mine.core.connection.outbox.append(frame(METHOD, self.mine.number, method.encode()))
        self.settle()

    def refusal(self, *methods: Method) -> str:
        """Return the reason why the channel ends over some methods."""
        ended = self.watch(self.mine.when_closed())
        self.say(*methods)
        assert isinstance(ended.value, PreconditionFailed)
        return ended.value.reply_text

    def left(self) -> list[bytes]:
        return [message.body for message in self.broker.queue("q").messages]


def bodies(got: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in got]


# --------------------------------------------------------------------------- settling


def test_one_by_one() -> None:
    desk = Desk(5)
    got = desk.hold(2)
    got[1].ack()
    got[0].reject(requeue=False)
    desk.settle()
    assert bodies(got) == [b"0", b"1", b"2", b"3"]
    desk.do(desk.mine.close())
    desk.settle()
    assert desk.left() == [b"2", b"3", b"4"]


def test_all_up_to_one_and_all() -> None:
    desk = Desk(5)
    got = desk.hold()
    desk.do(desk.mine.basic_ack(got[1].delivery_tag, multiple=True))
    desk.do(desk.mine.basic_nack(got[2].delivery_tag, multiple=True, requeue=False))
    desk.settle()
    assert desk.broker.queue("q").unacked == 2
    desk.say(BasicAck(0, True), BasicAck(0, True), BasicNack(0, True, True))
    assert desk.broker.queue("q").unacked == 0
    assert desk.mine.is_open


@pytest.mark.parametrize(
    "method",
    [
        BasicAck(9, False),
        BasicAck(9, True),
        BasicAck(0, False),
        BasicNack(9, False, True),
        BasicNack(9, True, False),
        BasicReject(9, True),
    ],
    ids=repr,
)
def test_a_delivery_that_there_is_not(method: Any) -> None:
    desk = Desk(2)
    desk.hold()
    assert desk.refusal(method) == f"PRECONDITION_FAILED - unknown delivery tag {method.delivery_tag}"
    assert desk.left() == [b"0", b"1"]


def test_what_was_acked_before_a_mistake_stays_acked() -> None:
    desk = Desk(3)
    desk.hold()
    text = desk.refusal(BasicAck(2, False), BasicAck(2, True), BasicAck(3, False))
    assert text == "PRECONDITION_FAILED - unknown delivery tag 2"
    assert desk.left() == [b"0", b"2"]


def test_an_ack_of_many_makes_room_for_as_many() -> None:
    desk = Desk(5)
    got = desk.hold(2)
    desk.do(desk.mine.basic_ack(got[1].delivery_tag, multiple=True))
    desk.settle()
    assert bodies(got) == [b"0", b"1", b"2", b"3"]


def test_acks_that_come_together_count_in_their_order() -> None:
    desk = Desk(0)
    low, high = desk.hold(1), list[Delivery]()
    desk.do(desk.mine.basic_consume("q", high.append, arguments={"x-priority": 1}))
    for number in range(4):
        desk.do(desk.mine.basic_publish(str(number).encode(), routing_key="q"))
    desk.settle()
    low[0].ack()
    high[0].ack()
    desk.settle()
    assert (bodies(high), bodies(low)) == ([b"0", b"3"], [b"1", b"2"])


def test_deliveries_of_several_queues() -> None:
    desk = Desk(2)
    desk.do(desk.mine.queue_declare("other", durable=True))
    desk.do(desk.mine.basic_publish(b"x", routing_key="other"))
    desk.hold()
    fetched = desk.do(desk.mine.basic_get("other"))
    assert fetched is not None
    desk.do(desk.mine.basic_nack(0, multiple=True, requeue=False))
    desk.settle()
    assert [desk.broker.queue(name).unacked for name in ("q", "other")] == [0, 0]


def test_what_is_fetched_is_settled_like_anything() -> None:
    desk = Desk(3)
    fetched = [desk.do(desk.mine.basic_get("q")) for _ in range(3)]
    one, two, three = [delivery for delivery in fetched if delivery is not None]
    assert [delivery.message_count for delivery in (one, two, three)] == [2, 1, 0]
    assert desk.do(desk.mine.basic_get("q")) is None
    two.ack()
    three.nack()
    desk.settle()
    assert desk.left() == [b"2"]
    forgotten = desk.do(desk.mine.basic_get("q", no_ack=True))
    assert forgotten is not None
    assert forgotten.delivery_tag == 4
    assert desk.refusal(BasicAck(4, False)).endswith("unknown delivery tag 4")
    assert desk.left() == [b"0"]


# --------------------------------------------------------------------------- too late


def timed_out(desk: Desk, channel: Channel, seconds: float) -> str | None:
    """Let time pass; return the reason why a channel has ended, if it has."""
    ended = desk.watch(channel.when_closed())
    desk.broker.advance(seconds)
    desk.settle()
    if channel.is_open:
        return None
    assert isinstance(ended.value, PreconditionFailed)
    return ended.value.reply_text


def test_who_keeps_a_delivery_for_too_long_loses_the_channel() -> None:
    desk = Desk(2, OLD, consumer_timeout=100)
    got = desk.hold(1)
    assert timed_out(desk, desk.mine, 99) is None
    got[0].ack()
    desk.settle()
    assert timed_out(desk, desk.mine, 99) is None
    text = timed_out(desk, desk.mine, 10)
    assert text == (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 100000 "
        "ms. This timeout value can be configured, see consumers doc guide to learn more"
    )
    assert desk.left() == [b"1"]


@pytest.mark.parametrize(("profile", "timeout"), [(OLD, None), (NEW, 100)])
def test_who_may_keep_it_for_ever(profile: str, timeout: float | None) -> None:
    desk = Desk(1, profile, consumer_timeout=timeout)
    desk.hold()
    assert timed_out(desk, desk.mine, 2000) is None
