"""How clients of all sorts come in, or do not, octet by octet: on each broker the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from tests.broker_node import BrokerNode
from tests.brokers_plugin import Vhost
from tests.integration.support import is_since
from tests.integration.wire import GREETING, HEARTBEAT, SPOKEN_REFUSALS, Wire, plain
from txamqpx.protocol.frames import METHOD, frame
from txamqpx.spec.amqp0_9_1 import (
    BasicPublish,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionSecureOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUnblocked,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.spec.base import Method
from txamqpx.spec.wire import encode_table

START_OK = ConnectionStartOk(SPOKEN_REFUSALS, "PLAIN", plain(), "en_US")


@pytest.fixture
def wire(broker: BrokerNode) -> Iterator[Wire]:
    """Connect, and say nothing."""
    with Wire(broker) as connected:
        yield connected


def are_over(broker: BrokerNode, say: Mapping[str, Callable[[Wire], object]]) -> dict[str, bool]:
    """Open a connection for each case, say it, and tell which of them the broker ends without a word.

    All of them at once, because it takes its time.
    """
    wires = {name: Wire(broker) for name in say}
    for name, wire in wires.items():
        say[name](wire)
    over = {name: wire.is_over() for name, wire in wires.items()}
    for wire in wires.values():
        wire.socket.close()
    return over


@pytest.fixture
def clerk(vhost: Vhost) -> Iterator[Callable[..., Wire]]:
    """Add a user, and return what opens connections for the user."""
    vhost.node.add_user("clerk", "pw")
    made: list[Wire] = []

    def connected() -> Wire:
        made.append(Wire(vhost.node))
        return made[-1]

    yield connected
    for one in made:
        one.__exit__(None, None, None)
    vhost.node.delete_user("clerk")


# --------------------------------------------------------------------------- greetings


@pytest.mark.parametrize(
    "greeting",
    [
        b"AMQP\x00\x00\x09\x02",
        b"AMQP\x00\x01\x00\x00",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
    ids=["0-9-2", "1.0", "HTTP", "TLS"],
)
def test_another_protocol_is_told_what_is_spoken_here(
    wire: Wire, broker: BrokerNode, greeting: bytes
) -> None:
    wire.write(greeting)
    other = is_since(broker, "4.0") and not greeting.startswith(GREETING[:7])
    assert wire.octets(100) == (b"AMQP\x03\x01\x00\x00" if other else GREETING)


@pytest.mark.parametrize("greeting", [GREETING, b"AMQP\x01\x01\x00\x09"], ids=["0-9-1", "as it was once"])
def test_a_greeting_in_pieces(wire: Wire, greeting: bytes) -> None:
    for octet in greeting:
        wire.write(bytes((octet,)))
    start = wire.expect(ConnectionStart)
    assert (start.version_major, start.version_minor) == (0, 9)


def test_what_the_broker_says_of_itself(wire: Wire, broker: BrokerNode) -> None:
    start = wire.greet()
    anonymous = ["ANONYMOUS"] if is_since(broker, "4.0") else []
    assert isinstance(start.mechanisms, bytes)
    assert start.mechanisms.decode().split() == [*anonymous, "PLAIN", "AMQPLAIN"]
    assert start.locales == b"en_US"
    said = start.server_properties
    assert said is not None
    assert said["product"] == "RabbitMQ"
    assert said["version"] == broker.version
    for name in ("cluster_name", "copyright", "information", "platform"):
        assert isinstance(said[name], str)
    assert said["capabilities"] == dict.fromkeys(
        (
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ),
        True,
    )


# --------------------------------------------------------------------------- logins


def test_everything_at_once(wire: Wire) -> None:
    """A client need not wait for anything: what it sends ahead is taken in order."""
    wire.write(GREETING)
    wire.send(0, START_OK, ConnectionTuneOk(2047, 131072, 0), ConnectionOpen("/"))
    wire.send(1, ChannelOpen(), QueueDeclare("", exclusive=True))
    wire.send(0, ConnectionClose(200, "bye"))
    for kind in (ConnectionStart, ConnectionTune, ConnectionOpenOk):
        wire.expect(kind)
    heard = [wire.hear() for _ in range(3)]
    names = [method.name for one in heard if one is not None for method in [one[1]]]
    assert names == ["channel.open-ok", "queue.declare-ok", "connection.close-ok"]


@pytest.mark.parametrize("locale", ["", "de_DE"])
def test_the_locale_is_nobodys_concern(wire: Wire, locale: str) -> None:
    wire.greet()
    wire.send(0, ConnectionStartOk({}, "PLAIN", plain(), locale))
    tune = wire.expect(ConnectionTune)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


def test_amqplain(wire: Wire) -> None:
    wire.greet()
    wire.log_in("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:])
    wire.expect(ConnectionTune)


def test_a_client_without_a_name(wire: Wire, broker: BrokerNode) -> None:
    wire.greet()
    wire.log_in("ANONYMOUS", b"anything")
    if not is_since(broker, "4.0"):
        assert wire.is_over()
        return
    wire.expect(ConnectionTune)
    wire.send(0, ConnectionTuneOk(10, 8192, 0), ConnectionOpen("/"))
    wire.expect(ConnectionOpenOk)


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", plain("guest", "wrong")),
        ("PLAIN", plain("nobody", "guest")),
        ("PLAIN", plain("guest", "")),
        ("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": "x"})[4:]),
        ("AMQPLAIN", encode_table({"LOGIN": "nobody", "PASSWORD": "x"})[4:]),
    ],
)
def test_a_wrong_login_is_refused_aloud(wire: Wire, mechanism: str, response: bytes) -> None:
    wire.greet()
    wire.log_in(mechanism, response)
    assert wire.refusal() == (
        403,
        (
            f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile."
        ),
        0,
        0,
    )
    wire.send(0, ConnectionCloseOk())
    assert wire.is_over()


def test_a_client_that_cannot_hear_a_refusal_is_hung_up_on(wire: Wire) -> None:
    wire.greet()
    wire.log_in(response=plain("guest", "wrong"), properties={})
    assert wire.is_over()


EARLY = {
    "open at once": frame(METHOD, 0, ConnectionOpen("/").encode()),
    "tune-ok at once": frame(METHOD, 0, ConnectionTuneOk(1, 8192, 0).encode()),
    "close at once": frame(METHOD, 0, ConnectionClose(200, "").encode()),
    "close-ok at once": frame(METHOD, 0, ConnectionCloseOk().encode()),
    "a channel at once": frame(METHOD, 1, ChannelOpen().encode()),
    "a publish at once": frame(METHOD, 1, BasicPublish("", "q").encode()),
    "no method": frame(METHOD, 0, b"\x00\x63\x00\x01"),
    "a heartbeat": HEARTBEAT,
    "a large frame": b"\x01\x00\x00\x00\x10\x00\x00",
    "rubbish": bytes(20),
}

NO_LOGINS: dict[str, tuple[str, bytes]] = {
    "an unknown mechanism": ("KERBEROS", b"x"),
    "in small letters": ("plain", plain()),
    "no certificate": ("EXTERNAL", b""),
    "nothing": ("PLAIN", b""),
    "two parts": ("PLAIN", b"guest\0guest"),
    "another identity": ("PLAIN", b"guest\0guest\0guest"),
    "four parts": ("PLAIN", b"\0guest\0guest\0x"),
    "no password": ("AMQPLAIN", encode_table({"LOGIN": "guest"})[4:]),
    "a number": ("AMQPLAIN", encode_table({"LOGIN": 1, "PASSWORD": "guest"})[4:]),
    "no table": ("AMQPLAIN", b"\x05LOG"),
}


def test_a_login_that_is_none_is_hung_up_on(broker: BrokerNode) -> None:
    def log_in(wire: Wire, mechanism: str, response: bytes) -> None:
        wire.greet()
        wire.log_in(mechanism, response)

    over = are_over(
        broker,
        {
            name: partial(log_in, mechanism=mechanism, response=response)
            for name, (mechanism, response) in NO_LOGINS.items()
        },
    )
    assert over == dict.fromkeys(NO_LOGINS, True)


def test_nobody_explains_anything_to_a_stranger(broker: BrokerNode) -> None:
    def say(wire: Wire, early: bytes) -> None:
        wire.greet()
        wire.write(early)

    over = are_over(broker, {name: partial(say, early=early) for name, early in EARLY.items()})
    assert over == dict.fromkeys(EARLY, True)


def test_a_step_that_is_left_out(broker: BrokerNode) -> None:
    def say(wire: Wire, then: Method) -> None:
        wire.greet()
        wire.send(0, START_OK, then)
        wire.expect(ConnectionTune)

    steps = [START_OK, ConnectionOpen("/"), ConnectionSecureOk(b"x"), ConnectionClose(200, "")]
    over = are_over(broker, {step.name: partial(say, then=step) for step in steps})
    assert all(over.values()), over


def test_limits_that_the_broker_did_not_propose(broker: BrokerNode) -> None:
    def say(wire: Wire, limits: tuple[int, int]) -> None:
        wire.tune()
        wire.send(0, ConnectionTuneOk(*limits, 0), ConnectionOpen("/"))

    wrong = [(2048, 131072), (0, 131072), (2047, 131073), (2047, 0), (2047, 4095)]
    over = are_over(broker, {str(limits): partial(say, limits=limits) for limits in wrong})
    assert all(over.values()), over


# --------------------------------------------------------------------------- limits


@pytest.mark.parametrize("frame_max", [4096, 8191, 8192])
def test_the_least_frames(wire: Wire, broker: BrokerNode, frame_max: int) -> None:
    wire.tune()
    wire.send(0, ConnectionTuneOk(2047, frame_max, 0), ConnectionOpen("/"))
    if frame_max < 8192 and is_since(broker, "4.1"):
        assert wire.is_over()
    else:
        wire.expect(ConnectionOpenOk)


def test_a_heartbeat_longer_than_the_brokers(wire: Wire) -> None:
    wire.tune()
    wire.send(0, ConnectionTuneOk(2047, 131072, 65535), ConnectionOpen("/"))
    wire.expect(ConnectionOpenOk)


@pytest.mark.parametrize(("size", "since"), [(3500, "3.10"), (5000, "4.1"), (9000, "")])
def test_how_large_a_login_may_be(wire: Wire, broker: BrokerNode, size: int, since: str) -> None:
    wire.greet()
    wire.log_in(properties={"x": "x" * size})
    if since and is_since(broker, since):
        wire.expect(ConnectionTune)
    else:
        assert wire.is_over()


def test_heartbeats_begin_with_tune_ok(wire: Wire) -> None:
    """And who does not answer is dropped without a word, two to three intervals later."""
    wire.tune()
    wire.send(0, ConnectionTuneOk(2047, 131072, 1))
    heard = []
    while (one := wire.hear()) is not None:
        heard.append(one)
    assert len(heard) >= 3
    assert set(heard) == {(0, "heartbeat")}


# --------------------------------------------------------------------------- virtual hosts


@pytest.mark.parametrize(("name", "text"), [("missing", "vhost missing not found"), ("", "vhost  not found")])
def test_a_virtual_host_that_is_not_there(wire: Wire, name: str, text: str) -> None:
    wire.tune()
    wire.send(0, ConnectionTuneOk(2047, 131072, 0), ConnectionOpen(name))
    assert wire.refusal() == (530, f"NOT_ALLOWED - {text}", 10, 40)


def test_a_virtual_host_that_is_not_for_everybody(vhost: Vhost, clerk: Callable[[], Wire]) -> None:
    wire = clerk()
    wire.greet()
    wire.log_in(response=plain("clerk", "pw"))
    wire.expect(ConnectionTune)
    wire.send(0, ConnectionTuneOk(2047, 131072, 0), ConnectionOpen(vhost.name))
    text = f"NOT_ALLOWED - access to vhost '{vhost.name}' refused for user 'clerk'"
    assert wire.refusal() == (530, text[:255], 10, 40)
    wire.send(0, ConnectionCloseOk())
    assert wire.is_over()


@pytest.mark.parametrize(
    "then",
    [ConnectionClose(200, ""), ConnectionTuneOk(1, 8192, 0), QueueDeclare("q")],
    ids=lambda one: one.name,
)
def test_nothing_else_comes_before_the_virtual_host(wire: Wire, then: Method) -> None:
    wire.tune()
    wire.send(0, ConnectionTuneOk(2047, 131072, 0), then)
    code, text, *method = wire.refusal()
    assert (code, text) == (504, "CHANNEL_ERROR - unexpected method in connection state opening")
    assert method == [then.index >> 16, then.index & 0xFFFF]


# --------------------------------------------------------------------------- being in


def test_a_secret_is_renewed_whatever_it_is(vhost: Vhost, wire: Wire) -> None:
    """The broker's own database knows of no tokens that expire: it takes any."""
    wire.open(vhost.name, 1)
    for secret in (b"guest", b"wrong"):
        wire.send(0, ConnectionUpdateSecret(secret, "it was time"))
        wire.expect(ConnectionUpdateSecretOk)
    wire.send(1, QueueDeclare("q", exclusive=True))
    wire.expect(QueueDeclareOk, 1)


