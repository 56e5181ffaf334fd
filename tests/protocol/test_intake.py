"""Publishes and acks as a broker's channel takes them: the short way leads where the long one does."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import PROTOCOL_HEADER
from txamqpx.protocol import events
from txamqpx.protocol.arrivals import SERVER_HANDLERS
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.frames import BODY, HEADER, METHOD, body_frames, frame, header_frame
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.protocol.intake import INTAKE
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method


def methods(channel: int, *said: Method) -> bytes:
    return b"".join(frame(METHOD, channel, method.encode()) for method in said)


def opened(*, broker: bool, most: int = 100_000) -> Connection:
    """Return a server with two channels, a broker's or one to which a publish is like any other method."""
    core = Connection(ServerHandshake(), max_message_size=most)
    if broker:
        core.channel_handlers = {**SERVER_HANDLERS, **INTAKE}
    core.start()
    core.receive_data(PROTOCOL_HEADER + methods(0, amqp.ConnectionStartOk({}, "PLAIN", b"", "")))
    core.send(amqp.ConnectionTune(5, 8192, 0))
    core.receive_data(methods(0, amqp.ConnectionTuneOk(5, 8192, 0), amqp.ConnectionOpen("/")))
    core.send(amqp.ConnectionOpenOk())
    for number in (1, 2):
        core.receive_data(methods(number, amqp.ChannelOpen()))
        core.channels[number].send(amqp.ChannelOpenOk())
    core.outbox.take()
    return core


def publish(
    body: bytes = b"",
    *,
    exchange: str = "",
    key: str = "key",
    header: bytes = b"\0\0",
    channel: int = 1,
    mandatory: bool = False,
    immediate: bool = False,
    frame_max: int = 8192,
) -> bytes:
    method = amqp.BasicPublish(exchange, key, mandatory=mandatory, immediate=immediate)
    head = methods(channel, method) + header_frame(channel, 60, header, len(body))
    return head + body_frames(channel, body, frame_max)


def told(happened: list[events.Event]) -> list[Any]:
    """Return what happened, publishes and acks in a form that is the same for both ways."""
    facts: list[Any] = []
    for event in happened:
        if isinstance(event, events.Published):
            flags = event.flags & 1 != 0, event.flags & 2 != 0
            core: Any = event.channel
            facts.append((core.number, event.exchange, event.routing_key, *flags, event.header, event.body))
        elif isinstance(event, events.Acked):
            facts += [(event.channel.number, "ack", *word) for word in event.words]
        elif isinstance(event, events.Requested):
            method: Any = event.method
            assert event.channel is not None
            if isinstance(method, amqp.BasicAck):
                facts.append((event.channel.number, "ack", method.delivery_tag, method.multiple))
            elif event.content is not None:
                facts.append(
                    (
                        event.channel.number,
                        *(method.exchange, method.routing_key, method.mandatory, method.immediate),
                        *(event.content.header, event.content.body),
                    )
                )
        elif isinstance(event, events.ConnectionEnded):
            facts.append(
                (type(event.error).__name__, str(event.error), getattr(event.error, "reply_code", 0))
            )
    return facts


def both(data: bytes, cuts: list[int] | None = None, *, most: int = 100_000) -> list[Any]:
    """Have both ways told the same; return what."""
    short, long = opened(broker=True, most=most), opened(broker=False, most=most)
    places = [0, *sorted(cuts or []), len(data)]
    happened: list[events.Event] = []
    for start, stop in pairwise(places):
        happened += short.receive_data(data[start:stop])
    found = told(happened)
    assert found == told(long.receive_data(data))
    return found


# --------------------------------------------------------------------------- publishes


@pytest.mark.parametrize("size", [0, 1, 100, 8183, 8184, 8185, 20_000])
def test_a_message_however_large(size: int) -> None:
    body = b"x" * size
    assert both(publish(body) * 3) == [(1, "", "key", False, False, b"\0\0", body)] * 3


def test_what_changes_from_one_to_the_next() -> None:
    """A message is compared with the one before, and the smallest difference counts."""
    data = b""
    for header in (b"\0\0", b"\x00\x80\x01a", b"\x00\x80\x01b"):
        for body in (b"abc", b"abc", b"abd", b"", b"", b"abcd", b"abc"):
            data += publish(body, header=header) + publish(body, header=header, channel=2)
    assert len(both(data)) == 42


def test_targets_and_flags() -> None:
    data = b"".join(
        publish(b"x", exchange=exchange, key=key, mandatory=bool(flags & 1), immediate=bool(flags & 2))
        for exchange in ("", "e", "é" * 100)
        for key in ("", "k", "k" * 255)
        for flags in range(4)
    )
    assert len(both(data + data)) == 72


def test_more_targets_than_are_kept() -> None:
    data = b"".join(publish(b"x", key=str(number)) for number in range(600))
    core = opened(broker=True)
    happened = told(core.receive_data(data)) + told(core.receive_data(data))
    assert [fact[2] for fact in happened] == [str(number) for number in range(600)] * 2
    assert len(core.channels[1].targets) <= 512


def test_other_methods_between() -> None:
    data = publish(b"x") + methods(1, amqp.ConfirmSelect(), amqp.QueueDeclare("q")) + publish(b"x")
    happened = opened(broker=True).receive_data(data)
    assert [type(event) for event in happened] == [
        *(events.Published, events.Requested, events.Requested, events.Published)
    ]


