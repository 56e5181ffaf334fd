"""Measure what a message costs in each layer, with nothing on the wire.

A layer contains those before it, so the difference between two is what the upper one adds: a loss shows in
the layer that lost it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import attrs

from benchmarks.case import LARGE

Work = Callable[[], int]
"""Deal with the messages, and return how many they were: the proof that nothing was left out."""

Make = Callable[[int, int], Work]
"""Prepare the work for bodies of a size, and for so many of them; what that takes is not measured."""

COUNT = 100_000
MODULES = ("codec", "frames", "core", "memory")
LARGE_SHARE = 0.01
"""The share of messages of 64 KiB: what is fed to a layer has to fit into memory."""


@attrs.frozen
class Layer:
    """Name one measurement of one layer, and who can do it."""

    name: str
    sizes: tuple[int, ...]
    makers: dict[str, Make] = attrs.field(factory=dict)

    def count_for(self, size: int, scale: float) -> int:
        """Return how many messages one run takes."""
        return max(20, round(COUNT * scale * (LARGE_SHARE if size >= LARGE else 1)))


NEEDS = {"txamqpx": "txamqpx", "pamqp": "pamqp", "pika-twisted": "pika"}
"""What has to be importable for a peer to take part."""

_LAYERS: dict[str, Layer] = {}


def layer(name: str, peer: str = "txamqpx", sizes: tuple[int, ...] = (16,)) -> Callable[[Make], Make]:
    """Register a function that prepares the work of one peer in one layer.

    It imports what it measures when it is called, so that a peer that is not installed disturbs nobody else.
    """

    def register(make: Make) -> Make:
        _LAYERS.setdefault(name, Layer(name, sizes)).makers[peer] = make
        return make

    return register


def layers() -> dict[str, Layer]:
    """Return every layer by its name, from the lowest up."""
    for module in MODULES:
        importlib.import_module(f"benchmarks.layers.{module}")
    return _LAYERS
