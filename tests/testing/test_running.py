from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import capturedLogs, formatEvent

from txamqpx.broker.broker import Broker
from txamqpx.broker.names import names
from txamqpx.client import Client, connect
from txamqpx.consuming import Requeue, RetryLater
from txamqpx.errors import NotFound
from txamqpx.message import Delivery
from txamqpx.testing import Running, Watched, delivery, is_pending, running, virtual
from txamqpx.testing.running import MOST_LINES, close_broker, last_words


def client_with(t: Running, queue: str) -> Client:
    client = t.run(t.connect())
    t.run(client.queue_declare(queue, durable=True))
    return client


# --------------------------------------------------------------------------- by hand


def test_nothing_moves_but_by_hand() -> None:
    with running() as t:
        connecting = t.connect()
        assert is_pending(connecting)
        client = t.run(connecting)
        declared = client.queue_declare("q", durable=True)
        assert is_pending(declared)
        t.settled()
        assert t.run(declared).queue == "q"
        assert t.clock.seconds() == 0


def test_minutes_of_attempts_take_no_time() -> None:
    attempts: list[float] = []

    def handle(delivery: Delivery) -> None:
        attempts.append(t.clock.seconds())
        if len(attempts) < 4:
            raise RetryLater(60)

    with running() as t:
        client = client_with(t, "q")
        t.run(client.consume("q", handle))
        t.run(client.publish(b"m", routing_key="q"))
        t.advance(59.5)
        assert attempts == [0]
        t.advance("12m")
        assert attempts == [0, 60, 120, 180]
        assert (t.queue("q").ready, t.queue("q").unacked) == (0, 0)
        assert t.clock.seconds() == 779.5


def test_the_broker_has_the_same_time() -> None:
    with running() as t:
        client = client_with(t, "q")
        t.run(client.publish(b"m", routing_key="q", expiration=30_000))
        t.advance(29.9)
        assert [message.body for message in t.queue("q").messages] == [b"m"]
        t.advance(0.1)
        assert t.queue("q").messages == []


def test_a_coroutine_is_run_to_its_end() -> None:
    async def work(client: Client) -> bytes:
        await client.queue_declare("q", durable=True)
        await client.publish(b"m", routing_key="q")
        await t.advance("1m")
        delivery = await client.get("q")
        assert delivery is not None
        delivery.ack()
        await t.settled()
        return delivery.body

    with running() as t:
        assert t.run(work(t.run(t.connect()))) == b"m"
        assert t.clock.seconds() == 60
        assert t.queue("q").unacked == 0


def test_what_fails_raises_its_error() -> None:
    with running() as t:
        client = t.run(t.connect())
        with pytest.raises(NotFound):
            t.run(client.queue_declare("q", passive=True))


def test_what_waits_for_time_says_so() -> None:
    with running() as t:
        sleeping: Deferred[None] = deferLater(t.clock, 5)
        with pytest.raises(
            AssertionError, match=r"it waits still; something is due in 5 s, if time is advanced$"
        ):
            t.run(sleeping)
        t.advance(5)
        assert not is_pending(sleeping)


def test_what_waits_for_nothing_says_so() -> None:
    with running() as t, pytest.raises(AssertionError, match=r"^nothing is left to do, and it waits still$"):
        t.run(Deferred())


@pytest.mark.parametrize("turns", [0, 1])
def test_what_runs_is_not_run_within(turns: int) -> None:
    async def work() -> None:
        for _ in range(turns):
            await deferLater(t.clock, 0)
        t.run(Deferred())

    with running() as t, pytest.raises(RuntimeError, match="await it"):
        t.run(work())


def test_what_has_no_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(delivery: Delivery) -> None:
        raise Requeue

    monkeypatch.setattr(virtual, "MOST_TURNS", 200)
    with running() as t:
        client = client_with(t, "q")
        t.run(client.consume("q", handle))
        t.run(client.publish(b"m", routing_key="q"))
        with pytest.raises(AssertionError, match="does a message go round in circles"):
            t.settled()
        with pytest.raises(AssertionError, match="does a message go round in circles"):
            t.advance(1)


