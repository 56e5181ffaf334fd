"""Consumers, loops and several queues at a time, on a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Barrier
from time import sleep
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.integration.support import (
    Connector,
    all_of,
    depth,
    drain,
    failure_of,
    fill,
    get,
    headers_of,
    is_since,
    needs,
    numbered,
    pause,
    soon,
    streaming,
    until,
    until_ready,
)
from tests.logged import LoggedErrors
from txamqpx.channel import Channel
from txamqpx.client import Client
from txamqpx.consumer import Consumer
from txamqpx.consuming.batch import Batch, Bundle
from txamqpx.consuming.settlement import Drop, Outcome, Reject, Requeue, RetryLater, StopConsuming
from txamqpx.consuming.subscription import Ending, Subscription
from txamqpx.deliveries import Deliveries
from txamqpx.errors import (
    AccessRefused,
    AlreadySettled,
    ConnectionClosed,
    ConsumerCancelled,
    NotFound,
    PreconditionFailed,
)
from txamqpx.message import Delivery, Settlement

QUORUM = {"x-queue-type": "quorum"}
MODERN_TIMEOUT = "4.3"


class Keep:
    """A handler that keeps what it gets, and whose calls end when the test says so."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.ends: list[Deferred[None]] = []
        self._queue: DeferredQueue[Delivery] = DeferredQueue()

    def __call__(self, delivery: Delivery) -> Deferred[None]:
        self.got.append(delivery)
        self._queue.put(delivery)
        self.ends.append(Deferred())
        return self.ends[-1]

    def put(self, delivery: Delivery) -> None:
        """Keep it, and be done."""
        self.got.append(delivery)
        self._queue.put(delivery)

    async def take(self, count: int = 1) -> list[Delivery]:
        """Wait for so many."""
        return [await soon(self._queue.get()) for _ in range(count)]

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.got]


@pytest.fixture
def client(connect: Connector) -> Iterator[Client]:
    """Connect a client, and close it after the test."""
    client = Client(pytest_twisted.blockon(Deferred.fromCoroutine(connect())))
    yield client
    pytest_twisted.blockon(client.close(timeout=5.0))


async def ended(consumer: Consumer | Subscription) -> Ending:
    """Wait for the end, and return the reason."""
    waiting: Deferred[Ending] = consumer.closed
    return await soon(waiting)


async def quiet(channel: Channel) -> None:
    """Let everything arrive that is on its way."""
    for _ in range(3):
        await channel.queue_declare(exclusive=True)
        await pause(0.05)


# --------------------------------------------------------------------------- handlers and outcomes


@pytest.mark.covers("S33", "T-QOS-01")
@pytest_twisted.ensureDeferred
async def test_what_was_handled_is_gone_when_the_client_is_closed(
    client: Client, connect: Connector, channel: Channel
) -> None:
    await fill(channel, "q", numbered(500))
    keep = Keep()
    await soon(client.consume("q", keep.put, prefetch=50))
    await keep.take(500)
    assert keep.bodies == numbered(500)
    await soon(client.close())
    assert await depth(channel, "q") == 0


@pytest.mark.covers("S90", "S14", "F10")
@pytest_twisted.ensureDeferred
async def test_each_outcome_and_never_a_hot_loop(
    client: Client, channel: Channel, logged_errors: LoggedErrors
) -> None:
    await channel.queue_declare("dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await fill(
        channel, "q", [b"none", b"junk", b"requeue", b"reject", b"drop", b"retry", b"raise"], arguments
    )
    calls: list[tuple[bytes, bool]] = []

    async def handle(delivery: Delivery) -> object:
        calls.append((delivery.body, delivery.redelivered))
        match delivery.body:
            case b"junk":
                return "junk"
            case b"requeue" if not delivery.redelivered:
                raise Requeue
            case b"reject":
                raise Reject
            case b"drop":
                raise Drop
            case b"retry":
                raise RetryLater(0.05)
            case b"raise":
                raise ValueError("always")
        return None

    consumer = await soon(client.consume("q", handle, attempts=3))
    await until_ready(channel, "dead", 3)
    await until(lambda: calls.count((b"requeue", True)) == 1)
    await soon(consumer.cancel())
    assert await depth(channel, "q") == 0
    assert await drain(channel, "dead") == [b"reject", b"retry", b"raise"]
    assert [calls.count((body, False)) for body in (b"none", b"junk", b"drop", b"retry", b"raise")] == [
        1,
        1,
        1,
        3,
        1,
    ]
    assert calls.count((b"raise", True)) == 1
    assert len(logged_errors.flush(ValueError)) == 2


