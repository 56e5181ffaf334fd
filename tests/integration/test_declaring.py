"""What a broker says to odd requests about exchanges, queues and bindings, and what goes with what."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.declaring_cases import CASES
from tests.integration.support import (
    Connector,
    Inbox,
    another,
    depth,
    failure_of,
    fill,
    is_since,
    needs,
    outcomes,
    protocol_of,
)
from tests.queue_cases import LOCKED
from tests.refusals import HARD, TAKEN, Case
from txamqpx.channel import Channel
from txamqpx.errors import AccessRefused, Closed, NotFound, PreconditionFailed, ResourceLocked, printable
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import (
    BasicGet,
    BasicProperties,
    ExchangeBind,
    ExchangeDeclare,
    QueueBind,
    QueueDeclare,
    QueueDelete,
    QueuePurge,
    QueueUnbind,
)
from txamqpx.spec.base import Request

# --------------------------------------------------------------------------- refusals


def send(channel: Channel, request: Request[Any]) -> Deferred[Any]:
    """Send a request by the channel's call for it, where only that may."""
    return channel.basic_get(request.queue) if isinstance(request, BasicGet) else channel.call(request)


async def disagreement(case: Case, connect: Connector, *, is_old: bool) -> str | None:
    """Return in what a broker does not answer as it should, or None."""
    channel = await connect.channel()
    protocol = protocol_of(channel)
    for request in case.before:
        await send(channel, request)
    (result,) = await outcomes([send(channel, case.request)])
    expected = case.answer(is_old=is_old)
    found: object = result
    wanted: object = result
    if expected is not TAKEN or isinstance(result, Exception):
        culprit = case.request.index
        wanted = (expected.code, expected.code in HARD, culprit >> 16, culprit & 0xFFFF)
        wanted = (*wanted, printable(expected.reply_text(connect.vhost.name)) if expected.code else "")
        if isinstance(result, Closed):
            found = (
                result.reply_code,
                not protocol.is_open,
                result.class_id,
                result.method_id,
                result.reply_text,
            )
    if protocol.is_open:
        # An exclusive queue is still there for a while when its connection is not.
        await (await another(channel)).queue_delete("q")
        await protocol.close()
    return None if found == wanted else f"{case.before} {case.request}:\n  {found}\n  {wanted}"


@pytest.mark.covers("S26", "S57", "S58")
@pytest.mark.parametrize("group", CASES)
@pytest_twisted.ensureDeferred
async def test_word_for_word(vhost: Vhost, connect: Connector, group: str) -> None:
    is_old = not is_since(vhost.node, "4.0")
    cleaner = await connect.channel()
    odd = []
    for case in CASES[group]:
        odd.append(await disagreement(case, connect, is_old=is_old))
        for name in ("q", "missing"):
            await cleaner.queue_delete(name)
        for name in ("x", "y", "AMQ.x", "missing"):
            await cleaner.exchange_delete(name)
    assert "\n".join(filter(None, odd)) == ""


# --------------------------------------------------------------------------- other connections' queues


@pytest.mark.covers("S24")
@pytest_twisted.ensureDeferred
async def test_an_exclusive_queue_is_locked_for_all_that_others_ask(
    vhost: Vhost, channel: Channel, connect: Connector
) -> None:
    await channel.queue_declare("mine", exclusive=True)
    await channel.queue_bind("mine", "amq.topic", "k")
    other = await connect.channel()
    for request in (
        QueueDeclare("mine", passive=True),
        QueueDeclare("mine", exclusive=True),
        QueueDeclare("mine"),
        QueueDeclare("mine", durable=True, arguments={"x-max-length": 5}),
        QueueDelete("mine"),
        QueueDelete("mine", if_unused=True),
        QueuePurge("mine"),
        QueueBind("mine", "amq.topic", "j"),
        QueueUnbind("mine", "amq.topic", "k"),
        BasicGet("mine"),
    ):
        asking = await another(other)
        error = await failure_of(send(asking, request), ResourceLocked)
        locked = "RESOURCE_LOCKED - " + LOCKED.format("mine", v=f"vhost '{vhost.name}'")
        assert error.reply_text == (locked if len(locked) <= 255 else f"{locked[:252]}..."), request
    await failure_of((await another(other)).basic_consume("mine", Inbox()), ResourceLocked)
    # The exchange is looked for first, and what is not bound need not be unbound.
    await failure_of((await another(other)).queue_bind("mine", "missing", "k"), NotFound)
    await other.queue_unbind("mine", "amq.topic", "never bound")


