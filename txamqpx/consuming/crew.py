"""Handlers at work: so many at a time, in which order, and what becomes of their deliveries."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from attrs import Factory, define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.consuming.batch import Bundle
from txamqpx.consuming.brake import Brake
from txamqpx.consuming.line import Line
from txamqpx.consuming.settlement import Outcome, RetryLater, StopConsuming, Verdict, judge, settle
from txamqpx.consuming.terms import Terms
from txamqpx.consuming.threaded import in_thread
from txamqpx.consuming.window import Window
from txamqpx.errors import AMQPError
from txamqpx.message import Delivery
from txamqpx.once import Once

__all__ = ["Crew"]

_EXITS = (SystemExit, KeyboardInterrupt)


@define(eq=False)
class _Job:
    """One call of the handler, and its repetitions."""

    deliveries: list[Delivery]
    attempts: int = 1
    result: Deferred[Any] | None = None
    retry: IDelayedCall | None = None
    ended: bool = False
    failures: dict[int, Failure] = Factory(dict)


class Crew:
    """Calls a handler with deliveries.

    Nothing that a handler returns or raises leaves a message unsettled, but in manual mode.

    Args:
        handler: Called with a delivery, or with a ``Bundle``.
        terms: How.
        clock: What tells the time; with ``thread`` it is a reactor.
        stop: Called with the ``StopConsuming`` that a handler has raised.
        brake: Told of what waits, where nothing is acked.

    Attributes:
        take: To be called with each delivery as it comes.
        window: What limits the deliveries that are in the user's hands; None: nothing does.
        name: The handler's, for the log.
        abandoned: Whether handlers that were at work were cancelled, because they took too long.
    """

    log = Logger()

    def __init__(
        self,
        handler: Callable[[Any], object],
        terms: Terms,
        clock: Any,
        stop: Callable[[StopConsuming], object],
        brake: Brake | None = None,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is called with each delivery, {type(handler).__name__} cannot be")
        self.name: str = getattr(handler, "__qualname__", None) or repr(handler)
        self._handler = in_thread(handler, clock) if terms.thread else handler
        self._terms = terms
        self._clock = clock
        self._stop = stop
        self._brake = brake
        self._settles = terms.ack == "auto"
        self._is_acked = terms.ack != "none"
        self._limit = terms.concurrency
        self._line: Line[Delivery] = Line(terms.order_by)
        self._running: dict[_Job, None] = {}
        self._advancing = False
        self._held = False
        self._leaving = False
        self._finishing = False
        self.abandoned = False
        self._idle: Once[None] = Once()
        self._deadline: IDelayedCall | None = None
        self._gathering: IDelayedCall | None = None
        self._due = False
        # Whether a delivery that comes has to wait.
        self._occupied = False
        self.window: Window | None = None
        self.take: Callable[[Delivery], object] = self._take if terms.is_plain else self.line_up

    @property
    def waiting(self) -> int:
        """How many deliveries wait for their turn."""
        return len(self._line)

    def in_line(self) -> set[Delivery]:
        """Return the deliveries that wait for their turn."""
        return set(self._line)

    @property
    def at_work(self) -> list[Delivery]:
        """The deliveries whose handler has not ended."""
        return [delivery for job in self._running for delivery in job.deliveries]

    # ----------------------------------------------------------------------- what comes

    def _take(self, delivery: Delivery) -> None:
        # For a function that returns None this is all that there is between the channel and the ack.
        if self._occupied:
            self.line_up(delivery)
            return
        try:
            result = self._handler(delivery)
        except BaseException:
            self._raised(self._begin(delivery))
            return
        if result is not None:
            self._follow(self._begin(delivery), result)
        elif not delivery.settled:
            try:
                delivery.core.ack(delivery.delivery_tag)
            except AMQPError:
                return  # the channel is being closed: the message will come again

    def _begin(self, *deliveries: Delivery) -> _Job:
        job = _Job(list(deliveries))
        self._running[job] = None
        self._occupied |= len(self._running) >= self._limit
        return job

    def line_up(self, delivery: Delivery) -> None:
        """Let a delivery wait for its turn, which may be now."""
        if self._leaving and self._is_acked:
            settle(delivery, Outcome.RELEASED)
            return
        if self.abandoned:
            self._lose(1)
            return
        try:
            self._line.put(delivery)
        except Exception:
            self._failed(Failure(), self._begin(delivery))
            return
        if self._brake is None:
            self.advance()
            return
        self._brake.came(delivery)
        self.advance()
        self._brake.look()

    def advance(self) -> None:
        """Call the handler with what may have its turn."""
        if self._advancing:
            return  # whoever does it already goes on
        self._advancing = True
        try:
            while len(self._running) < self._limit and not self._held:
                deliveries = self._next(1) if self._terms.batch is None else self._next_batch()
                if not deliveries:
                    break
                self._call(self._begin(*deliveries))
        finally:
            self._advancing = False
            full = len(self._running) >= self._limit
            self._occupied = full or len(self._line) > 0 or self._held or self._leaving
        if self._finishing and not self._running and not self._line and not self._idle.fired:
            if self._deadline is not None and self._deadline.active():
                self._deadline.cancel()
            self._idle.fire(None)

    def _next(self, most: int) -> list[Delivery]:
        """Take out those whose turn it is."""
        deliveries: list[Delivery] = []
        while len(deliveries) < most and not (self.window is not None and self.window.is_full):
            delivery = self._line.call()
            if delivery is None:
                break
            if self._brake is not None:
                self._brake.went(delivery)
            if delivery.stale:
                self._line.done(delivery)  # it will come again
                continue
            if self.window is not None:
                self.window.hand_out(delivery)
            deliveries.append(delivery)
        return deliveries

    def _next_batch(self) -> list[Delivery]:
        batch = self._terms.batch
        assert batch is not None
        if not self._due and len(self._line) < batch.size and not self._leaving:
            if self._line and self._gathering is None:
                self._gathering = self._clock.callLater(batch.wait, self._waited)
            return []
        self._due = False
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        return self._next(batch.size)

    def _waited(self) -> None:
        self._gathering = None
        self._due = len(self._line) > 0
        self.advance()

    # ----------------------------------------------------------------------- calling

    def _call(self, job: _Job) -> None:
        if self._terms.ack == "early":
            for delivery in job.deliveries:
                settle(delivery, Outcome.DONE)
        argument: Delivery | Bundle = job.deliveries[0]
        if self._terms.batch is not None:
            argument = Bundle(job.deliveries)
            job.failures = argument.failures
        try:
            result = self._handler(argument)
        except BaseException:
            self._raised(job)
        else:
            self._follow(job, result)

    def _raised(self, job: _Job) -> None:
        failure = Failure()
        self._failed(failure, job)
        if failure.check(*_EXITS) is not None:
            failure.raiseException()

    def _follow(self, job: _Job, result: object) -> None:
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            job.result = result
            result.addCallbacks(self._returned, self._failed, callbackArgs=(job,), errbackArgs=(job,))
        else:
            self._returned(result, job)

    def _returned(self, result: object, job: _Job) -> None:
        if job.ended:
            return  # nobody waits for it any longer
        if self._settles:
            for index, delivery in enumerate(job.deliveries):
                if index not in job.failures:
                    settle(delivery, Outcome.DONE)
        if not job.failures:
            for delivery in job.deliveries:
                self._line.done(delivery)
            self._end(job)
            return
        self._judge(job, [(job.deliveries[index], job.failures[index]) for index in sorted(job.failures)])

    def _failed(self, failure: Failure, job: _Job) -> None:
        if not job.ended:
            failures = job.failures
            pairs = enumerate(job.deliveries)
            self._judge(job, [(delivery, failures.get(index, failure)) for index, delivery in pairs])
        elif failure.check(CancelledError) is None:
            self.log.failure("{handler} failed when it was cancelled", failure, handler=self.name)

    # ----------------------------------------------------------------------- judging

    def _judge(self, job: _Job, failed: list[tuple[Delivery, Failure]]) -> None:
        """Deal with what was raised; the job goes on only with what is to be tried again."""
        again: list[Delivery] = []
        delay = 0.0
        stop: StopConsuming | None = None
        told: set[Failure] = set()
        for delivery, failure in failed:
            word = self._word(failure, delivery)
            if isinstance(word, RetryLater) and self._may_try_again(job, delivery):
                again.append(delivery)
                delay = max(delay, word.wait(job.attempts))
                continue
            if isinstance(word, StopConsuming):
                stop = stop or word
            outcome = word if isinstance(word, Outcome) else word.outcome
            if isinstance(word, RetryLater) and self._leaving:
                outcome = Outcome.RELEASED
            if failure not in told:
                told.add(failure)
                self._tell(delivery, failure, outcome)
            if self._settles:
                settle(delivery, outcome)
        for delivery in job.deliveries:
            if delivery not in again:
                self._line.done(delivery)
        job.deliveries, job.result = again, None
        if again:
            job.retry = self._clock.callLater(delay, self._try_again, job)
        if stop is not None:
            self._stop(stop)  # before the end of this one is the turn of the next
        if not again:
            self._end(job)

    def _word(self, failure: Failure, delivery: Delivery) -> Verdict | Outcome:
        try:
            return judge(failure, delivery, self._terms.on_error)
        except Exception:
            self.log.failure(
                "on_error of {handler} failed on {delivery}", handler=self.name, delivery=delivery
            )
            return judge(failure, delivery, "requeue-once")

    def _may_try_again(self, job: _Job, delivery: Delivery) -> bool:
        if self._settles and (delivery.settled or self._leaving):
            return False
        return job.attempts < self._terms.attempts and not delivery.stale

    def _tell(self, delivery: Delivery, failure: Failure, outcome: Outcome) -> None:
        facts: dict[str, Any] = {"handler": self.name, "delivery": delivery}
        facts["outcome"] = outcome.value if self._settles else "left as it is"
        if isinstance(failure.value, StopConsuming):
            self.log.info(
                "{handler} ends its consumer on {delivery}: {reason}", reason=failure.value, **facts
            )
        elif not isinstance(failure.value, Verdict):
            self.log.failure("{handler} failed on {delivery}, which is {outcome}", failure, **facts)
        elif isinstance(failure.value, RetryLater) or not self._settles:
            self.log.warn(
                "{handler} raised {verdict!r}: {delivery} is {outcome}", verdict=failure.value, **facts
            )

    def _try_again(self, job: _Job) -> None:
        job.retry = None
        job.attempts += 1
        for delivery in [one for one in job.deliveries if one.stale]:
            job.deliveries.remove(delivery)
            self._line.done(delivery)
        if job.deliveries:
            self._call(job)
        else:
            self._end(job)

    def _end(self, job: _Job) -> None:
        job.ended = True
        del self._running[job]
        self.advance()

    # ----------------------------------------------------------------------- leaving

    def purge(self, which: Callable[[Delivery], bool]) -> None:
        """Give back what waits and is named by ``which``."""
        for delivery in self._line.remove(which):
            settle(delivery, Outcome.RELEASED)
        self.advance()

    def hold(self) -> None:
        """Begin nothing more until ``leave``."""
        self._held = self._occupied = True

    def leave(self, timeout: float | None) -> None:
        """Begin nothing more: give back what waits, or, where nothing is acked, handle it too.

        Args:
            timeout: Seconds after which handlers are cancelled and their messages given back; None: never.
        """
        self._held, self._leaving = False, True
        if timeout is not None:
            self._deadline = self._clock.callLater(timeout, self._abandon)
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._is_acked:
            self.purge(lambda _: True)
        if self._terms.ack in ("auto", "manual"):
            for job in [one for one in self._running if one.retry is not None]:
                self._give_up(job)
        self.advance()

    def finish(self) -> Deferred[None]:
        """Return a Deferred that fires when no handler is at work; nothing more will come."""
        self._finishing = True
        self.advance()
        return self._idle.wait()

    def _abandon(self) -> None:
        self.abandoned = True
        lost = self._line.remove(lambda _: True)
        if lost:
            self._lose(len(lost))
        for job in list(self._running):
            self._give_up(job)

    def _lose(self, count: int) -> None:
        self.log.error(
            "{count} deliveries need no ack and were not handled by {handler}", count=count, handler=self.name
        )

    def _give_up(self, job: _Job) -> None:
        job.ended = True
        waits_for = job.retry or job.result
        assert waits_for is not None  # or the handler would be running in this very moment
        waits_for.cancel()
        for delivery in job.deliveries:
            if self._settles:
                settle(delivery, Outcome.RELEASED)
            self._line.done(delivery)
        self._end(job)
