from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import succeed

from tests.consuming.stage import Stage
from tests.logged import LoggedErrors
from txamqpx.consuming.settlement import Reject
from txamqpx.errors import EncodeError, NotFound
from txamqpx.message import Delivery
from txamqpx.pipeline import Message, Pipeline
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicNack,
    BasicProperties,
    BasicQosOk,
    BasicReturn,
    ChannelClose,
    ChannelOpenOk,
)
from txamqpx.testing import HandPool, failure_of, is_pending, success_of


@pytest.fixture
def stage() -> Stage:
    return Stage()


def pipe(stage: Stage, transform: Any = None, destination: Any = "there", **options: Any) -> Pipeline:
    piping = stage.client.pipe("q", transform, destination, **options)
    stage.agree()
    return success_of(piping)


def confirm(stage: Stage, tag: int, *, nack: bool = False) -> None:
    channel = stage.published[-1][0]
    stage.peer.send(channel, BasicNack(tag, False) if nack else BasicAck(tag))
    stage.agree()


def bodies(stage: Stage) -> list[tuple[bytes, str]]:
    stage.agree()
    return [(body, key) for _, body, key in stage.published]


@pytest.mark.covers("L15", "S93")
def test_the_source_is_acked_when_the_destination_is_confirmed(stage: Stage) -> None:
    pipeline = pipe(stage, lambda delivery: delivery.body.upper())
    stage.deliver(b"message", channel=1)
    assert bodies(stage) == [(b"MESSAGE", "there")]
    assert stage.take_settled() == []
    confirm(stage, 1)
    assert stage.take_settled() == [("ack", 1)]
    assert repr(pipeline) == "<Pipeline of <Consumer of 'q', running> to ('', 'there')>"


async def coroutine(delivery: Delivery) -> list[Any]:
    return [b"1", Message(b"2", BasicProperties(type="t"), "x", "key")]


@pytest.mark.covers("S93", "L15")
def test_several_have_to_be_confirmed_each(stage: Stage) -> None:
    pipe(stage, coroutine, ("", "default"))
    stage.deliver(b"message")
    assert bodies(stage) == [(b"1", "default")]  # the first to an exchange travels alone
    confirm(stage, 1)
    assert bodies(stage)[1:] == [(b"2", "key")]
    assert stage.take_settled() == []
    confirm(stage, 2)
    assert stage.take_settled() == [("ack", 1)]


@pytest.mark.parametrize("nothing", [None, []])
def test_what_is_filtered_out_is_acked(stage: Stage, nothing: Any) -> None:
    pipe(stage, lambda delivery: succeed(nothing))
    stage.deliver(b"message")
    assert bodies(stage) == []
    assert stage.take_settled() == [("ack", 1)]


def test_bytes_of_any_kind_are_one_message(stage: Stage) -> None:
    pipe(stage, lambda delivery: bytearray(b"made"), ("", "key"))
    stage.deliver(b"message")
    assert bodies(stage) == [(b"made", "key")]


def test_one_that_cannot_be_published_leaves_the_others_what_they_are(
    stage: Stage, logged_errors: LoggedErrors
) -> None:
    pipe(stage, lambda delivery: [b"1", Message(b"2", routing_key="k" * 256)], ("", "key"))
    stage.deliver(b"message")
    assert bodies(stage) == [(b"1", "key")]
    assert stage.take_settled() == []
    confirm(stage, 1)
    assert stage.take_settled() == [("reject requeue", 1)]  # a failure of the transform, and no pause
    assert len(logged_errors.flush(EncodeError)) == 1


def test_properties_travel_along_but_for_what_is_the_senders_own(stage: Stage) -> None:
    pipe(stage)
    headers = {"a": 1, "CC": ["other"], "BCC": ["another"]}
    properties = BasicProperties(user_id="somebody", message_id="m", headers=headers)
    stage.peer.deliver(1, "ctag-1.1", 1, b"body", properties)
    stage.peer.deliver(1, "ctag-1.1", 2, b"body")
    stage.agree()
    confirm(stage, 1)
    assert stage.properties == [
        BasicProperties(message_id="m", headers={"a": 1}, delivery_mode=2),
        BasicProperties(delivery_mode=2),
    ]


