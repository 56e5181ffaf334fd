"""Runs programs on both brokers, and boils a difference down to the few steps that it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count

import attrs
from twisted.internet.task import Clock

from tests.differential.program import Step, program
from tests.differential.stream import EmbeddedStream, SocketStream
from tests.differential.world import World
from tests.rabbitmq import Node
from txamqpx.broker.broker import Broker

_vhosts = count(1)
_VHOST = re.compile(r"vhost (\\?)'[^'\\]*\\?'")


@attrs.frozen
class Difference:
    """A program on which the brokers differ.

    Attributes:
        steps: The program.
        theirs: What RabbitMQ said to each step.
        ours: What the embedded broker said.
    """

    steps: list[Step]
    theirs: list[list[str]]
    ours: list[list[str]]

    def __str__(self) -> str:
        lines = []
        for number, step in enumerate(self.steps):
            lines.append(f"{number}: {step}")
            theirs, ours = self.theirs[number], self.ours[number]
            if theirs == ours:
                lines += [f"        {word}" for word in theirs]
            else:
                lines += [f"  theirs {word}" for word in theirs] or ["  theirs nothing"]
                lines += [f"    ours {word}" for word in ours] or ["    ours nothing"]
        return "\n".join(lines)


def embedded(steps: list[Step], profile: str) -> list[list[str]]:
    """Run a program on a new embedded broker."""
    clock = Clock()
    broker = Broker(profile=profile, clock=clock)
    return World(lambda: EmbeddedStream(broker, clock), "/").run(steps)


def rabbitmq(steps: list[Step], node: Node, quiet: float) -> list[list[str]]:
    """Run a program in a new virtual host of RabbitMQ."""
    name = f"differential {next(_vhosts)}"
    node.add_vhost(name)
    try:
        return World(lambda: SocketStream(node.ports["amqp"], quiet), name).run(steps)
    finally:
        node.delete_vhost(name)


def compare(
    steps: list[Step], node: Node, profile: str, patience: Sequence[float] = (0.02, 0.2, 1.0)
) -> Difference | None:
    """Run a program on both; a difference counts only if patience does not make it go away."""
    ours = embedded(steps, profile)
    for quiet in patience:
        theirs = _in_its_place(rabbitmq(steps, node, quiet))
        if theirs == _in_its_place(ours):
            return None
    return Difference(steps, theirs, _in_its_place(ours))


def _in_its_place(said: list[list[str]]) -> list[list[str]]:
    # The name of a virtual host stands in many texts.
    return [[_VHOST.sub("vhost 'v'", word) for word in words] for words in said]


def shrink(difference: Difference, check: Callable[[list[Step]], Difference | None]) -> Difference:
    """Leave out whatever the difference does not need."""
    said = zip(difference.theirs, difference.ours, strict=True)
    first = next(number for number, (theirs, ours) in enumerate(said) if theirs != ours)
    difference = check(difference.steps[: first + 1]) or difference
    size = max(1, len(difference.steps) // 2)
    while size:
        start = 0
        while start < len(difference.steps):
            steps = difference.steps[:start] + difference.steps[start + size :]
            found = check(steps) if steps else None
            if found is None:
                start += size
            else:
                difference = found
        size //= 2
    return difference


def search(
    node: Node, profile: str, *, seed: int, length: int, programs: int, report: Callable[[str], None]
) -> list[Difference]:
    """Run programs, and return the differences, boiled down."""
    found = []
    for number in range(seed, seed + programs):
        difference = compare(program(number, length), node, profile)
        if difference is None:
            report(f"seed {number}: the same")
            continue
        small = shrink(difference, lambda steps: compare(steps, node, profile, (0.03, 0.15)))
        small = compare(small.steps, node, profile) or difference  # in haste it may have run after a ghost
        found.append(small)
        report(f"seed {number}: {len(small.steps)} steps\n{small}")
    return found
