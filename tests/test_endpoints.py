from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import error as network
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer

from txamqpx import endpoints
from txamqpx.connection import AMQPProtocol
from txamqpx.delegates import Delegate
from txamqpx.endpoints import Opener, client_endpoint, connect_protocol, register_scheme
from txamqpx.errors import (
    ConnectError,
    ConnectionLost,
    ConnectionRefused,
    HandshakeTimeout,
    HostNotFound,
    NotTLS,
    TLSFileError,
    URLError,
)
from txamqpx.params import ConnectionParameters, TLSOptions
from txamqpx.protocol.connection import Connection
from txamqpx.protocol.events import Requested
from txamqpx.protocol.handshake import ServerHandshake
from txamqpx.spec.amqp0_9_1 import ConnectionOpen, ConnectionOpenOk, ConnectionStartOk, ConnectionTune
from txamqpx.tls import TLSClientEndpoint

CANARY = "tweety5canary"
HERE = IPv4Address("TCP", "127.0.0.1", 5672)
MINE = ConnectionParameters(virtual_host="mine", connection_timeout=7.0)


class Broker(Protocol):
    """Let everybody in, by the core in the server's role."""

    def __init__(self) -> None:
        self.core = Connection(ServerHandshake())
        self.virtual_host = ""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        for event in self.core.receive_data(data):
            method = event.method if isinstance(event, Requested) else None
            if isinstance(method, ConnectionStartOk):
                self.core.send(ConnectionTune(2047, 131072, 60))
            elif isinstance(method, ConnectionOpen):
                self.virtual_host = method.virtual_host
                self.core.send(ConnectionOpenOk())
        self.transport.write(b"".join(self.core.outbox.take()))

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


class Mute(Protocol):
    """Accept a connection, and say nothing ever."""

    lost = False

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


class HangsUp(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@implementer(IStreamClientEndpoint)
class Wire:
    """Lead to a server in memory."""

    def __init__(self, server: IProtocol) -> None:
        self._server = server
        self._pump: Any = None

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        client = factory.buildProtocol(HERE)
        assert client is not None
        simulation: Any = iosim  # Twisted's own, and untyped
        transports = simulation.makeFakeServer(self._server), simulation.makeFakeClient(client)
        self._pump = simulation.connect(self._server, transports[0], client, transports[1], greet=False)
        return succeed(client)

    def carry(self) -> None:
        self._pump.flush()


@implementer(IStreamClientEndpoint)
class Stub:
    """Answer with a Deferred that the test fires."""

    def __init__(self, answer: Deferred[Any]) -> None:
        self._answer = answer

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._answer

    def __repr__(self) -> str:
        return "<Stub>"


class Result:
    """What a Deferred came to."""

    def __init__(self, deferred: Deferred[AMQPProtocol]) -> None:
        self.deferred = deferred
        self.protocol: AMQPProtocol | None = None
        self.error: BaseException | None = None
        deferred.addCallbacks(self._worked, self._failed)

    def _worked(self, protocol: AMQPProtocol) -> None:
        assert self.pending
        self.protocol = protocol

    def _failed(self, failure: Failure) -> None:
        assert self.pending
        self.error = failure.value

    @property
    def pending(self) -> bool:
        return self.protocol is None and self.error is None


@implementer(IHostnameResolver)
class Names:
    """Know the address of every name, or of none."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        resolution = cast(IHostResolution, self)
        resolutionReceiver.resolutionBegan(resolution)
        for address in self._addresses:
            resolutionReceiver.addressResolved(IPv4Address("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IReactorPluggableNameResolver)
class MemoryReactor(MemoryReactorClock):
    nameResolver: Any = Names("127.0.0.1")  # noqa: N815


@pytest.fixture
def reactor() -> MemoryReactor:
    made: MemoryReactor = cast(Any, MemoryReactor)()
    return made


@pytest.fixture
def schemes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Opener | str]:
    """Return the registry, which is put back afterwards."""
    copy = dict(endpoints._schemes)
    monkeypatch.setattr(endpoints, "_schemes", copy)
    return copy


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return what is logged, and forget who was warned before."""
    monkeypatch.setattr(endpoints, "_warned", set())
    logged: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        logged.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)


# --------------------------------------------------------------------------- schemes


def leads_to(server: IProtocol) -> Opener:
    return lambda url, reactor: (Wire(server), ConnectionParameters(virtual_host=url.rpartition("/")[2]))


