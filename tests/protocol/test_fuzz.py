from __future__ import annotations

import pytest

from tests.protocol.fuzz import Fuzz, main


@pytest.mark.covers("T-FR-06")
@pytest.mark.parametrize("seed", range(3))
def test_nonsense_ends_a_connection_once_and_gives_every_token_back(seed: int) -> None:
    fuzz = Fuzz(seed)
    for _ in range(200):
        fuzz.session()
        fuzz.noise()
    assert {kind.partition(":")[0] for kind in fuzz.endings} == {"client", "server", "noise"}
    assert fuzz.endings["client: RemoteProtocolError"]
    assert fuzz.endings["client: Silent"]


@pytest.mark.covers("T-FR-06")
def test_nonsense_is_a_value_or_a_decode_error() -> None:
    fuzz = Fuzz(0)
    for _ in range(3000):
        fuzz.value()


def test_a_mutant_differs_sooner_or_later() -> None:
    fuzz = Fuzz(0)
    assert len({fuzz.mutated(b"0123456789") for _ in range(50)}) > 20


def test_a_run_is_repeated_by_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        main(["--sessions", "20", "--values", "20", "--seed", "7"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("seed 7\n")
