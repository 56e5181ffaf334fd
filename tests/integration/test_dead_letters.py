"""Dead letters: which messages become some, where they go, and what they tell of their deaths."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.support import Inbox, another, drain, get, headers_of, is_since, outcomes, until_ready
from txamqpx.channel import Channel
from txamqpx.message import Confirmed, Delivery
from txamqpx.spec.amqp0_9_1 import BasicProperties

SHORT = 30
"""Milliseconds that messages wait in some queues."""


async def queue(channel: Channel, name: str, to: str | None = None, exchange: str = "", **more: Any) -> None:
    """Declare a queue, with the key ``to`` for its dead letters, or none."""
    arguments = {f"x-{key.replace('_', '-')}": value for key, value in more.items()}
    arguments["x-dead-letter-exchange"] = exchange
    if to is not None:
        arguments["x-dead-letter-routing-key"] = to
    await channel.queue_declare(name, durable=True, arguments=arguments)


async def watched(channel: Channel, name: str = "dead") -> Inbox:
    """Declare a queue without dead letters, and consume from it."""
    inbox = Inbox()
    await channel.queue_declare(name, durable=True)
    await channel.basic_consume(name, inbox, no_ack=True)
    return inbox


async def send(
    publisher: Channel, key: str, *bodies: bytes, exchange: str = "", **properties: Any
) -> list[Any]:
    """Publish messages, and return what became of each."""
    made = BasicProperties(**properties)
    return await outcomes(
        publisher.basic_publish(body, exchange=exchange, routing_key=key, properties=made, mandatory=True)
        for body in bodies or (b"",)
    )


async def held(channel: Channel, name: str) -> Delivery:
    """Wait for a message, and hold it."""
    await until_ready(channel, name, 1)
    return await get(channel, name, no_ack=False)


async def refused(channel: Channel, name: str) -> Delivery:
    """Wait for a message, and refuse it."""
    delivery = await held(channel, name)
    delivery.reject(requeue=False)
    return delivery


def deaths(delivery: Delivery) -> list[dict[str, Any]]:
    """Return the deaths without their times."""
    return [
        {key: value for key, value in death.items() if key != "time"}
        for death in headers_of(delivery)["x-death"]
    ]


def death(queue: str, reason: str, **more: Any) -> dict[str, Any]:
    """Return a death as it is reported of a message that was published to its queue by name."""
    facts: dict[str, Any] = {"count": 1, "reason": reason, "queue": queue, "exchange": ""}
    return {**facts, "routing-keys": [queue], **{key.replace("_", "-"): value for key, value in more.items()}}


def ends(delivery: Delivery) -> Mapping[str, Any]:
    """Return what is told of the first and the last death."""
    return {
        key: value for key, value in headers_of(delivery).items() if key.startswith(("x-first", "x-last"))
    }


# --------------------------------------------------------------------------- what is told


@pytest.mark.covers("S15", "F3")
@pytest.mark.parametrize("to", [None, "other"])
@pytest_twisted.ensureDeferred
async def test_a_dead_letter_tells_all_in_order(vhost: Vhost, publisher: Channel, to: str | None) -> None:
    """RabbitMQ 3 sorts the names of headers when it writes them, 4 whenever it delivers."""
    await publisher.exchange_declare("graves", "topic")
    dead = await watched(publisher)
    await publisher.queue_bind("dead", "graves", "#")
    await queue(publisher, "jobs", to, "graves")
    await publisher.queue_bind("jobs", "amq.direct", "work")
    before = datetime.now(UTC)
    await send(
        publisher,
        "work",
        b"hello",
        exchange="amq.direct",
        headers={"z": 1, "CC": ["copy"], "BCC": ["blind"]},
        expiration="600000",
        message_id="m",
        priority=3,
    )
    await refused(publisher, "jobs")
    (delivery,) = await dead.take()
    new = is_since(vhost.node, "4.0")
    assert delivery.body == b"hello"
    assert (delivery.exchange, delivery.routing_key) == ("graves", to or "work")
    properties = delivery.properties
    assert (properties.expiration, properties.message_id, properties.priority) == (None, "m", 3)
    headers = headers_of(delivery)
    names = ["x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"]
    if new:
        names += ["x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"]
    # With a key of its own a dead letter is not for those that were to have a copy.
    assert list(headers) == ["CC"] * (new or to is None) + names + ["z"]
    assert [headers[name] for name in names[1:]] == ["amq.direct", "jobs", "rejected"] * (2 if new else 1)
    ((told),) = headers["x-death"]
    keys = ["count", "reason", "queue", "time", "exchange", "routing-keys"]
    expiration = ["original-expiration"]
    assert list(told) == (expiration + keys if new else keys + expiration)
    assert before - timedelta(seconds=2) < told["time"] < datetime.now(UTC) + timedelta(seconds=2)
    expected = death("jobs", "rejected", exchange="amq.direct", original_expiration="600000")
    assert deaths(delivery) == [{**expected, "routing-keys": ["work", "copy"]}]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest_twisted.ensureDeferred
async def test_messages_die_of_refusal_of_age_and_of_want_of_room(publisher: Channel, kind: str) -> None:
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead", queue_type=kind)
    await send(publisher, "jobs", b"refused")
    await refused(publisher, "jobs")
    await dead.take()
    await send(publisher, "jobs", b"old", expiration=str(SHORT))
    await dead.take()
    await queue(publisher, "few", "dead", queue_type=kind, max_length=1)
    await send(publisher, "few", b"in the way", b"new")
    await dead.take()
    assert dead.bodies == [b"refused", b"old", b"in the way"]
    assert [deaths(delivery) for delivery in dead.got] == [
        [death("jobs", "rejected")],
        [death("jobs", "expired", original_expiration=str(SHORT))],
        [death("few", "maxlen")],
    ]
    assert all(delivery.properties.expiration is None for delivery in dead.got)


@pytest_twisted.ensureDeferred
async def test_the_time_of_a_queue_is_no_expiration(publisher: Channel) -> None:
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead", message_ttl=SHORT)
    await send(publisher, "jobs", b"none")
    await send(publisher, "jobs", b"long", expiration="600000")
    await dead.take(2)
    assert [deaths(delivery) for delivery in dead.got] == [
        [death("jobs", "expired")],
        [death("jobs", "expired", original_expiration="600000")],
    ]


@pytest_twisted.ensureDeferred
async def test_what_a_full_queue_refuses_dies_as_well(publisher: Channel) -> None:
    dead = await watched(publisher)
    await queue(publisher, "few", "dead", max_length=0, overflow="reject-publish-dlx")
    await send(publisher, "few", b"refused", expiration="600000")
    (delivery,) = await dead.take()
    assert deaths(delivery) == [death("few", "maxlen", original_expiration="600000")]
    assert delivery.properties.expiration is None


@pytest_twisted.ensureDeferred
async def test_tried_too_often(publisher: Channel) -> None:
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead", queue_type="quorum", delivery_limit=1)
    await send(publisher, "jobs", b"hopeless", headers={"mine": 1})
    for _ in range(2):
        (await held(publisher, "jobs")).reject()
    (delivery,) = await dead.take()
    assert deaths(delivery) == [death("jobs", "delivery_limit")]
    assert headers_of(delivery)["mine"] == 1
    assert "x-delivery-count" not in headers_of(delivery)


@pytest_twisted.ensureDeferred
async def test_many_refused_at_once_keep_their_order(publisher: Channel) -> None:
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead")
    await send(publisher, "jobs", *(b"%d" % number for number in range(6)))
    deliveries = [await get(publisher, "jobs", no_ack=False) for _ in range(6)]
    await publisher.basic_nack(deliveries[4].delivery_tag, multiple=True, requeue=False)
    deliveries[5].discard()
    await dead.take(6)
    assert dead.bodies == [b"0", b"1", b"2", b"3", b"4", b"5"]


@pytest_twisted.ensureDeferred
async def test_the_other_headers_are_left_as_they_are(publisher: Channel) -> None:
    """To the byte: 200 as unsigned octet is not made a signed integer."""
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead")
    fields = b"\x01aB\xc8\x01bf\x3f\x80\x00\x00\x01cA\x00\x00\x00\x03u\x00\x07\x01ds\xff\xff"
    headers = {"a": 200, "b": 1.0, "c": [7], "d": -1}
    table = len(fields).to_bytes(4) + fields
    properties = BasicProperties._of({"headers": headers}, b"\x20\x00" + table)
    await publisher.basic_publish(b"", routing_key="jobs", properties=properties)
    straight = await held(publisher, "jobs")
    assert straight.header.endswith(table)
    straight.discard()
    (delivery,) = await dead.take()
    assert fields in delivery.header
    assert deaths(delivery) == [death("jobs", "rejected")]


@pytest_twisted.ensureDeferred
async def test_was_it_delivered_before(vhost: Vhost, publisher: Channel) -> None:
    """In another queue it was not; but since 4.3 a reject goes with the message, unless somebody waits."""
    await publisher.queue_declare("dead", durable=True)
    await queue(publisher, "jobs", "dead")
    await queue(publisher, "wait", "dead", message_ttl=SHORT)
    await queue(publisher, "jobs before", "wait")
    redelivered = []
    await send(publisher, "jobs", b"refused")
    await refused(publisher, "jobs")
    redelivered.append((await held(publisher, "dead")).redelivered)
    await send(publisher, "jobs before", b"refused, then old")
    await refused(publisher, "jobs before")
    redelivered.append((await held(publisher, "dead")).redelivered)
    await send(publisher, "jobs", b"rejected and old", expiration="200")
    (await held(publisher, "jobs")).reject()
    redelivered.append((await held(publisher, "dead")).redelivered)
    await send(publisher, "jobs", b"left and old", expiration="200")
    leaving = await another(publisher)
    await held(leaving, "jobs")
    await leaving.close()
    redelivered.append((await held(publisher, "dead")).redelivered)
    await send(publisher, "jobs", b"given back, then old", expiration="200")
    (await held(publisher, "jobs")).nack()
    redelivered.append((await held(publisher, "dead")).redelivered)
    await send(publisher, "jobs", b"not even tried")
    (await held(publisher, "jobs")).nack(requeue=False)
    redelivered.append((await held(publisher, "dead")).redelivered)
    waiting = await watched(publisher)
    await send(publisher, "jobs", b"refused, and somebody waits")
    await refused(publisher, "jobs")
    redelivered.append((await waiting.take())[0].redelivered)
    new = is_since(vhost.node, "4.3")
    assert redelivered == [new, new, new, new, False, False, False]


# --------------------------------------------------------------------------- more than one death


@pytest_twisted.ensureDeferred
async def test_deaths_in_a_row(vhost: Vhost, publisher: Channel) -> None:
    """The last one is first; the others, RabbitMQ 3 turns round each time."""
    dead = await watched(publisher)
    for number, following in enumerate(("q1", "q2", "q3", "dead")):
        await queue(publisher, f"q{number}", following)
    await send(publisher, "q0")
    for number in range(4):
        await refused(publisher, f"q{number}")
    (delivery,) = await dead.take()
    new = is_since(vhost.node, "4.0")
    order = ("q3", "q2", "q1", "q0") if new else ("q3", "q1", "q0", "q2")
    assert deaths(delivery) == [death(name, "rejected") for name in order]
    first = {
        "x-first-death-exchange": "",
        "x-first-death-queue": "q0",
        "x-first-death-reason": "rejected",
    }
    last = {"x-last-death-exchange": "", "x-last-death-queue": "q3", "x-last-death-reason": "rejected"}
    assert ends(delivery) == ({**first, **last} if new else first)


@pytest_twisted.ensureDeferred
async def test_a_death_is_of_a_queue_and_a_reason(publisher: Channel) -> None:
    await queue(publisher, "jobs", "wait")
    await queue(publisher, "wait", "jobs", message_ttl=SHORT)
    await send(publisher, "jobs", expiration="600000", headers={"h": 1})
    first: dict[str, datetime] = {}
    for count in range(4):
        delivery = await held(publisher, "jobs")
        if count:
            assert deaths(delivery) == [
                death("wait", "expired", count=count),
                death("jobs", "rejected", count=count, original_expiration="600000"),
            ]
            times = {told["queue"]: told["time"] for told in headers_of(delivery)["x-death"]}
            first = first or times
            assert times == first  # that of the first time it is
        if count == 2:
            await queue(publisher, "second", "over", message_ttl=1100)
            await publisher.queue_declare("over", durable=True)
            await send(publisher, "second")
            await until_ready(publisher, "over", 1)
        delivery.reject(requeue=False)


@pytest_twisted.ensureDeferred
async def test_refused_into_the_same_queue(publisher: Channel) -> None:
    """Without a key of its own a dead letter has the message's, so the default exchange leads back."""
    await queue(publisher, "jobs")
    await send(publisher, "jobs")
    for _ in range(3):
        await refused(publisher, "jobs")
    assert deaths(await held(publisher, "jobs")) == [death("jobs", "rejected", count=3)]


