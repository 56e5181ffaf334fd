"""A channel's consumer of replies."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from tests.broker.visitor import Visitor, methods
from tests.broker.visitor import publish as big_publish
from tests.broker.yard import PROFILES
from txamqpx.broker import Broker
from txamqpx.broker.reply_to import NAME
from txamqpx.protocol.frames import header_frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

OLD, NEW = PROFILES

both = pytest.mark.parametrize("profile", PROFILES)


def consume(tag: str = "replies", **fields: Any) -> amqp.BasicConsume:
    return amqp.BasicConsume(NAME, tag, **{"no_ack": True, **fields})


def pair(profile: str) -> tuple[Visitor, Visitor, str]:
    """Return a client that consumes replies, one that gives some, and to which address."""
    broker = Broker(clock=Clock(), profile=profile)
    asker, replier = Visitor(broker).open(1, 2), Visitor(broker).open(1, 2)
    asker.send(1, amqp.QueueDeclare("rpc", exclusive=True), consume())
    assert asker.names() == ["queue.declare-ok", "basic.consume-ok"]
    return asker, replier, address_of(asker)


def address_of(asker: Visitor) -> str:
    asker.write(publish("rpc", reply_to=NAME))
    (request,) = asker.broker.queue("rpc").messages
    asker.send(2, amqp.QueuePurge("rpc"))
    assert asker.names() == ["queue.purge-ok"]
    address = request.properties.reply_to
    assert address is not None
    return address


def publish(key: str, *, mandatory: bool = False, channel: int = 1, **properties: Any) -> bytes:
    header = amqp.BasicProperties(**properties).encode()
    method = amqp.BasicPublish("", key, mandatory=mandatory)
    return methods(channel, method) + header_frame(channel, 60, header, 0)


@both
def test_replies_from_another_connection(profile: str) -> None:
    asker, replier, address = pair(profile)
    replier.write(publish(address, message_id="1") + publish(address))
    tags = (1, 2) if profile == NEW else (1, 1)
    first, second = [amqp.BasicDeliver("replies", tag, False, "", address) for tag in tags]
    assert asker.hear() == [first, "header", second, "header"]


@both
def test_who_replies_to_himself_hears_first_that_it_was_taken(profile: str) -> None:
    asker, _, address = pair(profile)
    asker.send(1, amqp.ConfirmSelect())
    asker.hear()
    asker.write(publish(address) + publish("nowhere"))
    assert asker.names() == ["basic.ack", "basic.deliver", "header"]


@both
def test_mandatory_replies(profile: str) -> None:
    asker, replier, address = pair(profile)
    replier.write(publish(address, mandatory=True))
    assert asker.names() == ["basic.deliver", "header"]
    returned = ["basic.return", "header"]
    assert replier.names() == ([] if profile == NEW else returned)
    asker.send(1, amqp.BasicCancel("replies"))
    assert asker.names() == ["basic.cancel-ok"]
    replier.write(publish(address, mandatory=True))
    assert replier.names() == ([] if profile == NEW else returned)
    replier.write(publish(f"{NAME}.x", mandatory=True))
    assert replier.names() == returned


@pytest.mark.parametrize("leave", [Visitor.leave, lambda one: one.send(1, amqp.ChannelClose(200, "", 0, 0))])
def test_nobody_is_there_once_the_channel_is_over(leave: Any) -> None:
    asker, replier, address = pair(OLD)
    leave(asker)
    asker.hear()
    replier.write(publish(address))
    replier.send(2, amqp.QueueDeclare(address, passive=True))
    assert replier.refusal() == (404, f"NOT_FOUND - no queue '{address}' in vhost '/'")
    assert asker.hear() == []


def test_a_reply_that_was_on_its_way_when_its_consumer_ended() -> None:
    asker, _, address = pair(NEW)
    asker.write(publish(address) + methods(1, amqp.BasicCancel("replies")))
    assert asker.names() == ["basic.cancel-ok"]


@both
def test_who_reads_nothing_is_not_sent_replies_without_end(profile: str) -> None:
    asker, replier, address = pair(profile)
    asker.session._writer.pauseProducing()
    with capturedLogs() as logged:
        for _ in range(20):
            replier.write(big_publish(address, bytes(120_000)))
    assert asker.session.core.outbox.size < 1_300_000
    (warning,) = [event for event in logged if event["log_level"] is LogLevel.warn]
    assert (warning["user"], warning["most"]) == ("guest", 1024 * 1024)
    assert replier.is_in()
    asker.session._writer.resumeProducing()
    assert asker.names().count("basic.deliver") == 9
    replier.write(publish(address))
    assert asker.names() == ["basic.deliver", "header"]


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        (consume(no_ack=False), 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
        (consume(), 406, "PRECONDITION_FAILED - reply consumer already set"),
        (consume("mine"), 530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'"),
    ],
)
def test_who_may_not_consume(method: Method, code: int, text: str) -> None:
    asker, _, _ = pair(NEW)
    asker.send(1, amqp.BasicConsume("rpc", "mine"))
    asker.hear()
    asker.send(1, method)
    assert asker.refusal() == (code, text)


def test_tags_and_answers() -> None:
    came = Visitor().open(1)
    came.send(1, consume("", no_wait=True), amqp.QueueDeclare(NAME))
    (declared,) = came.hear()
    assert declared == amqp.QueueDeclareOk(NAME, 0, 1)
    came = Visitor().open(1)
    came.send(1, amqp.QueueDeclare(NAME, passive=True), amqp.BasicConsume("", no_ack=True))
    _, consumed = came.hear()
    assert consumed.consumer_tag.startswith("amq.ctag-")
    came.send(1, amqp.BasicCancel("other"), amqp.BasicCancel(consumed.consumer_tag, True))
    assert came.hear() == [amqp.BasicCancelOk("other")]
    came.send(1, consume())
    assert came.names() == ["basic.consume-ok"]


@both
def test_a_request_without_a_consumer(profile: str) -> None:
    came = Visitor(Broker(clock=Clock(), profile=profile)).open(1)
    came.write(publish("nowhere", reply_to=f"{NAME}.x"))
    assert came.hear() == []
    came.write(publish("nowhere", reply_to=NAME))
    assert came.refusal() == (406, "PRECONDITION_FAILED - fast reply consumer does not exist")


def test_each_consumer_has_an_address_of_its_own() -> None:
    asker, replier, address = pair(NEW)
    asker.send(1, amqp.BasicCancel("replies"), consume("again"))
    asker.hear()
    new = address_of(asker)
    assert new != address
    replier.write(publish(address) + publish(new))
    assert asker.hear() == [amqp.BasicDeliver("again", 1, False, "", new), "header"]


@both
def test_an_address_is_no_queue(profile: str) -> None:
    _, replier, address = pair(profile)
    where = f"queue '{address}' in vhost '/'"
    for method, code, text in (
        (amqp.BasicGet(address), 540, f"NOT_IMPLEMENTED - basic.get not supported by volatile {where}"),
        (
            amqp.BasicConsume(address, no_ack=True),
            406,
            f"PRECONDITION_FAILED - only creator channel may consume from {where}",
        ),
        (
            amqp.QueueBind(address, "amq.direct", "key"),
            403,
            "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue",
        ),
        (amqp.QueuePurge(address), 0, ""),
    ):
        other = Visitor(replier.broker).open(1)
        other.send(1, method)
        if profile == OLD:
            assert other.refusal() == (404, f"NOT_FOUND - no {where}")
        elif code:
            assert other.refusal() == (code, text)
        else:
            assert other.hear() == [amqp.QueuePurgeOk(0)]


@both
def test_forged_addresses(profile: str) -> None:
    _, replier, _ = pair(profile)
    replier.write(publish(f"{NAME}.!!!.AAAA", mandatory=True))
    if profile == OLD:
        assert replier.refusal() == (541, "INTERNAL_ERROR")
    else:
        assert replier.names() == ["basic.return", "header"]
