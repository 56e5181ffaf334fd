import time

import pytest

from benchmarks import worker
from benchmarks.case import BY_NAME
from benchmarks.worker import Meter, measure, percentile


class Recorder:
    """A session that does nothing but remember what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def open(self, url: str, *, confirm: bool, channels: int) -> None:
        self.asked.append(("open", url, confirm, channels))

    async def publish(self, queue: str, body: bytes, count: int) -> None:
        self.asked.append(("publish", queue, len(body), count))

    async def publish_confirmed(self, queue: str, body: bytes, count: int) -> None:
        self.asked.append(("publish_confirmed", queue, len(body), count))

    async def publish_one_by_one(self, queue: str, body: bytes, count: int) -> list[float]:
        self.asked.append(("publish_one_by_one", queue, len(body), count))
        return [at / 1e6 for at in range(1, count + 1)]

    async def deliver(self, queue: str, count: int, *, ack: bool) -> int:
        self.asked.append(("deliver", queue, count, ack))
        return 3 * count

    async def close(self) -> None:
        self.asked.append(("close",))


def measured(case: str) -> tuple[list[tuple[object, ...]], worker.Sample]:
    session = Recorder()
    coroutine = measure(
        session, BY_NAME[case], url="amqp://", size=3, count=100, queue="q", warmup=10, warmup_queue="w"
    )
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return session.asked, ended.value.value


def test_publishing() -> None:
    asked, sample = measured("publish")
    assert asked == [
        ("open", "amqp://", False, 1),
        ("publish", "w", 3, 10),
        ("publish", "q", 3, 100),
        ("close",),
    ]
    assert (sample.count, sample.published, sample.confirmed, sample.delivered) == (100, 110, 0, 0)


def test_publishing_with_confirms() -> None:
    asked, sample = measured("publish + confirm")
    assert asked[:2] == [("open", "amqp://", True, 1), ("publish_confirmed", "w", 3, 10)]
    assert asked[2:] == [("publish_confirmed", "q", 3, 100), ("close",)]
    assert (sample.count, sample.published, sample.confirmed) == (100, 110, 110)


def test_bursts_are_measured_together() -> None:
    asked, sample = measured("ack, 10,000")
    assert asked[1:-1] == [("deliver", "w", 10, True), *[("deliver", "q", 100, True)] * 20]
    assert (sample.count, sample.delivered, sample.acked, sample.delivered_bytes) == (2000, 2010, 2010, 6030)


def test_channels_are_opened_as_the_case_says() -> None:
    asked, _ = measured("confirm, 1,000 channels")
    assert asked[0] == ("open", "amqp://", True, 1000)


@pytest.mark.parametrize(("case", "acked"), [("deliver + ack", 110), ("deliver, auto-ack", 0)])
def test_delivering(case: str, acked: int) -> None:
    asked, sample = measured(case)
    assert asked[1:3] == [("deliver", "w", 10, acked > 0), ("deliver", "q", 100, acked > 0)]
    assert (sample.count, sample.delivered, sample.acked, sample.delivered_bytes) == (100, 110, acked, 330)


def test_latencies_are_in_microseconds() -> None:
    _, sample = measured("one at a time")
    assert sample.p50 == pytest.approx(50)
    assert sample.p99 == pytest.approx(99)


def test_percentiles_are_values_that_occurred() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, fraction) for fraction in (0.0, 0.5, 0.6, 0.99, 1.0)] == [
        1.0,
        2.0,
        3.0,
        5.0,
        5.0,
    ]
    assert percentile([7.0], 0.5) == 7.0


def test_the_meter_counts_work_and_not_waiting() -> None:
    with Meter() as waiting:
        time.sleep(0.05)
    with Meter() as working:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
    assert waiting.wall >= 0.05
    assert working.cpu >= 0.04
    assert waiting.cpu < working.cpu
