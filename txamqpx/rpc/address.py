"""Where replies go to: addresses that RabbitMQ makes, and such as somebody else has made up."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections import OrderedDict

from txamqpx.rpc.replies import DIRECT

__all__ = ["DeadlyAddresses", "is_direct", "is_well_formed"]

_DIRECT = f"{DIRECT}."

# Erlang's external form of a process: its node as an atom in UTF-8, whose length takes one byte or two, and
# three numbers.  In the place of the node's name stands a hash of it.
_PROCESS = re.compile(rb"\x83X(?:w(?P<short>.)|v(?P<long>..))(?P<node>reply@\d{1,10}).{12}", re.DOTALL)


def is_direct(address: str) -> bool:
    """Tell whether an address belongs to a channel, and is no queue's name."""
    return address.startswith(_DIRECT)


def is_well_formed(address: str) -> bool:
    """Tell whether RabbitMQ can have made a direct address.

    Whoever sends a request can write whatever he likes as its ``reply_to``, and RabbitMQ believes it: of one
    that it cannot decode it dies, and with it the connection of who replies (541), on 3.10 by publishing to
    it, on 3.10 to 4.3 by looking for it.
    """
    process, dot, key = address.removeprefix(_DIRECT).partition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9+/=]+", key):
        return False
    try:
        decoded = b64decode(process, validate=True)
    except (Error, ValueError):
        return False
    match = _PROCESS.fullmatch(decoded)
    if match is None or b64encode(decoded).decode() != process:
        return False
    length = match["short"] or match["long"]
    return int.from_bytes(length, "big") == len(match["node"])


class DeadlyAddresses:
    """Direct addresses on which a connection has died.

    Also one that is well-formed kills the connection on RabbitMQ 3.10, if no node of the cluster has that
    hash.  The request is not acked then and comes again, to kill the next connection: so it is remembered.
    """

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._addresses: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, address: str) -> bool:
        return address in self._addresses

    def add(self, address: str) -> None:
        """Remember an address, and forget the oldest if there are too many."""
        self._addresses[address] = None
        if len(self._addresses) > self._most:
            self._addresses.popitem(last=False)
