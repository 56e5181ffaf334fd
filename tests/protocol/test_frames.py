from __future__ import annotations

from itertools import pairwise
from typing import Any

import pamqp.body
import pamqp.heartbeat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import frame as pika_frame

from tests.protocol.pair import frames_in
from txamqpx.errors import NotAMQP, ProtocolVersionMismatch
from txamqpx.protocol.frames import (
    BODY,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    FrameReader,
    Silent,
    body_frames,
    check_end,
    check_greeting,
    frame,
    header_frame,
)

kinds = st.sampled_from([METHOD, HEADER, BODY, HEARTBEAT])
channels = st.integers(0, 0xFFFF)

# --------------------------------------------------------------------------- writing


def test_a_frame_is_type_channel_length_payload_and_end() -> None:
    assert frame(METHOD, 0x0102, b"abc") == b"\x01\x01\x02\x00\x00\x00\x03abc\xce"


def test_a_heartbeat_is_of_type_8_and_empty() -> None:
    assert HEARTBEAT_FRAME == b"\x08\x00\x00\x00\x00\x00\x00\xce"


def test_a_content_header_has_class_weight_size_and_properties() -> None:
    assert header_frame(1, 60, b"\x00\x00", 2**40) == (
        b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xce"
    )


@pytest.mark.covers("T-FR-01")
def test_an_empty_body_takes_no_frame_at_all() -> None:
    assert body_frames(1, b"", 4096) == b""
    assert body_frames(1, b"", 0) == b""


@pytest.mark.covers("T-FR-01")
@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (1, [1]),
        (4087, [4087]),
        (4088, [4088]),
        (4089, [4088, 1]),
        (2 * 4088, [4088, 4088]),  # no empty one behind
        (2 * 4088 + 1, [4088, 4088, 1]),
    ],
)
def test_a_body_is_cut_so_that_each_frame_fits(size: int, pieces: list[int]) -> None:
    found = frames_in(body_frames(7, b"x" * size, 4096))
    assert [len(payload) for _, _, payload in found] == pieces
    assert {(kind, channel) for kind, channel, _ in found} == {(BODY, 7)}


@pytest.mark.covers("T-FR-01")
def test_without_a_limit_a_large_body_is_cut_all_the_same() -> None:
    found = frames_in(body_frames(1, b"x" * 300_000, 0))
    assert [len(payload) for _, _, payload in found] == [131064, 131064, 300_000 - 2 * 131064]


@given(st.binary(max_size=300), st.integers(9, 64))
def test_the_pieces_of_a_body_make_the_body(body: bytes, frame_max: int) -> None:
    found = frames_in(body_frames(1, body, frame_max))
    assert b"".join(payload for _, _, payload in found) == body
    assert all(0 < len(payload) <= frame_max - 8 for _, _, payload in found)


# --------------------------------------------------------------------------- agreement with others


@given(channels, st.binary(max_size=64))
def test_pika_and_pamqp_write_the_same_bodies(channel: int, body: bytes) -> None:
    ours = frame(BODY, channel, body)
    assert ours == pika_frame.Body(channel, body).marshal()
    assert ours == pamqp_frame(channel, pamqp.body.ContentBody(body))


def pamqp_frame(channel: int, value: Any) -> bytes:
    import pamqp.frame

    return pamqp.frame.marshal(value, channel)


def test_pika_and_pamqp_write_the_same_heartbeat() -> None:
    assert pika_frame.Heartbeat().marshal() == HEARTBEAT_FRAME
    assert pamqp.heartbeat.Heartbeat().marshal() == HEARTBEAT_FRAME


@given(channels, st.binary(min_size=1, max_size=64))
def test_pika_reads_our_frames(channel: int, body: bytes) -> None:
    data = frame(BODY, channel, body)
    consumed, found = pika_frame.decode_frame(data + b"more")
    assert (consumed, found.channel_number, found.fragment) == (len(data), channel, body)


# --------------------------------------------------------------------------- reading in pieces


