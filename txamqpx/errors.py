"""Every exception that this library raises, in one tree.

::

    AMQPError
    ├── Closed                      somebody said so, with a reply code
    │   ├── ChannelClosed           NotFound 404, AccessRefused 403, PreconditionFailed 406, ...
    │   │   └── NotProcessed            an innocent call behind the one that was to blame
    │   └── ConnectionClosed        ConnectionForced 320, FrameError 501, NotAllowed 530, ...
    │       ├── AuthenticationError     403: the credentials were refused
    │       ├── VhostAccessDenied       530: the login is good, the virtual host is not
    │       └── ConnectionLost          the transport died without a word
    │           ├── HeartbeatTimeout
    │           └── ProbableAuthenticationError
    ├── PublishError                what became of a message that was not confirmed
    │   ├── Unroutable              NoRoute 312, NoConsumers 313: holds the returned message
    │   ├── Nacked                  the broker refused it
    │   ├── OutcomeUnknown          it may or may not be there
    │   │   └── ConfirmTimeout
    │   └── NotPublished            it is certainly not there
    │       ├── OutboxFull
    │       └── GateTimeout
    ├── ProtocolError
    │   ├── LocalProtocolError      our caller's mistake: nothing was sent, nothing changed
    │   │   ├── NoFreeChannels, ConsumerTagInUse
    │   │   └── AlreadySettled, UnknownDelivery
    │   └── RemoteProtocolError     the peer broke the protocol: the connection ends
    │       ├── ProtocolVersionMismatch
    │       └── NotAMQP
    ├── ConsumerCancelled           the broker ended a consumer
    ├── EncodeError                 a value that does not fit on the wire
    ├── DecodeError                 bytes that are not what they claim to be
    ├── SpecError                   a specification file that cannot be used
    ├── RPCTimeout, HandshakeTimeout, WaitTimeout
    ├── WrongThread, ForkedProcess, ReactorStopped      a thread cannot wait here: nothing was sent
    ├── InvalidParameter            a setting that cannot be used: nothing was tried
    │   ├── URLError                the same in a URL; it names the part and never quotes it
    │   └── TopologyError           the same in a queue, an exchange, a binding: nothing was sent
    └── ConnectError                no connection came about
        ├── HostNotFound, ConnectionRefused
        ├── NoBrokerReached         none of several; it holds the error of each
        └── TLSError                TLSVerificationError, NotTLS, ClientCertificateRequired, ...

The *scope* is part of the key: reply code 403 on a channel means "no permission", on a
connection "wrong credentials".  Facts are attributes; the sentence is made in ``__str__``.
``retryable`` tells whether the same operation may succeed later without a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Self, TypeVar

__all__ = [
    "AMQPError",
    "AMQPNotImplemented",
    "AMQPSyntaxError",
    "AccessRefused",
    "AlreadySettled",
    "AuthenticationError",
    "CallTimeout",
    "ChannelClosed",
    "ChannelError",
    "ClientCertificateRefused",
    "ClientCertificateRequired",
    "Closed",
    "CommandInvalid",
    "ConfirmTimeout",
    "ConnectError",
    "ConnectionClosed",
    "ConnectionForced",
    "ConnectionLost",
    "ConnectionRefused",
    "ConsumerCancelled",
    "ConsumerTagInUse",
    "ContentTooLarge",
    "DecodeError",
    "EncodeError",
    "ForkedProcess",
    "FrameError",
    "GateTimeout",
    "HandshakeTimeout",
    "HeartbeatTimeout",
    "HostNotFound",
    "InternalError",
    "InvalidParameter",
    "InvalidPath",
    "LocalProtocolError",
    "Nacked",
    "NoBrokerReached",
    "NoConsumers",
    "NoFreeChannels",
    "NoRoute",
    "NotAMQP",
    "NotAllowed",
    "NotFound",
    "NotProcessed",
    "NotPublished",
    "NotTLS",
    "OutboxFull",
    "OutcomeUnknown",
    "PreconditionFailed",
    "ProbableAuthenticationError",
    "ProtocolError",
    "ProtocolVersionMismatch",
    "PublishError",
    "RPCTimeout",
    "ReactorStopped",
    "RemoteError",
    "RemoteProtocolError",
    "ReplyLost",
    "ResourceError",
    "ResourceLocked",
    "SpecError",
    "TLSError",
    "TLSFileError",
    "TLSUnavailable",
    "TLSVerificationError",
    "TopologyError",
    "URLError",
    "UnexpectedFrame",
    "UnknownDelivery",
    "Unroutable",
    "VhostAccessDenied",
    "WaitTimeout",
    "WrongThread",
    "caused",
    "printable",
    "twin",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """Replace control characters, so that a peer's words cannot forge a log line."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class AMQPError(Exception):
    """The base of everything that this library raises."""

    #: Whether the same operation may succeed later without a change by anybody.
    retryable: ClassVar[bool] = False


