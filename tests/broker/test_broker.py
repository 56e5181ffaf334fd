"""What a broker is made with is what its clients find."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.task import Clock

import txamqpx
from txamqpx.broker import Broker
from txamqpx.broker.tap import Tap
from txamqpx.client import Client
from txamqpx.errors import AuthenticationError, VhostAccessDenied
from txamqpx.testing import Watched, success_of


def broker(**options: Any) -> Broker:
    return Broker(clock=Clock(), **options)


def connected(broker: Broker, where: str = "guest:guest@{name}", **parameters: str) -> Client:
    url = f"memory://{where.format(name=broker.name)}"
    connecting = txamqpx.connect(url, reactor=broker.clock.base)
    success_of(broker.settled())
    return success_of(connecting)


def refused(broker: Broker, where: str) -> Any:
    watched = Watched(
        txamqpx.connect(f"memory://{where.format(name=broker.name)}", reactor=broker.clock.base)
    )
    success_of(broker.settled())
    return watched.error()


def test_a_broker_without_a_name_gets_one_that_nobody_has() -> None:
    one, other = broker(), broker()
    assert one.name
    assert one.name != other.name
    assert one.url == f"memory://{one.name}"


def test_a_name_is_free_again_when_its_broker_is_closed() -> None:
    first = broker(name="again")
    with pytest.raises(ValueError, match="again"):
        broker(name="again")
    success_of(first.close())
    success_of(broker(name="again").close())


def test_a_broker_that_a_url_has_made_is_found_and_closed_by_its_name() -> None:
    clock = Clock()
    txamqpx.connect("memory://made-by-url", reactor=clock)
    made = Broker.named("made-by-url")
    assert made is not None
    assert made.name == "made-by-url"
    success_of(made.close())
    assert Broker.named("made-by-url") is None


def test_an_unknown_profile_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"rabbitmq-2\.8"):
        broker(profile="rabbitmq-2.8")


@pytest.mark.parametrize(("profile", "version"), [("rabbitmq-3.10", "3.10.8"), ("rabbitmq-4.3", "4.3.6")])
def test_a_client_is_told_what_rabbitmq_would_say_and_that_nothing_is_kept(
    profile: str, version: str
) -> None:
    client = connected(broker(profile=profile))
    server = client.server
    assert (server.product, server.version) == ("RabbitMQ", version)
    assert {"publisher_confirms", "consumer_cancel_notify", "direct_reply_to"} <= server.capabilities
    assert "keeps nothing" in str(server.properties["information"])


def test_limits_are_what_was_said() -> None:
    client = connected(broker(heartbeat=7, frame_max=9000, channel_max=5))
    tuning = client.protocol.tuning
    assert (tuning.heartbeat, tuning.frame_max, tuning.channel_max) == (7, 9000, 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heartbeat": -1}, "heartbeat must be a whole number from 0 to 65535, not -1"),
        ({"heartbeat": 1.5}, "heartbeat must be a whole number from 0 to 65535, not 1.5"),
        ({"channel_max": 70_000}, "channel_max must be a whole number from 0 to 65535, not 70000"),
        ({"frame_max": 10}, "frame_max must be a whole number from 8192 to 4294967295 or 0, not 10"),
        (
            {"frame_max": 4095, "profile": "rabbitmq-3.10"},
            "frame_max must be a whole number from 4096 to 4294967295 or 0, not 4095",
        ),
        ({"memory_limit": -1}, "memory_limit must be a whole number from 0 to 9223372036854775807, not -1"),
    ],
)
def test_a_number_out_of_its_range_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        broker(name="numbers", **options)
    broker(name="numbers", heartbeat=0, channel_max=0, frame_max=0, memory_limit=0).close()  # it is free


def test_whoever_is_named_may_log_in_and_nobody_else() -> None:
    mine = broker(users={"me": "secret"}, vhosts=["/", "shop"])
    connected(mine, "me:secret@{name}/shop")
    assert isinstance(refused(mine, "guest:guest@{name}"), AuthenticationError)
    assert isinstance(refused(mine, "me:secret@{name}/barn"), VhostAccessDenied)
    assert isinstance(refused(broker(users={}), "guest:guest@{name}"), AuthenticationError)


def test_a_broker_is_a_factory_whose_protocols_keep_it() -> None:
    mine = broker()
    tap = mine.buildProtocol(None)
    assert isinstance(tap, Tap)
    assert tap.session.factory is mine
