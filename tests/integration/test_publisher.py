"""A real broker, and what the publisher says became of each message."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.faults import FaultProxy
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    all_of,
    failure_of,
    lasting,
    numbered,
    outcomes,
    pause,
    soon,
    until,
)
from txamqpx.client import Client
from txamqpx.errors import (
    AccessRefused,
    EncodeError,
    GateTimeout,
    Nacked,
    NoRoute,
    NotFound,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed, Delivery


@pytest.fixture
def client(connect: Connector) -> Client:
    """Connect to the test's virtual host."""
    return Client(pytest_twisted.blockon(Deferred.fromCoroutine(connect())))


async def take(client: Client, queue: str) -> Delivery:
    """Take a message that is there."""
    delivery = await client.get(queue, no_ack=True)
    assert delivery is not None
    return delivery


async def bodies_in(client: Client, queue: str) -> list[bytes]:
    """Take all messages out of a queue, and return their bodies."""
    bodies = []
    while (delivery := await client.get(queue, no_ack=True)) is not None:
        bodies.append(delivery.body)
    return bodies


async def depth(client: Client, queue: str) -> int:
    """Return how many messages are ready in a queue."""
    return (await client.queue_declare(queue, passive=True)).message_count


# --------------------------------------------------------------------------- missing exchanges


@pytest.mark.covers("S06", "P25", "T-PUB-10")
@pytest_twisted.ensureDeferred
async def test_a_missing_exchange_harms_nobody_else(client: Client) -> None:
    await client.queue_declare("jobs")
    inbox = Inbox()
    consumer = await client.channel()
    await consumer.basic_consume("jobs", inbox, no_ack=True)
    for _ in range(2):
        error = await failure_of(client.publish(b"lost", exchange="gone"), NotFound)
        assert (error.reply_code, error.operation, error.exchange) == (404, "basic.publish", "gone")
    both = [client.publish(b"lost", exchange="gone") for _ in range(2)]
    assert [type(one) for one in await outcomes(both)] == [NotFound, NotFound]
    await client.publish(b"found", routing_key="jobs")
    await inbox.take()
    assert inbox.bodies == [b"found"]
    assert client.is_open


@pytest.mark.covers("S07", "P25", "T-PUB-07")
@pytest_twisted.ensureDeferred
async def test_good_bad_and_good_end_as_they_should(client: Client) -> None:
    await client.queue_declare("jobs")
    published = [
        client.publish(b"1", routing_key="jobs"),
        client.publish(b"2", exchange="gone"),
        client.publish(b"3", routing_key="jobs"),
    ]
    assert [type(one) for one in await outcomes(published)] == [Confirmed, NotFound, Confirmed]
    assert isinstance(await client.publish(b"4", routing_key="jobs"), Confirmed)
    assert await bodies_in(client, "jobs") == [b"1", b"3", b"4"]


@pytest.mark.covers("T-PUB-07", "T-PUB-10")
@pytest_twisted.ensureDeferred
async def test_an_exchange_that_is_deleted_meanwhile_costs_nobody_his_outcome(
    client: Client, connect: Connector
) -> None:
    """Whom the broker confirms it has, whom we call not published it has not, and the order is kept."""
    await client.queue_declare("jobs")
    await client.exchange_declare("logs", "fanout")
    await client.queue_bind("jobs", "logs")
    publisher = client.publisher()
    other = Client(await connect())
    await all_of(
        [publisher.publish(b"first", exchange="logs"), publisher.publish(b"first", routing_key="jobs")]
    )
    published = []
    for number, body in enumerate(numbered(300)):
        where: dict[str, str] = {"exchange": "logs"} if number == 150 else {"routing_key": "jobs"}
        published.append(publisher.publish(body, **where))  # type: ignore[arg-type]  # names, not properties
        if number == 100:
            await other.exchange_delete("logs")
    ends = await outcomes(published)
    assert isinstance(ends[150], NotFound)
    assert {type(end) for end in ends[151:]} == {Confirmed}
    assert {type(end) for end in ends[:150]} <= {Confirmed, OutcomeUnknown}
    there = [int(body) for body in await bodies_in(client, "jobs") if body != b"first"]
    assert there == sorted(there)
    assert {number for number, end in enumerate(ends) if isinstance(end, Confirmed)} <= set(there)
    assert len(there) == len(set(there))
    assert publisher.moved > 0


# --------------------------------------------------------------------------- unroutable and refused


