"""What was published, and what an error says of it."""

from __future__ import annotations

from typing import Any

import pytest

from txamqpx.broker.history import History
from txamqpx.broker.message import Message
from txamqpx.spec.amqp0_9_1 import BasicProperties

SIZE = len(BasicProperties().encode())


def message(key: str, body: bytes = b"", exchange: str = "orders", **headers: Any) -> Message:
    properties = BasicProperties(headers=headers) if headers else BasicProperties()
    return Message.made(exchange, key, properties, body)


def history(*messages: Message, **limits: int) -> History:
    history = History(**limits)
    for one in messages:
        assert history.admit("/", one, None, False)
    return history


def keys(history: History, **wanted: Any) -> list[str]:
    return [one.routing_key for one in history.find(**wanted)]


def test_messages_are_found_by_what_they_have() -> None:
    past = history(message("a", b"1"), message("b", b"2", "returns"), message("c", b"1", id=7, to="x"))
    past.admit("other", message("d"), None, True)
    assert keys(past) == ["a", "b", "c", "d"]
    assert keys(past, exchange="orders", vhost="/") == ["a", "c"]
    assert keys(past, body=b"1") == ["a", "c"]
    assert keys(past, headers={"id": 7}) == ["c"]
    assert keys(past, headers={"id": 8}) == []
    assert keys(past, headers={"from": None}) == []
    assert keys(past, vhost="other", exchange=None) == ["d"]
    (found,) = past.find(routing_key="c")
    assert (found.vhost, found.exchange, found.body, found.headers) == (
        "/",
        "orders",
        b"1",
        {"id": 7, "to": "x"},
    )
    assert past.find(routing_key="a")[0].headers == {}


def test_the_oldest_are_forgotten_by_number_and_by_size() -> None:
    few = history(*map(message, "abc"), most_messages=2)
    assert (keys(few), few.forgotten) == (["b", "c"], 1)
    small = history(*(message(key, bytes(10)) for key in "abc"), most_bytes=2 * (10 + SIZE))
    assert (keys(small), small.forgotten) == (["b", "c"], 1)
    small.clear()
    assert (keys(small), small.forgotten) == ([], 0)


def test_a_gate_may_keep_a_message_out() -> None:
    past = history()
    asked: list[tuple[object, bool]] = []

    def gate(message: Message, session: object, confirm: bool) -> bool:
        asked.append((session, confirm))
        return message.routing_key != "b"

    past.gates += [gate, lambda message, session, confirm: True]
    assert [past.admit("/", message(key), "session", key == "a") for key in "abc"] == [True, False, True]
    assert keys(past) == ["a", "c"]
    assert asked == [("session", True), ("session", False), ("session", False)]


def test_somebody_is_told_when_there_is_no_room_left() -> None:
    past = history(message("a", bytes(1000)))
    told: list[str] = []
    past.on_full = lambda: told.append("full")
    past.leave_room(2 * (10 + SIZE), 10)
    past.admit("/", message("b", bytes(10)), None, False)
    past.admit("/", message("c", bytes(10)), None, False)
    assert told == []
    past.admit("/", message("d", b""), None, False)
    assert told == ["full"]
    past.leave_room(1000, 1)
    past.admit("/", message("e"), None, False)
    past.admit("/", message("f"), None, False)
    assert told == ["full", "full"]


def complaint(past: History, count: int | None = None, **wanted: Any) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        past.check(count, **wanted)
    return str(caught.value).splitlines()


def test_what_is_there_is_returned() -> None:
    past = history(message("a"), message("b"))
    assert [one.routing_key for one in past.check(None, exchange="orders")] == ["a", "b"]
    assert len(past.check(2)) == 2
    assert past.check(0, routing_key="c") == []


def test_what_is_not_there_is_told_by_the_nearest_and_the_others() -> None:
    past = history(
        message("order.created.fr", b'{"id": 1}', urgent=True),
        message("order.created.de", b"x" * 100, urgent=False),
        message("refund", b"?", "returns"),
    )
    wanted = "exchange='orders', routing_key='order.created.de', headers={'urgent': True}"
    nearest = (
        "exchange='orders', routing_key='order.created.fr', body=b'{\"id\": 1}', headers={'urgent': True}"
    )
    assert complaint(past, exchange="orders", routing_key="order.created.de", headers={"urgent": True}) == [
        f"no message with {wanted} was published",
        f"the nearest is {nearest}, but its routing_key is 'order.created.fr'",
        "published were, the last ones of 3:",
        "  exchange='orders', routing_key='order.created.fr', body=b'{\"id\": 1}', headers={'urgent': True}",
        "  exchange='orders', routing_key='order.created.de', body="
        + repr(b"x" * 80 + b"...")
        + ", headers={'urgent': False}",
        "  exchange='returns', routing_key='refund', body=b'?'",
    ]


def test_a_wrong_number_is_told() -> None:
    past = history(message("a"), message("a"))
    assert complaint(past, 1, routing_key="a")[0] == "2 messages with routing_key='a' were published, not 1"
    assert complaint(past, 3)[0] == "2 messages with anything were published, not 3"
    assert complaint(history(message("a")), 0)[0] == "one message with anything was published, not 0"


def test_it_is_said_that_nothing_was_published_and_what_was_forgotten() -> None:
    assert complaint(history(), body=b"x") == [
        "no message with body=b'x' was published",
        "nothing was published",
    ]
    cut = history(*(message(f"k{number}") for number in range(20)), most_messages=15)
    lines = complaint(cut, routing_key="k1")
    assert (
        lines[1]
        == "the nearest is exchange='orders', routing_key='k10', body=b'', but its routing_key is 'k10'"
    )
    assert lines[2] == "published were, the last ones of 20:"
    assert len(lines) == 3 + 10 + 1
    assert lines[-1] == "5 older messages are forgotten, and may have been among them"


def test_the_nearest_is_looked_for_among_the_last() -> None:
    past = history(message("wanted!"), *(message(f"other {number}") for number in range(500)))
    assert "the nearest is exchange='orders', routing_key='other" in complaint(past, routing_key="wanted")[1]
