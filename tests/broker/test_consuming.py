"""The consumer's side of a channel: `txamqpx.broker.consuming`."""

from __future__ import annotations

import re
from typing import Any
from weakref import ref

import pytest

from tests.broker.company import Company, protocol_of
from txamqpx.channel import Channel
from txamqpx.delegates import Delegate
from txamqpx.errors import Closed
from txamqpx.message import Delivery
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import (
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicQos,
    BasicRecover,
    BasicRecoverAsync,
)
from txamqpx.spec.base import Method

OLD, NEW = "rabbitmq-3.10", "rabbitmq-4.3"
QUORUM = {"x-queue-type": "quorum"}


class Floor(Company):
    """A broker with a queue, and channels that consume from it."""

    def __init__(self, profile: str = NEW, **options: Any) -> None:
        super().__init__(profile=profile, **options)
        self.mine = self.channel()

    def declare(self, name: str = "q", **arguments: Any) -> None:
        named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        self.do(self.mine.queue_declare(name, durable=True, arguments=named))

    def feed(self, *bodies: bytes, queue: str = "q") -> None:
        for body in bodies:
            self.do(self.mine.basic_publish(body, routing_key=queue))
        self.settle()

    def consume(self, prefetch: int = 0, channel: Channel | None = None, **options: Any) -> list[Delivery]:
        channel, got = channel or self.mine, list[Delivery]()
        self.do(channel.basic_qos(prefetch))
        self.do(channel.basic_consume(options.pop("queue", "q"), got.append, **options))
        self.settle()
        return got

    def say(self, method: Method, channel: Channel | None = None) -> None:
        """Send what our own client would not."""
        channel = channel or self.mine
        channel.core.connection.outbox.append(frame(METHOD, channel.number, method.encode()))
        self.settle()

    def refusal(self, method: Method, channel: Channel | None = None) -> tuple[int, str, str]:
        """Send a method; return code and text, and what is closed."""
        channel = channel or self.mine
        ended = self.watch(channel.when_closed())
        self.say(method, channel)
        return self.reason(ended.value, channel)

    def refused(self, call: Any, channel: Channel) -> tuple[int, str, str]:
        """Make a call; return code and text, and what is closed."""
        return self.reason(self.watch(call).error(), channel)

    def reason(self, error: object, channel: Channel) -> tuple[int, str, str]:
        assert isinstance(error, Closed)
        return error.reply_code, error.reply_text, "channel" if protocol_of(channel).is_open else "connection"


def bodies(got: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in got]


# --------------------------------------------------------------------------- consumers


def test_from_the_first_message_to_the_last() -> None:
    floor = Floor()
    floor.declare()
    floor.feed(b"0", b"1")
    got = floor.consume(1, consumer_tag="t")
    assert [(one.body, one.consumer_tag, one.delivery_tag, one.redelivered) for one in got] == [
        (b"0", "t", 1, False)
    ]
    got[0].ack()
    floor.settle()
    assert bodies(got) == [b"0", b"1"]
    assert floor.do(floor.mine.basic_cancel("t")) == BasicCancelOk("t")
    assert floor.do(floor.mine.basic_cancel("nobody")) == BasicCancelOk("nobody")
    floor.feed(b"2")
    assert len(got) == 2


def test_who_names_no_tag_is_given_one_and_who_wants_no_answer_gets_none() -> None:
    floor = Floor()
    floor.declare()
    floor.say(BasicConsume("q", "", False, False, False, True))
    (consumer,) = floor.broker.vhosts["/"].queues["q"].consumers
    assert re.fullmatch(r"amq\.ctag-[-_A-Za-z0-9]{22}", consumer.tag)
    floor.say(BasicCancel(consumer.tag, True))
    assert not floor.broker.vhosts["/"].queues["q"].consumers
    assert floor.mine.is_open


def test_a_tag_that_is_taken() -> None:
    floor = Floor()
    floor.declare()
    floor.consume(consumer_tag="t")
    assert floor.refusal(BasicConsume("missing", "t")) == (
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 't'",
        "connection",
    )


@pytest.mark.parametrize("queue", ["missing", ""])
def test_nothing_to_consume_from(queue: str) -> None:
    floor = Floor()
    text = "no queue 'missing' in vhost '/'" if queue else "no previously declared queue"
    for use in ("basic_consume", "basic_get"):
        channel = floor.channel()
        assert floor.refused(getattr(channel, use)(queue), channel) == (404, f"NOT_FOUND - {text}", "channel")


