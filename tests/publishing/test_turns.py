"""What stands in a publisher's line."""

from __future__ import annotations

import pytest
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred
from twisted.python.failure import Failure

from txamqpx.errors import Nacked, NotPublished, OutcomeUnknown
from txamqpx.publishing.turns import Mark, Publish
from txamqpx.testing import Watched, failure_of, is_pending


class Judge:
    """Lets everything fail but what can be sent again."""

    def failed(self, publish: Publish, failure: Failure) -> None:
        if failure.check(CancelledError) and publish.reason is not None:
            failure = Failure(publish.reason)
        if not failure.check(NotPublished):
            publish.end(failure)


def _publish() -> Publish:
    publish = Publish()
    publish.gate = Judge()
    return publish


def test_its_gate_decides_what_a_publish_fails_with() -> None:
    publish = _publish()
    publish.errback(Failure(NotPublished("not yet")))
    assert is_pending(publish)
    publish.errback(Failure(Nacked("no")))
    failure_of(publish, Nacked)


def test_one_that_was_given_up_hears_nothing_more() -> None:
    publish = _publish()
    publish.give_up(OutcomeUnknown("it took too long"))
    publish.errback(Failure(Nacked("no")))
    failure_of(publish, OutcomeUnknown)
    with pytest.raises(AlreadyCalledError):
        publish.errback(Failure(Nacked("no")))


def test_one_that_has_an_outcome_cannot_be_given_up() -> None:
    publish, later = _publish(), Deferred[None]()
    publish.addCallback(lambda _: later)
    publish.callback(None)
    publish.give_up(OutcomeUnknown("it took too long"))
    assert is_pending(later)


def test_a_mark_that_was_given_up_is_not_fired() -> None:
    mark = Mark(True, Deferred())
    mark.deferred.cancel()
    mark.fire()
    failure_of(mark.deferred, CancelledError)
    kept = Mark(False, Deferred())
    kept.fire()
    assert Watched(kept.deferred).value is None
