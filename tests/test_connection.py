from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.talk import nothing_is_left, opened
from txamqpx.channel import Channel
from txamqpx.connection import FAREWELL, AMQPProtocol
from txamqpx.errors import (
    ChannelClosed,
    ConnectionForced,
    ConnectionLost,
    EncodeError,
    NoFreeChannels,
    PreconditionFailed,
    RemoteProtocolError,
    RPCTimeout,
    VhostAccessDenied,
)
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicConsume,
    BasicConsumeOk,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelectOk,
    ConnectionClose,
    ConnectionOpenOk,
    ConnectionTune,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
)
from txamqpx.testing import Watched, failure_of, is_pending, scripted, success_of


@pytest.mark.covers("T-CH-02")
def test_there_are_as_many_channels_as_were_negotiated() -> None:
    peer = scripted()
    peer.open(channel_max=3)
    channels = [peer.open_channel() for _ in range(3)]
    assert [channel.number for channel in channels] == [1, 2, 3]
    error = failure_of(peer.protocol.open_channel(), NoFreeChannels)
    assert str(error) == "all 3 channels are in use"
    peer.expect_nothing()
    channels[1].close()
    peer.expect(ChannelClose)
    assert peer.open_channel().number == 2


@pytest.mark.covers("T-CH-06")
@pytest.mark.parametrize("way", ["cancelled", "timed out"])
def test_a_channel_that_nobody_waits_for_any_more_is_closed_again(way: str) -> None:
    peer = opened(rpc_timeout=5.0, close_timeout=2.0)
    opening = peer.protocol.open_channel()
    peer.expect(ChannelOpen)
    if way == "cancelled":
        opening.cancel()
        failure_of(opening, CancelledError)
    else:
        peer.mute = True
        peer.advance(5.0)
        assert failure_of(opening, RPCTimeout).operation == "channel.open"
        peer.mute = False
    peer.expect(ChannelClose, 1)
    peer.dataReceived(b"")
    peer.wire.pump()
    assert peer.protocol.core.channels == {}
    peer.expect_nothing()


@pytest.mark.covers("T-CH-06")
def test_a_late_open_ok_for_a_channel_that_was_given_up_harms_nobody() -> None:
    peer = opened()
    opening = peer.protocol.open_channel()
    peer.expect(ChannelOpen)
    with peer.wire.held():
        peer.send(1, ChannelOpenOk())
        opening.cancel()
    failure_of(opening, CancelledError)
    peer.expect(ChannelClose, 1)
    assert peer.protocol.core.channels == {}
    assert peer.protocol.is_open


def test_a_channel_that_the_broker_refuses_to_open() -> None:
    peer = opened()
    opening = peer.protocol.open_channel()
    peer.expect(ChannelOpen)
    peer.send(1, ChannelClose(406, "no", 20, 10))
    assert failure_of(opening, PreconditionFailed).operation == "channel.open"
    peer.heard.clear()
    assert peer.protocol.core.channels == {}


def test_a_call_in_a_channel_that_closes_itself_while_it_opens() -> None:
    peer = opened()
    channel = peer.protocol.new_channel()
    opening, declared, closing = channel.when_open(), channel.queue_declare("q"), channel.close()
    peer.wire.pump()
    failure_of(opening, ChannelClosed)
    failure_of(declared, ChannelClosed)
    assert success_of(closing) is None


@pytest.mark.covers("T02", "S42")
def test_after_the_end_every_call_fails_at_once_and_sends_nothing() -> None:
    peer = opened()
    channel = peer.open_channel()
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED - shutdown", 0, 0))
    peer.heard.clear()
    calls: list[Deferred[Any]] = [
        peer.protocol.open_channel(),
        peer.protocol.update_secret("s", "r"),
        channel.queue_declare("q"),
        channel.basic_publish(b""),
    ]
    errors = [failure_of(call, ConnectionForced) for call in calls]
    assert len({id(error) for error in errors}) == len(errors)
    assert success_of(channel.close()) is None
    assert success_of(peer.protocol.close()) is None
    peer.protocol.pause_reading()
    peer.protocol.resume_reading()
    peer.protocol.abort()
    peer.expect_nothing()


@pytest.mark.covers("T12")
def test_fresh_credentials_for_a_connection_that_is_open() -> None:
    peer = opened()
    answers = [peer.protocol.update_secret("one", "expiry"), peer.protocol.update_secret("two", "expiry")]
    answers[0].cancel()
    failure_of(answers[0], CancelledError)
    peer.expect(ConnectionUpdateSecret("one", "expiry"), 0)
    peer.expect(ConnectionUpdateSecret("two", "expiry"), 0)
    peer.send(0, ConnectionUpdateSecretOk())
    assert is_pending(answers[1])
    peer.send(0, ConnectionUpdateSecretOk())
    assert success_of(answers[1]) == ConnectionUpdateSecretOk()
    for secret, reason in (("s", "x" * 256), ("x" * 131072, "r")):
        with pytest.raises(EncodeError):
            peer.protocol.update_secret(secret, reason)
    peer.expect_nothing()


