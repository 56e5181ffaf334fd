"""Runs a program on a broker, and writes down what the broker says, in words that two brokers can share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tests.differential.program import CONNECTIONS, NOTHING, Drop, Say, Settle, Step
from tests.differential.stream import Stream
from txamqpx.protocol.frames import BODY, HEADER, METHOD, frame, header_frame, unpack_head
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1

_RANDOM = re.compile(r"amq\.(gen|ctag)-[\w-]{10,}")

_CAPABILITIES = {"basic.nack": True, "consumer_cancel_notify": True, "authentication_failure_close": True}


class Line:
    """One connection: it sends what it is told, and keeps what came.

    Args:
        stream: Its bytes.
        vhost: What it opens.
    """

    def __init__(self, stream: Stream, vhost: str) -> None:
        self._stream = stream
        self._rest = b""
        self._content: tuple[int, Any, list[bytes], bytes] | None = None
        self.open = True
        #: The deliveries that each channel holds, and whether it is open at all.
        self.held: dict[int, list[int]] = {}
        self._no_ack: dict[tuple[int, str], bool] = {}
        self._got_no_ack: dict[int, bool] = {}
        stream.write(b"AMQP\x00\x00\x09\x01")
        self.hear()
        login = amqp.ConnectionStartOk({"capabilities": _CAPABILITIES}, "PLAIN", b"\0guest\0guest", "en_US")
        self.send(0, login)
        self.hear()
        self.send(0, amqp.ConnectionTuneOk(2047, 131072, 0))
        self.send(0, amqp.ConnectionOpen(vhost))
        self.hear()

    def send(
        self,
        channel: int,
        method: Method,
        body: bytes | None = None,
        properties: amqp.BasicProperties = NOTHING,
    ) -> None:
        """Send a method; a channel that is not open is opened first."""
        data = b""
        if channel and channel not in self.held:
            data = frame(METHOD, channel, amqp.ChannelOpen().encode())
            self.held[channel] = []
        if isinstance(method, amqp.BasicConsume):
            self._no_ack.setdefault((channel, method.consumer_tag), method.no_ack)
        if isinstance(method, amqp.BasicGet):
            self._got_no_ack[channel] = method.no_ack
        data += frame(METHOD, channel, method.encode())
        if body is not None:
            data += header_frame(channel, 60, properties.encode(), len(body)) + frame(BODY, channel, body)
        self._stream.write(data)

    def hear(self) -> list[tuple[int, Any, bytes | None, Any]]:
        """Return what has come: channel, method, body and properties."""
        heard: list[tuple[int, Any, bytes | None, Any]] = []
        data = self._rest + self._stream.read()
        while len(data) >= 7:
            kind, channel, length = unpack_head(data)
            if len(data) < length + 8:
                break
            payload, data = data[7 : length + 7], data[length + 8 :]
            if kind == METHOD:
                method: Any = AMQP_0_9_1.methods[int.from_bytes(payload[:4])].decode(payload, 4, length)
                if method.content:
                    self._content = channel, method, [], b""
                    continue
                heard.append((channel, method, None, None))
                self._note(channel, method)
            elif kind in (HEADER, BODY) and self._content is not None:
                channel, method, pieces, header = self._content
                if kind == HEADER:
                    self._content = channel, method, pieces, payload
                else:
                    pieces.append(payload)
                channel, method, pieces, header = self._content
                if sum(map(len, pieces)) == int.from_bytes(header[4:12]):
                    properties = amqp.BasicProperties.decode(header, 12, len(header))
                    heard.append((channel, method, b"".join(pieces), properties))
                    self._note(channel, method)
                    self._content = None
        self._rest = data
        return heard

    def _note(self, channel: int, method: Any) -> None:
        if isinstance(method, amqp.BasicDeliver | amqp.BasicGetOk):
            if not self._is_settled(channel, method):
                self.held[channel].append(method.delivery_tag)
        elif isinstance(method, amqp.ChannelClose | amqp.ChannelCloseOk):
            self.held.pop(channel, None)
            self._no_ack = {key: value for key, value in self._no_ack.items() if key[0] != channel}
            if isinstance(method, amqp.ChannelClose):
                self._stream.write(frame(METHOD, channel, amqp.ChannelCloseOk().encode()))
        elif isinstance(method, amqp.BasicCancelOk | amqp.BasicCancel):
            self._no_ack.pop((channel, method.consumer_tag), None)
        elif isinstance(method, amqp.ConnectionClose):
            self._stream.write(frame(METHOD, 0, amqp.ConnectionCloseOk().encode()))
            self.open = False

    def _is_settled(self, channel: int, method: Any) -> bool | None:
        if isinstance(method, amqp.BasicGetOk):
            return self._got_no_ack[channel]
        return self._no_ack.get((channel, method.consumer_tag))

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self._stream.close()


class World:
    """One broker, on which a program runs.

    Args:
        connect: Opens a stream to it.
        vhost: The virtual host to use.
    """

    def __init__(self, connect: Callable[[], Stream], vhost: str) -> None:
        self._connect = connect
        self._vhost = vhost
        self._lines: dict[int, Line] = {}
        self._names: dict[str, str] = {}

    def run(self, steps: list[Step]) -> list[list[str]]:
        """Run a program; return for each step what the broker has said to it."""
        said = [self.step(step) for step in steps]
        self.close()
        return said

    def close(self) -> None:
        """Hang up all lines."""
        for line in self._lines.values():
            line.close()

    def step(self, step: Step) -> list[str]:
        """Run one step, and return what was said to whom."""
        line = self._lines.get(step.connection)
        if line is None or not line.open:
            if line is not None:
                line.close()
            line = self._lines[step.connection] = Line(self._connect(), self._vhost)
        if isinstance(step, Drop):
            line.close()
        elif isinstance(step, Say):
            line.send(step.channel, step.method, step.body, step.properties)
        else:
            self._settle(line, step)
        heard: dict[int, list[tuple[int, Any, bytes | None, Any]]] = defaultdict(list)
        closes = True
        while closes:  # what a channel held comes back to others when its close has been answered
            closes = False
            for number in range(CONNECTIONS):
                if number in self._lines and self._lines[number].open:
                    news = self._lines[number].hear()
                    closes |= any(
                        isinstance(one, amqp.ChannelClose | amqp.ConnectionClose) for _, one, *_ in news
                    )
                    heard[number] += news
        return [word for number in range(CONNECTIONS) for word in self._write_down(number, heard[number])]

    def _settle(self, line: Line, step: Settle) -> None:
        held = line.held.get(step.channel, [])
        if step.how == "recover":
            held.clear()
            line.send(step.channel, amqp.BasicRecover(True))
            return
        if not held:
            return
        tag = held[int(step.pick * len(held))]
        multiple = step.multiple and step.how != "reject"
        line.held[step.channel] = [one for one in held if (one > tag if multiple else one != tag)]
        kinds: Mapping[str, Method] = {
            "ack": amqp.BasicAck(tag, multiple),
            "nack": amqp.BasicNack(tag, multiple, step.requeue),
            "reject": amqp.BasicReject(tag, step.requeue),
        }
        line.send(step.channel, kinds[step.how])

    def _write_down(self, connection: int, heard: list[tuple[int, Any, bytes | None, Any]]) -> list[str]:
        """Put what came into words; only the order that a broker owes to anybody is kept."""
        words: dict[tuple[int, str], list[str]] = defaultdict(list)
        confirmed: dict[tuple[int, str], set[int]] = defaultdict(set)
        for channel, method, body, properties in heard:
            if isinstance(method, amqp.BasicAck | amqp.BasicNack):
                kind = method.name.removeprefix("basic.")
                confirmed[channel, kind].add(method.delivery_tag)
                if method.multiple:
                    confirmed[channel, kind].add(-method.delivery_tag)
                continue
            stream = "reply"
            if isinstance(method, amqp.BasicDeliver):
                stream = f"for {method.consumer_tag}"
            elif isinstance(method, amqp.BasicCancel):  # it comes when it comes
                stream = f"end of {method.consumer_tag}"
            fields = ", ".join(f"{name}={getattr(method, name)!r}" for name, _ in method.fields)
            if isinstance(method, amqp.BasicDeliver):  # tags are given in an order that nobody is owed
                fields = fields.replace(f"delivery_tag={method.delivery_tag}", "")
            content = "" if body is None else f" {body!r} {_plain(properties)}"
            words[channel, stream].append(self._named(f"{method.name} {fields}{content}"))
        for (channel, kind), tags in confirmed.items():
            words[channel, kind].append(f"{kind} up to {max(tags)}")
        return [
            f"{connection}/{channel} {word}" for (channel, _), said in sorted(words.items()) for word in said
        ]

    def _named(self, text: str) -> str:
        """Give names that a broker has made up other ones, in the order of their first appearance."""
        for match in _RANDOM.finditer(text):
            self._names.setdefault(match.group(), f"made-up-{len(self._names)}")
        return _RANDOM.sub(lambda match: self._names[match.group()], text)


def _plain(value: Any) -> Any:
    """Return a value without the times in it."""
    if isinstance(value, amqp.BasicProperties):
        return {
            name: _plain(getattr(value, name)) for name, _ in value.fields if getattr(value, name) is not None
        }
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return "a time" if isinstance(value, datetime) else value
