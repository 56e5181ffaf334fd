"""Messages and their places: `txamqpx.broker.message`."""

from __future__ import annotations

import pytest

from txamqpx.broker.fields import HEADERS, properties_of, short_text, table
from txamqpx.broker.message import Elaborate, Message
from txamqpx.errors import DecodeError
from txamqpx.spec.amqp0_9_1 import BasicProperties


def test_a_message_is_what_was_published_and_no_more() -> None:
    message = Message.made("x", "k", BasicProperties(headers={"a": 1}), b"body")
    assert (message.exchange, message.routing_key, message.body, message.headers) == (
        "x",
        "k",
        b"body",
        {"a": 1},
    )
    assert (message.ttl, message.attempts, message.deaths, [*message.keys]) == (None, 0, (), ["k"])
    assert Message.of("", "", b"\x00\x00", b"").headers == {}
    assert not hasattr(message, "__dict__")


def test_there_is_more_to_some() -> None:
    header = BasicProperties(priority=3).encode()
    message = Elaborate.of("x", "k", header, b"", ttl=5, copies=["c"], blind=["b"], attempts=2)
    assert (message.ttl, message.attempts, [*message.keys]) == (5, 2, ["k", "c", "b"])
    assert message.properties.priority == 3
    assert not hasattr(message, "__dict__")


def test_headers_that_are_too_deep_to_be_read_are_left_out_of_what_can_be() -> None:
    deep = table({})
    for _ in range(100):
        deep = table({b"a": b"F" + deep})
    header = properties_of({HEADERS: deep, 0x0080: short_text("m")})
    message = Message.of("", "", header, b"")
    assert (message.headers, message.properties.message_id) == ({}, "m")
    assert message.properties is message.properties
    assert message.header is header


def test_properties_that_are_none_cannot_be_read() -> None:
    message = Message.of("", "", b"\x80\0\x09t", b"")
    with pytest.raises(DecodeError):
        message.properties  # noqa: B018
