"""The channels behind calls that name none: as many as the work asks for, replaced when they die."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

from attrs import define
from twisted.internet.interfaces import IReactorTime

from txamqpx.channel import Channel
from txamqpx.consuming.window import watched
from txamqpx.errors import NoFreeChannels
from txamqpx.params import ConnectionParameters
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection

__all__ = ["Host", "Lane", "Lanes"]

# A channel's calls are answered one by one.  RabbitMQ 3.10 declares 1,000 exclusive queues, asked for at once
# over 1 channel, in 0.90 s, over 4 in 0.64, 16 in 0.50, 64 in 0.48, and over 1,000 in 0.77.
MOST = 64

# Idle ones that stay for what comes next, of each kind: to open one costs the broker a handful of processes.
KEPT = 4


class Host(Protocol):
    """What is needed of the connection, which is an ``AMQPProtocol``."""

    core: Connection
    parameters: ConnectionParameters
    blocked: str | None

    @property
    def clock(self) -> IReactorTime:
        """What tells the time."""

    def new_channel(self) -> Channel:
        """Ask for a channel, on which calls may be sent at once."""


@define(eq=False)
class Lane:
    """A channel on which operations follow each other."""

    channel: Channel
    #: What it is kept for; None: for whatever comes.
    place: Hashable
    #: How many operations were sent and have no answer.
    load: int = 0
    #: How many of them have had their time.
    overdue: int = 0
    #: Whether the broker has closed it, and the operation that it had come to is dealt with.
    failed: bool = False
    #: Whether it is heard of when the last of its messages is settled.
    watched: bool = False

    @property
    def is_live(self) -> bool:
        """Whether operations can be sent; those that were sent may be about to fail otherwise."""
        core = self.channel.core
        return core.error is None and not core.closing

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it."""
        return not self.load and not len(self.channel.core.unsettled)


class Lanes:
    """The lanes of one connection.

    Args:
        host: The connection.
        freed: Called when a lane may be had again, after there was none.
        most: How many lanes there may be for whatever comes.
    """

    def __init__(self, host: Host, freed: Callable[[], object], most: int = MOST) -> None:
        self._host = host
        self._freed = freed
        self._most = most
        self._common: list[Lane] = []
        self._placed: dict[Hashable, Lane] = {}
        self._watched: set[ChannelCore] = set()
        # Whether somebody waits for a channel.
        self._short = False

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """All that are live."""
        return tuple(lane for lane in (*self._common, *self._placed.values()) if lane.is_live)

    def find(self, place: Hashable = None) -> Lane | None:
        """Return the lane for an operation that may go at once.

        Args:
            place: Whatever names a lane that is kept for one purpose; None: the one with the least to do.

        Returns:
            A lane; None if no channel is to be had: then ``freed`` is called when that has changed.

        Raises:
            ConnectionClosed: The connection is over.
            LocalProtocolError: It is not open.
        """
        if place is not None:
            lane = self._placed.get(place)
            return lane if lane is not None and lane.is_live else self._open(place)
        self._common = [lane for lane in self._common if lane.is_live]
        # What the broker is stuck with holds up all that follows it there.
        good = [lane for lane in self._common if not lane.overdue]
        best = min(good or self._common, key=_load, default=None)
        room = len(good) < self._most and len(self._common) < 2 * self._most
        if best is None or (best.load and room):
            return self._open(None) or best
        return best

    def rest(self, lane: Lane) -> None:
        """Take note that a lane may have nothing to do: too many of those are closed."""
        if not lane.is_idle:
            return
        self._thin_out(self._common if lane.place is None else self._placed.values())
        if self._short:
            self._short = False
            self._freed()  # whoever still finds none has this one closed for it

    def _thin_out(self, lanes: Iterable[Lane]) -> None:
        idle = [lane for lane in lanes if lane.is_idle]
        for lane in idle[:-KEPT]:
            self._close(lane)

    def _open(self, place: Hashable) -> Lane | None:
        try:
            lane = Lane(self._host.new_channel(), place)
        except NoFreeChannels:
            self._watch()
            return None
        if place is None:
            self._common.append(lane)
        else:
            self._thin_out(self._placed.values())
            self._placed[place] = lane
        lane.channel.when_closed().addCallback(lambda _: self._forget(lane))
        return lane

    def _close(self, lane: Lane) -> None:
        self._forget(lane)
        lane.channel.close().addErrback(lambda failure: None)  # it is idle: nobody hears of it

    def _forget(self, lane: Lane) -> None:
        if lane in self._common:
            self._common.remove(lane)
        elif self._placed.get(lane.place) is lane:
            del self._placed[lane.place]

    def _watch(self) -> None:
        """Wait for the end of any channel, whosever it is; an idle one of ours can end for it."""
        self._short = True
        for lane in self.lanes:
            if lane.is_idle:
                self._close(lane)
            elif lane.place is not None and not lane.watched:
                self._watch_settling(lane)
        for core in self._host.core.channels.values():
            if core not in self._watched:
                self._watched.add(core)
                core.owner.when_closed().addCallback(self._ended, core)

    def _watch_settling(self, lane: Lane) -> None:
        lane.watched = True
        ledger = watched(lane.channel.core)

        def settled(_: int) -> None:
            if not len(ledger):
                ledger.listeners.remove(settled)
                lane.watched = False
                if lane.is_live:  # not at once: the ack is not on its way yet
                    self._host.clock.callLater(0, self.rest, lane)

        ledger.listeners.append(settled)

    def _ended(self, reason: object, core: ChannelCore) -> None:
        self._watched.discard(core)
        self._freed()


def _load(lane: Lane) -> int:
    return lane.load
