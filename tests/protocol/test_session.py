from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.pair import Pair, assert_all_back, ended_with, of_kind, publish, told, words_in
from tests.protocol.session import CLIENTS_WORDS, ROUNDS, Replay, served
from txamqpx.errors import AMQPError, ConnectionClosed
from txamqpx.protocol import events
from txamqpx.protocol.states import ConnectionState
from txamqpx.spec.amqp0_9_1 import BasicQos, ChannelClose, ConfirmSelect, QueueDeclare

few = settings(max_examples=30, deadline=None)


@cache
def told_at_once() -> tuple[list[str], bytes]:
    return told_when_cut([[]] * len(ROUNDS))


def told_when_cut(cuts: list[list[int]]) -> tuple[list[str], bytes]:
    replay, written = Replay(), b""
    for (act, data), places in zip(ROUNDS, cuts, strict=True):
        replay.act(act)
        replay.hear(data, places)
        written += b"".join(replay.core.outbox.take())
    assert_all_back(replay.given, replay.happened)
    assert type(ended_with(replay.happened)) is ConnectionClosed
    return told(replay.happened), written


def test_the_session_has_everything_in_it() -> None:
    happened, written = told_at_once()
    assert {line.partition("(")[0] for line in happened if "channel" not in line.partition("(")[0]} >= {
        "Tuned",
        "Opened",
        "Replied",
        "Unrouted",
        "Failed",
        "Delivered",
        "Returned",
        "ConsumerCancelled",
        "FlowChanged",
        "Blocked",
        "Unblocked",
        "ChannelEnded",
        "ConnectionEnded",
    }
    assert any("Nacked" in line for line in happened)
    assert any("Confirmed" in line for line in happened)
    assert len(words_in(written)) > 20


@pytest.mark.covers("T-FR-04", "S48")
def test_byte_by_byte_the_same_happens_and_the_same_is_written() -> None:
    assert told_when_cut([list(range(len(data))) for _, data in ROUNDS]) == told_at_once()


@pytest.mark.covers("T-FR-04", "S48")
@few
@given(st.tuples(*(st.lists(st.integers(0, len(data)), max_size=12) for _, data in ROUNDS)))
def test_however_the_bytes_are_cut_the_same_happens(cuts: tuple[list[int], ...]) -> None:
    assert told_when_cut(list(cuts)) == told_at_once()


@pytest.mark.covers("T-FR-04", "S48")
@few
@given(st.lists(st.integers(0, max(map(len, CLIENTS_WORDS))), max_size=30))
def test_however_the_clients_bytes_are_cut_the_server_is_told_the_same(cuts: list[int]) -> None:
    core, happened = served(CLIENTS_WORDS, cuts)
    _, expected = served(CLIENTS_WORDS, [])
    assert told(happened) == told(expected)
    assert type(ended_with(happened)) is ConnectionClosed
    assert core.state is ConnectionState.CLOSED


@pytest.mark.covers("T-FR-04", "S48")
def test_byte_by_byte_the_server_is_told_the_same() -> None:
    _, expected = served(CLIENTS_WORDS, [])
    _, happened = served(CLIENTS_WORDS, list(range(2000)))
    assert told(happened) == told(expected)


@pytest.mark.covers("T-PUB-08", "T-CLS-05")
@pytest.mark.parametrize("last", range(len(ROUNDS)))
def test_wherever_the_session_is_cut_off_every_token_comes_back(last: int) -> None:
    for size in range(len(ROUNDS[last][1])):
        replay = Replay()
        for act, data in ROUNDS[:last]:
            replay.act(act)
            replay.hear(data, [])
        replay.act(ROUNDS[last][0])
        replay.hear(ROUNDS[last][1][:size], [])
        replay.lose()
        assert_all_back(replay.given, replay.happened)
        assert isinstance(ended_with(replay.happened), AMQPError)
        assert not replay.core.channels


@pytest.mark.covers("T-PUB-08")
def test_a_session_that_is_cut_off_at_the_server_ends_there_too() -> None:
    for number, words in enumerate(CLIENTS_WORDS):
        for size in range(len(words)):
            core, happened = served([*CLIENTS_WORDS[:number], words[:size]], [])
            happened += core.connection_lost()
            assert isinstance(ended_with(happened), AMQPError)
            assert not core.channels


# --------------------------------------------------------------------------- two cores


def test_two_cores_talk_to_each_other() -> None:
    pair = Pair()
    pair.settle()
    channel = pair.client.open_channel("opened")
    channel.send(ConfirmSelect(), "selected")
    channel.send(QueueDeclare("x"), "declared")
    channel.send(BasicQos(0, 5), "qos")
    publish(channel, "unconfirmed", b"x" * 200_000)
    pair.settle()
    assert [event.token for event in of_kind(events.Replied, pair.happened)] == [
        "opened",
        "selected",
        "declared",
        "qos",
    ]
    (message,) = (
        event.content for event in of_kind(events.Requested, pair.requested) if event.content is not None
    )
    assert message.body == b"x" * 200_000
    assert pair.client.channels.keys() == pair.server.channels.keys() == {1}
    channel.send(ChannelClose(200, "enough"), "closed")
    pair.settle()
    assert pair.client.channels.keys() == pair.server.channels.keys() == set()
    pair.client.close("gone", 200, "bye")
    pair.settle()
    assert pair.client.state is pair.server.state is ConnectionState.CLOSED
    assert_all_back(["opened", "selected", "declared", "qos", "unconfirmed", "closed", "gone"], pair.happened)
