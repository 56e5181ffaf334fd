"""A session with everything in it, in rounds: what our side does, then what the peer says to that."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from tests.protocol.pair import (
    ANSWERS,
    CLOSE_OK,
    OPEN_OK,
    PROTOCOL_HEADER,
    START,
    TUNE,
    deliver,
    fresh_client,
    publish,
    say,
)
from txamqpx.protocol import events
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.frames import HEARTBEAT_FRAME
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.spec import amqp0_9_1 as amqp

Act = Callable[[Connection], list[str]]
"""Does something with the core; returns the tokens that it gave."""


def _nothing(core: Connection) -> list[str]:
    return []


def _open(core: Connection) -> list[str]:
    first, second = core.open_channel("open 1"), core.open_channel("open 2")
    first.send(amqp.ConfirmSelect(), "select")
    second.send(amqp.BasicQos(0, 100), "qos")
    second.send(amqp.BasicConsume("q", "c"), "consume", consumer="C")
    second.send(amqp.BasicConsume("q", "d", no_ack=True), "consume too", consumer="D")
    return ["open 1", "open 2", "select", "qos", "consume", "consume too"]


def _work(core: Connection) -> list[str]:
    first, second = core.channels[1], core.channels[2]
    for token in ("a", "b", "c", "d", "e"):
        publish(first, token, token.encode(), routing_key=token, mandatory=True)
    publish(first, "empty", b"", mandatory=True)
    second.send(amqp.BasicGet("q"), "get")
    second.send(amqp.BasicGet("q"), "get nothing")
    core.send(amqp.ConnectionUpdateSecret("s", "r"), "secret")
    return ["a", "b", "c", "d", "e", "empty", "get", "get nothing", "secret"]


def _close_one(core: Connection) -> list[str]:
    core.channels[2].send(amqp.QueueDeclare("gone", True), "declare")
    core.channels[2].send(amqp.QueueDeclare("x"), "not processed")
    core.channels[1].send(amqp.ChannelClose(200, "enough"), "close")
    return ["declare", "not processed", "close"]


def _close(core: Connection) -> list[str]:
    channel: ChannelCore = core.open_channel("open 3")
    channel.send(amqp.BasicQos(), "never answered")
    core.close("closed", 200, "bye")
    return ["open 3", "never answered", "closed"]


#: What a client does, and what it hears upon that.
ROUNDS: list[tuple[Act, bytes]] = [
    (_nothing, START + TUNE + OPEN_OK),
    (
        _open,
        b"".join(
            [
                say(amqp.ChannelOpenOk(), 2),
                say(amqp.ChannelOpenOk(), 1),
                say(amqp.BasicQosOk(), 2),
                say(amqp.ConfirmSelectOk(), 1),
                say(amqp.BasicConsumeOk("c"), 2),
                deliver(1, channel=2),
                say(amqp.BasicConsumeOk("d"), 2),
            ]
        ),
    ),
    (
        _work,
        b"".join(
            [
                deliver(2, channel=2),
                deliver(3, b"x" * 300, channel=2, headers={"a": [1, None]}, message_id="m"),
                say(amqp.BasicDeliver("d", 4, True, "é", "k"), 2, b"y" * 300, frame_max=100),
                deliver(5, b"", consumer="unknown", channel=2),
                HEARTBEAT_FRAME,
                say(amqp.BasicReturn(312, "NO_ROUTE", "", "b"), 1, b"b"),
                say(amqp.BasicAck(2, True), 1),
                say(amqp.BasicGetOk(6, False, "", "q", 1), 2, b"got" * 50, frame_max=80),
                say(amqp.BasicAck(4), 1),
                say(amqp.BasicNack(3), 1),
                say(amqp.BasicGetEmpty(), 2),
                say(amqp.ConnectionBlocked("memory"), 0),
                say(amqp.BasicReturn(312, "NO_ROUTE", "", "key"), 1, b""),
                say(amqp.ConnectionUnblocked(), 0),
                say(amqp.ConnectionUpdateSecretOk(), 0),
                say(amqp.BasicCancel("c", True), 2),
                say(amqp.ChannelFlow(False), 1),
                deliver(7, b"z" * 9, channel=2),
                deliver(8, b"z" * 9, channel=2),
                say(amqp.BasicAck(0, True), 1),
            ]
        ),
    ),
    (
        _close_one,
        b"".join(
            [
                deliver(9, channel=2),
                say(amqp.ChannelCloseOk(), 1),
                say(amqp.ChannelClose(404, "NOT_FOUND - no queue 'gone' in vhost '/'", 50, 10), 2),
                deliver(10, channel=2),
            ]
        ),
    ),
    (_close, HEARTBEAT_FRAME + say(amqp.ChannelOpenOk(), 3) + CLOSE_OK),
]

#: What a server hears; it answers in between.
CLIENTS_WORDS = [
    PROTOCOL_HEADER + say(amqp.ConnectionStartOk({"product": "x"}, "PLAIN", b"\0g\0g", "en_US"), 0),
    say(amqp.ConnectionTuneOk(100, 4096, 60), 0) + say(amqp.ConnectionOpen("/"), 0),
    b"".join(
        [
            say(amqp.ChannelOpen(), 1),
            say(amqp.ChannelOpen(), 2),
            say(amqp.ConfirmSelect(), 1),
            say(amqp.BasicPublish("e", "k", True), 1, b"x" * 300, frame_max=100),
            say(amqp.QueueDeclare("q", arguments={"x-max-length": 10}), 2),
            say(amqp.BasicPublish("", "q"), 1, b""),
            say(amqp.BasicConsume("q", "c"), 2),
            HEARTBEAT_FRAME,
            say(amqp.BasicAck(1, True), 2),
            say(amqp.ChannelClose(200, "enough"), 1),
            say(amqp.ChannelOpen(), 1),
            say(amqp.BasicGet("q"), 1),
            say(amqp.ConnectionUpdateSecret("s", "r"), 0),
        ]
    ),
    say(amqp.ConnectionClose(200, "bye"), 0),
]


class Replay:
    """A client that goes through the rounds.

    Attributes:
        given: The tokens that it gave.
        happened: What it was told.
    """

    def __init__(self) -> None:
        self.core = fresh_client()
        self.given: list[str] = []
        self.happened: list[events.Event] = []

    def act(self, act: Act) -> None:
        """Let our side do something."""
        self.given += act(self.core)
        self.happened += self.core.take_events()

    def hear(self, data: bytes, cuts: list[int]) -> None:
        """Hear bytes, cut at these places."""
        self.happened += heard_in_pieces(self.core.receive_data, data, cuts)

    def lose(self) -> None:
        """Lose the transport."""
        self.happened += self.core.connection_lost()


def heard_in_pieces(
    hear: Callable[[bytes], list[events.Event]], data: bytes, cuts: list[int]
) -> list[events.Event]:
    """Feed bytes that are cut at these places."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    happened: list[events.Event] = []
    for start, stop in pairwise(places):
        happened += hear(data[start:stop])
    return happened


def served(words: list[bytes], cuts: list[int]) -> tuple[Connection, list[events.Event]]:
    """Let a server hear a client, and answer like a broker of no imagination between the rounds."""
    core = Connection(ServerHandshake())
    core.start()
    happened: list[events.Event] = []
    for data in words:
        heard = heard_in_pieces(core.receive_data, data, cuts)
        happened += heard
        for event in heard:
            if isinstance(event, events.Requested) and core.error is None:
                _answer(core, event)
    return core, happened + core.take_events()


def _answer(core: Connection, event: events.Requested) -> None:
    method = event.method
    if isinstance(method, amqp.ConnectionStartOk):
        core.send(amqp.ConnectionTune(2047, 131072, 60))
    elif isinstance(method, amqp.ConnectionOpen):
        core.send(amqp.ConnectionOpenOk())
    elif type(method) in ANSWERS and event.channel is None:
        core.send(ANSWERS[type(method)](method))
    elif type(method) in ANSWERS and event.channel is not None and event.channel.error is None:
        event.channel.send(ANSWERS[type(method)](method))
