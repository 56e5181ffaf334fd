from __future__ import annotations

from operator import methodcaller as calling
from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.talk import opened
from txamqpx.client import Client
from txamqpx.declaration import MOST_WARNINGS
from txamqpx.errors import (
    ConnectionLost,
    EncodeError,
    InvalidParameter,
    PreconditionFailed,
    RPCTimeout,
    TopologyError,
)
from txamqpx.spec.amqp0_9_1 import (
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ExchangeBind,
    ExchangeBindOk,
    ExchangeDeclare,
    ExchangeDeclareOk,
    ExchangeDelete,
    ExchangeDeleteOk,
    ExchangeUnbind,
    ExchangeUnbindOk,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
    QueueUnbind,
    QueueUnbindOk,
)
from txamqpx.spec.base import Method
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, success_of
from txamqpx.topology import Binding, Exchange, Queue, Topology

TABLE = {"x-match": "any"}


@pytest.fixture
def peer() -> ScriptedPeer:
    return opened()


@pytest.fixture
def client(peer: ScriptedPeer) -> Client:
    return Client(peer.protocol)


def answer(peer: ScriptedPeer, wanted: Method, reply: Method) -> int:
    """Expect a method, on a fresh channel or not, and answer it."""
    peer.wire.pump()
    if isinstance(peer.heard[0].method, ChannelOpen):
        peer.send(peer.expect(ChannelOpen).channel, ChannelOpenOk())
    number = peer.expect(wanted).channel
    peer.send(number, reply)
    return number


@pytest.mark.parametrize(
    ("call", "method", "reply"),
    [
        (
            calling("exchange_declare", "x"),
            ExchangeDeclare("x", "direct", False, False, False, False),
            ExchangeDeclareOk(),
        ),
        (
            calling(
                "exchange_declare",
                "x",
                "topic",
                durable=True,
                auto_delete=True,
                internal=True,
                arguments={"a": 1},
            ),
            ExchangeDeclare("x", "topic", False, True, True, True, arguments={"a": 1}),
            ExchangeDeclareOk(),
        ),
        (
            calling("exchange_declare", "x", passive=True),
            ExchangeDeclare("x", "direct", True),
            ExchangeDeclareOk(),
        ),
        (calling("exchange_delete", "x"), ExchangeDelete("x"), ExchangeDeleteOk()),
        (
            calling("exchange_delete", "x", if_unused=True),
            ExchangeDelete("x", True),
            ExchangeDeleteOk(),
        ),
        (
            calling("exchange_bind", "to", "from", "k", arguments=TABLE),
            ExchangeBind("to", "from", "k", arguments=TABLE),
            ExchangeBindOk(),
        ),
        (
            calling("exchange_unbind", "to", "from", "k", arguments=TABLE),
            ExchangeUnbind("to", "from", "k", arguments=TABLE),
            ExchangeUnbindOk(),
        ),
        (calling("queue_declare"), QueueDeclare(""), QueueDeclareOk("amq.gen-1", 0, 0)),
        (
            calling(
                "queue_declare",
                "q",
                durable=True,
                exclusive=True,
                auto_delete=True,
                arguments={"x-expires": 5},
            ),
            QueueDeclare("q", False, True, True, True, arguments={"x-expires": 5}),
            QueueDeclareOk("q", 0, 0),
        ),
        (
            calling("queue_declare", "q", passive=True),
            QueueDeclare("q", True),
            QueueDeclareOk("q", 3, 1),
        ),
        (calling("queue_delete", "q"), QueueDelete("q"), QueueDeleteOk(3)),
        (
            calling("queue_delete", "q", if_unused=True, if_empty=True),
            QueueDelete("q", True, True),
            QueueDeleteOk(0),
        ),
        (calling("queue_purge", "q"), QueuePurge("q"), QueuePurgeOk(2)),
        (
            calling("queue_bind", "q", "x", "k", arguments=TABLE),
            QueueBind("q", "x", "k", arguments=TABLE),
            QueueBindOk(),
        ),
        (
            calling("queue_unbind", "q", "x", "k", arguments=TABLE),
            QueueUnbind("q", "x", "k", arguments=TABLE),
            QueueUnbindOk(),
        ),
        (
            calling("declare", Exchange("x", durable=False)),
            ExchangeDeclare("x"),
            ExchangeDeclareOk(),
        ),
        (
            calling("declare", Queue("q")),
            QueueDeclare("q", durable=True),
            QueueDeclareOk("q", 0, 0),
        ),
        (
            calling("declare", Binding.to_queue("x", "q", "k")),
            QueueBind("q", "x", "k"),
            QueueBindOk(),
        ),
        (
            calling("declare", Binding.to_exchange("x", "y")),
            ExchangeBind("y", "x"),
            ExchangeBindOk(),
        ),
    ],
    ids=repr,
)
def test_a_call_sends_its_method_and_gives_the_answer(
    peer: ScriptedPeer, client: Client, call: calling, method: Method, reply: Method
) -> None:
    answered = call(client)
    answer(peer, method, reply)
    assert success_of(answered) == reply


