"""SASL: how a client proves who it is.

A mechanism is made afresh for each connection attempt, because one that answers challenges
has a state.  What it holds is secret; nothing here has a repr that shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from txamqpx.errors import AuthenticationError
from txamqpx.spec.wire import encode_table

__all__ = ["MECHANISMS", "AMQPlain", "External", "Mechanism", "Plain", "make_mechanism"]


class Mechanism:
    """One way to log in."""

    #: Its name in ``connection.start``'s list.
    name: ClassVar[str]

    def initial_response(self) -> bytes:
        """Return what goes into ``connection.start-ok``."""
        return b""

    def respond(self, challenge: bytes) -> bytes:
        """Answer a ``connection.secure``.

        Raises:
            AuthenticationError: The mechanism knows no challenges.
        """
        raise AuthenticationError(f"the server sent a challenge, and {self.name} knows none", by_peer=False)

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Plain(Mechanism):
    """User name and password as they are (RFC 4616): for TLS, or for the same machine."""

    name = "PLAIN"

    def __init__(self, username: str, password: str) -> None:
        self._response = b"\0".join((b"", username.encode(), password.encode()))

    def initial_response(self) -> bytes:
        """Return authorization identity (none), user name and password, separated by NUL."""
        return self._response


class AMQPlain(Mechanism):
    """The same, as a field table without its length; older than PLAIN and no safer."""

    name = "AMQPLAIN"

    def __init__(self, username: str, password: str) -> None:
        self._response = encode_table({"LOGIN": username, "PASSWORD": password})[4:]

    def initial_response(self) -> bytes:
        """Return the table."""
        return self._response


class External(Mechanism):
    """The identity that the transport has proved already: a TLS client certificate."""

    name = "EXTERNAL"


MECHANISMS: Mapping[str, Callable[[str, str], Mechanism]] = {
    "PLAIN": Plain,
    "AMQPLAIN": AMQPlain,
    "EXTERNAL": lambda username, password: External(),
}


def make_mechanism(name: str, username: str, password: str) -> Mechanism:
    """Return a fresh mechanism.

    Raises:
        AuthenticationError: Nobody knows a mechanism called ``name``.
    """
    try:
        make = MECHANISMS[name]
    except KeyError:
        known = ", ".join(MECHANISMS)
        raise AuthenticationError(f"unknown mechanism {name!r}; there are {known}", by_peer=False) from None
    return make(username, password)
