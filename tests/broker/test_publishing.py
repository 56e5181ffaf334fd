"""Publishes as a channel takes them: in which order things are looked at, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.broker.company import Company
from tests.broker.visitor import Visitor, methods
from tests.broker.yard import PROFILES
from txamqpx.broker import Broker
from txamqpx.errors import Nacked
from txamqpx.protocol.frames import BODY, frame, header_frame
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.wire import encode_table

both = pytest.mark.parametrize("profile", PROFILES)


def visitor(profile: str = PROFILES[1], **login: Any) -> Visitor:
    """Return a client with channel 1 in confirm mode, and a queue "jobs"."""
    broker = Broker(clock=Clock(), profile=profile)
    broker.add_user("clerk", "secret")
    came = Visitor(broker).open(1, 2, **login)
    came.send(1, amqp.ConfirmSelect(), amqp.QueueDeclare("jobs", exclusive=True))
    assert came.names() == ["confirm.select-ok", "queue.declare-ok"]
    return came


def content(
    key: str = "jobs", exchange: str = "", header: bytes = b"\0\0", body: bytes = b"", **flags: bool
) -> bytes:
    head = methods(1, amqp.BasicPublish(exchange, key, **flags)) + header_frame(1, 60, header, len(body))
    return head + (frame(BODY, 1, body) if body else b"")


def bodies(came: Visitor, queue: str = "jobs") -> list[bytes]:
    return [message.body for message in came.broker.queue(queue).messages]


# --------------------------------------------------------------------------- confirms


def test_one_confirm_for_all_that_came_at_once() -> None:
    came = visitor()
    came.write(content(body=b"1"))
    assert came.hear() == [amqp.BasicAck(1, False)]
    came.write(b"".join(content(body=b"%d" % n) for n in range(2, 50)))
    assert came.hear() == [amqp.BasicAck(49, True)]
    assert len(bodies(came)) == 49


def test_what_is_refused_is_left_out() -> None:
    came = visitor()
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
    came.send(1, amqp.QueueDeclare("full", exclusive=True, arguments=arguments))
    came.hear()
    came.write(content("full") + content() * 2 + content("full") * 2 + content())
    assert came.hear() == [
        amqp.BasicNack(1, False, False),
        amqp.BasicAck(3, True),
        amqp.BasicNack(4, False, False),
        amqp.BasicNack(5, False, False),
        amqp.BasicAck(6, False),
    ]


def test_nothing_is_said_of_what_came_before_the_mode() -> None:
    came = Visitor().open(1)
    came.write(content("nobody"))
    assert came.hear() == []
    came.send(1, amqp.ConfirmSelect())
    came.write(content("nobody"))
    assert came.hear() == [amqp.ConfirmSelectOk(), amqp.BasicAck(1, False)]
    came.send(1, amqp.ConfirmSelect())
    came.write(content("nobody"))
    assert came.hear() == [amqp.ConfirmSelectOk(), amqp.BasicAck(2, False)]


@both
def test_an_error_comes_after_the_confirms_of_what_was_before_it(profile: str) -> None:
    came = visitor(profile)
    came.write(content() * 2 + content(exchange="missing") + content() * 3)
    confirmed, closed = came.hear()
    assert confirmed == amqp.BasicAck(2, True)
    assert closed == amqp.ChannelClose(404, "NOT_FOUND - no exchange 'missing' in vhost '/'", 60, 40)
    assert len(bodies(came)) == 2


def test_what_a_fault_refuses_goes_nowhere() -> None:
    """Not even back; and what nobody hears of is not refused."""
    company = Company()
    channel = company.channel(confirms=True)
    company.do(channel.queue_declare("jobs", durable=True))
    company.broker.faults.nack(times=None)
    for key in ("jobs", "nowhere"):
        company.watch(channel.basic_publish(b"", routing_key=key, mandatory=True)).error(Nacked)
    assert company.broker.queue("jobs").ready == 0
    assert company.do(company.channel().basic_publish(b"", routing_key="jobs")) is None
    company.settle()
    assert company.broker.queue("jobs").ready == 1


def test_one_of_several_queues_refuses() -> None:
    came = visitor()
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
    came.send(1, amqp.QueueDeclare("full", exclusive=True, arguments=arguments))
    for name in ("full", "jobs"):
        came.send(1, amqp.QueueBind(name, "amq.fanout", ""))
    came.hear()
    came.write(content(exchange="amq.fanout"))
    assert came.hear() == [amqp.BasicNack(1, False, False)]
    assert len(bodies(came)) == 1


def test_a_gate_that_is_shut_to_somebody_without_confirms() -> None:
    came = visitor()
    came.broker.history.gates.append(lambda message, session, confirm: False)
    came.write(methods(2, amqp.BasicPublish("", "jobs")) + header_frame(2, 60, b"\0\0", 0))
    assert came.hear() == []
    assert bodies(came) == []


# --------------------------------------------------------------------------- what comes back


@both
def test_returns_come_ahead_of_the_confirm(profile: str) -> None:
    came = visitor(profile)
    came.write(content("nowhere", body=b"x", mandatory=True) + content(mandatory=True) + content("nowhere"))
    back = amqp.BasicReturn(312, "NO_ROUTE", "", "nowhere")
    assert came.hear() == [back, "header", "body", amqp.BasicAck(3, True)]


def test_immediate_is_refused_before_anything_else() -> None:
    came = visitor()
    came.write(content(exchange="missing", header=b"broken", immediate=True))
    assert came.refusal() == (540, "NOT_IMPLEMENTED - immediate=true")


# --------------------------------------------------------------------------- rights


@both
def test_the_right_to_write(profile: str) -> None:
    """It matters more whether somebody may than whether there is anything to do it with."""
    came = visitor(profile)
    came.broker.set_permissions("clerk", "/", "", "^(amq.default|amq.topic|there)$", "")
    named = "write access" if profile == PROFILES[1] else "access"
    for exchange, code, text in (
        ("amq.direct", 403, f"ACCESS_REFUSED - {named} to exchange 'amq.direct'"),
        ("missing", 403, f"ACCESS_REFUSED - {named} to exchange 'missing'"),
        ("there", 404, "NOT_FOUND - no exchange 'there'"),
    ):
        clerk = Visitor(came.broker).open(1, response=b"\0clerk\0secret")
        clerk.write(content(exchange=exchange))
        said = f"{text} in vhost '/'" + (" refused for user 'clerk'" if code == 403 else "")
        assert clerk.refusal() == (code, said)
    clerk = Visitor(came.broker).open(1, response=b"\0clerk\0secret")
    clerk.write(content() + content(exchange="amq.topic"))
    came.broker.set_permissions("clerk", "/", "", "", "")
    clerk.write(content())  # RabbitMQ does not ask again at once, either
    assert clerk.hear() == []
    assert len(bodies(came)) == 2
    other = Visitor(came.broker).open(1, response=b"\0clerk\0secret")
    other.write(content())
    text = f"ACCESS_REFUSED - {named} to exchange 'amq.default' in vhost '/' refused for user 'clerk'"
    assert other.refusal() == (403, text)


@both
def test_the_right_to_a_topic(profile: str) -> None:
    came = visitor(profile)
    came.broker.set_permissions("clerk", "/", "", ".*", "")
    came.broker.set_topic_permissions("clerk", "amq.topic", write="^fine", read="")
    clerk = Visitor(came.broker).open(1, response=b"\0clerk\0secret")
    clerk.write(content("fine.x", "amq.topic") + content("other", "amq.direct") + content("other"))
    assert clerk.hear() == []
    clerk.write(content("other", "amq.topic", header=b"broken"))
    named = "write access" if profile == PROFILES[1] else "access"
    where = "topic 'other' in exchange 'amq.topic' in vhost '/'"
    assert clerk.refusal() == (403, f"ACCESS_REFUSED - {named} to {where} refused for user 'clerk'")


# --------------------------------------------------------------------------- properties


def short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def test_the_user_is_who_has_logged_in() -> None:
    came = visitor()
    came.write(content(header=b"\x00\x10" + short("guest")))
    assert came.hear() == [amqp.BasicAck(1, False)]
    came.write(content(header=b"\x00\x10" + short("root")))
    text = "user_id property set to 'root' but authenticated user was 'guest'"
    assert came.refusal() == (406, f"PRECONDITION_FAILED - {text}")


@pytest.mark.parametrize(
    ("profile", "order"),
    [(PROFILES[0], ["user_id", "expiration", "CC"]), (PROFILES[1], ["expiration", "CC", "user_id"])],
)
def test_what_is_looked_at_first(profile: str, order: list[str]) -> None:
    wrong = {
        "CC": (0x2000, encode_table({"CC": 1})),
        "expiration": (0x0100, short("soon")),
        "user_id": (0x0010, short("root")),
    }
    while order:
        parts = [wrong[name] for name in wrong if name in order]
        header = sum(flag for flag, _ in parts).to_bytes(2) + b"".join(part for _, part in parts)
        came = visitor(profile)
        came.write(content(header=header))
        assert order.pop(0) in came.refusal()[1]


def test_delivery_modes() -> None:
    for mode, codes in ((b"\1", (0, 0)), (b"\2", (0, 0)), (b"\3", (406, 0)), (b"\0", (406, 0))):
        for profile, code in zip(PROFILES, codes, strict=True):
            came = visitor(profile)
            came.write(content(header=b"\x10\0" + mode))
            if code:
                text = f"invalid message: {{delivery_mode_unknown,{mode[0]}}}"
                assert came.refusal() == (code, f"PRECONDITION_FAILED - {text}")
            else:
                assert came.hear() == [amqp.BasicAck(1, False)]


@both
@pytest.mark.parametrize("header", [b"", b"\0", b"\x80\0\x05ab", b"\0\0more", b"\x02\x10\x05ab"])
def test_properties_that_are_none_cost_the_connection(profile: str, header: bytes) -> None:
    came = visitor(profile)
    came.write(content() + content(header=header) + content())
    assert came.hear() == [amqp.BasicAck(1, False), amqp.ConnectionClose(541, "INTERNAL_ERROR", 0, 0)]
    assert len(came.broker.published()) == 1


def test_each_header_is_looked_at_though_most_are_alike() -> None:
    """What is known to be harmless is skipped, and nothing else."""
    came = visitor()
    plain, timed = b"\x00\x80" + short("id"), b"\x01\x80" + short("60000") + short("id")
    came.write(b"".join(content(header=header) for header in (plain, plain, timed, timed, plain)))
    assert came.hear() == [amqp.BasicAck(5, True)]
    expirations = [message.properties.expiration for message in came.broker.queue("jobs").messages]
    assert expirations == [None, None, "60000", "60000", None]
    came.clock.advance(61)
    assert len(bodies(came)) == 5  # the first one is in the way of those that are too old
    came.send(1, *[amqp.BasicGet("jobs", no_ack=True)] * 4)
    assert [one for one in came.names() if one.startswith("basic")] == [
        *(["basic.get-ok"] * 3),
        "basic.get-empty",
    ]


def test_a_message_knows_nothing_of_its_channel() -> None:
    """Or what waits in a queue would keep the connection in memory that it came from."""
    came = visitor()
    came.write(content() + content(header=b"\x01\x00" + short("60000")))
    queue = came.broker.vhosts["/"].queues["jobs"]
    assert [entry.message.channel for entry in queue.ready] == [None, None]
