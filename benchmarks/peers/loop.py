"""Share what the two Twisted peers have in common: the reactor, and publishing through a window."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.case import WINDOW, turn

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in the default reactor of this platform, and return or raise what it does."""
    from twisted.internet import reactor

    ended: list[T] = []
    failed: list[BaseException] = []

    def begin() -> None:
        outcome = Deferred.fromCoroutine(main())
        outcome.addCallbacks(ended.append, lambda failure: failed.append(failure.value))
        outcome.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if failed:
        raise failed[0]
    return ended[0]


async def publish_all(publish: Callable[[], Deferred[Any]], count: int, size: int) -> None:
    """Publish without confirms, as fast as the client says it may, and give the reactor its turns."""
    from twisted.internet import reactor

    while count:
        batch = min(count, turn(size))
        count -= batch
        for _ in range(batch):
            written = publish()
            if not written.called:
                await written
        await deferLater(reactor, 0)


async def publish_window(publish: Callable[[], Deferred[Any]], count: int) -> None:
    """Publish with confirms: fill the window, and fill it up again whenever half of it has been confirmed."""
    sent = confirmed = 0
    finished: Deferred[None] = Deferred()

    def fill() -> None:
        nonlocal sent
        while sent < count and sent - confirmed < WINDOW:
            sent += 1
            publish().addCallbacks(done, failed)

    def done(_: object) -> None:
        nonlocal confirmed
        confirmed += 1
        if confirmed == count:
            finished.callback(None)
        elif sent - confirmed == WINDOW // 2:
            fill()

    def failed(failure: Any) -> None:
        if not finished.called:
            finished.errback(failure)

    fill()
    await finished


async def publish_in_turn(publish: Callable[[], Deferred[Any]], count: int) -> list[float]:
    """Publish and wait for the confirm, again and again, and return the seconds that each took."""
    seconds = []
    for _ in range(count):
        begun = perf_counter()
        await publish()
        seconds.append(perf_counter() - begun)
    return seconds
