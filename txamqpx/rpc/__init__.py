"""Requests and replies: ``Caller`` asks, ``Server`` answers, each also with other libraries' programs."""

from __future__ import annotations

from txamqpx.rpc.caller import Caller
from txamqpx.rpc.server import Server

__all__ = ["Caller", "Server"]
