"""A channel: who does what is asked, and how it ends."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from twisted.internet.task import Clock

from tests.broker.visitor import Visitor, methods, publish
from tests.broker.yard import PROFILES
from txamqpx.broker import Broker
from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.refusal import Refusal
from txamqpx.spec import amqp0_9_1 as amqp


def channel_of(came: Visitor, number: int = 1) -> BrokerChannel:
    owner = came.session.core.channels[number].owner
    assert isinstance(owner, BrokerChannel)
    return owner


def test_answers_and_no_answers() -> None:
    came = Visitor().open(1)
    came.send(1, amqp.QueueDeclare("a", exclusive=True), amqp.QueueDeclare("b", exclusive=True, no_wait=True))
    assert came.hear() == [amqp.QueueDeclareOk("a", 0, 0)]
    came.send(1, amqp.QueuePurge(""))
    assert came.hear() == [amqp.QueuePurgeOk(0)]
    assert channel_of(came).queue_name("") == "b"
    assert channel_of(came).queue_name("a") == "a"


def test_no_name_stands_for_nothing_at_first() -> None:
    came = Visitor().open(1)
    came.send(1, amqp.QueuePurge(""))
    assert came.refusal() == (404, "NOT_FOUND - no previously declared queue")


def test_realms_are_there_for_everybody() -> None:
    came = Visitor().open(1)
    came.send(1, amqp.AccessRequest())
    assert came.names() == ["access.request-ok"]


def test_flow() -> None:
    came = Visitor().open(1)
    came.send(1, amqp.ChannelFlow(True))
    assert came.hear() == [amqp.ChannelFlowOk(True)]
    came.send(1, amqp.ChannelFlow(False))
    assert came.hear() == [amqp.ConnectionClose(540, "NOT_IMPLEMENTED - active=false", 20, 20)]


def test_a_pause_that_the_broker_asks_for() -> None:
    came = Visitor().open(1)
    channel_of(came).flow(False)
    channel_of(came).flow(True)
    assert came.hear() == [amqp.ChannelFlow(False), amqp.ChannelFlow(True)]
    came.send(1, amqp.ChannelFlowOk(False), amqp.ChannelFlowOk(True), amqp.QueueDeclare("", exclusive=True))
    assert came.names() == ["queue.declare-ok"]
    came.send(1, amqp.ChannelFlowOk(True))
    assert came.refusal() == (503, "COMMAND_INVALID - unimplemented method")


def test_a_channel_that_is_over_is_asked_nothing() -> None:
    came = Visitor().open(1)
    channel_of(came).end()
    channel_of(came).flow(False)
    assert came.hear() == []


def test_what_comes_after_an_error_is_ignored() -> None:
    came = Visitor().open(1, 2)
    came.send(2, amqp.QueueDeclare("jobs", exclusive=True))
    came.hear()
    missing = methods(1, amqp.QueueDeclare("missing", passive=True))
    late = methods(1, amqp.QueueDeclare("late", exclusive=True), amqp.BasicAck(1), amqp.TxSelect())
    came.write(missing + late + publish("jobs"))
    assert came.hear() == [amqp.ChannelClose(404, "NOT_FOUND - no queue 'missing' in vhost '/'", 50, 10)]
    came.write(late + publish("jobs"))
    assert came.hear() == []
    assert came.broker.queue("jobs").ready == 0
    came.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen())
    assert came.names() == ["channel.open-ok"]
    came.write(publish("jobs"))
    assert came.broker.queue("jobs").ready == 1


def test_refusals_of_a_closed_channel() -> None:
    """What was read ahead of the close is nothing to it."""
    came = Visitor().open(1)
    channel = channel_of(came)
    channel.end()
    channel.end()
    channel.acked([(1, False)])
    channel.publishing.flush()
    assert came.hear() == []


def test_an_unknown_tag() -> None:
    came = Visitor().open(1)
    came.send(1, amqp.BasicAck(7))
    assert came.hear() == [amqp.ChannelClose(406, "PRECONDITION_FAILED - unknown delivery tag 7", 60, 80)]


def test_a_method_that_nobody_does() -> None:
    came = Visitor().open(1)
    channel = channel_of(came)

    class Event:
        method = amqp.BasicGetEmpty()

    channel.requested(Event)  # type: ignore[arg-type]
    assert came.hear() == [amqp.ConnectionClose(503, "COMMAND_INVALID - unimplemented method", 60, 72)]


def test_a_long_text_is_cut_to_what_fits() -> None:
    came = Visitor().open(1)
    channel_of(came).refuse(Refusal(404, "é" * 200), amqp.QueueBind.index)
    (closed,) = came.hear()
    assert closed == amqp.ChannelClose(404, ANY, 50, 20)
    assert 253 <= len(closed.reply_text.encode()) <= 255


def test_what_was_held_goes_back_when_the_channel_ends() -> None:
    came = Visitor().open(1, 2)
    came.send(2, amqp.QueueDeclare("jobs", durable=True))
    came.write(publish("jobs", b"a") + publish("jobs", b"b"))
    came.send(1, amqp.TxSelect(), amqp.BasicGet("jobs"), amqp.BasicGet("jobs"), amqp.BasicAck(1))
    came.hear()
    channel = channel_of(came)
    came.send(1, amqp.ChannelClose(200, "", 0, 0))
    assert came.hear() == [amqp.ChannelCloseOk()]
    assert channel.closed
    assert [message.body for message in came.broker.queue("jobs").messages] == [b"a", b"b"]


@pytest.mark.parametrize("profile", PROFILES)
def test_rights(profile: str) -> None:
    broker = Broker(clock=Clock(), profile=profile)
    broker.add_user("clerk", "secret")
    broker.set_permissions("clerk", "/", "^mine", "^amq.default$", "")
    channel = channel_of(Visitor(broker).open(1, response=b"\0clerk\0secret"))
    channel.demand("configure", "queue", "mine.1")
    channel.demand("write", "exchange", "")
    for right, kind, name, called in (
        ("read", "queue", "mine.1", "mine.1"),
        ("write", "exchange", "mine.1", "mine.1"),
        ("configure", "exchange", "", "amq.default"),
    ):
        with pytest.raises(Refusal) as caught:
            channel.demand(right, kind, name)
        said = "access" if profile == PROFILES[0] else f"{right} access"
        text = f"{said} to {kind} '{called}' in vhost '/' refused for user 'clerk'"
        assert caught.value.text == f"ACCESS_REFUSED - {text}"
        assert not caught.value.hard


def test_nobody_who_has_logged_in_has_no_rights() -> None:
    came = Visitor().open(1)
    came.session.account = None
    with pytest.raises(Refusal):
        channel_of(came).demand("read", "queue", "jobs")
