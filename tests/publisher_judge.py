"""Judges what a publisher says of its messages by what a model broker really did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError

from tests.model_broker import Closure, ModelBroker, number_of
from txamqpx.errors import (
    AccessRefused,
    ConfirmTimeout,
    GateTimeout,
    Nacked,
    NotFound,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
    Unroutable,
)
from txamqpx.message import Confirmed

CONFIRM_TIMEOUT = 8.0
GATE_TIMEOUT = 20.0
REFUSALS = {403: AccessRefused, 404: NotFound, 406: PreconditionFailed}
INSTANT = 1e-6


@attrs.define(eq=False)
class Message:
    """What the walk knows of a message.

    Attributes:
        number: Its place in the order of publishing.
        since: When it was published.
        awake: The same by a clock that stands still while the broker has blocked the connection.
        publish: Its Deferred; None in a bulk.
        after: The operations that had not ended when it was published.
        outcome: What became of it.
        company: What was outstanding with it when we last heard of the broker.
        handed: Whether the transport had it by then.
        closure: The channel that the broker had closed last by then.
    """

    number: int
    exchange: str
    size: int
    since: float
    awake: float
    timeout: float | None
    publish: Any = None
    after: frozenset[int] = frozenset()
    cancelled: bool = False
    outcome: Any = None
    company: list[Message] = attrs.field(factory=list)
    handed: bool = False
    closure: Closure | None = None


class Judge:
    """Keeps the books of one publisher.

    Args:
        broker: Whose deeds count.
        now: Tells the time.
        confirm: Whether the broker speaks of messages at all.
        is_over: Tells whether the connection or the publisher is over, and the broker not heard any more.

    Attributes:
        messages: All, by their numbers.
        pending: Those without an outcome, by their numbers.
        awake: The time for which the broker has not blocked the connection, in seconds.
        outcomes: How many there were of each kind.
    """

    def __init__(
        self, broker: ModelBroker, now: Callable[[], float], *, confirm: bool, is_over: Callable[[], bool]
    ) -> None:
        self.messages: list[Message] = []
        self.pending: dict[int, Message] = {}
        self.awake = 0.0
        self.outcomes: Counter[str] = Counter()
        self.now = now
        self._broker = broker
        self._confirm = confirm
        self._is_over = is_over
        # Exchanges that let us wait, so that they count as tried.
        self._doubtful: set[str] = set()

    def enter(self, exchange: str, size: int, timeout: float | None, after: Iterable[int]) -> Message:
        """Take note of a message that is about to be published."""
        number = len(self.messages)
        message = Message(number, exchange, size, self.now(), self.awake, timeout, after=frozenset(after))
        self.messages.append(message)
        self.pending[number] = message
        return message

    def listen(self, outstanding: Sequence[tuple[bytes, bool]]) -> None:
        """Take note of what is outstanding, and was handed to the transport, when the broker is heard."""
        company = [self.messages[number_of(body)] for body, _ in outstanding]
        for message, (_, handed) in zip(company, outstanding, strict=True):
            message.company, message.handed = company, handed
            message.closure = self._broker.closures[-1] if self._broker.closures else None
            if self.awake - message.awake >= CONFIRM_TIMEOUT:
                self._doubtful.add(message.exchange)

    def judge(self, message: Message, outcome: Any) -> None:
        """Compare an outcome with what the broker did."""
        number = message.number
        assert self.pending.pop(number, None) is message, (
            f"message {number} has a second outcome: {outcome!r}"
        )
        message.outcome = outcome
        said = self._broker.verdicts.get(number)
        told = f"message {number}, of which the broker has said {said}: {outcome!r}"
        if outcome is None and message.publish is None:  # in a summary it stands for a success
            name = "Confirmed"
            assert said == "acked" or not self._confirm, told
        else:
            name = type(outcome).__name__
        if isinstance(outcome, Confirmed):
            assert said == "acked", told
        elif outcome is None:
            assert not self._confirm or message.publish is None, told
        elif isinstance(outcome, Unroutable):
            assert said == "returned", told
            assert number_of(outcome.message.body) == number
        elif isinstance(outcome, Nacked):
            assert said == "nacked", told
        elif isinstance(outcome, NotPublished):
            self._deny(message, outcome, told)
        elif isinstance(outcome, CancelledError):
            assert message.cancelled, told
        elif isinstance(outcome, ConfirmTimeout):
            passed = self.awake - message.awake
            if message.timeout is not None and outcome.seconds == message.timeout:
                passed = self.now() - message.since
            assert passed >= outcome.seconds - INSTANT, told
        elif isinstance(outcome, OutcomeUnknown):
            assert self._is_unclear(message), told
        else:
            assert any(
                closure.culprit == number and type(outcome) is REFUSALS[closure.code]
                for closure in self._broker.closures
            ), told
        self.outcomes[name] += 1

    def _deny(self, message: Message, outcome: NotPublished, told: str) -> None:
        assert message.number not in self._broker.taken, told
        assert all(closure.culprit != message.number for closure in self._broker.closures), told
        self._broker.denied.add(message.number)
        if isinstance(outcome, GateTimeout):
            assert self.now() - message.since >= outcome.seconds - INSTANT, told

    def _is_unclear(self, message: Message) -> bool:
        """Tell whether nobody can know what became of a message: the broker's word of it is lost."""
        if self._is_over():
            return True
        closure = message.closure
        if closure is None or not message.handed:
            return False
        if closure.untried is not None and closure.untried not in self._doubtful:
            return False  # the first message to an exchange travels alone
        suspects = [one.number for one in message.company if closure.fits(one.exchange, one.size)]
        if closure.culprit is None:
            return True
        assert closure.culprit in suspects
        if message.number == closure.culprit:
            return len(suspects) > 1
        return message.number <= suspects[-1]

    def look_for_the_late(self, blocked: bool) -> None:
        """Check that nobody waits longer than promised."""
        now = self.now()
        for number, message in self.pending.items():
            if message.publish is None:
                continue
            since = message.publish.since
            assert since is None or now - since <= GATE_TIMEOUT + INSTANT, f"{message} waits for its turn"
            received = self._broker.received.get(number)
            if received is not None and not blocked:
                late = self.awake - received > CONFIRM_TIMEOUT * 9 / 8 + INSTANT
                assert not late, f"{message} waits for its confirm"
