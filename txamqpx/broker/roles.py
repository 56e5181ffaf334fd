"""What a channel's parts see of their channel and its connection, whose modules they must not import."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Protocol

from txamqpx.broker.consumer import Source
from txamqpx.broker.message import Message
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.users import User
from txamqpx.broker.vhost import VirtualHost
from txamqpx.protocol.channel import ChannelCore

__all__ = ["Channel", "Connection"]


class Connection(Protocol):
    """A session, as its channels see it."""

    @property
    def user(self) -> str:
        """Who has logged in, by name."""

    @property
    def account(self) -> User | None:
        """Who has logged in; None: nobody yet."""

    @property
    def capabilities(self) -> Set[str]:
        """What the client said that it understands."""

    @property
    def vhost(self) -> VirtualHost:
        """Where it is."""

    @property
    def writable(self) -> bool:
        """False while so much waits for the client that it had better get no deliveries."""

    def takes_reply(self) -> bool:
        """Return whether so little waits for the client that a reply may be added to it."""

    def stall(self, queue: Source) -> None:
        """Let a queue give out messages again once what waits has been written."""

    def note(self, message: Message, confirm: bool) -> bool:
        """Take note of a publish, which will be confirmed or not; return False if it is not to be taken."""

    def at_end(self, call: Callable[[], None]) -> None:
        """Call something when all that has come was dealt with."""

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close the connection, and tell why."""


class Channel(Protocol):
    """A channel, as its parts see it."""

    last_queue: str

    @property
    def core(self) -> ChannelCore:
        """Its core."""

    @property
    def session(self) -> Connection:
        """Its connection."""

    @property
    def vhost(self) -> VirtualHost:
        """Where its connection is."""

    @property
    def closed(self) -> bool:
        """Whether it is over, for the broker at least."""

    def queue_name(self, name: str) -> str:
        """Return what a name stands for."""

    def demand(self, right: str, kind: str, name: str) -> None:
        """Look whether the user has a right; raise a ``Refusal`` if not."""

    def denial(self, right: str, what: str) -> Refusal:
        """Return what the user is told who lacks a right."""

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close it, or its connection, and tell why."""
