import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.feeder import Feeder
from benchmarks.sink import SOURCE, Count, Sink, SinkFailed, compiled
from benchmarks.wire import METHOD, confirm, frame, method, publication, short


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


class Peer:
    """A connection to the sink whose frames the test writes and reads itself."""

    def __init__(self, sink: Sink, vhost: str = "/") -> None:
        self.socket = socket.create_connection(("127.0.0.1", sink.port), timeout=30)
        self.stream = self.socket.makefile("rb")
        self.send(b"AMQP\0\0\x09\x01")
        assert self.read_method() == (10, 10)
        self.send(method(0, 10, 11), method(0, 10, 31))
        assert self.read_method() == (10, 30)
        assert self.call(method(0, 10, 40, short(vhost) + b"\0\0")) == (10, 41)
        assert self.call(method(1, 20, 10, b"\0")) == (20, 11)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stream.close()
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def call(self, question: bytes) -> tuple[int, int]:
        self.send(question)
        return self.read_method()

    def read(self) -> tuple[int, bytes]:
        kind, _channel, size = struct.unpack(">BHI", self.stream.read(7))
        payload = self.stream.read(size + 1)
        assert payload[-1] == 0xCE
        return kind, payload[:-1]

    def read_method(self) -> tuple[int, int]:
        kind, payload = self.read()
        assert kind == METHOD
        class_id, method_id = struct.unpack_from(">HH", payload)
        return class_id, method_id

    def read_delivery(self) -> tuple[int, bytes]:
        """Read one delivery; return its tag and body."""
        _, deliver = self.read()
        assert struct.unpack_from(">HH", deliver) == (60, 60)
        (tag,) = struct.unpack_from(">Q", deliver, 5 + deliver[4])
        _, header = self.read()
        (left,) = struct.unpack_from(">Q", header, 4)
        body = b""
        while len(body) < left:
            body += self.read()[1]
        return tag, body

    def read_tags(self, count: int) -> list[int]:
        return [self.read_delivery()[0] for _ in range(count)]

    def consume(self, queue: str, *, no_ack: bool = False) -> None:
        arguments = b"\0\0" + short(queue) + short("tag") + bytes([2 * no_ack]) + b"\0\0\0\0"
        assert self.call(method(1, 60, 20, arguments)) == (60, 21)

    def qos(self, count: int) -> None:
        assert self.call(method(1, 60, 10, struct.pack(">IHB", 0, count, 0))) == (60, 11)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        self.send(confirm(tag, multiple))

    def close(self) -> None:
        assert self.call(method(0, 10, 50, b"\0\xc8\0\0\0\0\0")) == (10, 51)

    def is_silent(self) -> bool:
        """Tell whether nothing is on its way: an answer comes, and nothing before it."""
        return self.call(method(1, 50, 10, b"\0\0" + short("q") + b"\1\0\0\0\0")) == (50, 11)


def counted(sink: Sink) -> Count:
    return sink.next_count()


def test_every_method_that_a_benchmark_needs_is_answered(sink: Sink) -> None:
    declare_exchange = b"\0\0" + short("x") + short("direct") + b"\0\0\0\0\0"
    bind = b"\0\0" + short("q") + short("x") + short("k") + b"\0\0\0\0\0"
    with Peer(sink) as peer:
        assert peer.call(method(1, 40, 10, declare_exchange)) == (40, 11)
        assert peer.call(method(1, 50, 10, b"\0\0" + short("q") + b"\0\0\0\0\0")) == (50, 11)
        assert peer.call(method(1, 50, 20, bind)) == (50, 21)
        assert peer.call(method(1, 85, 10, b"\0")) == (85, 11)
        peer.consume("empty")
        assert peer.call(method(1, 60, 30, short("tag") + b"\0")) == (60, 31)
        assert peer.call(method(1, 20, 40, b"\0\xc8\0\0\0\0\0")) == (20, 41)
        assert peer.call(method(1, 20, 10, b"\0")) == (20, 11)
        peer.close()
    assert counted(sink) == Count(0, 0, 0, 0, 0, clean=True, fault="")