@pytest_twisted.ensureDeferred
async def test_copies(vhost: Vhost, publisher: Channel) -> None:
    """Carbon copies, blind ones too, die where they are, and go where all the keys lead."""
    await publisher.exchange_declare("graves", "direct")
    graves = {}
    for name in ("main", "copy", "blind"):
        graves[name] = await watched(publisher, f"dead {name}")
        await publisher.queue_bind(f"dead {name}", "graves", name)
        await queue(publisher, name, exchange="graves")
    sent = await send(publisher, "main", b"x", headers={"CC": ["copy"], "BCC": ["blind"]})
    assert isinstance(sent[0], Confirmed)
    for count, name in enumerate(graves, 1):
        await refused(publisher, name)
        for grave in graves.values():
            (delivery,) = await grave.take()
            assert len(grave.got) == count
            assert delivery.routing_key == "main"
            assert headers_of(delivery)["CC"] == ["copy"]
            assert "BCC" not in headers_of(delivery)
            assert deaths(delivery) == [{**death(name, "rejected"), "routing-keys": ["main", "copy"]}]


@pytest.mark.parametrize("reason", ["expired", "maxlen"])
@pytest_twisted.ensureDeferred
async def test_a_circle_without_a_refusal_is_broken(publisher: Channel, reason: str) -> None:
    """Only the queue in the circle is left out."""
    limit: dict[str, Any] = {"message_ttl": SHORT} if reason == "expired" else {"max_length": 0}
    await publisher.exchange_declare("graves", "fanout")
    dead = await watched(publisher)
    await queue(publisher, "one", "two", **limit)
    await queue(publisher, "two", exchange="graves", **limit)
    await publisher.queue_bind("one", "graves")
    await publisher.queue_bind("dead", "graves")
    await send(publisher, "one", b"a")
    await dead.take()
    await send(publisher, "one", b"b")
    await dead.take()
    assert dead.bodies == [b"a", b"b"]
    assert deaths(dead.got[0]) == [death("two", reason), death("one", reason)]