def test_a_negative_duration_is_none() -> None:
    with running() as t, pytest.raises(ValueError, match="from 0 on"):
        t.advance(-1)


def test_handlers_in_threads_are_part_of_it() -> None:
    def copy(delivery: Delivery) -> None:
        publish: Any = client.publish
        blockingCallFromThread(t.clock, publish, delivery.body, routing_key="copies")

    with running() as t:
        client = client_with(t, "q")
        t.run(client.queue_declare("copies", durable=True))
        t.run(client.consume("q", copy, thread=True, concurrency=2))
        for body in (b"1", b"2"):
            client.publish(body, routing_key="q")
        t.settled()
        assert [message.body for message in t.queue("copies").messages] == [b"1", b"2"]
        assert t.queue("q").unacked == 0


def test_the_broker_is_what_the_options_say() -> None:
    with running(profile="rabbitmq-3.10", vhosts=["/", "other"]) as t:
        client = t.run(t.connect(f"{t.url}/other", confirms=False))
        assert client.server.rabbitmq is not None
        assert client.server.rabbitmq[:2] == (3, 10)
        assert client.confirms is False
        t.run(client.queue_declare("q", durable=True))
        assert t.queue("q", vhost="other").ready == 0


# --------------------------------------------------------------------------- the end


def test_clients_and_broker_end_with_the_block() -> None:
    with running() as t:
        clients = [t.run(t.connect()) for _ in range(2)]
        assert names.find(t.broker.name) is t.broker
    assert [client.is_open for client in clients] == [False, False]
    assert names.find(t.broker.name) is None


@pytest.mark.parametrize("late", ["t.connect()", "t.settled()", "t.advance(1)", "t.run(Deferred())"])
def test_nothing_is_done_after_the_block(late: str) -> None:
    with running() as t:
        t.run(t.connect())
    with pytest.raises(RuntimeError, match="the block has ended"):
        eval(late, {"t": t, "Deferred": Deferred})


@pytest.mark.parametrize(
    "early", ["t.connect()", "t.settled()", "t.queue('q')", "t.url", "t.broker", "t.clock"]
)
def test_nothing_is_there_before_the_block(early: str) -> None:
    with pytest.raises(RuntimeError, match=r"before the block begins: with running\(\) as t"):
        eval(early, {"t": running()})


def test_what_it_never_has_is_missing_as_elsewhere() -> None:
    assert not hasattr(running(), "reactor")


def test_its_clock_is_its_own() -> None:
    with pytest.raises(TypeError, match=r"running\(\) has a clock of its own"):
        running(clock=Clock())


def test_two_blocks_know_nothing_of_each_other() -> None:
    with running() as one, running() as other:
        client_with(one, "q")
        client = other.run(other.connect())
        with pytest.raises(NotFound):
            other.run(client.queue_declare("q", passive=True))


def test_a_handler_that_does_not_end_is_given_its_time() -> None:
    cancelled: list[float] = []

    async def handle(delivery: Delivery) -> None:
        try:
            await Deferred()
        except CancelledError:
            cancelled.append(t.clock.seconds())
            raise

    with running() as t:
        client = client_with(t, "q")
        t.run(client.consume("q", handle))
        t.run(client.publish(b"m", routing_key="q"))
    (at,) = cancelled
    assert 20 < at <= 30


def test_a_client_that_is_closed_already_is_no_harm() -> None:
    with running() as t:
        t.run(t.run(t.connect()).close())


def test_an_error_tells_what_went_over_the_wire() -> None:
    def fail(t: Running) -> None:
        client_with(t, "a-queue")
        raise ZeroDivisionError

    with capturedLogs() as events, pytest.raises(ZeroDivisionError) as raised, running() as t:
        fail(t)
    (note,) = raised.value.__notes__
    assert note.startswith(f"What went over the wire of {t.url}:\n")
    assert "QueueDeclare(queue='a-queue'" in note
    assert note in map(formatEvent, events)


