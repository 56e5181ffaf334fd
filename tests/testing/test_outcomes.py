from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from txamqpx.errors import AccessRefused, ChannelClosed, NotFound
from txamqpx.testing import Watched, failure_of, is_pending, success_of


def test_the_value_of_what_has_fired() -> None:
    assert success_of(succeed(3)) == 3
    assert success_of(succeed(None)) is None
    assert Watched(succeed(3)).values == [3]


def test_what_waits_has_no_value_and_no_error() -> None:
    waiting: Deferred[int] = Deferred()
    watched = Watched(waiting)
    assert watched.pending
    for ask in (
        lambda: watched.value,
        watched.error,
        lambda: failure_of(Deferred()),
        lambda: success_of(Deferred()),
    ):
        with pytest.raises(AssertionError, match=r"^the Deferred has not fired$"):
            ask()
    waiting.callback(3)
    assert (watched.pending, watched.value) == (False, 3)


def test_asking_whether_it_waits_leaves_it_alone() -> None:
    waiting: Deferred[int] = Deferred()
    assert is_pending(waiting)
    waiting.callback(3)
    assert not is_pending(waiting)
    assert success_of(waiting) == 3


def test_the_value_of_what_has_failed_is_its_error_raised() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"):
        success_of(fail(ZeroDivisionError("by zero")))


def test_the_error_of_what_has_failed() -> None:
    error = NotFound("gone")
    assert failure_of(fail(error)) is error
    assert failure_of(fail(error), NotFound) is error
    watched = Watched(fail(error))
    assert not watched.pending
    assert watched.error() is watched.error(NotFound) is error


def test_what_has_fired_has_no_error() -> None:
    with pytest.raises(AssertionError, match=r"^the Deferred has fired with 3$"):
        failure_of(succeed(3))


def test_another_error_is_none_of_that_class() -> None:
    with pytest.raises(AssertionError, match=r"^NotFound\('gone'\) is no AccessRefused$") as raised:
        failure_of(fail(NotFound("gone")), AccessRefused)
    assert isinstance(raised.value.__cause__, NotFound)


def test_an_error_of_a_derived_class_says_something_else() -> None:
    with pytest.raises(AssertionError, match=r"^NotFound\('gone'\) is derived from ChannelClosed$"):
        failure_of(fail(NotFound("gone")), ChannelClosed)


def test_a_deferred_that_waits_for_another_is_pending() -> None:
    other: Deferred[int] = Deferred()
    waiting: Deferred[None] = succeed(None)
    waiting.addCallback(lambda _: other)
    assert is_pending(waiting)
    other.callback(1)
    assert not is_pending(waiting)
    assert success_of(waiting) == 1
