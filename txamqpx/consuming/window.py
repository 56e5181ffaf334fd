"""How many deliveries of a channel are in the user's hands at a time.

The broker counts for each consumer by itself, and from the moment on at which that was made: it knows
no limit for several of them together, and none that changes.  So what is too much waits on our side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from txamqpx.message import Delivery
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.settling import WatchedLedger

__all__ = ["Window", "watched"]


def watched(core: ChannelCore) -> WatchedLedger:
    """Return the channel's ledger, which tells of settling from now on."""
    if not isinstance(core.unsettled, WatchedLedger):
        core.unsettled = WatchedLedger(core.unsettled)
    return core.unsettled


class Window:
    """Counts the deliveries that were handed out and are not settled.

    Args:
        size: How many there may be.
        room: Called when one of them was settled.
    """

    def __init__(self, size: int, room: Callable[[], object]) -> None:
        self.size = size
        self._room = room
        self._out: dict[int, Delivery] = {}

    def watch(self, core: ChannelCore, out: Iterable[Delivery] = ()) -> None:
        """Begin to count on a channel, with ``out`` in the user's hands already."""
        self._out = {delivery.delivery_tag: delivery for delivery in out}
        watched(core).listeners.append(self._settled)

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be handed out."""
        return len(self._out) >= self.size

    def hand_out(self, delivery: Delivery) -> None:
        """Count one that is about to be handed out."""
        self._out[delivery.delivery_tag] = delivery

    def _settled(self, tag: int) -> None:
        if self._out.pop(tag, None) is not None:
            self._room()
