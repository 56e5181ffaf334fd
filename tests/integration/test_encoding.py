"""What comes through a real broker is what was sent: bodies, properties and headers, of other clients too."""

from __future__ import annotations

import math
import random
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Connector,
    Inbox,
    all_of,
    failure_of,
    get,
    headers_of,
    is_since,
    pika_channel,
)
from txamqpx.channel import Channel
from txamqpx.errors import EncodeError, NoRoute
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.spec.wire import RawTimestamp, decode_table, encode_table

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)

HEADERS: dict[str, Any] = {
    "true": True,
    "false": False,
    "small": -1,
    "int": 2**31 - 1,
    "negative": -(2**31),
    "large": 2**62,
    "larger": -(2**62),
    "text": "héllo 🐇\n\0",
    "empty": "",
    "bytes": b"\xff\xfe\x00",
    "float": -0.1,
    "decimal": Decimal("-12.345"),
    "time": MOMENT,
    "before time": RawTimestamp(2**62),
    "none": None,
    "list": [1, [True, None, "é"], {"in": b"\x80"}, []],
    "table": {"héllo": {"deep": [{"er": 1.5}]}, "empty": {}},
    "é" * 127: "a long name",
}


async def through(channel: Channel, properties: BasicProperties | None, body: bytes = b"") -> BasicProperties:
    """Publish to a queue, get it from there, and return the properties that it has then."""
    await channel.queue_declare("jobs", durable=True)
    await channel.basic_publish(body, routing_key="jobs", properties=properties, mandatory=True)
    delivery = await get(channel, "jobs")
    assert delivery.body == body
    return delivery.properties


# --------------------------------------------------------------------------- properties


@pytest.mark.covers("S12", "S13", "T-FR-10", "T-TB-01", "T-TB-03", "T-TB-05", "T-TB-08", "F4")
@pytest_twisted.ensureDeferred
async def test_all_fourteen_properties_and_every_type_of_header(vhost: Vhost, publisher: Channel) -> None:
    """RabbitMQ 4.3 reads and writes the headers anew, and sorts them by name."""
    properties = BasicProperties(
        content_type="text/plain; charset=ütf-8",
        content_encoding="gzip",
        headers=HEADERS,
        delivery_mode=2,
        priority=9,
        correlation_id="🐇",
        reply_to="back",
        expiration="60000",
        message_id="m-1",
        timestamp=MOMENT,
        type="greeting",
        user_id="guest",
        app_id="tests",
        cluster_id="c",
    )
    got = await through(publisher, properties)
    assert got.as_dict() == properties.as_dict()
    assert len(got.as_dict()) == 14
    names = [*HEADERS]
    assert [*(got.headers or ())] == (sorted(names, key=str.encode) if is_since(vhost.node, "4.3") else names)
    kinds = {key: type(value) for key, value in (got.headers or {}).items()}
    assert kinds == {key: type(value) for key, value in HEADERS.items()}


@pytest.mark.covers("S12", "T-FR-10")
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"headers": {}},
        {"priority": 0},
        {"content_type": ""},
        {"timestamp": datetime.fromtimestamp(0, UTC)},
        {"message_id": "", "type": ""},
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_what_is_empty_is_there_and_what_is_absent_is_not(
    publisher: Channel, values: dict[str, Any]
) -> None:
    assert (await through(publisher, BasicProperties(**values))).as_dict() == values
    assert (await through(publisher, None)).as_dict() == {}


@pytest.mark.covers("T-TB-01", "T-TB-03", "T-TB-04", "T-TB-06", "T-TB-07")
@pytest_twisted.ensureDeferred
async def test_what_has_no_form_is_refused_before_anything_is_sent(publisher: Channel) -> None:
    """The broker cannot read a NaN, either: it would cost the connection, with 541 or without a word."""
    loop: list[Any] = []
    loop.append(loop)
    for wrong in (
        *(2**63, -(2**63) - 1, Decimal("1e300"), Decimal(2**31), Decimal("nan"), math.nan, math.inf),
        *(datetime(2026, 1, 1), {1, 2}, object(), "\ud800", loop),  # noqa: DTZ001
    ):
        with pytest.raises(EncodeError) as caught:
            publisher.basic_publish(b"", properties=BasicProperties(headers={"wrong": wrong}))
        assert "wrong" in str(caught.value)
    assert publisher.next_publish_seq_no == 1
    assert (await through(publisher, BasicProperties(headers={"right": 1}))).headers == {"right": 1}


