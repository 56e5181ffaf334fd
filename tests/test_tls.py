"""TLS without sockets: a client and a server of TLS, back to back in memory."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.certificates import Certificates, Pair, write_certificates
from txamqpx.errors import (
    ClientCertificateRefused,
    ClientCertificateRequired,
    NotTLS,
    TLSError,
    TLSFileError,
    TLSUnavailable,
    TLSVerificationError,
)
from txamqpx.params import TLSOptions
from txamqpx.tls import TLSClientEndpoint

ADDRESS = "rabbit:5671"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"))


class Client(Protocol):
    """Speak as soon as there is a transport, as AMQP does, and remember what came of it."""

    received = b""
    reason: BaseException | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"AMQP\0\0\x09\x01")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.value


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"echo " + data)


@implementer(IStreamClientEndpoint)
class Wire:
    """Connect to a server, and carry what both say."""

    def __init__(self, server: IProtocolFactory, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._pump: Any = None

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        address = IPv4Address("TCP", "127.0.0.1", 5671)
        server, client = self._server.buildProtocol(address), factory.buildProtocol(address)
        assert client is not None
        simulation: Any = iosim  # Twisted's own, and untyped
        transports = simulation.makeFakeServer(server), simulation.makeFakeClient(client)
        self._pump = simulation.connect(server, transports[0], client, transports[1], greet=False)
        return succeed(client)

    def carry(self) -> None:
        """Carry until nobody has anything to say; TLS in Twisted gathers small writes for a moment."""
        for _ in range(5):
            self._pump.flush()
            self._clock.advance(0)


class Peer:
    """A broker with TLS.

    Attributes:
        asked_for: The server names that clients asked for.
    """

    def __init__(
        self,
        certificates: Certificates,
        pair: Pair,
        *,
        demanding: bool = False,
        newest: int = SSL.TLS1_3_VERSION,
    ) -> None:
        authority = Certificate.loadPEM(certificates.ca.read_bytes())
        trust = trustRootFromCertificates([authority]) if demanding else None
        chain = load_pem_x509_certificates(pair.certificate.read_bytes())
        options = CertificateOptions(
            privateKey=load_pem_private_key(pair.key.read_bytes(), None),  # type: ignore[arg-type]
            certificate=chain[0],  # type: ignore[arg-type]
            extraCertChain=chain[1:],  # type: ignore[arg-type]
            trustRoot=trust,
        )
        self.asked_for: list[bytes | None] = []
        context = options.getContext()
        context.set_max_proto_version(newest)
        context.set_tlsext_servername_callback(
            lambda connection: self.asked_for.append(connection.get_servername())
        )
        self.clock = Clock()
        factory = TLSMemoryBIOFactory(options, False, Factory.forProtocol(Echo), clock=self.clock)
        self.wire = Wire(factory, self.clock)


class Outcome:
    """What a client of a peer came to."""

    def __init__(self, peer: Peer, options: TLSOptions, host: str) -> None:
        self.peer = peer
        endpoint = TLSClientEndpoint(peer.wire, options, host, ADDRESS, peer.clock)
        connected: list[IProtocol] = []
        endpoint.connect(Factory.forProtocol(Client)).addCallback(connected.append)
        (client,) = connected
        assert isinstance(client, Client)
        peer.wire.carry()
        self.received = client.received
        self.reason: BaseException | None = client.reason
        self.error = endpoint.explain(client.reason)


def failure_of(endpoint: TLSClientEndpoint) -> BaseException:
    failures: list[Failure] = []
    endpoint.connect(Factory.forProtocol(Client)).addErrback(failures.append)
    (failure,) = failures
    assert failure.value is not None
    return failure.value


def failing(peer: Peer, options: TLSOptions) -> BaseException:
    """Return why not even a connection was tried."""
    endpoint = TLSClientEndpoint(peer.wire, options, "localhost", ADDRESS, peer.clock)
    return failure_of(endpoint)


def trusting(certificates: Certificates, own: Pair | None = None) -> TLSOptions:
    if own is None:
        return TLSOptions(cacertfile=certificates.ca)
    return TLSOptions(cacertfile=str(certificates.ca), certfile=str(own.certificate), keyfile=str(own.key))


VERSIONS = pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
ECHO = b"echo AMQP\0\0\x09\x01"


@pytest.mark.covers("T-HS-07")
@VERSIONS
def test_a_trusted_server_is_talked_to(certificates: Certificates, newest: int) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.server, newest=newest), trusting(certificates), "localhost"
    )
    assert outcome.received == ECHO
    assert outcome.error is None
    assert outcome.peer.asked_for == [b"localhost"]


@pytest.mark.covers("T-HS-07")
def test_an_address_is_verified_as_an_address(certificates: Certificates) -> None:
    good = Outcome(Peer(certificates, certificates.server), trusting(certificates), "127.0.0.1")
    assert good.received == ECHO
    assert good.peer.asked_for in ([], [None])  # RFC 6066, section 3: an address is not asked for
    bad = Outcome(Peer(certificates, certificates.server), trusting(certificates), "127.0.0.2")
    assert bad.received == b""
    assert isinstance(bad.error, TLSVerificationError)


@pytest.mark.covers("T-HS-07")
@VERSIONS
def test_an_unknown_authority_is_refused(certificates: Certificates, newest: int) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.untrusted_server, newest=newest), trusting(certificates), "localhost"
    )
    assert outcome.received == b""
    assert isinstance(outcome.error, TLSVerificationError)
    assert outcome.error.address == ADDRESS
    assert str(outcome.error) == (
        f"no connection to {ADDRESS}: the server's certificate is refused: "
        "unable to get local issuer certificate"
    )
    assert not outcome.error.retryable


@pytest.mark.covers("T-HS-07")
def test_without_cacertfile_the_systems_authorities_judge(certificates: Certificates) -> None:
    outcome = Outcome(Peer(certificates, certificates.server), TLSOptions(), "localhost")
    assert isinstance(outcome.error, TLSVerificationError)


@pytest.mark.covers("T-HS-07")
@VERSIONS
def test_an_expired_certificate_is_refused(certificates: Certificates, newest: int) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.expired, newest=newest), trusting(certificates), "localhost"
    )
    assert outcome.received == b""
    assert isinstance(outcome.error, TLSVerificationError)
    assert outcome.error.reason.endswith("certificate has expired")


@pytest.mark.covers("T-HS-07")
@VERSIONS
def test_a_certificate_for_another_name_is_refused(certificates: Certificates, newest: int) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.wrong_name, newest=newest), trusting(certificates), "localhost"
    )
    assert outcome.received == b""
    assert isinstance(outcome.reason, VerificationError)
    assert isinstance(outcome.error, TLSVerificationError)
    assert outcome.error.reason == "the server's certificate is not for 'localhost'"


@pytest.mark.covers("T-HS-07")
def test_server_name_indication_is_asked_for_and_verified(certificates: Certificates) -> None:
    options = TLSOptions(cacertfile=str(certificates.ca), server_name_indication="elsewhere.example")
    good = Outcome(Peer(certificates, certificates.wrong_name), options, "localhost")
    assert good.received == ECHO
    assert good.peer.asked_for == [b"elsewhere.example"]
    bad = Outcome(Peer(certificates, certificates.server), options, "localhost")
    assert isinstance(bad.error, TLSVerificationError)


@pytest.mark.covers("T-HS-07")
@pytest.mark.parametrize(("host", "asked_for"), [("localhost", [b"localhost"]), ("127.0.0.1", [])])
def test_only_verify_false_believes_everybody(
    certificates: Certificates, host: str, asked_for: list[bytes]
) -> None:
    outcome = Outcome(Peer(certificates, certificates.expired), TLSOptions(verify=False), host)
    assert outcome.received == ECHO
    assert [name for name in outcome.peer.asked_for if name] == asked_for


@pytest.mark.covers("T-HS-07")
def test_tls_before_1_2_is_not_spoken(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(certificates, certificates.server)
    given: list[int] = []
    monkeypatch.setattr(SSL.Context, "set_options", lambda context, options: given.append(options))
    for options in (trusting(certificates), TLSOptions(verify=False)):
        endpoint = TLSClientEndpoint(peer.wire, options, "localhost", ADDRESS, peer.clock)
        endpoint.connect(Factory.forProtocol(Client))
        disabled = SSL.OP_NO_SSLv3 | SSL.OP_NO_TLSv1 | SSL.OP_NO_TLSv1_1
        assert given[-1] & disabled == disabled
    assert len(given) >= 2


@pytest.mark.covers("T-HS-07")
@VERSIONS
def test_a_client_certificate_is_shown(certificates: Certificates, newest: int) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.server, demanding=True, newest=newest),
        trusting(certificates, certificates.client),
        "localhost",
    )
    assert outcome.received == ECHO


@pytest.mark.covers("T-HS-07")
@VERSIONS
def test_a_client_certificate_that_is_not_trusted(certificates: Certificates, newest: int) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.server, demanding=True, newest=newest),
        trusting(certificates, certificates.untrusted_client),
        "localhost",
    )
    assert outcome.received == b""
    assert isinstance(outcome.error, ClientCertificateRefused)


@pytest.mark.covers("T-HS-07")
def test_a_client_certificate_that_is_missing(certificates: Certificates) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.server, demanding=True, newest=SSL.TLS1_3_VERSION),
        trusting(certificates),
        "localhost",
    )
    assert isinstance(outcome.error, ClientCertificateRequired)


@pytest.mark.covers("T-HS-07")
def test_a_client_certificate_that_is_missing_before_tls_1_3(certificates: Certificates) -> None:
    outcome = Outcome(
        Peer(certificates, certificates.server, demanding=True, newest=SSL.TLS1_2_VERSION),
        trusting(certificates),
        "localhost",
    )
    assert isinstance(outcome.error, TLSError)
    assert "when it wants a client certificate" in outcome.error.reason


@pytest.mark.covers("T-HS-07", "T-HS-03")
def test_a_peer_that_does_not_speak_tls(certificates: Certificates) -> None:
    class PlainBroker(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(b"AMQP\0\0\x09\x01")
            self.transport.loseConnection()

    peer = Peer(certificates, certificates.server)
    peer.wire = Wire(Factory.forProtocol(PlainBroker), peer.clock)
    assert isinstance(Outcome(peer, trusting(certificates), "localhost").error, NotTLS)


def test_what_is_no_tls_failure_is_not_explained(certificates: Certificates) -> None:
    peer = Peer(certificates, certificates.server)
    endpoint = TLSClientEndpoint(peer.wire, TLSOptions(), "h", ADDRESS, peer.clock)
    assert endpoint.explain(None) is None
    assert endpoint.explain(OSError("no route")) is None


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ([("SSL routines", "", "tlsv1 alert protocol version")], "tlsv1 alert protocol version"),
        ([], "the connection broke off"),
    ],
)
def test_any_other_tls_failure_is_quoted(
    certificates: Certificates, queue: list[tuple[str, str, str]], words: str
) -> None:
    peer = Peer(certificates, certificates.server)
    endpoint = TLSClientEndpoint(peer.wire, TLSOptions(), "h", ADDRESS, peer.clock)
    error = endpoint.explain(SSL.Error(queue))
    assert type(error) is TLSError
    assert error.reason == f"the TLS handshake failed: {words}"


@pytest.mark.parametrize("words", ["tlsv1 alert bad certificate", "ssl/tls alert bad certificate"])
def test_an_alert_about_a_certificate_that_was_not_shown(certificates: Certificates, words: str) -> None:
    """Servers written in Go say this, where others say that a certificate is required."""
    peer = Peer(certificates, certificates.server)
    alert = SSL.Error([("SSL routines", "", words)])
    without = TLSClientEndpoint(peer.wire, trusting(certificates), "h", ADDRESS, peer.clock)
    assert isinstance(without.explain(alert), ClientCertificateRequired)
    shown = trusting(certificates, certificates.client)
    assert isinstance(
        TLSClientEndpoint(peer.wire, shown, "h", ADDRESS, peer.clock).explain(alert),
        ClientCertificateRefused,
    )


def test_a_refused_chain_without_a_verdict_is_explained_by_opensslss_words(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenSSL._util", None)  # it is private, and may go
    outcome = Outcome(Peer(certificates, certificates.expired), trusting(certificates), "localhost")
    assert isinstance(outcome.error, TLSVerificationError)
    assert outcome.error.reason == "the server's certificate is refused: certificate verify failed"


# --------------------------------------------------------------------------- files


def test_files_are_read_at_each_attempt(certificates: Certificates, tmp_path: Path) -> None:
    rotated = tmp_path / "ca.pem"
    rotated.write_bytes(certificates.other_ca.read_bytes())
    options = TLSOptions(cacertfile=str(rotated))
    peer = Peer(certificates, certificates.server)
    endpoint = TLSClientEndpoint(peer.wire, options, "localhost", ADDRESS, peer.clock)
    for expected in (b"", ECHO):
        client: list[IProtocol] = []
        endpoint.connect(Factory.forProtocol(Client)).addCallback(client.append)
        peer.wire.carry()
        assert isinstance(client[0], Client)
        assert client[0].received == expected
        rotated.write_bytes(certificates.ca.read_bytes())


@pytest.fixture(scope="module")
def chained(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Certificates, Pair]:
    """Return an authority's file, and a pair that it vouches for by way of an intermediate authority."""
    directory = tmp_path_factory.mktemp("chained")
    root = trustme.CA()
    leaf = root.create_child_ca().issue_cert("localhost", common_name="localhost")
    pair = Pair(directory / "leaf.pem", directory / "leaf.key")
    pair.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(pair.key)
    root.cert_pem.write_to_path(directory / "root.pem")
    return replace(certificates, ca=directory / "root.pem"), pair


