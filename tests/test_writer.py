from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.talk import elsewhere
from txamqpx.errors import NotPublished
from txamqpx.protocol.outbox import HIGH_WATER, Outbox
from txamqpx.testing import Watched, failure_of, success_of
from txamqpx.writer import MANY, MAX_IN_TRANSPORT, Writer


class Transport:
    """Note each write, and ask for a pause when there is more than ``most`` of it."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.writes: list[bytes] = []
        self.sequences = 0
        self.producer: Any = None
        self.streaming = False

    @property
    def value(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.most is not None and self.producer is not None and len(self.value) > self.most:
            self.producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        self.sequences += 1
        self.write(b"".join(data))

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer, self.streaming = producer, streaming

    def unregisterProducer(self) -> None:
        self.producer = None


class Desk:
    """A writer with all that belongs to it."""

    def __init__(self, most: int | None = None) -> None:
        self.clock = Clock()
        self.written: list[float] = []
        self.outbox = Outbox(1 << 40, lambda: None)
        self.writer = Writer(
            self.outbox, lambda: self.clock, lambda: self.written.append(self.clock.seconds())
        )
        self.outbox.wake = self.writer.wake
        self.transport = Transport(most)

    def start(self) -> Desk:
        self.writer.start(self.transport)
        return self


@pytest.fixture
def desk() -> Desk:
    return Desk().start()


def test_it_is_a_push_producer(desk: Desk) -> None:
    assert verifyObject(IPushProducer, desk.writer)
    assert desk.transport.producer is desk.writer
    assert desk.transport.streaming is True


def test_what_is_appended_in_one_turn_is_written_at_once(desk: Desk) -> None:
    for piece in (b"one", b"two", b"three"):
        desk.outbox.append(piece)
    assert desk.transport.writes == []
    assert len(desk.clock.getDelayedCalls()) == 1
    desk.clock.advance(0)
    assert desk.transport.writes == [b"onetwothree"]
    assert desk.written == [0.0]
    desk.clock.advance(1)
    assert desk.written == [0.0]


def test_many_small_pieces_are_joined_first() -> None:
    desk = Desk().start()
    for number in (MANY, MANY + 1):
        for _ in range(number):
            desk.outbox.append(b"x")
        desk.writer.flush()
    assert [len(write) for write in desk.transport.writes] == [MANY, MANY + 1]
    assert desk.transport.sequences == 1


def test_while_it_holds_nothing_is_written_and_no_turn_is_waited_for(desk: Desk) -> None:
    desk.writer.hold()
    desk.outbox.append(b"one")
    assert desk.clock.getDelayedCalls() == []
    desk.writer.flush()
    assert desk.transport.writes == [b"one"]
    desk.outbox.append(b"two")
    desk.clock.advance(0)
    assert desk.transport.writes == [b"one", b"two"]


def test_nothing_is_written_before_there_is_a_transport() -> None:
    desk = Desk()
    desk.outbox.append(b"early")
    desk.writer.flush()
    assert desk.clock.getDelayedCalls() == []
    desk.start()
    desk.writer.flush()
    assert desk.transport.writes == [b"early"]


@pytest.mark.covers("T-BLK-03", "K13")
def test_a_transport_that_has_enough_gets_no_more_until_it_asks() -> None:
    desk = Desk(most=65536).start()
    for _ in range(1000):
        desk.outbox.append(b"x" * 10_000)
    desk.clock.advance(0)
    first = len(desk.transport.value)
    assert first <= MAX_IN_TRANSPORT + 10_000
    desk.outbox.append(b"y")
    desk.clock.advance(100)
    assert len(desk.transport.value) == first
    assert desk.clock.getDelayedCalls() == []
    total = first
    while desk.outbox:
        desk.transport.writes.clear()
        desk.writer.resumeProducing()
        assert len(desk.transport.value) <= MAX_IN_TRANSPORT + 10_000
        total += len(desk.transport.value)
    assert total == 10_000_001


@pytest.mark.covers("T-PUB-15", "T-HB-05")
def test_what_is_urgent_overtakes_megabytes() -> None:
    desk = Desk(most=65536).start()
    for _ in range(500):
        desk.outbox.append(b"x" * 10_000)
    desk.clock.advance(0)
    desk.outbox.append_urgent(b"beat")
    desk.writer.flush()
    desk.transport.writes.clear()
    desk.writer.resumeProducing()
    assert desk.transport.value.startswith(b"beat")


@pytest.mark.covers("T-BLK-03")
def test_who_waits_is_told_when_enough_was_taken() -> None:
    desk = Desk(most=65536).start()
    success_of(desk.writer.when_writable())
    while desk.outbox.size <= HIGH_WATER:
        desk.outbox.append(b"x" * 10_000)
    waiters = [Watched(desk.writer.when_writable()) for _ in range(3)]
    assert [desk.writer.writable, *(waiter.pending for waiter in waiters)] == [False, True, True, True]
    desk.clock.advance(0)
    assert desk.writer.writable
    assert [waiter.value for waiter in waiters] == [None] * 3


def test_who_fills_it_up_again_makes_the_others_wait_on() -> None:
    desk = Desk(most=65536).start()
    full = b"x" * (HIGH_WATER + 1)
    desk.outbox.append(full)

    def fill(_: object) -> None:
        desk.outbox.append(full)

    first = Watched(desk.writer.when_writable().addCallback(fill))
    second = Watched(desk.writer.when_writable())
    desk.writer.flush()
    assert not first.pending
    assert second.pending
    desk.writer.resumeProducing()
    assert second.value is None


@pytest.mark.covers("T-CLS-07")
def test_who_gives_up_is_not_kept_and_disturbs_nobody() -> None:
    desk = Desk().start()
    desk.outbox.append(b"x" * (HIGH_WATER + 1))
    waiters: list[Deferred[None]] = [desk.writer.when_writable() for _ in range(3)]
    waiters[1].cancel()
    failure_of(waiters[1], CancelledError)
    assert len(desk.writer._waiting) == 2
    desk.writer.flush()
    success_of(waiters[0])
    success_of(waiters[2])


@pytest.mark.covers("T-CH-12")
def test_who_waits_at_the_end_or_comes_later_gets_an_error_of_its_own() -> None:
    desk = Desk().start()
    desk.outbox.append(b"x" * (HIGH_WATER + 1))
    waiters = [desk.writer.when_writable() for _ in range(2)]
    late: list[Deferred[None]] = []

    def wait_again(failure: Failure) -> Failure:
        late.append(desk.writer.when_writable())
        return failure

    waiters[0].addErrback(wait_again)
    desk.writer.stop()
    desk.writer.fail(lambda: NotPublished("the end"))
    errors = [failure_of(waiter, NotPublished) for waiter in (*waiters, *late, desk.writer.when_writable())]
    assert len({id(error) for error in errors}) == 4


def test_after_it_was_stopped_nothing_is_written_and_no_call_is_left(desk: Desk) -> None:
    desk.outbox.append(b"one")
    desk.writer.stopProducing()
    assert desk.clock.getDelayedCalls() == []
    desk.outbox.append(b"two")
    desk.writer.flush()
    desk.writer.finish()
    desk.clock.advance(1)
    assert desk.transport.writes == []


def test_its_last_words_are_the_urgent_ones_whatever_the_pace_of_the_transport() -> None:
    desk = Desk(most=65536).start()
    for _ in range(100):
        desk.outbox.append(b"x" * 10_000)
    desk.writer.flush()
    before = len(desk.transport.value)
    desk.outbox.append_urgent(b"close-ok")
    desk.writer.finish()
    said = desk.transport.value[before:]
    assert said.startswith(b"close-ok")
    assert len(said) <= MAX_IN_TRANSPORT + 10_000
    assert desk.transport.producer is None
    assert desk.clock.getDelayedCalls() == []


def test_a_transport_that_ends_while_it_is_written_to() -> None:
    desk = Desk()

    class Ends(Transport):
        def write(self, data: bytes) -> None:
            super().write(data)
            desk.writer.stopProducing()

    desk.transport = Ends()
    desk.start()
    for _ in range(100):
        desk.outbox.append(b"x" * 10_000)
    desk.writer.flush()
    assert len(desk.transport.writes) == 1
    desk.writer.finish()


class Reactor:
    """What a socket needs of a reactor: who wants to write."""

    def __init__(self) -> None:
        self.writers: set[object] = set()

    def addWriter(self, writer: object) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writers.discard(writer)

    def removeReader(self, reader: object) -> None:
        pass


class Socket(FileDescriptor):
    """A socket that takes so much at a time.

    Attributes:
        sent: What it took.
        result: What its system call says instead, if anything.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.registry = Reactor()
        super().__init__(cast(Any, self.registry))
        self.connected = 1
        self.room = room
        self.sent: list[bytes] = []
        self.result: Exception | None = None

    def writeSomeData(self, data: bytes) -> Any:
        if self.result is not None:
            return self.result
        taken = bytes(data[: self.room])
        if taken:
            self.sent.append(taken)
        return len(taken)

    def turn(self) -> object:
        """Let the reactor come round to it, if it wants to."""
        write: Any = self.doWrite
        return write() if self in self.registry.writers else None


