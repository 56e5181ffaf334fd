"""What a user may not do is refused on the channel, in the broker's own words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.integration.support import is_since
from tests.integration.wire import Wire, plain
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

CONFIGURE, WRITE, READ = "configure", "write", "read"


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wire]:
    """Come in as a user who may configure `c…`, write to `w…`, read from `r…`, and do all with `all…`."""
    node = vhost.node
    node.add_user("clerk", "pw")
    node.set_permissions("clerk", vhost.name, configure="^all|^c", write="^all|^w", read="^all|^r")
    with Wire(node) as owner:
        owner.open(vhost.name, 1)
        for name in ("rq", "wq", "xq"):
            owner.send(1, amqp.QueueDeclare(name, durable=True))
            owner.expect(amqp.QueueDeclareOk, 1)
        for name in ("rx", "wx", "xx"):
            owner.send(1, amqp.ExchangeDeclare(name, "topic", durable=True))
            owner.expect(amqp.ExchangeDeclareOk, 1)
        owner.send(1, amqp.ExchangeDeclare("wint", "topic", durable=True, internal=True))
        owner.expect(amqp.ExchangeDeclareOk, 1)
    with Wire(node) as connected:
        yield connected.open(vhost.name, 1, response=plain("clerk", "pw"))
    node.delete_user("clerk")


def refused(vhost: Vhost, right: str, what: str) -> str:
    right = f"{right} access" if is_since(vhost.node, "4.0") else "access"
    return f"ACCESS_REFUSED - {right} to {what} in vhost '{vhost.name}' refused for user 'clerk'"[:255]


CASES: list[tuple[Method, str, str]] = [
    (amqp.QueueDeclare("other"), CONFIGURE, "queue 'other'"),
    (amqp.QueueDeclare("rq", durable=True), CONFIGURE, "queue 'rq'"),
    (amqp.QueueDelete("rq"), CONFIGURE, "queue 'rq'"),
    (amqp.QueueDelete("missing"), CONFIGURE, "queue 'missing'"),
    (amqp.QueuePurge("wq"), READ, "queue 'wq'"),
    (amqp.QueuePurge("missing"), READ, "queue 'missing'"),
    (amqp.QueueBind("xq", "rx", "k"), WRITE, "queue 'xq'"),
    (amqp.QueueBind("wq", "wx", "k"), READ, "exchange 'wx'"),
    (amqp.QueueBind("missing", "rx", "k"), WRITE, "queue 'missing'"),
    (amqp.QueueUnbind("xq", "rx", "k"), WRITE, "queue 'xq'"),
    (amqp.QueueUnbind("wq", "wx", "k"), READ, "exchange 'wx'"),
    (amqp.BasicGet("wq"), READ, "queue 'wq'"),
    (amqp.BasicGet("missing"), READ, "queue 'missing'"),
    (amqp.BasicConsume("wq", "t"), READ, "queue 'wq'"),
    (amqp.ExchangeDeclare("other", "direct"), CONFIGURE, "exchange 'other'"),
    (amqp.ExchangeDelete("wx"), CONFIGURE, "exchange 'wx'"),
    (amqp.ExchangeBind("xx", "rx", "k"), WRITE, "exchange 'xx'"),
    (amqp.ExchangeBind("wx", "xx", "k"), READ, "exchange 'xx'"),
    (amqp.ExchangeUnbind("xx", "rx", "k"), WRITE, "exchange 'xx'"),
    (amqp.BasicPublish("xx", "k"), WRITE, "exchange 'xx'"),
    (amqp.BasicPublish("missing", "k"), WRITE, "exchange 'missing'"),
    (amqp.BasicPublish("", "wq"), WRITE, "exchange 'amq.default'"),
    (amqp.QueueDeclare("all", arguments={"x-dead-letter-exchange": "xx"}), WRITE, "exchange 'xx'"),
    (amqp.QueueDeclare("c", arguments={"x-dead-letter-exchange": "wx"}), READ, "queue 'c'"),
    (amqp.ExchangeDeclare("all", "topic", arguments={"alternate-exchange": "xx"}), WRITE, "exchange 'xx'"),
    (amqp.ExchangeDeclare("c", "topic", arguments={"alternate-exchange": "wx"}), READ, "exchange 'c'"),
]


@pytest.mark.covers("T-CH-11")
@pytest.mark.parametrize(("method", "right", "what"), CASES, ids=lambda one: getattr(one, "name", str(one)))
def test_what_is_refused(vhost: Vhost, wire: Wire, method: Method, right: str, what: str) -> None:
    if isinstance(method, amqp.BasicPublish):
        wire.publish(1, method)
    else:
        wire.send(1, method)
    text = refused(vhost, right, what)
    assert wire.refusal(1) == (403, text, method.index >> 16, method.index & 0xFFFF)
    wire.send(1, amqp.ChannelCloseOk(), amqp.ChannelOpen())
    wire.expect(amqp.ChannelOpenOk, 1)


@pytest.mark.parametrize(
    "method",
    [
        amqp.QueueDeclare("all", exclusive=True, arguments={"x-dead-letter-exchange": "wx"}),
        amqp.ExchangeDeclare("all", "topic", arguments={"alternate-exchange": "wx"}),
        amqp.QueueBind("wq", "rx", "k"),
        amqp.ExchangeBind("wx", "rx", "k"),
        amqp.BasicGet("rq"),
        amqp.QueuePurge("rq"),
        amqp.QueueDelete("call"),
    ],
    ids=lambda method: method.name,
)
def test_what_is_not(wire: Wire, method: Method) -> None:
    wire.send(1, method)
    heard = wire.hear()
    assert heard is not None
    assert heard[1].name.endswith(("-ok", "-empty"))


@pytest.mark.parametrize(("name", "allowed"), [("rq", True), ("wq", True), ("xq", False), ("missing", False)])
def test_to_look_takes_any_right_or_none(
    vhost: Vhost, wire: Wire, broker: BrokerNode, name: str, allowed: bool
) -> None:
    wire.send(1, amqp.QueueDeclare(name, passive=True))
    if is_since(broker, "4.0") and not allowed:
        assert wire.refusal(1)[:2] == (403, refused(vhost, CONFIGURE, f"queue '{name}'"))
    elif name == "missing":
        assert wire.refusal(1)[0] == 404
    else:
        wire.expect(amqp.QueueDeclareOk, 1)


def test_a_name_that_the_broker_makes_is_a_name(vhost: Vhost, wire: Wire) -> None:
    wire.send(1, amqp.QueueDeclare("", exclusive=True))
    code, text, *_ = wire.refusal(1)
    assert code == 403
    assert "queue 'amq.gen-" in text


def test_nobody_publishes_to_an_internal_exchange(vhost: Vhost, wire: Wire) -> None:
    wire.publish(1, amqp.BasicPublish("wint", "k"))
    text = f"ACCESS_REFUSED - cannot publish to internal exchange 'wint' in vhost '{vhost.name}'"
    assert wire.refusal(1)[:2] == (403, text[:255])


def test_nobody_publishes_in_anothers_name(wire: Wire) -> None:
    wire.publish(1, amqp.BasicPublish("wx", "k"), user_id="guest")
    text = "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'clerk'"
    assert wire.refusal(1) == (406, text, 60, 40)


def test_the_right_to_see_the_exchange_comes_before_the_exchange(vhost: Vhost, wire: Wire) -> None:
    wire.publish(1, amqp.BasicPublish("wmissing", "k"))
    text = f"NOT_FOUND - no exchange 'wmissing' in vhost '{vhost.name}'"
    assert wire.refusal(1)[:2] == (404, text)
