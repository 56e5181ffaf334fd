"""Exchanges and queues as values; ``txamqpx.topology`` has all of them, with bindings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from typing import Any, Final, Literal

import attrs

from txamqpx import lint
from txamqpx.arguments import Arguments, Duration, age, milliseconds, short_text, whole
from txamqpx.errors import TopologyError
from txamqpx.spec.amqp0_9_1 import ExchangeDeclare, QueueDeclare

__all__ = ["Exchange", "Key", "Queue", "name_of"]

#: What an exchange, a queue or a binding is known by; two of one key are the same thing.
Key = tuple[object, ...]
Overflow = Literal["drop-head", "reject-publish"]
LeaderLocator = Literal["client-local", "balanced"]

_ALTERNATE: Final = "alternate-exchange"

_numbers: Final = count(1)


def _flag(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise TopologyError(f"{instance}, {attribute.name}", f"must be True or False, not {value!r:.80}")


def name_of(thing: Exchange | Queue | str) -> str:
    """Return the name of a value, or the name itself."""
    return thing.name if isinstance(thing, Exchange | Queue) else thing


def _optional_name(thing: Exchange | Queue | str | None) -> str | None:
    return None if thing is None else name_of(thing)


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None, under the names that RabbitMQ has for them."""
    return {f"x-{name.replace('_', '-')}": value for name, value in arguments.items() if value is not None}


def _twice(where: str, argument: str) -> TopologyError:
    return TopologyError(f"{where}, {argument}", "is given twice: by its name, and in arguments")