@pytest.mark.covers("S08", "S88", "P24", "L05", "T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_an_unroutable_message_comes_back_whole(client: Client) -> None:
    lost = client.publish(b"body", routing_key="jobs", type="t", headers={"a": 1})
    error = await failure_of(lost, NoRoute)
    assert (error.reply_code, error.routing_key) == (312, "jobs")
    assert error.message.body == b"body"
    assert error.message.properties.as_dict() == {"type": "t", "headers": {"a": 1}}
    await client.queue_declare("jobs")
    await client.publish(b"body", routing_key="jobs", type="t", headers={"a": 1})
    assert await depth(client, "jobs") == 1


@pytest.mark.covers("S09", "T-PUB-03", "T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_only_the_unroutable_one_of_three_fails(client: Client) -> None:
    await client.queue_declare("jobs")
    publisher = client.publisher()
    await publisher.publish(b"0", routing_key="jobs")
    published = [publisher.publish(b"x", routing_key=key) for key in ("jobs", "jobs", "nowhere")]
    assert [type(one) for one in await outcomes(published)] == [Confirmed, Confirmed, NoRoute]


@pytest.mark.covers("S10", "P23", "T-PUB-06")
@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses(client: Client) -> None:
    await client.queue_declare("one", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    await client.publish(b"1", routing_key="one")
    await failure_of(client.publish(b"2", routing_key="one"), Nacked)
    assert await bodies_in(client, "one") == [b"1"]
    await client.publish(b"3", routing_key="one")
    summary = await client.publisher().publish_many(numbered(5), routing_key="one")
    assert [type(error) for _, error in summary.failures] == [Nacked] * 5
    assert client.is_open


@pytest.mark.covers("T-PUB-05")
@pytest_twisted.ensureDeferred
async def test_without_mandatory_a_lost_message_is_confirmed(client: Client) -> None:
    assert isinstance(await client.publish(b"lost", routing_key="nowhere", mandatory=False), Confirmed)


# --------------------------------------------------------------------------- properties


@pytest.mark.covers("S11")
@pytest.mark.parametrize(
    ("asked", "stored"), [({}, None), ({"delivery_mode": 2}, 2), ({"delivery_mode": 1}, 1)]
)
@pytest_twisted.ensureDeferred
async def test_the_delivery_mode_is_as_it_was_given(
    client: Client, asked: dict[str, Any], stored: int | None
) -> None:
    await client.queue_declare("jobs")
    await client.publish(b"1", routing_key="jobs", **asked)
    assert (await take(client, "jobs")).properties.delivery_mode == stored


@pytest.mark.covers("S85", "L02", "L03")
@pytest_twisted.ensureDeferred
async def test_a_publisher_of_its_own_is_persistent_and_its_messages_may_expire(client: Client) -> None:
    await client.queue_declare("jobs")
    publisher = client.publisher(message_ids=True)
    await publisher.publish(b"1", routing_key="jobs", expiration="60000")
    await publisher.publish(b"2", routing_key="jobs", expiration=60_000)
    one, two = await take(client, "jobs"), await take(client, "jobs")
    assert one.properties.delivery_mode == two.properties.delivery_mode == 2
    assert one.properties.expiration == two.properties.expiration == "60000"
    assert one.properties.message_id != two.properties.message_id
    await publisher.publish(b"gone at once", routing_key="jobs", expiration=0)
    assert await client.get("jobs") is None


@pytest.mark.covers("S13", "T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_copies_go_where_the_headers_say(client: Client) -> None:
    for queue in ("to", "copy", "hidden"):
        await client.queue_declare(queue)
    await client.publish(
        "héllo".encode(), routing_key="to", headers={"CC": ["copy"], "BCC": ["hidden"], "é": "😀"}
    )
    for queue in ("to", "copy", "hidden"):
        delivery = await take(client, queue)
        assert delivery.body == "héllo".encode()
        assert delivery.properties.headers == {"CC": ["copy"], "é": "😀"}


@pytest.mark.covers("T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_who_sends_under_a_foreign_name_is_refused_alone(client: Client) -> None:
    await client.queue_declare("jobs")
    with pytest.raises(EncodeError):
        client.publish(b"x", routing_key="jobs", user_id="somebody")
    publisher = client.publisher(impersonate=True)
    await publisher.publish(b"0", routing_key="jobs")
    published = [
        publisher.publish(b"x", routing_key="jobs", user_id=user) for user in ("guest", "somebody", "guest")
    ]
    ends = await outcomes(published)
    assert [type(end) for end in ends] == [Confirmed, PreconditionFailed, Confirmed]


@pytest.mark.covers("T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_who_may_not_write_is_refused_alone(vhost: Vhost, connect: Connector) -> None:
    vhost.node.add_user("reader", "secret")
    try:
        vhost.node.set_permissions(
            "reader", vhost.name, configure=".*", write="^(jobs|amq.default)$", read=".*"
        )
        reader = Client(await connect(url=vhost.node.url(vhost.name, user="reader", password="secret")))
        await reader.queue_declare("jobs")
        published = [
            reader.publish(b"1", routing_key="jobs"),
            reader.publish(b"2", exchange="amq.topic"),
            reader.publish(b"3", routing_key="jobs"),
        ]
        assert [type(one) for one in await outcomes(published)] == [Confirmed, AccessRefused, Confirmed]
        await reader.protocol.close()
    finally:
        vhost.node.delete_user("reader")


# --------------------------------------------------------------------------- sizes


@pytest.mark.covers("T-PUB-11", "T-PUB-15")
@pytest_twisted.ensureDeferred
async def test_a_large_message_goes_through_and_one_that_is_too_large_harms_no_neighbour(
    client: Client, vhost: Vhost
) -> None:
    await client.queue_declare("jobs")
    publisher = client.publisher()
    large, too_large = os.urandom(10 * 1024 * 1024), bytes(16 * 1024 * 1024 + 1)
    published = [publisher.publish(body, routing_key="jobs") for body in (b"1", large, too_large, b"4")]
    ends = await outcomes(published)
    since_4 = not vhost.node.version.startswith("3.")
    assert [type(end) for end in ends] == [
        Confirmed,
        Confirmed,
        PreconditionFailed if since_4 else Confirmed,
        Confirmed,
    ]
    there = await bodies_in(client, "jobs")
    assert there == ([b"1", large, b"4"] if since_4 else [b"1", large, too_large, b"4"])


# --------------------------------------------------------------------------- many


@pytest.mark.covers("S86", "L06", "J06", "T-PUB-14")
@pytest_twisted.ensureDeferred
async def test_what_was_sent_before_the_close_is_there(client: Client) -> None:
    await client.queue_declare("jobs", durable=True)
    publisher = client.publisher()
    published = [publisher.publish(body, routing_key="jobs") for body in numbered(300)]
    await soon(publisher.close())
    assert all(isinstance(end, Confirmed) for end in await outcomes(published))
    assert await depth(client, "jobs") == 300
    await failure_of(publisher.publish(b"late", routing_key="jobs"), NotPublished)


@pytest.mark.covers("T-PUB-13", "T-PUB-14")
@pytest_twisted.ensureDeferred
async def test_many_keep_their_order_and_a_small_window(client: Client) -> None:
    client.queue_declare("jobs").addErrback(lambda failure: None)  # not awaited: it comes first all the same
    publisher = client.publisher(max_outstanding=50)
    most = 0

    def watched() -> Any:
        nonlocal most
        for body in numbered(5000):
            most = max(most, publisher.outstanding + publisher.waiting)
            yield body

    summary = await soon(publisher.publish_many(watched(), routing_key="jobs"))
    assert (summary.total, summary.confirmed, summary.complete) == (5000, 5000, True)
    assert most <= 51
    assert await bodies_in(client, "jobs") == numbered(5000)


@pytest.mark.covers("S87", "L04")
@pytest_twisted.ensureDeferred
async def test_who_hears_of_a_confirm_may_publish_again(client: Client) -> None:
    await client.queue_declare("jobs")
    publisher = client.publisher()
    left = 200
    done: Deferred[None] = Deferred()

    def again(_: object) -> None:
        nonlocal left
        left -= 1
        if left:
            publisher.publish(b"x", routing_key="jobs").addCallbacks(again, done.errback)
        else:
            done.callback(None)

    again(None)
    await soon(done)
    assert await depth(client, "jobs") == 199


@pytest.mark.covers("S97", "T-PUB-12")
@pytest_twisted.ensureDeferred
async def test_publishers_and_consumers_share_a_connection(client: Client) -> None:
    await client.queue_declare("jobs")
    inbox = Inbox()
    for _ in range(2):
        await (await client.channel()).basic_consume("jobs", inbox, no_ack=True)
    summary = await client.publisher().publish_many(numbered(100), routing_key="jobs")
    assert summary.confirmed == 100
    await inbox.take(100)
    assert len(client.protocol.core.channels) == 4  # declares, two consumers, a publisher


@pytest.mark.covers("S35")
@pytest_twisted.ensureDeferred
async def test_without_confirms_messages_are_on_their_way(client: Client) -> None:
    await client.queue_declare("jobs")
    publisher = client.publisher(confirm=False)
    assert await publisher.publish(b"1", routing_key="jobs") is None
    await publisher.publish(b"2", exchange="gone")
    await until(lambda: publisher._gate._channel is None)
    await publisher.publish(b"3", routing_key="jobs")
    await soon(publisher.close())
    assert await bodies_in(client, "jobs") == [b"1", b"3"]


# --------------------------------------------------------------------------- adversity


@pytest.mark.covers("S100", "T-BLK-01", "T-BLK-02", "K05", "J03")
@pytest_twisted.ensureDeferred
async def test_an_alarm_pauses_publishing_and_no_more(
    own_connect: Connector, own_broker: BrokerNode, told: Recorder
) -> None:
    client = Client(await own_connect(delegate=told))
    await client.queue_declare("jobs")
    publisher = client.publisher(confirm_timeout=0.5)
    impatient = client.publisher(gate_timeout=0.2)
    await publisher.publish(b"0", routing_key="jobs")
    own_broker.set_alarm("memory")
    first = publisher.publish(b"1", routing_key="jobs")
    assert await told.next("connection_blocked") == ("low on memory",)
    held = [publisher.publish(body, routing_key="jobs") for body in (b"2", b"3")]
    error = await failure_of(impatient.publish(b"x", routing_key="jobs"), GateTimeout)
    assert error.reason == "the broker has blocked the connection: low on memory"
    await pause(1.0)  # longer than a confirm may take, were the broker not blocked
    assert not any(one.called for one in held)
    assert publisher.waiting == 2
    own_broker.clear_alarm("memory")
    assert await told.next("connection_unblocked") == ()
    ends = await outcomes([first, *held])
    assert [type(end) for end in ends] == [Confirmed] * 3
    assert await bodies_in(client, "jobs") == [b"0", b"1", b"2", b"3"]


@pytest.mark.covers("T-PUB-08", "S86")
@pytest_twisted.ensureDeferred
async def test_a_broker_that_is_killed_leaves_no_publish_without_an_end(
    own_connect: Connector, own_broker: BrokerNode
) -> None:
    client = Client(await own_connect())
    await client.queue_declare("jobs", durable=True)
    own_broker.sync_metadata()
    publisher = client.publisher(max_outstanding=200)
    await publisher.publish(b"first", routing_key="jobs")
    published = [publisher.publish(body, routing_key="jobs") for body in numbered(2000)]

    def kill(end: Confirmed | None) -> Confirmed | None:
        own_broker.kill9()
        return end

    published[500].addCallback(kill)
    ends = await outcomes(published)
    kinds = {type(end) for end in ends}
    assert kinds == {Confirmed, OutcomeUnknown, NotPublished}
    await soon(publisher.flush())
    own_broker.start()
    client = Client(await own_connect())
    lasting(own_broker)
    there = {int(body) for body in await bodies_in(client, "jobs") if body != b"first"}
    for number, end in enumerate(ends):
        if isinstance(end, Confirmed):
            assert number in there
        elif isinstance(end, NotPublished):
            assert number not in there


@pytest.mark.covers("T-PUB-08")
@pytest.mark.parametrize("after", [3000, 20_000, 50_000])
@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_cut_tells_the_truth_of_each_message(
    vhost: Vhost, connect: Connector, fault_proxy: Callable[[int], FaultProxy], after: int
) -> None:
    safe = Client(await connect())
    await safe.queue_declare("jobs")
    proxy = fault_proxy(vhost.node.ports["amqp"])
    proxy.cut_after(up=after)
    client = Client(await connect(url=vhost.url.replace(f":{proxy.target}/", f":{proxy.port}/")))
    publisher = client.publisher(max_outstanding=100)
    published = [publisher.publish(body.rjust(50), routing_key="jobs") for body in numbered(1000)]
    ends = await outcomes(published)
    there = [int(body) for body in await bodies_in(safe, "jobs")]
    assert there == sorted(set(there))
    confirmed = {number for number, end in enumerate(ends) if isinstance(end, Confirmed)}
    unsent = {number for number, end in enumerate(ends) if isinstance(end, NotPublished)}
    assert len(confirmed) < 1000
    assert confirmed <= set(there)
    assert not unsent & set(there)
    assert all(isinstance(end, Confirmed | OutcomeUnknown | NotPublished) for end in ends)