TAGS = {
    "b": (struct.pack(">b", -5), -5),
    "B": (struct.pack(">B", 200), 200),
    "s": (struct.pack(">h", -300), -300),
    "u": (struct.pack(">H", 60000), 60000),
    "I": (struct.pack(">i", -70000), -70000),
    "i": (struct.pack(">I", 4_000_000_000), 4_000_000_000),
    "l": (struct.pack(">q", -(2**40)), -(2**40)),
    "f": (struct.pack(">f", 0.5), 0.5),
    "d": (struct.pack(">d", 0.1), 0.1),
    "D": (struct.pack(">Bi", 2, -314), Decimal("-3.14")),
    "T": (struct.pack(">Q", 1_000_000_000), datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
    "S": (struct.pack(">I", 2) + b"\xff\x00", b"\xff\x00"),
    "L": (struct.pack(">q", -7), -7),
    "x": (struct.pack(">I", 2) + b"\xff\x00", b"\xff\x00"),
    "t": (b"\x01", True),
    "V": (b"", None),
}


@pytest.mark.covers("T-TB-01", "T-TB-05", "F3")
@pytest.mark.parametrize("way", ["straight", "dead letter"])
@pytest_twisted.ensureDeferred
async def test_every_tag_that_another_client_may_send(publisher: Channel, way: str) -> None:
    """Straight on they pass as they are; a dead letter's headers are written anew by the broker."""
    fields = b"".join(b"\x01" + tag.encode() * 2 + raw for tag, (raw, _) in TAGS.items())
    table = struct.pack(">I", len(fields)) + fields
    expected = {tag: value for tag, (_, value) in TAGS.items()}
    assert decode_table(table, 0)[0] == expected
    properties = BasicProperties._of({"headers": expected}, b"\x20\x00" + table)
    if way == "straight":
        assert await through(publisher, properties) == BasicProperties(headers=expected)
        return
    await publisher.queue_declare("dead", durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await publisher.queue_declare("short", durable=True, arguments={**arguments, "x-message-ttl": 0})
    inbox = Inbox()
    await publisher.basic_consume("dead", inbox, no_ack=True)
    await publisher.basic_publish(b"", routing_key="short", properties=properties)
    (delivery,) = await inbox.take()
    headers = dict(headers_of(delivery))
    (death,) = headers.pop("x-death")
    assert death["reason"] == "expired"
    assert {key: value for key, value in headers.items() if not key.startswith("x-")} == expected


@pytest.mark.covers("T-TB-07")
@pytest_twisted.ensureDeferred
async def test_a_table_as_deep_as_we_allow(publisher: Channel) -> None:
    nested: dict[str, Any] = {}
    for _ in range(30):
        nested = {"deeper": nested}
    assert encode_table({"x": nested})
    assert (await through(publisher, BasicProperties(headers={"x": nested}))).headers == {"x": nested}


# --------------------------------------------------------------------------- bodies


def bodies(frame_max: int) -> list[bytes]:
    """Return bodies of the lengths at which the number of frames changes."""
    room = frame_max - 8
    lengths = (0, 1, room - 1, room, room + 1, 2 * room, 2 * room + 1, 2 * frame_max)
    dice = random.Random(49)
    # In pieces of this size a character is cut at the end of each frame, wherever it begins.
    text = ("é" * frame_max).encode()
    return [
        *(dice.randbytes(length) for length in lengths),
        text,
        b"x" + text,
        b"hello " + b"\xff\xfe" * room,
    ]


@pytest.mark.covers("S49", "T-FR-01", "F2")
@pytest.mark.parametrize("frame_max", [8192, 131072])
@pytest_twisted.ensureDeferred
async def test_bodies_of_every_length_come_as_they_went(connect: Connector, frame_max: int) -> None:
    protocol = await connect(frame_max=frame_max)
    assert protocol.tuning.frame_max == frame_max
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await channel.queue_declare("jobs", exclusive=True)
    sent = bodies(frame_max)
    await all_of(channel.basic_publish(body, routing_key="jobs", mandatory=True) for body in sent)
    got = [await get(channel, "jobs", no_ack=False) for _ in sent]
    assert [delivery.body for delivery in got] == sent
    await channel.basic_nack(0, multiple=True)
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, no_ack=True)
    assert [delivery.body for delivery in await inbox.take(len(sent))] == sent


@pytest.mark.covers("S49", "T-FR-07")
@pytest_twisted.ensureDeferred
async def test_ten_mebibytes(publisher: Channel) -> None:
    body = random.Random(10).randbytes(10 * 2**20)
    await through(publisher, None, body)


@pytest.mark.covers("T-FR-01", "T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_large_and_empty_bodies_come_back_too(publisher: Channel) -> None:
    for body in (b"", b"x" * 300_000):
        error = await failure_of(
            publisher.basic_publish(body, routing_key="nowhere", mandatory=True), NoRoute
        )
        assert error.message.body == body


@pytest.mark.covers("T-FR-03")
@pytest_twisted.ensureDeferred
async def test_contents_of_many_channels_do_not_mix(connect: Connector) -> None:
    protocol = await connect(frame_max=8192)
    channels = await all_of(protocol.open_channel() for _ in range(20))
    inboxes = [Inbox() for _ in channels]
    for number, (channel, inbox) in enumerate(zip(channels, inboxes, strict=True)):
        await channel.queue_declare(str(number), exclusive=True)
        await channel.basic_consume(str(number), inbox, no_ack=True)
    for size in (100_000, 10, 20_000):
        for number, channel in enumerate(channels):
            channel.basic_publish(bytes([number]) * size, routing_key=str(number))
    for number, inbox in enumerate(inboxes):
        await inbox.take(3)
        assert inbox.bodies == [bytes([number]) * size for size in (100_000, 10, 20_000)]


@pytest_twisted.ensureDeferred
async def test_a_body_is_taken_as_it_is_when_it_is_published(publisher: Channel) -> None:
    await publisher.queue_declare("jobs", exclusive=True)
    body = bytearray(b"before")
    sent = [publisher.basic_publish(kind, routing_key="jobs") for kind in (body, memoryview(body)[:3])]  # type: ignore[arg-type]
    body[:] = b"after!"
    await all_of(sent)
    assert [(await get(publisher, "jobs")).body for _ in sent] == [b"before", b"bef"]


# --------------------------------------------------------------------------- other clients


@pytest.mark.covers("T-TB-05", "T-TB-06")
@pytest_twisted.ensureDeferred
async def test_what_pika_publishes(vhost: Vhost, publisher: Channel) -> None:
    await publisher.queue_declare("jobs", durable=True)
    odd = {
        "text": "héllo",
        "bytes": b"\xff",
        "large": 2**40,
        "yes": True,
        "none": None,
        "decimal": Decimal("3.14"),
        "time": datetime(2026, 2, 3, 4, 5, 6),  # noqa: DTZ001  # pika knows no other
        "list": [1, "é", {"in": [None]}],
    }
    body = random.Random(1).randbytes(300_000)

    def publish() -> None:
        with pika_channel(vhost.url) as channel:
            properties = pika.BasicProperties(
                headers=odd, timestamp=1_770_091_506_000, priority=0, delivery_mode=1, message_id="é"
            )
            channel.basic_publish("", "jobs", body, properties)
            channel.basic_publish("", "jobs", "text with é")

    await deferToThread(publish)
    delivery = await get(publisher, "jobs")
    assert delivery.body == body
    assert dict(headers_of(delivery)) == {**odd, "time": MOMENT}
    properties = delivery.properties
    assert (properties.priority, properties.delivery_mode, properties.message_id) == (0, 1, "é")
    assert properties.timestamp == RawTimestamp(1_770_091_506_000)  # milliseconds, as many send them
    delivery = await get(publisher, "jobs")
    assert delivery.body == "text with é".encode()


@pytest_twisted.ensureDeferred
async def test_what_pika_gets_of_ours(vhost: Vhost, publisher: Channel) -> None:
    await publisher.queue_declare("jobs", durable=True)
    # pika makes whole numbers of floats, and no sense of that time.
    ours = {key: value for key, value in HEADERS.items() if key not in {"float", "table", "before time"}}
    properties = BasicProperties(headers=ours, timestamp=MOMENT, correlation_id="🐇", priority=0)
    body = random.Random(2).randbytes(300_000)
    for one in (body, b""):
        await publisher.basic_publish(one, routing_key="jobs", properties=properties, mandatory=True)

    def take() -> list[tuple[Any, Any]]:
        with pika_channel(vhost.url) as channel:
            return [channel.basic_get("jobs", auto_ack=True)[1:] for _ in range(2)]

    for (theirs, got), sent in zip(await deferToThread(take), (body, b""), strict=True):
        assert got == sent
        assert theirs.headers == ours
        assert (theirs.timestamp, theirs.correlation_id, theirs.priority) == (1_770_091_506, "🐇", 0)


@pytest_twisted.ensureDeferred
async def test_we_and_pika_answer_each_other(vhost: Vhost, channel: Channel) -> None:
    """A request of pika's with reply_to and correlation_id, as in every tutorial, answered by us."""
    await channel.queue_declare("rpc", durable=True)

    def answer(delivery: Any) -> None:
        asked = delivery.properties
        back = BasicProperties(correlation_id=asked.correlation_id)
        channel.basic_publish(delivery.body.upper(), routing_key=asked.reply_to, properties=back)
        delivery.ack()

    await channel.basic_consume("rpc", answer)

    def ask() -> tuple[bytes, str]:
        with pika_channel(vhost.url) as theirs:
            queue = theirs.queue_declare("", exclusive=True).method.queue
            asked = pika.BasicProperties(reply_to=queue, correlation_id="q1")
            theirs.basic_publish("", "rpc", b"question", asked)
            for _, properties, body in theirs.consume(queue, auto_ack=True, inactivity_timeout=60):
                return body, properties.correlation_id
        raise AssertionError("consume() never ends without a message")

    assert await deferToThread(ask) == (b"QUESTION", "q1")
