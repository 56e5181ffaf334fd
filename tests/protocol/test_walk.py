from __future__ import annotations

from collections import Counter

import pytest

from tests.protocol.walk import Walk, main

SEEDS = range(4)


@pytest.mark.covers(
    "T-PUB-02", "T-PUB-03", "T-PUB-04", "T-PUB-07", "T-PUB-08", "T-CH-05", "T-CH-08", "T-ACK-02"
)
def test_every_token_comes_back_once_with_the_right_outcome_wherever_the_walk_goes() -> None:
    outcomes: Counter[str] = Counter()
    for seed in SEEDS:
        walk = Walk(seed)
        walk.run(3000)
        assert walk.steps == 3000
        outcomes += walk.outcomes
    # A walk that never comes here proves nothing.
    for outcome in (
        "acked",
        "nacked",
        "returned",
        "declare answered",
        "declare failed: NotFound",
        "declare failed: NotProcessed",
        "confirmed failed: NotFound",
        "confirmed failed: NotPublished",
        "confirmed failed: OutcomeUnknown",
        "close answered",
        "both sides agree",
        "ended: ConnectionLost",
        "ended: RemoteProtocolError",
    ):
        assert outcomes[outcome], f"no walk has met {outcome!r}"


def test_a_walk_is_repeated_by_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        main(["--steps", "500", "--seed", "7"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("seed 7\n")
