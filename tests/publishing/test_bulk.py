"""Many messages, of which no more are taken than there is room for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from tests.publishing.press import Press
from txamqpx.errors import EncodeError, Nacked, NotPublished, OutcomeUnknown
from txamqpx.publishing.bulk import Item, Summary
from txamqpx.spec.amqp0_9_1 import BasicNack, BasicProperties
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def press() -> Press:
    press = Press(max_outstanding=3)
    press.prove()
    return press


def test_all_are_published(press: Press) -> None:
    bodies: list[Any] = [b"1", bytearray(b"2")]
    many = press.publisher.publish_many(bodies, routing_key="q", app_id="a", mandatory=False)
    for heard in press.take(b"1", b"2"):
        assert (heard.method.routing_key, heard.method.mandatory) == ("q", False)
        assert heard.properties == BasicProperties(delivery_mode=2, app_id="a")
    press.ack(2)
    assert is_pending(many)
    press.ack(3)
    summary = success_of(many)
    assert (summary.total, summary.confirmed, summary.failures, summary.complete) == (2, 2, (), True)


def test_an_item_may_have_arguments_of_its_own(press: Press) -> None:
    items: list[Item] = [(b"1", {"routing_key": "own", "type": "t"}), b"2"]
    press.publisher.publish_many(items, routing_key="all", app_id="a")
    own, common = press.take(b"1", b"2")
    assert (own.method.routing_key, common.method.routing_key) == ("own", "all")
    assert own.properties == BasicProperties(delivery_mode=2, app_id="a", type="t")


def test_each_has_an_id_of_its_own() -> None:
    press = Press(message_ids=True)
    press.prove()
    press.publisher.publish_many([b"1", b"2"], type="t")
    one, two = (heard.properties.message_id for heard in press.take(b"1", b"2"))
    assert one is not None
    assert one != two


def test_they_are_taken_only_when_there_is_room(press: Press) -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in count():
            taken.append(number)
            yield b"%d" % number

    many = press.publisher.publish_many(endless())
    press.take(b"0", b"1", b"2")
    assert len(taken) == 4  # one waits for its turn
    press.ack(2)
    press.take(b"3")
    assert len(taken) == 5
    many.cancel()
    failure_of(many, CancelledError)
    press.ack(0, multiple=True)
    press.take(b"4")
    press.nothing()
    assert len(taken) == 5


def test_nothing_is_taken_while_others_wait(press: Press) -> None:
    press.block()
    press.publish(b"first")
    messages = iter([b"1"])
    press.publisher.publish_many(messages)
    assert next(messages) == b"1"


@pytest.mark.covers("T-PUB-06")
def test_who_fails_does_not_stop_the_others(press: Press) -> None:
    many = press.publisher.publish_many([b"1", b"2", b"3"])
    press.take(b"1", b"2", b"3")
    press.ack(4)
    press.peer.send(press.channel, BasicNack(3, False, False))
    press.ack(2)
    summary = success_of(many)
    assert (summary.total, summary.confirmed) == (3, 2)
    ((position, error),) = summary.failures
    assert position == 1
    assert isinstance(error, Nacked)


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        (["text"], EncodeError),
        ([b"ok", (b"x", {"routing_key": "k" * 256})], EncodeError),
        ([(b"x",)], ValueError),
        (b"ab", EncodeError),
    ],
)
def test_what_cannot_be_published_ends_it(press: Press, items: Any, kind: type[Exception]) -> None:
    many = press.publisher.publish_many(items)
    if items[0] == b"ok":
        press.take(b"ok")
        assert is_pending(many)
        press.ack()
    press.nothing()
    failure_of(many, kind)


def test_what_the_iterable_raises_is_told_when_the_messages_before_it_have_their_outcomes(
    press: Press,
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"1"
        raise OSError("no more")

    many = press.publisher.publish_many(broken())
    press.take(b"1")
    assert is_pending(many)
    press.ack()
    failure_of(many, OSError)


def test_common_arguments_are_checked_before_anything_is_taken(press: Press) -> None:
    messages = iter([b"1"])
    with pytest.raises(EncodeError):
        press.publisher.publish_many(messages, user_id="other")
    assert next(messages) == b"1"


def test_no_messages_are_a_success(press: Press) -> None:
    assert success_of(press.publisher.publish_many([])) == Summary(0, ())


@pytest.mark.covers("T-PUB-08")
def test_a_publisher_that_ends_leaves_the_rest_in_the_iterator(press: Press) -> None:
    messages = (b"%d" % number for number in count())
    many = press.publisher.publish_many(messages)
    press.take(b"0", b"1", b"2")
    press.lose()
    summary = success_of(many)
    assert (summary.total, summary.confirmed, summary.complete) == (5, 0, False)
    assert [type(error) for _, error in summary.failures] == [OutcomeUnknown] * 3 + [NotPublished] * 2
    assert next(messages) == b"5"


def test_a_hundred_thousand_do_not_pile_up_on_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    press = Press(confirm=False)
    press.prove()
    monkeypatch.setattr(press.peer, "dataReceived", lambda data: None)
    press.stall()
    many = Watched(press.publisher.publish_many(b"%d" % number for number in range(100_000)))
    assert many.pending
    press.flow_again()
    assert many.value.confirmed == 100_000


def test_a_hundred_thousand_refusals_do_not_pile_up_on_the_stack(press: Press) -> None:
    press.lose()
    many = Watched(press.publisher.publish_many(b"x" for _ in range(100_000)))
    assert (many.value.total, many.value.complete) == (1, False)
