"""Where replies go that are addressed to a channel, and to no queue (RabbitMQ's direct reply-to)."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable
from typing import Final

from txamqpx.broker.message import Message
from txamqpx.broker.profile import Profile
from txamqpx.broker.refusal import Refusal

__all__ = ["NAME", "PREFIX", "Replies", "ReplyTo"]

#: What is consumed from, and named as ``reply_to``.
NAME: Final = "amq.rabbitmq.reply-to"
#: What addresses begin with.
PREFIX: Final = NAME + "."

# RabbitMQ's addresses name a process, as Erlang writes it, and end with a secret.  Clients look whether they
# are of that form, with the hash of a node's name for its name: this is what ours would be.
_NODE: Final = b"\x83Xv\x00\x0ereply@60407105"


class ReplyTo:
    """An address: a queue that holds nothing.

    Args:
        name: The address.
        deliver: Takes the replies; None: nobody does any more.
    """

    deleted: Final = False

    def __init__(self, name: str, deliver: Callable[[Message], None] | None = None) -> None:
        self.name = name
        self._deliver = deliver

    def publish(self, message: Message) -> bool:
        """Take a reply."""
        if self._deliver is not None:
            self._deliver(message)
        return True


class Replies:
    """The addresses of one virtual host.

    Args:
        vhost: Its name.
        profile: Which RabbitMQ the broker can be taken for.
    """

    def __init__(self, vhost: str, profile: Profile) -> None:
        self._vhost = vhost
        self._are_queues = profile.replies_are_queues
        self._open: dict[str, ReplyTo] = {}

    def open(self, deliver: Callable[[Message], None]) -> ReplyTo:
        """Make an address that nobody can guess."""
        process = _NODE + os.urandom(12)
        name = f"{PREFIX}{b64encode(process).decode()}.{b64encode(os.urandom(16)).decode()}"
        address = self._open[name] = ReplyTo(name, deliver)
        return address

    def close(self, address: ReplyTo) -> None:
        """Let nobody be found there."""
        del self._open[address.name]

    def find(self, name: str) -> ReplyTo | None:
        """Return where replies to ``name`` go; None: it is no way for a message."""
        if not name.startswith(PREFIX):
            return None
        address = self._open.get(name)
        if address is None and self._are_queues and _is_ours(name):
            return ReplyTo(name)
        return address

    def is_queue(self, name: str) -> bool:
        """Return whether ``name`` is an address, and more to a release than a mere name."""
        return self._are_queues and name in self._open

    def check(self, name: str) -> None:
        """Look at a name to which no way was found.

        Raises:
            Refusal: 541, it is a forged address, over which that release stumbles.
        """
        forged = name.startswith(PREFIX) and "." in name[len(PREFIX) :] and not _is_ours(name)
        if forged and not self._are_queues:
            raise Refusal(541, "")

    def declared(self, name: str) -> None:
        """Look at a name that is declared, which makes nothing.

        Raises:
            Refusal: 404, nobody is there; 541, it is no address.
        """
        if name == NAME or name in self._open:
            return
        if self._are_queues and not _is_ours(name):
            raise Refusal(541, "")
        self.check(name)
        raise Refusal(404, f"no queue '{name}' in vhost '{self._vhost}'")


def _is_ours(name: str) -> bool:
    process, dot, _ = name.removeprefix(PREFIX).partition(".")
    try:
        return bool(dot) and b64decode(process, validate=True).startswith(_NODE)
    except Error:
        return False
