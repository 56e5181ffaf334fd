"""Speak AMQP with blocking sockets and ready-made bytes: fill queues, count them, time a target."""

from __future__ import annotations

import socket
import struct
import time
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from benchmarks.wire import FRAME_HEAD, LARGEST_BODY, METHOD, method, publication, short

_CHUNK: Final = 256 * 1024


class FeederFailed(Exception):
    """The target closed the connection or answered what was not asked."""


class Feeder:
    """Hold one connection with channel 1 open, for the length of a `with` block."""

    def __init__(self, url: str, timeout: float = 120.0) -> None:
        self._url = urlsplit(url)
        self._timeout = timeout
        self._received = bytearray()

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((self._url.hostname, self._url.port or 5672), self._timeout)
        try:
            self._open()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if exc_info[0] is None:
                self.call(0, 10, 50, struct.pack(">H", 200) + short("") + b"\0\0\0\0")
        finally:
            self._socket.close()

    def call(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> bytes:
        """Send a synchronous method and return the arguments of its reply, the next method by number."""
        self._socket.sendall(method(channel, class_id, method_id, arguments))
        return self._expect(class_id, method_id + 1)

    def declare(self, queue: str, *, passive: bool = False) -> int:
        """Declare a transient queue, or only look at it, and return how many messages are ready in it."""
        reply = self.call(1, 50, 10, b"\0\0" + short(queue) + bytes([passive]) + b"\0\0\0\0")
        count: int = struct.unpack_from(">I", reply, 1 + reply[0])[0]
        return count

    def delete(self, queue: str) -> None:
        """Delete a queue and all that is in it."""
        self.call(1, 50, 40, b"\0\0" + short(queue) + b"\0")

    def select_confirms(self) -> None:
        """Ask for confirms; `publish` then waits for them."""
        self.call(1, 85, 10, b"\0")

    def publish(self, queue: str, body: bytes, count: int) -> None:
        """Publish the same message many times and wait until the target has taken them in."""
        one = publication(queue, body)
        batch = max(1, _CHUNK // len(one))
        chunk = one * batch
        for _ in range(count // batch):
            self._socket.sendall(chunk)
        self._socket.sendall(one * (count % batch))
        self.declare(queue, passive=True)

    def drain(self, queue: str, size: int, count: int) -> None:
        """Consume messages of one size without acknowledging them, up to the last byte of the last one.

        They are all as long as the first, so nothing is looked at but its frames.
        """
        self.call(1, 60, 20, b"\0\0" + short(queue) + short("drain") + b"\x02\0\0\0\0")
        bodies = -(-size // LARGEST_BODY)
        left = count * sum(len(self._next_frame()[1]) + 8 for _ in range(2 + bodies))
        left -= left // count
        while left > len(self._received):
            left -= len(self._received)
            self._received.clear()
            self._receive()
        del self._received[:left]

    def _open(self) -> None:
        url = self._url
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        self._expect(10, 10)
        response = f"\0{unquote(url.username or 'guest')}\0{unquote(url.password or 'guest')}".encode()
        login = b"\0\0\0\0" + short("PLAIN") + struct.pack(">I", len(response)) + response + short("en_US")
        self._socket.sendall(method(0, 10, 11, login))
        self._expect(10, 30)
        vhost = unquote(url.path[1:]) or "/"
        self._socket.sendall(method(0, 10, 31, struct.pack(">HIH", 2047, 131072, 0)))
        self.call(0, 10, 40, short(vhost) + b"\0\0")
        self.call(1, 20, 10, b"\0")

    def _receive(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise FeederFailed("the target closed the connection")
        self._received += data

    def _next_frame(self) -> tuple[int, bytes]:
        while len(self._received) < 7:
            self._receive()
        kind, _channel, size = FRAME_HEAD.unpack_from(self._received)
        while len(self._received) < size + 8:
            self._receive()
        payload = bytes(self._received[7 : 7 + size])
        del self._received[: size + 8]
        return kind, payload

    def _expect(self, class_id: int, method_id: int) -> bytes:
        """Return the arguments of the method that is waited for; confirms on the way are passed over."""
        while True:
            kind, payload = self._next_frame()
            got = struct.unpack_from(">HH", payload)
            if kind == METHOD and got == (class_id, method_id):
                return payload[4:]
            if kind != METHOD or got not in ((60, 80), (60, 120)):
                raise FeederFailed(
                    f"waited for {class_id}.{method_id}, got a frame of type {kind}: {payload!r}"
                )


def rates(url: str, count: int, size: int = 16) -> dict[str, float]:
    """Return how many messages a second a sink takes in, confirms and delivers, as this feeder sees it."""
    found = {}
    for name in ("publish", "confirm", "deliver"):
        with Feeder(url) as feeder:
            if name == "confirm":
                feeder.select_confirms()
            begun = time.perf_counter()
            if name == "deliver":
                feeder.drain(f"flood-{count}-{size}", size, count)
            else:
                feeder.publish("sink", b"x" * size, count)
            found[name] = count / (time.perf_counter() - begun)
    return found
