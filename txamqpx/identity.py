"""What a broker is told of this client: its own pages and logs show it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from txamqpx.params import ConnectionParameters
from txamqpx.protocol.handshake import CAPABILITIES

__all__ = ["client_properties"]


@cache
def _release() -> str:
    # It is read from a file, which is no work for each connection.
    try:
        return version("txamqpx")
    except PackageNotFoundError:
        return "unknown"


def client_properties(parameters: ConnectionParameters) -> dict[str, Any]:
    """Return what the broker is told of this client; the user's own properties win."""
    properties: dict[str, Any] = {
        "product": "txamqpx",
        "version": _release(),
        "platform": f"{platform.python_implementation()} {platform.python_version()}",
    }
    if parameters.connection_name is not None:
        properties["connection_name"] = parameters.connection_name
    given = dict(parameters.client_properties)
    capabilities = {**CAPABILITIES, **given.pop("capabilities", {})}
    return {**properties, **given, "capabilities": capabilities}
