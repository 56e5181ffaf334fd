"""Contents: a method, a header that announces the size, and bodies until it is reached (section 4.2.6)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from txamqpx.errors import RemoteProtocolError
from txamqpx.protocol.frames import BODY, END, HEADER, unpack_head

__all__ = ["Assembly", "whole_content"]

_unpack_content_head = struct.Struct(">BHIHHQ").unpack_from
_unpack_header = struct.Struct(">HHQ").unpack_from

# An empty body frame is legal and useless; a peer that sends nothing else would keep us busy for ever.
MAX_EMPTY_BODIES = 16


def whole_content(
    data: bytes, offset: int, channel: int, class_id: int, limit: int, most: int
) -> tuple[bytes, bytes, int] | None:
    """Take a content that lies in the buffer in full: the common case, in one step instead of two frames.

    Args:
        data: The buffer.
        offset: Where the content header frame would begin.
        channel: The channel that the content belongs to.
        class_id: The class of the method before it.
        limit: The largest payload of a frame.
        most: The largest body that is accepted.

    Returns:
        The properties, the body and the offset behind it; None if anything at all is out of the
        ordinary, and then ``Assembly`` goes frame by frame, and finds the words for it.
    """
    available = len(data)
    if available - offset < 22:
        return None
    kind, number, length, klass, _, size = _unpack_content_head(data, offset)
    end = offset + 7 + length
    if kind != HEADER or number != channel or klass != class_id or not 14 <= length <= limit:
        return None
    if end >= available or data[end] != END:
        return None
    if not size:
        return data[offset + 19 : end], b"", end + 1
    start = end + 8
    stop = start + size
    if size > limit or size > most or stop >= available or data[stop] != END:
        return None
    kind, number, length = unpack_head(data, end + 1)
    if kind != BODY or number != channel or length != size:
        return None
    return data[offset + 19 : end], data[start:stop], stop + 1


class Assembly:
    """Gathers one content frame by frame."""

    __slots__ = ("_class_id", "_done", "_empty", "_most", "_pieces", "_properties", "_size", "name")

    def __init__(self, name: str, class_id: int, most: int, done: Callable[[bytes, bytes], None]) -> None:
        #: The method that the content belongs to.
        self.name = name
        self._class_id = class_id
        self._most = most
        self._done = done
        self._properties: bytes | None = None
        self._size = 0
        self._empty = 0
        self._pieces: list[bytes] = []

    @property
    def began(self) -> bool:
        """Whether the header was there."""
        return self._properties is not None

    def header(self, data: bytes, offset: int, end: int) -> bool:
        """Take a header frame's payload; return True if the content is complete with it.

        Raises:
            RemoteProtocolError: A second header, one of another class, or a body that is announced
                larger than we accept: decided here, before a byte of it is stored.
        """
        if self._properties is not None:
            raise RemoteProtocolError("a second content header", reply_code=505, operation=self.name)
        if end - offset < 14:
            raise RemoteProtocolError("a content header is cut short", reply_code=502, operation=self.name)
        class_id, _, self._size = _unpack_header(data, offset)
        if class_id != self._class_id:
            raise RemoteProtocolError(
                f"a content header of class {class_id} after a method of class {self._class_id}",
                reply_code=501,
                operation=self.name,
            )
        if self._size > self._most:
            raise RemoteProtocolError(
                f"a body of {self._size} bytes is announced, at most {self._most} are accepted",
                reply_code=501,
                operation=self.name,
            )
        self._properties = data[offset + 12 : end]
        return self._finished()

    def body(self, data: bytes, offset: int, end: int) -> bool:
        """Take a body frame's payload; return True if the content is complete with it.

        Raises:
            RemoteProtocolError: No header came before, there are more bytes than announced, or
                empty frames without end.
        """
        if self._properties is None:
            raise RemoteProtocolError("a body without a header", reply_code=505, operation=self.name)
        self._size -= end - offset
        if self._size < 0:
            raise RemoteProtocolError("a body is longer than announced", reply_code=505, operation=self.name)
        if offset == end:
            self._empty += 1
            if self._empty > MAX_EMPTY_BODIES:
                raise RemoteProtocolError("empty bodies without end", reply_code=505, operation=self.name)
        self._pieces.append(data[offset:end])
        return self._finished()

    def _finished(self) -> bool:
        if self._size or self._properties is None:
            return False
        self._done(self._properties, b"".join(self._pieces))
        return True
