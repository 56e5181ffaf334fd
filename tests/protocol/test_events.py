from __future__ import annotations

import pytest

from tests.protocol.pair import client, open_channel
from txamqpx.errors import DecodeError
from txamqpx.protocol.events import Blocked, Content, Delivered, Published, Returned
from txamqpx.spec.amqp0_9_1 import BasicProperties

CORE = open_channel(client())


def delivered(header: bytes = b"\0\0", *, redelivered: bool = False) -> Delivered:
    one = Delivered(CORE, "token", "ctag", 7, redelivered, "exchange", "key", False)
    one.header, one.body = header, b"body"
    return one


def test_properties_are_decoded_when_somebody_asks_and_once() -> None:
    message = delivered(BasicProperties(message_id="x").encode())
    assert message.properties == BasicProperties(message_id="x")
    assert message.properties is message.properties


@pytest.mark.covers("T-FR-06")
def test_properties_that_another_client_made_wrong_do_no_harm_until_somebody_asks() -> None:
    message = delivered(b"\x80\0\xff")
    assert message.body == b"body"
    assert message.header == b"\x80\0\xff"
    for _ in range(2):
        with pytest.raises(DecodeError):
            _ = message.properties


def test_a_delivery_says_what_it_is() -> None:
    assert repr(delivered()) == ("<Delivered 7 of 'ctag', exchange 'exchange', routing key 'key', 4 bytes>")
    assert repr(delivered(redelivered=True)).endswith("4 bytes, redelivered>")


def test_only_an_answer_to_get_knows_how_many_are_left() -> None:
    assert delivered().message_count is None


def test_a_delivery_without_acks_is_settled_from_the_start() -> None:
    assert Delivered(CORE, "token", "ctag", 7, False, "", "key", True).settled
    assert not delivered().settled


def test_a_returned_message_has_what_was_published_and_says_why() -> None:
    header = BasicProperties(message_id="x").encode()
    message = Returned(CORE, 312, "NO_ROUTE", "exchange", "key", Content(BasicProperties, header, b"body"))
    assert message.properties == BasicProperties(message_id="x")
    assert repr(message) == "<Returned 312 NO_ROUTE: exchange 'exchange', routing key 'key', 4 bytes>"


def test_a_published_message_says_where_it_goes() -> None:
    message = Published(CORE, "exchange", "key", 1)
    message.header, message.body = b"\0\0", b"body"
    assert repr(message) == "<Published to exchange 'exchange', routing key 'key', 4 bytes>"


def test_two_events_are_never_the_same() -> None:
    assert Blocked("memory") != Blocked("memory")
