"""Handlers that take several deliveries at a time."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen, validators
from twisted.python.failure import Failure

from txamqpx.message import Delivery

__all__ = ["Batch", "Bundle"]


@frozen
class Batch:
    """How many deliveries a handler wants at a time.

    Attributes:
        size: The most.
        wait: Seconds after which it takes fewer, counted from the first one on.
    """

    size: int = field(default=100, validator=[validators.instance_of(int), validators.ge(1)])
    wait: float = field(default=1.0, validator=validators.ge(0))


class Bundle(list[Delivery]):
    """The deliveries that a handler gets at a time; it may settle some of them itself.

    Attributes:
        failures: By their place, those that were marked with ``fail``.
    """

    def __init__(self, deliveries: Iterable[Delivery]) -> None:
        super().__init__(deliveries)
        self.failures: dict[int, Failure] = {}

    def fail(self, index: int, error: BaseException) -> None:
        """Say that one of them failed: when the handler is done, ``error`` counts as raised for it alone.

        Raises:
            IndexError: There are fewer.
        """
        self[index]
        self.failures[index % len(self)] = Failure(error)