def on_a_socket(room: int = 1 << 30) -> tuple[Desk, Socket]:
    desk, socket = Desk(), Socket(room)
    desk.writer.start(socket)
    return desk, socket


def test_a_socket_is_written_to_at_once() -> None:
    desk, socket = on_a_socket()
    desk.outbox.append(b"one")
    desk.writer.flush()
    assert socket.sent == [b"one"]
    assert not socket.registry.writers


def test_what_a_socket_does_not_take_at_once_waits_for_the_reactor() -> None:
    desk, socket = on_a_socket(room=10_000)
    for _ in range(100):
        desk.outbox.append(b"x" * 10_000)
    desk.writer.flush()
    assert desk.outbox
    turns = 0
    while socket.registry.writers:
        assert socket.turn() is None
        turns += 1
    assert sum(map(len, socket.sent)) == 1_000_000
    assert turns < 101
    assert not desk.outbox


def test_a_socket_that_fails_fails_again_before_the_reactor() -> None:
    desk, socket = on_a_socket()
    socket.result = ConnectionLost()
    desk.outbox.append(b"one")
    desk.writer.flush()
    assert socket in socket.registry.writers
    assert socket.turn() is socket.result


def test_a_socket_that_was_closed_by_somebody_else_is_closed_all_the_same() -> None:
    desk, socket = on_a_socket()
    socket.loseConnection()  # type: ignore[no-untyped-call]  # Twisted's
    desk.outbox.append(b"one")
    desk.writer.flush()
    assert socket.sent == []  # the reactor has to see the end itself
    assert isinstance(socket.turn(), ConnectionDone)


