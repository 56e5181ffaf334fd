"""Where frames are, and places among them, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txamqpx.broker.stream import FrameScanner, Place, Seen, Stream, method_index
from txamqpx.protocol.frames import BODY, HEARTBEAT_FRAME, METHOD, frame
from txamqpx.spec.amqp0_9_1 import BasicAck, ChannelOpen

GREETING = b"AMQP\x00\x00\x09\x01"
OPEN = frame(METHOD, 1, ChannelOpen().encode())
ACK = frame(METHOD, 1, BasicAck(7).encode())
BODY_FRAME = frame(BODY, 1, b"0123456789")
FRAMES = [OPEN, HEARTBEAT_FRAME, ACK, BODY_FRAME, ACK]
STREAM = GREETING + b"".join(FRAMES)

STARTS = [8]
for one in FRAMES:
    STARTS.append(STARTS[-1] + len(one))

cuts = st.lists(st.integers(0, len(STREAM)), max_size=6).map(lambda at: sorted({0, *at, len(STREAM)}))


def pieces(at: list[int]) -> list[bytes]:
    return [STREAM[start:end] for start, end in pairwise(at)]


def test_a_method_is_known_by_its_name() -> None:
    assert method_index("basic.ack") == BasicAck.index
    with pytest.raises(ValueError, match="no method 'BasicAck'"):
        method_index("BasicAck")


@given(cuts)
def test_frames_are_found_however_they_are_cut(at: list[int]) -> None:
    scanner = FrameScanner()
    found = [seen for piece in pieces(at) for seen in scanner.feed(piece)]
    methods = [ChannelOpen.index, 0, BasicAck.index, 0, BasicAck.index]
    assert found == [
        Seen(start, len(one), method) for start, one, method in zip(STARTS, FRAMES, methods, strict=False)
    ]
    assert scanner.seen == len(STREAM)
    assert scanner.unclear == 0


def test_who_begins_in_a_frame_knows_where_the_next_one_is() -> None:
    for cut in range(8, len(STREAM)):
        begin = max(start for start in STARTS if start <= cut)
        scanner = FrameScanner(STREAM[begin:cut])
        after = [begin + seen.start for seen in scanner.feed(STREAM[cut:])]
        assert after == [start for start in STARTS[:-1] if start >= cut]


@given(cuts, st.sampled_from(range(1, 6)))
def test_a_place_at_a_frame_is_found_however_it_is_cut(at: list[int], number: int) -> None:
    passed, rest = split(at, Place(number, 0, 0))
    assert passed == STREAM[: STARTS[number - 1]]
    assert passed + rest == STREAM


@given(cuts)
def test_a_place_at_a_method_is_found_however_it_is_cut(at: list[int]) -> None:
    assert split(at, Place(2, BasicAck.index, 3))[0] == STREAM[: STARTS[4] + 3]
    assert split(at, Place(1, BasicAck.index, -1))[0] == STREAM[: STARTS[3] - 1]


@given(cuts, st.integers(0, len(STREAM) - 1))
def test_a_place_at_a_byte_is_found_however_it_is_cut(at: list[int], byte: int) -> None:
    passed, rest = split(at, Place(None, 0, byte))
    assert passed == STREAM[:byte]
    assert passed + rest == STREAM


def split(at: list[int], place: Place) -> tuple[bytes, bytes]:
    """Return what comes through before a place, and the rest of it."""
    stream, passed = Stream(), b""
    stream.add(place)
    for number, piece in enumerate(pieces(at)):
        data, found = stream.feed(piece)
        if found:
            ((offset, there),) = found
            assert there is place
            assert stream.places == []
            return passed + data[:offset], data[offset:] + stream.feed(b"".join(pieces(at)[number + 1 :]))[0]
        passed += data
    raise AssertionError("it was not found")


def test_a_place_that_does_not_come_holds_nothing_up_but_an_unclear_beginning() -> None:
    stream = Stream()
    place = Place(3, 0, 0)
    stream.add(place)
    assert stream.feed(OPEN + ACK[:10]) == (OPEN, [])
    assert stream.feed(ACK[10:]) == (ACK, [])
    assert not stream.idle
    stream.places.remove(place)
    assert stream.idle


def test_what_was_held_back_goes_on_when_nothing_is_to_happen_any_more() -> None:
    stream = Stream()
    place = Place(3, 0, 0)
    stream.add(place)
    stream.feed(ACK[:5])
    stream.places.remove(place)
    assert not stream.idle
    assert stream.feed(ACK[5:]) == (ACK, [])
    assert stream.idle


def test_several_places_come_in_their_order() -> None:
    stream = Stream()
    late, early, byte = Place(3, 0, 0), Place(1, 0, 2), Place(None, 0, len(OPEN))
    for place in (late, early, byte):
        stream.add(place)
    assert stream.feed(OPEN + HEARTBEAT_FRAME + ACK) == (
        OPEN + HEARTBEAT_FRAME + ACK,
        [(2, early), (len(OPEN), byte), (len(OPEN + HEARTBEAT_FRAME), late)],
    )


def test_a_place_counts_from_when_it_is_added() -> None:
    stream = Stream(OPEN[:9])
    first = Place(1, 0, 0)
    stream.add(first)
    stream.feed(OPEN[9:])
    second = Place(None, 0, 3)
    stream.add(second)
    assert stream.feed(ACK + ACK) == (ACK + ACK, [(0, first), (3, second)])
