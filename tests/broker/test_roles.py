"""What channels' parts rely on is there; whether it is of the right type, the type checker knows."""

from __future__ import annotations

from tests.broker.visitor import Visitor
from txamqpx.broker.channel import BrokerChannel
from txamqpx.broker.roles import Channel, Connection


def names_of(role: type) -> set[str]:
    """Return what a role is expected to have."""
    found = {name for name in vars(role) if not name.startswith("_")}
    return found | set(role.__annotations__)


def test_sessions_and_channels_are_what_they_are_taken_for() -> None:
    came = Visitor().open(1)
    channel = came.session.core.channels[1].owner
    assert isinstance(channel, BrokerChannel)
    for role, one in ((Connection, came.session), (Channel, channel)):
        expected = names_of(role)
        assert "vhost" in expected
        assert {name for name in expected if not hasattr(one, name)} == set()
