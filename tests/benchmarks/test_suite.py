from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import peers, suite
from benchmarks.case import CASES, GROWTH_CASES, Case
from benchmarks.peers import Peer
from benchmarks.result import NOT_INSTALLED
from benchmarks.suite import WorkerFailed
from benchmarks.target import FalseClaim, Run, SinkTarget
from benchmarks.worker import Sample

TINY = 0.002  # 200 short messages, or 8 long ones, and 20 before them
OTHERS = [peer for peer in peers.PEERS if peer.name != "txamqpx"]
NAMES = [peer.name for peer in OTHERS[:2]]
ABSENT = Peer("absent", "absent", "no_such_client.at_all", "no-such-client")


class Nowhere:
    """A target that lets no worker run."""

    name = "sink"

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    @contextmanager
    def run(self, case: Case, size: int, count: int, warmup: int) -> Iterator[Run]:
        def check(sample: Sample) -> None:
            if self.failure:
                raise self.failure

        yield Run("amqp://", "q", "w", check)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_txamqpx_does_what_it_claims(case: Case) -> None:
    for cell in suite.measure([case], [peers.BY_NAME["txamqpx"]], [SinkTarget()], rounds=1, scale=TINY):
        assert cell.failure == ""
        assert cell.figure is not None


@pytest.mark.parametrize("peer", OTHERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("name", ["publish + confirm", "deliver + ack"])
def test_the_peers_do_what_they_claim(peer: Peer, name: str) -> None:
    cases = [case for case in CASES if case.name == name]
    (cell,) = suite.measure(cases, [peer], [SinkTarget()], sizes=[16], rounds=1, scale=TINY)
    assert cell.failure == ""
    assert cell.samples[0].count >= 40


def test_rounds_are_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(suite, "work", lambda module, words: Sample(1, 1.0, 1.0))
    case = Case("publish", "publish", sizes=(16, 1024))
    cells = suite.measure([case], OTHERS[:2], [Nowhere()], rounds=2, report=told.append)
    assert [line.rpartition(" ")[2] for line in told] == NAMES * 4
    assert [line.split(", ")[1] for line in told] == ["16 bytes"] * 4 + ["1024 bytes"] * 4
    assert [(cell.peer, cell.size, len(cell.samples)) for cell in cells] == [
        (NAMES[0], 16, 2),
        (NAMES[1], 16, 2),
        (NAMES[0], 1024, 2),
        (NAMES[1], 1024, 2),
    ]


def test_a_case_is_left_out_where_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "work", lambda module, words: Sample(1, 1.0, 1.0))
    broker_only = Case("x", "publish", targets=("rabbitmq",))
    short_only = Case("y", "publish", sizes=(16,))
    cells = suite.measure([broker_only, short_only], OTHERS[:1], [Nowhere()], rounds=1)
    assert [(cell.case, cell.peer) for cell in cells] == [("y", NAMES[0])]
    assert suite.measure([short_only], OTHERS[:1], [Nowhere()], sizes=[1024]) == []


def test_what_shall_cost_alike_is_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(suite, "work", lambda module, words: Sample(1, 1.0, 1.0))
    monkeypatch.setattr(suite, "SinkTarget", Nowhere)
    cells = suite.measure_growth(rounds=2, report=told.append)
    assert [line.split(": ")[1].split(", 16 bytes")[0] for line in told[:4]] == [
        "confirm, 10,000",
        "confirm, 1,000,000",
    ] * 2
    assert {(cell.case, cell.peer, len(cell.samples)) for cell in cells} == {
        (case.name, "txamqpx", 2) for case in GROWTH_CASES
    }


def test_a_peer_that_is_not_installed_is_a_cell_that_says_so() -> None:
    (cell,) = suite.measure([Case("publish", "publish", sizes=(16,))], [ABSENT], [Nowhere()])
    assert (cell.peer, cell.failure, cell.samples) == ("absent", NOT_INSTALLED, [])


def test_a_false_claim_ends_the_peers_row_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "work", lambda module, words: Sample(1, 1.0, 1.0))
    target = Nowhere(FalseClaim("acked: the client claims 2, its peer saw 1"))
    told: list[str] = []
    cells = suite.measure(
        [Case("publish", "publish", sizes=(16,))], OTHERS[:2], [target], rounds=3, report=told.append
    )
    assert [cell.failure for cell in cells] == ["acked: the client claims 2, its peer saw 1"] * 2
    assert len(told) == 2


def test_a_worker_that_fails_says_its_last_words() -> None:
    with pytest.raises(WorkerFailed, match="invalid choice: 'nobody'"):
        suite.work("benchmarks.worker", ["nobody", "publish", "--url", "amqp://"])


def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "TIMEOUT", 0.01)
    with pytest.raises(WorkerFailed, match="no end after"):
        suite.work("benchmarks.worker", ["--help"])


def test_layers_are_measured_with_everybody_who_can(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def work(module: str, words: list[str]) -> Sample:
        asked.append((words[0], words[1]))
        if words[0].startswith("core"):
            raise WorkerFailed("the core is broken")
        return Sample(1, 1.0, 1.0)

    monkeypatch.setattr(suite, "work", work)
    cells = suite.measure_layers(rounds=2)
    by_name = {(cell.case, cell.size, cell.peer): cell for cell in cells}
    assert asked[:4] == [("codec: encode basic.publish", peer) for peer in ("txamqpx", "pamqp")] * 2
    assert len(by_name["codec: encode basic.publish", 16, "pamqp"].samples) == 2
    assert by_name["core: publish", 65536, "txamqpx"].failure == "the core is broken"
    assert asked.count(("core: publish", "txamqpx")) == 2  # once for each size
