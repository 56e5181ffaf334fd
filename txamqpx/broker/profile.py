"""What differs between the releases of RabbitMQ that the broker can be taken for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen

__all__ = ["PROFILES", "Profile", "profile_named"]


@frozen
class Profile:
    """One release's ways: nothing else in the broker asks for a version."""

    name: str
    #: What the broker calls its version.
    version: str
    #: Whether a headers exchange tells 1 from 1.0; before 4.0 it compares by value.
    exact_headers: bool
    #: Whether a queue may be neither durable nor exclusive.
    transient_queues: bool
    #: Whether ``basic.qos`` can set a limit for all consumers of a channel together.
    channel_limits: bool
    #: Whether a delivery that is settled too late ends its channel, whatever the queue.
    consumer_timeout_ends_channel: bool
    #: Whether a nack counts as a failed delivery, as a reject does.
    nack_fails: bool
    #: Whether the next single active consumer gets what is ready as soon as the last one is cancelled, and
    #: not only when something else happens to the queue.
    successor_starts_at_once: bool
    #: By kind of queue: which arguments of consumers have a meaning, and which are refused.
    consumer_arguments: Mapping[str, tuple[Collection[str], Collection[str]]]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "rabbitmq-3.10",
            "3.10.8",
            exact_headers=False,
            transient_queues=True,
            channel_limits=True,
            consumer_timeout_ends_channel=True,
            nack_fails=True,
            successor_starts_at_once=False,
            consumer_arguments={
                "classic": (("x-priority",), ("x-stream-offset",)),
                "quorum": (("x-priority",), ("x-stream-offset", "x-cancel-on-ha-failover")),
            },
        ),
        Profile(
            "rabbitmq-4.3",
            "4.3.6",
            exact_headers=True,
            transient_queues=False,
            channel_limits=False,
            consumer_timeout_ends_channel=False,
            nack_fails=False,
            successor_starts_at_once=True,
            consumer_arguments={
                "classic": (("x-priority",), ("x-stream-offset", "x-consumer-timeout")),
                "quorum": (("x-priority", "x-consumer-timeout"), ("x-stream-offset",)),
            },
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
