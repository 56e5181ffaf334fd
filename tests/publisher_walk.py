"""A random walk over a publisher, whose every outcome is judged by what a model broker really did.

A `Publisher` and a broker that does as it likes are joined by a wire that carries as many bytes as it likes,
and time passes as it likes. Each message has exactly one outcome, and a true one: what is confirmed was
taken and acked, what is called not published was never taken and never will be, and nobody is called unknown,
or blamed for a channel, whom the broker's words clear. Messages arrive in the order of publishing, each once;
no more than the window are outstanding; and who waits for a flush is told when it is due.

`python -m tests.publisher_walk --steps 1000000` walks for long; a walk is repeated by its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.logged import LoggedErrors
from tests.model_broker import EXCHANGES, ModelBroker
from tests.publisher_judge import CONFIRM_TIMEOUT, GATE_TIMEOUT, Judge, Message
from txamqpx.connection import AMQPProtocol
from txamqpx.errors import Closed, NotPublished
from txamqpx.params import ConnectionParameters
from txamqpx.publisher import Publisher
from txamqpx.publishing.bulk import Summary
from txamqpx.testing import End

WINDOW = 6
SIZES = (*[20] * 20, *[5000] * 4, 60_000, 60_000, 120_000)


class Operations:
    """What the program has called besides publishing: it ends when the walk says so."""

    def __init__(self) -> None:
        self.made = 0
        self.unfinished: set[int] = set()
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def when_idle(self) -> Deferred[None]:
        """Fire when all so far have ended."""
        if not self.unfinished:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._waiting.append((self.made, deferred))
        return deferred

    def begin(self) -> None:
        """Begin one."""
        self.made += 1
        self.unfinished.add(self.made)

    def end(self, number: int) -> None:
        """End one."""
        self.unfinished.remove(number)
        for waiter in list(self._waiting):
            if waiter in self._waiting and not any(one <= waiter[0] for one in self.unfinished):
                self._waiting.remove(waiter)
                waiter[1].callback(None)


class ClientEnd(End):
    """Remembers what was in the transport when it was dropped: the network may have it already."""

    kept = b""

    def abortConnection(self) -> None:
        self.kept = self.kept or bytes(self.unsent)
        super().abortConnection()


def _join(client: Any, server: Any) -> None:
    """Let the handshake happen."""
    client.other, server.other = server, client
    server.protocol.makeConnection(server)
    client.protocol.makeConnection(client)
    while client.carry() | server.carry():
        pass


@attrs.frozen
class Host:
    """Stands in for the client."""

    protocol: AMQPProtocol
    operations: Operations


class Walk:
    """One connection and its publisher, from the handshake to the end; then the next.

    Args:
        seed: Tells one walk from another.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.steps = 0
        self.outcomes: Counter[str] = Counter()
        moves: list[tuple[Callable[[], object], int]] = [
            (self._publish, 14),
            (self._carry_out, 16),
            (self._carry_in, 12),
            (self._let_the_broker_act, 14),
            (self._flush, 1),
            (self._cancel, 1),
            (self._publish_many, 1),
            (self._begin_or_end_an_operation, 2),
            (self._let_time_pass, 2),
        ]
        self._moves = [move for move, weight in moves for _ in range(weight)]
        self._begin()

    def _begin(self) -> None:
        self.clock = Clock()
        self.confirm = self.chance.random() < 0.9
        parameters = ConnectionParameters(heartbeat=0, max_outbox=1_000_000)
        self.protocol = AMQPProtocol(parameters, None, self.clock)
        self.broker = ModelBroker(self.chance, WINDOW, lambda: self.judge.awake)
        self.judge = Judge(
            self.broker,
            self.clock.seconds,
            confirm=self.confirm,
            is_over=lambda: self.protocol.core.error is not None or self.publisher._closing,
        )
        self._client, self._server = ClientEnd(self.protocol), End(self.broker)
        _join(self._client, self._server)
        self.operations = Operations()
        self.publisher = Publisher(
            Host(self.protocol, self.operations),
            confirm=self.confirm,
            max_outstanding=WINDOW,
            max_waiting=self.chance.choice((10, 60)),
            confirm_timeout=CONFIRM_TIMEOUT,
            gate_timeout=GATE_TIMEOUT,
        )
        self._waiting: list[tuple[str, set[int], set[int]]] = []
        self._faults: list[Any] = []
        self._told_of: list[tuple[str, Message]] = []
        self._closing: list[object] = []
        self._depth = 0
        self._told = 0

    def run(self, steps: int) -> None:
        """Walk on, and let the last connection end."""
        for _ in range(steps):
            self.steps += 1
            step = self.chance.random()
            if self._client.lost:
                self._finish()
            elif step < (0.05 if self._closing else 0.0008):
                self._lose()
            elif step < 0.0012:
                self.protocol.close()
            elif step < 0.002:
                self._close_publisher()
            elif step < 0.006:
                self._come_to_rest()
            else:
                self.chance.choice(self._moves)()
            self._check()
        if not self._client.lost:
            self._lose()
        self._finish()

    # ----------------------------------------------------------------------- what the program does

    def _next(self, timeout: float | None = None) -> tuple[Message, bytes]:
        size = self.chance.choice(SIZES)
        exchange = self.chance.choice(("", "", "events", *EXCHANGES))
        message = self.judge.enter(exchange, size, timeout, self.operations.unfinished)
        return message, f"{message.number} ".encode().ljust(size, b".")

    def _publish(self) -> None:
        timeout = self.chance.choice((*[None] * 9, 3.0))
        message, body = self._next(timeout)
        publisher = self.publisher
        outstanding = publisher.outstanding
        publish: Any = publisher.publish(
            body,
            exchange=message.exchange,
            routing_key="key",
            mandatory=self.chance.random() < 0.5,
            timeout=timeout,
        )
        message.publish = publish
        if self.protocol.blocked is not None:
            assert publisher.outstanding <= outstanding, "a message goes to a broker that does not read"
        if message.after:
            assert publish.called or publish.since is not None, "a message overtakes an operation"
        publish.addBoth(self._came, message).addErrback(self._fault)

    def _publish_many(self) -> None:
        numbers: list[int] = []

        def messages() -> Iterator[tuple[bytes, dict[str, Any]]]:
            for _ in range(self.chance.randrange(15)):
                message, body = self._next()
                numbers.append(message.number)
                yield body, {"exchange": message.exchange, "mandatory": self.chance.random() < 0.5}

        def summed_up(summary: Summary) -> None:
            assert summary.total == len(numbers)
            failures = dict(summary.failures)
            for position, number in enumerate(numbers):
                self.judge.judge(self.judge.messages[number], failures.get(position))

        self.publisher.publish_many(messages(), routing_key="key").addCallback(summed_up).addErrback(
            self._fault
        )

    def _flush(self) -> None:
        settled = self.chance.random() < 0.7
        # What is being published at this moment may be in time for it, or not.
        made = {number for number, one in self.judge.pending.items() if one.publish is not None}
        waiting = ("flush" if settled else "ready", made, set(self.judge.pending))
        self._waiting.append(waiting)
        deferred = self.publisher.flush() if settled else self.publisher.when_ready()
        deferred.addCallback(self._flushed, waiting).addErrback(self._fault)

    def _flushed(self, _: object, waiting: tuple[str, set[int], set[int]]) -> None:
        self._waiting.remove(waiting)
        kind, numbers, _all = waiting
        self.outcomes[kind] += 1
        # What the broker says at once of several is told one by one, and this may be called in between.
        self._told_of += [(kind, self.judge.pending[one]) for one in numbers if one in self.judge.pending]
        self._perhaps_go_on()

    def _cancel(self) -> None:
        cancellable = [one for one in self.judge.pending.values() if one.publish is not None]
        if cancellable:
            message = self.chance.choice(cancellable)
            message.cancelled = True
            waited = message.publish.since is not None
            message.publish.cancel()
            assert type(message.outcome) is (NotPublished if waited else CancelledError), message

    def _begin_or_end_an_operation(self) -> None:
        if self.operations.unfinished and self.chance.random() < 0.8:
            self.operations.end(self.chance.choice(sorted(self.operations.unfinished)))
        else:
            self.operations.begin()

    def _close_publisher(self) -> None:
        closing = self.publisher.close(self.chance.choice((0.0, 5.0, 30.0)))
        closing.addCallback(self._closing.append).addErrback(self._fault)

    def _perhaps_go_on(self) -> None:
        """Do something where the program would: in a callback."""
        if self._depth < 3 and self.chance.random() < 0.05:
            self._depth += 1
            self.chance.choice((self._publish, self._publish_many, self._cancel, self._flush))()
            self._depth -= 1

    # ----------------------------------------------------------------------- what lies on the wire

    def _let_the_broker_act(self) -> None:
        self.broker.act()

    def _carry_out(self) -> None:
        self.clock.advance(0)
        self._client.carry(self.chance.choice((None, None, 30, 5000, 100_000)))
        self._hang_up()

    def _carry_in(self) -> None:
        self._hear(self.chance.choice((None, None, 1, 20, 60)))
        self._hang_up()

    def _hear(self, most: int | None = None) -> bool:
        entries = self.publisher._gate.entries.values()
        taken = self.protocol.core.outbox.taken
        self.judge.listen([(entry[6], entry[1] <= taken) for entry in entries])
        return self._server.carry(most)

    def _hang_up(self) -> None:
        self._client.hang_up()
        self._server.hang_up()

    def _carry_all(self) -> None:
        moved = True
        while moved:
            self.clock.advance(0)
            moved = self._client.carry() | self._hear() | self._client.hang_up() | self._server.hang_up()

    def _let_time_pass(self) -> None:
        """Let each delayed call run at its time."""
        end = self.clock.seconds() + self.chance.expovariate(self.chance.choice((0.5, 0.5, 0.5, 0.05)))
        while (now := self.clock.seconds()) < end:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            passed = max(0.0, min(due, end) - now)
            if self.protocol.blocked is None:
                self.judge.awake += passed
            self.clock.advance(passed)
        self._hang_up()
        self.judge.look_for_the_late(self.protocol.blocked is not None)

    def _come_to_rest(self) -> None:
        """Take away whatever holds the publisher up: then nobody waits any more."""
        for number in sorted(self.operations.unfinished):
            self.operations.end(number)
        while True:
            self._carry_all()
            before = len(self.broker.verdicts), len(self.broker.taken), len(self.broker.closures)
            self.broker.settle_all()
            self._carry_all()
            if before == (len(self.broker.verdicts), len(self.broker.taken), len(self.broker.closures)):
                break
        if not self._client.lost:
            assert not self.judge.pending, f"still waiting: {self.judge.pending}"
            assert not self._waiting, f"never told: {self._waiting}"
            assert (self.publisher.outstanding, self.publisher.waiting) == (0, 0)
            self.outcomes["came to rest"] += 1

    def _lose(self) -> None:
        """Cut the wire; what the transport has may arrive all the same."""
        arrives = bytes(self._client.unsent)
        self._client.unsent.clear()
        self._client.lose(ConnectionLost())
        self._server.lose(ConnectionLost())
        self.broker.dataReceived(arrives[: self.chance.choice((None, 0, 1000))])

    # ----------------------------------------------------------------------- what we are told

    def _came(self, result: Any, message: Message) -> None:
        self.judge.judge(message, result.value if isinstance(result, Failure) else result)
        self._perhaps_go_on()

    def _fault(self, failure: Failure) -> None:
        """Keep what a callback has found wrong, which would get lost in its Deferred."""
        self._faults.append(failure.value)

    # ----------------------------------------------------------------------- what holds at each step

    def _check(self) -> None:
        if self._faults:
            raise self._faults[0]
        if self.confirm:
            assert self.publisher.outstanding <= WINDOW
        if self._client.lost:
            assert not self.judge.pending, f"the connection is over, and these wait: {self.judge.pending}"
            assert not self._waiting, f"the connection is over, and these wait: {self._waiting}"
        for number in self.broker.taken[self._told :]:
            overtaken = self.judge.messages[number].after & self.operations.unfinished
            assert not overtaken, f"message {number} has overtaken the operations {overtaken}"
        self._told = len(self.broker.taken)
        for kind, message in self._told_of:
            early = kind == "flush" or message.publish.since is not None
            assert message.number not in self.judge.pending or not early, f"{kind} was told before {message}"
        self._told_of.clear()
        for kind, _, numbers in self._waiting:
            if kind == "flush":
                assert not numbers.isdisjoint(self.judge.pending), (
                    f"nobody is told that {numbers} have outcomes"
                )

    def _finish(self) -> None:
        """Judge a connection that is over; begin the next."""
        if self._client.kept:
            self.broker.dataReceived(self._client.kept)
        if self.publisher._closing:
            assert self._closing, "nobody is told that the publisher is closed"
        late: list[object] = []
        self.publisher.publish(b"late").addErrback(lambda failure: late.append(failure.trap(NotPublished)))
        self.publisher.flush().addCallback(late.append)
        assert len(late) == 2
        assert not self.clock.getDelayedCalls(), self.clock.getDelayedCalls()
        error = self.protocol.core.error
        assert isinstance(error, Closed)
        self.outcomes += self.judge.outcomes
        self.outcomes["messages moved"] += self.publisher.moved
        self.outcomes[f"ended: {type(error).__name__}"] += 1
        self._begin()


def main(arguments: list[str] | None = None) -> None:
    """Walk, print the seed first and the outcomes last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    errors = LoggedErrors()
    errors.start()
    walk = Walk(options.seed)
    walk.run(options.steps)
    for outcome, count in sorted(walk.outcomes.items()):
        print(f"{count:9,} {outcome}")
    left = errors.stop()
    assert not left, f"logged:\n{left}"


if __name__ == "__main__":
    main(sys.argv[1:])