@pytest.mark.covers("S48", "T-FR-04")
@pytest.mark.parametrize("chunk", [1, 2, 7, 8, 9, 64])
def test_the_size_of_the_pieces_that_come_does_not_matter(chunk: int) -> None:
    peer = scripted()
    peer.wire.chunk = chunk
    peer.open()
    channel: Channel = peer.open_channel()
    got: list[tuple[bytes, str]] = []
    channel.basic_consume("q", lambda one: got.append((one.body, one.routing_key)), consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    for number, body in enumerate((b"", b"x", b"y" * 500), 1):
        peer.deliver(1, "c", number, body)
    assert got == [(b"", "q"), (b"x", "q"), (b"y" * 500, "q")]


def test_the_size_of_reads_follows_what_they_bring() -> None:
    peer = opened()
    channel = peer.open_channel()
    channel.basic_consume("q", lambda delivery: None, consumer_tag="c", no_ack=True)
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    tags = iter(range(1, 100_000))

    def bring(size: int, count: int) -> int:
        with peer.wire.held():
            for _ in range(count):
                peer.deliver(1, "c", next(tags), b"x" * size)
            data = bytes(peer.wire.server.unsent)
            peer.wire.server.unsent.clear()
        peer.protocol.dataReceived(data)
        return int(getattr(peer.protocol.transport, "bufferSize", 0))

    assert bring(100_000, 1) == 0  # no socket: nothing to set
    peer.wire.client.bufferSize = 0  # type: ignore[attr-defined]  # now it is one
    sizes = [bring(300_000, 1), bring(300_000, 1), bring(1000, 300), bring(100, 4000), bring(10, 10)]
    assert sizes == [128 * 1024, 128 * 1024, 128 * 1024, 64 * 1024, 64 * 1024]


def test_what_callbacks_write_while_we_read_goes_out_in_one_piece_and_at_once() -> None:
    peer = opened()
    channel = peer.open_channel()
    channel.basic_consume("q", lambda delivery: delivery.ack(), consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    before = len(peer.clock.getDelayedCalls())
    with peer.wire.held():
        for tag in range(1, 11):
            peer.deliver(1, "c", tag)
        data = bytes(peer.wire.server.unsent)
        peer.wire.server.unsent.clear()
        peer.protocol.dataReceived(data)
        assert len(peer.wire.client.unsent) == 10 * 21
        assert len(peer.clock.getDelayedCalls()) == before


@pytest.mark.covers("T28")
def test_a_frame_larger_than_was_agreed_ends_the_connection() -> None:
    peer = scripted()
    peer.open(frame_max=10_000)
    declared = peer.open_channel().queue_declare("q")
    peer.wire.pump()
    peer.heard.clear()
    peer.write(b"\x01\x00\x01\x00\x00\x27\x09")
    close = peer.expect(ConnectionClose).method
    assert close.reply_code == 501
    error = failure_of(declared, ConnectionLost)
    assert type(error.__cause__) is RemoteProtocolError
    peer.advance(FAREWELL)
    nothing_is_left(peer)


def test_each_who_has_paused_has_to_resume() -> None:
    peer = opened()
    client, protocol = peer.wire.client, peer.protocol
    protocol.resume_reading("one")
    assert client.reading
    protocol.pause_reading("one")
    protocol.pause_reading("one")
    protocol.pause_reading("two")
    protocol.resume_reading("one")
    protocol.resume_reading("one")
    reading = [client.reading]
    protocol.resume_reading("two")
    reading.append(client.reading)
    assert reading == [False, True]


def test_closing_reads_again() -> None:
    peer = opened()
    peer.protocol.pause_reading()
    peer.protocol.pause_reading("another")
    closing = Watched(peer.protocol.close())
    peer.protocol.pause_reading("too late")
    peer.wire.pump()
    assert closing.value is None
    assert peer.gone


@pytest.mark.covers("T-HS-06")
@pytest.mark.parametrize(("virtual_host", "notes"), [("", 1), ("shop", 0)])
def test_a_virtual_host_without_a_name_is_most_often_a_slash_too_many(virtual_host: str, notes: int) -> None:
    peer = scripted(virtual_host=virtual_host)
    opening = peer.protocol.when_open()
    peer.tune()
    peer.send(0, ConnectionClose(530, f"NOT_ALLOWED - vhost {virtual_host} not found", 10, 40))
    error = failure_of(opening, VhostAccessDenied)
    assert len(getattr(error, "__notes__", [])) == notes


def test_blocks_close_what_they_use() -> None:
    peer = opened()

    async def use() -> str:
        async with peer.protocol as protocol, await protocol.open_channel() as channel:
            assert protocol is peer.protocol
            return repr(channel)

    used = Watched(Deferred.fromCoroutine(use()))
    peer.expect(ChannelOpen)
    peer.send(1, ChannelOpenOk())
    assert used.value.startswith("<Channel 1")
    assert peer.gone
    assert peer.protocol.core.channels == {}


def test_the_first_confirm_takes_four_round_trips_after_that_of_tcp() -> None:
    # Header and start; start-ok and tune; tune-ok with open; and a channel, its mode and the first publish
    # together, as nothing has to wait for the answer to what comes before it.
    peer = scripted()
    confirmed: list[object] = []

    def begin(protocol: AMQPProtocol) -> None:
        channel = protocol.new_channel()
        channel.confirm_select()
        channel.basic_publish(b"first", routing_key="q").addCallback(confirmed.append)

    peer.protocol.when_open().addCallback(begin)
    round_trips = 0
    with peer.wire.held():
        while not confirmed:
            peer.clock.advance(0)
            peer.wire.client.carry()
            round_trips += 1
            if round_trips == 2:
                peer.core.send(ConnectionTune(2047, 131072, 0))
            elif round_trips == 3:
                peer.core.send(ConnectionOpenOk())
            elif round_trips == 4:
                for method in (ChannelOpenOk(), ConfirmSelectOk(), BasicAck(1)):
                    peer.core.channels[1].send(method)
            peer.wire.server.writeSequence(peer.core.outbox.take())
            peer.wire.server.carry()
            assert round_trips < 10
    assert round_trips == 4
