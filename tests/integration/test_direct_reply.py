"""Direct reply-to, to the letter: who may consume replies, where they go, and what a wrong address does."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.brokers_plugin import Vhost
from tests.integration.support import is_since
from tests.integration.wire import Wire
from txamqpx.protocol.frames import BODY, HEADER
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

DIRECT = "amq.rabbitmq.reply-to"

# A process of a node that there is not, as Erlang writes it.
STRANGER = b64encode(b"\x83Xw\x0areply@" + b"1234" + bytes(12)).decode()


def consume(tag: str = "replies", *, no_ack: bool = True, **fields: Any) -> amqp.BasicConsume:
    return amqp.BasicConsume(DIRECT, tag, no_ack=no_ack, **fields)


@pytest.fixture
def asker(vhost: Vhost) -> Iterator[Wire]:
    """Open a connection with three channels, and a queue "rpc"."""
    with Wire(vhost.node) as connected:
        connected.open(vhost.name, 1, 2, 3)
        connected.send(3, amqp.QueueDeclare("rpc", durable=True))
        connected.expect(amqp.QueueDeclareOk, 3)
        yield connected


@pytest.fixture
def replier(vhost: Vhost) -> Iterator[Wire]:
    """Open another connection, with two channels of which the first one is in confirm mode."""
    with Wire(vhost.node) as connected:
        connected.open(vhost.name, 1, 2)
        connected.send(1, amqp.ConfirmSelect())
        connected.expect(amqp.ConfirmSelectOk, 1)
        yield connected


def listen(wire: Wire, channel: int = 1) -> str:
    """Consume replies on a channel, and return its address."""
    wire.send(channel, consume())
    assert wire.expect(amqp.BasicConsumeOk, channel).consumer_tag == "replies"
    return address_of(wire, channel)


def address_of(wire: Wire, channel: int = 1) -> str:
    """Send a request, take it out of the queue again, and return where it is to be replied to."""
    wire.publish(channel, amqp.BasicPublish("", "rpc"), b"?", reply_to=DIRECT, message_id="id")
    wire.send(channel, amqp.ChannelFlow(True))
    wire.expect(amqp.ChannelFlowOk, channel)
    wire.send(3, amqp.BasicGet("rpc", no_ack=True))
    wire.expect(amqp.BasicGetOk, 3)
    header = frame_of(wire, 3, HEADER)[12:]
    assert frame_of(wire, 3, BODY) == b"?"
    properties = amqp.BasicProperties.decode(header, 0, len(header))
    assert properties.message_id == "id"
    address = properties.reply_to
    assert address is not None
    assert address.startswith(f"{DIRECT}.")
    return address


def frame_of(wire: Wire, channel: int, kind: int) -> bytes:
    heard = wire.frame()
    assert heard is not None
    assert heard[:2] == (kind, channel)
    return heard[2]


def reply(wire: Wire, address: str, body: bytes, *, channel: int = 1, mandatory: bool = False) -> None:
    wire.publish(channel, amqp.BasicPublish("", address, mandatory=mandatory), body, type="reply")


def delivered(wire: Wire, body: bytes) -> amqp.BasicDeliver:
    """Wait for a reply on channel 1."""
    method = wire.expect(amqp.BasicDeliver, 1)
    assert frame_of(wire, 1, HEADER)[12:] == b"\x00\x20\x05reply"
    assert frame_of(wire, 1, BODY) == body
    assert (method.consumer_tag, method.exchange, method.redelivered) == ("replies", "", False)
    return method


def fate(wire: Wire) -> list[str]:
    """Return what becomes of one publish on channel 1."""
    said: list[str] = []
    while "basic.ack" not in said:
        heard = wire.hear()
        assert heard is not None
        said.append(heard[1].name if isinstance(heard[1], Method) else heard[1])
    return said


RETURNED = ["basic.return", "header", "body", "basic.ack"]


# --------------------------------------------------------------------------- consuming


@pytest.mark.parametrize(
    ("before", "method", "code", "text"),
    [
        ([], consume(no_ack=False), 406, "reply consumer cannot acknowledge"),
        ([consume()], consume(), 406, "reply consumer already set"),
        ([consume()], consume("other"), 406, "reply consumer already set"),
        ([consume()], consume("other", no_ack=False), 406, "reply consumer cannot acknowledge"),
        ([amqp.BasicConsume("rpc", "replies")], consume(), 530, "attempt to reuse consumer tag 'replies'"),
    ],
)
def test_who_may_not_consume_replies(
    asker: Wire, before: list[Method], method: Method, code: int, text: str
) -> None:
    for one in before:
        asker.send(1, one)
        asker.expect(amqp.BasicConsumeOk, 1)
    asker.send(1, method)
    name = "NOT_ALLOWED" if code == 530 else "PRECONDITION_FAILED"
    assert asker.refusal(0 if code == 530 else 1) == (code, f"{name} - {text}", 60, 20)


def test_one_consumer_for_each_channel(asker: Wire) -> None:
    addresses = {listen(asker), listen(asker, 2)}
    assert len(addresses) == 2
    asker.send(1, amqp.BasicConsume("rpc", "replies"))  # tags of other consumers do not meet that of this one
    asker.expect(amqp.BasicConsumeOk, 1)


def test_a_consumer_that_ends_and_one_that_begins(asker: Wire, replier: Wire) -> None:
    old = listen(asker)
    asker.send(1, amqp.BasicCancel("replies"))
    assert asker.expect(amqp.BasicCancelOk, 1).consumer_tag == "replies"
    asker.send(1, consume("", no_wait=True), amqp.BasicCancel("other"))
    asker.expect(amqp.BasicCancelOk, 1)
    new = address_of(asker)
    assert new != old
    reply(replier, old, b"late")
    reply(replier, new, b"in time")
    assert asker.expect(amqp.BasicDeliver, 1).routing_key == new
    assert frame_of(asker, 1, HEADER)
    assert frame_of(asker, 1, BODY) == b"in time"


@pytest.mark.parametrize("select", [None, amqp.TxSelect()], ids=["plain", "transaction"])
def test_a_request_without_a_consumer(asker: Wire, select: Method | None) -> None:
    asker.publish(2, amqp.BasicPublish("missing", "rpc"), reply_to=DIRECT)
    assert asker.refusal(2)[0] == 404
    if select is not None:
        asker.send(1, select)
        asker.expect(amqp.TxSelectOk, 1)
    asker.publish(1, amqp.BasicPublish("", "rpc"), reply_to=f"{DIRECT}.whatever")
    asker.publish(1, amqp.BasicPublish("", "rpc"), reply_to=DIRECT)
    text = "PRECONDITION_FAILED - fast reply consumer does not exist"
    assert asker.refusal(1) == (406, text, 60, 40)


# --------------------------------------------------------------------------- replying


@pytest.mark.covers("T-RPC-01")
def test_replies_and_their_tags(vhost: Vhost, asker: Wire, replier: Wire) -> None:
    """Before RabbitMQ 4 all have the tag that the next delivery from a queue will have."""
    address = listen(asker)
    tags = []
    for number in range(3):
        reply(replier, address, b"%d" % number)
        method = delivered(asker, b"%d" % number)
        assert method.routing_key == address
        tags.append(method.delivery_tag)
    assert tags == ([1, 2, 3] if is_since(vhost.node, "4.0") else [1, 1, 1])
    asker.publish(1, amqp.BasicPublish("", "rpc"))
    asker.send(1, amqp.BasicGet("rpc", no_ack=True))
    assert asker.expect(amqp.BasicGetOk, 1).delivery_tag == (4 if is_since(vhost.node, "4.0") else 1)


@pytest.mark.covers("T-PUB-04")
def test_mandatory_replies(vhost: Vhost, asker: Wire, replier: Wire) -> None:
    """RabbitMQ 3 returns even what it has delivered, RabbitMQ 4 confirms even what nobody gets."""
    address = listen(asker)
    lost = ["basic.ack"] if is_since(vhost.node, "4.0") else RETURNED
    reply(replier, address, b"1", mandatory=True)
    assert fate(replier) == lost
    delivered(asker, b"1")
    reply(replier, address, b"2")
    assert fate(replier) == ["basic.ack"]
    delivered(asker, b"2")
    asker.send(1, amqp.BasicCancel("replies"))
    asker.expect(amqp.BasicCancelOk, 1)
    for mandatory in (True, False):
        reply(replier, address, b"3", mandatory=mandatory)
        assert fate(replier) == (lost if mandatory else ["basic.ack"])
    asker.send(1, amqp.ChannelClose(200, "", 0, 0))
    asker.expect(amqp.ChannelCloseOk, 1)
    reply(replier, address, b"4", mandatory=True)
    assert fate(replier) == lost


def test_only_the_default_exchange_leads_there(asker: Wire, replier: Wire) -> None:
    address = listen(asker)
    replier.publish(1, amqp.BasicPublish("amq.direct", address, mandatory=True), b"x")
    assert fate(replier) == RETURNED
    replier.publish(1, amqp.BasicPublish("", "rpc"), b"copy", type="reply", headers={"BCC": [address]})
    assert fate(replier) == ["basic.ack"]
    assert asker.expect(amqp.BasicDeliver, 1).routing_key == "rpc"


@pytest.mark.covers("S55")
def test_a_reply_in_a_transaction(vhost: Vhost, asker: Wire, replier: Wire) -> None:
    """RabbitMQ 3 does not wait for the commit."""
    address = listen(asker)
    replier.send(2, amqp.TxSelect())
    replier.expect(amqp.TxSelectOk, 2)
    reply(replier, address, b"waits?", channel=2)
    if not is_since(vhost.node, "4.0"):
        delivered(asker, b"waits?")
    assert asker.is_silent()
    replier.send(2, amqp.TxCommit())
    replier.expect(amqp.TxCommitOk, 2)
    if is_since(vhost.node, "4.0"):
        delivered(asker, b"waits?")
    assert asker.is_silent()


def test_a_dead_letter_is_a_reply_like_any_other(asker: Wire, replier: Wire) -> None:
    address = listen(asker)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": address, "x-message-ttl": 0}
    replier.send(2, amqp.QueueDeclare("short", exclusive=True, arguments=arguments))
    replier.expect(amqp.QueueDeclareOk, 2)
    replier.publish(2, amqp.BasicPublish("", "short"), b"dead")
    method = asker.expect(amqp.BasicDeliver, 1)
    assert (method.consumer_tag, method.routing_key) == ("replies", address)


# --------------------------------------------------------------------------- looking for an address


@pytest.mark.parametrize("passive", [True, False], ids=["passive", "not passive"])
def test_an_address_that_is_declared(vhost: Vhost, asker: Wire, replier: Wire, passive: bool) -> None:
    """That is how a replier asks whether anybody still waits."""
    address = listen(asker)
    for name in (DIRECT, address):
        replier.send(2, amqp.QueueDeclare(name, passive=passive))
        answer = replier.expect(amqp.QueueDeclareOk, 2)
        assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 0, 1)
    asker.send(1, amqp.BasicCancel("replies"))
    asker.expect(amqp.BasicCancelOk, 1)
    replier.send(2, amqp.QueueDeclare(address, passive=passive))
    text = f"NOT_FOUND - no queue '{address}' in vhost '{vhost.name}'"
    assert replier.refusal(2) == (404, text, 50, 10)


@pytest.mark.parametrize("name", [f"{DIRECT}x", f"{DIRECT}.", f"{DIRECT}.x", f"{DIRECT}.AAAA.BBBB"])
def test_a_name_that_is_no_address(vhost: Vhost, replier: Wire, name: str) -> None:
    replier.send(2, amqp.QueueDeclare(name, passive=True))
    if is_since(vhost.node, "4.0") or name.endswith("BBBB"):
        assert replier.refusal() == (541, "INTERNAL_ERROR", 0, 0)
    else:
        text = f"NOT_FOUND - no queue '{name}' in vhost '{vhost.name}'"
        assert replier.refusal(2) == (404, text, 50, 10)


@pytest.mark.parametrize(
    ("name", "crashes"),
    [
        (DIRECT, False),
        (f"{DIRECT}.", False),
        (f"{DIRECT}.garbage", False),
        (f"{DIRECT}.a.b", True),
        (f"{DIRECT}.!!!.AAAA", True),
        (f"{DIRECT}.{STRANGER}.AAAA", True),
    ],
    ids=["bare", "empty", "one part", "two parts", "no base64", "another node"],
)
def test_a_reply_to_a_forged_address(vhost: Vhost, replier: Wire, name: str, crashes: bool) -> None:
    """RabbitMQ 3 ends the connection of who believes in it."""
    reply(replier, name, b"x", mandatory=True)
    if crashes and not is_since(vhost.node, "4.0"):
        assert replier.refusal() == (541, "INTERNAL_ERROR", 0, 0)
    else:
        assert fate(replier) == RETURNED


def test_an_address_with_another_secret(vhost: Vhost, asker: Wire, replier: Wire) -> None:
    address = listen(asker)
    wrong = f"{address.rpartition('.')[0]}.{b64encode(bytes(16)).decode()}"
    reply(replier, wrong, b"x", mandatory=True)
    assert fate(replier) == (["basic.ack"] if is_since(vhost.node, "4.0") else RETURNED)
    reply(replier, address, b"right")
    delivered(asker, b"right")


def test_an_address_is_no_queue(vhost: Vhost, asker: Wire, replier: Wire) -> None:
    """RabbitMQ 4 has words of its own for what cannot be done with it."""
    address = listen(asker)
    where = f"queue '{address}' in vhost '{vhost.name}'"
    replier.send(2, amqp.QueueDelete(address), amqp.QueueDelete(DIRECT))
    assert [replier.expect(amqp.QueueDeleteOk, 2).message_count for _ in range(2)] == [0, 0]
    volatile = "cannot bind or unbind to a volatile (direct reply-to) queue"
    creator = f"only creator channel may consume from {where}"
    for method, code, text in (
        (amqp.QueueBind(address, "amq.direct", "key"), 403, f"ACCESS_REFUSED - {volatile}"),
        (amqp.BasicConsume(address, "c", no_ack=True), 406, f"PRECONDITION_FAILED - {creator}"),
        (amqp.QueuePurge(address), 0, ""),
        (amqp.BasicGet(address), 540, f"NOT_IMPLEMENTED - basic.get not supported by volatile {where}"),
    ):
        replier.send(2, method)
        if not is_since(vhost.node, "4.0"):
            code, text = 404, f"NOT_FOUND - no {where}"
        elif not code:
            assert replier.expect(amqp.QueuePurgeOk, 2).message_count == 0
            continue
        assert replier.refusal(0 if code == 540 else 2)[:2] == (code, text)
        if code != 540:
            replier.send(2, amqp.ChannelCloseOk(), amqp.ChannelOpen())
            replier.expect(amqp.ChannelOpenOk, 2)
