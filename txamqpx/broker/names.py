"""The brokers of this process by name: what ``memory://name`` leads to.

A broker has its name from when it is made until it is closed, whoever made it.  Nothing weaker would do:
one that is reached by its URL alone, as in a program of five lines, belongs to nobody, and has to keep its
messages between two connections; and whether a name that nobody gave back is free must not hang on when
garbage is collected.  Only the names that brokers get for want of one are kept weakly: who could ask for such
a name has the broker.  They are never given a second time, so that a program which connects again after its
broker has gone finds nobody, and not another broker with nothing in it.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IAddress, IProtocol

from txamqpx.broker.clock import BrokerClock

__all__ = ["DEFAULT", "Names", "Reachable", "names"]

#: What ``memory://`` means: no host is the same host as in any other URL.
DEFAULT = "localhost"

# What the names begin with that nobody has thought of; a number follows.
_MADE_UP = "broker-"


class Reachable(Protocol):
    """What a name leads to."""

    @property
    def clock(self) -> BrokerClock:
        """Its time."""

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """Make a protocol for who comes from an address, or refuse it."""


class Names:
    """Who is called what."""

    def __init__(self) -> None:
        self._given: dict[str, Reachable] = {}
        self._made_up: WeakValueDictionary[str, Reachable] = WeakValueDictionary()
        self._number = 0

    def add(self, broker: Reachable, name: str = "") -> str:
        """Let ``broker`` be found by ``name``, or by one that nobody else has; return it.

        Raises:
            ValueError: Another one has the name.
        """
        if not name:
            name = self._make_up()
            self._made_up[name] = broker
        elif self.find(name) is None:
            self._given[name] = broker
        else:
            raise ValueError(f"there is a broker called {name!r}; when it is closed, its name is free")
        return name

    def _make_up(self) -> str:
        while True:
            self._number += 1
            name = f"{_MADE_UP}{self._number}"
            if self.find(name) is None:
                return name

    def find(self, name: str) -> Reachable | None:
        """Return who is called ``name``."""
        return self._given.get(name) or self._made_up.get(name)

    def is_over(self, name: str) -> bool:
        """Return whether ``name`` was made up for a broker that is gone: nobody will ever have it again."""
        number = name.removeprefix(_MADE_UP)
        made_up = name != number and number.isdecimal() and 0 < int(number) <= self._number
        return made_up and self.find(name) is None

    def remove(self, broker: object, name: str) -> None:
        """Forget that ``broker`` is called ``name``, if it still is."""
        if self.find(name) is broker:
            self._given.pop(name, None)
            self._made_up.pop(name, None)


#: Those of this process.
names = Names()
