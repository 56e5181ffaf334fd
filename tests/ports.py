"""Ports for servers that tests start."""

import random
import socket
from pathlib import Path


def reserve_port() -> socket.socket:
    """Return a UDP socket whose port number is free for TCP on 127.0.0.1, and stays so while it is open.

    Whatever asks here gets another number until then, so a server that is down for a while finds its port
    as it left it. The numbers are below the ephemeral ports, because a client that keeps trying a closed port
    among those may be given the very number as its own, and then meets itself.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        reserved = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reserved.bind(("127.0.0.1", random.SystemRandom().randrange(10000, max(ephemeral, 20000))))
            with socket.socket() as probe:
                probe.bind(reserved.getsockname())
        except OSError:
            reserved.close()
        else:
            return reserved
