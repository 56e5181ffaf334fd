"""Requests and replies through a broker: both sides ours, and either side somebody else's."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, get_ident
from typing import Any
from uuid import uuid4

import pika
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.faults import FaultProxy
from tests.integration.support import (
    CLOCK,
    PATIENCE,
    Connector,
    Inbox,
    all_of,
    depth,
    failure_of,
    outcomes,
    pause,
    pika_channel,
    soon,
    until,
)
from tests.logged import LoggedErrors
from txamqpx.channel import Channel
from txamqpx.client import Client
from txamqpx.errors import (
    AccessRefused,
    CallTimeout,
    NoRoute,
    NotFound,
    RemoteError,
    ReplyLost,
)
from txamqpx.message import Delivery

DIRECT = "amq.rabbitmq.reply-to"

both_ways = pytest.mark.parametrize("reply_queue", [False, True], ids=["direct", "reply queue"])


def fib(number: int) -> int:
    """Return a Fibonacci number, of which a request is for one."""
    first, second = 0, 1
    for _ in range(number):
        first, second = second, first + second
    return first


def on_fib(delivery: Delivery) -> str:
    return str(fib(int(delivery.body)))


async def until_empty(channel: Channel, queue: str) -> None:
    """Wait until a queue has given up what it held."""
    deadline = CLOCK.seconds() + PATIENCE
    while await depth(channel, queue):
        assert CLOCK.seconds() < deadline, "it was not emptied"
        await pause(0.05)


async def answer(client: Client, request: Delivery) -> None:
    """Reply to a request by hand."""
    properties = request.properties
    address, correlation_id = str(properties.reply_to), str(properties.correlation_id)
    await client.publish(b"by hand", routing_key=address, mandatory=False, correlation_id=correlation_id)


@pytest.fixture
def client(connect: Connector) -> Client:
    """Open a client; the connection is closed after the test."""
    return Client(pytest_twisted.blockon(Deferred.fromCoroutine(connect())))


@pytest.fixture
def other(connect: Connector) -> Client:
    """Open another client, on a connection of its own."""
    return Client(pytest_twisted.blockon(Deferred.fromCoroutine(connect())))


# --------------------------------------------------------------------------- both sides ours


@pytest.mark.covers("J05", "K10", "T-CON-16", "T-RPC-01")
@both_ways
@pytest_twisted.ensureDeferred
async def test_requests_and_replies(client: Client, other: Client, reply_queue: bool) -> None:
    await client.queue_declare("rpc", exclusive=False, auto_delete=True)
    server = await client.serve("rpc", on_fib)
    caller = other.caller(reply_queue=reply_queue)
    replies = await all_of(caller.call("rpc", b"%d" % number) for number in range(200))
    assert [int(reply.body) for reply in replies] == list(map(fib, range(200)))
    assert (caller.late, caller.outstanding) == (0, 0)
    await soon(server.close())
    assert (server.replied, server.failed, server.undeliverable) == (200, 0, 0)


@pytest_twisted.ensureDeferred
async def test_one_client_may_ask_itself(client: Client) -> None:
    client.queue_declare("rpc")
    serving = client.serve("rpc", on_fib)
    reply = await soon(client.call("rpc", b"10"))
    assert reply.body == b"55"
    await (await serving).close()
    await soon(client.close())


@pytest.mark.parametrize("way", ["sync", "coroutine", "Deferred", "thread"])
@pytest_twisted.ensureDeferred
async def test_functions_of_all_kinds(client: Client, way: str) -> None:
    threads: list[int] = []

    def sync(delivery: Delivery) -> bytes:
        threads.append(get_ident())
        return delivery.body * 2

    async def coroutine(delivery: Delivery) -> bytes:
        await pause(0)
        return sync(delivery)

    functions: dict[str, Callable[[Delivery], object]] = {
        "sync": sync,
        "coroutine": coroutine,
        "Deferred": lambda delivery: succeed(sync(delivery)),
        "thread": sync,
    }
    await client.queue_declare("rpc")
    server = await client.serve("rpc", functions[way], thread=way == "thread")
    assert (await soon(client.call("rpc", b"ab"))).body == b"abab"
    assert (threads == [get_ident()]) is (way != "thread")
    await soon(server.close())


@both_ways
@pytest_twisted.ensureDeferred
async def test_a_failure_comes_back_as_one(
    client: Client, reply_queue: bool, logged_errors: LoggedErrors
) -> None:
    await client.queue_declare("rpc")
    await client.serve("rpc", on_fib)
    caller = client.caller(reply_queue=reply_queue)
    error = await failure_of(caller.call("rpc", b"ten"), RemoteError)
    assert (error.type, "invalid literal" in error.message) == ("ValueError", True)
    assert (await soon(caller.call("rpc", b"10"))).body == b"55"
    assert len(logged_errors.flush(ValueError)) == 1


@pytest_twisted.ensureDeferred
async def test_a_request_that_wants_no_reply_is_done(client: Client) -> None:
    inbox = Inbox()
    await client.queue_declare("rpc")
    server = await client.serve("rpc", inbox)
    await client.publish(b"do it", routing_key="rpc")
    await inbox.take()
    await soon(server.close())
    channel = await client.channel()
    assert await depth(channel, "rpc") == 0


# --------------------------------------------------------------------------- requests that nobody answers


@pytest.mark.covers("T-RPC-02", "T-PUB-04")
@both_ways
@pytest_twisted.ensureDeferred
async def test_a_request_to_nobody_fails_at_once(client: Client, reply_queue: bool) -> None:
    caller = client.caller(reply_queue=reply_queue)
    error = await failure_of(caller.call("nowhere", b"hello"), NoRoute)
    assert (error.routing_key, error.message.body) == ("nowhere", b"hello")
    error = await failure_of(caller.call(exchange="amq.direct", routing_key="nowhere"), NoRoute)
    assert error.exchange == "amq.direct"


@pytest.mark.covers("T-RPC-03")
@pytest_twisted.ensureDeferred
async def test_a_request_that_nobody_takes_is_gone_after_its_timeout(client: Client) -> None:
    await client.queue_declare("rpc")
    error = await failure_of(client.call("rpc", b"hello", timeout=0.3), CallTimeout)
    assert (error.sent, error.blocked) == (True, None)
    await until_empty(await client.channel(), "rpc")


@pytest.mark.covers("T-RPC-01", "T-PUB-09")
@both_ways
@pytest_twisted.ensureDeferred
async def test_late_replies_are_counted(client: Client, other: Client, reply_queue: bool) -> None:
    inbox = Inbox()
    await client.queue_declare("rpc")
    await client.consume("rpc", inbox, ack="none")
    caller = other.caller(reply_queue=reply_queue)
    forgotten = caller.call("rpc", b"forgotten")
    waiting = caller.call("rpc", b"waiting")
    (first, second) = await inbox.take(2)
    forgotten.addErrback(lambda _: None).cancel()
    for request in (first, first, second, second):
        await answer(client, request)
    assert (await soon(waiting)).body == b"by hand"
    await until(lambda: caller.late == 3)


@pytest.mark.covers("T-PUB-10")
@both_ways
@pytest_twisted.ensureDeferred
async def test_a_missing_exchange_costs_nobody_his_reply(
    client: Client, other: Client, reply_queue: bool
) -> None:
    inbox = Inbox()
    await client.queue_declare("rpc")
    await client.consume("rpc", inbox, ack="none")
    caller = other.caller(reply_queue=reply_queue)
    waiting = caller.call("rpc", b"waiting")
    (request,) = await inbox.take()
    error = await failure_of(caller.call(exchange="missing", routing_key="rpc"), NotFound)
    assert error.exchange == "missing"
    await answer(client, request)
    assert (await soon(waiting)).body == b"by hand"


@pytest.mark.covers("T-CON-16", "T-PUB-10")
@both_ways
@pytest_twisted.ensureDeferred
async def test_a_channel_that_is_lost_is_replaced(client: Client, other: Client, reply_queue: bool) -> None:
    inbox = Inbox()
    await client.queue_declare("rpc")
    consumer = await client.consume("rpc", inbox, ack="none")
    await client.exchange_declare("x", "direct")
    await client.queue_bind("rpc", "x", "rpc")
    caller = other.caller(reply_queue=reply_queue)
    waiting = [caller.call("rpc"), caller.call(exchange="x", routing_key="rpc")]
    await inbox.take(2)
    await client.exchange_delete("x")
    culprit, *lost = await outcomes([caller.call(exchange="x", routing_key="rpc"), *waiting])
    assert isinstance(culprit, NotFound)
    assert [type(error) for error in lost] == [ReplyLost, ReplyLost]
    await consumer.cancel()
    await client.serve("rpc", on_fib)
    assert (await soon(caller.call("rpc", b"3"))).body == b"2"


@pytest_twisted.ensureDeferred
async def test_a_reply_queue_that_is_deleted(client: Client) -> None:
    inbox = Inbox()
    await client.queue_declare("rpc")
    consumer = await client.consume("rpc", inbox, ack="none")
    caller = client.caller(reply_queue=True)
    waiting = caller.call("rpc")
    (request,) = await inbox.take()
    await client.queue_delete(str(request.properties.reply_to))
    await failure_of(waiting, ReplyLost)
    await consumer.cancel()
    await client.serve("rpc", on_fib)
    assert (await soon(caller.call("rpc", b"3"))).body == b"2"


@pytest.mark.covers("T-RPC-05", "T-CON-16")
@both_ways
@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_lost(
    client: Client,
    connect: Connector,
    vhost: Vhost,
    fault_proxy: Callable[[int], FaultProxy],
    reply_queue: bool,
) -> None:
    inbox = Inbox()
    await client.queue_declare("rpc")
    await client.consume("rpc", inbox, ack="none")
    proxy = fault_proxy(vhost.node.ports["amqp"])
    lost = Client(await connect(url=vhost.url.replace(f":{proxy.target}/", f":{proxy.port}/")))
    caller = lost.caller(reply_queue=reply_queue)
    calls = [caller.call("rpc", timeout=300.0) for _ in range(3)]
    await inbox.take(3)
    proxy.cut()
    assert [type(error) for error in await outcomes(calls)] == [ReplyLost] * 3


# --------------------------------------------------------------------------- replies that nobody gets


async def request_from(client: Client, address: str, body: bytes = b"10", correlation_id: str = "1") -> None:
    await client.publish(body, routing_key="rpc", reply_to=address, correlation_id=correlation_id)


@pytest.mark.covers("T-RPC-04")
@pytest_twisted.ensureDeferred
async def test_replies_to_who_has_gone(client: Client, other: Client) -> None:
    """A direct reply is dropped without a word, another one comes back; the request is done with then."""
    inbox = Inbox()
    await client.queue_declare("rpc")
    consumer = await client.consume("rpc", inbox, ack="none")
    for reply_queue in (False, True):
        caller = other.caller(reply_queue=reply_queue)
        call = caller.call("rpc", b"1")
        await inbox.take()
        call.addErrback(lambda _: None)
        await soon(caller.close(0.0))
    await consumer.cancel()
    server = await client.serve("rpc", on_fib)
    direct, queue = [str(request.properties.reply_to) for request in inbox.got]
    assert direct.startswith(f"{DIRECT}.")
    await request_from(client, direct)
    await request_from(client, queue)
    await until(lambda: server.replied + server.undeliverable == 2)
    assert (server.replied, server.undeliverable) == (1, 1)
    assert client.is_open
    await soon(server.close())
    assert await depth(await client.channel(), "rpc") == 0


@pytest.mark.covers("T-RPC-04")
@pytest_twisted.ensureDeferred
async def test_a_server_may_ask_who_waits(client: Client, other: Client) -> None:
    await client.queue_declare("rpc")
    server = await client.serve("rpc", on_fib, check_caller=True)
    for reply_queue in (False, True):
        caller = other.caller(reply_queue=reply_queue)
        assert (await soon(caller.call("rpc", b"10"))).body == b"55"
    await request_from(client, "gone")
    await until(lambda: server.abandoned == 1)
    assert server.replied == 2
    inbox = Inbox()
    await client.queue_declare("other")
    await client.consume("other", inbox, ack="none")
    caller = other.caller()
    caller.call("other").addErrback(lambda _: None)
    (request,) = await inbox.take()
    await soon(caller.close(0.0))
    await request_from(client, str(request.properties.reply_to))
    await until(lambda: server.abandoned == 2)


FORGED = {
    "garbage": "garbage",
    "another form": "g2dkABBy.zzz",
    "a number": "g2EB.zzz",
    "no key": "g1h3CHJlcGx5QDEyAAADAgAAAABrAOpM",
    "nothing": "",
}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("check_caller", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_forged_address_does_not_end_the_connection(
    client: Client, other: Client, forged: str, check_caller: bool
) -> None:
    """Some of these make RabbitMQ close the connection of who replies, or who looks for the address."""
    await client.queue_declare("rpc")
    server = await client.serve("rpc", on_fib, check_caller=check_caller)
    await request_from(other, f"{DIRECT}.{FORGED[forged]}")
    assert (await soon(other.call("rpc", b"10"))).body == b"55"
    assert client.is_open
    assert server.undeliverable + server.abandoned == 1


@pytest_twisted.ensureDeferred
async def test_an_address_of_no_node_ends_at_most_one_connection(
    connect: Connector, other: Client, vhost: Vhost
) -> None:
    """RabbitMQ 3.10 closes the connection (541) of who replies to it, and gives the request to the next."""
    process = b"\x83Xw\x0areply@" + b"1234" + bytes(12)
    forged = f"{DIRECT}.{b64encode(process).decode()}.{b64encode(uuid4().bytes).decode()}"
    await other.queue_declare("rpc")
    await request_from(other, forged)

    async def survives() -> bool:
        client = Client(await connect())
        server = await client.serve("rpc", on_fib)
        await until(lambda: not client.is_open or server.replied + server.undeliverable)
        return client.is_open

    old = vhost.node.version.startswith("3.")
    assert [await survives() for _ in range(2 if old else 1)] == ([False, True] if old else [True])
    assert await depth(await other.channel(), "rpc") == 0


@pytest_twisted.ensureDeferred
async def test_a_reply_that_is_too_large_is_a_failure(client: Client, vhost: Vhost) -> None:
    if vhost.node.version.startswith("3."):
        pytest.skip("RabbitMQ 3.10 takes 128 MiB")
    await client.queue_declare("rpc")
    server = await client.serve("rpc", lambda delivery: bytes(17 * 1024 * 1024))
    error = await failure_of(client.call("rpc"), RemoteError)
    assert error.type == "ReplyRefused"
    assert "message size" in error.message
    assert server.replied == 1


@pytest.mark.covers("T-PUB-10")
@pytest_twisted.ensureDeferred
async def test_a_request_that_is_refused_fails_alone(
    client: Client, connect: Connector, vhost: Vhost
) -> None:
    """It costs the channel; what was called behind it is sent again, on a new one."""
    await client.queue_declare("rpc")
    await client.serve("rpc", on_fib)
    vhost.node.add_user("clerk", "secret")
    try:
        vhost.node.set_permissions("clerk", vhost.name, configure="", write="^amq.default$", read="")
        url = vhost.node.url(vhost.name, user="clerk", password="secret")
        caller = Client(await connect(url=url)).caller()
        assert (await soon(caller.call("rpc", b"10"))).body == b"55"
        refused, reply = await outcomes(
            [caller.call(exchange="amq.direct", routing_key="rpc"), caller.call("rpc", b"3")]
        )
        assert isinstance(refused, AccessRefused)
        assert reply.body == b"2"
    finally:
        vhost.node.delete_user("clerk")


# --------------------------------------------------------------------------- either side pika's
#
# The programs are of the shape that everybody knows from the tutorials: an exclusive callback queue, or the
# direct address, one correlation id for each request; a server that acks after its reply.


class PikaClient:
    """Asks for Fibonacci numbers, with a callback queue or directly."""

    def __init__(self, channel: Any, *, direct: bool) -> None:
        self.channel = channel
        self.responses: list[bytes] = []
        self.headers: Any = None
        if direct:
            self.callback_queue = DIRECT
        else:
            self.callback_queue = channel.queue_declare(queue="", exclusive=True).method.queue
        channel.basic_consume(queue=self.callback_queue, on_message_callback=self.on_response, auto_ack=True)

    def on_response(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if properties.correlation_id == self.correlation_id:
            self.responses.append(body)
            self.headers = properties.headers

    def call(self, body: bytes) -> bytes:
        self.correlation_id = str(uuid4())
        properties = pika.BasicProperties(reply_to=self.callback_queue, correlation_id=self.correlation_id)
        self.channel.basic_publish(exchange="", routing_key="rpc_queue", properties=properties, body=body)
        while not self.responses:
            self.channel.connection.process_data_events(time_limit=1)
        return self.responses.pop()


@contextmanager
def pika_server(url: str) -> Iterator[Callable[[], None]]:
    """Serve Fibonacci numbers from "rpc_queue"; what is given runs in a thread until the block ends."""
    over = Event()

    def on_request(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish(
            exchange="",
            routing_key=properties.reply_to,
            properties=pika.BasicProperties(correlation_id=properties.correlation_id),
            body=str(fib(int(body))),
        )
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def serve() -> None:
        with pika_channel(url) as channel:
            channel.queue_declare(queue="rpc_queue")
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)
            while not over.is_set():
                channel.connection.process_data_events(time_limit=0.1)

    yield serve
    over.set()


@pytest.mark.covers("S38", "J05")
@both_ways
@pytest_twisted.ensureDeferred
async def test_pika_answers_us(client: Client, vhost: Vhost, reply_queue: bool) -> None:
    await client.queue_declare("rpc_queue")
    caller = client.caller(reply_queue=reply_queue)
    with pika_server(vhost.url) as serve:
        served = deferToThread(serve)
        replies = await all_of(caller.call("rpc_queue", b"%d" % number) for number in range(20))
    await soon(served)
    assert [int(reply.body) for reply in replies] == list(map(fib, range(20)))


@pytest.mark.covers("S38", "J05")
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "callback queue"])
@pytest_twisted.ensureDeferred
async def test_we_answer_pika(
    client: Client, vhost: Vhost, direct: bool, logged_errors: LoggedErrors
) -> None:
    await client.queue_declare("rpc_queue")
    server = await client.serve("rpc_queue", on_fib)
    seen: list[Any] = []

    def ask() -> list[int]:
        with pika_channel(vhost.url) as channel:
            asking = PikaClient(channel, direct=direct)
            numbers = [int(asking.call(b"%d" % number)) for number in range(20)]
            seen.extend([asking.call(b"ten"), asking.headers])
        return numbers

    assert await soon(deferToThread(ask)) == list(map(fib, range(20)))
    # Who does not know our header still gets the words.
    assert b"invalid literal" in seen[0]
    assert seen[1] == {"txamqpx-error": "ValueError"}
    assert len(logged_errors.flush(ValueError)) == 1
    await soon(server.close())
    assert server.replied == 21


# --------------------------------------------------------------------------- a broker that does not read


@pytest.mark.covers("T-BLK-01", "T-BLK-02", "T-CON-16")
@both_ways
@pytest_twisted.ensureDeferred
async def test_a_blocked_connection_is_waited_for(
    own_connect: Connector, own_broker: BrokerNode, reply_queue: bool
) -> None:
    serving = Client(await own_connect())
    await serving.queue_declare("rpc")
    inbox = Inbox()
    await serving.consume("rpc", inbox, ack="none")
    asking = Client(await own_connect())
    caller = asking.caller(reply_queue=reply_queue)
    first = caller.call("rpc", timeout=300.0)
    await inbox.take()
    own_broker.set_alarm()
    second = caller.call("rpc", timeout=300.0)
    await until(lambda: asking.protocol.blocked is not None)
    error = await failure_of(caller.call("rpc", timeout=0.2), CallTimeout)
    assert (error.sent, error.blocked) == (False, "low on memory")
    held = caller.call("rpc", timeout=300.0)
    assert not first.called
    own_broker.clear_alarm()
    for request in await inbox.take(2):
        await answer(serving, request)
    await answer(serving, inbox.got[0])
    await all_of([first, second, held])
