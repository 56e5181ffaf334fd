import os
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.cli import main
from benchmarks.result import read
from benchmarks.worker import Sample
from tests.benchmarks.test_result import cell, result


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every sample take no time."""
    monkeypatch.setattr(suite, "sample", lambda *arguments: Sample(1000, 0.001, 0.001))
    monkeypatch.setattr(suite, "work", lambda module, words: Sample(1000, 0.001, 0.001))


@pytest.mark.usefixtures("instant")
def test_what_is_measured_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "result.json"
    words = ["--targets", "sink", "--rounds", "2", "--scale", "0.001", "--json", str(written)]
    assert main(words) == 0
    printed = capsys.readouterr()
    taken = read(written)
    assert taken.rounds == 2
    assert {cell.target for cell in taken.cells} == {"sink", "layers"}
    assert taken.sink.keys() == {"publish", "confirm", "deliver"}
    for expected in (
        "publish + confirm",
        "codec: encode basic.publish",
        "confirm, 1,000,000",
        "the sink, messages",
    ):
        assert expected in printed.out
    assert "sink: publish, 16 bytes, round 2 of 2: txamqpx" in printed.err


@pytest.mark.usefixtures("instant")
def test_a_part_can_be_measured_alone(tmp_path: Path) -> None:
    written = tmp_path / "result.json"
    choice = [
        "--parts",
        "peers",
        "--peers",
        "txamqpx,aio-pika",
        "--cases",
        "deliver*;one*",
        "--sizes",
        "16,1024",
    ]
    assert main(["run", "--targets", "sink", *choice, "--scale", "0.001", "--json", str(written)]) == 0
    assert {(cell.case, cell.size, cell.peer) for cell in read(written).cells} == {
        (case, size, peer)
        for case, size in [
            ("deliver + ack", 16),
            ("deliver + ack", 1024),
            ("deliver, auto-ack", 16),
            ("deliver, auto-ack", 1024),
            ("one at a time", 16),
        ]
        for peer in ("txamqpx", "aio-pika")
    }


def test_a_failure_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> Sample:
        raise suite.WorkerFailed("it ended with 3")

    monkeypatch.setattr(suite, "sample", fail)
    assert main(["--parts", "peers", "--targets", "sink", "--scale", "0.001", "--cases", "publish"]) == 1
    assert "it ended with 3" in capsys.readouterr().out


def test_two_results_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result(cell("txamqpx", 0.010), cell("pika-twisted", 0.02)).write(tmp_path / "a.json")
    result(cell("txamqpx", 0.005), cell("pika-twisted", 0.02)).write(tmp_path / "b.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert "-50.0 %" in capsys.readouterr().out


def test_a_result_is_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result(cell("txamqpx", 0.010), cell("pika-twisted", 0.04)).write(tmp_path / "a.json")
    assert main(["show", str(tmp_path / "a.json")]) == 0
    assert "4.00x of 3x, met by 33 %" in capsys.readouterr().out


def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert main(["show", str(tmp_path / "a.json")]) == os.EX_UNAVAILABLE
    assert "a.json is no benchmark result" in capsys.readouterr().err


def test_the_sink_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sink", "--count", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [f"{vhost}:", name] for vhost in ("/", "single") for name in ("publish", "confirm", "deliver")
    ]
    assert "confirmed=1000" in lines[1]


def test_an_unknown_name_is_refused_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--peers", "txamqpx,kombu"])
    assert "kombu: choose from txamqpx, txamqpx-channel, pika-twisted" in capsys.readouterr().err
