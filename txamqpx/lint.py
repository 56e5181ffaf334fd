"""What RabbitMQ would refuse, or silently do otherwise, said before anything is sent.

A refusal costs the channel, some the whole connection, and the calls behind it pay for it too. What is
said here was seen on RabbitMQ 3.10 and 4.3, and ``tests/integration/test_lint.py`` holds it there:
nothing is refused that a broker of the named release accepts, and nothing that depends on the release while
that is not known.

It is about queues and exchanges that are not there yet. When one is, the broker does not look at arguments
that its type does not have; but no broker would have made it with them. Of a passive declaration it looks at
nothing but the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import attrs

from txamqpx.arguments import (
    CHOICES,
    FOREIGN,
    LATER,
    MATCHES,
    MAX_AGE,
    NUMBERS,
    NUMBERS_SINCE_4_3,
    OF_QUORUM,
    OFFSET,
    RETRY_TYPES,
    TEXTS,
    UNCHECKED_NUMBERS,
)
from txamqpx.errors import TopologyError
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicGet,
    BasicQos,
    ExchangeBind,
    ExchangeDeclare,
    QueueBind,
    QueueDeclare,
    QueueDelete,
    QueuePurge,
)
from txamqpx.spec.base import Method
from txamqpx.spec.wire import RawTimestamp

__all__ = ["Declaration", "RESERVED", "check", "is_reserved"]

RESERVED: Final = "amq."

_PREDECLARED: Final = {"amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic"}
_OF_THE_BROKER: Final = "amq.rabbitmq."  # its plugins have exchanges there
_EXCHANGE_TYPES: Final = {"direct", "fanout", "topic", "headers"}


class Declaration(Protocol):
    """A value that stands for a request: ``Exchange`` and ``Queue``."""

    def method(self) -> Method:
        """Return the request."""
        ...


@attrs.frozen
class _Finding:
    """Something to say: where it is, what, and whether the request must not be sent."""

    where: str
    reason: str
    refused: bool = True


@attrs.frozen
class _Circumstances:
    """What is known of the broker, and of the queue that a request is about."""

    version: tuple[int, ...] | None
    allow_deprecated: bool | None
    queue_type: str | None
    prefetch_count: int | None

    def since(self, *release: int) -> bool:
        return self.version is not None and self.version[:2] >= release

    def before(self, *release: int) -> bool:
        return self.version is not None and self.version[:2] < release

    def deprecated(self, where: str, reason: str) -> Iterator[_Finding]:
        if not self.allow_deprecated:
            yield _Finding(where, reason, refused=self.allow_deprecated is False)


def check(
    request: Method | Declaration,
    server_version: tuple[int, ...] | None = None,
    allow_deprecated: bool | None = None,
    *,
    queue_type: str | None = None,
    prefetch_count: int | None = None,
) -> list[str]:
    """Say what is wrong with a request before it is sent.

    Args:
        request: The method, or a value that stands for one. Methods without rules are always right.
        server_version: The release of the RabbitMQ that will get it, such as ``(4, 3, 6)``; None if the
            broker is another one or not known, and then only what every release refuses is refused.
        allow_deprecated: What to do with features that RabbitMQ is about to give up: None warns,
            True is silent, False refuses.
        queue_type: The type of the queue that a consume, get, purge, delete or qos is about, if known:
            ``"classic"``, ``"quorum"`` or ``"stream"``.
        prefetch_count: The limit of the channel on which a consume will be sent, if known; 0 is none.

    Returns:
        Warnings: sentences about what the broker will take, and then do otherwise than one may think.

    Raises:
        TopologyError: The broker would close the channel or the connection over it.
        EncodeError: A value does not fit on the wire.
    """
    method = request if isinstance(request, Method) else request.method()
    rule = _RULES.get(type(method))
    if rule is None:
        return []
    method.encode()  # so that the rules may rely on the types of the fields
    warnings = []
    for finding in rule(method, _Circumstances(server_version, allow_deprecated, queue_type, prefetch_count)):
        if finding.refused:
            raise TopologyError(finding.where, finding.reason)
        warnings.append(f"{finding.where}: {finding.reason}")
    return warnings


def is_reserved(exchange: str) -> bool:
    """Tell whether an exchange's name is the broker's to give, and none that it is known to have given."""
    return (
        exchange.startswith(RESERVED)
        and exchange not in _PREDECLARED
        and not exchange.startswith(_OF_THE_BROKER)
    )


# --------------------------------------------------------------------------- queues


def _queue_declare(method: QueueDeclare, broker: _Circumstances) -> Iterator[_Finding]:
    if method.passive:
        return
    where = f"queue {method.queue!r}"
    arguments = method.arguments or {}
    kind = arguments.get("x-queue-type")
    if method.queue.startswith(RESERVED):
        yield _Finding(where, f"names that begin with {RESERVED} are the broker's to give; choose another")
    yield from _line_breaks(where, method.queue)
    if kind in ("quorum", "stream"):
        yield from _replicated(where, str(kind), method)
    elif not method.durable and not method.exclusive and broker.since(4, 0):
        yield from broker.deprecated(
            where,
            "a queue that is neither durable nor exclusive is deprecated, and a broker may be set to close"
            " the connection over it; say durable=True, or exclusive=True",
        )
    yield from _values(where, arguments, broker)
    yield from _fit(where, kind, arguments, broker)
    yield from _dead_letters(where, kind, arguments)
    yield from _left_behind(where, kind, arguments, broker)


def _replicated(where: str, kind: str, method: QueueDeclare) -> Iterator[_Finding]:
    if not method.queue:
        yield _Finding(where, f"the broker gives no name to a {kind} queue; choose one")
    if not method.durable:
        yield _Finding(where, f"a {kind} queue is always durable; say durable=True")
    if method.exclusive:
        yield _Finding(where, f"a {kind} queue cannot be exclusive")
    if method.auto_delete:
        yield _Finding(where, f"a {kind} queue cannot be auto-delete")


def _values(where: str, arguments: Mapping[str, Any], broker: _Circumstances) -> Iterator[_Finding]:
    """Look at each argument alone: type and range."""
    limits = {**NUMBERS, **(NUMBERS_SINCE_4_3 if broker.since(4, 3) else {})}
    for name, value in arguments.items():
        at = f"{where}, {name}"
        if name in limits:
            least, most = limits[name]
            if not _is_whole(value) or value < least or (most is not None and value > most):
                span = f"from {least} to {most}" if most is not None else f"of at least {least}"
                yield _Finding(at, f"must be a whole number {span}, not {value!r:.80}")
        elif name in UNCHECKED_NUMBERS and not _is_whole(value):
            yield _Finding(at, f"is no whole number but {value!r:.80}, and the broker does not say so", False)
        elif name in TEXTS and not isinstance(value, str):
            yield _Finding(at, f"must be text, not {value!r:.80}")
        elif name in CHOICES and value not in CHOICES[name]:
            yield _Finding(at, f"must be one of {', '.join(CHOICES[name])}, not {value!r:.80}")
        elif name == "x-single-active-consumer" and not isinstance(value, bool):
            yield _Finding(at, f"must be True or False, not {value!r:.80}")
        elif name == "x-max-age" and not (isinstance(value, str) and MAX_AGE.fullmatch(value)):
            yield _Finding(at, f"must be a number above 0 and one of the letters YMDhms, not {value!r:.80}")
        elif name == "x-delayed-retry-type" and value not in RETRY_TYPES:
            known = ", ".join(RETRY_TYPES)
            yield _Finding(at, f"is none of {known}, and the broker does not say so", False)


def _fit(
    where: str, kind: object, arguments: Mapping[str, Any], broker: _Circumstances
) -> Iterator[_Finding]:
    """Look at whether the queue's type has such arguments."""
    for name in arguments:
        at = f"{where}, {name}"
        if isinstance(kind, str) and name in FOREIGN.get(kind, ()):
            yield _Finding(at, f"a {kind} queue has no such argument; leave it out")
        elif kind is None and name in FOREIGN["classic"]:
            needed = "quorum" if name in OF_QUORUM else "stream"
            yield _Finding(
                at,
                f"is refused unless the virtual host's queues are {needed} queues by default;"
                f" say so: x-queue-type={needed}",
                refused=False,
            )
        elif name in LATER:
            since, owner = LATER[name]
            if broker.before(*since):
                release = ".".join(map(str, since))
                yield _Finding(at, f"is ignored by RabbitMQ before {release}", refused=False)
            elif broker.since(4, 3) and kind in FOREIGN and kind != owner:
                # One that is there since before 4.3 may be declared again, and has to be.
                yield _Finding(
                    at, f"a new {kind} queue is refused over it since RabbitMQ 4.3; leave it out", False
                )
    if kind == "classic" and "x-queue-leader-locator" in arguments and broker.before(3, 11):
        yield _Finding(
            f"{where}, x-queue-leader-locator", "a classic queue has no such argument before RabbitMQ 3.11"
        )


