"""Be what the clients talk to: prepare each run, and check afterwards what the client claims."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs

from benchmarks.case import Case
from benchmarks.feeder import Feeder
from benchmarks.sink import Sink
from benchmarks.worker import Sample


class FalseClaim(Exception):
    """A client says that it did what its peer did not see."""


@attrs.frozen
class Run:
    """Hold what one worker needs to know, and how to check what it says."""

    url: str
    queue: str
    warmup_queue: str
    check: Callable[[Sample], None]


class Target(Protocol):
    """Prepare and check runs."""

    @property
    def name(self) -> str:
        """Return what the tables call it."""
        ...

    def run(self, case: Case, size: int, count: int, warmup: int) -> AbstractContextManager[Run]:
        """Prepare one run, and clean up after it."""
        ...


class SinkTarget:
    """Start a fresh sink for each run, and hear from it what it counted."""

    name = "sink"

    @contextmanager
    def run(self, case: Case, size: int, count: int, warmup: int) -> Iterator[Run]:
        """Name floods of the right length."""
        with Sink() as sink:

            def check(sample: Sample) -> None:
                seen = sink.next_count()
                if seen.fault or not seen.clean:
                    raise FalseClaim(
                        f"the connection did not end well: {seen.fault or 'no connection.close'}"
                    )
                agree(
                    sample,
                    published=seen.published,
                    confirmed=seen.confirmed,
                    delivered=seen.delivered,
                    acked=seen.acked,
                    delivered_bytes=seen.delivered * size,
                )
                if seen.published_bytes != seen.published * size:
                    raise FalseClaim(
                        f"{seen.published_bytes} bytes arrived in {seen.published} bodies of {size}"
                    )

            yield Run(sink.url(case.vhost), f"flood-{count}-{size}", f"flood-{warmup}-{size}", check)


class BrokerTarget:
    """Use a real broker: fill its queues beforehand, count what is in them afterwards, and delete them."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url

    @contextmanager
    def run(self, case: Case, size: int, count: int, warmup: int) -> Iterator[Run]:
        """Make a queue each for the warm-up and for what is measured."""
        delivering = case.action == "deliver"
        mark = secrets.token_hex(4)
        lengths = {f"benchmark-{mark}": count, f"benchmark-{mark}-warmup": warmup}
        queue, warmup_queue = lengths
        with Feeder(self._url) as feeder:
            try:
                for name, length in lengths.items():
                    feeder.declare(name)
                    if delivering:
                        feeder.publish(name, b"x" * size, length)

                def check(sample: Sample) -> None:
                    left = sum(feeder.declare(name, passive=True) for name in lengths)
                    total = count + warmup
                    gone = total - left if delivering else 0
                    agree(
                        sample,
                        published=0 if delivering else left,
                        confirmed=left * case.confirm,
                        delivered=gone,
                        acked=gone * case.ack,
                        delivered_bytes=gone * size,
                    )

                yield Run(self._url, queue, warmup_queue, check)
            finally:
                for name in lengths:
                    feeder.delete(name)


def agree(sample: Sample, **seen: int) -> None:
    """Compare a claim with what was seen on the other side.

    Raises:
        FalseClaim: They differ; the message names every difference.
    """
    wrong = [
        f"{name}: the client claims {getattr(sample, name)}, its peer saw {value}"
        for name, value in seen.items()
        if getattr(sample, name) != value
    ]
    if wrong:
        raise FalseClaim("; ".join(wrong))
