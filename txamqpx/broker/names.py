"""The brokers of this process by name: what ``memory://name`` leads to.

A broker has its name from when it is made until it is closed, whoever made it.  Nothing weaker would do:
one that is reached by its URL alone, as in a program of five lines, belongs to nobody, and has to keep its
messages between two connections; and whether a name that nobody gave back is free must not hang on when
garbage is collected.  Only the names that brokers get for want of one are kept weakly: who could ask for such
a name has the broker.
"""

from __future__ import annotations

from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IAddress, IProtocol

from txamqpx.broker.clock import BrokerClock

__all__ = ["DEFAULT", "Names", "Reachable", "names"]

#: What ``memory://`` means: no host is the same host as in any other URL.
DEFAULT = "localhost"


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
        self._numbers = count(1)

    def add(self, broker: Reachable, name: str = "") -> str:
        """Let ``broker`` be found by ``name``, or by one that nobody else has; return it.

        Raises:
            ValueError: Another one has the name.
        """
        if not name:
            name = next(free for number in self._numbers if self.find(free := f"broker-{number}") is None)
            self._made_up[name] = broker
        elif self.find(name) is None:
            self._given[name] = broker
        else:
            raise ValueError(f"there is a broker called {name!r}; when it is closed, its name is free")
        return name

    def find(self, name: str) -> Reachable | None:
        """Return who is called ``name``."""
        return self._given.get(name) or self._made_up.get(name)

    def remove(self, broker: object, name: str) -> None:
        """Forget that ``broker`` is called ``name``, if it still is."""
        if self.find(name) is broker:
            self._given.pop(name, None)
            self._made_up.pop(name, None)


#: Those of this process.
names = Names()