# --------------------------------------------------------------------------- acks


def test_acks_that_follow_each_other_are_one_event() -> None:
    core = opened(broker=True)
    acks = methods(1, amqp.BasicAck(1), amqp.BasicAck(5, True), amqp.BasicAck(2**64 - 1))
    first, second, third = core.receive_data(acks + methods(2, amqp.BasicAck(0, True)) + acks)
    assert isinstance(first, events.Acked)
    assert isinstance(second, events.Acked)
    assert isinstance(third, events.Acked)
    assert first.words == third.words == [(1, False), (5, True), (2**64 - 1, False)]
    assert second.words == [(0, True)]
    assert [one.channel.number for one in (first, second, third)] == [1, 2, 1]
    assert both(acks + publish(b"x") + acks)[3][1:3] == ("", "key")


@pytest.mark.parametrize("payload", [b"", bytes(8), bytes(10)])
def test_an_ack_is_as_long_as_an_ack(payload: bytes) -> None:
    core = opened(broker=True)
    (ended,) = told(core.receive_data(frame(METHOD, 1, struct.pack(">I", amqp.BasicAck.index) + payload)))[
        -1:
    ]
    assert ended[0] == "RemoteProtocolError"


def test_an_answer_to_a_cancel_is_for_who_asked() -> None:
    (event,) = opened(broker=True).receive_data(methods(1, amqp.BasicCancelOk("c")))
    assert isinstance(event, events.Requested)
    assert event.method == amqp.BasicCancelOk("c")


# --------------------------------------------------------------------------- however it comes

messages = st.lists(
    st.one_of(
        st.builds(
            publish,
            st.binary(max_size=60),
            exchange=st.sampled_from(["", "e"]),
            key=st.sampled_from(["", "k", "kk"]),
            header=st.sampled_from([b"\0\0", b"\x00\x80\x01a", b"\x00\x80\x01b"]),
            channel=st.sampled_from([1, 2]),
            mandatory=st.booleans(),
            frame_max=st.sampled_from([8192, 18]),
        ),
        st.builds(
            lambda channel, tag, multiple: methods(channel, amqp.BasicAck(tag, multiple)),
            st.sampled_from([1, 2]),
            st.integers(0, 2**64 - 1),
            st.booleans(),
        ),
    ),
    min_size=1,
    max_size=12,
)


@given(messages, st.lists(st.integers(0, 1200), max_size=8))
def test_any_cut_of_the_bytes_gives_the_same(said: list[bytes], cuts: list[int]) -> None:
    data = b"".join(said)
    found = both(data, [cut for cut in cuts if cut <= len(data)])
    assert len(found) == len(said)


def test_every_cut_of_two_messages() -> None:
    data = publish(b"body", header=b"\x00\x80\x01a") * 2
    expected = both(data)
    for cut in range(len(data)):
        assert both(data, [cut]) == expected


# --------------------------------------------------------------------------- what is wrong

METHOD_ONLY = methods(1, amqp.BasicPublish("", "key"))


@pytest.mark.parametrize(
    "data",
    [
        METHOD_ONLY + frame(BODY, 1, b"x"),
        METHOD_ONLY + METHOD_ONLY,
        METHOD_ONLY + header_frame(1, 50, b"\0\0", 1),
        METHOD_ONLY + frame(HEADER, 1, b"\0\x3c\0\0"),
        METHOD_ONLY + header_frame(1, 60, b"\0\0", 1) * 2,
        METHOD_ONLY + header_frame(1, 60, b"\0\0", 1) + frame(BODY, 1, b"too long"),
        METHOD_ONLY + header_frame(1, 60, b"\0\0", 1) + frame(BODY, 1, b"") * 20,
        METHOD_ONLY + header_frame(1, 60, b"\0\0", 200_000),
        METHOD_ONLY + header_frame(1, 60, b"\0\0", 1)[:-1] + b"\0",
        publish(b"x")[:-1] + b"\0",
        header_frame(1, 60, b"\0\0", 1),
        frame(BODY, 1, b"x"),
    ],
)
@pytest.mark.parametrize("before", [b"", publish(b"x")], ids=["first", "second"])
def test_contents_out_of_order_are_told_in_the_same_words(data: bytes, before: bytes) -> None:
    *_, (error, text, _) = both(before + data + publish(b"late"))
    assert error in {"RemoteProtocolError", "Silent"}
    assert text


@pytest.mark.parametrize("arguments", [b"", b"\0\0", b"\0\0\0\x05ab", b"\0\0\0\0", b"\0\0\0\1k\0more"])
def test_arguments_that_are_none(arguments: bytes) -> None:
    core = opened(broker=True)
    data = frame(METHOD, 1, struct.pack(">I", amqp.BasicPublish.index) + arguments)
    ((error, _, code),) = told(core.receive_data(publish(b"x") + data + header_frame(1, 60, b"\0\0", 0)))[1:]
    assert (error, code) == ("Misfit", 501)


def test_a_body_as_large_as_may_be() -> None:
    assert len(both(publish(b"x" * 1000) * 2, most=1000)) == 2
    *_, (error, text, code) = both(publish(b"x" * 1000) + publish(b"x" * 1001), most=1000)
    assert (error, code) == ("RemoteProtocolError", 501)
    assert "1001" in text
