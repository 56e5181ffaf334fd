"""A program that calls at random, a broker that answers at random, and a judge of the order.

The broker deals with each channel's calls one by one, and with the channels in any order, which is all that
real ones promise.  Now and then it closes a channel over a call, or without a reason.  Each call bears its
number, so that the judge sees in which order they took effect.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import combinations
from random import Random
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txamqpx.channel import Channel
from txamqpx.errors import ConnectionLost, NotFound, NotProcessed, RPCTimeout
from txamqpx.ordering import Footprint, Operations, footprint_of
from txamqpx.spec.amqp0_9_1 import (
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ExchangeBind,
    ExchangeBindOk,
    ExchangeDeclare,
    ExchangeDeclareOk,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.spec.base import Method, Request
from txamqpx.testing import Heard, ScriptedPeer, scripted

ANSWERS = {
    ChannelOpen: ChannelOpenOk(),
    ExchangeBind: ExchangeBindOk(),
    ExchangeDeclare: ExchangeDeclareOk(),
    QueueBind: QueueBindOk(),
    QueueDeclare: QueueDeclareOk("q", 0, 0),
}

TIMEOUT = 5.0


@define
class Call:
    """What the program has called, and what it heard of it."""

    number: int
    footprint: Footprint
    deferred: Deferred[Any]
    #: When its time is over: what takes effect later than that is out of any order.
    deadline: float
    #: Which channel it has to go to.
    place: str | None = None
    fired: int = 0
    #: Whether the broker has closed a channel over it.
    guilty: bool = False


def conflict(one: Footprint, other: Footprint) -> bool:
    """Tell whether the order of two calls matters."""
    return bool(
        set(one.writes) & {*other.writes, *other.reads} or set(other.writes) & {*one.writes, *one.reads}
    )


class Model:
    """One run.

    Args:
        seed: What decides everything.

    Attributes:
        effects: The numbers of the calls that the broker has dealt with, in that order.
        times: When that was, by number.
        outcomes: How often each kind of thing has happened.
    """

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.peer: ScriptedPeer = scripted(rpc_timeout=TIMEOUT)
        self.peer.open(heartbeat=0, channel_max=random.choice((1, 2, 3, 100)))
        self.operations = Operations(self.peer.protocol, self._before, channels=random.choice((1, 2, 4)))
        self.calls: list[Call] = []
        self.effects: list[int] = []
        self.times: dict[int, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._queues: dict[int, deque[Heard[Any]]] = {}
        self._places: dict[int, str | None] = {}
        self._closing: set[int] = set()
        self._held: list[Deferred[None]] = []
        self._channels: list[Channel] = []

    def run(self, steps: int) -> None:
        """Do so many things, and let all that waits end."""
        actions = [self._call] * 8 + [self._answer] * 8 + [self._several, self._refuse, self._close]
        actions += [self._cancel, self._release, self._take_channel, self._pass_time, self._begin]
        for _ in range(steps):
            self.random.choice(actions)()
        if self.random.random() < 0.5:
            self.peer.hang_up()
        while any(not call.fired for call in self.calls):
            self._release()
            for channel in self._channels:
                channel.close()
            if not self._answer():
                self.peer.advance(TIMEOUT)

    def violations(self) -> list[str]:
        """Return what went wrong."""
        found = self.wrong
        found += [f"call {call.number} ended {call.fired} times" for call in self.calls if call.fired != 1]
        place = {number: index for index, number in enumerate(self.effects)}
        if len(place) != len(self.effects):
            found.append(f"a call took effect twice: {self.effects}")
        for one, other in combinations(self.calls, 2):
            first, second = place.get(one.number), place.get(other.number)
            overtaken = first is not None and second is not None and second < first
            in_time = other.number in self.times and self.times[other.number] < one.deadline
            if overtaken and in_time and conflict(one.footprint, other.footprint):
                found.append(f"call {other.number} took effect before call {one.number}")
        return found

    # ----------------------------------------------------------------------- the program

    def _call(self) -> None:
        number = len(self.calls)
        arguments = {"number": number}
        queue, source, destination = (f"{kind}{self.random.randrange(3)}" for kind in ("q", "x", "x"))
        method: Request[Any] = self.random.choice(
            (
                QueueDeclare(queue, arguments=arguments),
                QueueDeclare(queue, passive=True, arguments=arguments),
                ExchangeDeclare(source, arguments=arguments),
                QueueBind(queue, source, arguments=arguments),
                ExchangeBind(destination, source, arguments=arguments),
            )
        )
        place = self.random.choice((None, None, "a place"))
        timeout = self.random.choice((None, None, 1.0))
        footprint = footprint_of(method)
        called = self.operations.call(method, footprint, timeout=timeout, place=place)
        self._note(called, footprint, timeout, place)

    def _begin(self) -> None:
        number = len(self.calls)
        footprint = Footprint((("queue", f"q{self.random.randrange(3)}"),))
        ending: Deferred[None] = Deferred()

        def begin() -> Deferred[None]:
            self._take_effect(number)
            self._held.append(ending)
            return ending

        self._note(self.operations.run(begin, footprint), footprint)

    def _take_effect(self, number: int) -> None:
        self.effects.append(number)
        self.times[number] = self.peer.clock.seconds()

    def _note(
        self,
        deferred: Deferred[Any],
        footprint: Footprint,
        timeout: float | None = None,
        place: str | None = None,
    ) -> None:
        deadline = self.peer.clock.seconds() + (timeout or TIMEOUT)
        call = Call(len(self.calls), footprint, deferred, deadline, place)
        self.calls.append(call)
        deferred.addBoth(self._ended, call)

    def _ended(self, result: Any, call: Call) -> None:
        call.fired += 1
        if isinstance(result, Failure):
            expected = (CancelledError, ConnectionLost, NotFound, NotProcessed, RPCTimeout)
            kind = result.trap(*expected)
            self.outcomes[kind.__name__] += 1
            if kind is NotFound and not call.guilty:
                self.wrong.append(f"call {call.number} has failed for another")
            if self.random.random() < 0.3 and len(self.calls) < 1000:
                self._call()  # from within, while others are about to hear of the same
        else:
            self.outcomes["done"] += 1

    def _before(self, footprint: Footprint) -> Deferred[None] | None:
        if self.random.random() < 0.8:
            return None
        self._held.append(Deferred())
        return self._held[-1]

    def _cancel(self) -> None:
        if self.calls:
            self.random.choice(self.calls[-10:]).deferred.cancel()

    def _release(self) -> None:
        held, self._held = self._held, []
        for deferred in held:
            if not deferred.called:
                deferred.callback(None)

    def _take_channel(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        protocol = self.peer.protocol
        if len(protocol.core.channels) < protocol.tuning.channel_max:
            self._channels.append(protocol.new_channel())

    def _pass_time(self) -> None:
        self.peer.advance(0.4)

    # ----------------------------------------------------------------------- the broker

    def _several(self) -> None:
        with self.peer.wire.held():
            for _ in range(self.random.randrange(6)):
                self.random.choice((self._answer, self._answer, self._refuse))()

    def _head(self) -> Heard[Any] | None:
        """Return the next call on any channel, which is dealt with now."""
        self.peer.wire.pump()
        while self.peer.heard:
            heard = self.peer.heard.popleft()
            if isinstance(heard.method, ChannelCloseOk):
                self._closing.discard(heard.channel)
            elif isinstance(heard.method, ChannelClose):
                self._queues.pop(heard.channel, None)
            elif heard.channel not in self._closing:
                self._queues.setdefault(heard.channel, deque()).append(heard)
        waiting = [queue for queue in self._queues.values() if queue]
        if not waiting or self.peer.gone:
            return None
        head = self.random.choice(waiting).popleft()
        if isinstance(head.method, ChannelOpen):
            self._places.pop(head.channel, None)
        else:
            call = self._call_of(head)
            self._take_effect(call.number)
            if self._places.setdefault(head.channel, call.place) != call.place:
                self.wrong.append(f"call {call.number} went to a channel that is not for it")
        return head

    def _call_of(self, heard: Heard[Any]) -> Call:
        number: int = heard.method.arguments["number"]
        return self.calls[number]

    def _answer(self) -> bool:
        head = self._head()
        if head is not None:
            self.peer.send(head.channel, ANSWERS[type(head.method)])
        return head is not None

    def _refuse(self) -> None:
        head = self._head()
        if head is None:
            return
        if isinstance(head.method, ChannelOpen):
            self.peer.send(head.channel, ANSWERS[ChannelOpen])
        else:
            self._call_of(head).guilty = True
            name = getattr(head.method, "queue", "") or getattr(head.method, "source", "")
            self._close_over(head.channel, f"no '{name}'", head.method)

    def _close(self) -> None:
        waiting = [number for number, queue in self._queues.items() if queue]
        if waiting and not self.peer.gone:
            number = self.random.choice(waiting)
            if not isinstance(self._queues[number][0].method, ChannelOpen):
                self._close_over(number, "for no reason")

    def _close_over(self, number: int, text: str, method: Method | None = None) -> None:
        self._queues.pop(number)
        self._closing.add(number)
        index = method.index if method is not None else 0
        self.peer.send(number, ChannelClose(404, text, index >> 16, index & 0xFFFF))
