from __future__ import annotations

import inspect
from typing import Any, assert_type, get_type_hints

import pytest
from twisted.internet.defer import Deferred

from txamqpx.channel import Channel
from txamqpx.channel_methods import ChannelMethods
from txamqpx.message import Confirmed, Delivery
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1
from txamqpx.testing import ScriptedPeer, scripted, success_of

CALLS: dict[str, tuple[dict[str, Any], Method, Method]] = {
    "access_request": (
        {"realm": "/data", "exclusive": True, "passive": True, "active": True, "write": True, "read": True},
        amqp.AccessRequest("/data", True, True, True, True, True),
        amqp.AccessRequestOk(1),
    ),
    "exchange_declare": (
        {
            "exchange": "e",
            "type": "topic",
            "passive": True,
            "durable": True,
            "auto_delete": True,
            "internal": True,
            "arguments": {"alternate-exchange": "a"},
        },
        amqp.ExchangeDeclare(
            "e",
            "topic",
            passive=True,
            durable=True,
            auto_delete=True,
            internal=True,
            arguments={"alternate-exchange": "a"},
        ),
        amqp.ExchangeDeclareOk(),
    ),
    "exchange_delete": (
        {"exchange": "e", "if_unused": True},
        amqp.ExchangeDelete("e", True),
        amqp.ExchangeDeleteOk(),
    ),
    "exchange_bind": (
        {"destination": "d", "source": "s", "routing_key": "k", "arguments": {"x": 1}},
        amqp.ExchangeBind("d", "s", "k", arguments={"x": 1}),
        amqp.ExchangeBindOk(),
    ),
    "exchange_unbind": (
        {"destination": "d", "source": "s", "routing_key": "k", "arguments": {"x": 1}},
        amqp.ExchangeUnbind("d", "s", "k", arguments={"x": 1}),
        amqp.ExchangeUnbindOk(),
    ),
    "queue_declare": (
        {
            "queue": "q",
            "passive": True,
            "durable": True,
            "exclusive": True,
            "auto_delete": True,
            "arguments": {"x": 1},
        },
        amqp.QueueDeclare(
            "q", passive=True, durable=True, exclusive=True, auto_delete=True, arguments={"x": 1}
        ),
        amqp.QueueDeclareOk("q", 1, 2),
    ),
    "queue_bind": (
        {"queue": "q", "exchange": "e", "routing_key": "k", "arguments": {"x": 1}},
        amqp.QueueBind("q", "e", "k", arguments={"x": 1}),
        amqp.QueueBindOk(),
    ),
    "queue_purge": ({"queue": "q"}, amqp.QueuePurge("q"), amqp.QueuePurgeOk(3)),
    "queue_delete": (
        {"queue": "q", "if_unused": True, "if_empty": True},
        amqp.QueueDelete("q", True, True),
        amqp.QueueDeleteOk(3),
    ),
    "queue_unbind": (
        {"queue": "q", "exchange": "e", "routing_key": "k", "arguments": {"x": 1}},
        amqp.QueueUnbind("q", "e", "k", arguments={"x": 1}),
        amqp.QueueUnbindOk(),
    ),
    "confirm_select": ({}, amqp.ConfirmSelect(), amqp.ConfirmSelectOk()),
    "tx_select": ({}, amqp.TxSelect(), amqp.TxSelectOk()),
    "tx_commit": ({}, amqp.TxCommit(), amqp.TxCommitOk()),
    "tx_rollback": ({}, amqp.TxRollback(), amqp.TxRollbackOk()),
}

PUBLIC = sorted(name for name in vars(ChannelMethods) if not name.startswith("_"))


@pytest.fixture
def peer() -> ScriptedPeer:
    peer = scripted()
    peer.open()
    return peer


def test_every_call_is_in_the_table() -> None:
    assert sorted(CALLS) == PUBLIC


