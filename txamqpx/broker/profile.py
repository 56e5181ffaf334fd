"""What differs between the releases of RabbitMQ that the broker can be taken for."""

from __future__ import annotations

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


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("rabbitmq-3.10", "3.10.8", exact_headers=False, transient_queues=True),
        Profile("rabbitmq-4.3", "4.3.6", exact_headers=True, transient_queues=False),
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
