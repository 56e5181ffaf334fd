from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.pair import (
    CLOSE_OK,
    Said,
    assert_all_back,
    assert_said,
    client,
    confirms_in,
    consuming,
    deliver,
    ended_with,
    method_frame,
    of_kind,
    one,
    only,
    open_channel,
    publish,
    said,
    say,
)
from txamqpx.errors import RemoteProtocolError
from txamqpx.protocol import events
from txamqpx.protocol.arrivals import WHILE_CLOSING
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.events import Delivered
from txamqpx.protocol.frames import BODY, METHOD, body_frames, frame, header_frame
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicDeliver,
    BasicGet,
    BasicGetOk,
    BasicNack,
    BasicProperties,
    BasicReturn,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelFlowOk,
)


@pytest.fixture
def core() -> Connection:
    return client()


def delivery(
    tag: int,
    body: bytes = b"body",
    *,
    consumer: str = "c",
    redelivered: bool = False,
    exchange: str = "e",
    key: str = "k",
    frame_max: int = 131072,
    **properties: Any,
) -> bytes:
    method = BasicDeliver(consumer, tag, redelivered, exchange, key)
    return say(method, 1, body, BasicProperties(**properties), frame_max)


# --------------------------------------------------------------------------- deliveries


def test_a_delivery_has_everything_that_came_with_it(core: Connection) -> None:
    channel = consuming(core)
    data = delivery(7, b"body", redelivered=True, exchange="é", key="k", message_id="m")
    message = only(Delivered, core.receive_data(data))
    assert (message.core, message.consumer, message.consumer_tag) == (channel, "C", "c")
    assert (message.delivery_tag, message.redelivered, message.settled) == (7, True, False)
    assert (message.exchange, message.routing_key, message.message_count) == ("é", "k", None)
    assert (message.body, message.properties) == (b"body", BasicProperties(message_id="m"))


DIFFERENT: list[dict[str, Any]] = [
    {},
    {},
    {"body": b"other"},
    {"body": b"more than before"},
    {"body": b""},
    {"body": b""},
    {"body": b"body"},
    {"message_id": "1"},
    {"message_id": "2"},
    {"message_id": "2", "body": b"x" * 5000, "frame_max": 4096},
    {"message_id": "2"},
    {"exchange": "f"},
    {"key": "l"},
    {"exchange": "ek", "key": ""},
    {"redelivered": True},
    {"consumer": "d"},
    {},
]


@pytest.mark.covers("T-FR-01")
@pytest.mark.parametrize("together", [True, False])
def test_no_delivery_is_taken_for_the_one_before(core: Connection, together: bool) -> None:
    channel = consuming(core)
    consuming(core, "d", channel=channel)
    words = [delivery(tag, **different) for tag, different in enumerate(DIFFERENT, 1)]
    if together:
        happened = core.receive_data(b"".join(words))
    else:
        happened = [event for word in words for event in core.receive_data(word)]
    found = of_kind(Delivered, happened)
    assert len(found) == len(DIFFERENT)
    for tag, (message, different) in enumerate(zip(found, DIFFERENT, strict=True), 1):
        assert message.delivery_tag == tag
        assert message.body == different.get("body", b"body")
        assert message.properties == BasicProperties(message_id=different.get("message_id"))
        assert message.exchange == different.get("exchange", "e")
        assert message.routing_key == different.get("key", "k")
        assert message.redelivered == different.get("redelivered", False)
        assert message.consumer_tag == different.get("consumer", "c")
        assert message.consumer == message.consumer_tag.upper()


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("kept", [True, False])
def test_a_delivery_like_the_one_before_still_has_to_end_right(core: Connection, kept: bool) -> None:
    consuming(core)
    if kept:
        core.receive_data(delivery(1))
    happened = core.receive_data(delivery(2)[:-1] + b"\0" + delivery(3))
    assert not of_kind(Delivered, happened)
    assert "ends in 0x00" in str(ended_with(happened))


def test_names_without_end_are_not_kept(core: Connection) -> None:
    channel = consuming(core)
    for tag in range(1, 1200):
        message = only(Delivered, core.receive_data(delivery(tag, key=f"key {tag}")))
        assert message.routing_key == f"key {tag}"
    assert len(channel.names) <= 512