def test_publishes_are_counted_and_not_answered(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.send(publication("q", b"x" * 300_000), publication("q", b""))
        assert peer.call(method(1, 50, 10, b"\0\0" + short("q") + b"\1\0\0\0\0")) == (50, 11)
        peer.close()
    assert counted(sink) == Count(2, 300_000, 0, 0, 0, clean=True, fault="")


def test_one_read_is_confirmed_by_one_multiple_ack(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.call(method(1, 85, 10, b"\0"))
        peer.send(publication("q", b"x") * 3)
        kind, payload = peer.read()
        assert (kind, payload) == (METHOD, struct.pack(">HHQB", 60, 80, 3, 1))
        peer.send(publication("q", b"x"))
        assert peer.read()[1] == struct.pack(">HHQB", 60, 80, 4, 0)
        peer.close()
    assert counted(sink).confirmed == 4


def test_every_publish_is_confirmed_by_itself_in_the_single_vhost(sink: Sink) -> None:
    with Peer(sink, "single") as peer:
        peer.call(method(1, 85, 10, b"\0"))
        peer.send(publication("q", b"x") * 3)
        for tag in (1, 2, 3):
            assert peer.read()[1] == struct.pack(">HHQB", 60, 80, tag, 0)
        peer.close()
    assert counted(sink).confirmed == 3


def test_a_flood_has_as_many_messages_of_the_size_as_its_name_says(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.consume("flood-3-200000", no_ack=True)
        for tag in (1, 2, 3):
            assert peer.read_delivery() == (tag, b"x" * 200_000)
        assert peer.is_silent()
        peer.close()
    assert counted(sink) == Count(0, 0, 0, 3, 0, clean=True, fault="")


def test_no_more_is_delivered_than_the_prefetch_leaves_unacknowledged(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.qos(3)
        peer.consume("flood-9-1")
        assert peer.read_tags(3) == [1, 2, 3]
        assert peer.is_silent()
        peer.ack(2)
        assert peer.read_tags(1) == [4]
        assert peer.is_silent()
        peer.ack(4)
        peer.ack(3, multiple=True)  # stands for 1 and 3
        assert peer.read_tags(3) == [5, 6, 7]
        assert peer.is_silent()
        peer.ack(0, multiple=True)
        assert peer.read_tags(2) == [8, 9]
        peer.ack(0, multiple=True)
        assert peer.is_silent()
        peer.close()
    assert counted(sink) == Count(0, 0, 0, 9, 9, clean=True, fault="")


@pytest.mark.parametrize("again", [confirm(2, multiple=False), confirm(1, multiple=False)])
def test_settling_twice_is_the_clients_fault(sink: Sink, again: bytes) -> None:
    with Peer(sink) as peer:
        peer.consume("flood-3-1")
        assert peer.read_tags(3) == [1, 2, 3]
        peer.ack(2, multiple=True)
        assert peer.call(again) == (10, 50)
    assert "unknown delivery tag" in counted(sink).fault


def test_acking_what_needs_no_ack_is_the_clients_fault(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.consume("flood-1-1", no_ack=True)
        assert peer.read_tags(1) == [1]
        assert peer.call(confirm(1, multiple=False)) == (10, 50)
    assert counted(sink).acked == 0


def test_a_second_flood_goes_on_counting_its_tags(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.consume("flood-2-1", no_ack=True)
        assert peer.read_tags(2) == [1, 2]
        peer.consume("flood-1-5", no_ack=True)
        assert peer.read_delivery() == (3, b"xxxxx")
        peer.close()
    assert counted(sink).delivered == 3


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (confirm(1, multiple=False), "unknown delivery tag"),
        (method(1, 60, 71), "NOT_IMPLEMENTED"),
        (method(2, 60, 10, b"\0" * 7), "channel is not open"),
        (frame(3, 1, b"x"), "UNEXPECTED_FRAME"),
        (method(1, 60, 40) * 2, "a method inside a content"),
        (method(1, 60, 20), "arguments end early"),
        (method(1, 20, 10, b"\0")[:-1] + b"\0", "no frame end"),
        (b"\1\0\1\0\2\0\0", "too large"),
    ],
)
def test_what_a_client_does_wrong_is_told_and_named(sink: Sink, wrong: bytes, fault: str) -> None:
    with Peer(sink) as peer:
        assert peer.call(wrong + b"\0" * 8) == (10, 50)
    seen = counted(sink)
    assert fault in seen.fault
    assert not seen.clean


def test_a_connection_that_is_dropped_is_not_clean(sink: Sink) -> None:
    with Peer(sink) as peer:
        peer.send(publication("q", b"x"))
    seen = counted(sink)
    assert (seen.published, seen.clean) == (1, False)


def test_two_connections_are_counted_apart(sink: Sink) -> None:
    with Feeder(sink.url()) as first, Feeder(sink.url()) as second:
        first.publish("q", b"x", 10)
        second.publish("q", b"x", 20)
    assert {counted(sink).published, counted(sink).published} == {10, 20}


def test_the_sink_ends_with_the_block(sink: Sink) -> None:
    with Sink() as other:
        port = other.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_program_is_compiled_once_for_each_source(tmp_path: Path) -> None:
    source = tmp_path / "sink.c"
    source.write_text("int main(void) { return 7; }\n")
    first = compiled(source, tmp_path / "cache")
    made = first.stat().st_mtime_ns
    assert subprocess.run([first], check=False).returncode == 7
    assert compiled(source, tmp_path / "cache").stat().st_mtime_ns == made
    source.write_text("int main(void) { return 8; }\n")
    second = compiled(source, tmp_path / "cache")
    assert second != first
    assert subprocess.run([second], check=False).returncode == 8


def test_a_source_that_does_not_compile_says_why(tmp_path: Path) -> None:
    source = tmp_path / "sink.c"
    source.write_text("int main(void) { return surprise; }\n")
    with pytest.raises(SinkFailed, match="surprise"):
        compiled(source, tmp_path)


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.raises(SinkFailed, match="no-such-compiler"):
        compiled(SOURCE, tmp_path)