@pytest.mark.usefixtures("schemes")
def test_a_scheme_can_be_registered(reactor: MemoryReactor) -> None:
    broker = Broker()
    register_scheme("pigeon", leads_to(broker))
    connect_protocol("Pigeon://coop/loft", reactor=reactor)
    assert broker.transport is not None


@pytest.mark.usefixtures("schemes")
def test_a_scheme_is_registered_once() -> None:
    opener = leads_to(Broker())
    register_scheme("pigeon", opener)
    register_scheme("pigeon", opener)
    with pytest.raises(ValueError, match="'pigeon' is taken"):
        register_scheme("pigeon", leads_to(Broker()))
    with pytest.raises(ValueError, match="'amqp' is taken"):
        register_scheme("amqp", opener)


def test_a_scheme_may_be_named_by_its_module(
    reactor: MemoryReactor,
    schemes: dict[str, Opener | str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pigeons.py").write_text(
        "from tests.test_endpoints import Broker, leads_to\n"
        "from txamqpx.endpoints import register_scheme\n"
        "register_scheme('pigeon', leads_to(Broker()))\n"
    )
    monkeypatch.delitem(sys.modules, "pigeons", raising=False)
    register_scheme("pigeon", "pigeons")
    assert "pigeons" not in sys.modules
    connect_protocol("pigeon://coop", reactor=reactor)
    assert callable(schemes["pigeon"])


@pytest.mark.usefixtures("schemes")
@pytest.mark.parametrize(
    ("module", "reason"),
    [("no.such.module", "cannot be imported"), ("colorsys", "has registered nothing for")],
)
def test_a_module_that_does_not_do_its_part(module: str, reason: str) -> None:
    register_scheme("pigeon", module)
    with pytest.raises(URLError, match=reason) as caught:
        connect_protocol("pigeon://coop", reactor=object())
    assert module in str(caught.value)


def test_memory_is_a_scheme_that_the_broker_registers() -> None:
    assert endpoints._schemes["memory"] == "txamqpx.broker" or callable(endpoints._schemes["memory"])


# --------------------------------------------------------------------------- endpoints


def test_a_host_is_reached_by_all_its_addresses(reactor: MemoryReactor) -> None:
    parameters = ConnectionParameters(host="localhost", port=1234)
    endpoint = client_endpoint(parameters, reactor)
    assert isinstance(endpoint, HostnameEndpoint)
    endpoint.connect(Factory.forProtocol(Protocol))
    ((host, port, _, timeout, _),) = reactor.tcpClients
    assert (host, port, timeout) == ("127.0.0.1", 1234, parameters.connection_timeout)


def test_a_host_name_may_have_an_underscore(reactor: MemoryReactor) -> None:
    endpoint = client_endpoint(ConnectionParameters(host="rabbit_mq"), reactor)
    assert isinstance(endpoint, TCP4ClientEndpoint)
    endpoint.connect(Factory.forProtocol(Protocol))
    assert reactor.tcpClients[0][:2] == ("rabbit_mq", 5672)


@pytest.mark.covers("T-HS-07", "S61")
def test_amqps_goes_to_its_own_port_and_is_encrypted(reactor: MemoryReactor) -> None:
    endpoint = client_endpoint(ConnectionParameters(host="localhost", tls=True), reactor)
    assert isinstance(endpoint, TLSClientEndpoint)
    endpoint.connect(Factory.forProtocol(Protocol))
    assert reactor.tcpClients[0][1] == 5671


@pytest.mark.covers("T-HS-04")
def test_a_password_in_the_clear_is_warned_of_once_for_each_host(
    reactor: MemoryReactor, warnings: list[str]
) -> None:
    for host in ("rabbit.example", "rabbit.example", "10.0.0.1", "notlocalhost"):
        client_endpoint(ConnectionParameters(host=host, password=CANARY), reactor)
    assert warnings == [
        f"the password goes to {host} unencrypted; amqps:// would encrypt it"
        for host in ("rabbit.example", "10.0.0.1", "notlocalhost")
    ]


@pytest.mark.covers("T-HS-04")
@pytest.mark.parametrize(
    "parameters",
    [
        ConnectionParameters(host="127.0.0.9"),
        ConnectionParameters(host="::1"),
        ConnectionParameters(host="LocalHost."),
        ConnectionParameters(host="rabbit.localhost"),
        ConnectionParameters(host="rabbit.example", tls=True),
        ConnectionParameters(host="rabbit.example", mechanism="EXTERNAL"),
    ],
    ids=str,
)
def test_what_nobody_can_read_is_not_warned_of(
    parameters: ConnectionParameters, reactor: MemoryReactor, warnings: list[str]
) -> None:
    client_endpoint(parameters, reactor)
    assert warnings == []


@pytest.mark.covers("T-HS-07")
def test_tls_without_verification_is_warned_of(reactor: MemoryReactor, warnings: list[str]) -> None:
    for _ in range(2):
        client_endpoint(ConnectionParameters(host="::1", tls=TLSOptions(verify=False)), reactor)
    (warning,) = warnings
    assert warning.startswith("TLS without verification: whoever is between here and ::1 can")


# --------------------------------------------------------------------------- targets


@pytest.mark.covers("S61")
@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("amqp://u:p@localhost:1234/mine", ("127.0.0.1", 1234)),
        ("AMQP://u:p@localhost/mine", ("127.0.0.1", 5672)),
        ("amqps://u:p@localhost/mine", ("127.0.0.1", 5671)),
        (ConnectionParameters(host="localhost", port=1234), ("127.0.0.1", 1234)),
        ("tcp:host=127.0.0.1:port=1234", ("127.0.0.1", 1234)),
        ("tcp:127.0.0.1:1234", ("127.0.0.1", 1234)),
    ],
)
def test_what_leads_to_a_broker(target: Any, place: tuple[str, int], reactor: MemoryReactor) -> None:
    result = Result(connect_protocol(target, reactor=reactor))
    assert reactor.tcpClients[0][:2] == place
    assert result.pending
    result.deferred.cancel()


