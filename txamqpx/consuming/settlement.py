"""What becomes of a delivery once its handler is done: from outcomes to methods, in one place."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Literal

from twisted.python.failure import Failure

from txamqpx.errors import AMQPError, InvalidParameter
from txamqpx.message import Delivery, Settlement

__all__ = [
    "Drop",
    "Outcome",
    "Policy",
    "Reject",
    "Requeue",
    "RetryLater",
    "StopConsuming",
    "Verdict",
    "check_policy",
    "judge",
    "settle",
]


class Outcome(Enum):
    """What becomes of a message."""

    #: ``basic.ack``: it is done with.
    DONE = "done"
    #: ``basic.nack``, requeued: not its fault, nothing counts against it (RabbitMQ 4.3, quorum queues).
    RELEASED = "released"
    #: ``basic.reject``, requeued: it failed, and quorum queues count that.
    FAILED = "failed"
    #: ``basic.reject``, not requeued: dead-lettered where its queue says so, else dropped.
    DISCARDED = "discarded"


class Verdict(Exception):
    """What a handler raises to say what shall become of its message."""

    outcome: Outcome


class Requeue(Verdict):
    """Give the message to somebody again: it has not failed."""

    outcome = Outcome.RELEASED


class Reject(Verdict):
    """Never give the message to anybody again: it is dead-lettered where its queue says so."""

    outcome = Outcome.DISCARDED


class Drop(Verdict):
    """Forget the message: it is acked, so that it is not dead-lettered either."""

    outcome = Outcome.DONE


class RetryLater(Verdict):
    """Keep the message, and call the handler with it again after a while.

    Args:
        delay: Seconds; None: longer each time (1, 2, 4, ... up to 60).
    """

    outcome = Outcome.DISCARDED  # when it was tried often enough

    def __init__(self, delay: float | None = None) -> None:
        super().__init__(delay)
        self.delay = delay

    def wait(self, attempts: int) -> float:
        """Return how many seconds to wait after so many attempts."""
        return min(60.0, 2.0 ** (attempts - 1)) if self.delay is None else self.delay


class StopConsuming(Verdict):
    """Give the message to somebody else, and end the consumer.

    Args:
        *reason: For the log, and for whoever waits for the end.
        ack: Whether the message is done with, and only the consumer is to end.
    """

    outcome = Outcome.RELEASED

    def __init__(self, *reason: object, ack: bool = False) -> None:
        super().__init__(*reason)
        if ack:
            self.outcome = Outcome.DONE


Word = Outcome | Verdict | type[Verdict]
Policy = Literal["requeue-once", "requeue", "reject", "stop"] | Callable[[Failure, Delivery], Outcome | Word]

_POLICIES = ("requeue-once", "requeue", "reject", "stop")


def check_policy(policy: object) -> None:
    """Refuse what is no policy.

    Raises:
        InvalidParameter: It is not.
    """
    if policy not in _POLICIES and not callable(policy):
        raise InvalidParameter("on_error", f"is one of {', '.join(_POLICIES)} or a function, not {policy!r}")


def judge(failure: Failure, delivery: Delivery, policy: Policy) -> Verdict | Outcome:
    """Decide what becomes of a message whose handler has raised.

    Args:
        failure: What it raised.
        delivery: The message.
        policy: What to do about an exception that is no ``Verdict``.

    Raises:
        Exception: What a policy that is a function raises.
        TypeError: It gave no outcome.
    """
    if isinstance(failure.value, Verdict):
        return failure.value
    if not isinstance(failure.value, Exception) and failure.check(SystemExit, KeyboardInterrupt):
        return _stop(failure)  # the program is to end; the message has nothing to do with it
    if callable(policy):
        word = policy(failure, delivery)
        if isinstance(word, type) and issubclass(word, Verdict):
            return word()
        if not isinstance(word, Outcome | Verdict):
            raise TypeError(f"on_error gave {word!r}, which is no Outcome and no Verdict")
        return word
    if policy == "stop":
        return _stop(failure)
    if policy == "requeue":
        return Outcome.FAILED
    # Without an end a message that can never succeed goes round as fast as the broker can send it.
    return Outcome.DISCARDED if policy == "reject" or delivery.redelivered else Outcome.FAILED


def _stop(failure: Failure) -> StopConsuming:
    stop = StopConsuming(failure.getErrorMessage())
    stop.__cause__ = failure.value
    return stop


def settle(delivery: Delivery, outcome: Outcome) -> Settlement | None:
    """Tell the broker what has become of a message; nothing that happens here is an error.

    Returns:
        What came of it; None if it was settled before, which is its handler's right.
    """
    if delivery.settled:
        return Settlement.STALE if delivery.stale else None
    try:
        if outcome is Outcome.DONE:
            return delivery.ack()
        if outcome is Outcome.RELEASED:
            return delivery.nack(requeue=True)
        return delivery.reject(requeue=outcome is Outcome.FAILED)
    except AMQPError:  # the channel is being closed
        return Settlement.STALE