def test_alone() -> None:
    floor = Floor()
    floor.declare()
    floor.consume(consumer_tag="t")
    expected = 403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", "channel"
    for exclusive, refused in ((False, True), (True, False), (True, True)):
        floor.do(floor.mine.basic_cancel("t"))
        floor.do(
            floor.mine.basic_consume("q", list[Delivery]().append, consumer_tag="t", exclusive=exclusive)
        )
        other = floor.channel()
        assert floor.refused(other.basic_consume("q", exclusive=refused), other) == expected


@pytest.mark.parametrize(
    ("profile", "arguments", "wrong"),
    [
        (NEW, {"x-priority": "1"}, "'x-priority' for {}: \"expected integer, got longstr\""),
        (NEW, {"x-priority": True}, "'x-priority' for {}: \"expected integer, got bool\""),
        (NEW, {"x-consumer-timeout": 1}, "'x-consumer-timeout' for {} of queue type rabbit_classic_queue"),
        (OLD, {"x-stream-offset": 1}, "'x-stream-offset' for {} of queue type rabbit_classic_queue"),
        (OLD, {"x-consumer-timeout": 1, "x-priority": -1, "x-whatever": None}, None),
    ],
)
def test_arguments(profile: str, arguments: dict[str, Any], wrong: str | None) -> None:
    floor = Floor(profile)
    floor.declare()
    consumed = floor.watch(floor.mine.basic_consume("q", arguments=arguments))
    if wrong is None:
        assert consumed.value.consumer_tag
    else:
        text = wrong.format("queue 'q' in vhost '/'")
        assert floor.reason(consumed.error(), floor.mine) == (
            406,
            f"PRECONDITION_FAILED - invalid arg {text}",
            "channel",
        )


def test_a_time_below_nothing() -> None:
    floor = Floor()
    floor.declare(queue_type="quorum")
    consumed = floor.mine.basic_consume("q", arguments={"x-consumer-timeout": -1})
    assert floor.refused(consumed, floor.mine)[1].endswith("{value_negative,-1}")


class Cancels(Delegate):
    """Hears which consumers the broker has ended."""

    def __init__(self) -> None:
        self.tags: list[str] = []

    def consumer_cancelled(self, channel: object, consumer_tag: str) -> None:
        self.tags.append(consumer_tag)


@pytest.mark.parametrize("able", [True, False])
def test_only_who_understands_it_is_told_that_a_queue_is_gone(able: bool) -> None:
    floor, told = Floor(), Cancels()
    floor.declare()
    before = {*floor.broker.sessions}
    channel = floor.channel(floor.connect(delegate=told))
    floor.consume(channel=channel, consumer_tag="t")
    (session,) = floor.broker.sessions - before
    if not able:
        session.capabilities = frozenset()
    floor.do(floor.mine.queue_delete("q"))
    floor.settle()
    assert told.tags == (["t"] if able else [])
    floor.declare()
    floor.feed(b"1")
    assert channel.is_open


# --------------------------------------------------------------------------- windows


def test_a_window_is_for_consumers_that_come_after_it() -> None:
    floor = Floor()
    floor.declare()
    floor.feed(b"0", b"1", b"2", b"3")
    small = floor.consume(1)
    large = floor.consume(2)
    assert (bodies(small), bodies(large)) == ([b"0"], [b"1", b"2"])
    assert floor.refusal(BasicQos(1, 0, False)) == (
        540,
        "NOT_IMPLEMENTED - prefetch_size!=0 (1)",
        "connection",
    )


def test_a_window_of_the_channel() -> None:
    floor = Floor(OLD)
    floor.declare()
    floor.feed(b"0", b"1", b"2", b"3", b"4")
    floor.do(floor.mine.basic_qos(2, global_=True))
    first, second = [list[Delivery]() for _ in range(2)]
    for got in (first, second):
        floor.do(floor.mine.basic_consume("q", got.append))
    floor.settle()
    assert (bodies(first), bodies(second)) == ([b"0", b"1"], [])
    fetched = floor.do(floor.mine.basic_get("q"))
    assert fetched is not None
    fetched.ack()
    floor.settle()
    assert len(first) + len(second) == 2
    first[0].ack()
    floor.settle()
    assert len(first) + len(second) == 3
    floor.do(floor.mine.basic_qos(0))
    floor.settle()
    assert len(first) + len(second) == 4


