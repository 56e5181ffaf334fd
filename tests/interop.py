"""Messages of every kind, and other clients that publish and take them.

Each client runs in a process of its own, since one blocks and one is of another loop:
`python -m tests.interop pika URL publish`. What it took it tells as texts that show types as well, so that
1, 1.0 and True stay apart on the way back.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import aio_pika
import attrs
import pika
from aio_pika.abc import AbstractIncomingMessage

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)

PROPERTIES: Mapping[str, Any] = {
    "content_type": "text/plain; charset=ütf-8",
    "content_encoding": "gzip",
    "headers": {"héllo 🐇": "wörld 🐇"},
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": "🐇",
    "reply_to": "back",
    "expiration": "60000",
    "message_id": "m-1",
    "timestamp": MOMENT,
    "type": "greeting",
    "user_id": "guest",
    "app_id": "x" * 255,
    "cluster_id": "c",
}
"""All fourteen."""

VALUES: Mapping[str, Any] = {
    "true": True,
    "false": False,
    "zero": 0,
    "127": 127,
    "-128": -128,
    "200": 200,
    "-129": -129,
    "2^15": 2**15,
    "2^16": 2**16,
    "-2^31": -(2**31),
    "2^31-1": 2**31 - 1,
    "2^31": 2**31,
    "2^32": 2**32,
    "-2^32": -(2**32),
    "2^63-1": 2**63 - 1,
    "-2^63": -(2**63),
    "half": 0.5,
    "tenth": 0.1,
    "whole float": -3.0,
    "large float": 1e300,
    "decimal": Decimal("-12.345"),
    "whole decimal": Decimal(7),
    "decimal with noughts": Decimal("1.500"),
    "text": "héllo 🐇\n\0",
    "no text": "",
    "long text": "🐇" * 20_000,
    "bytes": b"\xff\xfe\x00",
    "no bytes": b"",
    "none": None,
    "time": MOMENT,
    "epoch": datetime(1970, 1, 1, tzinfo=UTC),
    "far future": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "array": [1, "é", True, None, [MOMENT, []], {"in": Decimal("0.1")}],
    "no array": [],
    "table": {"é": {"deep": [{"er": -1}]}, "empty": {}, "🐇": None},
    "no table": {},
    "é" * 127 + "x": "a name of 255 bytes",
}
"""One header each."""

_SAID_BY_ALL = [
    value
    for name, value in VALUES.items()
    if not isinstance(value, float | bytes) and name not in {"far future", "decimal with noughts"}
]

FRAME_MAX = 131_072
"""What all of us agree on with the broker; eight octets of a frame are not the body's."""

SIZES = (0, 1, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 2 * (FRAME_MAX - 8), 2**20)


@attrs.frozen
class Message:
    """A message that everybody is asked to publish.

    Attributes:
        name: What is particular about it.
    """

    name: str
    properties: Mapping[str, Any]
    body: bytes = b""


_dice = random.Random(12)
MESSAGES = (
    Message("all properties", PROPERTIES),
    Message("no property", {}),
    Message("nothing in them", {"headers": {}, "priority": 0, "content_type": "", "delivery_mode": 1}),
    *(Message(name, {"headers": {name: value}}) for name, value in VALUES.items()),
    Message("many values", {"headers": {str(number): one for number, one in enumerate(_SAID_BY_ALL)}}),
    *(Message(f"{size} bytes", {"delivery_mode": 2}, _dice.randbytes(size)) for size in SIZES),
)


def described(properties: Mapping[str, Any], body: bytes) -> dict[str, str]:
    """Describe a message by texts which are equal for equal messages only."""
    told = {name: _text(value) for name, value in properties.items()}
    return {**told, "body": f"{len(body)} bytes, {sha256(body).hexdigest()}"}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name!r}: {_text(item)}' for name, item in sorted(value.items()))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))  # pika's large ints print with an L
    return repr(value)


