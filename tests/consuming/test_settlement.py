from __future__ import annotations

from typing import Any

import pytest
from twisted.python.failure import Failure

from tests.consuming.stage import Stage
from txamqpx.consuming.settlement import (
    Drop,
    Outcome,
    Reject,
    Requeue,
    RetryLater,
    StopConsuming,
    Verdict,
    check_policy,
    judge,
    settle,
)
from txamqpx.message import Delivery, Settlement


def deliveries(count: int, *, redelivered: bool = False) -> tuple[Stage, list[Delivery]]:
    stage, got = Stage(), list[Delivery]()
    stage.consume(got.append, ack="manual", concurrency=10)
    for _ in range(count):
        stage.deliver(b"body", redelivered=redelivered)
    return stage, got


@pytest.mark.covers("T-ACK-06", "S90")
def test_each_outcome_has_its_method() -> None:
    stage, got = deliveries(4)
    outcomes = [Outcome.DONE, Outcome.RELEASED, Outcome.FAILED, Outcome.DISCARDED]
    assert [settle(*pair) for pair in zip(got, outcomes, strict=True)] == [Settlement.SENT] * 4
    assert stage.take_settled() == [("ack", 1), ("nack requeue", 2), ("reject requeue", 3), ("reject", 4)]


@pytest.mark.covers("T-ACK-06")
def test_intentions_have_names_of_their_own() -> None:
    stage, got = deliveries(3)
    assert {got[0].release(), got[1].fail(), got[2].discard()} == {Settlement.SENT}
    assert stage.take_settled() == [("nack requeue", 1), ("reject requeue", 2), ("reject", 3)]


@pytest.mark.covers("T-ACK-08")
def test_settling_what_is_settled_is_nothing_and_on_a_closed_channel_stale() -> None:
    stage, got = deliveries(3)
    got[0].ack()
    assert settle(got[0], Outcome.DISCARDED) is None
    assert stage.take_settled() == [("ack", 1)]
    got[1].channel.close()
    assert settle(got[1], Outcome.DONE) is Settlement.STALE
    got[2].settled = got[2].stale = False
    assert settle(got[2], Outcome.DONE) is Settlement.STALE
    stage.agree()
    assert stage.settled == []


def failed(error: BaseException) -> Failure:
    return Failure(error)


@pytest.mark.covers("T-ACK-07", "S90")
@pytest.mark.parametrize(
    ("policy", "redelivered", "outcome"),
    [
        ("requeue-once", False, Outcome.FAILED),
        ("requeue-once", True, Outcome.DISCARDED),
        ("requeue", True, Outcome.FAILED),
        ("reject", False, Outcome.DISCARDED),
        (lambda failure, delivery: Outcome.RELEASED, False, Outcome.RELEASED),
    ],
)
def test_a_policy_judges_exceptions(policy: Any, redelivered: bool, outcome: Outcome) -> None:
    _, (delivery,) = deliveries(1, redelivered=redelivered)
    assert judge(failed(ValueError()), delivery, policy) is outcome


@pytest.mark.parametrize("verdict", [Requeue(), Reject(), Drop(), RetryLater(2), StopConsuming()])
def test_a_verdict_stands_above_every_policy(verdict: Verdict) -> None:
    _, (delivery,) = deliveries(1)
    assert judge(failed(verdict), delivery, "stop") is verdict


@pytest.mark.covers("S90")
def test_what_each_verdict_says_of_the_message() -> None:
    assert [kind.outcome for kind in (Requeue, Reject, Drop, RetryLater, StopConsuming)] == [
        Outcome.RELEASED,
        Outcome.DISCARDED,
        Outcome.DONE,
        Outcome.DISCARDED,
        Outcome.RELEASED,
    ]


def test_a_function_may_answer_with_a_verdict_or_its_class() -> None:
    _, (delivery,) = deliveries(1)
    drop = Drop()
    assert judge(failed(ValueError()), delivery, lambda failure, delivery: drop) is drop
    word = judge(failed(ValueError()), delivery, lambda failure, delivery: RetryLater)
    assert isinstance(word, RetryLater)
    wrong: Any = lambda failure, delivery: "requeue"  # noqa: E731
    with pytest.raises(TypeError, match="on_error gave 'requeue'"):
        judge(failed(ValueError()), delivery, wrong)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("no")])
def test_the_end_of_the_program_is_not_the_messages_fault(error: BaseException) -> None:
    _, (delivery,) = deliveries(1)
    policy: Any = "stop" if isinstance(error, ValueError) else "reject"
    word = judge(failed(error), delivery, policy)
    assert isinstance(word, StopConsuming)
    assert word.__cause__ is error


def test_what_is_tried_again_waits_longer_each_time() -> None:
    assert [RetryLater().wait(attempts) for attempts in (1, 2, 3, 7, 50)] == [1, 2, 4, 60, 60]
    assert RetryLater(0.5).wait(9) == 0.5


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="is one of requeue-once, requeue, reject, stop or a function"):
        check_policy("ignore")
    check_policy("stop")
    check_policy(lambda failure, delivery: Outcome.DONE)