@pytest.mark.covers("S93", "T-ACK-07")
def test_what_is_refused_goes_back_after_a_pause_that_grows(stage: Stage) -> None:
    pipe(stage)
    stage.deliver(b"1")
    stage.agree()
    confirm(stage, 1, nack=True)
    stage.advance(0.9)
    assert stage.take_settled() == []
    stage.advance(0.1)
    assert stage.take_settled() == [("nack requeue", 1)]
    stage.deliver(b"1")
    stage.agree()
    channel = stage.published[-1][0]
    returned = BasicReturn(312, "NO_ROUTE", "", "there")
    stage.peer.send(channel, returned, b"1", BasicProperties(delivery_mode=2))
    confirm(stage, 2)
    stage.advance(1.9)
    assert stage.take_settled() == []
    stage.advance(0.1)
    assert stage.take_settled() == [("nack requeue", 2)]
    stage.deliver(b"1")
    stage.agree()
    confirm(stage, 3)
    assert stage.take_settled() == [("ack", 3)]
    stage.deliver(b"2")
    stage.agree()
    confirm(stage, 4, nack=True)
    stage.advance(1)  # from the beginning again
    assert stage.take_settled() == [("nack requeue", 4)]


@pytest.mark.covers("S93")
def test_a_transform_that_fails_is_a_handler_that_fails(stage: Stage, logged_errors: LoggedErrors) -> None:
    def transform(delivery: Delivery) -> Any:
        if delivery.body == b"reject":
            raise Reject
        if delivery.body == b"raise":
            raise ValueError("bad")
        return {b"long": Message(b"", None, "", "k" * 256), b"odd": [1]}[delivery.body]

    pipe(stage, transform)
    stage.deliver(b"reject", b"raise", b"long", b"odd")
    assert stage.take_settled() == [
        ("reject", 1),
        ("reject requeue", 2),
        ("reject requeue", 3),
        ("reject requeue", 4),
    ]
    assert len(logged_errors.flush(ValueError, EncodeError, TypeError)) == 3


@pytest.mark.covers("S93", "S91")
def test_the_end_gives_back_what_is_not_confirmed(stage: Stage) -> None:
    pipeline = pipe(stage, concurrency=3)
    stage.deliver(b"1", b"2")
    stage.agree()
    confirm(stage, 1)
    confirm(stage, 2, nack=True)
    stage.deliver(b"3")
    stage.agree()
    cancelled = pipeline.cancel()
    stage.agree()
    assert stage.settled == [("ack", 1), ("nack requeue", 2)]
    assert is_pending(cancelled)
    confirm(stage, 3)
    assert success_of(cancelled) is None
    assert success_of(pipeline.closed) is None
    assert stage.settled[2:] == [("ack", 3)]


@pytest.mark.covers("S93", "S91")
def test_what_is_not_confirmed_in_time_is_given_back(stage: Stage) -> None:
    pipeline = pipe(stage)
    stage.deliver(b"1")
    stage.agree()
    cancelled = pipeline.cancel(timeout=2.0)
    stage.agree()
    stage.advance(2)
    assert success_of(cancelled) is None
    assert stage.settled == [("nack requeue", 1)]


@pytest.mark.covers("S93")
def test_a_lost_connection_acks_nothing(stage: Stage) -> None:
    pipeline = pipe(stage)
    stage.deliver(b"1")
    stage.agree()
    stage.peer.hang_up()
    assert success_of(pipeline.closed) is not None
    stage.peer.advance(5)
    assert stage.settled == []


def test_a_source_that_is_not_there_fails_the_start(stage: Stage) -> None:
    piping = stage.client.pipe("q", None, "there")
    stage.listen()
    text = "NOT_FOUND - no queue 'q' in vhost '/'"
    while stage._unanswered[0].method.name != "channel.open":
        stage._unanswered.popleft()
    channel = stage._unanswered[0].channel
    others = [one for one in stage._unanswered if one.channel != channel]
    mine = [one for one in stage._unanswered if one.channel == channel]
    stage._unanswered.clear()
    stage._unanswered.extend(mine)
    stage.answer(ChannelOpenOk(), BasicQosOk(), ChannelClose(404, text, 60, 20))
    failure_of(piping, NotFound)
    stage._unanswered.extend(others)
    stage.agree()


@pytest.mark.parametrize("options", [{"ack": "manual"}, {"batch": None}])
def test_how_it_acks_is_its_own_business(stage: Stage, options: Any) -> None:
    with pytest.raises(ValueError, match="is the pipeline's own business"):
        stage.client.pipe("q", None, "there", **options)


def test_a_transform_is_whatever_can_be_called(stage: Stage) -> None:
    wrong: Any = "upper"
    with pytest.raises(TypeError, match="a transform is called with each delivery, str cannot be"):
        stage.client.pipe("q", wrong, "there")


def test_a_transform_may_run_in_a_thread(stage: Stage) -> None:
    pool = HandPool(stage.peer.clock)
    pipe(stage, lambda delivery: None, thread=True)
    stage.deliver(b"1")
    assert stage.take_settled() == []
    pool.run()
    assert stage.take_settled() == [("ack", 1)]