@pytest.mark.covers("S15", "F3")
@pytest_twisted.ensureDeferred
async def test_what_is_rejected_is_dead_lettered(client: Client, channel: Channel) -> None:
    await channel.queue_declare("dead")
    await fill(channel, "q", [b"1"], {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})

    def handle(delivery: Delivery) -> None:
        raise Reject

    await soon(client.consume("q", handle))
    await until_ready(channel, "dead", 1)
    assert headers_of(await get(channel, "dead"))["x-death"][0]["reason"] == "rejected"


@pytest.mark.covers("T-ACK-06")
@pytest_twisted.ensureDeferred
async def test_quorum_queues_count_failures_and_not_what_was_released(
    client: Client, channel: Channel, broker: BrokerNode, logged_errors: LoggedErrors
) -> None:
    await channel.queue_declare("dead")
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await fill(channel, "q", [b"1"], {**QUORUM, **letters, "x-delivery-limit": 2})
    calls: list[int] = []

    def handle(delivery: Delivery) -> None:
        calls.append(1)
        raise ValueError("always")

    released = 0

    def policy(failure: Any, delivery: Delivery) -> Outcome:
        nonlocal released
        if released < 5 and is_since(broker, MODERN_TIMEOUT):
            released += 1
            return Outcome.RELEASED
        return Outcome.FAILED

    consumer = await soon(client.consume("q", handle, on_error=policy))
    await until_ready(channel, "dead", 1)
    await soon(consumer.cancel())
    assert len(calls) == len(logged_errors.flush(ValueError)) == 3 + released


@pytest.mark.covers("S17", "P32")
@pytest_twisted.ensureDeferred
async def test_a_second_ack_is_a_local_error_and_closes_nothing(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [b"1", b"2"])
    keep = Keep()
    consumer = await soon(client.consume("q", keep.put, ack="manual", debug=True))
    first, second = await keep.take(2)
    first.ack()
    with pytest.raises(AlreadySettled) as caught:
        first.ack()
    assert "test_a_second_ack_is_a_local_error" in getattr(caught.value, "__notes__", [""])[0]
    assert second.ack() is Settlement.SENT
    assert consumer.is_active
    await soon(consumer.cancel())
    assert await depth(channel, "q") == 0


@pytest.mark.covers("S16", "T-CON-07")
@pytest_twisted.ensureDeferred
async def test_a_channel_that_is_closed_ends_its_consumer_alone(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [])
    keep = Keep()
    broken = await soon(client.consume("q", keep.put))
    other = await soon(client.consume("q", keep.put))
    assert broken.channel is not None
    channel_of_it = broken.channel
    # An ack of a tag that never was: the library refuses it, so the ledger is told a lie.
    channel_of_it.core.unsettled._last = 1000
    channel_of_it.core.unsettled._deliveries[999] = Delivery(
        channel_of_it.core, None, "", 999, False, "", "", False
    )
    channel_of_it.basic_ack(999)
    assert isinstance(await ended(broken), PreconditionFailed)
    assert other.is_active
    again = await soon(client.consume("q", keep.put))
    await fill(channel, "q", [b"1"])
    await keep.take(1)
    assert again.is_active


@pytest.mark.covers("S89")
@pytest_twisted.ensureDeferred
async def test_threads_work_beside_each_other_while_the_heart_beats(
    connect: Connector, channel: Channel
) -> None:
    await fill(channel, "q", numbered(6))
    client = Client(await connect(heartbeat=1))
    together = Barrier(3, timeout=60)
    done: list[bytes] = []

    def work(delivery: Any) -> None:
        together.wait()  # none goes on before three are at work
        sleep(1.5)
        assert delivery.ack() is Settlement.SENT
        done.append(delivery.body)

    consumer = await soon(client.consume("q", work, thread=True, concurrency=3, prefetch=3))
    await until(lambda: len(done) == 6)
    assert client.is_open
    await soon(consumer.cancel())
    assert await depth(channel, "q") == 0
    await client.close()


