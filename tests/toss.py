"""Topologies and messages, thrown together at random, and all short topics, for whatever routes.

What becomes of them is for `tests.oracle` to say.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

from tests.oracle import DEFAULT_EXCHANGE, STANDARD, Binding, Exchange, Topology

KEYS = ("", "a", "b", "a.b", "a.b.c", "a.x.b.c", "a.", ".", "b.a", "ü.🐇", "a.*", "#")
PATTERNS = (*KEYS, "*", "*.*", "#.b.#", "a.#", "#.a", "a.#.b.*", "*.#.b", "a.#.#.c", "ü.*")
QUEUES = ("a", "b", "a.b", "ü.🐇", "#")
"""Names that are keys as well, for the default exchange."""

EXCHANGES = ("v", "w", "x", "y", "z")
HEADERS = ("h", "i", "x-h")
MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
VALUES: tuple[Any, ...] = (
    *(1, 1, 1, 2, 1.0, "1", True, None, None, b"1", Decimal(1), 2**40, 0, 0.0, False, ""),
    *([1], [1.0], {"a": 1}, [], {}, MOMENT, int(MOMENT.timestamp()), [MOMENT], {"a": "b", "c": None}),
)
MATCHES = ("all", "any", "all-with-x", "any-with-x", None)


class Toss:
    """Throws topologies, changes and messages together.

    Args:
        dice: Tells one from another.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        kinds = ("direct", "fanout", "topic", "topic", "headers", "headers")
        self.exchanges = {
            name: Exchange(
                self.dice.choice(kinds),
                internal=self.dice.random() < 0.15,
                alternate=self.dice.choice((*EXCHANGES, "amq.fanout", "", "nowhere"))
                if self.dice.random() < 0.4
                else None,
            )
            for name in EXCHANGES
        }
        self.sources = {**self.exchanges, **STANDARD}
        self.bindings: dict[str, Binding] = {}

    @property
    def topology(self) -> Topology:
        """What there is by now."""
        return Topology(self.sources, QUEUES, tuple(self.bindings.values()))

    def binding(self) -> Binding:
        """Throw a binding, which may be there already."""
        source = self.dice.choice([*EXCHANGES, *EXCHANGES, *STANDARD])
        to_exchange = self.dice.random() < 0.3
        return Binding(
            source,
            self.dice.choice(EXCHANGES if to_exchange else QUEUES),
            self.dice.choice(PATTERNS),
            self._arguments() if self.sources[source].kind == "headers" else {},
            to_exchange,
        )

    def _arguments(self) -> dict[str, Any]:
        match = self.dice.choice(MATCHES)
        return self._headers() | ({"x-match": match} if match else {})

    def _headers(self) -> dict[str, Any]:
        names = self.dice.sample(HEADERS, self.dice.randrange(len(HEADERS) + 1))
        return {name: self.dice.choice(VALUES) for name in names}

    def message(self) -> tuple[str, str, dict[str, Any]]:
        """Throw an exchange, a routing key and headers."""
        exchange = self.dice.choice([*EXCHANGES, *EXCHANGES, *STANDARD, DEFAULT_EXCHANGE, DEFAULT_EXCHANGE])
        if self.dice.random() < 0.02:
            exchange = "nowhere"
        headers = self._headers()
        for name in ("CC", "BCC"):
            if self.dice.random() < 0.15:
                headers[name] = self.dice.choices((*KEYS, "nobody", b"a", 7), k=self.dice.randrange(4))
            elif self.dice.random() < 0.01:
                headers[name] = self.dice.choice(("a", None, {"a": "b"}))
        return exchange, self.dice.choice(KEYS), headers


def topics(words: Iterable[str], most: int) -> list[str]:
    """Return all topics of up to so many words."""
    made = (".".join(one) for size in range(most + 1) for one in product([*words], repeat=size))
    return [*dict.fromkeys(made)]


SHORT_PATTERNS = [*topics(("a", "*", "#"), 3), "a.#.b.*", "#.b.#.a", "a..", ".*", "a*", "ü"]
SHORT_PATTERNS.remove("#.#.#")  # since 4.3 two may stand for any number of words, at most
SHORT_KEYS = [*topics(("a", "b", ""), 3), "a.x.y.b.c", "ab", "a*", "*", "#", "A", "ü"]
"""Every one of up to three words, and some others: 2,070 pairs."""

HEADER_VALUES: tuple[Any, ...] = (
    *(1, 1.0, True, "1", b"1", None, "true", "", b"", [], {}, [[]], [{}], 0, 0.0, -0.0, False),
    *(2**40, float(2**40), -1, Decimal(1), Decimal("1.0"), MOMENT, int(MOMENT.timestamp())),
    *(int(MOMENT.timestamp()) * 1000, [MOMENT], [1], [1.0], [True], ["a"], [b"a"], [1, 2], [2, 1]),
    *({"a": 1}, {"a": 1.0}, {"a": None}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": [{"b": "c"}]}),
)
"""Values of which some are others to one release and the same to another."""