def test_intermediate_certificates_are_shown(chained: tuple[Certificates, Pair]) -> None:
    certificates, pair = chained
    outcome = Outcome(Peer(certificates, pair, demanding=True), trusting(certificates, pair), "localhost")
    assert outcome.received == ECHO


def test_depth_limits_the_servers_chain(chained: tuple[Certificates, Pair]) -> None:
    certificates, pair = chained
    options = trusting(certificates)
    assert Outcome(Peer(certificates, pair), options, "localhost").received == ECHO
    outcome = Outcome(Peer(certificates, pair), attrs.evolve(options, depth=0), "localhost")
    assert isinstance(outcome.error, TLSVerificationError)
    assert "chain too long" in outcome.error.reason


def test_the_key_may_be_in_the_certificates_file(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "all.pem"
    parts = (certificates.client.key, certificates.client.certificate)
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    options = TLSOptions(cacertfile=str(certificates.ca), certfile=str(both))
    outcome = Outcome(Peer(certificates, certificates.server, demanding=True), options, "localhost")
    assert outcome.received == ECHO


def encrypted(pair: Pair, path: Path) -> Path:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    encryption = BestAvailableEncryption(b"s3cret")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return path


def test_a_key_may_be_encrypted(certificates: Certificates, tmp_path: Path) -> None:
    own = Pair(certificates.client.certificate, encrypted(certificates.client, tmp_path / "me.key"))
    options = TLSOptions(
        cacertfile=str(certificates.ca),
        certfile=str(own.certificate),
        keyfile=str(own.key),
        password="s3cret",
    )
    outcome = Outcome(Peer(certificates, certificates.server, demanding=True), options, "localhost")
    assert outcome.received == ECHO


@pytest.mark.parametrize("password", [None, "", "wr0ng"])
def test_a_key_that_the_password_does_not_open(
    certificates: Certificates, tmp_path: Path, password: str | None
) -> None:
    options = TLSOptions(
        certfile=str(certificates.client.certificate),
        keyfile=str(encrypted(certificates.client, tmp_path / "me.key")),
        password=password,
    )
    error = failing(Peer(certificates, certificates.server), options)
    assert isinstance(error, TLSFileError)
    assert error.retryable
    assert "holds no private key that the password opens" in error.reason
    assert "wr0ng" not in str(error)


def test_a_file_that_cannot_be_used_is_named(certificates: Certificates, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    missing = str(tmp_path / "missing.pem")
    client, other = certificates.client, certificates.untrusted_client
    peer = Peer(certificates, certificates.server)
    for options, words in [
        (TLSOptions(cacertfile=missing), f"cacertfile {missing} cannot be read: No such file or directory"),
        (TLSOptions(cacertfile=str(client.key)), f"cacertfile {client.key} holds no PEM certificate"),
        (TLSOptions(cacertfile=str(broken)), f"cacertfile {broken} holds no PEM certificate"),
        (TLSOptions(certfile=missing), f"certfile {missing} cannot be read: No such file or directory"),
        (TLSOptions(certfile=str(client.certificate), keyfile=missing), f"keyfile {missing} cannot be read"),
        (
            TLSOptions(certfile=str(client.certificate), keyfile=str(other.key)),
            f"keyfile {other.key} is not the key of certfile {client.certificate}",
        ),
    ]:
        error = failing(peer, options)
        assert isinstance(error, TLSFileError)
        assert error.reason.startswith(words)


def test_a_name_that_no_certificate_can_bear(certificates: Certificates) -> None:
    peer = Peer(certificates, certificates.server)
    endpoint = TLSClientEndpoint(peer.wire, TLSOptions(), "rabbit_mq", ADDRESS, peer.clock)
    assert "no certificate can bear the name 'rabbit_mq'" in str(failure_of(endpoint))


def test_the_zone_of_an_address_is_not_part_of_the_name(certificates: Certificates) -> None:
    peer = Peer(certificates, certificates.server)
    endpoint = TLSClientEndpoint(peer.wire, TLSOptions(), "fe80::1%eth0", ADDRESS, peer.clock)
    error = endpoint.explain(VerificationError([]))
    assert error is not None
    assert error.reason.endswith("not for 'fe80::1'")


# --------------------------------------------------------------------------- the extra


@pytest.mark.parametrize("missing", ["OpenSSL", "service_identity"])
def test_without_the_libraries_the_extra_is_named(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    peer = Peer(certificates, certificates.server)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "OpenSSL":
        monkeypatch.delitem(sys.modules, "twisted.internet.ssl")
    error = failing(peer, TLSOptions())
    assert isinstance(error, TLSUnavailable)
    assert "pip install txamqpx[tls]" in str(error)
    endpoint = TLSClientEndpoint(peer.wire, TLSOptions(), "h", ADDRESS, peer.clock)
    assert endpoint.explain(OSError()) is None


def test_the_endpoint_keeps_twisteds_interface(certificates: Certificates) -> None:
    peer = Peer(certificates, certificates.server)
    endpoint = TLSClientEndpoint(peer.wire, TLSOptions(), "h", ADDRESS, peer.clock)
    assert verifyObject(IStreamClientEndpoint, endpoint)
