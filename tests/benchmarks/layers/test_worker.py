import json

import pytest

from benchmarks.layers import NEEDS, Layer, layers
from benchmarks.layers.worker import Incomplete, main, take


@pytest.mark.parametrize(
    ("name", "peer", "size"),
    [
        (layer.name, peer, size)
        for layer in layers().values()
        for peer in layer.makers
        for size in layer.sizes
    ],
)
def test_every_layer_deals_with_every_message(name: str, peer: str, size: int) -> None:
    assert take(name, peer, size, 700).count == 700  # more than one batch, and not a whole number of them


def test_a_layer_that_leaves_something_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = Layer("lazy", (16,), {"txamqpx": lambda size, count: lambda: count - 1})
    monkeypatch.setitem(layers(), "lazy", lazy)
    with pytest.raises(Incomplete, match="lazy: txamqpx dealt with 99 of 100"):
        take("lazy", "txamqpx", 16, 100)


def test_it_is_known_what_every_peer_needs() -> None:
    assert {peer for layer in layers().values() for peer in layer.makers} == NEEDS.keys()


def test_there_are_fewer_of_the_large_messages() -> None:
    layer = Layer("x", (16, 65536))
    assert [layer.count_for(size, 0.5) for size in (16, 65536)] == [50_000, 500]
    assert layer.count_for(65536, 0.0001) == 20


def test_the_sample_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["codec: encode basic.ack", "pamqp", "--count", "50"])
    assert json.loads(capsys.readouterr().out)["count"] == 50
