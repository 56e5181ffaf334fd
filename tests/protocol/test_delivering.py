"""Deliveries as bytes: the same ones that are written the long way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.pair import PROTOCOL_HEADER, say
from txamqpx.errors import EncodeError
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.delivering import DeliverFrames
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.spec.amqp0_9_1 import (
    BasicDeliver,
    BasicProperties,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
)


class Two:
    """A broker's channel, and one like it on which everything is written the long way."""

    def __init__(self, frame_max: int = 131072) -> None:
        self.cores: list[ChannelCore] = [server_channel(frame_max) for _ in range(2)]
        self.frames = DeliverFrames(self.cores[0])

    def send(self, tag: int, body: bytes, consumer: str = "c", key: str = "key", **properties: Any) -> None:
        """Write a delivery both ways, and compare."""
        header = BasicProperties(**properties)
        self.frames.send(consumer, tag, tag % 2 == 0, "exchange", key, header.encode(), body)
        method = BasicDeliver(consumer, tag, tag % 2 == 0, "exchange", key)
        self.cores[1].send_content(method, header, body)
        short, long = [b"".join(core.connection.outbox.take()) for core in self.cores]
        assert short == long


def server_channel(frame_max: int) -> ChannelCore:
    """Return the broker's end of channel 1."""
    core = Connection(ServerHandshake())
    core.start()
    core.receive_data(PROTOCOL_HEADER + say(ConnectionStartOk({}, "PLAIN", b"", ""), 0))
    core.send(ConnectionTune(1, frame_max, 0))
    core.receive_data(say(ConnectionTuneOk(1, frame_max, 0), 0) + say(ConnectionOpen("/"), 0))
    core.send(ConnectionOpenOk())
    core.receive_data(say(ChannelOpen()))
    core.channels[1].send(ChannelOpenOk())
    core.outbox.take()
    return core.channels[1]


@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_bodies_of_every_length(frame_max: int) -> None:
    two = Two(frame_max)
    room = frame_max - 8
    for tag, size in enumerate(
        (0, 1, 0, 8191, 8192, 8193, room - 1, room, room + 1, 2 * room, 3 * frame_max)
    ):
        two.send(tag, b"x" * size)
        two.send(tag, b"y" * size)


def test_what_changes_from_one_to_the_next() -> None:
    """What was the same in the last one is written from memory."""
    two = Two()
    for tag in range(1, 4):
        for consumer in ("a", "bb", "a"):
            for key in ("", "key", "é"):
                for properties in ({}, {"message_id": "1"}, {"message_id": "2"}, {"headers": {"a": [1]}}):
                    two.send(tag, b"body", consumer, key, **properties)
                    two.send(tag, b"", consumer, key, **properties)


def test_many_keys() -> None:
    """More than are kept."""
    two = Two()
    for number in (*range(600), *range(600)):
        two.send(number, b"body", key=str(number))
    assert len(two.frames._kept) <= 512


def test_tags_are_large() -> None:
    Two().send(2**64 - 1, b"body")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.binary(max_size=40),
            st.sampled_from(["", "c", "é" * 20]),
            st.text(max_size=20).filter(lambda text: len(text.encode()) < 256),
            st.sampled_from([None, "", "id"]),
        ),
        max_size=10,
    )
)
def test_any_deliveries(deliveries: list[tuple[int, bytes, str, str, str | None]]) -> None:
    two = Two(4096)
    for tag, body, consumer, key, message_id in deliveries:
        two.send(tag, body, consumer, key, **({} if message_id is None else {"message_id": message_id}))


def test_a_name_that_does_not_fit_leaves_no_trace() -> None:
    two = Two()
    with pytest.raises(EncodeError):
        two.frames.send("c", 1, False, "x" * 256, "", b"\0\0", b"body")
    assert two.cores[0].connection.outbox.take() == []
    two.send(1, b"body")