@pytest.mark.covers("T-FR-03")
def test_contents_of_other_channels_may_come_in_between(core: Connection) -> None:
    consuming(core)
    consuming(core, "d")
    first = method_frame(BasicDeliver("c", 1, False, "e", "k")) + header_frame(1, 60, b"\0\0", 6)
    second = deliver(1, b"whole", "d", 2)
    pieces = [first, second, body_frames(1, b"abc", 0), second.replace(b"\0\0\0\1\0", b"\0\0\0\2\0", 1)]
    happened = core.receive_data(b"".join([*pieces, body_frames(1, b"def", 0)]))
    assert [message.body for message in of_kind(Delivered, happened)] == [b"whole", b"whole", b"abcdef"]


@pytest.mark.covers("T-CON-04")
def test_a_delivery_for_nobody_is_told_and_can_be_given_back(core: Connection) -> None:
    channel = open_channel(core)
    message = only(Delivered, core.receive_data(deliver(1, consumer="unknown")))
    assert (message.consumer, message.consumer_tag, message.settled) == (None, "unknown", False)
    assert channel.strays == 1
    channel.send(BasicNack(1))
    assert_said(core, BasicNack(1))


def test_names_that_are_not_utf_8_come_as_they_are(core: Connection) -> None:
    consuming(core)
    payload = b"\0\x3c\0\x3c" + b"\x01\xff" + (1).to_bytes(8, "big") + b"\0" + b"\x01\xfe" + b"\x01\xfd"
    message = only(Delivered, core.receive_data(frame(METHOD, 1, payload) + header_frame(1, 60, b"\0\0", 0)))
    names = (message.consumer_tag, message.exchange, message.routing_key)
    assert [name.encode("utf-8", "surrogateescape") for name in names] == [b"\xff", b"\xfe", b"\xfd"]


def test_a_delivery_may_have_something_behind_its_arguments(core: Connection) -> None:
    consuming(core)
    payload = BasicDeliver("c", 1, False, "e", "k").encode() + b"more"
    message = only(Delivered, core.receive_data(frame(METHOD, 1, payload) + header_frame(1, 60, b"\0\0", 0)))
    assert (message.exchange, message.routing_key) == ("e", "k")


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("size", range(4, len(BasicDeliver("c", 1, False, "ee", "kk").encode())))
def test_a_delivery_that_is_cut_short_is_refused_whatever_lies_behind(core: Connection, size: int) -> None:
    consuming(core)
    payload = BasicDeliver("c", 1, False, "ee", "kk").encode()[:size]
    happened = core.receive_data(frame(METHOD, 1, payload) + b"\x01" * 100)
    error = ended_with(happened)
    assert isinstance(error, RemoteProtocolError)
    assert (str(error), error.reply_code) == ("basic.deliver is cut short", 502)


# --------------------------------------------------------------------------- messages that come back


def returned(key: str = "key", body: bytes = b"body") -> bytes:
    return say(BasicReturn(312, "NO_ROUTE", "", key), 1, body)


@pytest.mark.covers("T-PUB-04")
def test_a_return_is_told_when_it_comes_and_settles_its_publish_with_the_ack(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "lost", routing_key="nowhere", mandatory=True)
    publish(channel, "fine", mandatory=True)
    message = only(events.Returned, core.receive_data(returned("nowhere")))
    assert (message.channel, message.reply_code, message.reply_text) == (channel, 312, "NO_ROUTE")
    assert (message.exchange, message.routing_key, message.body) == ("", "nowhere", b"body")
    happened = core.receive_data(say(BasicAck(2, True)))
    assert_all_back(["lost", "fine"], happened)
    assert one(events.Unrouted, happened).token == "lost"
    assert one(events.Unrouted, happened).message is message
    assert confirms_in(happened) == [("Confirmed", 2, True, ["fine"])]


@pytest.mark.covers("T-PUB-04")
@pytest.mark.parametrize("answer", [BasicAck(1), BasicNack(1), BasicAck(1, True), BasicNack(0, True)])
def test_a_returned_publish_is_unrouted_however_it_is_settled(core: Connection, answer: Any) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "lost", mandatory=True)
    core.outbox.take()
    happened = core.receive_data(returned() + say(answer))
    assert one(events.Unrouted, happened).token == "lost"
    assert_all_back(["lost"], happened)


@pytest.mark.covers("T-FR-01")
def test_an_empty_message_is_returned_too(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "lost", b"", mandatory=True)
    assert one(events.Returned, core.receive_data(returned(body=b""))).body == b""
    assert one(events.Unrouted, core.receive_data(say(BasicAck(1)))).token == "lost"


