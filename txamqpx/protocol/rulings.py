"""What a broker makes of a client that breaks the protocol: RabbitMQ's codes, its words, and its patience."""

from __future__ import annotations

import struct
from enum import Enum

from txamqpx.errors import AMQPError, RemoteProtocolError
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.frames import BODY, METHOD
from txamqpx.protocol.layouts import Misfit, NotText, check_layout
from txamqpx.spec import amqp0_9_1 as amqp

__all__ = ["NO_HEADER", "OVERLONG", "Breach", "Ending", "judge", "octets", "unexpected", "unknown_frame"]

_METHODS = {method.index for method in amqp.METHODS}

_unpack_index = struct.Struct(">I").unpack_from
_unpack_class = struct.Struct(">H").unpack_from

# The class, the weight and the size of the body: RabbitMQ takes nothing shorter for a content header.
_SHORTEST_HEADER = 12

#: What releases from 4.0 on say of a body that is longer than announced; others do not know what it is.
OVERLONG = "FRAME_ERROR - content body frame exceeds remaining content size"

#: What is said when something else comes where a content header is due.
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"


class Ending(Enum):
    """How a connection ends on which the client has broken the protocol."""

    #: The client is told, and everything is discarded until it has answered.
    TOLD = "told"
    #: The client is told; nothing that it sends can be read any more.
    LAST_WORD = "last word"
    #: The broker hangs up without a word, but not before whoever guesses passwords has lost some time.
    SILENT = "silent"
    #: The broker hangs up.
    ABRUPT = "abrupt"


class Breach(RemoteProtocolError):
    """The client has broken the protocol.

    Attributes:
        text: What it is told.
        culprit: The index of the method that is to blame; 0: none is.
        ending: How that ends.
    """

    def __init__(self, code: int, text: str, culprit: int = 0, *, ending: Ending = Ending.TOLD) -> None:
        super().__init__(text, reply_code=code)
        self.text = text.encode()[:255].decode("utf-8", "ignore")
        self.culprit = culprit
        self.ending = ending


def octets(payload: bytes) -> str:
    """Return bytes as Erlang shows them."""
    if payload and all(32 <= octet < 127 for octet in payload):
        return f'<<"{payload.decode()}">>'
    return f"<<{','.join(map(str, payload))}>>"


def unknown_frame(kind: int, payload: bytes) -> Breach:
    """Return what it means that a frame is of no type that there is, or too short for it."""
    return Breach(501, f"FRAME_ERROR - type {kind}, all octets = {octets(payload)}: unknown_frame")


def unexpected(kind: int, payload: bytes) -> Breach:
    """Return what it means that a frame has no business on its channel."""
    return Breach(505, f"UNEXPECTED_FRAME - type {kind}, all octets = {octets(payload)}")


def judge(channel: ChannelCore | None, kind: int, payload: bytes, error: AMQPError) -> Breach:
    """Return what is told to the client whose frame could not be taken.

    Args:
        channel: Its channel; None: channel 0.
        kind: Its type.
        payload: What was in it.
        error: What the core has made of it.
    """
    if isinstance(error, Breach):
        return error
    if kind != METHOD:
        return _judge_content(channel, kind, payload)
    if len(payload) < 4:
        return unknown_frame(kind, payload)
    (index,) = _unpack_index(payload)
    if index not in _METHODS:
        return Breach(540, f"unknown method {index >> 16}.{index & 0xFFFF}", ending=Ending.ABRUPT)
    if channel is not None and channel.assembly is not None:
        return _judge_content(channel, kind, payload)
    try:
        check_layout(index, payload, 4, len(payload))
    except Misfit:
        return Breach(501, f"FRAME_ERROR - cannot decode {octets(payload[4:])}", index)
    except NotText:
        return Breach(501, "FRAME_ERROR - Malformed UTF-8 in shortstr")
    if isinstance(error, RemoteProtocolError):
        if index == amqp.ChannelOpen.index:
            return Breach(504, "CHANNEL_ERROR - second 'channel.open' seen", index)
        return Breach(503, "COMMAND_INVALID - unimplemented method", index)
    # A table that is wrong inside makes RabbitMQ's reader fall over.
    if channel is None:
        return Breach(541, "INTERNAL_ERROR")
    return Breach(502, str(error), index, ending=Ending.ABRUPT)


def _judge_content(channel: ChannelCore | None, kind: int, payload: bytes) -> Breach:
    assembly = channel.assembly if channel is not None else None
    if kind not in (METHOD, BODY) and len(payload) < _SHORTEST_HEADER:
        return unknown_frame(kind, payload)
    if assembly is None:
        text = "expected method frame, got non method frame instead"
        return Breach(505, f"UNEXPECTED_FRAME - {text}")
    culprit = amqp.BasicPublish.index  # nothing else that a client sends has a content
    if assembly.began:
        if kind == BODY:
            return Breach(501, OVERLONG, culprit)
        text = "expected content body, got non content body frame instead"
    elif kind in (METHOD, BODY):
        return Breach(505, NO_HEADER, culprit)
    elif _unpack_class(payload)[0] != culprit >> 16:
        text = f"expected content header for class 60, got one for class {_unpack_class(payload)[0]} instead"
    else:
        return Breach(541, "INTERNAL_ERROR")  # no flags of properties behind the size
    return Breach(505, f"UNEXPECTED_FRAME - {text}", culprit)
