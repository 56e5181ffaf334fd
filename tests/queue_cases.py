"""Declarations of queues that do not fit, or cannot be: what RabbitMQ says to them, as it was measured."""

from __future__ import annotations

from typing import Any

import attrs

from tests.refusals import (
    MOMENT,
    TAKEN,
    Answer,
    Case,
    case,
    differs,
    foreign,
    invalid,
    newer,
    older,
    other,
    queue,
    refused,
)

NO_NUMBERS: dict[str, list[Any]] = {
    '"expected integer, got bool"': [True],
    '"expected integer, got longstr"': ["5", ""],
    '"expected integer, got double"': [5.0],
    '"expected integer, got void"': [None],
    '"expected integer, got binary"': [b"5"],
    '"expected integer, got array"': [[5]],
    '"expected integer, got table"': [{"a": 5}],
    '"expected integer, got timestamp"': [MOMENT],
}
NO_TEXTS: dict[str, list[Any]] = {
    "{unacceptable_type,signedint}": [0, -1],
    "{unacceptable_type,long}": [2**40],
    "{unacceptable_type,double}": [5.0],
    "{unacceptable_type,void}": [None],
    "{unacceptable_type,binary}": [b"5"],
    "{unacceptable_type,array}": [["5"]],
    "{unacceptable_type,table}": [{"5": 5}],
}
NEGATIVE: dict[str, list[Any]] = {"{value_negative,{}}": [-1]}
ZERO: dict[str, list[Any]] = {"{value_zero,{}}": [0]}
LARGE: dict[str, list[Any]] = {"{value_too_large,{}}": [315_360_000_001, 2**40]}

LOCKED = (
    "cannot obtain exclusive access to locked queue '{}' in {v}. It could be originally declared on another "
    "connection or the exclusive property value does not match that of the original declaration."
)

QUORUM = queue(queue_type="quorum")

PROPERTIES: list[tuple[str, dict[str, Any]]] = [
    ("auto-delete", {"auto_delete": True}),
    ("auto-delete", {"auto_delete": True, "exclusive": True, "durable": False}),
    ("exclusive-owner", {"exclusive": True}),
    ("exclusive-owner", {"exclusive": True, "durable": False}),
    ("non-durable", {"durable": False}),
]
"""What a quorum queue cannot be, the first thing first."""

NAMELESS: list[tuple[str, dict[str, Any]]] = [
    *(("quorum", {}), ("stream", {}), ("quorum", {"expires": -1})),
    ("quorum", {"exclusive": True, "dead_letter_exchange": 1}),
]

