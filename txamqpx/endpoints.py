"""From a URL, or anything else that leads to a broker, to an open connection.

URL schemes live in a registry, which is the one door through which this rank reaches a higher one: a
scheme may be registered by the name of a module, which is imported when the scheme is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from ipaddress import ip_address
from typing import Any

from twisted.internet import error as network
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, clientFromString
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.connection import AMQPClientFactory, AMQPProtocol
from txamqpx.errors import ConnectError, ConnectionRefused, HandshakeTimeout, HostNotFound, URLError
from txamqpx.interfaces import IDelegate
from txamqpx.params import ConnectionParameters, Secret, parse_url
from txamqpx.tls import TLSClientEndpoint

__all__ = ["Opener", "client_endpoint", "connect_protocol", "register_scheme"]

#: What a scheme does with a URL and a reactor: it tells where to connect, and how to behave there.
Opener = Callable[[str, Any], tuple[IStreamClientEndpoint, ConnectionParameters]]

_log = Logger()
_warned: set[tuple[str, str]] = set()


# --------------------------------------------------------------------------- schemes


def _open_network(url: str, reactor: Any) -> tuple[IStreamClientEndpoint, ConnectionParameters]:
    parameters = parse_url(url)
    return client_endpoint(parameters, reactor), parameters


_schemes: dict[str, Opener | str] = {
    "amqp": _open_network,
    "amqps": _open_network,
    "memory": "txamqpx.broker",
}


def register_scheme(name: str, opener: Opener | str) -> None:
    """Teach `connect_protocol` a URL scheme.

    Args:
        name: The scheme, in lower case, without ``://``.
        opener: What to call with the URL and the reactor; or the name of a module, which registers the
            scheme properly when it is imported.

    Raises:
        ValueError: Somebody else has the name.
    """
    if not isinstance(_schemes.get(name, ""), str) and _schemes[name] is not opener:
        raise ValueError(f"the URL scheme {name!r} is taken")
    _schemes[name] = opener


def _opener(scheme: str) -> Opener:
    opener = _schemes[scheme]
    if isinstance(opener, str):
        module = opener
        try:
            import_module(module)
        except ImportError as error:
            raise URLError("scheme", f"{scheme}:// needs {module}, which cannot be imported") from error
        opener = _schemes[scheme]
        if isinstance(opener, str):
            raise URLError("scheme", f"{module} has registered nothing for {scheme}://")
    return opener


# --------------------------------------------------------------------------- endpoints


def client_endpoint(parameters: ConnectionParameters, reactor: Any) -> IStreamClientEndpoint:
    """Make the endpoint that connects to a broker over the network, by all addresses of its name.

    With TLS the chain and the name are verified, unless ``TLSOptions(verify=False)`` says otherwise.
    """
    _warn_of_what_anybody_can_read(parameters)
    host, port = parameters.address
    timeout = parameters.connection_timeout
    endpoint: IStreamClientEndpoint
    if "_" in host:
        # Container names have underscores.  IDNA knows none, so HostnameEndpoint refuses what the
        # system's resolver would find.
        endpoint = TCP4ClientEndpoint(reactor, host, port, timeout)
    else:
        endpoint = HostnameEndpoint(reactor, host, port, timeout)
    if parameters.tls is not None:
        return TLSClientEndpoint(endpoint, parameters.tls, host, _joined(host, port), reactor)
    return endpoint


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return f".{host.rstrip('.').lower()}".endswith(".localhost")  # RFC 6761, section 6.3


def _warn_of_what_anybody_can_read(parameters: ConnectionParameters) -> None:
    host, _ = parameters.address
    if parameters.tls is not None and not parameters.tls.verify:
        danger = "TLS without verification: whoever is between here and {host} can read and change everything"
    elif parameters.tls is None and parameters.mechanism != "EXTERNAL" and not _is_loopback(host):
        danger = "the password goes to {host} unencrypted; amqps:// would encrypt it"
    else:
        return
    if (host, danger) not in _warned:
        _warned.add((host, danger))
        _log.warn(danger, host=host)


def _resolve(
    target: str | ConnectionParameters | IStreamClientEndpoint,
    parameters: ConnectionParameters | None,
    reactor: Any,
) -> tuple[IStreamClientEndpoint, ConnectionParameters, str]:
    """Return where to connect, how to behave there, and what to call the place."""
    if IStreamClientEndpoint.providedBy(target):
        return target, parameters or ConnectionParameters(), repr(target)
    if isinstance(target, str) and not _scheme_of(target) and "://" not in target:
        return _from_description(target, reactor), parameters or ConnectionParameters(), str(target)
    if parameters is not None:
        raise TypeError("parameters are for an endpoint; a URL, or parameters as the target, say it all")
    if isinstance(target, str):
        scheme = _scheme_of(target)
        if not scheme:
            raise URLError("scheme", f"is unknown; {_suggestion(target)}")
        endpoint, parameters = _opener(scheme)(target, reactor)
    elif isinstance(target, ConnectionParameters):
        endpoint, parameters = client_endpoint(target, reactor), target
    else:
        raise TypeError(f"nothing leads from a {type(target).__name__} to a broker")
    return endpoint, parameters, _joined(*parameters.address)


def _scheme_of(text: str) -> str:
    """Return the scheme if it is a known one, else nothing: it might be half a password."""
    scheme = text.partition(":")[0].lower()
    return scheme if scheme in _schemes else ""


def _suggestion(text: str) -> str:
    near = get_close_matches(text.partition(":")[0].lower(), _schemes, 1)
    return f"did you mean {near[0]}://?" if near else f"known are {', '.join(sorted(_schemes))}"


def _from_description(description: str, reactor: Any) -> IStreamClientEndpoint:
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, str(description))
        return endpoint
    except (ValueError, TypeError, LookupError):
        # Not chained: it may quote the text, which may have been meant as a URL with a password.
        pass
    raise URLError("scheme", f"there is none, and Twisted knows no such endpoint; {_suggestion(description)}")


# --------------------------------------------------------------------------- connecting


def connect_protocol(
    target: str | ConnectionParameters | IStreamClientEndpoint,
    *,
    delegate: IDelegate | None = None,
    reactor: Any = None,
    parameters: ConnectionParameters | None = None,
) -> Deferred[AMQPProtocol]:
    """Connect to a broker and log in.

    Args:
        target: A URL (``"amqps://user:password@host/vhost"``), `ConnectionParameters`, an endpoint, or
            Twisted's description of one (``"unix:/run/rabbit.sock"``).
        delegate: Who hears of deliveries, returns, and all else that happens unasked.
        reactor: None: the global one, which is imported, and so installed, now.
        parameters: How to behave, where ``target`` is an endpoint, which says only where to go.

    Returns:
        A Deferred that fires with the open connection within ``connection_timeout`` seconds, or fails with
        `HostNotFound`, `ConnectionRefused` or another `ConnectError`, `TLSError`, `HandshakeTimeout`,
        `AuthenticationError`, `VhostAccessDenied`, `NotAMQP`, ...  To cancel it closes the connection at
        whatever stage it is.

    Raises:
        URLError: The target cannot be understood; nothing was tried.
    """
    if reactor is None:
        from twisted.internet import reactor
    if isinstance(target, str):
        target = Secret(target)  # it may hold a password, and a traceback may show the variables
    endpoint, parameters, place = _resolve(target, parameters, reactor)
    factory = AMQPClientFactory(parameters, delegate=delegate, clock=reactor)
    return _Attempt(endpoint, factory, place, parameters.connection_timeout, reactor).result


class _Attempt:
    """One attempt to come to an open connection, with one deadline for everything.

    Attributes:
        result: Fires when the connection is open, or failed.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        factory: AMQPClientFactory,
        place: str,
        seconds: float,
        reactor: Any,
    ) -> None:
        self._endpoint = endpoint
        self._place = place
        self._protocol: AMQPProtocol | None = None
        self._over = False
        self.result: Deferred[AMQPProtocol] = Deferred(lambda _: self._give_up())
        self._deadline = reactor.callLater(seconds, self._too_late, seconds)
        self._connecting = maybeDeferred(endpoint.connect, factory)
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def _connected(self, protocol: IProtocol) -> None:
        assert isinstance(protocol, AMQPProtocol)
        self._protocol = protocol
        if self._over:  # the endpoint did not heed that it was cancelled
            self._give_up()
            return
        protocol.when_open().addCallbacks(self._opened, self._not_opened)

    def _opened(self, protocol: AMQPProtocol) -> None:
        if self._end():
            self.result.callback(protocol)

    def _not_connected(self, failure: Failure) -> None:
        self._fail(_network_error(_error(failure), self._place), failure)

    def _not_opened(self, failure: Failure) -> None:
        explained = None
        if isinstance(self._endpoint, TLSClientEndpoint):
            explained = self._endpoint.explain(_error(failure).__cause__)
        self._fail(explained, failure)

    def _fail(self, better: ConnectError | None, failure: Failure) -> None:
        if not self._end():
            return
        if better is None:
            self.result.errback(failure)
            return
        better.__cause__ = failure.value
        self.result.errback(better)

    def _too_late(self, seconds: float) -> None:
        self._give_up()
        self.result.errback(HandshakeTimeout(seconds))

    def _give_up(self) -> None:
        self._end()
        if self._protocol is None:
            self._connecting.cancel()
        else:
            self._protocol.abort()

    def _end(self) -> bool:
        """Accept no other end than this one; return whether it is the first."""
        first, self._over = not self._over, True
        if self._deadline.active():
            self._deadline.cancel()
        return first


def _error(failure: Failure) -> BaseException:
    assert failure.value is not None  # as it may be in one that was pickled
    return failure.value


def _network_error(reason: BaseException, place: str) -> ConnectError | None:
    """Return our word for one of Twisted's, or None if it is not about the network."""
    if isinstance(reason, ConnectError):
        return None
    if isinstance(reason, (network.DNSLookupError, network.UnknownHostError)):
        return HostNotFound(place, "the host name has no address")
    if isinstance(reason, network.ConnectionRefusedError):
        return ConnectionRefused(place, "nothing listens on that port")
    if isinstance(reason, (network.ConnectError, network.ConnectingCancelledError, OSError)):
        return ConnectError(place, str(reason))
    return None