def test_what_lets_a_socket_shine_through_is_not_written_to_at_once() -> None:
    class Wrapper(Transport):
        def doWrite(self) -> None:
            raise AssertionError

    desk = Desk()
    desk.transport = Wrapper()
    desk.start()
    desk.outbox.append(b"one")
    desk.writer.flush()
    assert desk.transport.writes == [b"one"]


@pytest.fixture
def io_thread() -> Iterator[None]:
    before = threadable.ioThread
    threadable.registerAsIOThread()
    yield
    threadable.ioThread = before


class Time:
    """A reactor's time, as far as a writer wants it: no ``Clock``."""

    def __init__(self, clock: Clock) -> None:
        self.callLater = clock.callLater
        self.seconds = clock.seconds


@pytest.mark.parametrize("on_reactor", [True, False])
@pytest.mark.usefixtures("io_thread")
def test_a_call_from_another_thread_is_refused_and_leaves_nothing(on_reactor: bool) -> None:
    desk = Desk()
    if on_reactor:
        reactor: Any = Time(desk.clock)
        desk.writer = Writer(desk.outbox, lambda: reactor, lambda: None)
        desk.outbox.wake = desk.writer.wake
    desk.start()
    error = elsewhere(lambda: desk.outbox.append(b"from afar"))
    assert isinstance(error, RuntimeError)
    assert "reactor.callFromThread" in str(error)
    assert not desk.outbox
    assert desk.outbox.appended == 0
    assert desk.clock.getDelayedCalls() == []
    desk.outbox.append(b"from here")
    desk.clock.advance(0)
    assert desk.transport.value == b"from here"


def test_a_clock_belongs_to_the_thread_that_has_it_wherever_a_reactor_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threadable, "ioThread", -1)
    desk.outbox.append(b"from here")
    desk.clock.advance(0)
    assert desk.transport.value == b"from here"