@pytest.mark.covers("T-CON-13")
@pytest_twisted.ensureDeferred
async def test_equal_keys_keep_their_order(client: Client, channel: Channel) -> None:
    bodies = [b"%d-%d" % (number % 5, number) for number in range(100)]
    await fill(channel, "q", bodies)
    done: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        await pause(0.001 * (len(done) % 3))
        done.append(delivery.body)

    await soon(client.consume("q", handle, concurrency=20, order_by=lambda one: one.body.split(b"-")[0]))
    await until(lambda: len(done) == 100)
    for key in range(5):
        mine = [int(body.split(b"-")[1]) for body in done if body.startswith(b"%d-" % key)]
        assert mine == sorted(mine)


@pytest.mark.covers("T-QOS-04")
@pytest_twisted.ensureDeferred
async def test_batches(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(25))
    sizes: list[int] = []

    def handle(bundle: Bundle) -> None:
        sizes.append(len(bundle))
        if len(sizes) == 1:
            bundle.fail(3, Drop())

    consumer = await soon(client.consume("q", handle, batch=Batch(10, 0.2)))
    await until(lambda: sum(sizes) == 25)
    assert sizes == [10, 10, 5]
    await soon(consumer.cancel())
    assert await depth(channel, "q") == 0


# --------------------------------------------------------------------------- starting


@pytest.mark.covers("S28")
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_consumed_fails_alone(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [b"1"])
    keep = Keep()
    good = await soon(client.consume("q", keep.put, exclusive=True))
    error = await failure_of(client.consume("bad_q_name", keep.put), NotFound)
    assert error.queue == "bad_q_name"
    await failure_of(client.consume("q", keep.put), AccessRefused)
    await failure_of(client.consume_many(["q", "bad_q_name"], keep.put), NotFound, AccessRefused)
    await keep.take(1)
    assert good.is_active


@pytest.mark.covers("T-CON-10")
@pytest_twisted.ensureDeferred
async def test_a_start_that_is_cancelled_leaves_no_consumer(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(10))
    starts = [client.consume("q", Keep().put) for _ in range(20)]
    for start in starts:
        start.cancel()
        await failure_of(start, CancelledError)
    await until_ready(channel, "q", 10)
    declared = await channel.queue_declare("q", passive=True)
    assert declared.consumer_count == 0
    assert client.is_open


@pytest.mark.covers("S94", "L07")
@pytest_twisted.ensureDeferred
async def test_a_temporary_queue_is_bound_to_each_key(client: Client, channel: Channel) -> None:
    await client.exchange_declare("x", "direct")
    keep = Keep()
    consumer = await soon(client.consume("", keep.put, exchange="x", binding_keys=["a", "b", None]))
    for key in ("a", "b", "c", consumer.queue):
        channel.basic_publish(key.encode(), exchange="x", routing_key=key)
    await keep.take(3)
    assert keep.bodies == [b"a", b"b", consumer.queue.encode()]
    await quiet(channel)
    assert len(keep.got) == 3


@pytest.mark.covers("S03")
@pytest_twisted.ensureDeferred
async def test_what_was_called_before_is_there(client: Client) -> None:
    keep = Keep()
    calls: list[Deferred[Any]] = []
    for number in range(20):
        calls.append(client.queue_declare(f"q{number}", exclusive=True))
        calls.append(client.consume(f"q{number}", keep.put))
    await all_of(calls)
    for number in range(20):
        client.publish(b"1", routing_key=f"q{number}")
    await keep.take(20)


# --------------------------------------------------------------------------- prefetch


@pytest.mark.covers("S23", "P28", "F12")
@pytest_twisted.ensureDeferred
async def test_a_new_limit_lets_exactly_one_more_come(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(3))
    keep = Keep()
    consumer = await soon(client.consume("q", keep.put, ack="manual", prefetch=1))
    await keep.take(1)
    await quiet(channel)
    assert len(keep.got) == 1
    await soon(consumer.set_prefetch(2))
    await keep.take(1)
    await quiet(channel)
    assert sorted(keep.bodies) == numbered(2)
    keep.got[0].ack()
    await keep.take(1)
    for delivery in keep.got[1:]:
        delivery.ack()
    await soon(consumer.cancel())
    assert await depth(channel, "q") == 0