@pytest_twisted.ensureDeferred
async def test_a_queue_that_expires_into_itself(publisher: Channel) -> None:
    dead = await watched(publisher)
    await queue(publisher, "jobs", message_ttl=0)
    await queue(publisher, "after", "dead", message_ttl=0)
    await send(publisher, "jobs", b"gone")
    await send(publisher, "after", b"the end")
    await dead.take()
    assert dead.bodies == [b"the end"]
    assert await drain(publisher, "jobs") == []


@pytest_twisted.ensureDeferred
async def test_a_refusal_before_the_circle(vhost: Vhost, publisher: Channel) -> None:
    """RabbitMQ 3 turns the earlier deaths round each time, and so may take it for one in the circle."""
    await publisher.exchange_declare("graves", "fanout")
    dead = await watched(publisher)
    await queue(publisher, "jobs", "one")
    await queue(publisher, "one", "two", message_ttl=SHORT)
    await queue(publisher, "two", exchange="graves", message_ttl=SHORT)
    await publisher.queue_bind("one", "graves")
    await publisher.queue_bind("dead", "graves")
    await send(publisher, "jobs", b"a")
    await refused(publisher, "jobs")
    await dead.take()
    if is_since(vhost.node, "4.0"):
        await send(publisher, "jobs", b"b")
        await refused(publisher, "jobs")
    await dead.take()
    assert dead.bodies[1] == (b"b" if is_since(vhost.node, "4.0") else b"a")


