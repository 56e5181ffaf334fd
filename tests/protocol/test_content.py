from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txamqpx.errors import RemoteProtocolError
from txamqpx.protocol.content import MAX_EMPTY_BODIES, Assembly, whole_content
from txamqpx.protocol.frames import BODY, METHOD, body_frames, frame, header_frame

EMPTY = b"\0\0"
Found = list[tuple[bytes, bytes]]


def assembly(most: int = 1000) -> tuple[Assembly, Found]:
    found: Found = []
    return Assembly("basic.deliver", 60, most, lambda header, body: found.append((header, body))), found


def header(size: int, properties: bytes = EMPTY, class_id: int = 60, weight: int = 0) -> bytes:
    return class_id.to_bytes(2, "big") + weight.to_bytes(2, "big") + size.to_bytes(8, "big") + properties


def take_header(one: Assembly, payload: bytes) -> bool:
    return one.header(b"xx" + payload + b"yyy", 2, 2 + len(payload))


def take_body(one: Assembly, payload: bytes) -> bool:
    return one.body(b"xx" + payload + b"yyy", 2, 2 + len(payload))


def refused(call: Any, *arguments: Any) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        call(*arguments)
    assert caught.value.operation == "basic.deliver"
    return caught.value


# --------------------------------------------------------------------------- frame by frame


def test_a_content_is_complete_when_its_size_is_reached() -> None:
    one, found = assembly()
    assert not take_header(one, header(5, b"\x80\0\x01x"))
    assert not take_body(one, b"ab")
    assert found == []
    assert take_body(one, b"cde")
    assert found == [(b"\x80\0\x01x", b"abcde")]


@pytest.mark.covers("T-FR-01")
def test_a_content_without_a_body_is_complete_with_its_header() -> None:
    one, found = assembly()
    assert take_header(one, header(0))
    assert found == [(EMPTY, b"")]


def test_a_weight_is_tolerated() -> None:
    one, found = assembly()
    assert take_header(one, header(0, weight=7))
    assert len(found) == 1


@pytest.mark.covers("T-FR-06")
def test_a_second_header_is_refused() -> None:
    one, _ = assembly()
    take_header(one, header(5))
    assert refused(take_header, one, header(5)).reply_code == 505


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("size", range(14))
def test_a_header_that_is_cut_short_is_refused(size: int) -> None:
    one, _ = assembly()
    assert refused(take_header, one, header(5)[:size]).reply_code == 502


@pytest.mark.covers("T-FR-06")
def test_a_header_of_another_class_is_refused() -> None:
    one, _ = assembly()
    error = refused(take_header, one, header(5, class_id=50))
    assert error.reply_code == 501
    assert str(error) == "a content header of class 50 after a method of class 60"


@pytest.mark.covers("T-FR-06", "T-FR-07")
@pytest.mark.parametrize("size", [1001, 2**31, 2**63, 2**64 - 1])
def test_a_body_that_is_too_large_is_refused_by_its_header(size: int) -> None:
    one, _ = assembly(1000)
    error = refused(take_header, one, header(size))
    assert error.reply_code == 501
    assert str(error) == f"a body of {size} bytes is announced, at most 1000 are accepted"


def test_a_body_of_just_the_size_that_is_accepted_is_taken() -> None:
    one, found = assembly(1000)
    take_header(one, header(1000))
    assert take_body(one, b"x" * 1000)
    assert found == [(EMPTY, b"x" * 1000)]


@pytest.mark.covers("T-FR-06")
def test_a_body_longer_than_announced_is_refused_and_not_delivered() -> None:
    one, found = assembly()
    take_header(one, header(3))
    take_body(one, b"ab")
    assert refused(take_body, one, b"cd").reply_code == 505
    assert found == []


@pytest.mark.covers("T-FR-06")
def test_a_body_without_a_header_is_refused() -> None:
    one, _ = assembly()
    assert refused(take_body, one, b"ab").reply_code == 505


@pytest.mark.covers("T-FR-06")
def test_a_few_empty_bodies_are_tolerated_and_no_more() -> None:
    one, _ = assembly()
    take_header(one, header(3))
    for _ in range(MAX_EMPTY_BODIES):
        assert not take_body(one, b"")
    error = refused(take_body, one, b"")
    assert (error.reply_code, str(error)) == (505, "empty bodies without end")


# --------------------------------------------------------------------------- all at once

METHOD_FRAME = frame(METHOD, 7, b"the method")


def whole(data: bytes, *, limit: int = 4088, most: int = 1000) -> tuple[bytes, bytes, int] | None:
    return whole_content(data, len(METHOD_FRAME), 7, 60, limit, most)


def content(body: bytes = b"body", properties: bytes = EMPTY, channel: int = 7, class_id: int = 60) -> bytes:
    return (
        METHOD_FRAME + header_frame(channel, class_id, properties, len(body)) + body_frames(channel, body, 0)
    )


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 1000])
@pytest.mark.parametrize("behind", [b"", b"next"])
def test_a_content_that_lies_there_in_full_is_taken_in_one_step(body: bytes, behind: bytes) -> None:
    data = content(body, b"\x80\0\x01x")
    assert whole(data + behind) == (b"\x80\0\x01x", body, len(data))


@given(st.binary(max_size=40), st.data())
def test_what_is_not_there_in_full_is_left_alone(body: bytes, data: st.DataObject) -> None:
    full = content(body)
    cut = data.draw(st.integers(len(METHOD_FRAME), len(full) - 1))
    assert whole(full[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        content(channel=8),
        content(class_id=50),
        content(b"x" * 1001),
        METHOD_FRAME + frame(METHOD, 7, header(4)) + body_frames(7, b"body", 0),
        METHOD_FRAME + frame(2, 7, header(4, b"")) + body_frames(7, b"body", 0),
        METHOD_FRAME + header_frame(7, 60, EMPTY, 4) + body_frames(8, b"body", 0),
        METHOD_FRAME + header_frame(7, 60, EMPTY, 4) + frame(METHOD, 7, b"body"),
        METHOD_FRAME + header_frame(7, 60, EMPTY, 4) + body_frames(7, b"bo", 0) + body_frames(7, b"dy", 0),
        METHOD_FRAME + header_frame(7, 60, EMPTY, 4) + body_frames(7, b"body", 0)[:-1] + b"\0",
        METHOD_FRAME + header_frame(7, 60, EMPTY, 4)[:-1] + b"\0" + body_frames(7, b"body", 0),
        METHOD_FRAME + header_frame(7, 60, EMPTY, 3) + body_frames(7, b"body", 0) + b"\xce" * 9,
    ],
    ids=[
        "another channel",
        "another class",
        "too large",
        "no header",
        "a header that is cut short",
        "a body on another channel",
        "a method in between",
        "several bodies",
        "a body with a wrong end",
        "a header with a wrong end",
        "longer than announced",
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_assembly(data: bytes) -> None:
    assert whole(data + b"\0" * 64) is None


def test_frames_beyond_the_limit_are_left_to_the_connection() -> None:
    assert whole(content(b"x" * 200), limit=199) is None
    assert whole(content(b"x" * 200), limit=200) is not None
    assert whole(content(b"x", b"\0" * 100), limit=111) is None
    assert whole(content(b"x", b"\0" * 100), limit=112) is not None


def test_it_takes_bodies_and_nothing_else() -> None:
    assert whole(METHOD_FRAME + header_frame(7, 60, EMPTY, 4) + frame(BODY, 7, b"body")) is not None
