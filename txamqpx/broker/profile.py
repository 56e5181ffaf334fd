"""What differs between the releases of RabbitMQ that the broker can be taken for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen

from txamqpx.broker.quorum_ways import QuorumWays
from txamqpx.protocol.rulings import OVERLONG

__all__ = ["PROFILES", "Profile", "profile_named"]


@frozen
class Profile:
    """One release's ways: nothing else in the broker asks for a version."""

    name: str
    #: What the broker calls its version.
    version: str
    #: Whether a headers exchange tells 1 from 1.0; before 4.0 it compares by value.
    exact_headers: bool
    #: The types of exchanges that there are.
    exchange_types: Collection[str]
    #: The code for a type that there is not: 503 closes the connection, 406 the channel.
    unknown_type: int
    #: How many words of a topic pattern may stand for any number of words; None: all.
    most_wildcards: int | None
    #: By type of queue: which arguments have a meaning, in the order in which they are compared.
    queue_arguments: Mapping[str, Collection[str]]
    #: Whether a queue that was declared without a type has one, and not just acts as if.
    default_type: bool
    #: The values of ``x-queue-version``, which nothing depends on any more.
    queue_versions: Collection[int]
    #: The values of ``x-queue-mode``; None: nobody looks.
    queue_modes: Collection[str] | None
    #: The values of ``x-queue-leader-locator``, which only a cluster has a use for.
    leader_locators: Collection[str]
    #: Whether ``x-queue-master-locator`` may be used, and is not deprecated and refused.
    master_locator: bool
    #: Whether a message's headers are sorted by name on its way.
    sorted_headers: bool
    #: Whether an expiration is handed on as a number, without the signs and zeros in front of it.
    numeric_expiration: bool
    #: Whether the deaths of a message are the broker's own record, and not what its headers say.
    deaths_recorded: bool
    #: Whether failed attempts go with a dead letter, so that it has been delivered before wherever it goes.
    attempts_recorded: bool
    #: What ``x-max-priority`` is at least.
    least_max_priority: int
    #: Whether ``basic.qos`` can set a limit for all consumers of a channel together.
    channel_limits: bool
    #: Whether a delivery that is settled too late ends its channel, whatever the queue.
    consumer_timeout_ends_channel: bool
    #: Whether a nack counts as a failed delivery, as a reject does.
    nack_fails: bool
    #: Whether a client may say that it agrees to a cancel, with which the consumer's tag is free.
    hears_cancel_ok: bool
    #: Whether the next single active consumer gets what is ready as soon as the last one is cancelled, and
    #: not only when something else happens to the queue.
    successor_starts_at_once: bool
    #: How a client may log in.
    mechanisms: str
    #: What a client is told that greets in another protocol; empty: our own header.
    other_header: bytes
    #: The largest frame before both sides have agreed on one, and the least that they may agree on.
    initial_frame_max: int
    least_frame_max: int
    #: The largest body, if the broker is not told; and the one beyond which a client is not heard out.
    max_message_size: int
    largest_body: int
    #: Whether only the delivery modes are taken that there are.
    known_delivery_modes: bool
    #: Whether a message's user is looked at after its other properties.
    user_id_last: bool
    #: Whether direct replies go through something like a queue: one to nobody is as good as delivered.
    replies_are_queues: bool
    #: Whether a transaction delivers to whatever queue has the name by then.
    transactions_keep_names: bool
    #: Whether a refusal says which right is missing.
    rights_have_names: bool
    #: Whether a passive declare takes any right to the name.
    passive_needs_right: bool
    #: What is said, with which code, in place of some texts about broken protocol.
    rewordings: Mapping[str, tuple[int, str]]
    #: By kind of queue: which arguments of consumers have a meaning, and which are refused.
    consumer_arguments: Mapping[str, tuple[Collection[str], Collection[str]]]
    #: How quorum queues are.
    quorum: QuorumWays


_LOCATORS = ("client-local", "balanced", "random", "least-leaders")

_TYPES = ("direct", "fanout", "topic", "headers")

_ARGUMENTS = {
    "classic": (
        *("x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key"),
        *("x-max-length", "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode"),
        *("x-queue-version", "x-single-active-consumer", "x-queue-type", "x-queue-master-locator"),
    ),
    "quorum": (
        *("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires"),
        *("x-max-length", "x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes"),
        *("x-overflow", "x-single-active-consumer", "x-queue-type", "x-quorum-initial-group-size"),
        *("x-delivery-limit", "x-message-ttl", "x-queue-leader-locator"),
    ),
    "stream": (
        *("x-max-length-bytes", "x-queue-type", "x-max-age", "x-stream-max-segment-size-bytes"),
        *("x-initial-cluster-size", "x-queue-leader-locator"),
    ),
}

