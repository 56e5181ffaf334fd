"""How a reply says that there is none: the one place that knows."""

from __future__ import annotations

from txamqpx.errors import RemoteError
from txamqpx.message import Delivery
from txamqpx.publishing.outgoing import PropertyFields

__all__ = ["ERROR", "described", "failure_reply", "remote_error"]

#: The header with the name of what a function has failed with.  The body is what it says, so that the program
#: of somebody else, who does not know the header, at least logs something that can be read.
ERROR = "txamqpx-error"

# In characters: an error may quote all that it was given.
LONGEST_NAME = 100
LONGEST_MESSAGE = 10_000


def described(error: BaseException) -> RemoteError:
    """Return what a caller may know of an exception: its class's name and what it says, and no traceback."""
    if isinstance(error, RemoteError):
        return error
    try:
        message = str(error)
    except Exception:
        message = ""  # the name has to do
    return RemoteError(type(error).__name__, message)


def failure_reply(error: RemoteError) -> tuple[bytes, PropertyFields]:
    """Return the body and the properties of a reply that says so."""
    body = error.message[:LONGEST_MESSAGE].encode("utf-8", "backslashreplace")
    name = error.type[:LONGEST_NAME].encode("utf-8", "backslashreplace").decode()
    return body, {"headers": {ERROR: name}, "content_type": "text/plain", "content_encoding": "utf-8"}


def remote_error(reply: Delivery) -> RemoteError | None:
    """Return the error that a reply stands for, or None."""
    headers = reply.properties.headers
    if not headers or ERROR not in headers:
        return None
    return RemoteError(str(headers[ERROR]), reply.body.decode("utf-8", "backslashreplace"))
