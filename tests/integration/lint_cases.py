"""What RabbitMQ does with odd requests, as it was measured; ``test_lint.py`` holds it, and the lint to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs

from txamqpx.errors import (
    AccessRefused,
    AMQPError,
    AMQPNotImplemented,
    CommandInvalid,
    InternalError,
    PreconditionFailed,
)
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicGet,
    ExchangeBind,
    ExchangeDeclare,
    QueueBind,
    QueueDeclare,
    QueueDelete,
    QueuePurge,
)
from txamqpx.spec.base import Request

Error = type[AMQPError] | None


@attrs.frozen
class Case:
    """A request, and what RabbitMQ does with it: None takes it, an error is how it refuses.

    Attributes:
        request: What is sent.
        old: What 3.10 does.
        new: What 4.3 does.
        warned: The releases on which the lint warns.
        silent: The releases on which the lint says nothing, though the broker refuses.
        queue_type: What the queue ``jobs`` is, which the request is about.
        prefetch_count: What was asked for on the channel before.
    """

    request: Request[Any]
    old: Error = None
    new: Error = None
    warned: str = ""
    silent: str = ""
    queue_type: str | None = None
    prefetch_count: int = 10

    @property
    def is_about_streams(self) -> bool:
        """Tell whether a broker without streams can do nothing with it."""
        arguments: Mapping[str, Any] = getattr(self.request, "arguments", None) or {}
        return "stream" in {self.queue_type, arguments.get("x-queue-type")}


def queue(
    kind: str | None = None,
    *,
    old: Error = None,
    new: Error = None,
    warned: str = "",
    silent: str = "",
    name: str = "jobs",
    flags: Mapping[str, bool] | None = None,
    **arguments: Any,
) -> Case:
    """Make a case of a queue, durable unless the flags say otherwise."""
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    if kind is not None:
        table["x-queue-type"] = kind
    options = {"durable": True, **(flags or {})}
    return Case(QueueDeclare(name, arguments=table, **options), old, new, warned, silent)


def refused(kind: str | None = None, error: Error = PreconditionFailed, **rest: Any) -> Case:
    """Make a case of a queue that no release takes."""
    return queue(kind, old=error, new=error, **rest)


def argument(name: str, value: Any) -> dict[str, Any]:
    """Return an argument for the two above whose name is not written there."""
    return {name: value}


BOTH = "3.10 4.3"
NON_DURABLE = {"durable": False}
TEMPORARY = {"durable": False, "exclusive": True, "auto_delete": True}

CASES: dict[str, list[Case]] = {
    "transient and not exclusive": [
        queue(flags=NON_DURABLE, warned="4.3"),
        queue("classic", flags=NON_DURABLE, warned="4.3"),
        queue(flags={"durable": False, "auto_delete": True}, warned="4.3"),
        queue(name="", flags=NON_DURABLE, warned="4.3"),
        queue(flags={"durable": False, "exclusive": True}),
        queue(flags=TEMPORARY, name=""),
        queue(flags={"exclusive": True}),
        queue(flags={"auto_delete": True}),
    ],
    "quorum queue and stream": [
        case
        for kind in ("quorum", "stream")
        for case in (
            queue(kind),
            refused(kind, flags=NON_DURABLE),
            refused(kind, flags={"exclusive": True}),
            refused(kind, flags={"auto_delete": True}),
            refused(kind, flags=TEMPORARY),
            refused(kind, name=""),
        )
    ],
    "names": [
        refused(error=AccessRefused, name="amq.mine"),
        queue(name="x" * 255),
        queue(name="two\r\nlines", warned=BOTH),
        queue(name="a\0b"),
    ],
    "left behind": [
        queue(queue_mode="lazy", warned="4.3"),
        refused("quorum", queue_mode="lazy"),
        refused("stream", queue_mode="lazy"),
        queue(queue_version=1, new=PreconditionFailed),
        queue("classic", queue_version=1, new=PreconditionFailed),
        queue("classic", queue_version=2),
        refused("quorum", queue_version=2),
        refused("stream", queue_version=2),
        queue(ha_policy="all", warned=BOTH),
        queue("quorum", ha_mode="all", warned=BOTH),
        queue("classic", queue_master_locator="client-local", new=InternalError),
        refused("quorum", queue_master_locator="client-local"),
        refused("stream", queue_master_locator="client-local"),
    ],
    "time to live, idle time, lengths": [
        *(
            refused(kind, **argument(name, value))
            for kind in (None, "quorum")
            for name in ("message_ttl", "expires", "max_length", "max_length_bytes")
            for value in (-1, True, "5", 5.0, None, Decimal(5))
        ),
        refused("stream", max_length_bytes=True),
        refused("stream", max_length_bytes=-1),
        refused(expires=0),
        refused("quorum", expires=0),
        queue(expires=1),
        queue("quorum", message_ttl=0, max_length=0, max_length_bytes=0),
        queue(message_ttl=315_360_000_000, expires=315_360_000_000, max_length=2**62),
        refused(message_ttl=315_360_000_001),
        refused("quorum", expires=315_360_000_001),
    ],
    "priorities": [
        queue(max_priority=255),
        queue(max_priority=0),
        *(refused(max_priority=value) for value in (256, -1, True, "5", 5.0)),
        refused("quorum", max_priority=5),
        refused("stream", max_priority=5),
    ],
    "dead letters": [
        refused(dead_letter_routing_key="dead"),
        refused("quorum", dead_letter_routing_key="dead"),
        queue(dead_letter_exchange="", dead_letter_routing_key="dead"),
        refused(dead_letter_exchange=1),
        refused(dead_letter_exchange=b"x"),
        refused("quorum", dead_letter_exchange="", dead_letter_routing_key=1),
        refused("classic", dead_letter_strategy="at-least-once"),
        refused("quorum", dead_letter_strategy="sometimes"),
        refused("quorum", dead_letter_strategy=1),
        queue("quorum", dead_letter_strategy="at-least-once", warned=BOTH),
        queue("quorum", dead_letter_strategy="at-least-once", dead_letter_exchange="", warned=BOTH),
        queue(
            "quorum",
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
            warned=BOTH,
        ),
        queue(
            "quorum",
            dead_letter_strategy="at-least-once",
            dead_letter_exchange="",
            overflow="reject-publish",
        ),
    ],
    "overflow": [
        *(queue(overflow=value) for value in ("drop-head", "reject-publish", "reject-publish-dlx")),
        *(refused(overflow=value) for value in ("nonsense", 1, b"drop-head", None)),
        queue("quorum", overflow="reject-publish-dlx", warned=BOTH),
    ],
    "types of queues": [
        refused(queue_type=1),
        refused(queue_type=None),
        refused(queue_type=b"quorum"),
        refused("nonsense", silent=BOTH),  # a plugin may bring it
    ],
    "arguments of other types": [
        *(
            refused("classic", **argument(name, value))
            for name, value in {
                "delivery_limit": 5,
                "max_in_memory_length": 5,
                "max_in_memory_bytes": 5,
                "quorum_initial_group_size": 1,
                "initial_cluster_size": 1,
                "max_age": "1h",
                "stream_max_segment_size_bytes": 1000,
                "dead_letter_strategy": "at-most-once",
            }.items()
        ),
        *(
            refused("quorum", **argument(name, value))
            for name, value in {
                "initial_cluster_size": 1,
                "max_age": "1h",
                "stream_max_segment_size_bytes": 1000,
            }.items()
        ),
        *(
            refused("stream", **argument(name, value))
            for name, value in {
                "expires": 1000,
                "message_ttl": 1000,
                "dead_letter_exchange": "",
                "dead_letter_routing_key": "dead",
                "max_length": 5,
                "overflow": "drop-head",
                "single_active_consumer": True,
                "delivery_limit": 5,
                "max_in_memory_length": 5,
                "max_in_memory_bytes": 5,
                "quorum_initial_group_size": 1,
                "dead_letter_strategy": "at-most-once",
            }.items()
        ),
        # Whether a queue without a type takes it depends on the virtual host.
        refused(delivery_limit=5, warned=BOTH, silent=BOTH),
        refused(max_age="1h", warned=BOTH, silent=BOTH),
        queue("quorum", foo=1),
    ],
    "values of quorum queues": [
        queue("quorum", delivery_limit=-1),
        queue("quorum", delivery_limit="5", warned=BOTH),
        queue("quorum", delivery_limit=True, warned=BOTH),
        *(refused("quorum", quorum_initial_group_size=value) for value in (0, -1, True, "5")),
        *(
            queue("quorum", queue_leader_locator=value)
            for value in ("client-local", "balanced", "random", "least-leaders")
        ),
        queue("quorum", queue_leader_locator="min-masters", old=PreconditionFailed, silent="3.10"),
        refused("quorum", queue_leader_locator="nonsense"),
        refused("quorum", queue_leader_locator=1),
        queue("classic", queue_leader_locator="balanced", old=PreconditionFailed),
        *(refused(single_active_consumer=value) for value in (1, "x", None)),
    ],
    "values of streams": [
        *(queue("stream", max_age=value) for value in ("1Y", "30D", "007s", "1M", "1m")),
        *(refused("stream", max_age=value) for value in ("5", "0s", "1W", "1.5h", 5)),
        *(
            queue("stream", max_age=value, old=InternalError, new=PreconditionFailed)
            for value in ("x", "-1s", " 1h")
        ),
        queue("stream", stream_max_segment_size_bytes=3_000_000_000),
        queue("stream", stream_max_segment_size_bytes=0),
        *(refused("stream", stream_max_segment_size_bytes=value) for value in (3_000_000_001, -1, True, "5")),
        *(refused("stream", initial_cluster_size=value) for value in (0, -1, True, "5")),
    ],
    "arguments that came later": [
        *(
            queue("quorum", **argument(name, value), warned="3.10")
            for name, value in {
                "consumer_timeout": 60_000,
                "consumer_disconnected_timeout": 60_000,
                "delayed_retry_type": "all",
                "delayed_retry_min": 1000,
                "delayed_retry_max": 1000,
            }.items()
        ),
        queue("stream", stream_filter_size_bytes=16, warned="3.10"),
        *(
            queue(kind, **argument(name, value), new=PreconditionFailed, warned=BOTH, silent="4.3")
            for kind, name, value in (
                ("classic", "consumer_timeout", 60_000),
                ("stream", "consumer_timeout", 60_000),
                ("classic", "consumer_disconnected_timeout", 60_000),
                ("stream", "consumer_disconnected_timeout", 60_000),
                ("classic", "delayed_retry_type", "all"),
                ("stream", "delayed_retry_min", 1000),
                ("classic", "delayed_retry_max", 1000),
                ("classic", "stream_filter_size_bytes", 16),
                ("quorum", "stream_filter_size_bytes", 16),
            )
        ),
        *(
            queue(kind, **argument(name, value), new=PreconditionFailed, warned="3.10")
            for kind, name, value in (
                ("quorum", "consumer_timeout", -1),
                ("quorum", "consumer_timeout", "5"),
                ("quorum", "consumer_timeout", True),
                ("stream", "stream_filter_size_bytes", 15),
                ("stream", "stream_filter_size_bytes", 256),
                ("stream", "stream_filter_size_bytes", "16"),
            )
        ),
        queue("quorum", delayed_retry_type="nonsense", warned=BOTH),
        queue("quorum", delayed_retry_min="5", warned=BOTH),
    ],
    "exchanges": [
        *(Case(ExchangeDeclare("events", kind)) for kind in ("direct", "fanout", "topic", "headers")),
        Case(ExchangeDeclare("", "direct"), AccessRefused, AccessRefused),
        Case(ExchangeDeclare("", "direct", passive=True), AccessRefused, AccessRefused),
        Case(ExchangeDeclare("amq.mine"), AccessRefused, AccessRefused),
        Case(ExchangeDeclare("amq.topic", "topic", durable=True)),
        Case(ExchangeDeclare("amq.rabbitmq.trace", "topic", durable=True, internal=True)),
        Case(ExchangeDeclare("two\r\nlines"), warned=BOTH),
        Case(ExchangeDeclare("events", ""), CommandInvalid, PreconditionFailed),
        Case(ExchangeDeclare("events", "nonsense"), CommandInvalid, PreconditionFailed, BOTH, BOTH),
        Case(ExchangeDeclare("events", "x-nonsense"), CommandInvalid, PreconditionFailed, "", BOTH),
        Case(ExchangeDeclare("events", arguments={"alternate-exchange": "missing"})),
        Case(
            ExchangeDeclare("events", arguments={"alternate-exchange": 1}),
            PreconditionFailed,
            PreconditionFailed,
        ),
        Case(ExchangeDeclare("amq.topic", "", passive=True, arguments={"alternate-exchange": 1})),
    ],
    "bindings": [
        Case(QueueBind("jobs", "amq.topic", "a.*"), queue_type="classic"),
        Case(QueueBind("jobs", "", "jobs"), AccessRefused, AccessRefused, queue_type="classic"),
        Case(ExchangeBind("amq.topic", ""), AccessRefused, AccessRefused),
        Case(ExchangeBind("", "amq.topic"), AccessRefused, AccessRefused),
        *(
            Case(QueueBind("jobs", "amq.headers", arguments={"x-match": match}), queue_type="classic")
            for match in ("all", "any", "all-with-x", "any-with-x")
        ),
        Case(
            QueueBind("jobs", "amq.headers", arguments={"x-match": "some"}),
            PreconditionFailed,
            PreconditionFailed,
            BOTH,
            BOTH,  # other exchanges do not look at it
            "classic",
        ),
    ],
    "consuming": [
        Case(BasicConsume("jobs", no_ack=True), AMQPNotImplemented, AMQPNotImplemented, queue_type="stream"),
        Case(
            BasicConsume("jobs"),
            PreconditionFailed,
            PreconditionFailed,
            queue_type="stream",
            prefetch_count=0,
        ),
        Case(BasicConsume("jobs"), queue_type="stream"),
        *(
            Case(BasicConsume("jobs", arguments={"x-priority": value}), queue_type="classic")
            for value in (5, -5)
        ),
        *(
            Case(
                BasicConsume("jobs", arguments={"x-priority": value}),
                PreconditionFailed,
                PreconditionFailed,
                queue_type="quorum",
            )
            for value in ("5", True, 5.0)
        ),
        Case(
            BasicConsume("jobs", arguments={"x-priority": 5}),
            PreconditionFailed,
            PreconditionFailed,
            queue_type="stream",
        ),
        *(
            Case(BasicConsume("jobs", arguments={"x-stream-offset": value}), queue_type="stream")
            for value in ("first", "last", "next", "1h", 0, 5, datetime(2020, 1, 1, tzinfo=UTC), b"first")
        ),
        *(
            Case(
                BasicConsume("jobs", arguments={"x-stream-offset": value}),
                InternalError if value != "5" else PreconditionFailed,
                PreconditionFailed if isinstance(value, str) else InternalError,
                queue_type="stream",
            )
            for value in ("5", "nonsense", "-1h", True, 1.5, None)
        ),
        *(
            Case(
                BasicConsume("jobs", arguments={"x-stream-offset": "first"}),
                PreconditionFailed,
                PreconditionFailed,
                queue_type=kind,
            )
            for kind in ("classic", "quorum")
        ),
    ],
    "what streams and quorum queues cannot do": [
        Case(BasicGet("jobs"), AMQPNotImplemented, AMQPNotImplemented, queue_type="stream"),
        Case(QueuePurge("jobs"), AMQPNotImplemented, AMQPNotImplemented, queue_type="stream"),
        Case(BasicGet("jobs"), queue_type="quorum"),
        Case(QueuePurge("jobs"), queue_type="quorum"),
        *(
            Case(QueueDelete("jobs", **flag), AMQPNotImplemented, AMQPNotImplemented, queue_type="quorum")
            for flag in ({"if_unused": True}, {"if_empty": True})
        ),
        Case(QueueDelete("jobs"), queue_type="quorum"),
        Case(QueueDelete("jobs", if_unused=True), queue_type="stream"),
        Case(QueueDelete("jobs", if_empty=True), queue_type="classic"),
    ],
    "passive": [
        Case(
            QueueDeclare("jobs", passive=True, exclusive=True, arguments={"x-queue-type": 1}),
            queue_type="quorum",
        ),
    ],
}
