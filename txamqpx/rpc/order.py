"""What has to be over before a request may be sent, and what has to wait for requests."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from txamqpx.errors import AMQPError, ChannelClosed, NotPublished, caused
from txamqpx.ordering import Footprint, Operations
from txamqpx.spec.amqp0_9_1 import ExchangeDeclare

__all__ = ["Barrier", "Barriers", "Unsettled"]

# How many exchanges are remembered to be there.
MOST_EXCHANGES = 1000


@define(eq=False)
class Barrier:
    """What has to be over before a request is sent."""

    called: bool = False
    #: Why it will never be.
    error: AMQPError | None = None


class Barriers:
    """Makes the barriers of requests.

    All that a request waits for is asked for when it is made, and not when it has its turn: an operation
    that is made later waits for this request, so this one must not wait for it.

    Args:
        operations: What orders the calls that name no channel.
        on_passed: Called when a barrier was passed.
        on_failed: Called when one will never be.
    """

    def __init__(
        self, operations: Operations, on_passed: Callable[[], object], on_failed: Callable[[], object]
    ) -> None:
        self._operations = operations
        self._on_passed = on_passed
        self._on_failed = on_failed
        self._exchanges: dict[str, Barrier] = {}
        self._idle = Barrier()
        self._idle_at = -1

    def before(self, exchange: str) -> list[Barrier]:
        """Return the barriers of a request that is made now."""
        barriers = [self._idleness()] if self._operations.busy else []
        if exchange:
            barriers.append(self._existence(exchange))
        return barriers

    def doubt(self, exchange: str) -> None:
        """Take note that an exchange may not be there any more."""
        self._exchanges.pop(exchange, None)

    def _idleness(self) -> Barrier:
        if self._idle_at != self._operations.made:
            self._idle, self._idle_at = Barrier(), self._operations.made
            self._operations.when_idle().addCallback(self._passed, self._idle)
        return self._idle

    def _existence(self, exchange: str) -> Barrier:
        # A request to an exchange that is missing would cost the channel, and all others their replies.
        barrier = self._exchanges.get(exchange)
        if barrier is None:
            if len(self._exchanges) >= MOST_EXCHANGES:
                self._exchanges.clear()
            barrier = self._exchanges[exchange] = Barrier()
            asked = self._operations.call(ExchangeDeclare(exchange=exchange, passive=True))
            asked.addCallback(self._passed, barrier).addErrback(self._failed, exchange, barrier)
        return barrier

    def _passed(self, _: object, barrier: Barrier) -> None:
        barrier.called = True
        self._on_passed()

    def _failed(self, failure: Failure, exchange: str, barrier: Barrier) -> None:
        if self._exchanges.get(exchange) is barrier:
            del self._exchanges[exchange]
        error = failure.value
        assert isinstance(error, AMQPError)
        if not isinstance(error, ChannelClosed):
            text = f"it is not known whether exchange {exchange!r} is there: {error}"
            error = caused(NotPublished(text), error)
        barrier.error = error
        self._on_failed()


class Unsettled:
    """Requests of which it is not known yet whether the broker has taken them."""

    def __init__(self) -> None:
        self._made = 0
        self._destinations: OrderedDict[int, tuple[str, str]] = OrderedDict()
        self._flushes: deque[tuple[int, Deferred[None]]] = deque()

    def add(self, exchange: str, routing_key: str) -> int:
        """Take note of a request, and return its number."""
        self._made += 1
        self._destinations[self._made] = (exchange, routing_key)
        return self._made

    def settle(self, number: int) -> None:
        """Take note that it is known of one; to say so twice is harmless."""
        self._destinations.pop(number, None)
        oldest = next(iter(self._destinations), self._made + 1)
        while self._flushes and self._flushes[0][0] < oldest:
            flush = self._flushes.popleft()[1]
            if not flush.called:  # it was cancelled
                flush.callback(None)

    def flush(self) -> Deferred[None]:
        """Return a Deferred that fires once it is known of each so far."""
        if not self._destinations:
            return succeed(None)
        flush: Deferred[None] = Deferred()
        self._flushes.append((self._made, flush))
        return flush

    def concern(self, footprint: Footprint) -> bool:
        """Tell whether an operation may interfere with one of them."""
        queues = {name[1] for name in (*footprint.writes, *footprint.reads) if name[0] == "queue"}
        routes = any(name[0] != "queue" for name in footprint.writes)
        return any(
            # Only bindings, which the broker knows, tell where a message goes by a named exchange.
            bool(queues or routes) if exchange else routing_key in queues
            for exchange, routing_key in self._destinations.values()
        )
