from __future__ import annotations

import pytest

from txamqpx.errors import ConnectionForced, LocalProtocolError, NotFound, RPCTimeout
from txamqpx.message import Delivery
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicConsumeOk,
    BasicProperties,
    BasicPublish,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConfirmSelect,
    ConnectionClose,
    ConnectionStartOk,
    QueueDeclare,
    QueueDeclareOk,
    QueuePurge,
)
from txamqpx.testing import ScriptedPeer, Watched, failure_of, is_pending, scripted, success_of


@pytest.fixture
def peer() -> ScriptedPeer:
    made = scripted(rpc_timeout=5.0)
    made.open()
    return made


def test_a_script_is_followed_word_by_word(peer: ScriptedPeer) -> None:
    channel = peer.open_channel()
    declared = channel.queue_declare("q", durable=True)
    heard = peer.expect(QueueDeclare(queue="q", durable=True))
    assert heard.channel == channel.number == 1
    assert is_pending(declared)
    peer.send(1, QueueDeclareOk("q", 2, 0))
    assert success_of(declared).message_count == 2
    peer.expect_nothing()


def test_a_client_on_it_is_what_a_program_has(peer: ScriptedPeer) -> None:
    assert peer.client is peer.client
    declared = peer.client.queue_declare("q")
    number = peer.expect(ChannelOpen).channel
    peer.send(number, ChannelOpenOk())
    assert peer.expect(QueueDeclare, number).method.queue == "q"
    peer.send(number, QueueDeclareOk("q", 0, 0))
    assert success_of(declared).queue == "q"


def test_a_message_comes_with_all_that_is_in_it(peer: ScriptedPeer) -> None:
    channel = peer.open_channel(confirm=True)
    channel.basic_publish(b"body", routing_key="q", properties=BasicProperties(type="t"))
    heard = peer.expect(BasicPublish)
    assert (heard.body, heard.properties) == (b"body", BasicProperties(type="t"))
    assert heard.method.routing_key == "q"


def test_a_message_is_delivered_with_all_that_is_in_it(peer: ScriptedPeer) -> None:
    channel = peer.open_channel()
    got: list[Delivery] = []
    channel.basic_consume("q", got.append, consumer_tag="c")
    peer.expect(BasicConsume)
    peer.send(1, BasicConsumeOk("c"))
    peer.deliver(
        1, "c", 1, b"body", BasicProperties(type="t"), exchange="e", routing_key="k", redelivered=True
    )
    (delivery,) = got
    assert (delivery.body, delivery.properties.type) == (b"body", "t")
    assert (delivery.exchange, delivery.routing_key, delivery.redelivered) == ("e", "k", True)


def test_another_word_than_the_expected_one_fails(peer: ScriptedPeer) -> None:
    channel = peer.open_channel()
    channel.queue_declare("q")
    channel.queue_declare("q")
    channel.queue_declare("q")
    with pytest.raises(
        AssertionError, match=r"^the client has sent QueueDeclare\(queue='q'.*\) where QueuePurge was exp"
    ):
        peer.expect(QueuePurge)
    with pytest.raises(AssertionError, match=r"was expected$"):
        peer.expect(QueueDeclare(queue="p"))
    with pytest.raises(AssertionError, match=r"came on channel 1, not 2$"):
        peer.expect(QueueDeclare, 2)
    with pytest.raises(
        AssertionError, match=r"^the client has sent nothing where QueueDeclare was expected$"
    ):
        peer.expect(QueueDeclare)


def test_a_word_that_nobody_expected_fails(peer: ScriptedPeer) -> None:
    peer.open_channel().queue_declare("q")
    with pytest.raises(AssertionError, match=r"^the client has sent \[Heard\(channel=1, method=QueueDeclare"):
        peer.expect_nothing()


def test_a_script_that_breaks_the_protocol_is_refused(peer: ScriptedPeer) -> None:
    peer.open_channel()
    with pytest.raises(LocalProtocolError):
        peer.send(1, ChannelOpenOk())


def test_a_client_that_breaks_the_protocol_fails_the_test(peer: ScriptedPeer) -> None:
    transport = peer.protocol.transport
    assert transport is not None
    transport.write(frame(METHOD, 9, QueueDeclare(queue="q").encode()))
    with pytest.raises(AssertionError, match=r"^the client broke the protocol: "):
        peer.expect_nothing()
    with pytest.raises(AssertionError, match=r"^the client broke the protocol: "):
        peer.expect(QueueDeclare)


def test_bytes_go_as_they_are(peer: ScriptedPeer) -> None:
    closed = Watched(peer.protocol.when_closed())
    peer.write(b"\x09\x00\x00\x00\x00\x00\x00\xce")
    assert not closed.pending
    assert peer.gone


def test_a_channel_is_closed_over_a_call(peer: ScriptedPeer) -> None:
    declared = peer.open_channel().queue_declare("q", passive=True)
    peer.expect(QueueDeclare)
    index = QueueDeclare.index
    peer.send(1, ChannelClose(404, "NOT_FOUND - no queue 'q' in vhost '/'", index >> 16, index & 0xFFFF))
    assert failure_of(declared, NotFound).queue == "q"


def test_a_connection_is_closed_with_all_its_channels(peer: ScriptedPeer) -> None:
    declared = peer.open_channel().queue_declare("q")
    peer.expect(QueueDeclare)
    peer.send(0, ConnectionClose(320, "CONNECTION_FORCED - bye", 0, 0))
    failure_of(declared)
    error = success_of(peer.protocol.when_closed())
    assert type(error) is ConnectionForced


def test_while_it_is_mute_it_answers_nothing_by_itself(peer: ScriptedPeer) -> None:
    peer.mute = True
    closing = Watched(peer.protocol.close())
    peer.expect(ConnectionClose)
    assert closing.pending
    peer.hang_up()
    assert not closing.pending


def test_time_passes_when_it_is_told_to() -> None:
    peer = scripted(heartbeat=10, rpc_timeout=5.0)
    peer.open(heartbeat=10)
    declared = Watched(peer.open_channel().queue_declare("q"))
    peer.expect(QueueDeclare)
    peer.advance(4.9)
    assert declared.pending
    peer.beat()
    peer.advance(0.1)
    declared.error(RPCTimeout)
    assert peer.beats == [5.0]


def test_who_hangs_up_is_gone(peer: ScriptedPeer) -> None:
    assert not peer.gone
    peer.hang_up()
    assert peer.gone


def test_a_login_is_what_the_script_makes_of_it() -> None:
    peer = scripted(mechanisms="AMQPLAIN", username="u")
    heard = peer.expect(ConnectionStartOk)
    assert heard.method.mechanism == "AMQPLAIN"
    assert heard.body is None


def test_what_comes_in_pieces_is_put_together() -> None:
    peer = scripted()
    peer.open()
    channel = peer.open_channel()
    channel.basic_publish(b"b" * 300_000, routing_key="q")
    peer.clock.advance(0)
    end = peer.wire.client
    assert len(end.unsent) > 300_000
    while end.unsent:
        end.carry(1000)
    assert len(peer.expect(BasicPublish).body or b"") == 300_000
    channel.confirm_select()
    peer.expect(ConfirmSelect)