def test_another_password_is_for_the_next_login(vhost: Vhost, clerk: Callable[[], Wire]) -> None:
    vhost.node.set_permissions("clerk", vhost.name)
    wire = clerk().open(vhost.name, 1, response=plain("clerk", "pw"))
    wire.send(1, QueueDeclare("q", exclusive=True))
    wire.expect(QueueDeclareOk, 1)
    vhost.node.delete_user("clerk")
    assert wire.refusal() == (320, "CONNECTION_FORCED - user 'clerk' is deleted", 0, 0)
    vhost.node.add_user("clerk", "other")
    wrong = clerk()
    wrong.greet()
    wrong.log_in(response=plain("clerk", "pw"))
    assert wrong.refusal()[0] == 403


def test_a_virtual_host_that_is_deleted_takes_its_connections_along(broker: BrokerNode, wire: Wire) -> None:
    broker.add_vhost("doomed")
    wire.open("doomed", 1)
    broker.delete_vhost("doomed")
    assert wire.refusal() == (320, "CONNECTION_FORCED - vhost 'doomed' is deleted", 0, 0)
    wire.send(0, ConnectionCloseOk())
    assert wire.is_over()


def test_who_does_not_publish_is_not_blocked(own_vhost: Vhost) -> None:
    """And who cannot be told is not told, and blocked as well."""
    node = own_vhost.node

    def opened(properties: dict[str, Any]) -> Wire:
        wire = Wire(node)
        wire.greet()
        wire.log_in(properties=properties)
        wire.expect(ConnectionTune)
        wire.send(0, ConnectionTuneOk(10, 8192, 0), ConnectionOpen(own_vhost.name))
        wire.expect(ConnectionOpenOk)
        wire.send(1, ChannelOpen())
        wire.expect(ChannelOpenOk, 1)
        return wire

    with opened(SPOKEN_REFUSALS) as idle, opened(SPOKEN_REFUSALS) as told, opened({}) as untold:
        told.publish(1, BasicPublish("", "before"))
        node.set_alarm()
        assert told.is_silent()
        for wire in (told, untold):
            wire.publish(1, BasicPublish("", "q"))
        assert told.expect(ConnectionBlocked).reason == "low on memory"
        for number, wire in enumerate((told, untold, idle)):
            wire.send(1, QueueDeclare(f"q{number}", exclusive=True))
        assert untold.is_silent()
        assert told.is_silent()
        idle.expect(QueueDeclareOk, 1)
        node.set_alarm("disk")
        node.clear_alarm()
        assert told.is_silent()
        node.clear_alarm("disk")
        told.expect(ConnectionUnblocked)
        for wire in (told, untold):
            wire.expect(QueueDeclareOk, 1)
        assert idle.is_silent()