_NEWER = {
    "classic": ("x-queue-leader-locator",),
    "quorum": (
        *("x-consumer-disconnected-timeout", "x-consumer-timeout"),
        *("x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max"),
    ),
    "stream": ("x-stream-filter-size-bytes",),
}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "rabbitmq-3.10",
            "3.10.8",
            exact_headers=False,
            exchange_types=_TYPES,
            unknown_type=503,
            most_wildcards=None,
            queue_arguments=_ARGUMENTS,
            default_type=False,
            queue_versions=(1, 2),
            queue_modes=("default", "lazy"),
            leader_locators=_LOCATORS,
            master_locator=True,
            sorted_headers=False,
            numeric_expiration=False,
            deaths_recorded=False,
            attempts_recorded=False,
            least_max_priority=0,
            channel_limits=True,
            consumer_timeout_ends_channel=True,
            nack_fails=True,
            hears_cancel_ok=False,
            successor_starts_at_once=False,
            mechanisms="PLAIN AMQPLAIN",
            other_header=b"",
            initial_frame_max=4096,
            least_frame_max=4096,
            max_message_size=128 * 1024 * 1024,
            largest_body=0,
            known_delivery_modes=True,
            user_id_last=False,
            replies_are_queues=False,
            transactions_keep_names=True,
            rights_have_names=False,
            passive_needs_right=False,
            rewordings={
                OVERLONG: (
                    505,
                    "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
                )
            },
            consumer_arguments={
                "classic": (("x-priority",), ("x-stream-offset",)),
                "quorum": (("x-priority",), ("x-stream-offset", "x-cancel-on-ha-failover")),
            },
            quorum=QuorumWays(
                delivery_limit=None,
                negative_is_unlimited=False,
                requeues_at_the_end=True,
                oldest_consumer_first=False,
                priorities=False,
                takes_over=False,
                retries_later=False,
                releases_late=False,
                tells_returns=False,
                tells_no_failures=True,
                purges_letters=False,
                called="quorum",
            ),
        ),
        Profile(
            "rabbitmq-4.3",
            "4.3.6",
            exact_headers=True,
            exchange_types=(*_TYPES, "x-local-random"),
            unknown_type=406,
            most_wildcards=2,
            queue_arguments={name: (*_ARGUMENTS[name], *_NEWER[name]) for name in _ARGUMENTS},
            default_type=True,
            queue_versions=(2,),
            queue_modes=None,
            leader_locators=(*_LOCATORS, "min-masters"),
            master_locator=False,
            sorted_headers=True,
            numeric_expiration=True,
            deaths_recorded=True,
            attempts_recorded=True,
            least_max_priority=1,
            channel_limits=False,
            consumer_timeout_ends_channel=False,
            nack_fails=False,
            hears_cancel_ok=True,
            successor_starts_at_once=True,
            mechanisms="ANONYMOUS PLAIN AMQPLAIN",
            other_header=b"AMQP\x03\x01\x00\x00",  # AMQP 1.0, which our embedded broker does not speak
            initial_frame_max=8192,
            least_frame_max=8192,
            max_message_size=16 * 1024 * 1024,
            largest_body=512 * 1024 * 1024,
            known_delivery_modes=False,
            user_id_last=True,
            replies_are_queues=True,
            transactions_keep_names=False,
            rights_have_names=True,
            passive_needs_right=True,
            rewordings={},
            consumer_arguments={
                "classic": (("x-priority",), ("x-stream-offset", "x-consumer-timeout")),
                "quorum": (("x-priority", "x-consumer-timeout"), ("x-stream-offset",)),
            },
            quorum=QuorumWays(
                delivery_limit=20,
                negative_is_unlimited=True,
                requeues_at_the_end=False,
                oldest_consumer_first=True,
                priorities=True,
                takes_over=True,
                retries_later=True,
                releases_late=True,
                tells_returns=True,
                tells_no_failures=False,
                purges_letters=True,
                called='<<"quorum">>',
            ),
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Return a profile.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise ValueError(f"unknown profile {name!r}; there are {', '.join(PROFILES)}") from None
