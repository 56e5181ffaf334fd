"""TLS to a broker: what we show, whom we believe, and what went wrong if it does not work.

Verification is Twisted's (``optionsForClientTLS``): the chain, and the host name or IP address in the
certificate.  The libraries for it are an extra, so they are imported when the first connection needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from zope.interface import implementer

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

if TYPE_CHECKING:
    from cryptography import x509
    from OpenSSL import SSL
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["TLSClientEndpoint"]

# OpenSSL's words, which differ a little between its releases.  RFC 8446, section 6.2, has the alerts.
_NOT_TLS = ("wrong version number", "packet length too long", "http request", "unknown protocol")
_WANTS_CERTIFICATE = ("alert certificate required",)
_REFUSES_CERTIFICATE = (
    "alert access denied",
    "alert bad certificate",
    "alert certificate expired",
    "alert certificate revoked",
    "alert certificate unknown",
    "alert decrypt error",
    "alert unknown ca",
    "alert unsupported certificate",
)
_NO_AGREEMENT = ("alert handshake failure",)


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """Connect to a broker through another endpoint, encrypted and verified.

    The files are read anew at each attempt, so that they can be replaced while the program runs.

    Args:
        endpoint: How to reach the broker.
        options: Whom to believe, and what to show.
        host: The name or address that was configured for the broker: the certificate has to bear it.
        address: What to call the broker in errors.
        reactor: Whose clock it is.
    """

    def __init__(
        self, endpoint: IStreamClientEndpoint, options: TLSOptions, host: str, address: str, reactor: Any
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        # RFC 6874: the zone of an IPv6 address means something on this machine only.
        self._name = options.server_name_indication or host.partition("%")[0]
        self._address = address
        self._reactor = reactor
        self._connection: SSL.Connection | None = None

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, and start the TLS handshake.

        As always with TLS in Twisted the Deferred fires before the handshake is done; that it failed is
        the reason of the protocol's ``connectionLost``.

        Returns:
            A Deferred of the protocol; it fails with `TLSFileError` or `TLSUnavailable`, or as the
            endpoint below does.
        """
        try:
            creator = _Noted(self._creator(), self)
        except TLSError:
            return fail()
        from twisted.protocols.tls import TLSMemoryBIOFactory

        wrapper = TLSMemoryBIOFactory(creator, True, factory, clock=self._reactor)
        return self._endpoint.connect(wrapper).addCallback(_unwrapped)

    def explain(self, reason: BaseException | None) -> TLSError | None:
        """Return what a TLS failure means, or None if ``reason`` is none."""
        try:
            from OpenSSL.SSL import Error
            from service_identity import CertificateError, VerificationError
        except ImportError:
            return None
        if isinstance(reason, (CertificateError, VerificationError)):
            return TLSVerificationError(self._address, f"the server's certificate is not for {self._name!r}")
        if isinstance(reason, Error):
            return self._explain_alert(_words(reason))
        return None

    def _explain_alert(self, words: str) -> TLSError:
        def said(phrases: tuple[str, ...]) -> bool:
            return any(phrase in words for phrase in phrases)

        shown = self._options.certfile is not None
        if "certificate verify failed" in words:
            why = (self._connection and _verdict(self._connection)) or words
            return TLSVerificationError(self._address, f"the server's certificate is refused: {why}")
        if said(_NOT_TLS):
            return NotTLS(self._address, "what answers there does not speak TLS; is it the port of amqp://?")
        if said(_WANTS_CERTIFICATE) or (said(_REFUSES_CERTIFICATE) and not shown):
            return ClientCertificateRequired(
                self._address, f"the server demands a client certificate (certfile, keyfile): {words}"
            )
        if said(_REFUSES_CERTIFICATE):
            return ClientCertificateRefused(
                self._address, f"the server refuses our client certificate: {words}"
            )
        hint = ""
        if said(_NO_AGREEMENT) and not shown:
            hint = "; before TLS 1.3 a server says the same when it wants a client certificate"
        return TLSError(self._address, f"the TLS handshake failed: {words}{hint}")

    def _creator(self) -> IOpenSSLClientConnectionCreator:
        try:
            import service_identity  # noqa: F401  # without it Twisted would look at the common name alone
            from OpenSSL import crypto
            from twisted.internet.ssl import (
                Certificate,
                CertificateOptions,
                TLSVersion,
                optionsForClientTLS,
                trustRootFromCertificates,
            )
        except ImportError as error:
            raise TLSUnavailable(
                self._address, "amqps needs pyOpenSSL and service-identity: pip install txamqpx[tls]"
            ) from error
        options = self._options
        extra: dict[str, Any] = {"verifyDepth": options.depth, "raiseMinimumTo": TLSVersion.TLSv1_2}
        trust = None
        if options.cacertfile is not None:
            authorities = [
                Certificate(crypto.X509.from_cryptography(certificate))
                for certificate in self._certificates("cacertfile", options.cacertfile)
            ]
            trust = trustRootFromCertificates(authorities)
        if options.certfile is not None:
            extra |= self._own_certificate(options.certfile, options.keyfile or options.certfile)
        if not options.verify:
            return _Unverified(CertificateOptions(**extra).getContext(), self._name)
        try:
            return optionsForClientTLS(self._name, trust, extraCertificateOptions=extra)
        except UnicodeError as error:  # IDNA knows no "_", say
            raise TLSError(
                self._address,
                f"no certificate can bear the name {self._name!r}; server_name_indication gives another",
            ) from error

    def _own_certificate(self, certfile: str, keyfile: str) -> dict[str, Any]:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        password = None if self._options.password is None else self._options.password.encode()
        own, *intermediate = self._certificates("certfile", certfile)
        try:
            key = load_pem_private_key(self._read("keyfile", keyfile), password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise TLSFileError(
                self._address, f"keyfile {keyfile} holds no private key that the password opens"
            ) from error
        if key.public_key() != own.public_key():
            raise TLSFileError(self._address, f"keyfile {keyfile} is not the key of certfile {certfile}")
        return {"privateKey": key, "certificate": own, "extraCertChain": intermediate}

    def _certificates(self, option: str, path: str) -> list[x509.Certificate]:
        from cryptography.x509 import load_pem_x509_certificates

        try:
            return load_pem_x509_certificates(self._read(option, path))
        except ValueError as error:
            raise TLSFileError(self._address, f"{option} {path} holds no PEM certificate") from error

    def _read(self, option: str, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise TLSFileError(self._address, f"{option} {path} cannot be read: {error.strerror}") from error


@implementer(IOpenSSLClientConnectionCreator)
class _Noted:
    """Leave the OpenSSL connection with the endpoint, which explains a failure from it."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator, endpoint: TLSClientEndpoint) -> None:
        self._creator = creator
        self._endpoint = endpoint

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = self._creator.clientConnectionForTLS(protocol)
        self._endpoint._connection = connection
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Believe everybody: what ``verify=False`` asks for."""

    def __init__(self, context: SSL.Context, name: str) -> None:
        self._context = context
        self._name = name

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        from OpenSSL import SSL

        connection = SSL.Connection(self._context)
        if not isIPAddress(self._name) and not isIPv6Address(self._name):  # RFC 6066, section 3
            connection.set_tlsext_host_name(self._name.encode("idna"))
        return connection


def _unwrapped(protocol: IProtocol) -> IProtocol:
    wrapped: IProtocol = protocol.wrappedProtocol  # type: ignore[attr-defined]  # a ProtocolWrapper
    return wrapped


def _words(error: SSL.Error) -> str:
    """Return the reasons in OpenSSL's queue of errors, in one line."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in queue) or "the connection broke off"


def _verdict(connection: SSL.Connection) -> str:
    """Return why a chain was refused: expired, an unknown issuer, ...; empty if that cannot be found out.

    pyOpenSSL has the function but no public name for it.  This only words an error.
    """
    try:
        from OpenSSL._util import ffi, lib

        code = lib.SSL_get_verify_result(connection._ssl)
        text: bytes = ffi.string(lib.X509_verify_cert_error_string(code))
        return text.decode("ascii", "replace") if code else ""
    except (ImportError, AttributeError):
        return ""
