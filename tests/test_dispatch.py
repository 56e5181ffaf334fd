from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred, fail, succeed

from tests.logged import LoggedErrors
from txamqpx.channel import Channel
from txamqpx.delegates import Delegate
from txamqpx.errors import AMQPError, ConnectionForced, Nacked, NoRoute, NotFound, RPCTimeout
from txamqpx.message import Confirmed, Delivery, ReturnedMessage
from txamqpx.protocol import events
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicGet,
    BasicGetEmpty,
    BasicGetOk,
    BasicNack,
    BasicProperties,
    BasicPublish,
    BasicReturn,
    ChannelClose,
    ChannelFlow,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionUnblocked,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, scripted, success_of


class Diary(Delegate):
    """A delegate that notes what it is told, and what it was told by."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def _note(self, hook: str, *arguments: Any) -> object:
        self.told.append((hook, *arguments))
        return None

    def connection_opened(self, protocol: object) -> object:
        return self._note("connection_opened", protocol)

    def connection_closed(self, protocol: object, reason: AMQPError) -> object:
        return self._note("connection_closed", protocol, type(reason))

    def connection_blocked(self, protocol: object, reason: str) -> object:
        return self._note("connection_blocked", protocol, reason)

    def connection_unblocked(self, protocol: object) -> object:
        return self._note("connection_unblocked", protocol)

    def channel_closed(self, channel: object, reason: AMQPError) -> object:
        return self._note("channel_closed", channel, type(reason))

    def flow_changed(self, channel: object, active: bool) -> object:
        return self._note("flow_changed", channel, active)

    def message_delivered(self, channel: object, delivery: Delivery) -> object:
        return self._note("message_delivered", channel, delivery.body)

    def message_returned(self, channel: object, message: ReturnedMessage) -> object:
        return self._note("message_returned", channel, message.body)

    def publish_confirmed(self, channel: object, delivery_tag: int, multiple: bool) -> object:
        return self._note("publish_confirmed", channel, delivery_tag, multiple)

    def publish_nacked(self, channel: object, delivery_tag: int, multiple: bool) -> object:
        return self._note("publish_nacked", channel, delivery_tag, multiple)

    def consumer_cancelled(self, channel: object, consumer_tag: str) -> object:
        return self._note("consumer_cancelled", channel, consumer_tag)

    def unhandled(self, channel: object, event: events.Event) -> object:
        return self._note("unhandled", channel, type(event))


def consume(peer: ScriptedPeer, channel: Channel, handler: Callable[[Delivery], object] | None) -> None:
    # The broker takes nothing back of a consumer that wants no acks: what came before a close is told.
    channel.basic_consume("q", handler, consumer_tag="c", no_ack=True)
    peer.expect(BasicConsume)
    peer.send(channel.number, BasicConsumeOk("c"))


@pytest.mark.covers("T-ACK-04", "T-CON-12")
def test_what_the_broker_takes_back_in_the_same_turn_is_not_handled() -> None:
    peer = scripted()
    peer.open()
    channel = peer.open_channel()
    got: list[bytes] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        channel.close()

    channel.basic_consume("q", take, consumer_tag="c")
    channel.basic_consume("q", take, consumer_tag="d", no_ack=True)
    for tag in "cd":
        peer.expect(BasicConsume)
        peer.send(1, BasicConsumeOk(tag))
    with peer.wire.held():
        peer.deliver(1, "c", 1, b"first")
        peer.deliver(1, "c", 2, b"comes again")
        peer.deliver(1, "d", 3, b"gone for good")
    assert got == [b"first", b"gone for good"]


@pytest.mark.covers("J02", "J03", "K04", "K06", "T17", "T09", "T-CH-10", "T-BLK-01")
def test_each_hook_is_told_once_and_in_the_order_of_the_wire() -> None:
    diary = Diary()
    peer = scripted(diary)
    peer.open()
    channel = peer.open_channel(confirm=True)
    consume(peer, channel, None)
    published = [
        channel.basic_publish(b"%d" % number, routing_key="k", mandatory=True) for number in range(4)
    ]
    for _ in published:
        peer.expect(BasicPublish)
    with peer.wire.held():
        peer.send(0, ConnectionBlocked("memory"))
        peer.send(1, BasicAck(1, False))
        peer.deliver(1, "c", 1, b"delivered")
        peer.send(1, BasicReturn(312, "NO_ROUTE", "", "k"), b"1")
        peer.send(1, BasicAck(2, False))
        peer.send(1, BasicNack(4, True))
        peer.send(1, ChannelFlow(False))
        peer.send(1, BasicCancel("c", no_wait=True))
        peer.send(0, ConnectionUnblocked())
        peer.send(1, ChannelClose(404, "NOT_FOUND", 0, 0))
        peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    assert diary.told == [
        ("connection_opened", peer.protocol),
        ("connection_blocked", peer.protocol, "memory"),
        ("publish_confirmed", channel, 1, False),
        ("message_delivered", channel, b"delivered"),
        ("message_returned", channel, b"1"),
        ("publish_confirmed", channel, 2, False),
        ("publish_nacked", channel, 4, True),
        ("flow_changed", channel, False),
        ("consumer_cancelled", channel, "c"),
        ("connection_unblocked", peer.protocol),
        ("channel_closed", channel, NotFound),
        ("connection_closed", peer.protocol, ConnectionForced),
    ]
    peer.expect(ConnectionCloseOk)
    peer.expect_nothing()  # after that nobody wants the flow-ok
    assert isinstance(success_of(published[0]), Confirmed)
    assert failure_of(published[1], NoRoute).message.body == b"1"
    failure_of(published[2], Nacked)
    assert str(failure_of(published[3], Nacked)) == "the broker refused the message (number 4)"


def test_confirms_that_follow_each_other_are_told_one_by_one() -> None:
    diary = Diary()
    peer = scripted(diary)
    peer.open()
    channel = peer.open_channel(confirm=True)
    published = [channel.basic_publish(b"") for _ in range(5)]
    with peer.wire.held():
        peer.send(1, BasicAck(1))
        peer.send(1, BasicAck(3, True))
        peer.send(1, BasicNack(4))
        peer.send(1, BasicNack(5))
    assert diary.told[1:] == [
        ("publish_confirmed", channel, 1, False),
        ("publish_confirmed", channel, 3, True),
        ("publish_nacked", channel, 4, False),
        ("publish_nacked", channel, 5, False),
    ]
    assert [repr(success_of(deferred)) for deferred in published[:3]] == [
        "Confirmed(1)",
        "Confirmed(3, multiple)",
        "Confirmed(3, multiple)",
    ]
    for number, deferred in enumerate(published[3:], 4):
        assert f"number {number}" in str(failure_of(deferred, Nacked))


def test_a_hook_that_is_set_on_the_object_is_heard_too() -> None:
    delegate: Any = Delegate()
    told: list[int] = []
    delegate.publish_confirmed = lambda channel, tag, multiple: told.append(tag)
    peer = scripted(delegate)
    peer.open()
    success_of_publish = peer.open_channel(confirm=True).basic_publish(b"")
    peer.send(1, BasicAck(1))
    success_of(success_of_publish)
    assert told == [1]


class Boom(Exception):
    pass


def raises() -> object:
    raise Boom


async def fails_as_a_coroutine() -> None:
    raise Boom


async def works() -> int:
    return await succeed(7)


WRONG: dict[str, Callable[[], object]] = {
    "raises": raises,
    "returns a Deferred that fails": lambda: fail(Boom()),
    "is a coroutine that fails": fails_as_a_coroutine,
}
WRONG_AND_RIGHT: dict[str, Callable[[], object]] = {**WRONG, "works": works, "returns a value": lambda: 7}


@pytest.mark.covers("S46", "T18", "T-CLS-08")
@pytest.mark.parametrize("way", WRONG_AND_RIGHT)
def test_what_a_hook_does_stays_local(way: str, logged_errors: LoggedErrors) -> None:
    class Delegates(Diary):
        def _note(self, hook: str, *arguments: Any) -> object:
            super()._note(hook, *arguments)
            return WRONG_AND_RIGHT[way]()

    diary = Delegates()
    peer = scripted(diary)
    peer.open()
    channel = peer.open_channel(confirm=True)
    consume(peer, channel, None)
    published = channel.basic_publish(b"", mandatory=True)
    with peer.wire.held():
        peer.send(0, ConnectionBlocked("memory"))
        peer.deliver(1, "c", 1)
        peer.send(1, BasicReturn(312, "NO_ROUTE", "", ""), b"")
        peer.send(1, BasicAck(1))
        peer.send(1, ChannelFlow(False))
        peer.send(1, BasicCancel("c", no_wait=True))
        peer.send(0, ConnectionUnblocked())
        peer.deliver(1, "nobody", 2)
    failure_of(published, NoRoute)
    assert channel.is_open
    declared = channel.queue_declare("q")
    peer.heard.clear()
    peer.send(1, QueueDeclareOk("q", 0, 0))
    assert success_of(declared).queue == "q"
    assert len(logged_errors.flush(Boom)) == (len(diary.told) if way in WRONG else 0)
    assert len(diary.told) == 9
    peer.hang_up()
    assert len(logged_errors.flush(Boom)) == (2 if way in WRONG else 0)
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.covers("S46", "T-CON-13")
@pytest.mark.parametrize("way", WRONG_AND_RIGHT)
def test_what_a_consumer_does_stays_local(way: str, logged_errors: LoggedErrors) -> None:
    got: list[bytes] = []

    def handler(delivery: Delivery) -> object:
        got.append(delivery.body)
        return WRONG_AND_RIGHT[way]()

    peer = scripted()
    peer.open()
    channel = peer.open_channel()
    consume(peer, channel, handler)
    with peer.wire.held():
        peer.deliver(1, "c", 1, b"one")
        peer.deliver(1, "c", 2, b"two")
    assert got == [b"one", b"two"]
    assert channel.is_open
    assert len(logged_errors.flush(Boom)) == (2 if way in WRONG else 0)


def test_a_consumer_that_takes_its_time_holds_nobody_up(logged_errors: LoggedErrors) -> None:
    never: Deferred[None] = Deferred()
    got: list[int] = []

    def handler(delivery: Delivery) -> Deferred[None]:
        got.append(delivery.delivery_tag)
        return never

    peer = scripted()
    peer.open()
    consume(peer, peer.open_channel(), handler)
    peer.deliver(1, "c", 1)
    peer.deliver(1, "c", 2)
    assert got == [1, 2]
    never.errback(Boom())
    assert len(logged_errors.flush(Boom)) == 1


@pytest.mark.covers("T-CON-04")
def test_a_delivery_for_nobody_goes_back_and_is_told() -> None:
    diary = Diary()
    peer = scripted(diary)
    peer.open()
    channel = peer.open_channel()
    peer.deliver(1, "nobody", 5)
    peer.expect(BasicNack(5, False, True))
    assert diary.told[-1] == ("unhandled", channel, Delivery)


def test_what_the_broker_asks_and_nobody_knows_is_told() -> None:
    diary = Diary()
    peer = scripted(diary)
    peer.open()
    channel = peer.open_channel()
    peer.protocol._deliver_events([events.Requested(channel.core, QueueDeclare("q"))])
    peer.protocol._deliver_events([events.Requested(None, ConnectionUnblocked())])
    assert diary.told[1:] == [
        ("unhandled", channel, events.Requested),
        ("unhandled", None, events.Requested),
    ]


def test_an_event_that_cannot_be_dealt_with_keeps_none_from_the_others(logged_errors: LoggedErrors) -> None:
    diary = Diary()
    peer = scripted(diary)
    peer.open()
    unknown: Any = object()
    peer.protocol._deliver_events([unknown, events.Blocked("memory")])
    assert diary.told[-1] == ("connection_blocked", peer.protocol, "memory")
    assert len(logged_errors.flush(KeyError)) == 1


# Late answers: T-CH-06.


@pytest.mark.covers("T-CH-06", "T-CON-10")
@pytest.mark.parametrize("way", ["cancelled", "timed out"])
def test_a_consumer_that_nobody_waits_for_any_more_is_cancelled(way: str) -> None:
    peer = scripted(rpc_timeout=5.0)
    peer.open()
    channel = peer.open_channel()
    got: list[Delivery] = []
    consuming = channel.basic_consume("q", got.append)
    tag = peer.expect(BasicConsume).method.consumer_tag
    if way == "cancelled":
        consuming.cancel()
        failure_of(consuming, CancelledError)
    else:
        peer.advance(5.0)
        failure_of(consuming, RPCTimeout)
    peer.send(1, BasicConsumeOk(tag))
    peer.expect(BasicCancel(tag), 1)
    peer.send(1, BasicCancelOk(tag))
    peer.expect_nothing()
    assert channel.is_open


@pytest.mark.covers("T-CH-06", "T-CH-09")
def test_a_message_that_nobody_waits_for_any_more_goes_back() -> None:
    peer = scripted()
    peer.open()
    channel = peer.open_channel()
    first, second = channel.basic_get("q"), channel.basic_get("q", no_ack=True)
    third = channel.basic_get("q")
    first.cancel()
    second.cancel()
    for wanted in (first, second):
        failure_of(wanted, CancelledError)
    for no_ack in (False, True, False):
        peer.expect(BasicGet("q", no_ack))
    peer.send(1, BasicGetOk(1, False, "", "q", 9), b"one")
    peer.expect(BasicNack(1, False, True))
    peer.send(1, BasicGetOk(2, False, "", "q", 8), b"two")
    peer.expect_nothing()
    assert is_pending(third)
    peer.send(1, BasicGetEmpty())
    assert success_of(third) is None


def test_a_late_answer_after_the_channel_was_closed_by_a_callback_harms_nobody() -> None:
    peer = scripted()
    peer.open()
    channel = peer.open_channel()
    declared = channel.queue_declare("x")
    closed = Watched(declared.addCallback(lambda _: channel.close()))
    getting, consuming = channel.basic_get("q"), channel.basic_consume("q", consumer_tag="c")
    for late in (getting, consuming):
        late.cancel()
        failure_of(late, CancelledError)
    with peer.wire.held():
        peer.send(1, QueueDeclareOk("x", 0, 0))
        peer.send(1, BasicGetOk(1, False, "", "q", 9), b"one")
        peer.send(1, BasicConsumeOk("c"))
    for wanted in (QueueDeclare, BasicGet, BasicConsume, ChannelClose):
        peer.expect(wanted)
    peer.expect_nothing()
    assert closed.value is None


def test_properties_come_back_with_a_returned_message() -> None:
    peer = scripted()
    peer.open()
    channel = peer.open_channel(confirm=True)
    properties = BasicProperties(message_id="m")
    published = channel.basic_publish(b"body", routing_key="k", properties=properties, mandatory=True)
    peer.send(1, BasicReturn(312, "NO_ROUTE", "", "k"), b"body", properties)
    assert is_pending(published)
    peer.send(1, BasicAck(1))
    error = failure_of(published, NoRoute)
    assert error.message.properties == properties
    assert (error.reply_code, error.exchange, error.routing_key) == (312, "", "k")


@pytest.mark.covers("T-CLS-07")
@pytest.mark.parametrize("word", [BasicAck(3, True), BasicNack(3, True)])
def test_who_fires_the_deferred_of_a_publish_hurts_no_neighbour(
    word: BasicAck | BasicNack, logged_errors: LoggedErrors
) -> None:
    peer = scripted()
    peer.open()
    channel = peer.open_channel(confirm=True)
    published = [channel.basic_publish(b"%d" % number, routing_key="k") for number in range(3)]
    outcomes = [Watched(one) for one in published]
    published[1].callback(None)
    peer.send(1, word)
    assert not any(outcome.pending for outcome in outcomes)
    assert len(logged_errors.flush(AlreadyCalledError)) == 1