def _dead_letters(where: str, kind: object, arguments: Mapping[str, Any]) -> Iterator[_Finding]:
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        yield _Finding(
            f"{where}, x-dead-letter-routing-key", "needs x-dead-letter-exchange; say which, '' is one"
        )
    if kind != "quorum":
        return
    overflow = arguments.get("x-overflow", "drop-head")
    if overflow == "reject-publish-dlx":
        yield _Finding(
            f"{where}, x-overflow",
            "a quorum queue drops the oldest message instead; say reject-publish",
            refused=False,
        )
    if arguments.get("x-dead-letter-strategy") == "at-least-once" and (
        overflow != "reject-publish" or "x-dead-letter-exchange" not in arguments
    ):
        yield _Finding(
            f"{where}, x-dead-letter-strategy",
            "is at-most-once in effect unless there is x-dead-letter-exchange and x-overflow=reject-publish",
            refused=False,
        )


def _left_behind(
    where: str, kind: object, arguments: Mapping[str, Any], broker: _Circumstances
) -> Iterator[_Finding]:
    """Look for arguments that had their time."""
    for name in arguments:
        at = f"{where}, {name}"
        if name.startswith("x-ha-"):
            yield _Finding(at, "is ignored since RabbitMQ 3.0; a quorum queue is replicated", refused=False)
        elif kind in ("quorum", "stream"):
            continue  # they never had any of these
        elif name == "x-queue-mode" and not broker.before(3, 12):
            yield _Finding(at, "is ignored since RabbitMQ 3.12; leave it out", refused=False)
        elif name == "x-queue-version" and arguments[name] == 1:
            if broker.since(4, 3):
                yield _Finding(at, "version 1 is gone since RabbitMQ 4.3; leave it out")
            elif not broker.before(4, 0):
                yield _Finding(at, "version 1 is deprecated, and gone in RabbitMQ 4.3", refused=False)
        elif name == "x-queue-master-locator" and broker.since(4, 3):
            # The one deprecated feature that 4.3 denies unless it is told otherwise.
            if not broker.allow_deprecated:
                yield _Finding(
                    at, "closes the connection unless the broker is set to permit it; x-queue-leader-locator"
                )
        elif name == "x-queue-master-locator" and broker.since(4, 0):
            yield from broker.deprecated(at, "is deprecated; x-queue-leader-locator takes its place")