@pytest.mark.covers("S22", "S25", "P27", "F12")
@pytest_twisted.ensureDeferred
async def test_two_queues_share_one_limit(client: Client, channel: Channel) -> None:
    await fill(channel, "a", [b"in a"])
    await fill(channel, "b", [b"in b"])
    keep = Keep()
    consumer = await soon(
        client.consume_many(["a", "b"], keep.put, ack="manual", prefetch=1, consumer_tag="t")
    )
    await keep.take(1)
    await quiet(channel)
    assert len(keep.got) == 1
    await soon(consumer.set_prefetch(2))
    await keep.take(1)
    assert {(one.body, consumer.queue_of(one)) for one in keep.got} == {(b"in a", "a"), (b"in b", "b")}


@pytest.mark.covers("S22")
@pytest_twisted.ensureDeferred
async def test_an_ack_lets_the_other_queues_message_come(client: Client, channel: Channel) -> None:
    await fill(channel, "a", [b"in a"])
    await fill(channel, "b", [b"in b"])
    keep = Keep()
    await soon(client.consume_many(["a", "b"], keep, prefetch=1))
    await keep.take(1)
    await quiet(channel)
    assert len(keep.got) == 1
    keep.ends[0].callback(None)
    await keep.take(1)
    keep.ends[1].callback(None)


# --------------------------------------------------------------------------- kinds of queues


@pytest.mark.covers("T-CON-14")
@pytest_twisted.ensureDeferred
async def test_who_stands_by_gets_its_turn(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(3), {"x-single-active-consumer": True})
    active, standby = Keep(), Keep()
    first = await soon(client.consume("q", active.put))
    second = await soon(client.consume("q", standby.put))
    await active.take(3)
    await quiet(channel)
    assert standby.got == []
    assert second.is_active
    await soon(first.cancel())
    await fill(channel, "q", [b"turn"], {"x-single-active-consumer": True})
    await standby.take(1)


@pytest.mark.covers("T-CON-15")
@pytest_twisted.ensureDeferred
async def test_a_stream_is_read_from_an_offset_on(vhost: Vhost, client: Client, channel: Channel) -> None:
    streaming(vhost.node)
    await fill(channel, "q", numbered(5), {"x-queue-type": "stream"})
    keep = Keep()
    arguments = {"x-stream-offset": 2}
    await soon(client.consume("q", keep.put, prefetch=2, arguments=arguments))
    await keep.take(3)
    assert [headers_of(one)["x-stream-offset"] for one in keep.got] == [2, 3, 4]
    assert keep.bodies == numbered(5)[2:]


@pytest.mark.covers("T-CON-09")
@pytest_twisted.ensureDeferred
async def test_an_exclusive_consumer_changes_its_limit(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [])
    keep = Keep()
    consumer = await soon(client.consume("q", keep.put, exclusive=True))
    await soon(consumer.set_prefetch(5))
    await failure_of(client.consume("q", keep.put), AccessRefused)
    await fill(channel, "q", [b"1"])
    await keep.take(1)


# --------------------------------------------------------------------------- ended by us


@pytest.mark.covers("S18", "P29")
@pytest_twisted.ensureDeferred
async def test_what_was_handed_out_can_be_acked_after_the_cancel(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(2))
    keep = Keep()
    consumer = await soon(client.consume("q", keep.put, ack="manual"))
    await keep.take(2)
    await soon(consumer.cancel())
    assert await ended(consumer) is None
    await fill(channel, "q", [b"later"])
    await quiet(channel)
    assert len(keep.got) == 2
    for delivery in keep.got:
        assert delivery.ack() is Settlement.SENT
    assert consumer.channel is not None
    await soon(consumer.channel.when_closed())
    assert await drain(channel, "q") == [b"later"]


@pytest.mark.covers("S19", "P29")
@pytest_twisted.ensureDeferred
async def test_one_cancel_ends_all_queues(client: Client, channel: Channel) -> None:
    for queue in ("a", "b", "c"):
        await fill(channel, queue, [])
    consumer = await soon(client.consume_many(["a", "b", "c"], Keep().put))
    await soon(consumer.cancel())
    for queue in ("a", "b", "c"):
        assert (await channel.queue_declare(queue, passive=True)).consumer_count == 0


