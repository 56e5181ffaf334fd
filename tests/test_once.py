from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from txamqpx.errors import ConnectError, ConnectionLost, HandshakeTimeout, NotFound
from txamqpx.once import AlreadyFired, Once
from txamqpx.testing import Watched, failure_of, success_of


@pytest.mark.covers("S62")
def test_every_waiter_gets_the_result_before_and_after_it_happens() -> None:
    once: Once[int] = Once()
    first, second = Watched(once.wait()), Watched(once.wait())
    assert first.pending
    once.fire(7)
    assert (first.value, second.value, success_of(once.wait())) == (7, 7, 7)


def test_none_is_a_result() -> None:
    once: Once[None] = Once()
    once.fire(None)
    assert Watched(once.wait()).values == [None]


@pytest.mark.covers("S62")
def test_it_happens_only_once() -> None:
    once: Once[int] = Once()
    once.fire(1)
    assert once.fired
    with pytest.raises(AlreadyFired, match="this has happened before"):
        once.fire(2)
    with pytest.raises(AlreadyFired):
        once.fail(ConnectionLost())
    assert success_of(once.wait()) == 1


@pytest.mark.covers("S62", "T-CLS-07")
def test_what_one_waiter_does_hurts_no_other() -> None:
    once: Once[int] = Once()
    careless = once.wait()
    careless.addCallback(lambda _: 1 / 0)
    impatient = once.wait()
    patient = Watched(once.wait())
    impatient.cancel()
    failure_of(impatient, CancelledError)
    once.fire(3)
    assert patient.value == 3
    failure_of(careless, ZeroDivisionError)


@pytest.mark.covers("T-CLS-07")
def test_a_waiter_may_give_up_while_another_is_told() -> None:
    once: Once[int] = Once()
    waiters: list[Deferred[int]] = []

    def give_up(result: int) -> int:
        waiters[0].cancel()
        return result

    first = once.wait().addCallback(give_up)
    waiters.append(once.wait())
    once.fire(5)
    assert success_of(first) == 5
    failure_of(waiters[0], CancelledError)


def test_who_waits_while_the_others_are_told_is_told_at_once() -> None:
    once: Once[int] = Once()
    late: list[int] = []
    once.wait().addCallback(lambda _: once.wait().addCallback(late.append))
    once.fire(9)
    assert late == [9]


def test_who_gives_up_is_not_kept() -> None:
    once: Once[int] = Once()
    for _ in range(100):
        deferred = once.wait()
        deferred.cancel()
        failure_of(deferred, CancelledError)
    assert once._waiters == []


@pytest.mark.covers("T-CH-12")
@pytest.mark.parametrize(
    "error",
    [
        NotFound("NOT_FOUND - no queue 'q'", operation="queue.bind"),
        HandshakeTimeout(5),
        ConnectError("h:1", "because"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_waiter_gets_an_error_of_its_own(error: NotFound | HandshakeTimeout | ConnectError) -> None:
    cause = ValueError("why")
    error.__cause__ = cause
    once: Once[int] = Once()
    waiters = [once.wait()]
    once.fail(error)
    waiters.append(once.wait())
    first, second = (failure_of(waiter, type(error)) for waiter in waiters)
    assert len({id(first), id(second), id(error)}) == 3
    for twin in (first, second):
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.args == error.args
        assert twin.__cause__ is cause
    assert error.__traceback__ is None
