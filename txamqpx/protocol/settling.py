"""The ledger of deliveries that wait to be settled.

Each delivery is settled once, by the channel that gave it.  A tag that the broker has forgotten
kills the channel and every innocent consumer on it (406), so the ledger is asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from traceback import StackSummary, extract_stack

from txamqpx.errors import AlreadySettled, RemoteProtocolError, UnknownDelivery
from txamqpx.protocol.events import Delivered

__all__ = ["UnsettledLedger", "WatchedLedger"]

# How many places are kept, and how much of each: as much as leads from a program to its mistake.
_MAX_PLACES = 1000
_MAX_DEPTH = 12


class _Stale(dict[int, Delivered]):
    """Keeps nothing: what arrives while a ``basic.recover`` is on its way is given out again."""

    def __setitem__(self, tag: int, delivery: Delivered) -> None:
        delivery.settled = delivery.stale = True


class UnsettledLedger:
    """Deliveries by tag, in the order of their arrival."""

    __slots__ = ("_deliveries", "_free", "_last", "_undoable")

    def __init__(self) -> None:
        self._deliveries: dict[int, Delivered] = {}
        self._last = 0
        # The number of the last that needed no settling.
        self._free = 0
        # In a transaction settling is only a wish until the commit.
        self._undoable: list[Delivered] | None = None

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivered]:
        """Yield what waits to be settled, oldest first; it may be settled meanwhile."""
        return iter(tuple(self._deliveries.values()))

    def add(self, delivery: Delivered) -> None:
        """Note a delivery.

        RabbitMQ gives a direct reply the tag that the next delivery on the channel will have, which may be
        a direct reply as well: so what needs no settling takes no tag away.

        Raises:
            RemoteProtocolError: Its tag is not above all before it that were to be settled.
        """
        tag = delivery.delivery_tag
        if tag <= self._last:
            raise RemoteProtocolError(
                f"delivery tag {tag} came after {self._last}", operation="basic.deliver"
            )
        if delivery.settled:
            self._free = tag
        else:
            self._last = tag
            self._deliveries[tag] = delivery

    def settle(self, tag: int, multiple: bool) -> None:
        """Take out ``tag``; with ``multiple`` everything up to it, or everything for 0.

        Raises:
            AlreadySettled: It was settled before, or nothing is left to settle.
            UnknownDelivery: The channel never gave out this tag.
        """
        if not multiple:
            delivery = self._deliveries.pop(tag, None)
            if delivery is None:
                raise self._refusal(tag)
            delivery.settled = True
            if self._undoable is not None:
                self._undoable.append(delivery)
            return
        if tag > max(self._last, self._free):
            raise UnknownDelivery(f"the channel has given out no delivery tag {tag}", reply_code=406)
        covered = [one for one in self._deliveries if one <= tag] if tag else list(self._deliveries)
        if tag and not covered:
            raise self._refusal(tag)
        for one in covered:
            self.settle(one, False)

    def fewest(self, tags: list[int]) -> list[tuple[int, bool]]:
        """Return the fewest acks, each a tag and ``multiple``, for ``tags``, which are settled already."""
        first = next(iter(self._deliveries), None)
        if first is None:
            return [(max(tags), len(tags) > 1)]
        words = [(tag, False) for tag in tags if tag > first]
        below = len(tags) - len(words)
        if below:  # nothing under the first one that waits would be acked by mistake
            words.insert(0, (max(tag for tag in tags if tag < first), below > 1))
        return words

    @property
    def last(self) -> int:
        """The highest tag that waits to be settled, 0 if none does."""
        return next(reversed(self._deliveries), 0)

    def place(self, tag: int) -> str | None:
        """Return where in the program ``tag`` was settled, if somebody wanted that to be known."""
        return None

    def _refusal(self, tag: int) -> UnknownDelivery | AlreadySettled:
        if 0 < tag <= max(self._last, self._free):
            return AlreadySettled(f"delivery tag {tag} is settled, or needed no settling", reply_code=406)
        return UnknownDelivery(f"the channel has given out no delivery tag {tag}", reply_code=406)

    def forget(self) -> None:
        """Drop everything, marked as settled: the broker will give it out again."""
        for delivery in self._deliveries.values():
            delivery.settled = delivery.stale = True
        self._deliveries.clear()
        if self._undoable is not None:
            self._undoable.clear()

    def recover(self) -> None:
        """Drop everything, and what arrives until ``recovered``: the broker sent it before it was asked."""
        self.forget()
        self._deliveries = _Stale()

    def recovered(self) -> None:
        """Keep deliveries again."""
        self._deliveries = {}

    def begin(self) -> None:
        """Remember from now on what is settled: a transaction begins, or the one before was committed."""
        self._undoable = []

    def undo(self) -> None:
        """Take back what was settled since the last ``begin``: the transaction was rolled back."""
        if self._undoable:
            for delivery in self._undoable:
                delivery.settled = False
                self._deliveries[delivery.delivery_tag] = delivery
            self._deliveries = dict(sorted(self._deliveries.items()))
        self.begin()


class WatchedLedger(UnsettledLedger):
    """A ledger that tells of settling; it takes the place of another one, whose deliveries it takes over.

    Attributes:
        listeners: Called with each tag that waits no longer, be it settled or forgotten.
        places: Where each tag was settled, for who seeks the first of two; None: nobody does.
    """

    __slots__ = ("listeners", "places")

    def __init__(self, ledger: UnsettledLedger) -> None:
        super().__init__()
        self._deliveries, self._undoable = ledger._deliveries, ledger._undoable
        self._last, self._free = ledger._last, ledger._free
        self.listeners: list[Callable[[int], object]] = []
        self.places: dict[int, StackSummary] | None = None

    def settle(self, tag: int, multiple: bool) -> None:
        """Take out ``tag`` or several, and tell of each."""
        super().settle(tag, multiple)
        if multiple:
            return  # each of them has come here by itself
        if self.places is not None:
            if len(self.places) >= _MAX_PLACES:
                del self.places[next(iter(self.places))]
            self.places[tag] = extract_stack(limit=_MAX_DEPTH)
        self._tell(tag)

    def forget(self) -> None:
        """Drop everything, and tell of each."""
        forgotten = list(self._deliveries)
        super().forget()
        for tag in forgotten:
            self._tell(tag)

    def _tell(self, tag: int) -> None:
        for listener in tuple(self.listeners):
            listener(tag)

    def place(self, tag: int) -> str | None:
        """Return where in the program ``tag`` was settled, unless that is too long ago."""
        stack = None if self.places is None else self.places.get(tag)
        return None if stack is None else "".join(stack.format())