@pytest.mark.covers("S91", "L10", "T-CON-03")
@pytest_twisted.ensureDeferred
async def test_work_is_finished_and_the_rest_goes_back(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(10))
    keep = Keep()
    consumer = await soon(client.consume("q", keep, concurrency=2, prefetch=5))
    await keep.take(2)
    cancelled = consumer.cancel()
    await until_ready(channel, "q", 8)
    for end in keep.ends:
        end.callback(None)
    await soon(cancelled)
    assert await depth(channel, "q") == 8
    assert keep.bodies == numbered(2)


@pytest.mark.covers("S91")
@pytest_twisted.ensureDeferred
async def test_the_deadline_is_kept(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(2))
    keep = Keep()
    consumer = await soon(client.consume("q", keep))
    await keep.take(1)
    await soon(consumer.cancel(timeout=0.2))
    await until_ready(channel, "q", 2)
    assert (await get(channel, "q")).redelivered


@pytest.mark.covers("S34", "S60")
@pytest_twisted.ensureDeferred
async def test_closing_the_client_tells_each_consumer_once(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [])
    consumers = [await soon(client.consume("q", Keep().put)) for _ in range(3)]
    told: list[object] = []
    for consumer in consumers:
        consumer.closed.addCallback(told.append)
    source = client.deliveries("q")
    waiting = source.get()
    await soon(client.close())
    assert told == [None] * 3
    await failure_of(waiting, StopAsyncIteration, ConnectionClosed)


@pytest.mark.covers("S60", "T-ACK-08")
@pytest_twisted.ensureDeferred
async def test_a_lost_connection_ends_consumers_and_not_their_handlers(
    connect: Connector, channel: Channel
) -> None:
    client = Client(await connect())
    await fill(channel, "q", numbered(2))
    keep = Keep()
    consumer = await soon(client.consume("q", keep))
    await keep.take(1)
    client.protocol.abort()
    assert isinstance(await ended(consumer), ConnectionClosed)
    keep.ends[0].callback(None)
    assert keep.got[0].ack() is Settlement.STALE
    await until_ready(channel, "q", 2)


@pytest_twisted.ensureDeferred
async def test_a_handler_can_stop_its_consumer(client: Client, channel: Channel) -> None:
    await fill(channel, "q", numbered(5))

    async def handle(delivery: Delivery) -> None:
        if delivery.body == b"2":
            raise StopConsuming("seen enough")

    consumer = await soon(client.consume("q", handle))
    assert isinstance(await ended(consumer), StopConsuming)
    assert sorted(await drain(channel, "q")) == [b"2", b"3", b"4"]


# --------------------------------------------------------------------------- ended by the broker


async def everything(source: Deliveries) -> list[bytes]:
    """Take until the end."""
    return [delivery.body async for delivery in source]


@pytest.mark.covers("S20", "P30", "T-CON-05", "T-CON-08")
@pytest_twisted.ensureDeferred
async def test_a_loop_ends_when_its_queue_is_deleted(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [b"1"])
    source = client.deliveries("q")
    taken = await soon(source.get())
    await channel.queue_delete("q")
    with pytest.raises(ConsumerCancelled):
        await soon(Deferred.fromCoroutine(everything(source)))
    assert taken.ack() is Settlement.STALE
    assert client.is_open


@pytest.mark.covers("S21", "P30")
@pytest_twisted.ensureDeferred
async def test_siblings_of_deleted_queues_go_on(client: Client, channel: Channel) -> None:
    for queue in ("a", "b", "c"):
        await fill(channel, queue, [])
    keep = Keep()
    consumer = await soon(client.consume_many(["a", "b", "c"], keep.put))
    await channel.queue_delete("a")
    first, second, third = consumer.subscriptions
    error = await ended(first)
    assert isinstance(error, ConsumerCancelled)
    assert error.queue == "a"
    await fill(channel, "b", [b"goes on"])
    await keep.take(1)
    await all_of([channel.queue_delete("b"), channel.queue_delete("c")])
    assert isinstance(await ended(second), ConsumerCancelled)
    assert isinstance(await ended(third), ConsumerCancelled)
    assert isinstance(await ended(consumer), ConsumerCancelled)
    assert client.is_open


