"""The ledger of a channel in confirm mode: which publish is which, until the broker has spoken.

Sequence numbers begin at 1 with the first publish after ``confirm.select`` was *sent*; a number
is given when the bytes are handed over, never before and never to a publish that was refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

from txamqpx.errors import Closed
from txamqpx.protocol.events import Returned
from txamqpx.spec.base import Properties

__all__ = ["ConfirmLedger", "Entry"]


#: A publish that the broker has not settled: its token, its place in the connection's outbox (which
#: tells whether it was ever handed to the transport), exchange, routing key, mandatory, properties
#: and body.  A plain tuple, because one is made for each message.
Entry = tuple[Any, int, str, str, bool, Properties, bytes]


class ConfirmLedger:
    """Publishes by sequence number, in order."""

    __slots__ = ("_last_returned", "_oldest", "entries", "next_seq", "returned", "unknown")

    def __init__(self) -> None:
        self.next_seq = 1
        #: Confirms for numbers that are not outstanding: another broker's slip, worth counting.
        self.unknown = 0
        #: What is outstanding, by number; always the same dict.
        self.entries: dict[int, Entry] = {}
        self._oldest = 1
        #: The messages that came back and are not settled yet.
        self.returned: dict[int, Returned] = {}
        self._last_returned = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[int, Entry]]:
        return iter(self.entries.items())

    @property
    def oldest(self) -> int:
        """The lowest number that is outstanding; the next one to be given if none is."""
        return next(iter(self.entries), self.next_seq)

    def register(self, entry: Entry) -> int:
        """Number a publish; to be called in the same breath in which its bytes are appended."""
        seq = self.next_seq
        self.entries[seq] = entry
        self.next_seq = seq + 1
        return seq

    def take(self, tag: int) -> Sequence[Any]:
        """Take out one publish that has not been returned; return its token, or none if it is unknown."""
        entry = self.entries.pop(tag, None)
        if entry is None:
            self.unknown += 1
            return ()
        return (entry[0],)

    def settle(
        self, tag: int, multiple: bool, written: float = inf
    ) -> tuple[list[Any], list[tuple[Any, Returned]]]:
        """Take out what a confirm or a refusal settles.

        With ``multiple`` that is every number up to ``tag``, whether ``tag`` itself is outstanding
        or not.  If it is 0, that is everything that the broker can know of: what still waits in the outbox
        it cannot mean.

        Args:
            tag: The number.
            multiple: Whether it stands for all up to it.
            written: How many pieces the transport has taken from the outbox.

        Returns:
            The tokens of plain publishes, and the token and message of each that was returned.
        """
        entries = self.entries
        if not multiple:
            taken = list(self.take(tag))
            message = self.returned.pop(tag, None) if taken else None
            return (taken, []) if message is None else ([], [(taken[0], message)])
        tokens: list[Any] = []
        returned: list[tuple[Any, Returned]] = []
        stop = min(tag, self.next_seq - 1) or max((seq for seq, one in self if one[1] <= written), default=0)
        for seq in range(self._oldest, stop + 1):  # each number is passed once in the channel's life
            entry = entries.pop(seq, None)
            if entry is None:
                continue
            if seq in self.returned:
                returned.append((entry[0], self.returned.pop(seq)))
            else:
                tokens.append(entry[0])
        self._oldest = max(self._oldest, stop + 1)
        if not tokens and not returned:
            self.unknown += 1
        return tokens, returned

    def match_return(self, message: Returned) -> bool:
        """Note that ``message`` came back, on the publish that it was.

        The broker names none, so it is found by what was published: exchange, routing key and
        content, the earliest that is mandatory and has not been returned.  Of publishes that are
        equal in all of these it does not matter which is taken, but their order.

        Returns:
            Whether there is such a publish.
        """
        if not self.entries:
            return False
        # The broker returns in the order of publishing, so the next one is most often right after the last.
        first = next(iter(self.entries))
        found = self._find(max(first, self._last_returned + 1), message) or self._find(first, message)
        if not found:
            return False
        self.returned[found] = message
        self._last_returned = found
        return True

    def _find(self, start: int, message: Returned) -> int:
        similar = 0
        for seq in range(start, self.next_seq):
            entry = self.entries.get(seq)
            if entry is not None and self._fits(seq, entry, message):
                if entry[5].encode() == message.header:
                    return seq
                # A broker may take BCC out of the properties: they decide only among equals.
                similar = similar or seq
        return similar

    def _fits(self, seq: int, entry: Entry, message: Returned) -> bool:
        _, _, exchange, routing_key, mandatory, _, body = entry
        return (
            mandatory
            and routing_key == message.routing_key
            and exchange == message.exchange
            and body == message.body
            and seq not in self.returned
        )

    def suspects(self, error: Closed) -> tuple[int | None, int]:
        """Tell which publish the broker closed the channel over, as far as that can be told.

        The broker takes publishes in order and says in its reply text what was wrong with one.  What is
        wrong with the message itself (its size, expiration or user) was wrong from the first that the text
        fits.  A missing exchange or permission may have been there for an earlier one, so only a
        single fit is certain.

        Returns:
            The number of the one to blame, None if it cannot be told; and the number behind which none
            can have been taken any more.
        """
        last = self.next_seq
        if error.operation != "basic.publish":
            return None, last
        fitting = [seq for seq, entry in self.entries.items() if _fits(error, entry)]
        if not fitting:
            # Words that fit nobody are about the only one there is, unless they name another.
            alone = len(self.entries) == 1 and error.exchange is None
            return (self.oldest, self.oldest) if alone else (None, last)
        if len(fitting) == 1 or error.exchange is None:
            return fitting[0], fitting[0]
        return None, fitting[-1]


def _fits(error: Closed, entry: Entry) -> bool:
    """Say whether the broker's words may be about this publish."""
    _, _, exchange, routing_key, _, properties, body = entry
    text = error.reply_text
    if error.exchange is not None:
        # RabbitMQ calls the default exchange by this name when it complains.
        return (exchange or "amq.default") == error.exchange and (
            "topic '" not in text or f"topic '{routing_key}'" in text
        )
    values = properties.as_dict()
    if "user_id" in text:
        return f"set to '{values.get('user_id')}'" in text
    if "expiration" in text:
        return f"'{values.get('expiration')}'" in text
    return f"message size {len(body)} " in text