def test_a_unix_socket_leads_to_a_broker(reactor: MemoryReactor) -> None:
    result = Result(connect_protocol("unix:/run/rabbit.sock", reactor=reactor))
    assert reactor.unixClients[0][0] == "/run/rabbit.sock"
    result.deferred.cancel()


def test_an_endpoint_gets_the_parameters_that_are_given_with_it(reactor: MemoryReactor) -> None:
    broker = Broker()
    wire = Wire(broker)
    result = Result(connect_protocol(wire, parameters=MINE, reactor=reactor))
    wire.carry()
    assert result.protocol is not None
    assert result.protocol.parameters is MINE
    assert broker.virtual_host == "mine"


def test_an_endpoint_without_parameters_gets_the_defaults(reactor: MemoryReactor) -> None:
    result = Result(connect_protocol(wire := Wire(Broker()), reactor=reactor))
    wire.carry()
    assert result.protocol is not None
    assert result.protocol.parameters == ConnectionParameters()


@pytest.mark.parametrize("target", ["amqp://h", ConnectionParameters(host="h")])
def test_a_url_says_everything_itself(target: Any, reactor: MemoryReactor) -> None:
    with pytest.raises(TypeError, match="parameters are for an endpoint"):
        connect_protocol(target, parameters=MINE, reactor=reactor)
    assert reactor.tcpClients == []


@pytest.mark.parametrize("target", [None, b"amqp://h", 5672, object()])
def test_what_leads_nowhere(target: Any, reactor: MemoryReactor) -> None:
    with pytest.raises(TypeError, match="to a broker"):
        connect_protocol(target, reactor=reactor)


@pytest.mark.covers("S61")
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("amqqp://h", "did you mean amqp://"),
        ("http://h", "known are amqp, amqps, memory"),
        ("amqp:h", "must be amqp:// or amqps://"),
        ("amqp://h:port", "must be a whole number"),
        ("localhost", "Twisted knows no such endpoint"),
        ("localhost:5672", "Twisted knows no such endpoint"),
        ("tcp:localhost", "Twisted knows no such endpoint"),
        ("tcp:host=localhost:port=x", "Twisted knows no such endpoint"),
        ("", "Twisted knows no such endpoint"),
    ],
)
def test_a_target_that_cannot_be_understood(target: str, reason: str, reactor: MemoryReactor) -> None:
    with pytest.raises(URLError, match=reason):
        connect_protocol(target, reactor=reactor)
    assert reactor.tcpClients == []
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-06")
@pytest.mark.parametrize(
    "target",
    [
        f"amqp://u:{CANARY}@h:port",
        f"amqqp://u:{CANARY}@h",
        f"u:{CANARY}@h",
        f"{CANARY}@h:5672",
        f"tcp:{CANARY}",
    ],
)
def test_a_target_that_cannot_be_understood_is_not_quoted(target: str, reactor: MemoryReactor) -> None:
    with pytest.raises(URLError) as caught:
        connect_protocol(target, reactor=reactor)
    assert CANARY not in repr(caught.value.args) + str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        ours = [frame for frame in frames if frame.f_globals["__name__"].startswith("txamqpx")]
        assert CANARY not in "".join(repr(frame.f_locals) for frame in ours)
        error = error.__context__