@pytest.mark.covers("T-PUB-04")
def test_without_confirms_a_return_is_all_there_is(core: Connection) -> None:
    channel = open_channel(core)
    publish(channel, None, mandatory=True)
    assert only(events.Returned, core.receive_data(returned())).body == b"body"
    assert channel.strays == 0


@pytest.mark.covers("T-PUB-04")
def test_a_return_of_what_nobody_published_is_counted(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "fine", mandatory=True)
    happened = core.receive_data(returned("unknown") + say(BasicAck(1)))
    assert channel.strays == 1
    assert confirms_in(happened) == [("Confirmed", 1, False, ["fine"])]


# --------------------------------------------------------------------------- confirms


@pytest.mark.covers("T-PUB-03", "T-PUB-06")
def test_confirms_and_refusals_come_in_any_order_and_size(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    for token in range(1, 9):
        publish(channel, token)
    core.outbox.take()
    words = [
        BasicAck(3),
        BasicNack(2, True),
        BasicAck(3, True),
        BasicAck(5, True),
        BasicNack(7),
        BasicAck(0, True),
    ]
    happened = core.receive_data(b"".join(map(say, words)))
    assert confirms_in(happened) == [
        ("Confirmed", 3, False, [3]),
        ("Nacked", 2, True, [1, 2]),
        ("Confirmed", 3, True, []),
        ("Confirmed", 5, True, [4, 5]),
        ("Nacked", 7, False, [7]),
        ("Confirmed", 0, True, [6, 8]),
    ]
    assert_all_back(range(1, 9), happened)
    assert [token for event in of_kind(events.Confirmed, happened) for token in event.tokens] == [
        3,
        4,
        5,
        6,
        8,
    ]


@pytest.mark.covers("T-PUB-03", "T-PUB-09")
def test_a_confirm_that_nobody_waits_for_is_counted_and_harmless(core: Connection) -> None:
    channel = open_channel(core, confirm=True)
    publish(channel, "one")
    core.receive_data(say(BasicAck(1)) + say(BasicAck(1)) + say(BasicNack(9)) + say(BasicAck(1, True)))
    assert channel.confirms is not None
    assert channel.confirms.unknown == 3
    publish(channel, "two")
    assert_all_back(["two"], core.receive_data(say(BasicAck(2))))


def test_confirms_of_two_channels_are_kept_apart(core: Connection) -> None:
    channels = [open_channel(core, confirm=True) for _ in range(2)]
    for channel in channels:
        publish(channel, f"on {channel.number}")
    happened = core.receive_data(say(BasicAck(1), 2) + say(BasicAck(1), 1))
    assert [(event.channel, confirms_in([event])[0][3]) for event in of_kind(events.Confirmed, happened)] == [
        (channels[1], ["on 2"]),
        (channels[0], ["on 1"]),
    ]


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("index", [BasicAck.index, BasicNack.index])
@pytest.mark.parametrize("confirm", [True, False])
@pytest.mark.parametrize("size", range(9))
def test_a_confirm_that_is_cut_short_is_refused(
    core: Connection, index: int, confirm: bool, size: int
) -> None:
    open_channel(core, confirm=confirm)
    payload = index.to_bytes(4, "big") + b"\0" * size
    error = ended_with(core.receive_data(frame(METHOD, 1, payload) + b"\xff" * 20))
    assert isinstance(error, RemoteProtocolError)
    assert (str(error), error.reply_code) == ("a confirm is cut short", 502)


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("word", [BasicAck(1), BasicNack(1, True)])
def test_a_confirm_without_confirm_mode_is_refused(core: Connection, word: Any) -> None:
    open_channel(core)
    error = ended_with(core.receive_data(say(word)))
    assert "a confirm on channel 1, which is not in confirm mode" in str(error)


# --------------------------------------------------------------------------- gets


@pytest.mark.covers("T-CH-09", "T-FR-04")
def test_the_answer_to_get_may_come_in_pieces(core: Connection) -> None:
    channel = open_channel(core)
    channel.send(BasicGet("q"), "got")
    data = say(BasicGetOk(1, False, "e", "k", 3), 1, b"x" * 9000, BasicProperties(), 4096)
    happened = [event for octet in data for event in core.receive_data(bytes((octet,)))]
    message = only(events.Replied, happened).method
    assert isinstance(message, Delivered)
    assert (message.body, message.message_count, message.core) == (b"x" * 9000, 3, channel)


def test_an_answer_to_get_that_repeats_a_tag_gives_its_token_back(core: Connection) -> None:
    channel = consuming(core)
    core.receive_data(deliver(1))
    channel.send(BasicGet("q"), "got")
    happened = core.receive_data(say(BasicGetOk(1), 1, b"body"))
    assert_all_back(["got"], happened)
    assert "delivery tag 1 came after 1" in str(ended_with(happened))


# --------------------------------------------------------------------------- cancels, flow, closes


@pytest.mark.covers("T-CON-05", "T-CON-06")
def test_a_cancel_of_the_broker_is_told_and_its_tag_is_not_free(core: Connection) -> None:
    channel = consuming(core)
    event = only(events.ConsumerCancelled, core.receive_data(say(BasicCancel("c", True))))
    assert (event.channel, event.consumer_tag, event.consumer) == (channel, "c", "C")
    assert not core.outbox
    assert only(Delivered, core.receive_data(deliver(1))).consumer == "C"
    channel.send(BasicCancel("c"), "cancelled")
    core.receive_data(say(BasicCancelOk("c")))
    channel.send(BasicConsume("q", "c"), "consuming", consumer="again")
    core.receive_data(say(BasicConsumeOk("c")))


def test_a_cancel_that_asks_for_an_answer_gets_it(core: Connection) -> None:
    consuming(core)
    core.receive_data(say(BasicCancel("c", False)))
    assert_said(core, BasicCancelOk("c"))


@pytest.mark.covers("T-CON-05")
def test_a_cancel_of_an_unknown_tag_is_told_as_well(core: Connection) -> None:
    consuming(core)
    event = only(events.ConsumerCancelled, core.receive_data(say(BasicCancel("unknown", True))))
    assert (event.consumer_tag, event.consumer) == ("unknown", None)


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("no_wait", [True, False])
def test_a_cancel_of_a_tag_that_is_not_utf_8_lets_nothing_out(core: Connection, no_wait: bool) -> None:
    consuming(core)
    happened = core.receive_data(frame(METHOD, 1, b"\0\x3c\0\x1e\x01\xff" + bytes((no_wait,))))
    if no_wait:
        assert only(events.ConsumerCancelled, happened).consumer is None
    else:
        ended_with(happened)  # there is no way to say such a name back


@pytest.mark.covers("T-CH-10")
def test_flow_is_answered_and_told(core: Connection) -> None:
    channel = open_channel(core)
    assert channel.flow_active
    event = only(events.FlowChanged, core.receive_data(say(ChannelFlow(False))))
    assert (event.channel, event.active, channel.flow_active) == (channel, False, False)
    assert_said(core, ChannelFlowOk(False))
    event = only(events.FlowChanged, core.receive_data(say(ChannelFlow(True))))
    assert (event.active, channel.flow_active) == (True, True)
    assert_said(core, ChannelFlowOk(True))


@pytest.mark.covers("S45")
def test_a_close_of_the_broker_is_answered_and_ends_the_channel_alone(core: Connection) -> None:
    first, second = consuming(core), open_channel(core)
    happened = core.receive_data(say(ChannelClose(404, "NOT_FOUND - no queue 'q' in vhost '/'", 50, 10)))
    event = only(events.ChannelEnded, happened)
    assert (event.channel, event.error.operation, event.error.queue) == (first, "queue.declare", "q")
    assert said(core) == [Said(1, ChannelCloseOk())]
    assert dict(core.channels) == {2: second}
    second.send(BasicGet("q"), "got")


def test_while_a_channel_closes_only_closes_are_heard() -> None:
    discard = WHILE_CLOSING.get(BasicDeliver.index)
    assert discard is not None
    assert discard is WHILE_CLOSING.get(0)
    assert WHILE_CLOSING.get(ChannelClose.index) is not discard
    assert WHILE_CLOSING.get(ChannelCloseOk.index) is not discard


def test_a_channel_is_released_before_anything_behind_its_close_is_read(core: Connection) -> None:
    channel: ChannelCore = consuming(core)
    happened = core.receive_data(say(ChannelClose(404, "x")) + frame(BODY, 1, b"x") + deliver(1))
    assert only(events.ChannelEnded, happened).channel is channel
    core.close("closed")
    assert isinstance(core.receive_data(CLOSE_OK)[-1], events.ConnectionEnded)
