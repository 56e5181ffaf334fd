"""What a broker does with properties before it takes a message: `txamqpx.broker.accepting`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.broker.yard import PROFILES
from txamqpx.broker import accepting
from txamqpx.broker.accepting import LONGEST, accept, milliseconds
from txamqpx.broker.message import Elaborate, Message
from txamqpx.broker.profile import profile_named
from txamqpx.broker.refusal import Refusal
from txamqpx.spec.amqp0_9_1 import BasicProperties

OLD, NEW = (profile_named(name) for name in PROFILES)


def published(**properties: Any) -> Message:
    message = Message.made("exchange", "key", BasicProperties(**properties), b"body")
    message.flags = 1
    return message


@pytest.mark.parametrize("profile", [OLD, NEW])
@pytest.mark.parametrize("properties", [{}, {"delivery_mode": 2}, {"headers": {"a": 1, "b": 2}}])
def test_what_asks_for_nothing_stays_what_it_is(profile: Any, properties: Any) -> None:
    message = published(**properties)
    for _ in range(2):
        assert accept(message, profile) is message


def test_not_all_properties_ever_seen_are_kept() -> None:
    for number in range(3 * accepting._MOST):
        accept(published(message_id=str(number)), NEW)
        assert len(accepting._PLAIN) <= accepting._MOST


def test_a_message_has_a_time_of_its_own() -> None:
    for profile, text in ((OLD, "0060"), (NEW, "60")):
        accepted = accept(published(expiration="0060", message_id="m"), profile)
        assert accepted.ttl == 60
        assert (accepted.properties.expiration, accepted.properties.message_id) == (text, "m")
        assert (accepted.exchange, accepted.routing_key, accepted.flags) == ("exchange", "key", 1)
        assert accepted.body == b"body"
    assert published().ttl is None


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_copies_have_their_keys_and_the_blind_ones_are_not_told_of(profile: Any) -> None:
    headers = {"CC": ["a", 5, "b"], "BCC": ["c"], "x": 1}
    accepted = accept(published(headers=headers), profile)
    assert isinstance(accepted, Elaborate)
    assert [*accepted.keys] == ["key", "a", "b", "c"]
    assert accepted.headers == {"CC": ["a", 5, "b"], "x": 1}
    assert [*published().keys] == ["key"]
    assert [*accept(published(headers={"CC": ["a"]}), profile).keys] == ["key", "a"]


def test_rabbitmq_4_sorts_headers() -> None:
    headers = {"é": 1, "b": 2, "a": {"z": 1, "y": 2}}
    assert [*accept(published(headers=headers), OLD).headers] == ["é", "b", "a"]
    accepted = accept(published(headers=headers), NEW)
    assert [*accepted.headers] == ["a", "b", "é"]
    assert [*accepted.headers["a"]] == ["z", "y"]


@pytest.mark.parametrize(
    ("headers", "name", "kind"),
    [({"CC": "a"}, "CC", "longstr"), ({"BCC": {"a": 1}}, "BCC", "table"), ({"CC": 5}, "CC", "signedint")],
)
def test_copies_that_are_no_list(headers: dict[str, Any], name: str, kind: str) -> None:
    with pytest.raises(Refusal) as caught:
        accept(published(headers=headers), NEW)
    assert caught.value.text == (
        f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
    )


@pytest.mark.parametrize("header", [b"\x10\x00", b"\x20\x00\x00\x00\x00\x03\x01aZ", b"\x80\x00\x09short"])
def test_properties_that_are_none_cost_the_connection(header: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        accept(Message.of("", "", header, b""), NEW)
    assert (caught.value.code, caught.value.text, caught.value.hard) == (541, "INTERNAL_ERROR", True)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-0", 0), ("+5", 5), ("00100", 100), (str(LONGEST), LONGEST)]
)
def test_numbers_as_erlang_reads_them(text: str, value: int) -> None:
    assert milliseconds(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("abc", "no_integer"),
        (" 5", "no_integer"),
        ("٣", "no_integer"),
        ("1.5", '{leftover_string,".5"}'),
        ('5"\\', '{leftover_string,"\\"\\\\"}'),
        ("5\n", "{leftover_string,[10]}"),
        ("-1", "{value_negative,-1}"),
        (str(LONGEST + 1), f"{{value_too_large,{LONGEST + 1}}}"),
    ],
)
def test_what_is_no_time(text: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        milliseconds(text)
    assert caught.value.text == f"PRECONDITION_FAILED - invalid expiration '{text}': {reason}"
