from __future__ import annotations

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from txamqpx.errors import RemoteProtocolError
from txamqpx.protocol.tuning import FRAME_MIN_SIZE, INITIAL_FRAME_MAX, Tuning, negotiate

DEFAULTS = Tuning(channel_max=2047, frame_max=131072, heartbeat=60)

limits = st.sampled_from([0, FRAME_MIN_SIZE, 8192]) | st.integers(FRAME_MIN_SIZE, 0xFFFFFFFF)
shorts = st.integers(0, 0xFFFF)
tunings = st.builds(Tuning, channel_max=shorts, frame_max=limits, heartbeat=shorts)


@pytest.mark.covers("T-HS-02")
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (DEFAULTS, DEFAULTS, DEFAULTS),
        (DEFAULTS, Tuning(10, 8192, 5), Tuning(10, 8192, 5)),
        (Tuning(10, 8192, 5), DEFAULTS, Tuning(10, 8192, 5)),
        (DEFAULTS, Tuning(0, 0, 0), DEFAULTS),
        (Tuning(0, 0, 0), DEFAULTS, DEFAULTS),
        (Tuning(0, 0, 0), Tuning(0, 0, 0), Tuning(0xFFFF, 0, 0)),
        (Tuning(0, 8192, 60), Tuning(7, 0, 10), Tuning(7, 8192, 10)),
    ],
)
def test_each_number_is_the_smaller_one_and_zero_is_no_limit(
    ours: Tuning, theirs: Tuning, agreed: Tuning
) -> None:
    assert negotiate(ours, theirs) == agreed


@pytest.mark.covers("T-HS-02")
@given(tunings, tunings)
def test_nobody_gets_more_than_either_side_allows(ours: Tuning, theirs: Tuning) -> None:
    agreed = negotiate(ours, theirs)
    for name in ("channel_max", "frame_max", "heartbeat"):
        allowed = [getattr(side, name) for side in (ours, theirs) if getattr(side, name)]
        assert getattr(agreed, name) == min(allowed, default=0xFFFF if name == "channel_max" else 0)
    assert negotiate(theirs, ours) == agreed


@pytest.mark.parametrize("frame_max", [1, 8, 4095])
def test_frames_smaller_than_the_specification_allows_are_refused(frame_max: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"frame_max of {frame_max}, the least is 4096") as caught:
        negotiate(DEFAULTS, Tuning(0, frame_max, 0))
    assert (caught.value.reply_code, caught.value.operation) == (530, "connection.tune")


@pytest.mark.covers("T-HS-02")
def test_what_was_agreed_cannot_be_written_to() -> None:
    with pytest.raises(FrozenInstanceError):
        DEFAULTS.heartbeat = 1  # type: ignore[misc]


def test_the_first_frames_may_be_as_large_as_rabbitmq_lets_them() -> None:
    assert INITIAL_FRAME_MAX == 8192