# --------------------------------------------------------------------------- connecting


def test_the_deferred_fires_when_the_connection_is_open(reactor: MemoryReactor) -> None:
    opened: list[object] = []

    class Told(Delegate):
        def connection_opened(self, protocol: object) -> None:
            opened.append(protocol)

    wire = Wire(Broker())
    result = Result(connect_protocol(wire, delegate=Told(), reactor=reactor))
    assert result.pending
    wire.carry()
    assert result.protocol is not None
    assert result.protocol.is_open
    assert opened == [result.protocol]
    # Not one timer of ours is left; those of the protocol are its heartbeats.
    assert all(call.getTime() - reactor.seconds() <= 30 for call in reactor.getDelayedCalls())
    reactor.advance(100 * MINE.connection_timeout)


def test_the_global_reactor_serves_where_none_is_given() -> None:
    from twisted.internet import reactor

    wire = Wire(Mute())
    result = Result(connect_protocol(wire, parameters=MINE))
    assert cast(Any, reactor).getDelayedCalls() != []
    result.deferred.cancel()
    wire.carry()
    assert isinstance(result.error, CancelledError)


@pytest.mark.covers("S30")
def test_a_name_without_an_address(reactor: MemoryReactor) -> None:
    reactor.nameResolver = Names()
    result = Result(connect_protocol("amqp://u:p@nowhere.example", reactor=reactor))
    assert isinstance(result.error, HostNotFound)
    assert isinstance(result.error.__cause__, network.DNSLookupError)
    assert str(result.error) == "no connection to nowhere.example:5672: the host name has no address"
    assert result.error.retryable


