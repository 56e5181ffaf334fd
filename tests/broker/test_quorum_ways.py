"""What differs between quorum queues: `txamqpx.broker.quorum_ways`."""

from __future__ import annotations

import attrs

from txamqpx.broker.profile import profile_named


def test_each_way_tells_the_releases_apart() -> None:
    older, newer = [profile_named(f"rabbitmq-{release}").quorum for release in ("3.10", "4.3")]
    assert [name for name in attrs.asdict(older) if getattr(older, name) == getattr(newer, name)] == []
