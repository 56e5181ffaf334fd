"""What stands in a publisher's line: publishes, and marks between them."""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

from attrs import define
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import BasicProperties

__all__ = ["Barrier", "Content", "Mark", "Predecessors", "Publish"]

#: Body, exchange, routing key, properties, mandatory.
Content = tuple[bytes, str, str, BasicProperties, bool]


class Predecessors(Protocol):
    """What the program called before a publish, which has to take effect before it."""

    #: How many there ever were.
    made: int

    @property
    def unfinished(self) -> Sized:
        """Those that have not ended: always the same object, to be asked often."""

    def when_idle(self) -> Deferred[None]:
        """Return a Deferred that fires when all that there were so far have ended; it never fails."""


class Judge(Protocol):
    """Decides what a publish fails with, which is its gate."""

    def failed(self, publish: Publish, failure: Failure) -> None:
        """Let ``publish`` fail, unless it can still be sent."""


class Publish(Deferred[Confirmed | None]):
    """The Deferred of a publish, which is also its token in the ledger and its place in the line.

    There is nothing else for each message: a second Deferred, or a table of them, would double its cost.
    """

    gate: Judge
    #: Only of one that waits for its turn: of one that was sent it is in the ledger.
    content: Content
    #: When it began to wait for its turn; None once it was handed to the channel.
    since: float | None = None
    #: What has to have passed before it is its turn.
    after: Barrier | None = None
    #: What it fails with when it is cancelled; None: ``CancelledError``, or that it was not published.
    reason: AMQPError | None = None

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        """Fail, unless the message can still be sent."""
        assert isinstance(fail, Failure)
        if self.called:
            self.end(fail)
        else:
            self.gate.failed(self, fail)

    def fire(self) -> None:
        """Tell that it was sent, where the broker says nothing."""
        if not self.called:
            self.callback(None)

    def end(self, failure: Failure) -> None:
        """Fail for good."""
        super().errback(failure)

    def give_up(self, reason: AMQPError) -> None:
        """Fail with ``reason``, if there is no outcome yet; what the broker says later is not heard."""
        if not self.called:  # or what a callback has returned would be cancelled
            self.reason = reason
            self.cancel()


@define(eq=False)
class Barrier:
    """What those wait for who were published after an operation that has not ended.

    Attributes:
        made: How many had been called.
        passed: Whether they have ended.
    """

    made: int
    passed: bool = False


@define(eq=False)
class Mark:
    """A place in the line: fires when it is reached, or when all before it have their outcomes."""

    settled: bool
    deferred: Deferred[None]

    def fire(self) -> None:
        """Tell whoever still waits for it."""
        if not self.deferred.called:
            self.deferred.callback(None)