E = TypeVar("E", bound=AMQPError)


def caused(error: E, cause: BaseException | None) -> E:
    """Return ``error`` with its cause set: ``raise ... from ...`` for errors that travel as values."""
    error.__cause__ = cause
    return error


def twin(error: E) -> E:
    """Return an equal error of its own: one that is raised twice gathers foreign tracebacks."""
    other = type(error).__new__(type(error))
    other.args = error.args
    other.__dict__.update(error.__dict__)
    return caused(other, error.__cause__)


# --------------------------------------------------------------------------- closed by a reply code

# RabbitMQ says what went wrong only in the reply text.  These are its wordings, 3.10 to 4.3.
_FACTS = (
    re.compile(r"\bqueue (?:name )?'(?P<queue>[^']*)'"),
    re.compile(r"\bexchange (?:name )?'(?P<exchange>[^']*)'"),
    re.compile(r"\bvhost '?(?P<virtual_host>[^' :]+)'?"),
    re.compile(r"\binequivalent arg '(?P<argument>[^']*)'"),
    re.compile(r": received (?P<received>.+?) but current is (?P<current>.+)$"),
)
_VALUE = re.compile(r"^(?:the value )?'(?P<value>.*?)'(?: of type '[^']*')?$")


def _facts(reply_text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in _FACTS:
        match = pattern.search(reply_text)
        if match:
            found.update(match.groupdict())
    for key in ("received", "current"):
        match = _VALUE.match(found.get(key, ""))
        if match:
            found[key] = match["value"]
    return found


class Closed(AMQPError):
    """A channel or a connection was closed, with a reply code and its reason.

    Attributes:
        reply_code: The AMQP reply code; 0 where nobody sent one.
        reply_text: The reason as the closing side worded it, control characters replaced.
        class_id: The class of the method that failed, 0 if none.
        method_id: The method that failed, 0 if none.
        operation: That method's name, such as ``"queue.declare"``; empty if none.
        queue: The queue that the reply text names, or None.
        exchange: The exchange that the reply text names, or None.
        virtual_host: The virtual host that the reply text names, or None.
        argument: The argument that differs, in an "inequivalent arg" reply, or None.
        received: What was asked for in that reply, or None.
        current: What the broker has, or None.
        by_peer: True if the other side closed, False if we did.
        advice: What to do, where the reason does not say it; empty if nothing.
    """

    advice: ClassVar[str] = ""
    default_code: ClassVar[int] = 0
    _by_code: ClassVar[dict[int, type[Closed]]] = {}

    def __init_subclass__(cls, *, code: int = 0, scope: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if scope:
            cls._by_code = {}
        if code:
            if code in cls._by_code:
                raise TypeError(f"{code} is already {cls._by_code[code].__name__}")
            cls.default_code = code
            cls._by_code[code] = cls

    def __init__(
        self,
        reply_text: str = "",
        *,
        reply_code: int | None = None,
        class_id: int = 0,
        method_id: int = 0,
        operation: str = "",
        by_peer: bool = True,
    ) -> None:
        super().__init__(reply_text)
        self.reply_code = self.default_code if reply_code is None else reply_code
        self.reply_text = printable(reply_text)
        self.class_id = class_id
        self.method_id = method_id
        self.operation = operation
        self.by_peer = by_peer
        facts = _facts(self.reply_text)
        self.queue = facts.get("queue")
        self.exchange = facts.get("exchange")
        self.virtual_host = facts.get("virtual_host")
        self.argument = facts.get("argument")
        self.received = facts.get("received")
        self.current = facts.get("current")

    @classmethod
    def from_reply(
        cls,
        reply_code: int,
        reply_text: str,
        *,
        class_id: int = 0,
        method_id: int = 0,
        operation: str = "",
        by_peer: bool = True,
    ) -> Closed:
        """Make the error of this scope that ``reply_code`` stands for.

        An unknown code gives the scope's own class, so that a new broker cannot break us.
        """
        return cls._by_code.get(reply_code, cls)(
            reply_text,
            reply_code=reply_code,
            class_id=class_id,
            method_id=method_id,
            operation=operation,
            by_peer=by_peer,
        )

    def copy(self) -> Self:
        """Return an equal error of its own; see ``twin``."""
        return twin(self)

    def __str__(self) -> str:
        text = self.reply_text or ("closed by us" if self.reply_code and not self.by_peer else "")
        said = " ".join(filter(None, (str(self.reply_code or ""), text)))
        if self.operation:
            said = f"{said or type(self).__name__} (while handling {self.operation})"
        return f"{said.rstrip('.')}; {self.advice}" if self.advice else said


class ChannelClosed(Closed, scope=True):
    """A channel ended; the connection and its other channels go on."""


class ContentTooLarge(ChannelClosed, code=311):
    """The content does not fit the broker's limits."""


class AccessRefused(ChannelClosed, code=403):
    """The user lacks the permission, or the entity is reserved or exclusively consumed."""


class NotFound(ChannelClosed, code=404):
    """The queue, exchange or binding does not exist."""


class ResourceLocked(ChannelClosed, code=405):
    """The queue is exclusive to another connection."""

    retryable = True  # the other connection may be our own dead one


class PreconditionFailed(ChannelClosed, code=406):
    """The entity exists with other arguments, is in use, or the method does not fit the channel."""


class NotProcessed(ChannelClosed):
    """The channel was closed over another operation before this one's turn: it had no effect.

    ``__cause__`` is the error that closed the channel; on a new channel this may well succeed.
    """

    retryable = True


class ConnectionClosed(Closed, scope=True):
    """The connection ended, and everything on it."""


class ConnectionForced(ConnectionClosed, code=320):
    """An operator closed the connection, or the broker is shutting down."""

    retryable = True


class InvalidPath(ConnectionClosed, code=402):
    """The virtual host is unknown."""


class AuthenticationError(ConnectionClosed, code=403):
    """The broker refused the credentials."""

    advice = "correct the user name, the password or the mechanism"


class FrameError(ConnectionClosed, code=501):
    """A frame was malformed."""


class AMQPSyntaxError(ConnectionClosed, code=502):
    """A field held an illegal value."""


class CommandInvalid(ConnectionClosed, code=503):
    """A method came at a moment that does not allow it."""


class ChannelError(ConnectionClosed, code=504):
    """A channel number was used that is not open, or opened twice."""


class UnexpectedFrame(ConnectionClosed, code=505):
    """A frame came that the content before it does not allow."""


class ResourceError(ConnectionClosed, code=506):
    """The broker lacks the resources."""

    retryable = True


class NotAllowed(ConnectionClosed, code=530):
    """The broker's rules forbid it: a wrong virtual host, or a consumer tag used twice."""


class VhostAccessDenied(NotAllowed):
    """The login is good, but the virtual host does not exist or is not this user's."""

    advice = "correct its name (with a slash at the end of the URL it is empty) or the user's permissions"


class AMQPNotImplemented(ConnectionClosed, code=540):
    """The broker does not implement the method or one of its options."""


class InternalError(ConnectionClosed, code=541):
    """The broker failed, or its operator has switched off what was asked for."""

    retryable = True


class ConnectionLost(ConnectionClosed):
    """The transport ended without a closing handshake; ``__cause__`` has its reason."""

    retryable = True


class HeartbeatTimeout(ConnectionLost):
    """Nothing came from the peer for two heartbeat intervals."""


class ProbableAuthenticationError(ConnectionLost):
    """The broker hung up right after the credentials: most likely it refused them."""

    retryable = False


# --------------------------------------------------------------------------- outcomes of a publish


class PublishError(AMQPError):
    """A message was not confirmed; the subclass says what is known of it."""


class Unroutable(PublishError):
    """A mandatory message reached no queue and came back.

    Attributes:
        reply_code: 312 or 313.
        reply_text: The broker's word.
        exchange: Where it was published to.
        routing_key: The routing key it had.
        message: The returned message (``ReturnedMessage``), body and properties as they came back.
    """

    default_code: ClassVar[int] = 0
    _by_code: ClassVar[dict[int, type[Unroutable]]] = {}

    def __init_subclass__(cls, *, code: int = 0, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.default_code = code
        cls._by_code[code] = cls

    def __init__(
        self,
        reply_text: str = "",
        *,
        reply_code: int | None = None,
        exchange: str = "",
        routing_key: str = "",
        message: Any = None,
    ) -> None:
        super().__init__(reply_text)
        self.reply_code = self.default_code if reply_code is None else reply_code
        self.reply_text = printable(reply_text)
        self.exchange = exchange
        self.routing_key = routing_key
        self.message = message

    @classmethod
    def from_return(
        cls, reply_code: int, reply_text: str, exchange: str, routing_key: str, message: Any = None
    ) -> Unroutable:
        """Make the error that a ``basic.return`` with ``reply_code`` stands for."""
        return cls._by_code.get(reply_code, cls)(
            reply_text, reply_code=reply_code, exchange=exchange, routing_key=routing_key, message=message
        )

    def __str__(self) -> str:
        where = f"exchange {self.exchange!r} with routing key {self.routing_key!r}"
        return f"{self.reply_code} {self.reply_text}: no queue is bound to {where}"


class NoRoute(Unroutable, code=312):
    """No binding matched a mandatory message."""


class NoConsumers(Unroutable, code=313):
    """No consumer was ready for an immediate message (not on RabbitMQ since 3.0)."""


class Nacked(PublishError):
    """The broker refused the message: a queue rejected it, or the broker failed internally."""

    retryable = True


class OutcomeUnknown(PublishError):
    """The channel or the connection ended before the answer: the message may be there or not."""


class ConfirmTimeout(OutcomeUnknown, TimeoutError):
    """The broker has not spoken of the message in time; if it does later, nobody is told.

    Attributes:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"no confirm came within {self.seconds:g} s"


class NotPublished(PublishError):
    """The message is certainly not there; publishing it again cannot make a duplicate."""

    retryable = True


class OutboxFull(NotPublished):
    """More waits to be written than the connection's, or the publisher's, limit allows."""


class GateTimeout(NotPublished, TimeoutError):
    """The message waited too long for its turn to be written.

    Attributes:
        seconds: The limit.
        reason: What it waited for.
    """

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(seconds, reason)
        self.seconds = seconds
        self.reason = reason

    def __str__(self) -> str:
        return f"not sent within {self.seconds:g} s: {self.reason}"


# --------------------------------------------------------------------------- breaches of the protocol


class ProtocolError(AMQPError):
    """Something came at a moment or in a form that the protocol forbids.

    Attributes:
        reply_code: What to tell the peer, if it is the peer's fault.
        operation: The method concerned, if one was.
    """

    def __init__(self, message: str, *, reply_code: int = 503, operation: str = "") -> None:
        super().__init__(message)
        self.reply_code = reply_code
        self.operation = operation


class LocalProtocolError(ProtocolError):
    """Our caller asked for something that is not allowed now: nothing was sent, nothing changed."""


class NoFreeChannels(LocalProtocolError):
    """Every channel number that was negotiated is in use; close one or open another connection."""

    retryable = True


class ConsumerTagInUse(LocalProtocolError):
    """The channel has a consumer of that tag; the broker would close the connection (530)."""


class AlreadySettled(LocalProtocolError):
    """The delivery was acked, nacked or rejected before."""


class UnknownDelivery(LocalProtocolError):
    """The channel gave out no such delivery tag, or it is settled, or needed no settling."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; the connection is over."""


class ProtocolVersionMismatch(RemoteProtocolError):
    """The server speaks another version.

    Attributes:
        server: The eight bytes that it answered: ``b"AMQP"`` and its version.
    """

    def __init__(self, server: bytes) -> None:
        version = ".".join(str(octet) for octet in server[4:])
        super().__init__(f"the server does not accept this protocol version, it offers AMQP {version}")
        self.server = server


class NotAMQP(RemoteProtocolError):
    """What answers on that port is not an AMQP server."""


class ConsumerCancelled(AMQPError):
    """The broker ended a consumer: its queue was deleted or has no leader, or an ack took too long.

    Attributes:
        queue: What was consumed from.
        consumer_tag: The consumer's name on its channel.
    """

    retryable = True

    def __init__(self, queue: str, consumer_tag: str) -> None:
        super().__init__(queue, consumer_tag)
        self.queue = queue
        self.consumer_tag = consumer_tag

    def __str__(self) -> str:
        return f"the broker has cancelled consumer {self.consumer_tag!r} of queue {self.queue!r}"


# --------------------------------------------------------------------------- values and files


class EncodeError(AMQPError, ValueError):
    """A value does not fit on the wire; nothing was sent.

    Attributes:
        field: Where it was meant to go, such as ``"queue.declare queue"``.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


class DecodeError(AMQPError, ValueError):
    """Bytes from the peer are not what they claim to be."""


class SpecError(AMQPError, ValueError):
    """A protocol specification cannot be used.

    Attributes:
        source: The file, or a word for it.
        where: The class, method or field, if one is to blame.
    """

    def __init__(self, reason: str, *, source: str = "", where: str = "") -> None:
        super().__init__(": ".join(filter(None, (source, where, reason))))
        self.reason = reason
        self.source = source
        self.where = where


class RPCTimeout(AMQPError, TimeoutError):
    """The broker did not answer in time; the channel stays usable, a late answer is swallowed.

    Attributes:
        operation: The method that was not answered.
        seconds: How long was waited.
        blocked: The reason, if the broker had blocked the connection at that moment.
    """

    def __init__(self, operation: str, seconds: float, blocked: str | None = None) -> None:
        super().__init__(operation, seconds, blocked)
        self.operation = operation
        self.seconds = seconds
        self.blocked = blocked

    def __str__(self) -> str:
        because = (
            f"; the broker has blocked the connection: {self.blocked}" if self.blocked is not None else ""
        )
        return f"no answer to {self.operation} within {self.seconds:g} s{because}"


class CallTimeout(RPCTimeout):
    """Nobody has replied to a request in time; a reply that comes later is dropped.

    Attributes:
        sent: Whether the request went out.  If not, nobody has it, and nobody will.
    """

    def __init__(self, operation: str, seconds: float, blocked: str | None = None, *, sent: bool) -> None:
        super().__init__(operation, seconds, blocked)
        self.sent = sent

    def __str__(self) -> str:
        return super().__str__() if self.sent else f"{super().__str__()}; it was not sent"


class RemoteError(AMQPError):
    """Whoever handled a request has failed; also what a server raises to say so in its own words.

    Attributes:
        type: The name of what it failed with, such as ``"ValueError"``; control characters replaced.
        message: What it says, control characters replaced.
    """

    def __init__(self, type: str, message: str = "") -> None:
        super().__init__(type, message)
        self.type = printable(type)
        self.message = printable(message)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class ReplyLost(AMQPError):
    """The channel or connection on which a reply was to come is gone: the request may have been handled.

    ``__cause__`` is why.  Asking again is right where handling a request twice does no harm.
    """


class HandshakeTimeout(AMQPError, TimeoutError):
    """The connection was not open in time: address, TCP, TLS and AMQP together.

    Attributes:
        seconds: The limit.
    """

    retryable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the connection was not open within {self.seconds:g} s"


class WaitTimeout(AMQPError, TimeoutError):
    """A thread has waited long enough, whoever is to blame; ``__cause__`` has what is known of the operation.

    Attributes:
        operation: What it waited for.
        seconds: How long it waited.
    """

    def __init__(self, operation: str, seconds: float) -> None:
        super().__init__(operation, seconds)
        self.operation = operation
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.operation} did not end within {self.seconds:g} s"


# --------------------------------------------------------------------------- threads


class WrongThread(AMQPError, RuntimeError):
    """A call that waits was made on the reactor's thread, which is the one that it would wait for."""


class ForkedProcess(AMQPError, RuntimeError):
    """The connection belongs to the process that this one was forked from."""


class ReactorStopped(AMQPError, RuntimeError):
    """The reactor has stopped, and in this process it cannot run again."""


# --------------------------------------------------------------------------- settings, and connecting


class InvalidParameter(AMQPError, ValueError):
    """A setting cannot be used; nothing was tried.

    The value is not quoted: what stands in the wrong place may well be a password.

    Attributes:
        parameter: Its name, such as ``"heartbeat"``.
        reason: What is wrong with it.
    """

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(parameter, reason)
        self.parameter = parameter
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.parameter}: {self.reason}"


class URLError(InvalidParameter):
    """A URL cannot be used; ``parameter`` names the part of it that is to blame."""

    def __str__(self) -> str:
        return f"the URL's {self.parameter}: {self.reason}"


class TopologyError(InvalidParameter):
    """A queue, an exchange or a binding cannot be as it was described; nothing was sent.

    ``parameter`` says which and where, such as ``"queue 'jobs', x-expires"``. Here values are quoted.
    """


class ConnectError(AMQPError, ConnectionError):
    """No connection to the broker came about; ``__cause__`` has the network's own error.

    Attributes:
        address: Where to, such as ``"rabbit.example:5672"``.
        reason: Why not.
    """

    retryable = True

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(reason)  # of two arguments OSError would take the first for an errno
        self.address = address
        self.reason = printable(reason)

    def __str__(self) -> str:
        return f"no connection to {self.address}: {self.reason}"


class HostNotFound(ConnectError):
    """The host's name has no address."""


class ConnectionRefused(ConnectError, ConnectionRefusedError):
    """Nothing listens on that port."""


class NoBrokerReached(ConnectError):
    """Of several brokers none could be connected to.

    Attributes:
        errors: Why not, one error for each, in the order of the attempts.
    """

    def __init__(self, errors: Iterable[AMQPError]) -> None:
        self.errors = tuple(errors)
        super().__init__("any broker", "; ".join(str(error) for error in self.errors))


class TLSError(ConnectError):
    """The two sides did not agree on an encrypted connection."""

    retryable = False


class TLSVerificationError(TLSError):
    """The server's certificate was refused: its issuer, its dates, or the name in it."""


class ClientCertificateRequired(TLSError):
    """The server demands a client certificate, and none was configured."""


class ClientCertificateRefused(TLSError):
    """The server does not accept our client certificate."""


class NotTLS(TLSError):
    """What answers on that port does not speak TLS."""


class TLSFileError(TLSError):
    """A certificate or key file cannot be used; ``reason`` names the file."""

    retryable = True  # it may be in the middle of its rotation


class TLSUnavailable(TLSError):
    """The libraries for TLS are not installed: ``pip install txamqpx[tls]``."""
