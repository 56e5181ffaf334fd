"""What an operator does, and what clients notice of it."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.broker.visitor import Visitor
from txamqpx.broker import Broker
from txamqpx.spec import amqp0_9_1 as amqp


@pytest.fixture
def broker() -> Broker:
    return Broker(clock=Clock())


def clerk(broker: Broker, password: str = "p") -> Visitor:
    return Visitor(broker).open(response=f"\0clerk\0{password}".encode())


def test_a_user_who_is_deleted_has_to_go(broker: Broker) -> None:
    broker.add_user("clerk", "p", ["management"])
    broker.set_permissions("clerk")
    visitor, neighbour = clerk(broker), Visitor(broker).open()
    broker.delete_user("clerk")
    assert visitor.refusal() == (320, "CONNECTION_FORCED - user 'clerk' is deleted")
    assert neighbour.hear() == []
    with pytest.raises(KeyError):
        broker.delete_user("clerk")


def test_another_password_is_for_the_next_login(broker: Broker) -> None:
    broker.add_user("clerk", "p")
    broker.set_permissions("clerk")
    visitor = clerk(broker)
    broker.change_password("clerk", "q")
    assert visitor.hear() == []
    clerk(broker, "q")


def test_rights_can_be_taken_back(broker: Broker) -> None:
    broker.add_user("clerk", "p")
    broker.set_permissions("clerk", "/", "", "^out", "^in")
    broker.set_topic_permissions("clerk", "news", write="^de")
    user = broker.users["clerk"]
    assert user.may("/", "write", "outbox")
    assert not user.may("/", "read", "outbox")
    assert not user.may_use_topic("/", "news", "write", "fr")
    broker.clear_permissions("clerk")
    assert not user.may_enter("/")


def test_virtual_hosts_come_and_go(broker: Broker) -> None:
    broker.add_vhost("v")
    there = broker.vhosts["v"]
    broker.add_vhost("v")
    assert broker.vhosts["v"] is there
    visitor, neighbour = Visitor(broker).open(1, vhost="v"), Visitor(broker).open()
    visitor.send(1, amqp.QueueDeclare("q", durable=True))
    visitor.hear()
    broker.delete_vhost("v")
    assert visitor.refusal() == (320, "CONNECTION_FORCED - vhost 'v' is deleted")
    assert neighbour.hear() == []
    assert there.queues == {}
    with pytest.raises(KeyError):
        broker.delete_vhost("v")


def test_all_are_sent_away_who_have_come_in(broker: Broker) -> None:
    inside, outside = Visitor(broker).open(), Visitor(broker)
    assert broker.close_connections("enough") == 1
    assert inside.refusal() == (320, "CONNECTION_FORCED - enough")
    assert not outside.is_dropped()
    assert broker.close_connections("enough") == 0


def test_alarms(broker: Broker) -> None:
    assert broker.alarm == ""
    broker.set_alarm()
    assert broker.alarm == "low on memory"
    broker.set_alarm("disk")
    broker.clear_alarm()
    assert broker.alarm == "low on disk"
    broker.clear_alarm("disk")
    assert broker.alarm == ""


def test_one_name_is_no_list_of_virtual_hosts() -> None:
    with pytest.raises(TypeError, match=r"vhosts=\['shop'\]"):
        Broker(clock=Clock(), vhosts="shop")