@pytest.mark.parametrize(
    "call",
    [
        calling("queue_declare", "", passive=True),
        calling("queue_delete", ""),
        calling("queue_purge", ""),
        calling("queue_bind", "", "x"),
        calling("queue_unbind", "", "x"),
        calling("get", ""),
    ],
    ids=repr,
)
def test_a_queue_that_was_declared_last_on_no_channel_is_refused(
    peer: ScriptedPeer, client: Client, call: calling
) -> None:
    with pytest.raises(InvalidParameter, match="queue: needs a name"):
        call(client)
    peer.expect_nothing()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (calling("queue_declare", "amq.mine"), TopologyError),
        (calling("queue_declare", "q", arguments={"x-expires": 0}), TopologyError),
        (calling("queue_delete", "q" * 256), EncodeError),
        (calling("declare", Binding("x", Queue.temporary())), TopologyError),
    ],
    ids=repr,
)
def test_what_the_broker_would_refuse_is_refused_before(
    peer: ScriptedPeer, client: Client, call: calling, error: type[Exception]
) -> None:
    with pytest.raises(error):
        call(client)
    peer.expect_nothing()


def test_a_warning_is_logged_once_and_so_many_at_most(peer: ScriptedPeer, client: Client) -> None:
    with capturedLogs() as events:
        for _ in range(2):
            client.queue_declare("q", arguments={"x-ha-policy": "all"})
        for number in range(MOST_WARNINGS):
            client.queue_declare(f"q{number}", arguments={"x-ha-policy": "all"})
    warnings = [event for event in events if event["log_level"] is LogLevel.warn]
    assert len(warnings) == MOST_WARNINGS
    text = formatEvent(warnings[0])
    assert text.startswith("queue 'q', x-ha-policy: is ignored since RabbitMQ 3.0")
    assert "warning" not in warnings[0]  # which trial's reporter would take for one of Python's


@pytest.mark.parametrize(
    ("allowed", "product"), [(False, "RabbitMQ"), (True, "RabbitMQ"), (False, "another")]
)
def test_what_is_deprecated_is_refused_where_it_is_not_allowed(
    peer: ScriptedPeer, allowed: bool, product: str
) -> None:
    peer.protocol.core.server_properties = {"product": product, "version": "4.0.1"}
    client = Client(peer.protocol, allow_deprecated=allowed)
    if allowed or product == "another":
        assert is_pending(client.queue_declare("q"))
    else:
        with pytest.raises(TopologyError, match="deprecated"):
            client.queue_declare("q")


# --------------------------------------------------------------------------- topologies


