"""The client for scripts and threads, on a real broker.

The reactor of these tests runs in the main thread, so that what waits is in threads of its own; what has to
be a process of its own is in `test_blocking_scripts.py`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.brokers_plugin import Vhost
from tests.integration.support import PATIENCE, soon
from txamqpx import blocking
from txamqpx.blocking import BlockingClient, Delivery, Operation, wait, wait_all, wait_any
from txamqpx.consuming.settlement import Reject, StopConsuming
from txamqpx.errors import (
    AMQPError,
    ConnectionClosed,
    ConnectionRefused,
    ConsumerCancelled,
    NotFound,
    RemoteError,
    Unroutable,
    WaitTimeout,
    WrongThread,
)
from txamqpx.message import Settlement
from txamqpx.topology import Queue

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> Deferred[T]:
    """Call a function in a thread; what it returns or raises is the result."""
    return soon(deferToThread(function))


@pytest.fixture
def client(vhost: Vhost) -> Iterator[BlockingClient]:
    """Connect; close after the test, in a thread, as whatever waits."""
    made = pytest_twisted.blockon(in_thread(lambda: blocking.connect(vhost.url)))
    yield made
    pytest_twisted.blockon(in_thread(made.close))


def filled(client: BlockingClient, queue: str, count: int) -> list[bytes]:
    """Declare a queue with so many messages; return their bodies."""
    bodies = [b"%d" % number for number in range(count)]
    client.declare(Queue(queue, durable=True))
    with client.publisher() as publisher:
        assert publisher.publish_many(bodies, routing_key=queue).confirmed == count
    return bodies


def depth(client: BlockingClient, queue: str) -> int:
    """Return how many messages are ready, when all that was sent before has arrived; see `support.depth`."""
    for _ in range(2):
        answer = client.queue_declare(queue, durable=True, passive=True)
    return answer.message_count


# --------------------------------------------------------------------------- calls


@pytest.mark.covers("S88")
@pytest_twisted.ensureDeferred
async def test_a_call_returns_what_the_broker_says(client: BlockingClient) -> None:
    def script() -> None:
        assert client.queue_declare("jobs", durable=True).queue == "jobs"
        assert client.publish(b"hello", routing_key="jobs", content_type="text/plain") is not None
        delivery = client.get("jobs")
        assert isinstance(delivery, Delivery)
        assert (delivery.body, delivery.properties.content_type) == (b"hello", "text/plain")
        assert delivery.ack() is Settlement.SENT
        assert client.get("jobs") is None
        with pytest.raises(Unroutable) as unroutable:
            client.publish(b"lost", routing_key="nowhere")
        assert unroutable.value.message.body == b"lost"
        with pytest.raises(NotFound) as missing:
            client.queue_purge("nowhere")
        assert missing.value.queue == "nowhere"
        assert client.publish(b"again", routing_key="jobs") is not None
        assert client.queue_delete("jobs").message_count == 1
        assert client.is_open
        assert client.server.product == "RabbitMQ"

    await in_thread(script)


@pytest.mark.covers("P10", "P11")
@pytest_twisted.ensureDeferred
async def test_several_operations_can_be_waited_for(client: BlockingClient) -> None:
    def script() -> None:
        declared = client.begin.queue_declare("jobs", exclusive=True)
        missing = client.begin.queue_purge("nowhere")
        assert wait(declared).queue == "jobs"
        assert wait(declared).queue == "jobs", "it is there as often as it is asked for"
        either: list[Operation[Any]] = [declared, missing]
        assert wait_any(either) in either
        with pytest.raises(NotFound):
            wait(missing)
        lengthy = client.begin.when_closed()
        either = [lengthy, client.begin.get("jobs")]
        assert wait_any(either) is either[1]
        with pytest.raises(WaitTimeout):
            wait(lengthy, 0.01)
        assert lengthy.cancel()
        outcomes = wait_all(
            [
                client.begin.publish(b"1", routing_key="jobs"),
                client.begin.publish(b"2", routing_key="nowhere"),
            ],
            return_exceptions=True,
        )
        assert [type(one).__name__ for one in outcomes] == ["Confirmed", "NoRoute"]

    await in_thread(script)


@pytest.mark.covers("S03")
@pytest_twisted.ensureDeferred
async def test_what_is_begun_takes_effect_in_its_order(client: BlockingClient) -> None:
    def script() -> None:
        begin = client.begin
        operations: list[Operation[Any]] = []
        for number in range(50):
            name = f"n{number}"
            operations += [
                begin.exchange_declare(name, "fanout"),
                begin.queue_declare(name, exclusive=True),
                begin.queue_bind(name, name),
                begin.publish(b"x", exchange=name),
                begin.get(name, no_ack=True),
            ]
        results = wait_all(operations)
        assert [one.body for one in results[4::5]] == [b"x"] * 50

    await in_thread(script)


@pytest.mark.covers("S87")
@pytest_twisted.ensureDeferred
async def test_a_callback_may_publish_again(client: BlockingClient) -> None:
    def script() -> list[bytes]:
        client.queue_declare("jobs", exclusive=True)
        done = Event()

        def again(first: Any) -> None:
            first.result()
            client.publish(b"second", routing_key="jobs")
            done.set()

        client.begin.publish(b"first", routing_key="jobs").add_done_callback(again)
        assert done.wait(PATIENCE)
        return [taken.body for taken in (client.get("jobs"), client.get("jobs")) if taken is not None]

    assert await in_thread(script) == [b"first", b"second"]


@pytest_twisted.ensureDeferred
async def test_the_reactors_thread_is_told_that_it_cannot_wait(vhost: Vhost, client: BlockingClient) -> None:
    with pytest.raises(WrongThread, match=r"Use txamqpx\.connect\(\)"):
        blocking.connect(vhost.url)
    with pytest.raises(WrongThread):
        client.queue_declare("jobs")
    with pytest.raises(WrongThread):
        client.begin.queue_declare("jobs")
    with pytest.raises(NotFound):
        await in_thread(lambda: client.queue_declare("jobs", passive=True))


@pytest_twisted.ensureDeferred
async def test_no_connection_is_an_error_of_its_kind() -> None:
    with pytest.raises(ConnectionRefused):
        await in_thread(lambda: blocking.connect("amqp://localhost:1"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WaitTimeout, match=r"connect did not end within 0\.05 s"):
            await in_thread(lambda: blocking.connect(url, timeout=0.05))


@pytest_twisted.ensureDeferred
async def test_the_client_itself_is_within_reach(client: BlockingClient) -> None:
    async def declare_and_count(asynchronous: Any) -> int:
        channel = await asynchronous.channel()
        declared = await channel.queue_declare("jobs", exclusive=True)
        await channel.close()
        return int(declared.message_count)

    assert await in_thread(lambda: client.run(declare_and_count)) == 0


@pytest_twisted.ensureDeferred
async def test_a_block_is_a_transaction(client: BlockingClient) -> None:
    def script() -> None:
        filled(client, "orders", 1)
        client.queue_declare("results", durable=True)
        with suppress(ZeroDivisionError), client.transaction() as tx:
            tx.publish(b"wrong", routing_key="results")
            raise ZeroDivisionError
        assert depth(client, "results") == 0
        with client.transaction() as tx:
            order = tx.get("orders")
            assert order is not None
            tx.publish(b"done", routing_key="results")
            order.ack()
        assert (depth(client, "orders"), depth(client, "results")) == (0, 1)

    await in_thread(script)


# --------------------------------------------------------------------------- loops


@pytest_twisted.ensureDeferred
async def test_a_loop_takes_messages_and_gives_back_the_rest(client: BlockingClient) -> None:
    def script() -> None:
        bodies = filled(client, "jobs", 20)
        taken = []
        with client.deliveries("jobs", prefetch=5) as deliveries:
            for delivery in deliveries:
                taken.append(delivery.body)
                delivery.ack()
                if len(taken) == 12:
                    break
        assert taken == bodies[:12]
        assert depth(client, "jobs") == 8
        with client.deliveries("jobs", timeout=0.01) as deliveries:
            for _ in range(8):
                delivery = deliveries.get(timeout=PATIENCE)
                taken.append(delivery.body)
                delivery.ack()
            with pytest.raises(WaitTimeout):
                next(deliveries)
            client.publish(b"one more", routing_key="jobs")
            assert deliveries.get(timeout=PATIENCE).body == b"one more"
        assert taken == bodies

    await in_thread(script)


@pytest_twisted.ensureDeferred
async def test_a_loop_that_the_broker_ends_says_so(client: BlockingClient) -> None:
    def script() -> None:
        client.queue_declare("jobs")
        for delivery in client.deliveries("jobs"):
            raise AssertionError(delivery)

    looping = in_thread(script)
    await in_thread(lambda: until(lambda: client.queue_declare("jobs").consumer_count == 1))
    await in_thread(lambda: client.queue_delete("jobs"))
    with pytest.raises(ConsumerCancelled):
        await looping


@pytest_twisted.ensureDeferred
async def test_a_loop_ends_with_its_client(client: BlockingClient) -> None:
    def script() -> str:
        client.queue_declare("jobs")
        for delivery in client.deliveries("jobs"):
            raise AssertionError(delivery)
        return "the end"

    looping = in_thread(script)
    await in_thread(lambda: until(lambda: client.queue_declare("jobs").consumer_count == 1))
    await in_thread(client.close)
    assert await looping == "the end"


def until(happens: Callable[[], object]) -> None:
    """Wait, in a thread, for what nobody tells us about."""
    never = Event()
    while not happens():
        never.wait(0.02)


# --------------------------------------------------------------------------- handlers


@pytest.mark.covers("S89", "L07")
@pytest_twisted.ensureDeferred
async def test_so_many_handlers_are_at_work_as_there_are_threads(client: BlockingClient) -> None:
    def script() -> None:
        bodies = filled(client, "jobs", 6)
        begun: SimpleQueue[bytes] = SimpleQueue()
        go_on = Event()

        def handler(delivery: Delivery) -> None:
            begun.put(delivery.body)
            assert go_on.wait(PATIENCE)

        with client.consume("jobs", handler, concurrency=3, prefetch=3):
            first = {begun.get(timeout=PATIENCE) for _ in range(3)}
            assert first == set(bodies[:3])
            assert depth(client, "jobs") == 3, "no more than three are unacked"
            assert begun.empty()
            go_on.set()
            assert {begun.get(timeout=PATIENCE) for _ in range(3)} == set(bodies[3:])
        assert depth(client, "jobs") == 0

    await in_thread(script)


@pytest_twisted.ensureDeferred
async def test_a_handler_may_wait_and_settle_as_it_likes(client: BlockingClient) -> None:
    def script() -> None:
        filled(client, "jobs", 3)
        client.queue_declare("results", exclusive=True)
        settled: SimpleQueue[Settlement] = SimpleQueue()

        def handler(delivery: Delivery) -> None:
            if delivery.body == b"1":
                raise Reject
            if delivery.body == b"2":
                settled.put(delivery.discard())
            client.publish(b"result of " + delivery.body, routing_key="results")

        with client.consume("jobs", handler), client.deliveries("results") as results:
            assert [results.get(timeout=PATIENCE).body for _ in range(2)] == [b"result of 0", b"result of 2"]
            assert settled.get(timeout=PATIENCE) is Settlement.SENT
        assert depth(client, "jobs") == 0

    await in_thread(script)


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_consumer_has_a_reason(client: BlockingClient) -> None:
    def stop(delivery: Delivery) -> None:
        raise StopConsuming("enough")

    def script() -> None:
        filled(client, "jobs", 1)
        stopped = client.consume("jobs", stop)
        assert isinstance(stopped.wait(PATIENCE), StopConsuming)
        assert depth(client, "jobs") == 1
        client.queue_declare("gone")
        consumer = client.consume("gone", print)
        with pytest.raises(WaitTimeout):
            consumer.wait(0.01)
        client.queue_delete("gone")
        assert isinstance(consumer.wait(PATIENCE), ConsumerCancelled)
        client.queue_declare("left", exclusive=True)
        left = client.consume("left", print)
        left.cancel()
        assert left.wait(PATIENCE) is None
        with pytest.raises(NotFound):
            client.consume("nowhere", print)

    await in_thread(script)


@pytest_twisted.ensureDeferred
async def test_several_queues_share_a_consumer_and_a_pipeline_moves_messages(client: BlockingClient) -> None:
    def script() -> None:
        for queue in ("one", "two"):
            filled(client, queue, 3)
        client.queue_declare("all", durable=True)
        with (
            client.pipe("one", lambda delivery: b"from one: " + delivery.body, "all"),
            client.pipe("two", None, ("", "all"), prefetch=1),
            client.deliveries("all") as moved,
        ):
            got = {moved.get(timeout=PATIENCE).body for _ in range(6)}
        assert got == {b"from one: 0", b"from one: 1", b"from one: 2", b"0", b"1", b"2"}
        seen: SimpleQueue[bytes] = SimpleQueue()
        filled(client, "one", 2)
        filled(client, "two", 2)
        with client.consume_many(["one", "two"], lambda delivery: seen.put(delivery.body)):
            assert sorted(seen.get(timeout=PATIENCE) for _ in range(4)) == [b"0", b"0", b"1", b"1"]

    await in_thread(script)


@pytest_twisted.ensureDeferred
async def test_a_question_is_answered_by_a_function_in_a_thread(client: BlockingClient) -> None:
    def serve(delivery: Delivery) -> bytes:
        if not delivery.body.isdigit():
            raise ValueError(f"no number: {delivery.body!r}")
        return b"%d" % (int(delivery.body) ** 2)

    def script() -> None:
        client.queue_declare("square", exclusive=True)
        with client.serve("square", serve, concurrency=2, describe=described) as server:
            assert client.call("square", b"12").body == b"144"
            replies = wait_all([client.begin.call("square", b"%d" % number) for number in range(10)])
            assert [int(reply.body) for reply in replies] == [number**2 for number in range(10)]
            with pytest.raises(RemoteError, match="no number"):
                client.call("square", b"twelve")
            with client.caller(max_outstanding=5) as caller:
                assert caller.call("square", b"3").body == b"9"
            assert (server.replied, server.failed) == (13, 1)
        with pytest.raises(TimeoutError):
            client.call("square", b"1", timeout=0.1)
        with pytest.raises(Unroutable):
            client.call("nowhere", b"1")

    await in_thread(script)


def described(error: Exception, delivery: object) -> RemoteError:
    return RemoteError(type(error).__name__, str(error))


# --------------------------------------------------------------------------- many threads, one connection


THREADS = 8
EACH = 150


@pytest.mark.covers("S97", "L13", "J01")
@pytest_twisted.ensureDeferred
async def test_many_threads_share_a_connection(vhost: Vhost, client: BlockingClient) -> None:
    """Half of the threads wait for each publish, half begin them; all consume, by loops and by handlers."""
    everything = {b"%d %d" % (thread, number) for thread in range(THREADS) for number in range(EACH)}

    def publish(thread: int) -> None:
        bodies = [b"%d %d" % (thread, number) for number in range(EACH)]
        if thread % 2:
            wait_all([client.begin.publish(body, routing_key="jobs") for body in bodies])
        else:
            for body in bodies:
                client.publish(body, routing_key="jobs")

    def script() -> list[bytes]:
        client.queue_declare("jobs", durable=True)
        seen: SimpleQueue[bytes] = SimpleQueue()
        loops = [client.deliveries("jobs", prefetch=20) for _ in range(THREADS // 2)]

        def take(loop: blocking.Deliveries) -> None:
            for delivery in loop:
                delivery.ack()
                seen.put(delivery.body)

        takers = [Thread(target=take, args=(loop,)) for loop in loops]
        for taker in takers:
            taker.start()
        consumers = [
            client.consume("jobs", lambda delivery: seen.put(delivery.body), prefetch=20, concurrency=2)
            for _ in range(THREADS // 2)
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(publish, range(THREADS)))
            got = [seen.get(timeout=PATIENCE) for _ in range(THREADS * EACH)]
        connections = [row for row in vhost.node.list_connections() if row["vhost"] == vhost.name]
        assert len(connections) == 1
        for consumer in consumers:
            consumer.cancel()
        for loop in loops:
            loop.cancel()
        for taker in takers:
            taker.join(PATIENCE)
        assert depth(client, "jobs") == 0
        assert seen.empty()
        return got

    got = await in_thread(script)
    assert len(got) == len(everything)
    assert set(got) == everything


# --------------------------------------------------------------------------- the end


@pytest_twisted.ensureDeferred
async def test_all_threads_are_told_when_the_connection_is_lost(vhost: Vhost, client: BlockingClient) -> None:
    ready: SimpleQueue[str] = SimpleQueue()

    def loop() -> None:
        with client.deliveries("jobs") as deliveries:
            ready.put("loop")
            deliveries.get()

    def handle() -> Any:
        consumer = client.consume("jobs", print)
        ready.put("handler")
        return consumer.wait()

    await in_thread(lambda: client.queue_declare("jobs"))
    waiting = [in_thread(function) for function in (loop, handle)]
    for _ in range(2):
        await in_thread(lambda: ready.get(timeout=PATIENCE))
    closed = in_thread(client.when_closed)
    await in_thread(lambda: vhost.node.close_all_connections("enough"))
    with pytest.raises(ConnectionClosed):
        await waiting[0]
    assert isinstance(await waiting[1], ConnectionClosed)
    assert isinstance(await closed, ConnectionClosed)
    assert not client.is_open
    with pytest.raises(AMQPError):
        await in_thread(lambda: client.queue_declare("jobs", passive=True))


@pytest.mark.covers("S86")
@pytest_twisted.ensureDeferred
async def test_closing_waits_for_what_was_begun(vhost: Vhost, client: BlockingClient) -> None:
    def script() -> list[Any]:
        client.queue_declare("jobs", durable=True)
        begun = [client.begin.publish(b"%d" % number, routing_key="jobs") for number in range(300)]
        client.close()
        client.close()
        return [type(one) for one in wait_all(begun, 0.0, return_exceptions=True)]

    assert {kind.__name__ for kind in await in_thread(script)} == {"Confirmed"}

    def count() -> int:
        with blocking.connect(vhost.url) as other:
            return depth(other, "jobs")

    assert await in_thread(count) == 300