# --------------------------------------------------------------------------- the queue that was declared last


@pytest.mark.covers("S58")
@pytest_twisted.ensureDeferred
async def test_a_passive_declare_counts_as_the_last_one(channel: Channel) -> None:
    for name in ("first", "second"):
        await channel.queue_declare(name, durable=True)
    await channel.queue_declare("first", passive=True)
    await channel.queue_delete("")
    await channel.queue_declare("second", passive=True)
    await failure_of(channel.queue_declare("first", passive=True), NotFound)


@pytest.mark.covers("S58")
@pytest_twisted.ensureDeferred
async def test_a_binding_without_any_name_has_the_queue_s_as_its_key(publisher: Channel) -> None:
    """Neither queue nor key, that is; with a name, no key is the empty one."""
    await publisher.queue_declare("jobs", exclusive=True)

    async def is_bound(key: str) -> bool:
        sent = publisher.basic_publish(b"", exchange="amq.direct", routing_key=key, mandatory=True)
        return (await outcomes([sent]))[0].__class__ is Confirmed

    await publisher.queue_bind("", "amq.direct")
    assert [await is_bound(key) for key in ("jobs", "")] == [True, False]
    await publisher.queue_unbind("", "amq.direct")
    assert not await is_bound("jobs")
    await publisher.queue_bind("jobs", "amq.direct")
    assert [await is_bound(key) for key in ("jobs", "")] == [False, True]
    await publisher.queue_unbind("", "amq.direct")
    assert await is_bound("")


@pytest.mark.covers("S58")
@pytest_twisted.ensureDeferred
async def test_names_that_the_broker_makes_differ(channel: Channel) -> None:
    names = {(await channel.queue_declare("", exclusive=True)).queue for _ in range(3)}
    assert len(names) == 3
    for name in names:
        assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name)
        await channel.queue_declare(name, passive=True)
        again = (await another(channel)).queue_declare(name, exclusive=True)
        error = await failure_of(again, AccessRefused)
        assert "contains reserved prefix" in error.reply_text


# --------------------------------------------------------------------------- conditions of a delete


async def refusal(channel: Channel, request: Request[Any]) -> str:
    """Return what is said to a request on a channel of its own."""
    error = await failure_of((await another(channel)).call(request), PreconditionFailed)
    return error.reply_text.partition(" - ")[2]  # type: ignore[no-any-return]


@pytest.mark.covers("S59")
@pytest_twisted.ensureDeferred
async def test_what_is_given_out_is_not_in_a_queue_any_more(vhost: Vhost, channel: Channel) -> None:
    """A queue is empty if nothing is ready, and used if somebody consumes; which of the two is said first."""
    await fill(channel, "jobs", [b"1", b"2"])
    where = f"queue 'jobs' in vhost '{vhost.name}'"
    assert await refusal(channel, QueueDelete("jobs", if_empty=True)) == f"{where} not empty"
    inbox = Inbox()
    await channel.basic_qos(1)
    await channel.basic_consume("jobs", inbox)
    (first,) = await inbox.take()
    assert await refusal(channel, QueueDelete("jobs", if_unused=True)) == f"{where} in use"
    assert await refusal(channel, QueueDelete("jobs", if_empty=True, if_unused=True)) == f"{where} not empty"
    first.ack()
    await inbox.take()
    assert await refusal(channel, QueueDelete("jobs", if_empty=True, if_unused=True)) == f"{where} in use"
    assert (await channel.queue_delete("jobs", if_empty=True)).message_count == 0


# --------------------------------------------------------------------------- what goes with what


