"""A client on a real broker: calls without channels, in their order, each with its own outcome."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.integration.support import Inbox, all_of, failure_of, is_since, numbered, outcomes, soon, until
from tests.ports import reserve_port
from txamqpx.client import Client, connect
from txamqpx.errors import (
    AccessRefused,
    ConnectionRefused,
    HostNotFound,
    NoBrokerReached,
    NoRoute,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
    TopologyError,
    VhostAccessDenied,
)
from txamqpx.lanes import KEPT
from txamqpx.message import Confirmed, Delivery
from txamqpx.params import parse_url
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.topology import Binding, Exchange, Queue, Topology


class Clients:
    """Connects clients to a virtual host for one test, and closes them after it."""

    def __init__(self, vhost: Vhost) -> None:
        self.vhost = vhost
        self.made: list[Client] = []

    async def __call__(self, **options: Any) -> Client:
        """Connect."""
        self.made.append(await soon(connect(self.vhost.url, **options)))
        return self.made[-1]

    async def end(self) -> None:
        """Close all."""
        await all_of(client.close() for client in self.made)


@pytest.fixture
def new_client(vhost: Vhost) -> Iterator[Clients]:
    """Connect clients, and close them after the test."""
    clients = Clients(vhost)
    yield clients
    pytest_twisted.blockon(Deferred.fromCoroutine(clients.end()))


@pytest.fixture
def client(new_client: Clients) -> Client:
    """Connect one client."""
    return pytest_twisted.blockon(Deferred.fromCoroutine(new_client()))


async def taken(client: Client, queue: str) -> Delivery:
    """Take a message that is there."""
    delivery = await soon(client.get(queue))
    assert delivery is not None
    return delivery


async def depth(client: Client, queue: str) -> int:
    """Return how many messages are ready in a queue."""
    return (await soon(client.queue_declare(queue, passive=True))).message_count


# --------------------------------------------------------------------------- from the beginning to the end


@pytest.mark.covers("S01")
@pytest_twisted.ensureDeferred
async def test_a_message_goes_all_the_way(new_client: Clients) -> None:
    client = await new_client()
    await client.queue_declare("test", durable=True)
    (outcome,) = await outcomes([client.publish(b"hello", routing_key="test")])
    assert isinstance(outcome, Confirmed)
    assert await depth(client, "test") == 1
    inbox = Inbox()
    consumer = await soon(client.consume("test", inbox, consumer_tag="mine"))
    assert consumer.consumer_tag == "mine"
    (delivery,) = await inbox.take()
    assert delivery.body == b"hello"
    await soon(consumer.cancel())
    await soon(client.close())
    other = await new_client()
    assert await depth(other, "test") == 0


@pytest.mark.covers("S34", "T-CLS-05")
@pytest_twisted.ensureDeferred
async def test_a_consumer_hears_once_that_the_client_is_closed(new_client: Clients) -> None:
    client = await new_client()
    client.queue_declare("q", exclusive=True)
    consumer = await soon(client.consume("q", Inbox()))
    heard: list[object] = []
    consumer.closed.addCallback(heard.append)
    await all_of(client.close() for _ in range(3))
    assert len(heard) == 1
    assert not client.is_open


@pytest.mark.covers("S33", "T-CLS-01")
@pytest_twisted.ensureDeferred
async def test_what_was_acked_and_published_before_a_close_counts(new_client: Clients) -> None:
    client = await new_client()
    await client.queue_declare("q", durable=True)
    await all_of(client.publish(body, routing_key="q") for body in numbered(100))
    deliveries = await all_of(client.get("q") for _ in range(100))
    for delivery in deliveries:
        assert delivery is not None
        delivery.ack()
    published = [client.publish(body, routing_key="q", delivery_mode=2) for body in numbered(50)]
    await soon(client.close())
    assert all(isinstance(outcome, Confirmed) for outcome in await outcomes(published))
    assert await depth(await new_client(), "q") == 50


# --------------------------------------------------------------------------- the order


@pytest.mark.covers("S02")
@pytest_twisted.ensureDeferred
async def test_a_thousand_calls_at_once_are_answered_each_with_its_own_answer(client: Client) -> None:
    names = [f"queue {number}" for number in range(1000)]
    declared = await all_of(client.queue_declare(name, exclusive=True) for name in names)
    assert [answer.queue for answer in declared] == names
    await all_of(client.queue_delete(name) for name in names)
    await until(lambda: len(client.protocol.core.channels) <= KEPT)  # the others are closed again


@pytest.mark.covers("S03")
@pytest_twisted.ensureDeferred
async def test_nobody_has_to_wait_for_one_call_before_making_the_next(client: Client) -> None:
    calls: list[Deferred[Any]] = []
    for number in range(150):
        exchange, queue = f"exchange {number}", f"queue {number}"
        calls += [
            client.exchange_declare(exchange),
            client.queue_declare(queue, exclusive=True),
            client.queue_bind(queue, exchange, "key"),
            client.publish(b"by the exchange", exchange=exchange, routing_key="key"),
            client.publish(b"directly", routing_key=queue),
            client.get(queue),
            client.get(queue),
            client.queue_delete(queue),
            client.exchange_delete(exchange, if_unused=True),
        ]
    answers = await outcomes(calls)
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    for start in range(0, len(answers), 9):
        *_, first, second, deleted, _ = answers[start : start + 9]
        assert [first.body, second.body] == [b"by the exchange", b"directly"]
        assert deleted.message_count == 0  # they were taken, though not acked


@pytest.mark.covers("S27")
@pytest_twisted.ensureDeferred
async def test_a_binding_holds_for_what_is_published_while_it_is_there(client: Client) -> None:
    for exchange in ("source", "destination"):
        client.exchange_declare(exchange, "fanout")
    for queue in ("q", "p"):
        client.queue_declare(queue, exclusive=True)
    client.queue_bind("p", "destination")
    published = [client.publish(b"a", exchange="source", mandatory=False)]
    client.exchange_bind("destination", "source")
    client.queue_bind("q", "source")
    published += [client.publish(b"b", exchange="source")]
    client.exchange_unbind("destination", "source")
    client.queue_unbind("q", "source")
    published += [client.publish(b"c", exchange="source", mandatory=False)]
    await all_of(published)
    for queue in ("q", "p"):
        assert (await taken(client, queue)).body == b"b"
        assert await soon(client.get(queue)) is None


@pytest.mark.covers("S29")
@pytest_twisted.ensureDeferred
async def test_a_purge_drops_what_was_published_before_it(client: Client) -> None:
    client.queue_declare("q", exclusive=True)
    client.publish(b"", routing_key="q")
    purged = [client.queue_purge("q"), client.queue_purge("q")]
    assert [answer.message_count for answer in await all_of(purged)] == [1, 0]


@pytest_twisted.ensureDeferred
async def test_a_topology_comes_before_what_is_published_to_it(client: Client) -> None:
    exchange, named, unnamed = Exchange.topic("events"), Queue("q", exclusive=True), Queue.temporary()
    bindings = [Binding(exchange, named, "a.*"), Binding(exchange, unnamed, "b.*")]
    declared = client.declare(Topology(exchange, named, unnamed, bindings))
    published = [client.publish(key.encode(), exchange="events", routing_key=key) for key in ("a.1", "b.2")]
    report = await soon(declared)
    await all_of(published)
    assert (await taken(client, "q")).body == b"a.1"
    assert (await taken(client, report[unnamed].queue)).body == b"b.2"


# --------------------------------------------------------------------------- taking messages


@pytest.mark.covers("S04", "S14", "S17")
@pytest_twisted.ensureDeferred
async def test_gets_take_messages_in_order_and_acks_may_come_in_any(client: Client) -> None:
    client.queue_declare("q", exclusive=True)
    for body in numbered(4):
        client.publish(body, routing_key="q")
    *deliveries, nothing = await all_of(client.get("q") for _ in range(5))
    assert nothing is None
    got = [delivery for delivery in deliveries if delivery is not None]
    assert [delivery.body for delivery in got] == numbered(4)
    assert not any(delivery.redelivered for delivery in got)
    got[2].ack()
    got[0].reject(requeue=False)
    got[3].ack()
    got[1].reject()
    again = await taken(client, "q")
    assert (again.body, again.redelivered) == (b"1", True)
    again.ack()
    assert await soon(client.get("q")) is None


@pytest.mark.covers("S05")
@pytest_twisted.ensureDeferred
async def test_three_thousand_messages_may_be_unsettled(client: Client) -> None:
    client.queue_declare("q", exclusive=True)
    await all_of(client.publish(body, routing_key="q") for body in numbered(3000))
    deliveries = await all_of(client.get("q") for _ in range(3000))
    assert [delivery and delivery.body for delivery in deliveries] == numbered(3000)
    assert len(client.protocol.core.channels) < 10
    for delivery in deliveries:
        assert delivery is not None
        delivery.ack()
    assert await soon(client.get("q")) is None


# --------------------------------------------------------------------------- errors


@pytest.mark.covers("S06", "S07")
@pytest_twisted.ensureDeferred
async def test_a_missing_exchange_concerns_only_what_was_published_to_it(client: Client) -> None:
    client.queue_declare("q", exclusive=True)
    inbox = Inbox()
    await soon(client.consume("q", inbox))
    sent = [
        client.publish(b"1", routing_key="q"),
        client.publish(b"lost", exchange="missing"),
        client.publish(b"2", routing_key="q"),
        client.publish(b"lost", exchange="missing"),
    ]
    first, missing, second, again = await outcomes(sent)
    assert isinstance(first, Confirmed)
    assert isinstance(second, Confirmed)
    for error in (missing, again):
        assert isinstance(error, NotFound)
        assert (error.reply_code, error.class_id, error.method_id) == (404, 60, 40)
        assert error.exchange == "missing"
    (outcome,) = await outcomes([client.publish(b"3", routing_key="q")])
    assert isinstance(outcome, Confirmed)
    await inbox.take(3)
    assert inbox.bodies == [b"1", b"2", b"3"]


@pytest.mark.covers("S08")
@pytest_twisted.ensureDeferred
async def test_a_message_that_reaches_no_queue_comes_back(client: Client) -> None:
    properties = BasicProperties(type="t", headers={"a": 1})
    error = await failure_of(client.publish(b"body", routing_key="q", properties=properties), NoRoute)
    assert error.reply_code == 312
    assert (error.message.body, error.message.properties) == (b"body", properties)
    client.queue_declare("q", exclusive=True)
    (outcome,) = await outcomes([client.publish(b"body", routing_key="q")])
    assert isinstance(outcome, Confirmed)


@pytest.mark.covers("S26")
@pytest_twisted.ensureDeferred
async def test_a_declare_that_does_not_fit_fails_alone(client: Client) -> None:
    client.queue_declare("q", exclusive=True)
    client.exchange_declare("x")
    answers = await outcomes(
        [
            client.queue_declare("q", auto_delete=True, exclusive=True),
            client.queue_declare("q", exclusive=True, arguments={"x-max-length": 1}),
            client.queue_declare("q", exclusive=True),
            client.exchange_declare("x", "fanout"),
            client.exchange_declare("x", durable=True),
            client.exchange_declare("x"),
        ]
    )
    wrong = [type(answer) for answer in answers if isinstance(answer, Exception)]
    assert wrong == [PreconditionFailed] * 4
    assert [answer.argument for answer in answers[:2]] == ["auto_delete", "x-max-length"]
    assert answers[2].queue == "q"


@pytest.mark.covers("S24")
@pytest_twisted.ensureDeferred
async def test_what_another_has_for_himself_is_refused(new_client: Clients) -> None:
    client, other = await new_client(), await new_client()
    await client.queue_declare("mine", exclusive=True)
    error = await failure_of(other.queue_declare("mine", passive=True), ResourceLocked)
    assert (error.reply_code, error.queue) == (405, "mine")
    await client.queue_declare("q", durable=True)
    await soon(client.consume("q", Inbox(), exclusive=True))
    refused = await failure_of(client.consume("q", Inbox()), AccessRefused)
    assert refused.reply_code == 403


@pytest.mark.covers("S28")
@pytest_twisted.ensureDeferred
async def test_what_is_missing_cannot_be_used_but_can_be_deleted(client: Client) -> None:
    await failure_of(client.consume("missing", Inbox()), NotFound)
    gets = await outcomes(client.get("missing") for _ in range(20))
    assert {type(answer) for answer in gets} == {NotFound}
    assert (await soon(client.queue_delete("missing"))).message_count == 0
    await soon(client.exchange_delete("missing"))


@pytest.mark.covers("S59")
@pytest_twisted.ensureDeferred
async def test_a_condition_that_is_not_met_fails_alone(client: Client) -> None:
    client.queue_declare("q", durable=True)
    for body in numbered(3):
        client.publish(body, routing_key="q")
    consumer = await soon(client.consume("q", lambda delivery: Deferred(), prefetch=1))
    await failure_of(client.queue_delete("q", if_unused=True), PreconditionFailed)
    await soon(consumer.cancel(0))
    await until_ready(client, "q", 3)
    await failure_of(client.queue_delete("q", if_empty=True), PreconditionFailed)
    assert (await soon(client.queue_delete("q"))).message_count == 3


async def until_ready(client: Client, queue: str, count: int) -> None:
    counts: list[int] = []

    def is_ready() -> bool:
        answer = client.queue_declare(queue, passive=True)
        answer.addCallback(lambda declared: counts.append(declared.message_count))
        return counts[-1:] == [count]

    await until(is_ready)


@pytest_twisted.ensureDeferred
async def test_many_calls_that_fail_each_have_their_own_error(client: Client) -> None:
    answers = await outcomes(client.queue_declare(f"queue {number}", passive=True) for number in range(200))
    assert [answer.queue for answer in answers] == [f"queue {number}" for number in range(200)]
    assert {type(answer) for answer in answers} == {NotFound}


@pytest.mark.covers("T-CH-11")
@pytest_twisted.ensureDeferred
async def test_what_would_cost_the_connection_is_not_sent(client: Client) -> None:
    with pytest.raises(TopologyError):
        client.queue_declare("q", durable=True, arguments={"x-max-priority": 256})
    await soon(client.queue_declare("q", exclusive=True))


# --------------------------------------------------------------------------- transactions


@pytest.mark.covers("S55")
@pytest_twisted.ensureDeferred
async def test_a_transaction_takes_effect_as_a_whole_or_not_at_all(client: Client) -> None:
    for queue in ("in", "out"):
        client.queue_declare(queue, durable=True)
    client.publish(b"work", routing_key="in")

    async def work(*, fail: bool) -> None:
        async with client.transaction() as tx:
            delivery = await tx.get("in")
            assert delivery is not None
            tx.publish(b"result", routing_key="out")
            delivery.ack()
            assert await depth(client, "out") == 0
            if fail:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work(fail=True)
    await until_ready(client, "in", 1)
    assert await depth(client, "out") == 0
    await work(fail=False)
    assert (await taken(client, "out")).body == b"result"
    assert await depth(client, "in") == 0
    with pytest.raises(NotFound, match="missing"):
        async with client.transaction() as tx:
            tx.publish(b"", exchange="missing")


# --------------------------------------------------------------------------- connecting


@pytest.mark.covers("S30")
@pytest_twisted.ensureDeferred
async def test_the_first_broker_that_answers_is_taken(vhost: Vhost) -> None:
    reserved = reserve_port()
    nobody = f"amqp://127.0.0.1:{reserved.getsockname()[1]}"
    client = await soon(connect([nobody, "amqp://nowhere.invalid", vhost.url]))
    await soon(client.queue_declare("q", exclusive=True))
    await soon(client.close())
    error = await failure_of(
        connect([nobody, "amqp://nowhere.invalid", vhost.node.url("missing")]), NoBrokerReached
    )
    assert [type(one) for one in error.errors] == [ConnectionRefused, HostNotFound, VhostAccessDenied]
    reserved.close()


@pytest.mark.covers("S32")
@pytest_twisted.ensureDeferred
async def test_the_broker_is_told_who_we_are_and_tells_who_it_is(vhost: Vhost) -> None:
    parameters = attrs.evolve(parse_url(vhost.url), client_properties={"purpose": "a test"})
    client = await soon(connect(parameters))
    assert client.server.product == "RabbitMQ"
    assert client.server.version == vhost.node.version
    assert is_since(vhost.node, ".".join(map(str, client.server.version_info[:2])))
    assert {"publisher_confirms", "basic.nack"} <= client.server.capabilities
    assert client.server.cluster_name
    (told,) = vhost.node.client_properties(vhost.name)
    assert told["purpose"] == "a test"
    await soon(client.close())


@pytest.mark.covers("S35")
@pytest_twisted.ensureDeferred
async def test_without_confirms_a_publish_is_done_when_it_is_written(new_client: Clients) -> None:
    assert (await new_client()).confirms
    client = await new_client(confirms=False)
    client.queue_declare("q", exclusive=True)
    assert await soon(client.publish(b"body", routing_key="q")) is None
    assert await soon(client.publish(b"lost", routing_key="missing")) is None
    await until_ready(client, "q", 1)


@pytest.mark.covers("S97")
@pytest_twisted.ensureDeferred
async def test_all_of_a_program_is_one_connection(client: Client, vhost: Vhost) -> None:
    inboxes = {name: Inbox() for name in ("work", "events")}
    for name, inbox in inboxes.items():
        client.queue_declare(name, exclusive=True)
        await soon(client.consume(name, inbox))
    for name, inbox in inboxes.items():
        await soon(client.publish(name.encode(), routing_key=name))
        await inbox.take()
        assert inbox.bodies == [name.encode()]
    mine = [row for row in vhost.node.list_connections() if row["vhost"] == vhost.name]
    assert len(mine) == 1
    assert mine[0]["channels"] == len(client.protocol.core.channels) > 3
