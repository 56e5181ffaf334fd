"""How to reach a broker and how to behave there: one value, and the URL that stands for it.

The URL's grammar is RabbitMQ's: its URI specification and its list of query parameters.  No error
quotes a URL or a value from one: whatever stands in the wrong place may be a piece of a password
that lacks its percent signs.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, unquote

import attrs

from txamqpx.errors import InvalidParameter, URLError
from txamqpx.protocol.auth import MECHANISMS

__all__ = ["ConnectionParameters", "SCHEMES", "Secret", "TLSOptions", "parse_url"]

#: URL scheme -> whether it means TLS.
SCHEMES: Final[Mapping[str, bool]] = MappingProxyType({"amqp": False, "amqps": True})

PORT: Final = 5672  # IANA: amqp
TLS_PORT: Final = 5671  # IANA: amqps
SMALLEST_FRAME_MAX: Final = 8192  # RabbitMQ refuses less from 4.1 on
MEBIBYTE: Final = 1024 * 1024


class Secret(str):
    """A text that ``repr`` does not show, so that no traceback, log or value that holds it does.

    In all other ways it is the text: it encodes, compares and concatenates like any ``str``.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


# --------------------------------------------------------------------------- validation

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _whole(least: int, most: int) -> _Validator:
    def validate(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidParameter(attribute.name, f"must be a whole number from {least} to {most}")

    return validate


def _seconds(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InvalidParameter(attribute.name, "must be a finite number of seconds above 0")


def _flag(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidParameter(attribute.name, "must be True or False")


def _text(*, most: int | None = None, forbidden: str = "", empty: bool = True) -> _Validator:
    """Make a validator of a text: ``most`` bytes of UTF-8, without the ``forbidden`` characters."""

    def validate(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, str):
            raise InvalidParameter(attribute.name, f"must be a str, not {type(value).__name__}")
        if not value and not empty:
            raise InvalidParameter(attribute.name, "must not be empty")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidParameter(attribute.name, "holds a lone surrogate, which UTF-8 cannot carry")
        if most is not None and len(value.encode()) > most:
            raise InvalidParameter(attribute.name, f"is longer than {most} bytes of UTF-8")
        if any(character in value for character in forbidden):
            raise InvalidParameter(attribute.name, f"must not hold any of {forbidden!r}")

    return validate


def _host(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    _text(empty=False)(_, attribute, value)
    if not _is_address(value) and not _is_name(value):
        raise InvalidParameter(attribute.name, "is neither a host name nor an IP address")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    if re.search(r"[\x00-\x20\x7f:/?#@\[\]%\\<>\"]", host):
        return False
    try:
        host.encode("idna")  # the length of the labels, too
    except UnicodeError:
        return False
    return True


def _optional(validator: _Validator) -> _Validator:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            validator(instance, attribute, value)

    return validate


_NAMED: Final = _optional(_text(empty=False))


# A converter leaves alone what it does not know; the validator refuses it afterwards.


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def _path(value: str | os.PathLike[str] | None) -> str | None:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _secret(value: str) -> str:
    return Secret(value) if _is(value, str) else value


def _optional_secret(value: str | None) -> str | None:
    return value if value is None else _secret(value)


def _copied(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(deepcopy(dict(value))) if _is(value, Mapping) else value


# --------------------------------------------------------------------------- the values


@attrs.frozen(kw_only=True)
class TLSOptions:
    """How to encrypt a connection.  Without a word from the user everything is verified.

    The files are read at every attempt to connect, so that they can be replaced under a running program.

    Attributes:
        cacertfile: PEM file of the certificate authorities to trust; None: those of the system.
        certfile: PEM file of our own certificate, and of the intermediate ones after it.
        keyfile: PEM file of its key; None: the key is in ``certfile``.
        password: What the key is encrypted with.
        verify: False lets anybody in the middle read and change everything.
        server_name_indication: The name to ask for and to verify; None: the host's.
        depth: How many intermediate certificates there may be at most.
    """

    cacertfile: str | None = attrs.field(default=None, converter=_path, validator=_NAMED)
    certfile: str | None = attrs.field(default=None, converter=_path, validator=_optional(_text(empty=False)))
    keyfile: str | None = attrs.field(default=None, converter=_path, validator=_optional(_text(empty=False)))
    password: str | None = attrs.field(default=None, converter=_optional_secret, validator=_optional(_text()))
    verify: bool = attrs.field(default=True, validator=_flag)
    server_name_indication: str | None = attrs.field(default=None, validator=_optional(_host))
    depth: int = attrs.field(default=9, validator=_whole(0, 100))  # OpenSSL's limit is 100

    def __attrs_post_init__(self) -> None:
        for name in ("keyfile", "password"):
            if getattr(self, name) is not None and self.certfile is None:
                raise InvalidParameter(name, "is of no use without certfile")


def _tls(value: bool | TLSOptions | None) -> TLSOptions | None:
    return (TLSOptions() if value else None) if isinstance(value, bool) else value


def _tls_options(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, TLSOptions):
        raise InvalidParameter(attribute.name, "must be True, False or TLSOptions")


def _mechanism(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value not in MECHANISMS:
        raise InvalidParameter(attribute.name, f"must be None or one of {', '.join(MECHANISMS)}")


def _properties(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidParameter(attribute.name, "must be a mapping with str keys")


@attrs.frozen(kw_only=True)
class ConnectionParameters:
    """Everything that one connection needs to know; it never changes, ``attrs.evolve`` makes another.

    Nothing that a broker answers is written back here: what was negotiated belongs to one connection.

    Attributes:
        host: Name or IP address of the broker.
        port: TCP port; None: 5672, or 5671 with TLS.
        virtual_host: The broker's own name space to enter; ``""`` is a name like any other.
        username: Who we are.
        password: How to prove it.  Shown by no ``repr``.
        mechanism: The SASL mechanism.  None: PLAIN, or AMQPLAIN where the server has no PLAIN.
            EXTERNAL (the client certificate is the proof) is used only if it is named here.
        heartbeat: Seconds; 0: none; None: what the server proposes.
            The default sees a dead peer within two minutes even where the server proposes none.
        channel_max: The highest channel number; 0: what the server allows.
        frame_max: The largest frame in bytes; 0: what the server allows.
        connection_timeout: Seconds for address, TCP, TLS and AMQP together.  One clock, because a peer
            that is slow in all four would pass four.  RabbitMQ itself gives TLS 5 s and AMQP 10 s;
            the other 15 s are for one repeated DNS query and three lost SYN packets.
        rpc_timeout: Seconds to wait for the answer to any other method.
        close_timeout: Seconds to wait for the answer to ``connection.close`` or ``channel.close``.
        tls: None: no encryption.  True stands for ``TLSOptions()``, False for None.
        locale: The language of the broker's reply texts.
        client_properties: Added to what the broker is told of this client.
        connection_name: What the broker's own pages call this connection.
        max_message_size: The largest body in bytes that is accepted from the broker.
        max_outbox: How many bytes may wait to be written; what goes beyond fails with ``OutboxFull``.
    """

    host: str = attrs.field(default="localhost", validator=_host)
    port: int | None = attrs.field(default=None, validator=_optional(_whole(1, 65535)))
    virtual_host: str = attrs.field(default="/", validator=_text(most=255))  # a short string
    # RFC 4616: NUL separates the parts of a PLAIN response.
    username: str = attrs.field(default="guest", validator=_text(forbidden="\0"))
    password: str = attrs.field(default="guest", converter=_secret, validator=_text(forbidden="\0"))
    mechanism: str | None = attrs.field(default=None, validator=_mechanism)
    heartbeat: int | None = attrs.field(default=60, validator=_optional(_whole(0, 65535)))
    channel_max: int = attrs.field(default=2047, validator=_whole(0, 65535))
    frame_max: int = attrs.field(default=131072)
    connection_timeout: float = attrs.field(default=30.0, validator=_seconds)
    rpc_timeout: float = attrs.field(default=600.0, validator=_seconds)
    close_timeout: float = attrs.field(default=10.0, validator=_seconds)
    tls: TLSOptions | None = attrs.field(default=None, converter=_tls, validator=_tls_options)
    locale: str = attrs.field(default="en_US", validator=_text(most=255, empty=False))
    client_properties: Mapping[str, Any] = attrs.field(
        factory=dict, converter=_copied, validator=_properties, hash=False
    )
    connection_name: str | None = attrs.field(default=None, validator=_NAMED)
    max_message_size: int = attrs.field(default=64 * MEBIBYTE, validator=_whole(1, 2**63 - 1))
    max_outbox: int = attrs.field(default=64 * MEBIBYTE, validator=_whole(1, 2**63 - 1))

    @frame_max.validator
    def _(self, attribute: attrs.Attribute[int], value: int) -> None:
        _whole(0, 2**32 - 1)(self, attribute, value)
        if 0 < value < SMALLEST_FRAME_MAX:
            raise InvalidParameter(
                attribute.name,
                f"must be 0 or at least {SMALLEST_FRAME_MAX}: RabbitMQ refuses less from 4.1 on",
            )

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port to connect to."""
        return self.host, self.port or (TLS_PORT if self.tls else PORT)

    def __str__(self) -> str:
        """Return the URL without password and query, for logs and messages."""
        host, port = self.address
        where = f"[{host}]" if ":" in host else host
        user, virtual_host = quote(self.username, safe=""), quote(self.virtual_host, safe="")
        return f"{'amqps' if self.tls else 'amqp'}://{user}@{where}:{port}/{virtual_host}"


# --------------------------------------------------------------------------- URLs

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_CHARACTER = re.compile(r"[\x00-\x20\x7f]")


def parse_url(text: str, *, schemes: Mapping[str, bool] = SCHEMES) -> ConnectionParameters:
    """Read a broker's URL, ``amqp[s]://user:password@host:port/vhost?query``.

    What is absent gets the default of `ConnectionParameters`; what is empty stays empty, but for the
    host and the port: ``amqp://h`` means the virtual host ``"/"``, ``amqp://h/`` the one called ``""``,
    which rarely exists.

    The query takes RabbitMQ's parameters: ``heartbeat`` (s), ``connection_timeout`` (ms),
    ``channel_max``, ``frame_max``, ``auth_mechanism`` (may repeat), and for amqps ``cacertfile``,
    ``certfile``, ``keyfile``, ``password`` (the key's), ``verify`` (``verify_peer``, ``verify_none``),
    ``server_name_indication``, ``depth``, ``fail_if_no_peer_cert`` (it is about servers and changes
    nothing here: a server without a certificate is never accepted); and of our own ``vhost`` (in place of
    the path), ``connection_name`` and ``locale``.

    Args:
        text: The URL.
        schemes: Which schemes are accepted, and whether they mean TLS.

    Raises:
        URLError: The URL cannot be used; it names the part and quotes nothing.
    """
    if not isinstance(text, str):
        raise TypeError(f"a URL is a str, not {type(text).__name__}")
    try:
        return _parse(text, schemes)
    except InvalidParameter as error:
        problem = error if isinstance(error, URLError) else URLError(error.parameter, error.reason)
    # Raised from here, so that no frame and no cause of it holds the URL or a piece of it.
    del text
    problem.__context__ = None
    raise problem.with_traceback(None)


def _parse(text: str, schemes: Mapping[str, bool]) -> ConnectionParameters:
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in schemes:
        raise URLError("scheme", f"must be {' or '.join(f'{known}://' for known in schemes)}")
    if "#" in rest:
        raise URLError("fragment", "there is none in a broker's URL; a '#' is written %23")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    fields = _read_authority(authority)
    if "/" in path:
        raise URLError("virtual host", "has more than one path segment; a '/' is written %2F")
    if slash:
        fields["virtual_host"] = _decode(path, "virtual host")
    _read_query(query, schemes[scheme], fields)
    return ConnectionParameters(**fields)


def _decode(text: str, part: str) -> str:
    if _BAD_CHARACTER.search(text):
        raise URLError(part, "holds a space or a control character; write it with a percent sign")
    if _BAD_ESCAPE.search(text):
        raise URLError(part, "two hexadecimal digits must follow a '%'; a '%' itself is written %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise URLError(part, "its percent-encoded bytes are not UTF-8") from None


def _read_authority(authority: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    userinfo, at, where = authority.rpartition("@")
    if "@" in userinfo:
        raise URLError("credentials", "hold an '@', which is written %40")
    if at:
        username, colon, password = userinfo.partition(":")
        fields["username"] = _decode(username, "username")
        if colon:
            fields["password"] = Secret(_decode(password, "password"))
    if where.startswith("["):
        host, bracket, port = where[1:].partition("]")
        if not bracket or port[:1] not in {"", ":"}:
            raise URLError("host", "an IPv6 address stands between brackets")
        host = _decode(host, "host")
        if ":" not in host or not _is_address(host):
            raise URLError("host", "what stands between brackets is not an IPv6 address")
        port = port[1:]
    else:
        host, _, port = where.partition(":")
        if ":" in port:
            raise URLError("host", "has several colons; an IPv6 address is put in brackets")
        host = _decode(host, "host")
    if host:  # RabbitMQ's URI specification: a zero-length host is an absent one
        fields["host"] = host
    if port:  # RFC 3986, 3.2.3: so is a zero-length port
        fields["port"] = _integer(port, "port")
    return fields


def _integer(text: str, part: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise URLError(part, "must be a whole number")
    return int(text)


def _milliseconds(text: str, part: str) -> float:
    return _integer(text, part) / 1000


def _choice(**meanings: bool) -> Callable[[str, str], bool]:
    def read(text: str, part: str) -> bool:
        if text not in meanings:
            raise URLError(part, f"must be {' or '.join(meanings)}")
        return meanings[text]

    return read


def _server_name(text: str, part: str) -> str:
    if text == "disable":
        raise URLError(part, "cannot be disabled: it is the name that is verified; see verify_none")
    return text


def _string(text: str, part: str) -> str:
    return text


#: Query parameter -> how it is read, and which field it is.
_QUERY: Final[Mapping[str, tuple[Callable[[str, str], Any], str]]] = {
    "channel_max": (_integer, "channel_max"),
    "connection_name": (_string, "connection_name"),
    "connection_timeout": (_milliseconds, "connection_timeout"),
    "frame_max": (_integer, "frame_max"),
    "heartbeat": (_integer, "heartbeat"),
    "locale": (_string, "locale"),
    "vhost": (_string, "virtual_host"),
}
_TLS_QUERY: Final[Mapping[str, tuple[Callable[[str, str], Any], str]]] = {
    "cacertfile": (_string, "cacertfile"),
    "certfile": (_string, "certfile"),
    "depth": (_integer, "depth"),
    "keyfile": (_string, "keyfile"),
    "password": (_string, "password"),
    "server_name_indication": (_server_name, "server_name_indication"),
    "verify": (_choice(verify_peer=True, verify_none=False), "verify"),
}
_AUTH_MECHANISM: Final = "auth_mechanism"
_SERVERS_ONLY: Final = "fail_if_no_peer_cert"
_boolean: Final = _choice(true=True, false=False)
_KNOWN: Final = (*_QUERY, *_TLS_QUERY, _AUTH_MECHANISM, _SERVERS_ONLY)


def _read_query(query: str, encrypted: bool, fields: dict[str, Any]) -> None:
    seen: set[str] = set()
    mechanisms: set[str] = set()
    tls: dict[str, Any] = {}
    for number, item in enumerate(filter(None, query.split("&")), 1):
        raw_name, equals, raw_value = item.partition("=")
        name = _decode(raw_name, "query")
        if name not in _KNOWN:
            # By its number: what looks like a name may be the end of a password with a raw '?'.
            near = get_close_matches(name, _KNOWN, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(_KNOWN))}"
            raise URLError("query", f"its parameter number {number} is unknown{hint}")
        if not equals:
            raise URLError(name, "has no value")
        if name in seen and name != _AUTH_MECHANISM:
            raise URLError(name, "is given twice")
        seen.add(name)
        value = _decode(raw_value, name)
        if name == _AUTH_MECHANISM:
            mechanisms.add(value.upper())
        elif name in _QUERY:
            read, field = _QUERY[name]
            if field == "virtual_host" and fields.get(field):
                raise URLError(name, "the path names a virtual host already")
            fields[field] = read(value, name)
        elif not encrypted:
            raise URLError(name, "is about TLS, so the URL has to begin with amqps://")
        elif name == _SERVERS_ONLY:
            _boolean(value, name)
        else:
            read, field = _TLS_QUERY[name]
            tls[field] = read(value, name)
    if mechanisms:
        fields["mechanism"] = _choose(mechanisms)
    if encrypted:
        fields["tls"] = TLSOptions(**tls)


def _choose(mechanisms: set[str]) -> str | None:
    if not mechanisms <= set(MECHANISMS):
        raise URLError(_AUTH_MECHANISM, f"must be one of {', '.join(MECHANISMS).lower()}")
    if len(mechanisms) == 1:
        return next(iter(mechanisms))
    if "EXTERNAL" in mechanisms:
        raise URLError(_AUTH_MECHANISM, "external stands alone: to fall back would give the password away")
    return None
