import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.feeder import Feeder, FeederFailed, rates
from benchmarks.sink import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


def test_what_is_published_arrives(sink: Sink) -> None:
    with Feeder(sink.url()) as feeder:
        feeder.publish("q", b"x" * 1000, 1234)
        assert feeder.declare("q", passive=True) == 1234
    seen = sink.next_count()
    assert (seen.published, seen.published_bytes, seen.clean) == (1234, 1_234_000, True)


@pytest.mark.parametrize("vhost", ["/", "single"])
def test_confirms_are_passed_over(sink: Sink, vhost: str) -> None:
    with Feeder(sink.url(vhost)) as feeder:
        feeder.select_confirms()
        feeder.publish("q", b"x", 5000)
    seen = sink.next_count()
    assert (seen.confirmed, seen.clean) == (5000, True)


@pytest.mark.parametrize(("size", "count"), [(0, 10), (16, 20_000), (300_000, 7)])
def test_a_flood_is_drained_to_the_last_byte(sink: Sink, size: int, count: int) -> None:
    with Feeder(sink.url()) as feeder:
        feeder.drain(f"flood-{count}-{size}", size, count)
        assert feeder.declare("q") == 0  # so nothing of the flood is left in between
    seen = sink.next_count()
    assert (seen.delivered, seen.clean) == (count, True)


def test_an_answer_that_was_not_asked_for_is_an_error(sink: Sink) -> None:
    with pytest.raises(FeederFailed, match=r"waited for 50\.41"), Feeder(sink.url()) as feeder:
        feeder.delete("q")  # the sink has no queues to delete
    assert sink.next_count().fault.startswith("NOT_IMPLEMENTED")


def test_a_target_that_hangs_up_is_an_error() -> None:
    def hang_up() -> None:
        connection, _ = listener.accept()
        connection.recv(8)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"amqp://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(FeederFailed, match="closed the connection"), Feeder(url):
            pass
        thread.join()


def test_the_rates_are_of_every_kind(sink: Sink) -> None:
    found = rates(sink.url(), 1000)
    assert found.keys() == {"publish", "confirm", "deliver"}
    assert all(rate > 0 for rate in found.values())
    assert [sink.next_count().published for _ in found] == [1000, 1000, 0]