def test_a_window_of_the_channel_that_comes_late() -> None:
    floor = Floor(OLD)
    floor.declare()
    got = floor.consume()
    floor.feed(b"0", b"1", b"2")
    floor.do(floor.mine.basic_qos(2, global_=True))
    floor.feed(b"3", b"4")
    got[0].ack()
    floor.settle()
    assert len(got) == 3
    floor.do(floor.mine.basic_qos(3, global_=True))
    floor.settle()
    assert len(got) == 4
    for delivery in got[1:]:
        delivery.nack(requeue=False)
    floor.settle()
    assert len(got) == 5
    floor.do(floor.mine.basic_qos(0, global_=True))
    floor.feed(b"5")
    assert len(got) == 6


def test_a_window_of_the_channel_is_one_of_a_consumer_now() -> None:
    floor = Floor(NEW)
    floor.declare()
    floor.feed(b"0", b"1", b"2", b"3")
    floor.do(floor.mine.basic_qos(1, global_=True))
    inboxes = [list[Delivery]() for _ in range(2)]
    for got in inboxes:
        floor.do(floor.mine.basic_consume("q", got.append))
    floor.settle()
    assert [len(got) for got in inboxes] == [1, 1]


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_quorum_queues_know_nothing_of_a_window_of_the_channel(profile: str) -> None:
    floor = Floor(profile)
    floor.declare(queue_type="quorum")
    got = floor.consume()
    floor.do(floor.mine.basic_qos(1, global_=True))
    floor.feed(b"0", b"1", b"2")
    got[0].ack()
    floor.settle()
    assert len(got) == 3
    consumed = floor.watch(floor.mine.basic_consume("q"))
    if profile == OLD:
        text = "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos"
        assert floor.reason(consumed.error(), floor.mine) == (540, text, "connection")
    else:
        assert consumed.value.consumer_tag


def test_deliveries_wait_for_a_client_that_does_not_read() -> None:
    floor = Floor()
    floor.declare()
    reader = floor.channel()
    got = floor.consume(channel=reader, no_ack=True)
    protocol = protocol_of(reader)
    protocol.pause_reading()
    floor.feed(*[b"x" * 100_000] * 20)
    left = floor.broker.queue("q").ready
    assert 0 < left < 20
    protocol.resume_reading()
    floor.settle()
    assert (len(got), floor.broker.queue("q").ready) == (20, 0)


# --------------------------------------------------------------------------- one at a time


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_when_the_successor_begins(profile: str) -> None:
    floor = Floor(profile)
    floor.declare(single_active_consumer=True)
    floor.feed(b"0", b"1")
    active = floor.consume(1, consumer_tag="t")
    other = floor.channel()
    heir = floor.consume(0, other)
    assert heir == []
    floor.do(floor.mine.basic_cancel("t"))
    floor.settle()
    assert bodies(heir) == ([b"1"] if profile == NEW else [])
    active[0].reject()
    floor.settle()
    assert sorted(bodies(heir)) == [b"0", b"1"]


def test_what_ends_together_is_not_given_to_each_other() -> None:
    floor = Floor()
    floor.declare(single_active_consumer=True)
    floor.feed(b"0", b"1")
    other = floor.channel()
    gone = [floor.consume(1, other) for _ in range(2)]
    heir = floor.consume()
    floor.do(other.close())
    floor.settle()
    assert [len(got) for got in gone] == [1, 0]
    assert sorted((one.body, one.redelivered) for one in heir) == [(b"0", True), (b"1", False)]


# --------------------------------------------------------------------------- again


@pytest.mark.parametrize("method", [BasicRecover(True), BasicRecoverAsync(True)], ids=repr)
def test_recover(method: Method) -> None:
    floor = Floor()
    floor.declare()
    floor.feed(b"0", b"1")
    got = floor.consume()
    if isinstance(method, BasicRecover):
        floor.do(floor.mine.basic_recover())
    else:
        floor.say(method)
    floor.settle()
    assert [(one.body, one.delivery_tag, one.redelivered) for one in got[2:]] == [
        (b"0", 3, True),
        (b"1", 4, True),
    ]