def ask(client: str, url: str, *words: str) -> Any:
    """Run a client in a process of its own, and return what it told."""
    command = [sys.executable, "-m", "tests.interop", client, url, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --------------------------------------------------------------------------- pika


class Pika:
    """Publishes and takes with pika, a connection for each message: one that it cannot read ends it.

    It knows the property `timestamp` as an int.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def _channel(self) -> Any:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def publish(self, queue: str, message: Message) -> None:
        """Publish to a queue, and wait for the confirm."""
        values = dict(message.properties)
        if "timestamp" in values:
            values["timestamp"] = int(values["timestamp"].timestamp())
        with self._channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish("", queue, message.body, pika.BasicProperties(**values), mandatory=True)

    def take(self, queue: str, how: str) -> dict[str, str]:
        """Take the only message of a queue, by basic.get or by a consumer."""
        with self._channel() as channel:
            if how == "get":
                _, properties, body = channel.basic_get(queue, auto_ack=True)
            else:
                _, properties, body = next(channel.consume(queue, auto_ack=True, inactivity_timeout=60))
        found = {name: getattr(properties, name) for name in PROPERTIES}
        if found["timestamp"] is not None:
            found["timestamp"] = datetime.fromtimestamp(found["timestamp"], UTC)
        return described({name: value for name, value in found.items() if value is not None}, body)


# --------------------------------------------------------------------------- aio-pika


class AioPika:
    """Publishes and takes with aio-pika, a connection for each message.

    It knows bytes in a table as bytearray and `expiration` in seconds; its messages know no `cluster_id`
    when they go, and have at least an empty one when they come.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def publish(self, queue: str, message: Message) -> None:
        """Publish to a queue, and wait for the confirm."""
        asyncio.run(self._publish(queue, message))

    async def _publish(self, queue: str, message: Message) -> None:
        values = dict(message.properties)
        values.pop("cluster_id", None)
        if "headers" in values:
            values["headers"] = {
                name: bytearray(value) if isinstance(value, bytes) else value
                for name, value in values["headers"].items()
            }
        if "expiration" in values:
            values["expiration"] = timedelta(milliseconds=int(values["expiration"]))
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(message.body, **values), queue)

    def take(self, queue: str, how: str) -> dict[str, str]:
        """Take the only message of a queue, by basic.get or by a consumer."""
        return asyncio.run(self._take(queue, how))

    async def _take(self, queue: str, how: str) -> dict[str, str]:
        async with asyncio.timeout(60), await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            source = await channel.get_queue(queue)
            if how == "get":
                message = await source.get(no_ack=True)
            else:
                taken: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()

                async def take(message: AbstractIncomingMessage) -> None:
                    taken.set_result(message)

                await source.consume(take, no_ack=True)
                message = await taken
        found = {name: getattr(message, name) for name in PROPERTIES}
        found["cluster_id"] = found["cluster_id"] or None
        found["headers"] = {
            name: bytes(value) if isinstance(value, bytearray) else value
            for name, value in found["headers"].items()
        }
        if found["expiration"] is not None:
            found["expiration"] = f"{found['expiration'] * 1000:.0f}"
        return described({name: value for name, value in found.items() if value is not None}, message.body)


CLIENTS: Mapping[str, Callable[[str], Pika | AioPika]] = {"pika": Pika, "aio-pika": AioPika}


def main(arguments: Sequence[str]) -> None:
    """Publish each message to a queue of its own, or take each from there, and print what came of it."""
    client, url, order, *words = arguments
    peer = CLIENTS[client](url)
    told: dict[str, Any] = {}
    for number, message in enumerate(MESSAGES):
        try:
            if order == "publish":
                told[message.name] = peer.publish(str(number), message)
            else:
                told[message.name] = peer.take(str(number), words[0])
        except Exception as error:  # what it is belongs to the answer
            told[message.name] = type(error).__name__
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
