"""How clients come in, and who does not."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.broker.visitor import GREETING, Certified, Transport, Visitor
from txamqpx.broker import Broker
from txamqpx.broker.session import SILENCE
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.wire import encode_table


def broker(**options: Any) -> Broker:
    return Broker(clock=Clock(), **options)


@pytest.mark.parametrize(
    ("profile", "transport", "offered"),
    [
        ("rabbitmq-3.10", Transport(), b"PLAIN AMQPLAIN"),
        ("rabbitmq-4.3", Transport(), b"ANONYMOUS PLAIN AMQPLAIN"),
        ("rabbitmq-4.3", Certified(None), b"ANONYMOUS PLAIN AMQPLAIN EXTERNAL"),
    ],
)
def test_what_is_offered(profile: str, transport: Transport, offered: bytes) -> None:
    visitor = Visitor(broker(profile=profile), transport)
    visitor.write(GREETING)
    (start,) = visitor.hear()
    assert start.mechanisms == offered
    assert start.server_properties["product"] == "RabbitMQ"


@pytest.mark.parametrize(
    ("mechanism", "response", "user"),
    [
        ("PLAIN", b"\0guest\0guest", "guest"),
        ("AMQPLAIN", encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:], "guest"),
        ("ANONYMOUS", b"", "guest"),
        ("EXTERNAL", b"", "orders"),
    ],
)
def test_who_comes_in(mechanism: str, response: bytes, user: str) -> None:
    house = broker()
    house.add_user("orders", None)
    house.set_permissions("orders")
    visitor = Visitor(house, Certified("orders")).open(mechanism=mechanism, response=response)
    assert (visitor.session.user, visitor.session.mechanism) == (user, mechanism)


@pytest.mark.parametrize("response", [b"\0guest\0wrong", b"\0nobody\0guest"])
def test_a_wrong_login_is_refused_aloud(response: bytes) -> None:
    visitor = Visitor(broker())
    (closed,) = visitor.log_in(response=response)
    assert (closed.reply_code, closed.class_id) == (403, 0)
    assert closed.reply_text == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile."
    )
    visitor.send(0, amqp.ConnectionCloseOk())
    assert visitor.is_sent_away()


@pytest.mark.parametrize("properties", [{}, {"capabilities": "many"}, None])
def test_who_cannot_hear_a_refusal_is_hung_up_on(properties: Any) -> None:
    visitor = Visitor(broker())
    assert visitor.log_in(response=b"\0guest\0wrong", properties=properties) == []
    visitor.clock.advance(SILENCE)
    assert visitor.is_sent_away()


@pytest.mark.parametrize(
    ("mechanism", "transport"),
    [("KERBEROS", Transport()), ("EXTERNAL", Transport()), ("EXTERNAL", Certified(None))],
)
def test_a_login_that_is_none(mechanism: str, transport: Transport) -> None:
    visitor = Visitor(broker(), transport)
    assert visitor.log_in(mechanism=mechanism, response=b"") == []
    visitor.clock.advance(SILENCE)
    assert visitor.is_sent_away()


def test_virtual_hosts_that_are_closed() -> None:
    house = broker(vhosts=["/", "full"])
    house.add_user("clerk", "p")
    house.limits.vhost_connections["full"] = 0
    for user, vhost, text in (
        ("guest", "missing", "vhost missing not found"),
        ("clerk", "/", "access to vhost '/' refused for user 'clerk'"),
        (
            "guest",
            "full",
            "access to vhost 'full' refused for user 'guest': connection limit (0) is reached",
        ),
    ):
        visitor = Visitor(house)
        visitor.log_in(response=f"\0{user}\0{'p' if user == 'clerk' else user}".encode())
        visitor.send(0, amqp.ConnectionTuneOk(2047, 131072, 0), amqp.ConnectionOpen(vhost))
        (closed,) = visitor.hear()
        assert (closed.reply_code, closed.reply_text) == (530, f"NOT_ALLOWED - {text}")
        assert (closed.class_id, closed.method_id) == (10, 40)


def test_a_place_is_free_again_when_its_client_has_left() -> None:
    house = broker()
    house.limits.user_connections["guest"] = 1
    visitor = Visitor(house).open()
    visitor.leave()
    Visitor(house).open()


def test_any_secret_will_do() -> None:
    visitor = Visitor(broker()).open()
    visitor.send(0, amqp.ConnectionUpdateSecret(b"whatever", "it was time"))
    assert visitor.names() == ["connection.update-secret-ok"]