def test_a_topology_is_declared_with_the_names_that_the_broker_gives(
    peer: ScriptedPeer, client: Client
) -> None:
    exchange, named, unnamed = Exchange("x"), Queue("q"), Queue.temporary()
    bindings = [
        Binding(exchange, unnamed, "a"),
        Binding(exchange, named, "b"),
        Binding(exchange, unnamed, "c"),
    ]
    declared = client.declare(Topology(exchange, named, unnamed, bindings))
    deleted = client.exchange_delete("x")
    answer(peer, exchange.method(), ExchangeDeclareOk())
    answer(peer, named.method(), QueueDeclareOk("q", 0, 0))
    assert is_pending(declared)
    assert answer(peer, unnamed.method(), QueueDeclareOk("amq.gen-1", 0, 0)) == 3
    sent = [peer.heard.popleft() for _ in range(len(peer.heard))]
    assert sorted(heard.method.queue for heard in sent) == ["amq.gen-1", "amq.gen-1", "q"]
    for heard in sent:
        peer.send(heard.channel, QueueBindOk())
    report = success_of(declared)
    assert list(report) == [exchange, named, unnamed, *bindings]
    assert report[unnamed].queue == "amq.gen-1"
    # What was called after it comes after all of it.
    assert is_pending(deleted)
    answer(peer, ExchangeDelete("x"), ExchangeDeleteOk())
    assert success_of(deleted) == ExchangeDeleteOk()


def test_of_a_topology_all_is_made_that_can_be_and_each_error_is_told(
    peer: ScriptedPeer, client: Client
) -> None:
    topology = Topology(Exchange("x"), Queue("q"), Queue("p"))
    declared = Watched(client.declare(topology))
    sent: list[tuple[int, Method]] = []
    for _ in range(2):
        number = peer.expect(ChannelOpen).channel
        peer.send(number, ChannelOpenOk())
        sent.append((number, peer.expect(Method, number).method))
    answer(peer, QueueDeclare("p", durable=True), QueueDeclareOk("p", 0, 0))
    for (number, method), name in zip(sent, "xq", strict=True):
        assert declared.pending
        text = f"inequivalent arg 'durable' for '{name}'"
        peer.send(number, ChannelClose(406, text, method.index >> 16, method.index & 0xFFFF))
        peer.expect(ChannelCloseOk)
    error = declared.error(PreconditionFailed)
    assert "'x'" in str(error)
    (note,) = error.__notes__
    assert note.startswith("and queue 'q': 406 inequivalent")


def test_a_binding_fails_with_the_queue_that_it_was_for(peer: ScriptedPeer, client: Client) -> None:
    queue = Queue.temporary()
    declared = client.declare(Topology(queue, Binding("x", queue)))
    peer.hang_up()
    error = failure_of(declared, ConnectionLost)
    assert len(error.__notes__) == 1
    assert not client.operations.busy


def test_a_binding_that_is_given_up_needs_no_name() -> None:
    peer = opened(rpc_timeout=5.0)
    client = Client(peer.protocol)
    queue = Queue.temporary()
    declared = client.declare(Topology(queue, Binding("x", queue)))
    peer.advance(5.0)
    failure_of(declared, RPCTimeout)
    answer(peer, queue.method(), QueueDeclareOk("amq.gen-1", 0, 0))
    peer.expect_nothing()
    assert not client.operations.busy


def test_nothing_of_a_topology_is_sent_if_a_queue_is_missing_that_the_broker_would_name(
    peer: ScriptedPeer, client: Client
) -> None:
    exchange, queue, other = Exchange("x"), Queue.temporary(), Queue.temporary()
    with pytest.raises(TopologyError, match="declare it first"):
        client.declare(Topology(exchange, queue, Binding(exchange, queue), Binding(exchange, other)))
    peer.expect_nothing()
    assert not client.operations.busy


@pytest.mark.parametrize("thing", ["q", None, [Queue("q")]])
def test_only_values_are_declared(client: Client, thing: Any) -> None:
    with pytest.raises(TypeError):
        client.declare(thing)


def test_nothing_of_a_topology_is_sent_if_some_of_it_would_be_refused(peer: ScriptedPeer) -> None:
    peer.protocol.core.server_properties = {"product": "RabbitMQ", "version": "4.3.0"}
    client = Client(peer.protocol, allow_deprecated=False)
    with pytest.raises(TopologyError):
        client.declare(Topology(Exchange("x"), Queue("q", durable=False)))
    peer.expect_nothing()