# --------------------------------------------------------------------------- exchanges and bindings


def _exchange_declare(method: ExchangeDeclare, broker: _Circumstances) -> Iterator[_Finding]:
    where = f"exchange {method.exchange!r}"
    if not method.exchange:
        yield _Finding(where, "the default exchange is always there and cannot be declared")
    if method.passive:
        return
    if is_reserved(method.exchange):
        yield _Finding(where, f"names that begin with {RESERVED} are the broker's to give; choose another")
    yield from _line_breaks(where, method.exchange)
    if not method.type:
        yield _Finding(where, f"needs a type: {', '.join(sorted(_EXCHANGE_TYPES))}, or a plugin's")
    elif method.type not in _EXCHANGE_TYPES and not method.type.startswith("x-"):
        yield _Finding(
            where,
            f"{method.type!r:.80} is no type of AMQP, and those of plugins begin with x-;"
            " RabbitMQ before 4.3 closes the connection over a type that it does not have",
            refused=False,
        )
    alternate = (method.arguments or {}).get("alternate-exchange", "")
    if not isinstance(alternate, str):
        yield _Finding(
            f"{where}, alternate-exchange", f"must be the name of an exchange, not {alternate!r:.80}"
        )


def _bind(method: QueueBind | ExchangeBind, broker: _Circumstances) -> Iterator[_Finding]:
    if isinstance(method, QueueBind):
        where, ends = f"binding of queue {method.queue!r}", [method.exchange]
    else:
        where, ends = f"binding of exchange {method.destination!r}", [method.source, method.destination]
    if "" in ends:
        yield _Finding(
            where, "the default exchange has each queue bound by its name, and takes no other bindings"
        )
    match = (method.arguments or {}).get("x-match", "all")
    if match not in MATCHES:
        known = ", ".join(MATCHES)
        yield _Finding(f"{where}, x-match", f"is none of {known}: a headers exchange refuses it", False)