def read(chunks: list[bytes]) -> list[tuple[int, int, bytes]]:
    """Read whole frames the way a connection does, however they are cut."""
    reader, found = FrameReader(), []
    for data in chunks:
        data = reader.prepend(data)
        offset = 0
        if reader.pending:
            offset = reader.fill(data)
            if not offset:
                continue
            found.append(reader.take())
        while len(data) - offset >= 7:
            end = offset + 7 + int.from_bytes(data[offset + 3 : offset + 7], "big")
            if end >= len(data):
                break
            found += frames_in(data[offset : end + 1])
            offset = end + 1
        if offset != len(data):
            reader.keep(data, offset)
    assert not reader.pending
    return found


@pytest.mark.covers("T-FR-04", "S48")
@given(
    st.lists(st.tuples(kinds, channels, st.binary(max_size=20)), min_size=1, max_size=5),
    st.lists(st.integers(0, 120)),
)
@example([(METHOD, 1, b"abc"), (BODY, 2, b"")], list(range(30)))
def test_frames_are_the_same_however_they_are_cut(
    frames: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame(*each) for each in frames)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:stop] for start, stop in pairwise(places)]
    assert read(chunks) == frames


def test_it_knows_how_much_it_keeps() -> None:
    reader, data = FrameReader(), frame(BODY, 1, b"abcdef")
    reader.keep(b"before" + data[:3], 6)
    assert reader.pending == 3
    assert reader.begun() == data[:3]
    rest = reader.prepend(data[3:9])
    assert rest == data[:9]
    assert reader.pending == 0
    reader.keep(rest, 0)
    assert reader.pending == 9
    assert reader.prepend(b"x") == b"x"
    assert reader.fill(data[9:11]) == 0
    assert reader.pending == 11
    assert reader.begun() == data[:11]
    assert reader.fill(data[11:] + b"more") == len(data) - 11
    assert reader.pending == 0
    assert reader.take() == (BODY, 1, b"abcdef")
    assert reader.begun() == b""


def test_what_cannot_be_understood_yet_is_held() -> None:
    reader = FrameReader()
    reader.hold(b"AMQ")
    assert reader.pending == 3
    assert reader.prepend(b"P") == b"AMQP"
    assert reader.pending == 0


@pytest.mark.covers("T-FR-06")
def test_a_frame_in_pieces_has_to_end_as_well() -> None:
    reader, data = FrameReader(), frame(BODY, 1, b"abcdef")
    reader.keep(data[:10], 0)
    with pytest.raises(Silent, match="ends in 0x00 instead of 0xce"):
        reader.fill(data[10:-1] + b"\0")


# --------------------------------------------------------------------------- the law


def test_the_last_octet_is_checked() -> None:
    check_end(0xCE)
    with pytest.raises(Silent, match="ends in 0xcd instead of 0xce") as caught:
        check_end(0xCD)
    assert caught.value.reply_code == 501


@pytest.mark.parametrize("data", [b"\x01", b"\x01\x00\x00", b"A", b"AM", b"AMQP", b"AMQP\0\0\x09"])
def test_a_greeting_that_may_still_become_one_is_let_through(data: bytes) -> None:
    check_greeting(data)


@pytest.mark.covers("T-HS-03")
@pytest.mark.parametrize("more", [b"", b"and more"])
def test_a_server_of_another_version_is_known_by_its_header(more: bytes) -> None:
    with pytest.raises(ProtocolVersionMismatch, match=r"it offers AMQP 1\.1\.8\.0") as caught:
        check_greeting(b"AMQP\x01\x01\x08\x00" + more)
    assert caught.value.server == b"AMQP\x01\x01\x08\x00"


@pytest.mark.covers("T-HS-03")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"\x16\x03\x01", "TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"HT", "HTTP"),
        (b"+OK ready", r"b'\+OK read'"),
        (b"AMPQ", "b'AMPQ'"),
        (b"\x00", r"b'\\x00'"),
    ],
)
def test_what_is_no_amqp_server_is_said_to_be_what_it_looks_like(data: bytes, words: str) -> None:
    with pytest.raises(NotAMQP, match=words):
        check_greeting(data)
