"""Publishing from threads."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Semaphore, get_ident
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.blocking.doubles import Asked, asked, parameters, samples
from tests.blocking.test_operation import SOON
from txamqpx import publisher as asynchronous
from txamqpx.blocking import publisher as module
from txamqpx.blocking.calls import Calls
from txamqpx.blocking.publisher import BegunPublishes, Publisher
from txamqpx.errors import (
    ConfirmTimeout,
    GateTimeout,
    Nacked,
    NotFound,
    NotPublished,
    OutcomeUnknown,
    WaitTimeout,
)
from txamqpx.message import Confirmed
from txamqpx.publishing.bulk import Item, Summary


def publisher(double: object, calls: Calls) -> Publisher:
    return Publisher(cast(asynchronous.Publisher, double), calls, Semaphore(10))


@pytest.mark.parametrize("name", ["publish", "flush"])
def test_a_call_is_that_of_the_publisher_and_waits(name: str, calls: Calls) -> None:
    double = Asked()
    ours = getattr(publisher(double, calls), name)
    arguments = samples(ours)
    theirs = getattr(asynchronous.Publisher, name)
    assert parameters(ours) == parameters(theirs)
    assert asked(ours, double, arguments) == (name, arguments)
    if name == "publish":
        ours(**arguments, priority=3)
        assert double.calls[-1][2]["priority"] == 3
    assert get_ident() not in double.threads


def test_publish_many_and_close_have_the_arguments_of_the_publisher(calls: Calls) -> None:
    for name in ("publish_many", "close"):
        assert parameters(getattr(Publisher, name)) == parameters(getattr(asynchronous.Publisher, name))


@pytest.mark.parametrize("name", ["publish", "flush"])
def test_what_it_begins_has_the_arguments_of_the_publisher(name: str) -> None:
    assert parameters(getattr(BegunPublishes, name)) == parameters(getattr(asynchronous.Publisher, name))


def test_the_outcome_is_returned_or_raised(calls: Calls) -> None:
    confirmed = Confirmed(1, False)
    assert publisher(Asked(publish=confirmed), calls).publish(b"") is confirmed
    for error in (Nacked("full"), NotFound("no exchange"), OutcomeUnknown("lost")):
        with pytest.raises(type(error)):
            publisher(Asked(publish=fail(error)), calls).publish(b"")


@pytest.mark.parametrize(
    ("known", "outcome", "said"),
    [
        (NotPublished("it waits"), GateTimeout, r"not sent within 0\.01 s"),
        (None, ConfirmTimeout, r"no confirm came within 0\.01 s"),
        (Nacked("just now"), ConfirmTimeout, r"no confirm came within 0\.01 s"),
    ],
)
def test_a_publish_that_takes_too_long_has_an_outcome(
    calls: Calls, known: Exception | None, outcome: type[Exception], said: str
) -> None:
    cancelled = (lambda deferred: deferred.errback(known)) if known is not None else None
    with pytest.raises(outcome, match=said) as caught:
        publisher(Asked(publish=Deferred(cancelled)), calls).publish(b"", timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.__cause__ is known


def test_it_tells_what_it_is_and_closes_with_its_block(calls: Calls) -> None:
    class Double:
        outstanding, waiting = 3, 4
        closed: float | None = None

        def __repr__(self) -> str:
            return "<Publisher on a channel>"

        def close(self, timeout: float) -> Deferred[None]:
            self.closed = timeout
            return succeed(None)

    double = Double()
    with publisher(double, calls) as ours:
        assert (ours.outstanding, ours.waiting, repr(ours)) == (3, 4, "<Publisher on a channel>")
        assert double.closed is None
    assert double.closed == 30.0


# --------------------------------------------------------------------------- many


class Many:
    """Publishes many, and says of odd ones that they were nacked.

    Attributes:
        took: What it was given, in loads.
        end: After so many messages it is closed; None: never.
    """

    def __init__(self) -> None:
        self.took: list[list[Item]] = []
        self.options: list[dict[str, Any]] = []
        self.end: int | None = None

    def publish_many(self, load: list[Item], **options: Any) -> Deferred[Summary]:
        room = len(load) if self.end is None else max(0, self.end - sum(map(len, self.took)))
        taken = load[:room]
        self.took.append(taken)
        self.options.append(options)
        failures = tuple((n, Nacked()) for n, body in enumerate(taken) if int(cast(bytes, body)) % 2)
        return succeed(Summary(len(taken), failures, len(taken) == len(load)))


@pytest.fixture
def small_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOAD", 10)


def bodies(count: int) -> Iterator[bytes]:
    assert get_ident() == CALLER, "the messages are taken in the thread that has them"
    for number in range(count):
        yield b"%d" % number


CALLER = get_ident()


@pytest.mark.usefixtures("small_loads")
def test_many_messages_go_in_loads_and_keep_their_positions(calls: Calls) -> None:
    many = Many()
    summary = publisher(many, calls).publish_many(bodies(25), routing_key="q", priority=2)
    assert list(map(len, many.took)) == [10, 10, 5]
    assert b"".join(cast(bytes, body) for load in many.took for body in load) == b"".join(bodies(25))
    assert (summary.total, summary.confirmed, summary.complete) == (25, 13, True)
    assert [position for position, _ in summary.failures] == list(range(1, 25, 2))
    assert many.options[2]["routing_key"] == "q"
    assert many.options[2]["priority"] == 2


@pytest.mark.usefixtures("small_loads")
def test_a_publisher_that_takes_no_more_gets_no_more(calls: Calls) -> None:
    many = Many()
    many.end = 13
    summary = publisher(many, calls).publish_many(bodies(1000), routing_key="q")
    assert (summary.total, summary.complete) == (13, False)
    assert len(many.took) <= 4


@pytest.mark.usefixtures("small_loads")
def test_what_came_before_a_mistake_is_published(calls: Calls) -> None:
    def broken() -> Iterator[bytes]:
        yield from bodies(13)
        raise ZeroDivisionError

    many = Many()
    with pytest.raises(ZeroDivisionError):
        publisher(many, calls).publish_many(broken())
    assert list(map(len, many.took)) == [10, 3]


@pytest.mark.usefixtures("small_loads")
def test_ctrl_c_waits_for_no_load(calls: Calls) -> None:
    def interrupted() -> Iterator[bytes]:
        yield from bodies(13)
        raise KeyboardInterrupt

    begun: Deferred[Any] = Deferred()
    with pytest.raises(KeyboardInterrupt):
        publisher(Asked(publish_many=begun), calls).publish_many(interrupted(), timeout=SOON)
    assert not begun.called


def test_a_load_that_takes_too_long_is_a_timeout(calls: Calls) -> None:
    with pytest.raises(WaitTimeout, match="publish_many"):
        publisher(Asked(publish_many=Deferred()), calls).publish_many([b""], timeout=0.01)
