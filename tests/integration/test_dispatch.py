"""Who gets a queue's next message, and what a consumer is refused: the same on every broker."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted

from tests.brokers_plugin import Vhost
from tests.integration.support import (
    CLOCK,
    PATIENCE,
    Connector,
    Inbox,
    Recorder,
    all_of,
    another,
    depth,
    drain,
    failure_of,
    fill,
    get,
    is_since,
    numbered,
    protocol_of,
    soon,
    until_ready,
)
from txamqpx.channel import Channel
from txamqpx.errors import (
    AccessRefused,
    AMQPNotImplemented,
    Closed,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicConsume,
    BasicNack,
    BasicQos,
    BasicRecover,
    BasicRecoverAsync,
    BasicReject,
    ChannelFlow,
    ChannelFlowOk,
)
from txamqpx.spec.base import Method

SINGLE = {"x-single-active-consumer": True}


def say(channel: Channel, method: Method) -> None:
    """Send what our own client would not."""
    channel.core.connection.outbox.append(frame(METHOD, channel.number, method.encode()))


async def refusal(channel: Channel, method: Method) -> Closed:
    """Send a method, and return the reason for which the broker closes the channel or the connection."""
    say(channel, method)
    reason = await soon(channel.when_closed())
    assert isinstance(reason, Closed)
    return reason


async def feed(channel: Channel, queue: str, *bodies: bytes) -> None:
    """Publish to a queue that is there; what its consumers can take, they have been given then."""
    publisher = await another(channel, confirms=True)
    await all_of(publisher.basic_publish(body, routing_key=queue, mandatory=True) for body in bodies)
    await publisher.close()


async def consuming(channel: Channel, queue: str, prefetch: int = 0, **options: Any) -> Inbox:
    """Start a consumer with a window of its own, and return what it gets."""
    inbox = Inbox()
    await channel.basic_qos(prefetch)
    await channel.basic_consume(queue, inbox, **options)
    return inbox


def place(channel: Channel, queue: str = "q") -> str:
    """Return how a broker calls a queue."""
    return f"queue '{queue}' in vhost '{protocol_of(channel).parameters.virtual_host}'"


async def consumers(channel: Channel, queue: str) -> int:
    """Return how many consumers a queue says that it has."""
    return (await channel.queue_declare(queue, passive=True)).consumer_count


# --------------------------------------------------------------------------- in turn


@pytest_twisted.ensureDeferred
async def test_equals_take_turns_in_the_order_in_which_they_came(channel: Channel) -> None:
    await fill(channel, "q", [])
    other = await another(channel)
    inboxes = [await consuming(one, "q") for one in (channel, other, channel)]
    await feed(channel, "q", *numbered(9))
    await depth(channel, "q")
    await depth(other, "q")
    assert [inbox.bodies for inbox in inboxes] == [numbered(9)[first::3] for first in range(3)]


@pytest_twisted.ensureDeferred
async def test_what_waits_goes_to_whoever_comes_first(channel: Channel) -> None:
    await fill(channel, "q", numbered(4))
    first = await consuming(channel, "q", 3)
    second = await consuming(channel, "q", 3)
    await depth(channel, "q")
    assert (first.bodies, second.bodies) == (numbered(3), [b"3"])


@pytest_twisted.ensureDeferred
async def test_who_cannot_take_a_message_loses_the_turn(channel: Channel) -> None:
    await fill(channel, "q", [])
    small, large = await consuming(channel, "q", 2), await consuming(channel, "q")
    await feed(channel, "q", *numbered(8))
    await depth(channel, "q")
    assert (small.bodies, large.bodies) == ([b"0", b"2"], [b"1", *numbered(8)[3:]])
    small.got[0].ack()
    await depth(channel, "q")
    await feed(channel, "q", b"a", b"b", b"c")  # who comes back does so at the end of the line
    await depth(channel, "q")
    assert (small.bodies[2:], large.bodies[6:]) == ([b"b"], [b"a", b"c"])


@pytest_twisted.ensureDeferred
async def test_an_ack_is_a_turn_for_whoever_gave_it(channel: Channel) -> None:
    await fill(channel, "q", [])
    inboxes = [await consuming(channel, "q", 1) for _ in range(3)]
    await feed(channel, "q", *numbered(6))
    await depth(channel, "q")
    for index in (2, 0, 1):
        inboxes[index].got[0].ack()
        await depth(channel, "q")
    assert [inbox.bodies for inbox in inboxes] == [[b"0", b"4"], [b"1", b"5"], [b"2", b"3"]]


@pytest_twisted.ensureDeferred
async def test_acks_count_in_their_order_even_if_they_come_together(channel: Channel) -> None:
    await fill(channel, "q", [])
    low = await consuming(channel, "q", 1)
    high = await consuming(channel, "q", 1, arguments={"x-priority": 1})
    await feed(channel, "q", *numbered(4))
    await depth(channel, "q")
    low.got[0].ack()  # in one piece with the next one, which is from one of a higher priority
    high.got[0].ack()
    await depth(channel, "q")
    assert (high.bodies, low.bodies) == ([b"0", b"3"], [b"1", b"2"])


@pytest_twisted.ensureDeferred
async def test_an_ack_of_many_is_one_turn(channel: Channel) -> None:
    await fill(channel, "q", [])
    inboxes = [await consuming(channel, "q", 1) for _ in range(2)]
    await feed(channel, "q", *numbered(4))
    await depth(channel, "q")
    await channel.basic_ack(0, multiple=True)
    await depth(channel, "q")
    assert [inbox.bodies for inbox in inboxes] == [[b"0", b"2"], [b"1", b"3"]]


@pytest.mark.covers("T-QOS-01")
@pytest_twisted.ensureDeferred
async def test_who_takes_over_a_tag_gets_the_credit_for_what_its_former_holder_had(channel: Channel) -> None:
    """So a consumer that is ended and begun again to change its window may get more than that."""
    await fill(channel, "q", numbered(6))
    former = await consuming(channel, "q", 2, consumer_tag="t")
    await former.take(2)
    await channel.basic_cancel("t")
    inbox = await consuming(channel, "q", 1, consumer_tag="t")
    await depth(channel, "q")
    assert inbox.bodies == [b"2"]
    for delivery in former.got:
        delivery.ack()
    await depth(channel, "q")
    assert inbox.bodies == [b"2", b"3", b"4"]


@pytest_twisted.ensureDeferred
async def test_a_consumer_that_acks_nothing_has_no_window(channel: Channel) -> None:
    await fill(channel, "q", [])
    free, bound = await consuming(channel, "q", 1, no_ack=True), await consuming(channel, "q", 1)
    await feed(channel, "q", *numbered(6))
    await depth(channel, "q")
    assert (free.bodies, bound.bodies) == ([b"0", *numbered(6)[2:]], [b"1"])
    await channel.close()
    other = await another(channel)
    assert [delivery.body for delivery in [await get(other, "q")]] == [b"1"]


@pytest_twisted.ensureDeferred
async def test_a_consumer_gets_its_own_channel_s_messages_though_it_asked_not_to(channel: Channel) -> None:
    await channel.queue_declare("q", durable=True)
    inbox = await consuming(channel, "q", no_local=True)
    await channel.basic_publish(b"mine", routing_key="q")
    assert [delivery.body for delivery in await inbox.take()] == [b"mine"]


# --------------------------------------------------------------------------- priorities


@pytest_twisted.ensureDeferred
async def test_the_highest_priority_gets_all_that_it_can_take(channel: Channel) -> None:
    await fill(channel, "q", [])
    middle = await consuming(channel, "q", 2)
    high = await consuming(channel, "q", 2, arguments={"x-priority": 5})
    low = await consuming(channel, "q", 2, arguments={"x-priority": -1})
    await feed(channel, "q", *numbered(5))
    await depth(channel, "q")
    assert [inbox.bodies for inbox in (high, middle, low)] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
    await feed(channel, "q", b"5", b"6", b"7")
    await depth(channel, "q")
    assert low.bodies == [b"4", b"5"]
    low.got[0].ack()
    await depth(channel, "q")
    high.got[0].ack()
    await depth(channel, "q")
    assert [inbox.bodies[2:] for inbox in (high, middle, low)] == [[b"7"], [], [b"6"]]


@pytest_twisted.ensureDeferred
async def test_equals_of_a_priority_take_turns(channel: Channel) -> None:
    await fill(channel, "q", [])
    low = await consuming(channel, "q")
    high = [await consuming(channel, "q", 2, arguments={"x-priority": 1}) for _ in range(2)]
    await feed(channel, "q", *numbered(6))
    await depth(channel, "q")
    assert [inbox.bodies for inbox in high] == [[b"0", b"2"], [b"1", b"3"]]
    assert low.bodies == [b"4", b"5"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("high", "longstr"), (1.5, "double"), (True, "bool"), (None, "void"), ([1], "array"), (b"1", "binary")],
)
@pytest_twisted.ensureDeferred
async def test_a_priority_is_a_whole_number(channel: Channel, value: Any, kind: str) -> None:
    await channel.queue_declare("q", durable=True)
    error = await failure_of(
        channel.basic_consume("q", Inbox(), arguments={"x-priority": value}), PreconditionFailed
    )
    wrong = f"invalid arg 'x-priority' for {place(channel)}"
    assert error.reply_text == f'PRECONDITION_FAILED - {wrong}: "expected integer, got {kind}"'


@pytest_twisted.ensureDeferred
async def test_arguments_that_are_for_other_kinds_of_queues(
    vhost: Vhost, channel: Channel, connect: Connector
) -> None:
    since = {"x-stream-offset": "3.10", "x-consumer-timeout": "4.3"}
    await channel.queue_declare("q", durable=True)
    for name, release in since.items():
        other = await connect.channel()
        consumed = other.basic_consume("q", Inbox(), arguments={name: 1})
        if is_since(vhost.node, release):
            error = await failure_of(consumed, PreconditionFailed)
            wrong = f"invalid arg '{name}' for {place(channel)} of queue type rabbit_classic_queue"
            assert error.reply_text == f"PRECONDITION_FAILED - {wrong}"
        else:
            await soon(consumed)
    await channel.basic_consume("q", Inbox(), arguments={"x-nobody-knows-it": 1, "x-priority": 2**40})


# --------------------------------------------------------------------------- windows


@pytest_twisted.ensureDeferred
async def test_the_window_of_a_channel_is_for_new_consumers_only(channel: Channel) -> None:
    await fill(channel, "q", numbered(9))
    early = await consuming(channel, "q", 1)
    await channel.basic_qos(3)
    await depth(channel, "q")
    assert early.bodies == [b"0"]
    late = await consuming(channel, "q", 3)
    await channel.basic_qos(1)
    await depth(channel, "q")
    assert late.bodies == [b"1", b"2", b"3"]
    early.got[0].ack()
    await depth(channel, "q")
    assert early.bodies == [b"0", b"4"]


@pytest_twisted.ensureDeferred
async def test_no_window_is_no_limit(channel: Channel) -> None:
    await fill(channel, "q", numbered(150))
    inbox = await consuming(channel, "q", 0)
    await inbox.take(150)


@pytest_twisted.ensureDeferred
async def test_what_is_fetched_does_not_count_for_the_window(channel: Channel) -> None:
    await fill(channel, "q", numbered(4))
    await get(channel, "q", no_ack=False)
    inbox = await consuming(channel, "q", 2)
    await depth(channel, "q")
    assert inbox.bodies == [b"1", b"2"]
    assert (await get(channel, "q", no_ack=False)).body == b"3"


@pytest.mark.covers("T-QOS-02")
@pytest_twisted.ensureDeferred
async def test_windows_of_a_consumer_and_of_its_channel(vhost: Vhost, channel: Channel) -> None:
    """From 4.3 on there is none of a channel: who asks for one gets it for each consumer."""
    permitted = not is_since(vhost.node, "4.3")
    for name in "ab":
        await fill(channel, name, numbered(6))
    await channel.basic_qos(2)
    await channel.basic_qos(3, global_=True)
    inboxes = {}
    for name in "ab":
        inboxes[name] = Inbox()
        await channel.basic_consume(name, inboxes[name])
        await depth(channel, name)

    async def sizes() -> list[int]:
        for name in inboxes:
            await depth(channel, name)
        return [len(inbox.got) for inbox in inboxes.values()]

    assert await sizes() == ([2, 1] if permitted else [3, 3])
    await channel.basic_qos(4, global_=True)
    assert await sizes() == ([2, 2] if permitted else [3, 3])
    await channel.basic_qos(0, global_=True)
    assert await sizes() == ([2, 2] if permitted else [3, 3])


@pytest.mark.covers("T-QOS-02")
@pytest_twisted.ensureDeferred
async def test_the_window_of_a_channel_takes_effect_at_once(vhost: Vhost, channel: Channel) -> None:
    permitted = not is_since(vhost.node, "4.3")
    await fill(channel, "q", numbered(6))
    inbox = await consuming(channel, "q")
    await inbox.take(6)
    await channel.basic_qos(2, global_=True)
    await feed(channel, "q", b"a", b"b", b"c")
    assert await depth(channel, "q") == (3 if permitted else 0)
    if not permitted:
        return
    for delivery in inbox.got[:4]:
        delivery.ack()
    assert await depth(channel, "q") == 3  # two are still unsettled
    inbox.got[4].ack()
    assert await depth(channel, "q") == 2
    assert (await get(channel, "q", no_ack=False)).body == b"b"  # who fetches is not asked
    await channel.basic_qos(0)  # a window for consumers takes away that of the channel
    assert await depth(channel, "q") == 0


@pytest_twisted.ensureDeferred
async def test_a_window_in_bytes_and_a_pause_are_not_implemented(connect: Connector) -> None:
    for method, text in (
        (BasicQos(100, 1, False), "prefetch_size!=0 (100)"),
        (ChannelFlow(False), "active=false"),
    ):
        reason = await refusal(await connect.channel(), method)
        assert isinstance(reason, AMQPNotImplemented)
        assert reason.reply_text == f"NOT_IMPLEMENTED - {text}"
    channel = await connect.channel()
    assert await channel.call(ChannelFlow(True)) == ChannelFlowOk(True)


# --------------------------------------------------------------------------- alone


@pytest_twisted.ensureDeferred
async def test_who_wants_to_be_alone_has_to_be_the_first(channel: Channel) -> None:
    await channel.queue_declare("q", durable=True)
    await channel.basic_consume("q", Inbox(), consumer_tag="shares")
    other = await another(channel)
    error = await failure_of(other.basic_consume("q", Inbox(), exclusive=True), AccessRefused)
    assert error.reply_text == f"ACCESS_REFUSED - {place(channel)} in exclusive use"
    await channel.basic_cancel("shares")
    await channel.basic_consume("q", Inbox(), exclusive=True)
    other = await another(channel)
    error = await failure_of(other.basic_consume("q", Inbox()), AccessRefused)
    assert error.reply_text == f"ACCESS_REFUSED - {place(channel)} in exclusive use"


@pytest_twisted.ensureDeferred
async def test_a_message_can_be_fetched_beside_an_exclusive_consumer(
    channel: Channel, connect: Connector
) -> None:
    await fill(channel, "q", numbered(2))
    inbox = await consuming(channel, "q", 1, exclusive=True)
    await inbox.take()
    assert (await get(await connect.channel(), "q")).body == b"1"


@pytest.mark.covers("T-CON-14")
@pytest_twisted.ensureDeferred
async def test_the_next_single_active_consumer_is_that_of_the_highest_priority(
    channel: Channel, connect: Connector
) -> None:
    await fill(channel, "q", [], SINGLE)
    others = [await connect.channel() for _ in range(2)]
    first = await consuming(channel, "q", consumer_tag="first")
    second = await consuming(others[0], "q")
    third = await consuming(others[1], "q", arguments={"x-priority": 10})
    await feed(channel, "q", b"0")
    for one in (channel, *others):
        await depth(one, "q")
    assert (first.bodies, second.bodies, third.bodies) == ([b"0"], [], [])
    assert await consumers(channel, "q") == 3
    await channel.basic_cancel("first")
    await feed(channel, "q", b"1")
    await third.take()
    await others[1].close()
    assert [(one.body, one.redelivered) for one in await second.take()] == [(b"1", True)]
    assert await consumers(channel, "q") == 1
    assert first.bodies == [b"0"]


@pytest.mark.covers("T-CON-14")
@pytest_twisted.ensureDeferred
async def test_nobody_helps_a_single_active_consumer(
    vhost: Vhost, channel: Channel, connect: Connector
) -> None:
    await fill(channel, "q", numbered(3), SINGLE)
    active = await consuming(channel, "q", 1, consumer_tag="active")
    other = await connect.channel()
    waiting = await consuming(other, "q")
    await depth(channel, "q")
    assert await depth(other, "q") == 2
    assert (active.bodies, waiting.bodies) == ([b"0"], [])
    await channel.basic_cancel("active")
    if is_since(vhost.node, "4.0"):
        await waiting.take(2)
    else:  # the successor waits for something to happen, and an ack is nothing
        active.got[0].ack()
        await depth(channel, "q")
        assert await depth(other, "q") == 2
        (await get(channel, "q", no_ack=False)).reject()
        assert [one.body for one in await waiting.take(2)] == [b"1", b"2"]


@pytest_twisted.ensureDeferred
async def test_a_single_active_consumer_is_not_exclusive(channel: Channel) -> None:
    await fill(channel, "q", [b"fetched"], SINGLE)
    assert (await get(channel, "q")).body == b"fetched"
    error = await failure_of(channel.basic_consume("q", Inbox(), exclusive=True), AccessRefused)
    assert error.reply_text.endswith(" in exclusive use")


# --------------------------------------------------------------------------- tags


@pytest.mark.covers("T-CON-02")
@pytest_twisted.ensureDeferred
async def test_a_tag_that_is_taken_costs_the_connection(channel: Channel) -> None:
    await channel.queue_declare("q", durable=True)
    await channel.basic_consume("q", Inbox(), consumer_tag="t")
    reason = await refusal(channel, BasicConsume("missing", "t"))
    assert isinstance(reason, NotAllowed)
    assert (reason.reply_text, reason.operation) == (
        "NOT_ALLOWED - attempt to reuse consumer tag 't'",
        "basic.consume",
    )
    assert not protocol_of(channel).is_open


@pytest_twisted.ensureDeferred
async def test_who_names_no_tag_is_given_one(channel: Channel, told: Recorder) -> None:
    await fill(channel, "q", [b"1", b"2"])
    await channel.basic_qos(1)
    for _ in range(2):
        say(channel, BasicConsume("q", "", False, False, False, True))
    tags = {(await told.next("unhandled"))[0].consumer_tag for _ in range(2)}
    assert all(re.fullmatch(r"amq\.ctag-[-_A-Za-z0-9]{22}", tag) for tag in tags)
    assert await consumers(channel, "q") == 2


@pytest_twisted.ensureDeferred
async def test_what_needs_no_answer_gets_none(channel: Channel, told: Recorder) -> None:
    await fill(channel, "q", [b"1"])
    say(channel, BasicConsume("q", "t", False, False, False, True))
    (delivery,) = await told.next("unhandled")  # and it is given back
    assert delivery.consumer_tag == "t"
    say(channel, BasicCancel("t", True))
    say(channel, BasicCancel("nobody", True))
    await depth(channel, "q")
    assert await consumers(channel, "q") == 0
    reason = await refusal(channel, BasicConsume("missing", "t", False, True, False, True))
    assert isinstance(reason, NotFound)


@pytest.mark.covers("T-CON-05", "T-CON-08")
@pytest_twisted.ensureDeferred
async def test_only_who_understands_it_is_told_that_a_consumer_is_over(
    channel: Channel, connect: Connector
) -> None:
    deaf, keen = Recorder(), Recorder()
    unable = {"capabilities": {"consumer_cancel_notify": False}}
    protocols = [await connect(delegate=deaf, client_properties=unable), await connect(delegate=keen)]
    channels = [await protocol.open_channel() for protocol in protocols]
    await channel.queue_declare("q", durable=True)
    inbox = Inbox()
    for one in channels:
        await one.basic_consume("q", inbox, consumer_tag="t")
    await channel.queue_delete("q")
    assert await keen.next("consumer_cancelled") == ("t",)
    await fill(channel, "q", [b"1"])
    say(channels[1], BasicConsume("q", "t", False, False, False, True))  # to the broker the tag is free
    assert [delivery.body for delivery in await inbox.take()] == [b"1"]
    await channels[0].basic_qos(1)
    assert "consumer_cancelled" not in deaf.names()
    assert await consumers(channel, "q") == 1


# --------------------------------------------------------------------------- what is not there


@pytest_twisted.ensureDeferred
async def test_queues_that_cannot_be_consumed_from(channel: Channel, connect: Connector) -> None:
    await channel.queue_declare("mine", exclusive=True)
    missing = f"NOT_FOUND - no {place(channel, 'missing')}"
    locked = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked {place(channel, 'mine')}. It could be "
        "originally declared on another connection or the exclusive property value does not match that of "
        "the original declaration."
    )
    expected: tuple[tuple[str, type[Closed], str], ...] = (
        ("missing", NotFound, missing),
        ("mine", ResourceLocked, locked),
        ("", NotFound, "NOT_FOUND - no previously declared queue"),
    )
    for queue, kind, text in expected:
        for use in ("basic_consume", "basic_get"):
            other = await connect.channel()
            error = await failure_of(getattr(other, use)(queue), kind)
            assert error.reply_text == (text if len(text) <= 255 else f"{text[:252]}...")
            assert error.operation == use.replace("_", ".")


# --------------------------------------------------------------------------- settling


@pytest.mark.covers("T-ACK-02", "T-ACK-03")
@pytest.mark.parametrize(
    "method",
    [
        BasicAck(7, False),
        BasicAck(7, True),
        BasicAck(0, False),
        BasicNack(7, False, True),
        BasicNack(7, True, False),
        BasicNack(0, False, True),
        BasicReject(7, True),
        BasicReject(0, False),
    ],
    ids=repr,
)
@pytest_twisted.ensureDeferred
async def test_a_delivery_that_there_is_not(channel: Channel, method: Any) -> None:
    await fill(channel, "q", [b"1"])
    inbox = await consuming(channel, "q")
    await inbox.take()
    reason = await refusal(channel, method)
    assert isinstance(reason, PreconditionFailed)
    assert reason.reply_text == f"PRECONDITION_FAILED - unknown delivery tag {method.delivery_tag}"
    assert reason.operation == method.name
    assert (await get(await another(channel), "q")).redelivered


@pytest.mark.covers("T-ACK-03")
@pytest_twisted.ensureDeferred
async def test_all_of_nothing_is_no_error(channel: Channel) -> None:
    for method in (BasicAck(0, True), BasicNack(0, True, True), BasicNack(0, True, False)):
        say(channel, method)
    await channel.basic_qos(1)
    assert channel.is_open


@pytest.mark.covers("T-ACK-02", "T-ACK-03", "T-ACK-05")
@pytest_twisted.ensureDeferred
async def test_an_ack_counts_once_and_what_came_before_an_error_stays(
    channel: Channel, connect: Connector
) -> None:
    await fill(channel, "q", numbered(4))
    doomed = await connect.channel()
    inbox = await consuming(doomed, "q")
    await inbox.take(4)
    say(doomed, BasicAck(2, False))
    say(doomed, BasicAck(3, False))
    reason = await refusal(doomed, BasicAck(3, True))
    assert reason.reply_text == "PRECONDITION_FAILED - unknown delivery tag 3"
    await until_ready(channel, "q", 2)
    assert await drain(channel, "q") == [b"0", b"3"]
    await feed(channel, "q", b"gone")
    doomed = await another(doomed)
    inbox = await consuming(doomed, "q", no_ack=True)
    (delivery,) = await inbox.take()
    reason = await refusal(doomed, BasicAck(delivery.delivery_tag, False))
    assert isinstance(reason, PreconditionFailed)


@pytest_twisted.ensureDeferred
async def test_delivery_tags_are_counted_by_channel(channel: Channel) -> None:
    await fill(channel, "q", numbered(3))
    assert (await get(channel, "q")).delivery_tag == 1  # those which need no ack count, too
    inbox = await consuming(channel, "q", no_ack=False)
    assert [delivery.delivery_tag for delivery in await inbox.take(2)] == [2, 3]
    await channel.basic_nack(2, multiple=True)
    assert [(one.body, one.delivery_tag) for one in await inbox.take(1)] == [(b"1", 4)]


@pytest.mark.covers("T-CON-03")
@pytest_twisted.ensureDeferred
async def test_what_a_cancelled_consumer_had_stays_with_its_channel(channel: Channel) -> None:
    await fill(channel, "q", numbered(3))
    inbox = await consuming(channel, "q", consumer_tag="t")
    await inbox.take(3)
    await channel.basic_cancel("t")
    assert (await depth(channel, "q"), await consumers(channel, "q")) == (0, 0)
    inbox.got[1].ack()
    await channel.basic_recover()
    await until_ready(channel, "q", 2)
    assert await drain(channel, "q") == [b"0", b"2"]


@pytest.mark.covers("T-ACK-04")
@pytest_twisted.ensureDeferred
async def test_recover(channel: Channel, connect: Connector) -> None:
    await fill(channel, "q", numbered(3))
    inbox = await consuming(channel, "q")
    await inbox.take(3)
    say(channel, BasicRecoverAsync(True))
    again = await inbox.take(3)
    assert [(one.body, one.delivery_tag, one.redelivered) for one in again] == [
        (b"0", 4, True),
        (b"1", 5, True),
        (b"2", 6, True),
    ]
    for method in (BasicRecover(False), BasicRecoverAsync(False)):
        other = await connect.channel()
        reason = await refusal(other, method)
        assert isinstance(reason, AMQPNotImplemented)
        assert (reason.reply_text, reason.operation) == ("NOT_IMPLEMENTED - requeue=false", method.name)
        assert not protocol_of(other).is_open


@pytest_twisted.ensureDeferred
async def test_what_is_given_back_takes_its_old_place(channel: Channel) -> None:
    await fill(channel, "q", numbered(6))
    inbox = await consuming(channel, "q", 5, consumer_tag="t")
    await inbox.take(5)
    await channel.basic_cancel("t")
    for index in (3, 0, 4, 1, 2):
        inbox.got[index].nack()
    await until_ready(channel, "q", 6)
    assert await drain(channel, "q") == numbered(6)


# --------------------------------------------------------------------------- the end


@pytest_twisted.ensureDeferred
async def test_a_queue_ends_with_its_last_consumer(channel: Channel) -> None:
    await channel.queue_declare("q", durable=True, auto_delete=True)
    other = await another(channel)
    await channel.basic_consume("q", Inbox(), consumer_tag="t")
    await other.basic_consume("q", Inbox())
    await channel.basic_cancel("t")
    assert await consumers(channel, "q") == 1
    await other.close()
    deadline = CLOCK.seconds() + PATIENCE
    while CLOCK.seconds() < deadline:
        try:
            one = await another(channel)
            await one.queue_declare("q", passive=True)
        except NotFound:
            return
        await one.close()
    pytest.fail("it is still there")
