"""Transactions: what waits for a commit, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.broker.visitor import Visitor, methods
from tests.broker.yard import PROFILES
from txamqpx.broker import Broker
from txamqpx.broker.reply_to import NAME
from txamqpx.protocol.frames import BODY, frame, header_frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

OLD, NEW = PROFILES

both = pytest.mark.parametrize("profile", PROFILES)


def publish(key: str = "jobs", exchange: str = "", body: bytes = b"x", channel: int = 1) -> bytes:
    method = amqp.BasicPublish(exchange, key, mandatory=True)
    return methods(channel, method) + header_frame(channel, 60, b"\0\0", 1) + frame(BODY, channel, body)


def visitor(profile: str = NEW, count: int = 0) -> Visitor:
    """Return a client with channel 1 in transaction mode, and so many messages in a queue."""
    came = Visitor(Broker(clock=Clock(), profile=profile)).open(1, 2)
    came.send(2, amqp.QueueDeclare("jobs", durable=True))
    came.write(b"".join(publish(body=b"%d" % n, channel=2) for n in range(count)))
    came.send(1, amqp.TxSelect())
    assert came.names() == ["queue.declare-ok", "tx.select-ok"]
    return came


def take(came: Visitor, count: int) -> None:
    came.send(1, *[amqp.BasicGet("jobs")] * count)
    assert came.names() == ["basic.get-ok", "header", "body"] * count


def bodies(came: Visitor, queue: str = "jobs") -> list[bytes]:
    return [message.body for message in came.broker.queue(queue).messages]


def commit(came: Visitor) -> list[str]:
    came.send(1, amqp.TxCommit())
    return came.names()


RETURN = ["basic.return", "header", "body"]


# --------------------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([amqp.TxSelect(), amqp.ConfirmSelect()], "cannot switch from tx to confirm mode"),
        ([amqp.ConfirmSelect(), amqp.TxSelect()], "cannot switch from confirm to tx mode"),
        ([amqp.TxCommit()], "channel is not transactional"),
        ([amqp.TxRollback()], "channel is not transactional"),
    ],
)
def test_modes(said: list[Method], text: str) -> None:
    came = Visitor().open(1)
    came.send(1, *said)
    assert came.refusal() == (406, f"PRECONDITION_FAILED - {text}")


def test_what_waits_is_not_forgotten_by_a_second_select() -> None:
    came = visitor()
    came.write(publish())
    came.send(1, amqp.TxSelect())
    assert came.names() == ["tx.select-ok"]
    assert commit(came) == ["tx.commit-ok"]
    assert bodies(came) == [b"x"]


# --------------------------------------------------------------------------- publishes


def test_publishes_wait_for_the_commit() -> None:
    came = visitor()
    came.write(publish() + publish("nowhere"))
    assert came.hear() == []
    assert bodies(came) == []
    assert commit(came) == [*RETURN, "tx.commit-ok"]
    assert bodies(came) == [b"x"]
    assert commit(came) == ["tx.commit-ok"]
    came.write(publish() + publish("nowhere"))
    came.send(1, amqp.TxRollback())
    assert came.names() == ["tx.rollback-ok"]
    assert commit(came) == ["tx.commit-ok"]
    assert bodies(came) == [b"x"]


def test_an_error_ends_it_all() -> None:
    came = visitor(count=1)
    take(came, 1)
    came.write(methods(1, amqp.BasicAck(1)) + publish() + publish(exchange="missing"))
    assert came.refusal()[0] == 404
    assert bodies(came) == [b"0"]


@both
def test_ways_are_those_of_the_publish(profile: str) -> None:
    came = visitor(profile)
    bound: Any = ("jobs", "amq.direct", "key")
    came.write(publish("key", "amq.direct"))
    came.send(2, amqp.QueueBind(*bound))
    came.hear()
    assert commit(came) == [*RETURN, "tx.commit-ok"]
    came.write(publish("key", "amq.direct"))
    came.send(2, amqp.QueueUnbind(*bound))
    came.hear()
    assert commit(came) == ["tx.commit-ok"]
    assert bodies(came) == [b"x"]


def test_to_one_release_a_name_is_as_good_as_a_queue() -> None:
    came = visitor(OLD)
    came.write(publish() + publish("later"))
    came.send(2, amqp.QueueDelete("jobs"), amqp.QueueDeclare("later", durable=True))
    came.hear()
    assert commit(came) == [*RETURN, "tx.commit-ok"]
    assert bodies(came, "later") == [b"x"]


@pytest.mark.parametrize("again", [False, True])
def test_to_the_other_release_it_is_not(again: bool) -> None:
    came = visitor(NEW)
    came.write(publish())
    came.send(2, amqp.QueueDelete("jobs"), *[amqp.QueueDeclare("jobs", durable=True)] * again)
    came.hear()
    came.send(1, amqp.TxCommit())
    if again:
        assert came.refusal() == (406, "PRECONDITION_FAILED - partial tx completion")
        assert bodies(came) == []
    else:
        where = '{not_found,{resource,<<"/">>,queue,<<"jobs">>}}'
        assert came.refusal() == (506, f"RESOURCE_ERROR - failed to deliver message: {where}")


@both
def test_a_queue_that_refuses(profile: str) -> None:
    came = visitor(profile, count=1)
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
    came.send(2, amqp.QueueDeclare("full", durable=True, arguments=arguments))
    came.hear()
    take(came, 1)
    came.write(publish("full") + publish() + methods(1, amqp.BasicAck(1), amqp.TxCommit()))
    assert came.refusal() == (406, "PRECONDITION_FAILED - partial tx completion")
    assert bodies(came) == [b"x"]  # and what was acked is gone


@both
def test_replies(profile: str) -> None:
    """They wait where they go through something like a queue."""
    came = visitor(profile)
    came.send(2, amqp.BasicConsume(NAME, "replies", no_ack=True))
    address = came.broker.vhosts["/"].replies
    came.hear()
    (name,) = address._open
    came.write(publish(name))
    delivery = ["basic.deliver", "header", "body"]
    assert came.names() == (delivery if profile == OLD else [])
    assert commit(came) == ([*RETURN, "tx.commit-ok"] if profile == OLD else ["tx.commit-ok", *delivery])


# --------------------------------------------------------------------------- settling


@both
@pytest.mark.parametrize(
    ("method", "left", "redelivered"),
    [
        (amqp.BasicAck(1), [b"2"], []),
        (amqp.BasicAck(2, True), [b"2"], []),
        (amqp.BasicAck(0, True), [b"2"], []),
        (amqp.BasicReject(1, False), [b"2"], []),
        (amqp.BasicReject(1, True), [b"0", b"2"], [True]),
        (amqp.BasicNack(2, True, False), [b"2"], []),
        (amqp.BasicNack(2, True, True), [b"0", b"1", b"2"], [True, True]),
    ],
    ids=str,
)
def test_what_is_settled_waits_for_the_commit(
    profile: str, method: Method, left: list[bytes], redelivered: list[bool]
) -> None:
    came = visitor(profile, 3)
    take(came, 2)
    for end in (amqp.TxRollback(), amqp.TxCommit()):
        came.send(1, method)
        assert came.hear() == []
        assert bodies(came) == [b"2"]
        came.send(1, end)
        assert len(came.hear()) == 1
    assert bodies(came) == left
    ready = came.broker.vhosts["/"].queues["jobs"].ready
    assert [entry.redelivered for entry in ready] == [*redelivered, False]


def test_what_comes_between_is_not_settled_with_it() -> None:
    """All so far, it was said: not all until the commit."""
    came = visitor(count=3)
    take(came, 2)
    came.send(1, amqp.BasicAck(0, True))
    take(came, 1)
    assert commit(came) == ["tx.commit-ok"]
    came.send(1, amqp.ChannelClose(200, "", 0, 0))
    came.hear()
    assert bodies(came) == [b"2"]


def test_a_roll_back_leaves_the_order_as_it_was() -> None:
    came = visitor(count=3)
    take(came, 3)
    came.send(
        1, amqp.BasicAck(2), amqp.BasicAck(1), amqp.TxRollback(), amqp.BasicAck(2, True), amqp.TxCommit()
    )
    assert came.names() == ["tx.rollback-ok", "tx.commit-ok"]
    came.send(1, amqp.ChannelClose(200, "", 0, 0))
    came.hear()
    assert bodies(came) == [b"2"]


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ([amqp.BasicAck(1), amqp.BasicAck(1)], 1),
        ([amqp.BasicNack(1), amqp.BasicReject(1)], 1),
        ([amqp.BasicReject(2), amqp.BasicNack(9, True)], 9),
    ],
)
def test_unknown_tags_are_refused_at_once(said: list[Method], tag: int) -> None:
    came = visitor(count=2)
    take(came, 2)
    came.send(1, *said)
    assert came.refusal() == (406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
    assert bodies(came) == [b"0", b"1"]


def test_without_a_transaction_nothing_waits() -> None:
    came = visitor(count=3)
    came.send(
        2,
        *[amqp.BasicGet("jobs")] * 3,
        amqp.BasicNack(1, False, True),
        amqp.BasicReject(3, True),
        amqp.BasicAck(2),
    )
    came.hear()
    assert bodies(came) == [b"0", b"2"]


def test_there_is_no_room_for_more_before_the_commit() -> None:
    came = visitor(count=3)
    came.send(1, amqp.BasicQos(0, 1), amqp.BasicConsume("jobs", "c"))
    assert came.names() == ["basic.qos-ok", "basic.consume-ok", "basic.deliver", "header", "body"]
    came.send(1, amqp.BasicAck(1))
    assert came.hear() == []
    assert commit(came) == ["tx.commit-ok", "basic.deliver", "header", "body"]


def test_what_is_not_taken_is_not_there_after_the_commit() -> None:
    came = visitor()
    came.broker.history.gates.append(lambda message, session, confirm: message.body != b"1")
    came.write(publish(body=b"0") + publish(body=b"1") + publish(body=b"2"))
    assert commit(came) == ["tx.commit-ok"]
    assert bodies(came) == [b"0", b"2"]