class World:
    """What is there, asked on channels of their own."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def declare(self, *names: str) -> None:
        """Declare exchanges that go with their last binding."""
        for name in names:
            await self.channel.exchange_declare(name, "fanout", auto_delete=True)

    async def exchanges(self, *names: str) -> list[bool]:
        """Tell which exchanges are there."""
        return [await self._is_there(ExchangeDeclare(name, passive=True)) for name in names]

    async def queues(self, *names: str) -> list[bool]:
        """Tell which queues are there."""
        return [await self._is_there(QueueDeclare(name, passive=True)) for name in names]

    async def _is_there(self, request: Request[Any]) -> bool:
        asking = await another(self.channel)
        (answer,) = await outcomes([asking.call(request)])
        return not isinstance(answer, NotFound)


@pytest.mark.covers("S27", "S57")
@pytest_twisted.ensureDeferred
async def test_an_exchange_goes_with_its_last_binding(channel: Channel) -> None:
    """But not before it had one."""
    world = World(channel)
    await world.declare("x")
    for queue in ("a", "b"):
        await channel.queue_declare(queue, durable=True)
        await channel.queue_unbind(queue, "x")
    assert await world.exchanges("x") == [True]
    for queue in ("a", "b"):
        await channel.queue_bind(queue, "x")
        await channel.queue_bind(queue, "x", "again")
        await channel.queue_unbind(queue, "x", "again")
    await channel.queue_unbind("a", "x")
    await channel.queue_unbind("a", "x")
    assert await world.exchanges("x") == [True]
    await channel.queue_delete("b")
    assert await world.exchanges("x") == [False]


@pytest.mark.covers("S27", "S57")
@pytest.mark.parametrize("by", ["unbind", "delete of the queue", "delete of the exchange", "end"])
@pytest_twisted.ensureDeferred
async def test_exchanges_go_one_after_the_other(channel: Channel, connect: Connector, by: str) -> None:
    world = World(channel)
    await world.declare("a", "b", "c")
    await channel.exchange_bind("b", "a")
    await channel.exchange_bind("c", "b")
    owner = await connect.channel()
    await owner.queue_declare("q", exclusive=True)
    await owner.queue_bind("q", "c")
    assert await world.exchanges("a", "b", "c") == [True, True, True]
    match by:
        case "unbind":
            await owner.queue_unbind("q", "c")
        case "delete of the queue":
            await owner.queue_delete("q")
        case "delete of the exchange":
            await channel.exchange_delete("c")
        case _:
            await protocol_of(owner).close()
    assert await world.exchanges("a", "b", "c") == [False, False, False]


@pytest.mark.covers("S27", "S57")
@pytest_twisted.ensureDeferred
async def test_an_exchange_stays_if_what_it_is_bound_to_goes(channel: Channel) -> None:
    world = World(channel)
    await world.declare("a", "b")
    await channel.exchange_bind("b", "a")
    await channel.exchange_delete("a")
    assert await world.exchanges("a", "b") == [False, True]
    await channel.exchange_declare("a", "fanout")
    await channel.exchange_delete("a", if_unused=True)


@pytest.mark.covers("S27", "S57")
@pytest_twisted.ensureDeferred
async def test_exchanges_that_are_bound_in_a_circle_go_as_well(channel: Channel) -> None:
    world = World(channel)
    await world.declare("a", "b", "self")
    await channel.exchange_bind("a", "b")
    await channel.exchange_bind("b", "a")
    await channel.exchange_bind("self", "self")
    await channel.exchange_unbind("a", "b")
    await channel.exchange_unbind("self", "self")
    assert await world.exchanges("a", "b", "self") == [False, False, False]


@pytest.mark.covers("S27", "S57")
@pytest.mark.parametrize("by", ["cancel", "end of the channel"])
@pytest_twisted.ensureDeferred
async def test_a_queue_goes_with_its_last_consumer(channel: Channel, by: str) -> None:
    """And takes along the exchange that was bound to nothing else; but not before it had one."""
    world = World(channel)
    await world.declare("x")
    await channel.queue_declare("q", durable=True, auto_delete=True)
    await channel.queue_bind("q", "x")
    await channel.basic_get("q")
    first, second = await another(channel), await another(channel)
    tag = (await first.basic_consume("q", Inbox())).consumer_tag
    await second.basic_consume("q", Inbox(), consumer_tag="second")
    await first.basic_cancel(tag)
    assert (await world.queues("q"), await world.exchanges("x")) == ([True], [True])
    await (second.basic_cancel("second") if by == "cancel" else second.close())
    assert (await world.queues("q"), await world.exchanges("x")) == ([False], [False])


@pytest.mark.covers("S27")
@pytest_twisted.ensureDeferred
async def test_bindings_go_with_the_queue_and_do_not_come_back_with_its_name(publisher: Channel) -> None:
    for _ in range(2):
        await publisher.queue_declare("jobs", durable=True)
        assert await depth(publisher, "jobs") == 0
        await publisher.basic_publish(b"", exchange="amq.fanout")
        assert await depth(publisher, "jobs") == 0
        await publisher.queue_bind("jobs", "amq.fanout")
        await publisher.basic_publish(b"", exchange="amq.fanout")
        assert await depth(publisher, "jobs") == 1
        await publisher.queue_delete("jobs")


# --------------------------------------------------------------------------- publishing


@pytest.mark.covers("S57")
@pytest.mark.parametrize(
    ("exchange", "code", "text"),
    [
        ("missing", 404, "NOT_FOUND - no exchange 'missing' in {}"),
        ("inner", 403, "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in {}"),
        (
            "amq.rabbitmq.trace",
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in {}",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_where_nobody_can_publish_to(
    vhost: Vhost, publisher: Channel, exchange: str, code: int, text: str
) -> None:
    """It is said before the message is looked at."""
    await publisher.exchange_declare("inner", internal=True)
    properties = BasicProperties(headers={"CC": 1})
    error = await failure_of(publisher.basic_publish(b"", exchange=exchange, properties=properties))
    assert (error.reply_code, error.reply_text) == (code, text.format(f"vhost '{vhost.name}'"))
    assert error.operation == "basic.publish"


@pytest.mark.covers("S57")
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"CC": "a"}, '"CC",longstr'),
        ({"CC": None}, '"CC",void'),
        ({"BCC": "a", "CC": 1}, '"CC",signedint'),
        ({"CC": ["a"], "BCC": False}, '"BCC",bool'),
        ({"BCC": {"a": "b"}}, '"BCC",table'),
    ],
)
@pytest_twisted.ensureDeferred
async def test_copies_are_in_arrays(publisher: Channel, headers: dict[str, Any], reason: str) -> None:
    properties = BasicProperties(headers=headers)
    error = await failure_of(publisher.basic_publish(b"", properties=properties), PreconditionFailed)
    expected = f"PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,{reason}}}"
    assert error.reply_text == expected


@pytest.mark.covers("S56")
@pytest_twisted.ensureDeferred
async def test_a_random_exchange_gives_a_message_to_one_classic_queue(
    vhost: Vhost, publisher: Channel
) -> None:
    needs(vhost.node, "4.3", "has it")
    await publisher.exchange_declare("any", "x-local-random")
    for name, kind in (("a", "classic"), ("b", "classic"), ("c", "quorum")):
        await publisher.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
    assert await refusal(publisher, QueueBind("a", "any", "k")) == "Non empty binding 'k' key not permitted"
    wrong = "Queue type rabbit_quorum_queue not valid for this exchange type"
    assert await refusal(publisher, QueueBind("c", "any")) == wrong
    assert await refusal(publisher, ExchangeBind("amq.fanout", "any")) == "Destination not found"
    for name in ("a", "b"):
        await publisher.queue_bind(name, "any")
    for number in range(40):
        await publisher.basic_publish(b"", exchange="any", routing_key=str(number), mandatory=True)
    depths = [await depth(publisher, name) for name in ("a", "b")]
    assert sum(depths) == 40
    assert all(depths)
