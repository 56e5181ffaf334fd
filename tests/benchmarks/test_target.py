import pytest

from benchmarks.case import BY_NAME
from benchmarks.feeder import Feeder
from benchmarks.target import BrokerTarget, FalseClaim, Run, SinkTarget, agree
from benchmarks.worker import Sample


def sample(**claims: int) -> Sample:
    return Sample(10, 1.0, 1.0, **claims)


def publish(run: Run, size: int, count: int) -> None:
    with Feeder(run.url) as feeder:
        feeder.select_confirms()
        feeder.publish(run.queue, b"x" * size, count)


def test_a_true_claim_is_accepted() -> None:
    with SinkTarget().run(BY_NAME["publish + confirm"], 16, 10, 5) as run:
        publish(run, 16, 15)
        run.check(sample(published=15, confirmed=15))


@pytest.mark.parametrize(
    ("claims", "complaint"),
    [
        ({"published": 16, "confirmed": 15}, "published: the client claims 16, its peer saw 15"),
        ({"published": 15, "confirmed": 14}, "confirmed: the client claims 14, its peer saw 15"),
        ({"published": 15, "confirmed": 15, "acked": 1}, "acked: the client claims 1, its peer saw 0"),
    ],
)
def test_a_false_claim_is_not(claims: dict[str, int], complaint: str) -> None:
    with SinkTarget().run(BY_NAME["publish + confirm"], 16, 10, 5) as run:
        publish(run, 16, 15)
        with pytest.raises(FalseClaim, match=complaint):
            run.check(sample(**claims))


def test_bodies_of_another_size_are_not_what_was_asked_for() -> None:
    with SinkTarget().run(BY_NAME["publish"], 16, 10, 5) as run:
        publish(run, 17, 15)
        with pytest.raises(FalseClaim, match="255 bytes arrived in 15 bodies of 16"):
            run.check(sample(published=15, confirmed=15))


def test_a_fault_is_told_whatever_was_claimed() -> None:
    with SinkTarget().run(BY_NAME["publish"], 16, 10, 5) as run:
        with pytest.raises(Exception, match="waited for"), Feeder(run.url) as feeder:
            feeder.delete("q")
        with pytest.raises(FalseClaim, match="did not end well: NOT_IMPLEMENTED"):
            run.check(sample())


def test_the_floods_are_as_long_as_they_should_be() -> None:
    with SinkTarget().run(BY_NAME["deliver, auto-ack"], 16, 10, 5) as run:
        with Feeder(run.url) as feeder:
            feeder.drain(run.warmup_queue, 16, 5)
            feeder.drain(run.queue, 16, 10)
        run.check(sample(delivered=15, delivered_bytes=240))


def test_the_virtual_host_of_the_case_is_used() -> None:
    with SinkTarget().run(BY_NAME["publish + single acks"], 16, 10, 5) as run:
        assert run.url.endswith("/single")


def test_every_difference_is_named() -> None:
    with pytest.raises(FalseClaim, match=r"^published: .* 1, .* 2; acked: .* 3, its peer saw 4$"):
        agree(sample(published=1, acked=3, delivered=5), published=2, acked=4, delivered=5)


class FakeFeeder:
    """A broker that keeps its queues in a dict."""

    queues: dict[str, int]
    gone: list[str]

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> "FakeFeeder":
        FakeFeeder.queues, FakeFeeder.gone = {}, []
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def declare(self, queue: str, *, passive: bool = False) -> int:
        assert passive == (queue in self.queues)
        return self.queues.setdefault(queue, 0)

    def publish(self, queue: str, body: bytes, count: int) -> None:
        self.queues[queue] += count

    def delete(self, queue: str) -> None:
        del self.queues[queue]
        self.gone.append(queue)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> BrokerTarget:
    monkeypatch.setattr("benchmarks.target.Feeder", FakeFeeder)
    return BrokerTarget("rabbitmq", "amqp://")


def test_a_broker_has_what_was_published(real: BrokerTarget) -> None:
    with real.run(BY_NAME["publish + confirm"], 16, 10, 5) as run:
        assert FakeFeeder.queues == {run.queue: 0, run.warmup_queue: 0}
        FakeFeeder.queues.update({run.queue: 10, run.warmup_queue: 5})
        run.check(sample(published=15, confirmed=15))
        FakeFeeder.queues[run.queue] = 9
        with pytest.raises(FalseClaim, match="published: the client claims 15, its peer saw 14"):
            run.check(sample(published=15, confirmed=15))
    assert FakeFeeder.gone == [run.queue, run.warmup_queue]


def test_a_broker_has_what_was_not_consumed(real: BrokerTarget) -> None:
    with real.run(BY_NAME["deliver + ack"], 16, 10, 5) as run:
        assert FakeFeeder.queues == {run.queue: 10, run.warmup_queue: 5}
        FakeFeeder.queues.update({run.queue: 0, run.warmup_queue: 0})
        run.check(sample(delivered=15, acked=15, delivered_bytes=240))
        FakeFeeder.queues[run.queue] = 1
        with pytest.raises(FalseClaim, match="acked: the client claims 15, its peer saw 14"):
            run.check(sample(delivered=15, acked=15, delivered_bytes=240))
    assert FakeFeeder.queues == {}
