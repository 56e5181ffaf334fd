"""The fault proxy does exactly what it is told, between a client and an echo server."""

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from tests.faults import Ending, FaultProxy

NewProxy = Callable[[int], FaultProxy]
Connect = Callable[["FaultProxy | EchoServer"], Deferred["Talker"]]
MORE_THAN_KERNELS_HOLD = bytes(2**26)


class Talker(Protocol):
    """Keep what arrives, and tell when enough has, and how it ended."""

    transport: Connection

    def __init__(self) -> None:
        self.received = b""
        self.pieces = 0
        self.lost: Deferred[type[BaseException]] = Deferred()
        self.is_over = False
        self.over: Deferred[None] = Deferred()
        self._awaited: list[tuple[int, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.pieces += 1
        for octets, enough in list(self._awaited):
            if len(self.received) >= octets:
                self._awaited.remove((octets, enough))
                enough.callback(None)

    def has(self, octets: int) -> Deferred[None]:
        """Fire when so many octets have arrived."""
        enough: Deferred[None] = Deferred()
        self._awaited.append((octets, enough))
        self.dataReceived(b"")
        return enough

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        assert reason.type is not None
        self.is_over = True
        self.lost.callback(reason.type)
        self.over.callback(None)


class Echo(Talker):
    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)


class EchoServer(Factory):
    noisy = False

    def __init__(self) -> None:
        self.connections: list[Echo] = []
        self.listener: IListeningPort = cast(Any, reactor).listenTCP(0, self, interface="127.0.0.1")
        self.port: int = cast(Any, self.listener).getHost().port

    def buildProtocol(self, addr: IAddress | None) -> Echo:
        self.connections.append(Echo())
        return self.connections[-1]


@pytest.fixture
def server() -> Iterator[EchoServer]:
    made = EchoServer()
    yield made
    pytest_twisted.blockon(maybeDeferred(made.listener.stopListening))
    hang_up(made.connections)


@pytest.fixture
def proxy(server: EchoServer, fault_proxy: NewProxy) -> FaultProxy:
    return fault_proxy(server.port)


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[Talker] = []

    def make(to: FaultProxy | EchoServer) -> Deferred[Talker]:
        clients.append(Talker())
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", to.port)
        connected: Deferred[Talker] = connectProtocol(endpoint, clients[-1])
        return connected

    yield make
    hang_up(clients)


def hang_up(talkers: Sequence[Talker]) -> None:
    for talker in talkers:
        if talker.connected and not talker.is_over:
            talker.transport.abortConnection()
            pytest_twisted.blockon(talker.over)


async def some_turns(connect: Connect, server: EchoServer) -> None:
    """Give everybody else a chance: five hundred times past the proxy to the server and back."""
    other = await connect(server)
    for turn in range(1, 501):
        other.transport.write(b".")
        await other.has(turn)


async def until_forgotten(proxy: FaultProxy) -> None:
    while proxy.links:
        await deferLater(cast(Any, reactor), 0.005)


@pytest_twisted.ensureDeferred
async def test_octets_pass_both_ways_and_are_counted(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect(proxy)
    sent = random.Random(1).randbytes(300_000)
    client.transport.write(sent)
    await client.has(len(sent))
    assert client.received == sent
    (link,) = proxy.links
    assert (link.client.passed, link.broker.passed) == (len(sent), len(sent))


@pytest.mark.parametrize(("ending", "error"), [("rst", ConnectionLost), ("fin", ConnectionDone)])
@pytest_twisted.ensureDeferred
async def test_a_cut_upwards_lets_exactly_so_many_octets_through(
    proxy: FaultProxy, server: EchoServer, ending: Ending, error: type[Exception], connect: Connect
) -> None:
    proxy.cut_after(up=1000, ending=ending)
    client = await connect(proxy)
    client.transport.write(bytes(70_000))
    ends = (await client.lost, await server.connections[0].lost)
    assert len(server.connections[0].received) == 1000
    assert ends == (error, error)


@pytest.mark.parametrize(("ending", "error"), [("rst", ConnectionLost), ("fin", ConnectionDone)])
@pytest_twisted.ensureDeferred
async def test_a_cut_downwards_lets_exactly_so_many_octets_through(
    proxy: FaultProxy, server: EchoServer, ending: Ending, error: type[Exception], connect: Connect
) -> None:
    proxy.cut_after(down=1000, ending=ending)
    client = await connect(proxy)
    client.transport.write(bytes(70_000))
    ends = (await client.lost, await server.connections[0].lost)
    assert len(client.received) == 1000
    assert ends == (error, error)


@pytest_twisted.ensureDeferred
async def test_a_cut_after_nothing_ends_the_connection_at_once(proxy: FaultProxy, connect: Connect) -> None:
    proxy.cut_after(up=0)
    client = await connect(proxy)
    assert await client.lost is ConnectionLost


@pytest_twisted.ensureDeferred
async def test_a_cut_now_ends_what_is_connected_and_nothing_later(
    proxy: FaultProxy, connect: Connect
) -> None:
    first = await connect(proxy)
    first.transport.write(b"before")
    await first.has(6)
    proxy.cut("fin")
    assert await first.lost is ConnectionDone
    second = await connect(proxy)
    second.transport.write(b"after")
    await second.has(5)
    assert proxy.accepted == 2


@pytest_twisted.ensureDeferred
async def test_connections_are_refused_until_they_are_accepted_again(
    proxy: FaultProxy, connect: Connect
) -> None:
    established = await connect(proxy)
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    established.transport.write(b"still here")
    await established.has(10)
    proxy.accept()
    client = await connect(proxy)
    client.transport.write(b"again")
    await client.has(5)


@pytest_twisted.ensureDeferred
async def test_a_stall_holds_everything_back_and_loses_nothing(
    proxy: FaultProxy, server: EchoServer, connect: Connect
) -> None:
    client = await connect(proxy)
    client.transport.write(b"before")
    await client.has(6)
    proxy.stall()
    client.transport.write(b"during")
    await some_turns(connect, server)
    assert client.received == b"before"
    proxy.resume()
    await client.has(12)
    assert client.received == b"beforeduring"


@pytest_twisted.ensureDeferred
async def test_shredding_changes_the_pieces_and_nothing_else(proxy: FaultProxy, connect: Connect) -> None:
    proxy.shred(7)
    client = await connect(proxy)
    sent = random.Random(2).randbytes(2000)
    client.transport.write(sent)
    await client.has(len(sent))
    assert client.received == sent
    assert client.pieces > 2000 / 7 / 2


@pytest_twisted.ensureDeferred
async def test_either_side_that_goes_takes_the_other_with_it(
    proxy: FaultProxy, server: EchoServer, connect: Connect
) -> None:
    first = await connect(proxy)
    first.transport.write(b"last words")
    await first.has(10)
    first.transport.loseConnection()
    assert await server.connections[0].lost is ConnectionDone
    second = await connect(proxy)
    second.transport.write(b"last words")
    await second.has(10)
    server.connections[1].transport.abortConnection()
    assert await second.lost is ConnectionLost


@pytest_twisted.ensureDeferred
async def test_a_client_is_let_go_when_the_broker_refuses(
    fault_proxy: NewProxy, server: EchoServer, connect: Connect
) -> None:
    proxy = fault_proxy(server.port)
    await maybeDeferred(server.listener.stopListening)
    client = await connect(proxy)
    assert await client.lost is ConnectionLost
    assert proxy.links == []


@pytest_twisted.ensureDeferred
async def test_a_stall_reads_no_more_than_it_must(
    proxy: FaultProxy, server: EchoServer, connect: Connect
) -> None:
    client = await connect(proxy)
    client.transport.write(b"before")
    await client.has(6)
    proxy.stall()
    client.transport.write(MORE_THAN_KERNELS_HOLD)
    await some_turns(connect, server)
    (link,) = proxy.links
    assert len(link.client.held) < len(MORE_THAN_KERNELS_HOLD) / 16


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_holds_up_who_writes(
    proxy: FaultProxy, server: EchoServer, connect: Connect
) -> None:
    client = await connect(proxy)
    client.transport.write(b"before")
    await client.has(6)
    server.connections[0].transport.pauseProducing()
    client.transport.write(MORE_THAN_KERNELS_HOLD)
    await some_turns(connect, server)
    (link,) = proxy.links
    assert link.client.passed < len(MORE_THAN_KERNELS_HOLD) / 2


@pytest_twisted.ensureDeferred
async def test_a_cut_during_a_stall_is_complete(
    proxy: FaultProxy, server: EchoServer, connect: Connect
) -> None:
    client = await connect(proxy)
    client.transport.write(b"before")
    await client.has(6)
    proxy.stall()
    proxy.cut("fin")
    assert (await client.lost, await server.connections[0].lost) == (ConnectionDone, ConnectionDone)
    await until_forgotten(proxy)


@pytest_twisted.ensureDeferred
async def test_a_stop_does_not_wait_for_a_broker_that_never_answers(
    fault_proxy: NewProxy, connect: Connect
) -> None:
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        # One connection fits where nobody accepts any; the kernel leaves the next ones without an answer.
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        clock = cast(Any, reactor)
        before = clock.getDelayedCalls()
        proxy = fault_proxy(deaf.getsockname()[1])
        client = await connect(proxy)
        await proxy.stop()
        assert await client.lost is ConnectionLost
        assert clock.getDelayedCalls() == before
    assert (proxy.accepted, proxy.links) == (1, [])
