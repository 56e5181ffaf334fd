"""Which headers fit a binding to a headers exchange.

The terms here are values made comparable, see `txamqpx.broker.terms`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import attrs

from txamqpx.broker.terms import Term

__all__ = ["HeadersPattern"]

_MATCH: Final = "x-match"


@attrs.frozen
class HeadersPattern:
    """What a binding to a headers exchange asks of a message.

    Attributes:
        every: Whether all that it asks for must be there, and not just any.
        asked: The headers that it asks for: their terms, or None if it is enough that they are there.
    """

    every: bool
    asked: Mapping[str, Hashable | None]

    @classmethod
    def of(cls, arguments: Mapping[str, Any], term: Term) -> HeadersPattern:
        """Read a binding's arguments; those that begin with `x-` count only for a mode that says so."""
        mode = arguments.get(_MATCH, "all")
        asked = {
            name: None if value is None else term(value)
            for name, value in arguments.items()
            if name != _MATCH and (mode.endswith("-with-x") or not name.startswith("x-"))
        }
        return cls(mode.startswith("all"), asked)

    def fits(self, headers: Mapping[str, Hashable]) -> bool:
        """Tell whether a message has what is asked for, its headers being terms; of nothing, it has all."""
        fits = (
            name in headers and (value is None or headers[name] == value)
            for name, value in self.asked.items()
        )
        return all(fits) if self.every else any(fits)
