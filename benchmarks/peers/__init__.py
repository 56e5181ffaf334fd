"""Drive each client through the same steps, in the way in which its own documentation uses it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Coroutine
from importlib import metadata
from typing import Any, Protocol, TypeVar, cast

import attrs

T = TypeVar("T")


class Session(Protocol):
    """Do with one client what a case asks for, on one channel of one connection.

    Each action returns when its last message has been dealt with by both sides, not when it has been written.
    """

    def open(self, url: str, *, confirm: bool, channels: int) -> Awaitable[None]:
        """Connect, open the channels, put the first into confirm mode when asked, and set its prefetch."""
        ...

    def publish(self, queue: str, body: bytes, count: int) -> Awaitable[None]:
        """Publish without confirms."""
        ...

    def publish_confirmed(self, queue: str, body: bytes, count: int) -> Awaitable[None]:
        """Publish with at most `WINDOW` confirms outstanding, each handed to the program by itself."""
        ...

    def publish_one_by_one(self, queue: str, body: bytes, count: int) -> Awaitable[list[float]]:
        """Publish and wait for the confirm before the next, and return how many seconds each took."""
        ...

    def deliver(self, queue: str, count: int, *, ack: bool) -> Awaitable[int]:
        """Consume, looking at every body, and return how many bytes they had in all."""
        ...

    def close(self) -> Awaitable[None]:
        """Close the connection as the protocol asks."""
        ...


class Driver(Protocol):
    """Be the module of a peer: a session, and the loop that it runs in."""

    def session(self) -> Session:
        """Make a session that is not connected yet."""
        ...

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine of this client's kind to its end."""
        ...


@attrs.frozen
class Peer:
    """Name a client that is measured.

    Args:
        name: What the tables call it.
        module: The module of this package that drives it.
        imports: What has to be importable.
        distribution: Whose version is reported.
        weight: The fraction of a case's messages that it is given, so that a slow peer does not hold up the
            rest.
    """

    name: str
    module: str
    imports: str
    distribution: str
    weight: float = 1.0

    def installed(self) -> bool:
        """Tell whether it can be measured here."""
        try:
            return importlib.util.find_spec(self.imports) is not None
        except ModuleNotFoundError:
            return False

    def version(self) -> str:
        """Return the version that is measured."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return "from the source tree"

    def driver(self) -> Driver:
        """Import the module that drives it."""
        return cast(Driver, importlib.import_module(f"benchmarks.peers.{self.module}"))


PEERS = (
    Peer("txamqpx", "txamqpx", "txamqpx.client", "txamqpx"),
    Peer("txamqpx-channel", "txamqpx_channel", "txamqpx.endpoints", "txamqpx"),
    Peer("pika-twisted", "pika_twisted", "pika.adapters.twisted_connection", "pika"),
    Peer("pika-select", "pika_select", "pika", "pika"),
    Peer("aio-pika", "aio_pika", "aio_pika", "aio-pika", weight=0.2),
)
BY_NAME = {peer.name: peer for peer in PEERS}