@pytest.mark.covers("S96", "T-CON-08")
@pytest_twisted.ensureDeferred
async def test_a_consumer_resumes_when_its_queue_is_there_again(client: Client, channel: Channel) -> None:
    await fill(channel, "q", [])
    keep = Keep()
    consumer = await soon(client.consume("q", keep.put, resume=True))
    await channel.queue_delete("q")
    await until(lambda: not consumer.is_active)
    await pause(0.7)  # it has asked once, in vain
    assert not consumer.is_active
    await fill(channel, "q", [b"1"])
    await keep.take(1)
    assert consumer.is_active


async def timed_out(
    client: Client, channel: Channel, handler: Callable[[Delivery], object], **options: Any
) -> Consumer:
    """Start a consumer of a quorum queue whose deliveries have to be acked within a second."""
    await fill(channel, "q", numbered(3), {**QUORUM, "x-consumer-timeout": 1000})
    return await soon(client.consume("q", handler, **options))


@pytest.mark.covers("T-CON-06", "T-CON-05")
@pytest_twisted.ensureDeferred
async def test_what_takes_too_long_is_cancelled_by_the_broker_and_parted_with(
    client: Client, channel: Channel, broker: BrokerNode
) -> None:
    needs(broker, MODERN_TIMEOUT, "cancels consumers that are too slow")
    keep = Keep()
    consumer = await timed_out(client, channel, keep)
    await keep.take(1)
    assert isinstance(await ended(consumer), ConsumerCancelled)
    assert keep.got[0].ack() is Settlement.STALE
    keep.ends[0].callback(None)
    assert client.is_open
    await until_ready(channel, "q", 3)  # nothing hangs on a tag that we think dead
    await quiet(channel)
    assert len(keep.got) == 1


@pytest.mark.covers("T-CON-06")
@pytest_twisted.ensureDeferred
async def test_what_takes_too_long_resumes_under_a_fresh_tag(
    client: Client, channel: Channel, broker: BrokerNode
) -> None:
    needs(broker, MODERN_TIMEOUT, "cancels consumers that are too slow")
    keep = Keep()
    consumer = await timed_out(client, channel, keep, resume=True, consumer_tag="w")
    await keep.take(1)
    await until(lambda: not consumer.is_active)
    await until(lambda: consumer.is_active)
    assert consumer.consumer_tag == "w.2"
    keep.ends[0].callback(None)  # which was stale
    for number in range(3):
        await keep.take(1)
        keep.ends[number + 1].callback(None)
    await soon(consumer.cancel())
    assert sorted(keep.bodies[1:]) == numbered(3)
    assert await depth(channel, "q") == 0


@pytest.fixture
def impatient(own_broker: BrokerNode) -> Iterator[BrokerNode]:
    """Have a broker close a channel within a second if an ack does not come."""
    if is_since(own_broker, MODERN_TIMEOUT):
        pytest.skip(f"RabbitMQ {MODERN_TIMEOUT} closes no channel over an ack that takes too long")
    with own_broker.impatient(0.3):
        yield own_broker


@pytest.mark.usefixtures("impatient")
@pytest.mark.covers("T-CON-07")
@pytest_twisted.ensureDeferred
async def test_before_4_3_what_takes_too_long_closes_the_channel(own_connect: Connector) -> None:
    client = Client(await own_connect())
    channel = await own_connect.channel()
    await fill(channel, "q", numbered(3))
    keep = Keep()
    consumer = await soon(client.consume("q", keep))
    await keep.take(1)
    reason = await ended(consumer)
    assert isinstance(reason, PreconditionFailed)
    assert "timed out" in reason.reply_text
    assert keep.got[0].ack() is Settlement.STALE
    again = Keep()

    def slow_at_first(delivery: Delivery) -> Deferred[None] | None:
        return None if again.got else again(delivery)

    resuming = await soon(client.consume("q", slow_at_first, resume=True))
    await again.take(1)
    await until(lambda: not resuming.is_active)
    again.ends[0].callback(None)
    await until(lambda: resuming.is_active)
    assert resuming.channel is not again.got[0].channel
    await until_ready(channel, "q", 0)
    await soon(resuming.cancel())
    assert await depth(channel, "q") == 0
