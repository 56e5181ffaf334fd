"""Who waits until everything that was sent on a channel so far has its outcome."""

from __future__ import annotations

from collections import OrderedDict

from txamqpx.protocol.confirms import ConfirmLedger
from txamqpx.publishing.turns import Mark

__all__ = ["Flushes"]


class Flushes:
    """Marks between the publishes of a channel, which are passed by their outcomes.

    A publish that was given up has its outcome, though it is in the ledger until the broker speaks of it.
    """

    def __init__(self) -> None:
        self._marks: OrderedDict[Mark, int] = OrderedDict()
        self.begin(ConfirmLedger())

    def begin(self, ledger: ConfirmLedger) -> None:
        """Look from now on at the publishes in ``ledger``, whose tokens are their Deferreds."""
        self._ledger = ledger
        # Below this all have their outcomes, so that each number is passed once.
        self._low = 1

    @property
    def settled(self) -> bool:
        """Whether everything that was sent has its outcome."""
        return not self._ledger.entries or self._oldest() == self._ledger.next_seq

    def add(self, mark: Mark) -> None:
        """Fire ``mark`` when all that was sent so far has its outcome."""
        self._marks[mark] = self._ledger.next_seq

    def forget(self, mark: Mark) -> None:
        """Fire ``mark`` no more."""
        self._marks.pop(mark, None)

    def take(self) -> list[tuple[Mark, int]]:
        """Forget the marks that were not passed, and return them with the number that each precedes."""
        taken = list(self._marks.items())
        self._marks.clear()
        return taken

    def fire(self) -> None:
        """Fire the marks that are passed."""
        while self._marks:
            mark, number = next(iter(self._marks.items()))
            if number > self._oldest():
                break
            del self._marks[mark]
            mark.fire()

    def _oldest(self) -> int:
        ledger = self._ledger
        number = max(self._low, ledger.oldest)
        while number < ledger.next_seq:
            entry = ledger.entries.get(number)
            if entry is not None and not entry[0].called:
                break
            number += 1
        self._low = number
        return number
