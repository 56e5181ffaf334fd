from __future__ import annotations

from collections import Counter

import pytest

from tests.publisher_walk import Walk, main

SEEDS = range(6)


@pytest.mark.covers(
    *(
        "T-PUB-02",
        "T-PUB-03",
        "T-PUB-04",
        "T-PUB-07",
        "T-PUB-08",
        "T-PUB-09",
        "T-PUB-10",
        "T-PUB-11",
        "T-PUB-13",
    ),
    *("T-BLK-01", "T-BLK-03"),
)
def test_every_publish_has_one_outcome_and_a_true_one_wherever_the_walk_goes() -> None:
    outcomes: Counter[str] = Counter()
    for seed in SEEDS:
        walk = Walk(seed)
        walk.run(6000)
        assert walk.steps == 6000
        outcomes += walk.outcomes
    # A walk that never comes here proves nothing.
    for outcome in (
        "Confirmed",
        "NoneType",
        "NoRoute",
        "Nacked",
        "NotFound",
        "AccessRefused",
        "PreconditionFailed",
        "NotPublished",
        "OutboxFull",
        "GateTimeout",
        "ConfirmTimeout",
        "OutcomeUnknown",
        "CancelledError",
        "messages moved",
        "flush",
        "ready",
        "came to rest",
        "ended: ConnectionClosed",
        "ended: ConnectionForced",
        "ended: ConnectionLost",
    ):
        assert outcomes[outcome], f"no walk has met {outcome!r}"


def test_a_walk_is_repeated_by_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        main(["--steps", "1000", "--seed", "7"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("seed 7\n")
