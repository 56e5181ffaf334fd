"""TLS on real sockets: who is let in, who is not, and what each failure is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates

from tests.brokers_plugin import Vhost
from tests.certificates import CLIENT_NAME, Certificates, Pair
from tests.integration.support import differs
from tests.rabbitmq import Node
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import (
    AMQPError,
    AuthenticationError,
    ClientCertificateRefused,
    ClientCertificateRequired,
    ConnectionLost,
    HandshakeTimeout,
    NotAMQP,
    NotTLS,
    TLSError,
    TLSVerificationError,
)
from txamqpx.params import ConnectionParameters, TLSOptions


def parameters(
    port: int, certificates: Certificates, own: Pair | None = None, *, host: str = "localhost", **tls: Any
) -> ConnectionParameters:
    """Trust the test's authority, unless ``tls`` says otherwise."""
    if own is not None:
        tls |= {"certfile": own.certificate, "keyfile": own.key}
    options = TLSOptions(**{"cacertfile": certificates.ca, **tls})
    return ConnectionParameters(host=host, port=port, tls=options)


async def refused(target: str | ConnectionParameters) -> AMQPError:
    with pytest.raises(AMQPError) as caught:
        await connect_protocol(target)
    return caught.value


# --------------------------------------------------------------------------- a broker


@pytest.mark.covers("T-HS-04", "T-HS-07")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest_twisted.ensureDeferred
async def test_a_password_is_used_even_where_the_certificate_would_do(
    tls_vhost: Vhost, certificates: Certificates, host: str
) -> None:
    ports = tls_vhost.node.ports
    wanted = parameters(ports["amqps"], certificates, certificates.client, host=host)
    protocol = await connect_protocol(wanted)
    (row,) = tls_vhost.node.list_connections()
    assert (row["user"], row["auth_mechanism"], row["ssl"]) == ("guest", "PLAIN", True)
    await protocol.close()


@pytest.mark.covers("T-HS-04", "T-HS-07")
@pytest_twisted.ensureDeferred
async def test_the_certificate_is_the_login_where_external_is_asked_for(
    tls_vhost: Vhost, certificates: Certificates
) -> None:
    own = certificates.client
    protocol = await connect_protocol(
        f"{tls_vhost.tls_url}?auth_mechanism=external"
        f"&cacertfile={certificates.ca}&certfile={own.certificate}&keyfile={own.key}"
    )
    (row,) = tls_vhost.node.list_connections()
    assert (row["user"], row["auth_mechanism"]) == (CLIENT_NAME, "EXTERNAL")
    await protocol.close()


@pytest.mark.covers("T-HS-04")
@pytest_twisted.ensureDeferred
async def test_external_never_falls_back_to_the_password(tls_vhost: Vhost) -> None:
    error = await refused(f"{tls_vhost.url}?auth_mechanism=external")
    assert isinstance(error, AuthenticationError)
    assert "EXTERNAL" in str(error)


@pytest.mark.covers("T-HS-07")
@pytest_twisted.ensureDeferred
async def test_a_client_certificate_that_is_missing(tls_vhost: Vhost, certificates: Certificates) -> None:
    error = await refused(parameters(tls_vhost.node.ports["amqps"], certificates))
    assert isinstance(error, ClientCertificateRequired)


@pytest.mark.covers("T-HS-07")
@pytest_twisted.ensureDeferred
async def test_a_client_certificate_that_is_not_trusted(tls_vhost: Vhost, certificates: Certificates) -> None:
    own = certificates.untrusted_client
    error = await refused(parameters(tls_vhost.node.ports["amqps"], certificates, own))
    assert isinstance(error, ClientCertificateRefused)


@pytest.mark.covers("T-HS-07")
@pytest.mark.parametrize("authority", ["other_ca", None])
@pytest_twisted.ensureDeferred
async def test_a_broker_that_is_not_trusted(
    tls_vhost: Vhost, certificates: Certificates, authority: str | None
) -> None:
    """Neither by another authority than its own, nor by those of the system."""
    trusted = None if authority is None else getattr(certificates, authority)
    port = tls_vhost.node.ports["amqps"]
    error = await refused(parameters(port, certificates, certificates.client, cacertfile=trusted))
    assert isinstance(error, TLSVerificationError)
    assert f"no connection to localhost:{port}: the server's certificate is refused" in str(error)


@pytest.mark.covers("T-HS-07")
@pytest_twisted.ensureDeferred
async def test_a_broker_that_goes_by_another_name(tls_vhost: Vhost, certificates: Certificates) -> None:
    port = tls_vhost.node.ports["amqps"]
    error = await refused(
        parameters(port, certificates, certificates.client, server_name_indication="rabbit.example")
    )
    assert isinstance(error, TLSVerificationError)
    assert "is not for 'rabbit.example'" in str(error)


@pytest.mark.covers("T-HS-07")
@pytest_twisted.ensureDeferred
async def test_a_broker_that_nobody_verifies(tls_vhost: Vhost, certificates: Certificates) -> None:
    port = tls_vhost.node.ports["amqps"]
    protocol = await connect_protocol(
        parameters(port, certificates, certificates.client, cacertfile=certificates.other_ca, verify=False)
    )
    await protocol.close()


