"""Faults on demand: what goes wrong with brokers and networks, at the very moment that a test wants it to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from txamqpx.broker.clock import BrokerClock
from txamqpx.broker.fault import ALL, NEXT, Fault, Scope, Spot
from txamqpx.broker.history import History
from txamqpx.broker.inspection import ConnectionView
from txamqpx.broker.message import Message
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.tap import Tap, Trap
from txamqpx.broker.withholding import Withholding

__all__ = ["Faults", "On"]

#: ``"all"``, ``"next"``, or one of ``Broker.connections``.
On = str | ConnectionView


class Faults:
    """Makes things go wrong; each call returns a ``Fault``, which tells whether it has struck.

    ::

        fault = broker.faults.drop(at="basic.ack", sent_by="broker")     # when the next confirm is due
        outcome = publisher.publish(b"...", routing_key="jobs")
        ...
        assert fault.struck

    What is about bytes takes a place in what is said.  ``frame=3`` is the third frame from now on,
    ``at="queue.declare"`` the next one of that method, both together the third of them; ``byte=n`` lies
    behind ``n`` bytes of the frame or, if none is named, of all that is said.  ``sent_by`` is ``"client"``
    or ``"broker"``; it has to be said for a method that both send, and without a method it is the broker.
    On a connection that is made later the count begins with it.

    ``on`` is ``"all"`` (those that there are, and those to come), ``"next"`` (the next that is made), or one
    of ``broker.connections``; and ``times`` is how often it may strike altogether, None for any number.

    Args:
        clock: The broker's time.
        taps: The connections that there are.
        history: What all publishes go through.
    """

    def __init__(self, clock: BrokerClock, taps: Iterable[Tap], history: History) -> None:
        self._clock = clock
        self._taps = taps
        self._history = history
        # What is done to each new connection.
        self._waiting: list[tuple[Fault, Callable[[Tap], object]]] = []
        self._refusals: list[Fault] = []
        self._logins: list[tuple[Fault, str | None]] = []

    # ----------------------------------------------------------------------- networks

    def drop(
        self,
        *,
        frame: int | None = None,
        at: str | None = None,
        byte: int | None = None,
        sent_by: str | None = None,
        on: On = ALL,
        times: int | None = 1,
    ) -> Fault:
        """Have a connection die: what was said before the place arrives, and nothing after it.

        Without a place those that there are die at once, or the next one as soon as it is made.
        """

        def drop(tap: Tap) -> bool:
            struck = fault.strike()
            if struck:
                tap.drop()
            return struck

        if frame is None and at is None and byte is None:
            fault = Fault("the connection dies", _scope(on), None)
            return self._at_once(fault, drop)
        spot = Spot(frame, at, byte, sent_by)
        fault = Fault(f"the connection dies {spot}", _scope(on), times)
        return self._lay(fault, spot, drop)

    def black_hole(
        self,
        *,
        frame: int | None = None,
        at: str | None = None,
        byte: int | None = None,
        sent_by: str | None = None,
        on: On = ALL,
        times: int | None = None,
    ) -> Fault:
        """Have a connection go silent, both ways: it is there, and nothing comes through.

        Without a place it does so at once, and a new one from its beginning: it is accepted, and never
        answered.  Once the fault is lifted, what was said meanwhile arrives.
        """

        def swallow(tap: Tap) -> bool:
            struck = fault.strike()
            if struck:
                tap.swallow()
                fault.undo(tap.spit_out, tap)
            return struck

        if frame is None and at is None and byte is None:
            fault = Fault("the connection goes silent", _scope(on), times)
            return self._everywhere(fault, swallow)
        spot = Spot(frame, at, byte, sent_by)
        fault = Fault(f"the connection goes silent {spot}", _scope(on), times)
        return self._lay(fault, spot, swallow)

    def corrupt(
        self,
        *,
        frame: int | None = None,
        at: str | None = None,
        byte: int = 0,
        sent_by: str | None = None,
        change: int = 0xFF,
        on: On = ALL,
        times: int | None = 1,
    ) -> Fault:
        """Have one byte arrive as another: the one behind the place.

        A ``byte`` below 0 counts from the frame's end: -1 is the octet that ends it.

        Args:
            frame: Of the place, see the class.
            at: Of the place.
            byte: Of the place.
            sent_by: Of the place.
            change: Which bits are wrong, 1 to 255.
            on: See the class.
            times: See the class.
        """
        if not 0 < change < 256:
            raise ValueError("of a byte, 1 to 255 can be changed")
        spot = Spot(frame, at, byte, sent_by)
        fault = Fault(f"a byte is changed {spot}", _scope(on), times)
        return self._lay(fault, spot, lambda tap: fault.strike(), change)

    def refuse(self, *, times: int | None = 1) -> Fault:
        """Have connections refused."""
        fault = Fault("a connection is refused", ALL, times)
        self._refusals.append(fault)
        return fault

    # ----------------------------------------------------------------------- the broker

    def refuse_login(self, *, user: str | None = None, times: int | None = 1) -> Fault:
        """Have logins refused, whatever the password.

        Args:
            user: Whose; None: anybody's.
            times: How many.
        """
        fault = Fault(f"a login of {user or 'anybody'} is refused", ALL, times)
        self._logins.append((fault, user))
        return fault

    def nack(
        self,
        times: int | None = 1,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        on: On = ALL,
    ) -> Fault:
        """Have publishes in confirm mode nacked; nobody gets those messages.

        Args:
            times: How many; None: all, until the fault is lifted.
            exchange: Only those to this exchange.
            routing_key: Only those with this key.
            on: See the class.
        """

        def take(message: Message, session: object, confirm: bool) -> bool:
            return not (
                confirm
                and exchange in (None, message.exchange)
                and routing_key in (None, message.routing_key)
                and self._concerns(fault, session)
                and fault.strike()
            )

        fault = Fault("a publish is nacked", _scope(on), times)
        return self._gate(fault, take)

    def withhold_confirms(self, *, on: On = ALL) -> Fault:
        """Have confirms withheld until the fault is lifted."""
        return self._withhold(Fault("confirms are withheld", _scope(on), None), None)

    def delay_confirms(self, seconds: float, *, on: On = ALL) -> Fault:
        """Have confirms come later; when the fault is lifted, those that wait come at once.

        Args:
            seconds: By how much, by the broker's clock.
            on: See the class.
        """
        return self._withhold(Fault(f"confirms are {seconds} s late", _scope(on), None), seconds)

    def block(self, reason: str = "low on memory", *, on: On = ALL) -> Fault:
        """Have clients told that they are blocked, and read nothing from them until the fault is lifted.

        Connections that are not open yet are blocked when they publish for the first time.

        Args:
            reason: What they are told.
            on: See the class.
        """
        fault = Fault(f"publishers are blocked, {reason}", _scope(on), None)

        def block(tap: Tap) -> bool:
            fault.strike()
            tap.session.block(reason)
            fault.undo(tap.session.unblock, tap)
            return True

        def take(message: Message, session: object, confirm: bool) -> bool:
            for tap in tuple(self._taps):
                if tap.session is session and fault.concerns(tap) and not tap.session.is_blocked:
                    block(tap)
            return True

        for tap in tuple(self._taps):
            if fault.concerns(tap) and tap.session.core.is_open:
                block(tap)
        return self._gate(fault, take)

    def pause(self, *, channel: int | None = None, on: On = ALL) -> Fault:
        """Have clients asked by ``channel.flow`` not to publish until the fault is lifted.

        RabbitMQ never asks for that; other brokers may, and a client has to heed it.

        Args:
            channel: The number of the channel; None: each that there is.
            on: On which connections: all that there are, or one.
        """
        fault = Fault("publishers are paused", _scope_now(on), None)
        for tap in tuple(self._taps):
            for one in _channels(tap) if fault.concerns(tap) else ():
                if channel in (None, one.core.number):
                    fault.strike()
                    one.flow(False)
                    fault.undo(partial(one.flow, True), tap)
        return fault

    def close_connection(
        self, code: int = 320, text: str = "CONNECTION_FORCED - closed by a fault", *, on: On = ALL
    ) -> Fault:
        """Close the connections that are open.

        Args:
            code: The reply code.
            text: The whole reply text.
            on: Which: all that there are, or one.
        """
        fault = Fault(f"the connection is closed, {code} {text!r}", _scope_now(on), None)

        def close(tap: Tap) -> None:
            if tap.session.core.is_open:
                fault.strike()
                tap.session.refuse(_refusal(code, text, hard=True))

        return self._at_once(fault, close)

    def close_channel(self, code: int, text: str, *, channel: int | None = None, on: On = ALL) -> Fault:
        """Close channels.

        Args:
            code: The reply code.
            text: The whole reply text.
            channel: The number of the channel; None: each that there is.
            on: On which connections: all that there are, or one.
        """
        fault = Fault(f"the channel is closed, {code} {text!r}", _scope_now(on), None)

        def close(tap: Tap) -> None:
            for one in _channels(tap):
                if channel in (None, one.core.number):
                    fault.strike()
                    one.refuse(_refusal(code, text, hard=False))

        return self._at_once(fault, close)

    def cancel_consumer(self, *, tag: str | None = None, queue: str | None = None, on: On = ALL) -> Fault:
        """Cancel consumers, as a broker does that loses a queue's node: their clients are told.

        Args:
            tag: Only those with this tag.
            queue: Only those of this queue.
            on: On which connections: all that there are, or one.
        """
        fault = Fault("a consumer is cancelled", _scope_now(on), None)

        def cancel(tap: Tap) -> None:
            consumers = [one for channel in _channels(tap) for one in channel.consuming.consumers.values()]
            for consumer in consumers:
                if tag in (None, consumer.tag) and queue in (None, consumer.queue.name):
                    fault.strike()
                    consumer.consuming.cancelled_by_queue(consumer)
                    consumer.queue.remove_consumer(consumer)

        return self._at_once(fault, cancel)

    # ----------------------------------------------------------------------- what the broker asks

    def refuses(self) -> bool:
        """Return whether a connection is to be refused."""
        return any(fault.strike() for fault in self._refusals)

    def refuses_login(self, user: str) -> bool:
        """Return whether the login of ``user`` is to be refused."""
        return any(wanted in (None, user) and fault.strike() for fault, wanted in self._logins)

    def greet(self, tap: Tap) -> None:
        """Do to a new connection what is to be done."""
        for one in tuple(self._waiting):
            fault, act = one
            if fault.over:
                self._waiting.remove(one)
                continue
            if fault.on == NEXT:
                fault.on = tap
                self._waiting.remove(one)
            act(tap)

    def part(self, tap: Tap) -> None:
        """Forget a connection that is gone."""
        for fault, _ in self._waiting:
            fault.forget(tap)

    # ----------------------------------------------------------------------- how they are laid out

    def _at_once(self, fault: Fault, act: Callable[[Tap], object]) -> Fault:
        if fault.on == NEXT:
            return self._everywhere(fault, act)
        for tap in tuple(self._taps):
            if fault.concerns(tap):
                act(tap)
        fault.lift()
        return fault

    def _everywhere(self, fault: Fault, act: Callable[[Tap], object]) -> Fault:
        if fault.on in (ALL, NEXT):
            self._waiting.append((fault, act))
        for tap in tuple(self._taps):
            if fault.concerns(tap):
                act(tap)
        return fault

    def _lay(self, fault: Fault, spot: Spot, spring: Callable[[Tap], bool], change: int = 0) -> Fault:
        def arm(tap: Tap) -> None:
            trap = Trap(spot.frame, spot.method, spot.byte, spring, change)
            tap.arm(spot.sent_by, trap)
            fault.undo(lambda: tap.disarm(trap), tap)

        return self._everywhere(fault, arm)

    def _withhold(self, fault: Fault, seconds: float | None) -> Fault:
        def begin(tap: Tap) -> None:
            fault.undo(Withholding(tap, self._clock, seconds, fault.strike).end, tap)

        return self._everywhere(fault, begin)

    def _gate(self, fault: Fault, take: Callable[[Message, object, bool], bool]) -> Fault:
        gates = self._history.gates
        gates.append(take)
        fault.undo(lambda: gates.remove(take))
        return self._everywhere(fault, lambda tap: None)  # the next one becomes known then

    def _concerns(self, fault: Fault, session: object) -> bool:
        return any(tap.session is session and fault.concerns(tap) for tap in self._taps)


def _scope(on: On) -> Scope:
    if isinstance(on, ConnectionView):
        return on.tap
    if on == ALL:
        return ALL
    if on == NEXT:
        return NEXT
    raise ValueError(f"a fault is on {ALL!r}, on the {NEXT!r} connection, or on one of those that there are")


def _scope_now(on: On) -> Scope:
    if on == NEXT:
        raise ValueError(
            f"a fault is on the {NEXT!r} connection if it strikes later; this one is done at once"
        )
    return _scope(on)


def _channels(tap: Tap) -> list[Any]:
    """Return a connection's channels that are open."""
    owners: list[Any] = [core.owner for core in tap.session.core.channels.values()]
    return [owner for owner in owners if owner is not None and not owner.closed]


def _refusal(code: int, text: str, *, hard: bool) -> Refusal:
    """Return a refusal with any code and text, whether the specification knows them or not."""
    refusal = Refusal(541, "", hard=hard)
    refusal.code, refusal.text = code, text
    return refusal
