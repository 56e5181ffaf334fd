"""What a refusal says."""

from __future__ import annotations

import pytest

from txamqpx.broker.refusal import Refusal


@pytest.mark.parametrize(
    ("code", "text", "whole", "hard"),
    [
        (404, "no queue 'q'", "NOT_FOUND - no queue 'q'", False),
        (530, "no", "NOT_ALLOWED - no", True),
        (541, "", "INTERNAL_ERROR", True),
    ],
)
def test_the_code_has_a_name_and_tells_what_has_to_go(code: int, text: str, whole: str, hard: bool) -> None:
    refusal = Refusal(code, text)
    assert (refusal.code, refusal.text, refusal.hard) == (code, whole, hard)
    assert Refusal(code, text, hard=not hard).hard is not hard


def test_a_long_text_is_cut() -> None:
    longest = Refusal(404, "x" * (255 - len("NOT_FOUND - ")))
    assert len(longest.text) == 255
    assert not longest.text.endswith("...")
    cut = Refusal(404, "x" * 250)
    assert len(cut.text) == 255
    assert cut.text.endswith("x...")
    assert len(Refusal(404, "é" * 250).text.encode()) <= 255