# --------------------------------------------------------------------------- what is done with queues


def _consume(method: BasicConsume, broker: _Circumstances) -> Iterator[_Finding]:
    where = f"consumer of queue {method.queue!r}"
    arguments = method.arguments or {}
    if broker.queue_type == "stream":
        if method.no_ack:
            yield _Finding(where, "a stream is consumed with acks: leave out no_ack, or ack='none'")
        if broker.prefetch_count == 0:
            yield _Finding(where, "a stream needs a prefetch count: by basic_qos, or prefetch=")
        if "x-priority" in arguments:
            yield _Finding(f"{where}, x-priority", "consumers of a stream have no priority; leave it out")
    elif "x-stream-offset" in arguments and broker.queue_type is not None:
        yield _Finding(f"{where}, x-stream-offset", "is for streams; leave it out")
    offset = arguments.get("x-stream-offset", "next")
    if not _is_offset(offset):
        yield _Finding(
            f"{where}, x-stream-offset",
            "must be a whole number, an aware datetime, first, last, next, or an age such as 1h,"
            f" not {offset!r:.80}",
        )
    if not _is_whole(arguments.get("x-priority", 0)):
        yield _Finding(f"{where}, x-priority", f"must be a whole number, not {arguments['x-priority']!r:.80}")


def _qos(method: BasicQos, broker: _Circumstances) -> Iterator[_Finding]:
    if not method.global_:
        return
    where = "basic.qos"
    if broker.queue_type == "quorum" and broker.before(4, 3):
        yield _Finding(where, "quorum queues have no limit for a whole channel; say global_=False")
    elif broker.since(4, 3):
        yield from broker.deprecated(
            where, "RabbitMQ 4.3 ignores global_: the limit is for each consumer, not for all of the channel"
        )
    elif broker.since(4, 0):
        yield from broker.deprecated(where, "global_ is deprecated, and ignored from RabbitMQ 4.3 on")


def _get(method: BasicGet, broker: _Circumstances) -> Iterator[_Finding]:
    if broker.queue_type == "stream":
        yield _Finding(f"queue {method.queue!r}", "a stream gives no single messages; consume it")


def _purge(method: QueuePurge, broker: _Circumstances) -> Iterator[_Finding]:
    if broker.queue_type == "stream":
        yield _Finding(f"queue {method.queue!r}", "a stream cannot be purged; delete it, or set x-max-age")


def _delete(method: QueueDelete, broker: _Circumstances) -> Iterator[_Finding]:
    if broker.queue_type == "quorum" and (method.if_unused or method.if_empty):
        yield _Finding(f"queue {method.queue!r}", "a quorum queue is deleted without a condition")


# --------------------------------------------------------------------------- values


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool | RawTimestamp)


def _is_offset(value: object) -> bool:
    if isinstance(value, str):
        return OFFSET.fullmatch(value) is not None
    return _is_whole(value) or isinstance(value, bytes | datetime | RawTimestamp)


def _line_breaks(where: str, name: str) -> Iterator[_Finding]:
    if "\r" in name or "\n" in name:
        yield _Finding(where, "the broker takes line breaks out of names: it will have another", False)


_RULES: Final[Mapping[type[Method], Callable[[Any, _Circumstances], Iterator[_Finding]]]] = {
    BasicConsume: _consume,
    BasicGet: _get,
    BasicQos: _qos,
    ExchangeBind: _bind,
    ExchangeDeclare: _exchange_declare,
    QueueBind: _bind,
    QueueDeclare: _queue_declare,
    QueueDelete: _delete,
    QueuePurge: _purge,
}
