"""Drive pika through its own loop, with callbacks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, TypeVar

from pika import BasicProperties, SelectConnection, URLParameters
from pika.channel import Channel

from benchmarks.case import WINDOW, turn
from benchmarks.peers import Session

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine that never waits: whatever has to be waited for, the session runs pika's loop for."""
    coroutine = main()
    try:
        coroutine.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    raise RuntimeError("a session of this peer must not wait")


def session() -> Session:
    """Make a session that is not connected yet."""
    return _Session()


class _Session:
    """One channel of one connection; every method runs the loop until its work is done."""

    _connection: SelectConnection
    _channel: Channel
    _confirmed: Callable[[Any], None]
    _next_tag = 1

    async def open(self, url: str, *, confirm: bool, channels: int) -> None:
        self._failure: BaseException | None = None
        self._connection = SelectConnection(
            URLParameters(url),
            on_open_callback=lambda _: self._stop(),
            on_open_error_callback=lambda _, error: self._fail(error),
            on_close_callback=lambda _, error: self._fail(error),
        )
        self._run()
        opened = [
            self._wait(lambda fire: self._connection.channel(on_open_callback=fire)) for _ in range(channels)
        ]
        self._channel = opened[0]
        if confirm:
            self._wait(lambda fire: self._channel.confirm_delivery(self._on_confirm, callback=fire))
        self._wait(lambda fire: self._channel.basic_qos(prefetch_count=WINDOW, callback=fire))

    async def publish(self, queue: str, body: bytes, count: int) -> None:
        channel, properties, left = self._channel, _properties(), count

        def batch() -> None:
            nonlocal left
            size = min(left, turn(len(body)))
            left -= size
            for _ in range(size):
                channel.basic_publish("", queue, body, properties)
            if left:
                self._connection.ioloop.call_later(0, batch)
            else:
                channel.queue_declare(queue, passive=True, callback=lambda _: self._stop())

        batch()
        self._run()

    async def publish_confirmed(self, queue: str, body: bytes, count: int) -> None:
        channel, properties = self._channel, _properties()
        sent = 0
        outstanding: dict[int, int] = {}
        first_tag = self._next_tag
        self._next_tag += count

        def fill() -> None:
            nonlocal sent
            while sent < count and len(outstanding) < WINDOW:
                outstanding[first_tag + sent] = sent
                sent += 1
                channel.basic_publish("", queue, body, properties, mandatory=True)

        def confirmed(frame: Any) -> None:
            method = frame.method
            if method.multiple:
                for tag in [tag for tag in outstanding if tag <= method.delivery_tag]:
                    del outstanding[tag]
            else:
                del outstanding[method.delivery_tag]
            if sent < count:
                if len(outstanding) <= WINDOW // 2:
                    fill()
            elif not outstanding:
                self._stop()

        self._confirmed = confirmed
        fill()
        self._run()

    async def publish_one_by_one(self, queue: str, body: bytes, count: int) -> list[float]:
        channel, properties = self._channel, _properties()
        seconds: list[float] = []
        begun = 0.0

        def publish() -> None:
            nonlocal begun
            begun = perf_counter()
            channel.basic_publish("", queue, body, properties, mandatory=True)

        def confirmed(_frame: Any) -> None:
            seconds.append(perf_counter() - begun)
            if len(seconds) < count:
                publish()
            else:
                self._stop()

        self._confirmed = confirmed
        publish()
        self._run()
        return seconds

    async def deliver(self, queue: str, count: int, *, ack: bool) -> int:
        size, left = 0, count

        def take(channel: Channel, method: Any, _properties: BasicProperties, body: bytes) -> None:
            nonlocal size, left
            size += len(body)
            if ack:
                channel.basic_ack(method.delivery_tag)
            left -= 1
            if not left:
                channel.queue_declare(queue, passive=True, callback=lambda _: self._stop())

        self._channel.basic_consume(queue, take, auto_ack=not ack)
        self._run()
        return size

    async def close(self) -> None:
        self._connection.add_on_close_callback(lambda _connection, _error: self._stop())
        self._failure = ConnectionAbortedError("closing")
        self._connection.close()
        self._connection.ioloop.start()

    def _on_confirm(self, frame: Any) -> None:
        self._confirmed(frame)

    def _wait(self, ask: Callable[[Callable[[Any], None]], object]) -> Any:
        answers: list[Any] = []

        def fire(answer: Any) -> None:
            answers.append(answer)
            self._stop()

        ask(fire)
        self._run()
        return answers[0]

    def _run(self) -> None:
        self._connection.ioloop.start()
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        self._connection.ioloop.stop()

    def _fail(self, error: BaseException | str) -> None:
        self._failure = error if isinstance(error, BaseException) else ConnectionError(error)
        self._stop()


def _properties() -> BasicProperties:
    return BasicProperties(content_type="application/octet-stream", delivery_mode=1)