@pytest.mark.covers("T03", "T11")
@pytest.mark.parametrize("name", PUBLIC)
def test_a_call_sends_its_method_and_fires_with_the_answer(name: str, peer: ScriptedPeer) -> None:
    arguments, method, answer = CALLS[name]
    channel = peer.open_channel()
    if name in ("tx_commit", "tx_rollback"):
        channel.tx_select()
        peer.expect(amqp.TxSelect)
        peer.send(1, amqp.TxSelectOk())
    called = getattr(channel, name)(**arguments)
    peer.expect(method, 1)
    peer.send(1, answer)
    assert success_of(called) == answer


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.startswith("tx_")])
def test_a_call_without_arguments_sends_the_methods_own_defaults(name: str, peer: ScriptedPeer) -> None:
    channel = peer.open_channel()
    getattr(channel, name)()
    peer.expect(type(CALLS[name][1])(), 1)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_flags_are_keywords_and_every_call_is_described(name: str) -> None:
    call = getattr(ChannelMethods, name)
    _, method, answer = CALLS[name]
    assert call.__doc__ == f"Send ``{method.name}``; fires with ``{answer.name}``."
    for parameter in inspect.signature(call).parameters.values():
        if isinstance(parameter.default, bool):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    kind: Any = type(answer)
    assert get_type_hints(call)["return"] == Deferred[kind]


@pytest.mark.covers("T-CH-07", "T-CH-10", "T-CH-11")
def test_no_call_lets_a_failure_hit_somebody_else_or_asks_for_what_closes_the_connection() -> None:
    for name in dir(Channel):
        if not name.startswith("_") and callable(getattr(Channel, name)):
            parameters = inspect.signature(getattr(Channel, name)).parameters
            assert not {"no_wait", "nowait", "immediate", "prefetch_size"} & set(parameters), name
    assert not hasattr(Channel, "channel_flow")
    assert "requeue" not in inspect.signature(Channel.basic_recover).parameters


def test_whatever_a_client_may_send_on_a_channel_has_a_call() -> None:
    for method in AMQP_0_9_1.methods.values():
        klass, _, rest = method.name.partition(".")
        if method.to_server and klass not in ("connection", "channel") and not rest.endswith("-ok"):
            call = method.name.replace(".", "_").replace("-", "_")
            assert hasattr(Channel, call) or rest == "recover-async", method.name  # deprecated, unanswered


def types_of_what_calls_return(channel: Channel) -> None:
    """Hold the types of the calls: mypy checks it, nobody runs it."""
    assert_type(channel.queue_declare("q"), Deferred[amqp.QueueDeclareOk])
    assert_type(channel.exchange_bind("a", "b"), Deferred[amqp.ExchangeBindOk])
    assert_type(channel.call(amqp.QueuePurge("q")), Deferred[amqp.QueuePurgeOk])
    assert_type(
        channel.call(amqp.BasicGet("q")),
        Deferred[amqp.BasicGetOk | amqp.BasicGetEmpty],
    )
    assert_type(channel.basic_get("q"), Deferred[Delivery | None])
    assert_type(channel.basic_publish(b""), Deferred[Confirmed | None])
    assert_type(channel.basic_consume("q"), Deferred[amqp.BasicConsumeOk])
    assert_type(channel.basic_cancel("c"), Deferred[amqp.BasicCancelOk])
    assert_type(channel.basic_qos(1), Deferred[amqp.BasicQosOk])
    assert_type(channel.close(), Deferred[None])
    channel.call(amqp.QueueDeclareOk("q", 0, 0))  # type: ignore[arg-type]  # nothing answers an answer
    channel.queue_declare("q", True)  # type: ignore[call-arg]  # flags are keywords


@pytest.mark.covers("T03")
async def types_of_what_calls_come_to(channel: Channel) -> None:
    """Hold the types of the answers."""
    assert_type(await channel.queue_declare("q"), amqp.QueueDeclareOk)
    assert_type((await channel.queue_declare("q")).message_count, int)
    assert_type(await channel.basic_get("q"), Delivery | None)
