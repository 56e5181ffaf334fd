"""Deliveries that any thread may settle."""

from __future__ import annotations

from threading import get_ident
from typing import Any, cast

import pytest

from txamqpx.blocking.calls import Calls
from txamqpx.blocking.delivery import Delivery, for_threads
from txamqpx.errors import AlreadySettled
from txamqpx.message import Settlement


class Received:
    """A delivery as the asynchronous client has it."""

    body = b"body"
    properties = "properties"
    header = b"header"
    exchange = "exchange"
    routing_key = "key"
    redelivered = True
    delivery_tag = 7
    consumer_tag = "tag"
    message_count = 3
    stale = False
    settled = False

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.threads: set[int] = set()

    def __repr__(self) -> str:
        return "<Delivery 7>"

    def _settle(self, how: str, requeue: bool = False) -> Settlement:
        if self.settled:
            raise AlreadySettled("it is settled")
        self.settled = True
        self.told.append((how, requeue))
        self.threads.add(get_ident())
        return Settlement.SENT

    def ack(self) -> Settlement:
        return self._settle("ack")

    def nack(self, *, requeue: bool = True) -> Settlement:
        return self._settle("nack", requeue)

    def reject(self, *, requeue: bool = True) -> Settlement:
        return self._settle("reject", requeue)


FACTS = (
    "body",
    "properties",
    "header",
    "exchange",
    "routing_key",
    "redelivered",
    "delivery_tag",
    "consumer_tag",
    "message_count",
    "stale",
    "settled",
)


def test_it_tells_what_the_message_tells(calls: Calls) -> None:
    received = Received()
    delivery = Delivery(cast(Any, received), calls)
    assert {name: getattr(delivery, name) for name in FACTS} == {
        name: getattr(received, name) for name in FACTS
    }
    assert repr(delivery) == "<Delivery 7>"


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("ack", {}, ("ack", False)),
        ("nack", {}, ("nack", True)),
        ("nack", {"requeue": False}, ("nack", False)),
        ("reject", {}, ("reject", True)),
        ("reject", {"requeue": False}, ("reject", False)),
        ("release", {}, ("nack", True)),
        ("fail", {}, ("reject", True)),
        ("discard", {}, ("reject", False)),
    ],
)
def test_it_is_settled_on_the_reactors_thread(
    calls: Calls, method: str, options: dict[str, bool], told: tuple[str, bool]
) -> None:
    received = Received()
    delivery = Delivery(cast(Any, received), calls)
    assert getattr(delivery, method)(**options) is Settlement.SENT
    assert received.told == [told]
    assert get_ident() not in received.threads
    assert delivery.settled
    with pytest.raises(AlreadySettled):
        getattr(delivery, method)(timeout=60.0)


def test_no_message_is_none(calls: Calls) -> None:
    assert for_threads(None, calls) is None
    assert isinstance(for_threads(cast(Any, Received()), calls), Delivery)