def test_of_the_wire_only_the_last_is_told() -> None:
    with running() as t:
        client = client_with(t, "q")
        whole = last_words(t.broker)
        for _ in range(MOST_LINES):
            t.run(client.publish(b"m", routing_key="q"))
        lines = last_words(t.broker).splitlines()
        assert lines[0] == "..."
        assert len(lines) == MOST_LINES + 1
    assert not whole.startswith("...")


def test_what_follows_from_an_error_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(t: Running) -> None:
        monkeypatch.setattr(t.broker, "close", [].pop)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), running() as t:
        fail(t)


# --------------------------------------------------------------------------- on a reactor


def on_reactor(test: Callable[[], Any]) -> Callable[[], Any]:
    decorated: Callable[[], Any] = pytest_twisted.ensureDeferred(test)
    return decorated


@on_reactor
async def test_on_a_reactor_everything_is_awaited() -> None:
    attempts: list[float] = []

    def handle(delivery: Delivery) -> None:
        attempts.append(t.clock.seconds())
        if len(attempts) < 3:
            raise RetryLater(60)

    async with running() as t:
        client = await t.connect()
        await client.queue_declare("q", durable=True)
        await client.consume("q", handle)
        await client.publish(b"m", routing_key="q")
        await t.settled()
        assert attempts == [0]
        await t.advance("10m")
        assert attempts == [0, 60, 120]
        with pytest.raises(RuntimeError, match="await it"):
            t.run(client.get("q"))
    assert not client.is_open
    assert names.find(t.broker.name) is None


@on_reactor
async def test_on_a_reactor_threads_are_part_of_it_as_well() -> None:
    def copy(delivery: Delivery) -> None:
        publish: Any = client.publish
        blockingCallFromThread(t.clock, publish, delivery.body, routing_key="copies")

    async with running() as t:
        client = await t.connect()
        await client.queue_declare("q", durable=True)
        await client.queue_declare("copies", durable=True)
        await client.consume("q", copy, thread=True)
        await client.publish(b"m", routing_key="q")
        await t.settled()
        assert [message.body for message in t.queue("copies").messages] == [b"m"]


@on_reactor
async def test_on_a_reactor_an_error_tells_what_went_over_the_wire() -> None:
    async def fail() -> None:
        async with running() as t:
            await t.connect()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        await fail()
    (note,) = raised.value.__notes__
    assert "ConnectionOpenOk" in note


@on_reactor
async def test_what_has_no_end_fails_on_a_reactor_too() -> None:
    def again() -> None:
        t.clock.callLater(0, again)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtual, "MOST_TURNS", 100)
        async with running() as t:
            again()
            settling = Watched(t.settled())
            await deferLater(t.clock, 0)
            assert settling.pending
            with pytest.raises(AssertionError, match="circles"):
                await t.settled()
            settling.error(AssertionError)
            t.clock.getDelayedCalls()[0].cancel()


# --------------------------------------------------------------------------- the fixture's broker


@on_reactor
async def test_a_broker_can_be_closed_from_any_thread() -> None:
    here, elsewhere = Broker(), Broker()
    client = await connect(elsewhere.url)
    close_broker(here)
    assert names.find(here.name) is None
    await deferToThread(close_broker, elsewhere)
    await client.when_closed()
    assert names.find(elsewhere.name) is None


@on_reactor
async def test_what_is_done_by_hand_cares_for_no_reactor() -> None:
    """As where a script that waits has started one in a thread of its own."""
    done: list[str] = []

    def by_hand() -> None:
        with running() as t:
            client_with(t, "q")
        message = delivery()
        message.ack()
        done.append(str(message.settlement))

    await deferToThread(by_hand)
    assert done == ["ack"]


def test_a_thread_that_takes_what_is_the_reactors_is_refused() -> None:
    errors: list[Exception] = []

    def handle(delivery: Delivery) -> None:
        try:
            client.publish(b"m", routing_key="q")
        except RuntimeError as error:
            errors.append(error)

    with running() as t:
        client = client_with(t, "q")
        t.run(client.consume("q", handle, thread=True))
        t.run(client.publish(b"m", routing_key="q"))
        t.settled()
    assert "use reactor.callFromThread" in str(errors[0])