@pytest.mark.parametrize("method", [BasicRecover(False), BasicRecoverAsync(False)], ids=repr)
def test_recover_to_the_same_consumer(method: Method) -> None:
    assert Floor().refusal(method) == (540, "NOT_IMPLEMENTED - requeue=false", "connection")


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_a_client_that_agrees_to_a_cancel(profile: str) -> None:
    floor = Floor(profile)
    floor.declare()
    floor.consume(consumer_tag="t")
    if profile == OLD:
        text = "COMMAND_INVALID - unimplemented method"
        assert floor.refusal(BasicCancelOk("t")) == (503, text, "connection")
    else:
        floor.say(BasicCancelOk("t"))
        assert floor.broker.queue("q").consumers == 0


# --------------------------------------------------------------------------- too late


def test_a_slow_consumer_of_a_quorum_queue() -> None:
    floor, told = Floor(), Cancels()
    floor.declare(queue_type="quorum")
    channel = floor.channel(floor.connect(delegate=told))
    got = floor.consume(channel=channel, consumer_tag="t")
    floor.feed(b"0")
    floor.broker.advance(1799)
    assert told.tags == []
    floor.broker.advance(1)
    floor.settle()
    assert (told.tags, floor.broker.queue("q").ready) == (["t"], 1)
    got[0].ack()
    floor.settle()
    assert len(got) == 2
    floor.do(channel.basic_cancel("t"))
    ended = floor.watch(channel.when_closed())
    floor.broker.advance(1800)
    floor.settle()
    code, text, closed = floor.reason(ended.value, channel)
    assert (code, closed) == (406, "channel")
    assert "on channel 1 timed out. Timeout value used: -1 ms." in text


def test_who_fetches_from_a_quorum_queue_and_settles_nothing() -> None:
    floor = Floor(consumer_timeout=60)
    floor.declare(queue_type="quorum")
    floor.feed(b"0")
    channel = floor.channel()
    assert floor.do(channel.basic_get("q")) is not None
    ended = floor.watch(channel.when_closed())
    floor.broker.advance(60)
    floor.settle()
    assert floor.reason(ended.value, channel)[0] == 406
    assert floor.broker.queue("q").ready == 1


@pytest.mark.parametrize("fetches", [False, True])
def test_who_keeps_several_things_for_too_long_loses_a_channel_once(fetches: bool) -> None:
    floor = Floor(consumer_timeout=60)
    floor.declare(queue_type="quorum")
    floor.feed(b"0", b"1")
    before = {*floor.broker.sessions}
    channel = floor.channel()
    (session,) = floor.broker.sessions - before
    session.capabilities = frozenset()
    floor.consume(1, channel=channel, consumer_tag="t")
    if fetches:
        assert floor.do(channel.basic_get("q")) is not None
    else:
        floor.consume(1, channel=channel, consumer_tag="u")
    ended = floor.watch(channel.when_closed())
    floor.broker.advance(60)
    floor.settle()
    assert floor.reason(ended.value, channel)[0] == 406
    assert floor.broker.queue("q").ready == 2
    assert len(floor.consume()) == 2


def test_a_consumer_that_is_over_and_has_settled_all_is_forgotten() -> None:
    floor = Floor()
    floor.declare()
    floor.feed(b"0")
    got = floor.consume(consumer_tag="t")
    (consumer,) = floor.broker.vhosts["/"].queues["q"].consumers
    seen = ref(consumer)
    del consumer
    floor.do(floor.mine.basic_cancel("t"))
    assert seen() is not None
    got[0].ack()
    floor.settle()
    assert seen() is None


@pytest.mark.parametrize(("kind", "early", "late"), [("classic", 2, 4), ("quorum", 0, 2)])
def test_one_tag_after_the_other(kind: str, early: int, late: int) -> None:
    floor = Floor()
    floor.declare(queue_type=kind)
    floor.declare("other")
    floor.feed(*[b"x"] * 8)
    former = floor.consume(2, consumer_tag="t")
    floor.do(floor.mine.basic_cancel("t"))
    heir = floor.consume(2, consumer_tag="t")
    assert len(heir) == early
    for delivery in former:
        delivery.ack()
    floor.settle()
    assert len(heir) == late
    floor.do(floor.mine.basic_cancel("t"))
    floor.feed(b"0", b"1", queue="other")
    assert len(floor.consume(1, consumer_tag="t", queue="other")) == 1
    heir[0].ack()
    floor.settle()
    assert floor.broker.queue("other").ready == 1