# --------------------------------------------------------------------------- what a client makes up


@pytest_twisted.ensureDeferred
async def test_deaths_that_a_client_made_up(vhost: Vhost, publisher: Channel) -> None:
    """RabbitMQ 3 goes on from them, 4 puts its own in their place."""
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead")
    told = [{"queue": "jobs", "reason": "rejected", "count": 5}, {"queue": "far", "reason": "maxlen", "x": 1}]
    made_up = {"x-death": told, "x-first-death-queue": "far", "x-last-death-queue": "far"}
    await send(publisher, "jobs", headers=made_up)
    straight = await held(publisher, "jobs")
    assert headers_of(straight) == made_up
    straight.discard()
    (delivery,) = await dead.take()
    if is_since(vhost.node, "4.0"):
        assert deaths(delivery) == [death("jobs", "rejected")]
        assert headers_of(delivery)["x-first-death-queue"] == "jobs"
        assert headers_of(delivery)["x-last-death-queue"] == "jobs"
    else:
        assert deaths(delivery) == [{**told[0], "count": 6}, {**told[1], "count": 1}]
        assert ends(delivery) == {"x-first-death-queue": "far", "x-last-death-queue": "far"}


@pytest_twisted.ensureDeferred
async def test_deaths_that_are_none(vhost: Vhost, publisher: Channel) -> None:
    dead = await watched(publisher)
    await queue(publisher, "jobs", "dead")
    await send(publisher, "jobs", headers={"x-death": "text"})
    await refused(publisher, "jobs")
    (delivery,) = await dead.take()
    assert deaths(delivery) == [death("jobs", "rejected")]
    assert ("x-first-death-queue" in headers_of(delivery)) == is_since(vhost.node, "4.0")


