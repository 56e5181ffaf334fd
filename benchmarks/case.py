"""Say what is measured: the cases, and the figures that they have to reach."""

from __future__ import annotations

import attrs

WINDOW = 1000
"""Publishes that wait for their confirm at once, and deliveries that wait for their ack."""

TURN = 1 << 20
"""The bytes that are published without confirms before the loop has its turn; more would only fill memory."""

LARGE = 65536
"""The body size from which copying bytes is what counts."""


@attrs.frozen
class Case:
    """Name one measurement.

    Args:
        name: What the table calls it.
        action: Which method of `benchmarks.peers.Session` does it.
        count: How many messages are measured, for a peer of weight 1.
        sizes: The body sizes in bytes.
        targets: The targets on which it says something.
        confirm: Whether the channel is in confirm mode.
        ack: Whether deliveries are acknowledged one by one.
        vhost: The virtual host; the sink reads from it how to confirm.
        channels: How many channels are open; all but one are idle.
        warmup: How many messages go before those that are measured; None is a twentieth of them.
        bursts: How often the messages are measured in one process. The garbage collector comes by seldom: a
            single short run pays for none of its visits, or for a whole one.
    """

    name: str
    action: str
    count: int = 100_000
    sizes: tuple[int, ...] = (16, 1024, 65536)
    targets: tuple[str, ...] = ("sink", "rabbitmq")
    confirm: bool = False
    ack: bool = False
    vhost: str = "/"
    channels: int = 1
    warmup: int | None = None
    bursts: int = 1

    def count_for(self, size: int, weight: float, scale: float) -> int:
        """Return how many messages one run takes.

        Bodies of 64 KiB cost every peer many times as much as short ones, and fill a broker's memory: there
        are fewer of them, the same number for everybody.
        """
        share = 0.04 if size >= LARGE else weight
        return max(20, round(self.count * share * scale))

    def warmup_for(self, count: int, scale: float) -> int:
        """Return how many messages go before `count` that are measured."""
        return max(20, round(count / 20 if self.warmup is None else self.warmup * scale))


def turn(size: int) -> int:
    """Return how many unconfirmed messages of this size are published in one turn of the loop."""
    return max(1, min(WINDOW, TURN // size))


CASES = (
    Case("publish", "publish"),
    Case("publish + confirm", "publish_confirmed", confirm=True),
    Case(
        "publish + single acks",
        "publish_confirmed",
        sizes=(16,),
        targets=("sink",),
        confirm=True,
        vhost="single",
    ),
    Case("deliver + ack", "deliver", ack=True),
    Case("deliver, auto-ack", "deliver"),
    Case("one at a time", "publish_one_by_one", count=2_000, sizes=(16,), confirm=True),
)


def _growth(name: str, action: str, count: int = 100_000, channels: int = 1) -> Case:
    """Return a case to compare with another; all of them begin where a process has settled."""
    return Case(
        name,
        action,
        count,
        sizes=(16,),
        targets=("sink",),
        confirm=action == "publish_confirmed",
        ack=action == "deliver",
        channels=channels,
        warmup=50_000,
        bursts=max(1, 200_000 // count),
    )


GROWTH_CASES = (
    _growth("confirm, 10,000", "publish_confirmed", 10_000),
    _growth("confirm, 1,000,000", "publish_confirmed", 1_000_000),
    _growth("confirm, 1 channel", "publish_confirmed"),
    _growth("confirm, 1,000 channels", "publish_confirmed", channels=1000),
    _growth("ack, 10,000", "deliver", 10_000),
    _growth("ack, 1,000,000", "deliver", 1_000_000),
    _growth("ack, 1 channel", "deliver"),
    _growth("ack, 1,000 channels", "deliver", channels=1000),
)

BY_NAME = {case.name: case for case in CASES + GROWTH_CASES}


@attrs.frozen
class Growth:
    """Bound what a message may cost in the `grown` case by what it costs in the `base` case."""

    base: str
    grown: str
    limit: float


GROWTHS = (
    Growth("confirm, 10,000", "confirm, 1,000,000", 1.05),
    Growth("ack, 10,000", "ack, 1,000,000", 1.05),
    Growth("confirm, 1 channel", "confirm, 1,000 channels", 1.10),
    Growth("ack, 1 channel", "ack, 1,000 channels", 1.10),
)

_TIMES_LESS: dict[tuple[str, str], dict[str, float]] = {
    ("publish", "pika-twisted"): {"sink": 3, "rabbitmq": 3},
    ("publish", "aio-pika"): {"sink": 20, "rabbitmq": 20},
    ("publish + confirm", "pika-twisted"): {"sink": 2.5, "rabbitmq": 2.5},
    ("publish + confirm", "aio-pika"): {"sink": 20, "rabbitmq": 20},
    ("deliver + ack", "pika-twisted"): {"sink": 8, "rabbitmq": 4},
    ("deliver + ack", "aio-pika"): {"sink": 15, "rabbitmq": 15},
    ("deliver, auto-ack", "pika-twisted"): {"sink": 4, "rabbitmq": 4},
    ("deliver, auto-ack", "aio-pika"): {"sink": 15, "rabbitmq": 15},
    ("one at a time", "pika-twisted"): {"rabbitmq": 1 / 0.65},
    ("one at a time", "aio-pika"): {"rabbitmq": 1 / 0.6},
}
_TIMES_LESS_LARGE = {"pika-twisted": 2.0, "aio-pika": 3.0}


def goal(case: str, size: int, target: str, peer: str) -> float | None:
    """Return how many times less than the peer txamqpx has to cost, or None where no goal is set."""
    if size >= LARGE:
        return _TIMES_LESS_LARGE.get(peer)
    return _TIMES_LESS.get((case, peer), {}).get(target)