QUEUE_CASES: dict[str, list[Case]] = {
    "queues that are there in another shape": [
        other(queue(durable=False), "durable: received 'false' but current is 'true'", queue()),
        other(queue(), "durable: received 'true' but current is 'false'", queue(durable=False)),
        other(queue(auto_delete=True), "auto_delete: received 'true' but current is 'false'", queue()),
        other(queue(), "auto_delete: received 'false' but current is 'true'", queue(auto_delete=True)),
        other(
            queue(durable=False, auto_delete=True, max_length=5),
            "durable: received 'false' but current is 'true'",
            queue(),
        ),
        other(
            queue(auto_delete=True, max_length=5),
            "auto_delete: received 'true' but current is 'false'",
            queue(max_length=6),
        ),
        refused(queue(exclusive=True), 405, LOCKED.replace("{}", "q"), queue()),
        refused(
            queue(exclusive=True, durable=False, auto_delete=True), 405, LOCKED.replace("{}", "q"), queue()
        ),
        refused(queue(), 405, LOCKED.replace("{}", "q"), queue(exclusive=True)),
        case(queue(exclusive=True, durable=False), queue(exclusive=True)),
        case(queue(exclusive=True, passive=True), queue()),
        other(
            queue(exclusive=True, auto_delete=True),
            "auto_delete: received 'true' but current is 'false'",
            queue(exclusive=True, durable=False),
        ),
    ],
    "arguments that are others": [
        *differs("expires", 60_000, 60_001),
        *differs("message_ttl", 5, 6),
        *differs("max_length", 5, 6),
        *differs("max_length_bytes", 5, 6),
        *differs("max_priority", 5, 6),
        *differs("overflow", "drop-head", "reject-publish"),
        *differs("dead_letter_exchange", "a", "b"),
        *differs("dead_letter_routing_key", "a", "b", dead_letter_exchange=""),
        *differs("single_active_consumer", True, False),
        *differs("queue_mode", "lazy", "default"),
        case(queue(foo=2), queue(foo=1)),
        case(queue(foo=2), queue()),
        case(queue(delivery_limit=5, max_age="1h"), queue()),
        other(
            queue(max_length=6, expires=70_000),
            "x-expires: received '70000' but current is '60000'",
            queue(max_length=5, expires=60_000),
        ),
        *(
            other(
                queue(max_length=value),
                f"x-max-length: received {text} but current is '5'",
                queue(max_length=5),
            )
            for value, text in (
                (5.0, "'5.0'"),
                ("5", "'5'"),
                (b"5", "'5'"),
                (True, "'true'"),
                (-1, "'-1'"),
                (2**40, "'1099511627776'"),
                (None, "none"),
                ([5, "a"], "'[{signedint,5},{longstr,<<\"a\">>}]'"),
                ({"a": [True]}, "'[{<<\"a\">>,array,[{bool,true}]}]'"),
                ([], "'[]'"),
                (MOMENT, "'1767225600'"),
            )
        ),
        case(queue(overflow=b"drop-head"), queue(overflow="drop-head")),
        case(queue(max_length=2**40), queue(max_length=2**40)),
        other(
            queue(dead_letter_exchange=1),
            "x-dead-letter-exchange: received the value '1' of type 'signedint' but current is none",
            queue(),
        ),
    ],
    "arguments that are others, of quorum queues": [
        *differs("expires", 60_000, 60_001, kind="quorum"),
        *differs("delivery_limit", 5, 6, kind="quorum"),
        *differs("dead_letter_strategy", "at-most-once", "at-least-once", kind="quorum"),
        *differs("max_in_memory_length", 5, 6, kind="quorum"),
        *differs("quorum_initial_group_size", 1, 3, kind="quorum"),
        *newer(differs("consumer_timeout", 5, 6, kind="quorum")),
        *newer(differs("delayed_retry_type", "all", "failed", kind="quorum")),
        *newer(differs("delayed_retry_min", 5, 6, kind="quorum")),
        case(queue(queue_type="quorum", max_priority=5), QUORUM),
        other(
            queue(queue_type="quorum", durable=False),
            "durable: received 'false' but current is 'true'",
            QUORUM,
        ),
        refused(queue(queue_type="quorum", exclusive=True), 405, LOCKED.replace("{}", "q"), QUORUM),
        other(
            queue(queue_type="quorum", max_length=6, dead_letter_exchange="b"),
            "x-dead-letter-exchange: received 'b' but current is 'a'",
            queue(queue_type="quorum", max_length=5, dead_letter_exchange="a"),
        ),
    ],
    "types that are others": [
        case(queue(queue_type="classic"), queue()),
        case(queue(), queue(queue_type="classic")),
        other(
            queue(queue_type="classic"), "x-queue-type: received 'classic' but current is 'quorum'", QUORUM
        ),
        other(
            QUORUM,
            "x-queue-type: received 'quorum' but current is 'classic'",
            queue(queue_type="classic"),
        ),
        other(
            queue(queue_type="classic", max_length=5),
            "x-max-length: received the value '5' of type 'signedint' but current is none",
            QUORUM,
        ),
        *(
            attrs.evolve(
                other(request, f"x-queue-type: received {old}", before),
                new=other(request, f"x-queue-type: received {new}").new,
            )
            for request, before, old, new in (
                (
                    queue(),
                    QUORUM,
                    "none but current is the value 'quorum' of type 'longstr'",
                    "'classic' but current is 'quorum'",
                ),
                (
                    QUORUM,
                    queue(),
                    "the value 'quorum' of type 'longstr' but current is none",
                    "'quorum' but current is 'classic'",
                ),
                (
                    queue(queue_type="nonsense"),
                    queue(),
                    "the value 'nonsense' of type 'longstr' but current is none",
                    "'nonsense' but current is 'classic'",
                ),
                (
                    queue(queue_type=1),
                    queue(),
                    "the value '1' of type 'signedint' but current is none",
                    "'1' but current is 'classic'",
                ),
                (
                    queue(queue_type=None),
                    queue(),
                    "the value 'undefined' of type 'void' but current is none",
                    "none but current is 'classic'",
                ),
            )
        ),
    ],
    "arguments of classic queues": [
        *invalid("expires", {**NO_NUMBERS, **NEGATIVE, **ZERO, **LARGE}),
        *invalid("message_ttl", {**NO_NUMBERS, **NEGATIVE, **LARGE}),
        *invalid("max_length", {**NO_NUMBERS, **NEGATIVE}),
        *invalid("max_length_bytes", {**NO_NUMBERS, **NEGATIVE}),
        *invalid("max_priority", {**NO_NUMBERS, **NEGATIVE, "{max_value_exceeded,{}}": [256, 2**40]}),
        *invalid("overflow", {**NO_TEXTS, "{unacceptable_type,bool}": [True], "invalid_overflow": ["x", ""]}),
        *invalid(
            "dead_letter_routing_key",
            {**NO_TEXTS, "{unacceptable_type,bool}": [True], "routing_key_but_no_dlx_defined": ["x"]},
        ),
        *invalid("single_active_consumer", {**NO_TEXTS, "{unacceptable_type,longstr}": ["true"]}),
        *invalid("queue_type", {**NO_TEXTS, "\"unsupported queue type '{}'\"": ["nonsense", "Quorum"]}),
        *invalid(
            "queue_version", {**NO_NUMBERS, **NEGATIVE, "\"unsupported queue version '{}'\"": [0, 3, 2**40]}
        ),
        *newer(invalid("queue_version", {"\"unsupported queue version '{}'\"": [1]})),
        *older(invalid("queue_mode", {**NO_TEXTS, "\"unsupported queue mode '{}'\"": ["x"]})),
        *(
            refused(
                queue(dead_letter_exchange=value),
                406,
                f"invalid type '{name}' for arg 'x-dead-letter-exchange' in queue 'q' in {{v}}",
            )
            for value, name in (
                (1, "signedint"),
                (None, "void"),
                (b"x", "binary"),
                (True, "bool"),
                ({}, "table"),
            )
        ),
        case(queue(unknown=1, ha_policy="all", max_length=0, message_ttl=0, max_priority=0)),
        case(queue(dead_letter_exchange="", dead_letter_routing_key="", queue_version=2, queue_mode="lazy")),
        case(
            queue(queue_leader_locator="balanced"),
            old=foreign(None, "queue_leader_locator")[0].old,
            new=TAKEN,
        ),
        *(
            case(
                queue(queue_leader_locator=value),
                old=foreign(None, "queue_leader_locator")[0].old,
                new=Answer(406, f"invalid arg 'x-queue-leader-locator' for queue 'q' in {{v}}: {reason}"),
            )
            for value, reason in ((1, "{unacceptable_type,signedint}"), ("x", "invalid_queue_locator_arg"))
        ),
    ],
    "arguments of quorum queues": [
        *invalid("expires", {**NO_NUMBERS, **NEGATIVE, **ZERO, **LARGE}, "quorum"),
        *invalid("max_length", {**NO_NUMBERS, **NEGATIVE}, "quorum"),
        *invalid("max_in_memory_bytes", {**NO_NUMBERS, **NEGATIVE}, "quorum"),
        *invalid("quorum_initial_group_size", {**NO_NUMBERS, **NEGATIVE, **ZERO}, "quorum"),
        *invalid("dead_letter_strategy", {**NO_TEXTS, "invalid_dlx_strategy": ["x"]}, "quorum"),
        *invalid("queue_leader_locator", {**NO_TEXTS, "invalid_queue_locator_arg": ["x"]}, "quorum"),
        *older(invalid("queue_leader_locator", {"invalid_queue_locator_arg": ["min-masters"]}, "quorum")),
        *newer(invalid("consumer_timeout", {**NO_NUMBERS, **NEGATIVE}, "quorum")),
        *newer(invalid("consumer_disconnected_timeout", {**NO_NUMBERS, **NEGATIVE}, "quorum")),
        case(queue(queue_type="quorum", delivery_limit="5", delayed_retry_type=1, delayed_retry_min="x")),
    ],
    "arguments of other types": [
        *(
            each
            for name in (
                *("delivery_limit", "quorum_initial_group_size", "dead_letter_strategy", "max_age"),
                *("max_in_memory_length", "max_in_memory_bytes", "initial_cluster_size"),
                "stream_max_segment_size_bytes",
            )
            for kind in (None, "classic")
            for each in foreign(kind, name, 5, "5", None)
        ),
        *(
            each
            for name in (
                *("max_priority", "queue_mode", "queue_version", "queue_master_locator", "max_age"),
                *("initial_cluster_size", "stream_max_segment_size_bytes"),
            )
            for each in foreign("quorum", name, 5, "5", None)
        ),
        *(
            each
            for name in (
                *("consumer_timeout", "consumer_disconnected_timeout", "delayed_retry_type"),
                *("delayed_retry_min", "delayed_retry_max", "stream_filter_size_bytes"),
            )
            for each in newer(foreign(None, name))
        ),
        *newer(foreign("quorum", "stream_filter_size_bytes")),
    ],
    "what is looked at first": [
        refused(
            queue(max_length=-1, message_ttl=-1, expires=-1, delivery_limit=5),
            406,
            "invalid arg 'x-expires' for queue 'q' in {v}: {value_negative,-1}",
        ),
        refused(
            queue(queue_type="nonsense", expires=-1),
            406,
            "invalid arg 'x-queue-type' for queue 'q' in {v}: \"unsupported queue type 'nonsense'\"",
        ),
        refused(
            queue(queue_type="nonsense", dead_letter_exchange=1),
            406,
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in {v}",
        ),
        refused(
            queue(queue_type="quorum", max_priority=300, message_ttl=-5),
            406,
            "invalid arg 'x-message-ttl' for queue 'q' in {v}: {value_negative,-5}",
        ),
        refused(
            queue(queue_type="quorum", durable=False, max_priority=5),
            406,
            "invalid arg 'x-max-priority' for queue 'q' in {v} of queue type rabbit_quorum_queue",
        ),
        *(
            refused(
                queue(queue_type="quorum", **flags), 406, f"invalid property '{name}' for queue 'q' in {{v}}"
            )
            for name, flags in PROPERTIES
        ),
        *(
            refused(
                queue("", queue_type=kind, **rest),
                406,
                f"Cannot declare a server-named queue for type rabbit_{kind}_queue",
            )
            for kind, rest in NAMELESS
        ),
    ],
}