# --------------------------------------------------------------------------- where they go


@pytest_twisted.ensureDeferred
async def test_dead_letters_for_an_exchange_that_is_not_there(publisher: Channel) -> None:
    """They are lost until it is."""
    await queue(publisher, "jobs", "dead", "graves")
    await send(publisher, "jobs", b"lost")
    await refused(publisher, "jobs")
    await publisher.basic_recover()
    await publisher.exchange_declare("graves", "direct", internal=True)
    dead = await watched(publisher)
    await publisher.queue_bind("dead", "graves", "dead")
    await send(publisher, "jobs", b"found")
    await refused(publisher, "jobs")
    await dead.take()
    assert dead.bodies == [b"found"]


@pytest_twisted.ensureDeferred
async def test_dead_letters_that_nobody_wants(publisher: Channel) -> None:
    """The alternate of an exchange is for them, too; whoever published hears nothing."""
    await publisher.exchange_declare("others", "fanout")
    dead = await watched(publisher)
    await publisher.queue_bind("dead", "others")
    await publisher.exchange_declare("graves", "direct", arguments={"alternate-exchange": "others"})
    await queue(publisher, "jobs", exchange="graves", message_ttl=0)
    assert isinstance((await send(publisher, "jobs", b"x"))[0], Confirmed)
    (delivery,) = await dead.take()
    assert (delivery.exchange, delivery.routing_key) == ("graves", "jobs")
    await queue(publisher, "end", "nowhere", message_ttl=0)
    assert isinstance((await send(publisher, "end"))[0], Confirmed)
