import attrs
import pytest

from benchmarks import peers
from benchmarks.case import _TIMES_LESS, BY_NAME, CASES, GROWTH_CASES, GROWTHS, WINDOW, Case, goal, turn
from benchmarks.table import YARDSTICKS


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(CASES) + len(GROWTH_CASES)


def test_every_goal_is_about_a_case_and_a_peer_that_is_shown() -> None:
    for name, peer in _TIMES_LESS:
        assert name in BY_NAME
        assert peer in YARDSTICKS
        assert peer in peers.BY_NAME


def test_every_growth_compares_cases_that_differ_in_one_thing() -> None:
    for growth in GROWTHS:
        base, grown = BY_NAME[growth.base], BY_NAME[growth.grown]
        alike = attrs.evolve(
            grown, name=base.name, count=base.count, bursts=base.bursts, channels=base.channels
        )
        assert alike == base
        assert (base.count == grown.count) != (base.channels == grown.channels)


@pytest.mark.parametrize(
    ("case", "size", "target", "peer", "times"),
    [
        ("publish + confirm", 16, "sink", "pika-twisted", 2.5),
        ("deliver + ack", 1024, "sink", "pika-twisted", 8),
        ("deliver + ack", 1024, "rabbitmq", "pika-twisted", 4),
        ("deliver + ack", 65536, "rabbitmq", "pika-twisted", 2),
        ("publish", 65536, "sink", "aio-pika", 3),
        ("one at a time", 16, "sink", "aio-pika", None),
        ("publish", 16, "sink", "pika-select", None),
    ],
)
def test_goals(case: str, size: int, target: str, peer: str, times: float | None) -> None:
    assert goal(case, size, target, peer) == times


def test_short_messages_are_weighted_by_peer_and_large_ones_are_not() -> None:
    case = Case("x", "publish", 100_000)
    assert case.count_for(16, 1, 1) == 100_000
    assert case.count_for(1024, 0.2, 0.5) == 10_000
    assert case.count_for(65536, 0.2, 1) == case.count_for(65536, 1, 1) == 4000


def test_a_run_has_some_messages_however_small_the_scale() -> None:
    assert Case("x", "publish", 100_000).count_for(65536, 1, 0.000001) == 20


def test_a_twentieth_goes_before_unless_the_case_says_how_many() -> None:
    assert Case("x", "publish").warmup_for(100_000, 1) == 5000
    assert Case("x", "publish").warmup_for(100, 1) == 20
    assert Case("x", "publish", warmup=50_000).warmup_for(10_000, 0.1) == 5000


def test_a_turn_holds_a_window_of_short_messages_and_a_mebibyte_of_long_ones() -> None:
    assert turn(16) == WINDOW
    assert turn(65536) == 16
    assert turn(1 << 30) == 1