def _merged(where: str, made: Mapping[str, Any], more: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Add the arguments that a helper has no name for."""
    twice = sorted(made.keys() & (more or {}).keys())
    if twice:
        raise _twice(where, twice[0])
    return {**made, **(more or {})}


# --------------------------------------------------------------------------- exchanges


@attrs.frozen
class Exchange:
    """An exchange.

    Attributes:
        name: Its name. ``amq.topic`` and its like are always there; the default exchange is no value.
        type: ``direct``, ``fanout``, ``topic``, ``headers``, or a type that a plugin brings.
        durable: Whether it survives a restart of the broker.
        auto_delete: Whether it goes when its last binding goes.
        internal: Whether only exchanges may publish to it.
        passive: Whether it is only asked for: it must be there, and nothing else here is looked at.
        arguments: What the type, or a plugin, knows besides; ``alternate-exchange`` is moved to its own.
        alternate_exchange: Where messages go that no binding matches.

    Raises:
        TopologyError: No broker would take it.
    """

    name: str
    type: str = "direct"
    durable: bool = attrs.field(default=True, kw_only=True, validator=_flag)
    auto_delete: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    internal: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    passive: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    arguments: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    alternate_exchange: str | None = attrs.field(default=None, kw_only=True, converter=_optional_name)

    def __attrs_post_init__(self) -> None:
        short_text("exchange", self.name)
        short_text(f"{self}, type", self.type)
        arguments = Arguments(self.arguments, str(self))
        there = arguments.get(_ALTERNATE)
        if isinstance(there, str):
            # Under one of its two names alone: else it could not be changed under the other.
            if self.alternate_exchange not in (None, there):
                raise _twice(str(self), _ALTERNATE)
            object.__setattr__(self, "alternate_exchange", there)
            arguments = Arguments({name: arguments[name] for name in arguments if name != _ALTERNATE})
        elif self.alternate_exchange is not None:
            short_text(f"{self}, alternate_exchange", self.alternate_exchange)
        object.__setattr__(self, "arguments", arguments)
        self.check()

    @classmethod
    def direct(cls, name: str, **options: Any) -> Exchange:
        """Make one that compares routing keys."""
        return cls(name, "direct", **options)

    @classmethod
    def fanout(cls, name: str, **options: Any) -> Exchange:
        """Make one that gives each message to all that are bound."""
        return cls(name, "fanout", **options)

    @classmethod
    def topic(cls, name: str, **options: Any) -> Exchange:
        """Make one that compares the words of routing keys, where ``*`` is one and ``#`` any number."""
        return cls(name, "topic", **options)

    @classmethod
    def headers(cls, name: str, **options: Any) -> Exchange:
        """Make one that compares headers with the arguments of its bindings."""
        return cls(name, "headers", **options)

    @property
    def key(self) -> Key:
        """What it is known by: its name."""
        return ("exchange", self.name)

    @property
    def predeclared(self) -> bool:
        """Whether the broker has it of its own accord, so that nobody needs to declare it."""
        return self.name.startswith(lint.RESERVED)

    def method(self) -> ExchangeDeclare:
        """Return the request that declares it, or asks for it."""
        alternate = {} if self.alternate_exchange is None else {_ALTERNATE: self.alternate_exchange}
        return ExchangeDeclare(
            self.name,
            self.type,
            passive=self.passive,
            durable=self.durable,
            auto_delete=self.auto_delete,
            internal=self.internal,
            arguments=Arguments(_merged(str(self), alternate, self.arguments)),
        )

    def check(
        self, server_version: tuple[int, ...] | None = None, allow_deprecated: bool | None = None
    ) -> list[str]:
        """Return what ``lint.check`` has to say about it."""
        return lint.check(self.method(), server_version, allow_deprecated)

    def __str__(self) -> str:
        return f"exchange {self.name!r}"


# --------------------------------------------------------------------------- queues


@attrs.frozen
class Queue:
    """A queue.

    ``classic``, ``quorum``, ``stream`` and ``temporary`` make them with typed options; this makes one of
    exactly these flags and arguments.

    Attributes:
        name: Its name; empty if the broker is to choose one.
        durable: Whether it survives a restart of the broker.
        exclusive: Whether it belongs to one connection, and goes with it.
        auto_delete: Whether it goes when its last consumer goes.
        passive: Whether it is only asked for: it must be there, and nothing else here is looked at.
        arguments: The rest, such as ``x-queue-type``.
        handle: What a queue without a name is known by; unique unless it is given. Empty for others.

    Raises:
        TopologyError: No broker would take it.
    """

    name: str = ""
    durable: bool = attrs.field(default=True, kw_only=True, validator=_flag)
    exclusive: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    auto_delete: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    passive: bool = attrs.field(default=False, kw_only=True, validator=_flag)
    arguments: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    handle: str = attrs.field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        short_text("queue", self.name)
        if self.name and self.handle:
            raise TopologyError(f"{self}, handle", "is for queues that the broker names")
        if not self.name and self.passive:
            raise TopologyError("queue ''", "only a queue with a name can be asked for")
        if not self.name and not self.handle:
            object.__setattr__(self, "handle", f"unnamed {next(_numbers)}")
        object.__setattr__(self, "arguments", Arguments(self.arguments, str(self)))
        self.check()

    @classmethod
    def classic(
        cls,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        message_ttl: Duration | None = None,
        expires: Duration | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        overflow: Overflow | Literal["reject-publish-dlx"] | None = None,
        dead_letter_exchange: str | Exchange | None = None,
        dead_letter_routing_key: str | None = None,
        max_priority: int | None = None,
        single_active_consumer: bool | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Queue:
        """Make a queue on one node of the cluster.

        Args:
            name: Its name; empty if the broker is to choose one.
            durable: Whether it survives a restart of the broker.
            exclusive: Whether it belongs to one connection, and goes with it.
            auto_delete: Whether it goes when its last consumer goes.
            message_ttl: How long a message may wait, a timedelta or milliseconds.
            expires: After how long without use the queue goes, a timedelta or milliseconds; above 0.
            max_length: How many messages may wait.
            max_length_bytes: How many bytes of bodies may wait.
            overflow: What becomes of a message too many.
            dead_letter_exchange: Where rejected, expired and dropped messages go; ``""`` is an exchange, too.
            dead_letter_routing_key: With which key, instead of their own.
            max_priority: The highest priority, 0 to 255; few are cheaper.
            single_active_consumer: Whether one consumer at a time gets messages.
            arguments: More of them, under RabbitMQ's names.
        """
        limits = _limits(name, message_ttl, expires, max_length, max_length_bytes)
        dead_letters = _dead_letters(overflow, dead_letter_exchange, dead_letter_routing_key)
        made = _given(
            queue_type="classic",
            **limits,
            **dead_letters,
            max_priority=max_priority,
            single_active_consumer=single_active_consumer,
        )
        return cls(
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=_merged(f"queue {name!r}", made, arguments),
        )

    @classmethod
    def quorum(
        cls,
        name: str,
        *,
        delivery_limit: int | None = None,
        message_ttl: Duration | None = None,
        expires: Duration | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        overflow: Overflow | None = None,
        dead_letter_exchange: str | Exchange | None = None,
        dead_letter_routing_key: str | None = None,
        dead_letter_strategy: Literal["at-most-once", "at-least-once"] | None = None,
        single_active_consumer: bool | None = None,
        initial_group_size: int | None = None,
        leader_locator: LeaderLocator | None = None,
        consumer_timeout: Duration | None = None,
        delayed_retry_type: Literal["disabled", "all", "failed", "returned"] | None = None,
        delayed_retry_min: Duration | None = None,
        delayed_retry_max: Duration | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Queue:
        """Make a queue that is replicated in the cluster.

        Args:
            name: Its name.
            delivery_limit: How often a message may be given back before it is dead-lettered or dropped; -1
                is without a limit. Left out it is 20 since RabbitMQ 4.0, without a limit before.
            message_ttl: How long a message may wait, a timedelta or milliseconds.
            expires: After how long without use the queue goes, a timedelta or milliseconds; above 0.
            max_length: How many messages may wait.
            max_length_bytes: How many bytes of bodies may wait.
            overflow: What becomes of a message too many.
            dead_letter_exchange: Where rejected, expired and dropped messages go; ``""`` is an exchange, too.
            dead_letter_routing_key: With which key, instead of their own.
            dead_letter_strategy: ``at-least-once`` works with ``overflow="reject-publish"`` alone.
            single_active_consumer: Whether one consumer at a time gets messages.
            initial_group_size: How many nodes hold it at first.
            leader_locator: On which node its leader starts.
            consumer_timeout: How long a delivery may be unsettled; since RabbitMQ 3.12.
            delayed_retry_type: Which messages that come back wait before they are given out again; since
                RabbitMQ 4.3, as the next two.
            delayed_retry_min: How long they wait at first, a timedelta or milliseconds.
            delayed_retry_max: How long they wait at most.
            arguments: More of them, under RabbitMQ's names.
        """
        where = f"queue {name!r}"
        limits = _limits(name, message_ttl, expires, max_length, max_length_bytes)
        dead_letters = _dead_letters(overflow, dead_letter_exchange, dead_letter_routing_key)
        retry = {"delayed_retry_min": delayed_retry_min, "delayed_retry_max": delayed_retry_max}
        made = _given(
            queue_type="quorum",
            **limits,
            **dead_letters,
            delivery_limit=(
                None
                if delivery_limit is None
                else whole(f"{where}, delivery_limit", delivery_limit, least=-1)
            ),
            dead_letter_strategy=dead_letter_strategy,
            single_active_consumer=single_active_consumer,
            quorum_initial_group_size=initial_group_size,
            queue_leader_locator=leader_locator,
            consumer_timeout=_duration(where, "consumer_timeout", consumer_timeout),
            delayed_retry_type=delayed_retry_type,
            **{name: _duration(where, name, value) for name, value in retry.items()},
        )
        return cls(name, arguments=_merged(where, made, arguments))

    @classmethod
    def stream(
        cls,
        name: str,
        *,
        max_age: timedelta | str | None = None,
        max_length_bytes: int | None = None,
        segment_size_bytes: int | None = None,
        filter_size_bytes: int | None = None,
        initial_cluster_size: int | None = None,
        leader_locator: LeaderLocator | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Queue:
        """Make a log that keeps messages after they were consumed.

        Args:
            name: Its name.
            max_age: How long it keeps them, a timedelta, or as RabbitMQ writes it: ``"7D"``.
            max_length_bytes: How much it keeps; a whole segment goes at a time.
            segment_size_bytes: The size of a segment, at most 3,000,000,000.
            filter_size_bytes: The size of a segment's filter, 16 to 255; since RabbitMQ 3.13.
            initial_cluster_size: How many nodes hold it at first.
            leader_locator: On which node its leader starts.
            arguments: More of them, under RabbitMQ's names.
        """
        made = _given(
            queue_type="stream",
            max_age=None if max_age is None else age(f"queue {name!r}, max_age", max_age),
            max_length_bytes=max_length_bytes,
            stream_max_segment_size_bytes=segment_size_bytes,
            stream_filter_size_bytes=filter_size_bytes,
            initial_cluster_size=initial_cluster_size,
            queue_leader_locator=leader_locator,
        )
        return cls(name, arguments=_merged(f"queue {name!r}", made, arguments))

    @classmethod
    def temporary(
        cls,
        *,
        expires: Duration | None = None,
        message_ttl: Duration | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        overflow: Overflow | None = None,
        handle: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> Queue:
        """Make a queue of this connection alone: the broker names it, and it goes with its last consumer.

        Args:
            expires: After how long without use it goes, too, a timedelta or milliseconds; above 0.
            message_ttl: How long a message may wait, a timedelta or milliseconds.
            max_length: How many messages may wait.
            max_length_bytes: How many bytes of bodies may wait.
            overflow: What becomes of a message too many.
            handle: What it is known by; unique unless it is given.
            arguments: More of them, under RabbitMQ's names.
        """
        limits = _limits("", message_ttl, expires, max_length, max_length_bytes)
        made = _given(queue_type="classic", **limits, overflow=overflow)
        return cls(
            durable=False,
            exclusive=True,
            auto_delete=True,
            arguments=_merged("queue ''", made, arguments),
            handle=handle,
        )

    @property
    def key(self) -> Key:
        """What it is known by: its name, or its handle."""
        return ("queue", self.name) if self.name else ("queue", "", self.handle)

    @property
    def server_named(self) -> bool:
        """Whether the broker chooses the name."""
        return not self.name

    @property
    def type(self) -> str | None:
        """``classic``, ``quorum``, ``stream`` or another; None if it is the virtual host's default."""
        return self.arguments.get("x-queue-type")

    def method(self) -> QueueDeclare:
        """Return the request that declares it, or asks for it."""
        return QueueDeclare(
            self.name,
            passive=self.passive,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
            arguments=self.arguments,
        )

    def check(
        self, server_version: tuple[int, ...] | None = None, allow_deprecated: bool | None = None
    ) -> list[str]:
        """Return what ``lint.check`` has to say about it."""
        return lint.check(self.method(), server_version, allow_deprecated)

    def __str__(self) -> str:
        return f"queue {self.name!r}" + f" ({self.handle})" * bool(self.handle)


def _duration(where: str, name: str, value: Duration | None) -> int | None:
    return None if value is None else milliseconds(f"{where}, {name}", value)


def _limits(
    name: str,
    message_ttl: Duration | None,
    expires: Duration | None,
    max_length: int | None,
    max_length_bytes: int | None,
) -> dict[str, Any]:
    where = f"queue {name!r}"
    return {
        "message_ttl": _duration(where, "message_ttl", message_ttl),
        "expires": _duration(where, "expires", expires),
        "max_length": max_length,
        "max_length_bytes": max_length_bytes,
    }


def _dead_letters(
    overflow: str | None, exchange: str | Exchange | None, routing_key: str | None
) -> dict[str, Any]:
    return {
        "overflow": overflow,
        "dead_letter_exchange": _optional_name(exchange),
        "dead_letter_routing_key": routing_key,
    }