@pytest.mark.covers("S30")
def test_a_port_on_which_nobody_listens(reactor: MemoryReactor) -> None:
    result = Result(connect_protocol("amqp://u:p@[::1]", reactor=reactor))
    ((_, _, factory, _, _),) = reactor.tcpClients
    cast(Any, factory).clientConnectionFailed(None, Failure(network.ConnectionRefusedError()))
    reactor.advance(1)  # for the next address, if there were one
    assert isinstance(result.error, ConnectionRefused)
    assert issubclass(ConnectionRefused, ConnectionRefusedError)
    assert isinstance(result.error.__cause__, network.ConnectionRefusedError)
    assert str(result.error) == "no connection to [::1]:5672: nothing listens on that port"
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (network.UnknownHostError(), HostNotFound),
        (network.NoRouteError(), ConnectError),
        (network.TimeoutError(), ConnectError),
        (network.TCPTimedOutError(), ConnectError),
        (network.ConnectingCancelledError(HERE), ConnectError),
        (OSError(24, "too many open files"), ConnectError),
        (ConnectError("there", "because"), ConnectError),
        (TLSFileError("there", "because"), TLSFileError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_no_connection(reason: BaseException, kind: type[BaseException], reactor: MemoryReactor) -> None:
    answer: Deferred[IProtocol] = Deferred()
    result = Result(connect_protocol(Stub(answer), reactor=reactor))
    answer.errback(reason)
    assert type(result.error) is kind
    assert result.error is reason or result.error.__cause__ is reason
    if isinstance(result.error, ConnectError) and result.error is not reason:
        assert result.error.address == "<Stub>"
    assert reactor.getDelayedCalls() == []


def test_an_endpoint_that_raises_is_an_endpoint_that_fails(reactor: MemoryReactor) -> None:
    @implementer(IStreamClientEndpoint)
    class Broken:
        def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
            raise ZeroDivisionError

    result = Result(connect_protocol(Broken(), reactor=reactor))
    assert isinstance(result.error, ZeroDivisionError)


def test_a_handshake_that_fails(reactor: MemoryReactor) -> None:
    wire = Wire(HangsUp())
    result = Result(connect_protocol(wire, reactor=reactor))
    wire.carry()
    assert isinstance(result.error, ConnectionLost)
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-07")
def test_a_tls_handshake_that_fails_is_named(reactor: MemoryReactor) -> None:
    class Talks(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"220 mail.example ESMTP\r\n")

    wire = Wire(Talks())
    endpoint = TLSClientEndpoint(wire, TLSOptions(), "localhost", "localhost:5671", reactor)
    result = Result(connect_protocol(endpoint, reactor=reactor))
    wire.carry()
    assert isinstance(result.error, NotTLS)
    assert isinstance(result.error.__cause__, ConnectionLost)
    reactor.advance(0)  # TLS in Twisted gathers small writes for a moment
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-07")
def test_a_file_that_is_missing_is_named(reactor: MemoryReactor) -> None:
    result = Result(connect_protocol("amqps://h?cacertfile=/nonexistent/ca.pem", reactor=reactor))
    assert isinstance(result.error, TLSFileError)
    assert "cacertfile /nonexistent/ca.pem" in str(result.error)
    assert reactor.tcpClients == []
    assert reactor.getDelayedCalls() == []


# --------------------------------------------------------------------------- the deadline, and cancelling


@implementer(IStreamClientEndpoint)
class Never:
    """Be still looking up the name, or still waiting for TCP; note who gives up."""

    def __init__(self) -> None:
        self.cancelled = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred(self._cancel)

    def _cancel(self, deferred: Deferred[IProtocol]) -> None:
        self.cancelled += 1
        # What HostnameEndpoint makes of being cancelled while it looks up the name.
        deferred.errback(network.DNSLookupError("cancelled"))


@pytest.mark.covers("T-HS-09")
def test_the_deadline_covers_the_way_to_the_broker(reactor: MemoryReactor) -> None:
    endpoint = Never()
    result = Result(connect_protocol(endpoint, parameters=MINE, reactor=reactor))
    reactor.advance(6.99)
    assert result.pending
    reactor.advance(0.01)
    assert isinstance(result.error, HandshakeTimeout)
    assert result.error.seconds == 7.0
    assert endpoint.cancelled == 1
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-09")
def test_the_deadline_covers_the_handshake(reactor: MemoryReactor) -> None:
    wire = Wire(mute := Mute())
    result = Result(connect_protocol(wire, parameters=MINE, reactor=reactor))
    wire.carry()
    reactor.advance(7)
    assert isinstance(result.error, HandshakeTimeout)
    wire.carry()
    assert mute.lost
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-09")
def test_the_deadline_is_one_for_both(reactor: MemoryReactor) -> None:
    """A peer that is slow to accept has no second deadline for the handshake."""
    answer: Deferred[Any] = Deferred()
    slow = Wire(mute := Mute())

    @implementer(IStreamClientEndpoint)
    class Slow:
        def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
            return answer.addCallback(lambda _: slow.connect(factory))

    result = Result(connect_protocol(Slow(), parameters=MINE, reactor=reactor))
    reactor.advance(6)
    answer.callback(None)
    slow.carry()
    reactor.advance(0.99)
    assert result.pending
    reactor.advance(0.01)
    assert isinstance(result.error, HandshakeTimeout)
    slow.carry()
    assert mute.lost
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-09")
def test_cancelling_on_the_way_to_the_broker(reactor: MemoryReactor) -> None:
    endpoint = Never()
    result = Result(connect_protocol(endpoint, reactor=reactor))
    result.deferred.cancel()
    assert isinstance(result.error, CancelledError)
    assert endpoint.cancelled == 1
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-09")
def test_cancelling_a_handshake_closes_the_connection(reactor: MemoryReactor) -> None:
    wire = Wire(mute := Mute())
    result = Result(connect_protocol(wire, reactor=reactor))
    wire.carry()
    result.deferred.cancel()
    assert isinstance(result.error, CancelledError)
    wire.carry()
    assert mute.lost
    assert reactor.getDelayedCalls() == []


def test_an_endpoint_that_connects_although_it_was_cancelled(reactor: MemoryReactor) -> None:
    wire = Wire(mute := Mute())

    @implementer(IStreamClientEndpoint)
    class Stubborn:
        def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
            def late(deferred: Deferred[IProtocol]) -> None:
                wire.connect(factory).chainDeferred(deferred)

            return Deferred(late)

    result = Result(connect_protocol(Stubborn(), reactor=reactor))
    result.deferred.cancel()
    assert isinstance(result.error, CancelledError)
    wire.carry()
    assert mute.lost
    assert reactor.getDelayedCalls() == []


@pytest.mark.covers("T-HS-09", "T-CLS-07")
def test_cancelling_from_the_hook_that_tells_of_the_open_connection(reactor: MemoryReactor) -> None:
    class Hasty(Delegate):
        def connection_opened(self, protocol: object) -> None:
            result.deferred.cancel()

    wire = Wire(broker := Broker())
    result = Result(connect_protocol(wire, delegate=Hasty(), reactor=reactor))
    wire.carry()
    assert isinstance(result.error, CancelledError)
    assert broker.lost
    assert reactor.getDelayedCalls() == []
