"""The three numbers that both sides agree on, computed once per connection and never written back."""

from __future__ import annotations

from attrs import frozen

from txamqpx.errors import RemoteProtocolError

__all__ = ["FRAME_MIN_SIZE", "INITIAL_FRAME_MAX", "Tuning", "negotiate"]

FRAME_MIN_SIZE = 4096  # 0-9-1 section 1.1: what every peer must be able to take

# Until tune-ok nobody has agreed on anything.  RabbitMQ itself has applied this limit since 4.1; 4096,
# the specification's word, is too small for the tokens that people log in with.
INITIAL_FRAME_MAX = 8192


@frozen
class Tuning:
    """Limits of one connection; 0 means that there is none."""

    #: The highest channel number.
    channel_max: int
    #: The largest frame in bytes, its seven octets of header and its end included.
    frame_max: int
    #: Seconds after which a silent peer is suspect; 0 switches heartbeats off.
    heartbeat: int


def negotiate(ours: Tuning, theirs: Tuning) -> Tuning:
    """Return what both sides can live with: the smaller number, where 0 counts as "no limit".

    Raises:
        RemoteProtocolError: The peer proposes frames smaller than the specification allows.
    """
    if 0 < theirs.frame_max < FRAME_MIN_SIZE:
        raise RemoteProtocolError(
            f"connection.tune proposes a frame_max of {theirs.frame_max}, the least is {FRAME_MIN_SIZE}",
            reply_code=530,
            operation="connection.tune",
        )
    return Tuning(
        channel_max=_smaller(ours.channel_max, theirs.channel_max) or 0xFFFF,
        frame_max=_smaller(ours.frame_max, theirs.frame_max),
        heartbeat=_smaller(ours.heartbeat, theirs.heartbeat),
    )


def _smaller(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other