@pytest.mark.covers("T-HS-03")
@pytest_twisted.ensureDeferred
async def test_plain_amqp_to_the_port_of_tls(tls_vhost: Vhost) -> None:
    error = await refused(ConnectionParameters(port=tls_vhost.node.ports["amqps"]))
    if not isinstance(tls_vhost.node, Node):
        assert isinstance(error, ConnectionLost)
        differs("its TLS is OpenSSL, which hangs up on who speaks no TLS where Erlang's says why")
    assert isinstance(error, NotAMQP)
    assert "TLS" in str(error)


@pytest.mark.covers("T-HS-03")
@pytest_twisted.ensureDeferred
async def test_tls_to_the_port_of_plain_amqp(tls_vhost: Vhost, certificates: Certificates) -> None:
    error = await refused(parameters(tls_vhost.node.ports["amqp"], certificates))
    assert isinstance(error, NotTLS)
    assert "amqp://" in str(error)


# --------------------------------------------------------------------------- other servers of TLS


class Listening(Protocol):
    """Say nothing, and tell when the client is gone."""

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)


class Server(Factory):
    """Listen with TLS on a port of 127.0.0.1, or without."""

    noisy = False
    protocol = Listening

    def __init__(self, options: CertificateOptions | None) -> None:
        self.clients: list[Listening] = []
        listens: Any = reactor
        self.port = (
            listens.listenSSL(0, self, options, interface="127.0.0.1")
            if options
            else listens.listenTCP(0, self, interface="127.0.0.1")
        )
        self.number: int = self.port.getHost().port

    def buildProtocol(self, addr: object) -> Listening:
        self.clients.append(Listening())
        return self.clients[-1]


@pytest.fixture
def serve() -> Iterator[Callable[[CertificateOptions | None], Server]]:
    made: list[Server] = []

    def start(options: CertificateOptions | None) -> Server:
        made.append(Server(options))
        return made[-1]

    yield start
    for server in made:
        for client in server.clients:
            pytest_twisted.blockon(client.gone)
        pytest_twisted.blockon(maybeDeferred(server.port.stopListening))


def options(pair: Pair, authority: Certificates | None = None) -> CertificateOptions:
    """Return a server's; it demands a certificate of ``authority``, if one is given."""
    chain = load_pem_x509_certificates(pair.certificate.read_bytes())
    trust = None
    if authority is not None:
        trust = trustRootFromCertificates([Certificate.loadPEM(authority.ca.read_bytes())])
    return CertificateOptions(
        privateKey=cast(Any, load_pem_private_key(pair.key.read_bytes(), None)),
        certificate=cast(Any, chain[0]),
        trustRoot=trust,
    )


@pytest.mark.covers("T-HS-07")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("expired", "the server's certificate is refused: certificate has expired"),
        ("wrong_name", "the server's certificate is not for 'localhost'"),
        ("untrusted_server", "the server's certificate is refused: "),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_wrong(
    serve: Callable[[CertificateOptions | None], Server], certificates: Certificates, wrong: str, words: str
) -> None:
    server = serve(options(getattr(certificates, wrong)))
    error = await refused(parameters(server.number, certificates))
    assert isinstance(error, TLSVerificationError)
    assert words in str(error)


@pytest.mark.covers("T-HS-07")
@pytest_twisted.ensureDeferred
async def test_an_address_that_the_certificate_does_not_bear(
    serve: Callable[[CertificateOptions | None], Server], certificates: Certificates
) -> None:
    server = serve(options(certificates.wrong_name))
    error = await refused(parameters(server.number, certificates, host="127.0.0.1"))
    assert isinstance(error, TLSVerificationError)
    assert "is not for '127.0.0.1'" in str(error)


@pytest.mark.covers("T-HS-07")
@pytest_twisted.ensureDeferred
async def test_before_tls_1_3_a_missing_client_certificate_is_guessed(
    serve: Callable[[CertificateOptions | None], Server], certificates: Certificates
) -> None:
    demanding = options(certificates.server, certificates)
    demanding.getContext().set_max_proto_version(SSL.TLS1_2_VERSION)
    error = await refused(parameters(serve(demanding).number, certificates))
    assert isinstance(error, TLSError)
    assert "when it wants a client certificate" in str(error)


@pytest.mark.covers("T-HS-09")
@pytest.mark.parametrize("encrypted", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing(
    serve: Callable[[CertificateOptions | None], Server], certificates: Certificates, encrypted: bool
) -> None:
    """Neither to TLS nor, inside of it, to AMQP; the connection is closed when the time is over."""
    server = serve(options(certificates.server) if encrypted else None)
    tls = f"?cacertfile={certificates.ca}&" if encrypted else "?"
    scheme = "amqps" if encrypted else "amqp"
    error = await refused(f"{scheme}://localhost:{server.number}/{tls}connection_timeout=200")
    assert isinstance(error, HandshakeTimeout)
    await server.clients[0].gone
    server.clients.clear()
