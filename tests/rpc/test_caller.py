"""Each call ends once, with what is known of its request."""

from __future__ import annotations

from gc import collect
from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.rpc.asking import Asking
from tests.rpc.raw import deliver_raw
from txamqpx.errors import (
    AccessRefused,
    CallTimeout,
    ConnectionForced,
    ConnectionLost,
    EncodeError,
    InvalidParameter,
    Nacked,
    NoFreeChannels,
    NoRoute,
    NotFound,
    NotPublished,
    OutboxFull,
    PreconditionFailed,
    RemoteError,
    ReplyLost,
)
from txamqpx.protocol.outbox import HIGH_WATER
from txamqpx.rpc.caller import LARGEST
from txamqpx.spec.amqp0_9_1 import (
    BasicCancel,
    BasicNack,
    BasicProperties,
    BasicPublish,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelFlowOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionUnblocked,
    ExchangeDeclare,
    ExchangeDeclareOk,
    ExchangeDelete,
    ExchangeDeleteOk,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
)
from txamqpx.testing import Watched, failure_of, is_pending, success_of


@pytest.fixture
def asking() -> Asking:
    return Asking()


def asked(asking: Asking, **options: Any) -> tuple[Deferred[Any], Any]:
    """Make the first call, up to the request; return both."""
    call = asking.caller.call("rpc", b"2 + 2", **options)
    asking.open()
    return call, asking.request()


# --------------------------------------------------------------------------- a call


@pytest.mark.covers("T-CON-16", "J05", "T-RPC-03")
def test_a_request_is_sent_once_replies_can_come(asking: Asking) -> None:
    call, request = asked(asking, timeout=5.0, content_type="text/plain")
    properties = request.properties
    assert request.body == b"2 + 2"
    assert (properties.reply_to, properties.expiration, properties.content_type) == (
        "amq.rabbitmq.reply-to",
        "5000",
        "text/plain",
    )
    assert properties.delivery_mode is None
    assert len(properties.correlation_id or "") == 32
    asking.confirm()
    assert is_pending(call)
    assert asking.caller.outstanding == 1
    asking.reply(request, b"4")
    assert success_of(call).body == b"4"
    assert asking.caller.outstanding == 0
    asking.peer.expect_nothing()
    assert len(asking.peer.clock.getDelayedCalls()) == len(Asking().peer.clock.getDelayedCalls())


@pytest.mark.covers("T-CON-16")
def test_replies_may_come_through_a_queue(asking: Asking) -> None:
    asking = Asking(reply_queue=True)
    call, request = asked(asking)
    assert request.properties.reply_to == "amq.gen-1"
    asking.reply(request)
    assert success_of(call).body == b"reply"


@pytest.mark.covers("K10", "T-RPC-01")
def test_calls_do_not_wait_for_each_other(asking: Asking) -> None:
    calls = [asking.caller.call("rpc", b"%d" % number) for number in range(3)]
    asking.open()
    requests = [asking.request() for _ in calls]
    assert len({request.properties.correlation_id for request in requests}) == 3
    for number in (2, 0, 1):
        asking.reply(requests[number], b"reply %d" % number)
    assert [success_of(call).body for call in calls] == [b"reply 0", b"reply 1", b"reply 2"]
    later = asking.caller.call("other", b"")
    asking.reply(asking.request("other"))
    assert success_of(later).body == b"reply"


def test_the_default_caller_of_a_client_is_one(asking: Asking) -> None:
    calls = [asking.client.call("rpc", b"one"), asking.client.call("rpc", b"two")]
    asking.open()
    for call in calls:
        asking.reply(asking.request())
        success_of(call)
    assert len(asking.client.publishers) == 2
    assert "0 outstanding" in repr(asking.caller)


def test_properties_are_those_that_are_given(asking: Asking) -> None:
    given = BasicProperties(headers={"a": 1}, expiration="7", priority=1)
    body: Any = memoryview(b"x")
    asking.caller.call("rpc", body, properties=given, priority=2)
    asking.open()
    request = asking.request()
    assert (request.properties.headers, request.properties.expiration) == ({"a": 1}, "7")
    assert (request.properties.priority, request.body) == (2, b"x")


@pytest.mark.covers("T-RPC-03")
def test_a_request_dies_with_its_timeout_in_the_queue(asking: Asking) -> None:
    asking.caller.call("rpc", timeout=2.0)
    asking.peer.advance(0.5)
    asking.open()
    assert asking.request().properties.expiration == "1500"
    asking.caller.call("rpc", timeout=0.0001)
    assert asking.request().properties.expiration == "1"


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({}, "queue"),
        ({"queue": "q", "exchange": "x"}, "queue"),
        ({"queue": "q", "routing_key": "k"}, "queue"),
        ({"queue": "q", "timeout": 0}, "timeout"),
        ({"queue": "q", "timeout": float("inf")}, "timeout"),
        ({"queue": "q", "timeout": float("nan")}, "timeout"),
        ({"queue": "q", "correlation_id": "1"}, "correlation_id"),
        ({"queue": "q", "properties": BasicProperties(reply_to="q")}, "reply_to"),
    ],
)
def test_what_makes_no_sense_is_refused(asking: Asking, arguments: Any, parameter: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        asking.caller.call(**arguments)
    assert caught.value.parameter == parameter
    asking.peer.expect_nothing()
    assert asking.caller.outstanding == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"queue": "q" * 256},
        {"queue": "q", "body": "text"},
        {"queue": "q", "body": bytes(LARGEST + 1)},
        {"queue": "q", "user_id": "somebody"},
        {"queue": "q", "properties": "none"},
        {"queue": "q", "headers": {"x": "y" * 131_000}},
    ],
    ids=["queue", "body", "size", "user", "properties", "headers"],
)
def test_what_does_not_fit_is_refused(asking: Asking, arguments: Any) -> None:
    with pytest.raises(EncodeError):
        asking.caller.call(**arguments)
    asking.peer.expect_nothing()
    assert asking.caller.outstanding == 0


@pytest.mark.parametrize("option", ["max_outstanding", "max_message_size"])
@pytest.mark.parametrize("value", [0, True, 1.5])
def test_a_limit_is_a_number(option: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=option):
        Asking(**{option: value})


def test_calls_under_way_are_bounded() -> None:
    asking = Asking(max_outstanding=2)
    calls = [asking.caller.call("rpc") for _ in range(2)]
    assert "2 calls wait" in str(failure_of(asking.caller.call("rpc"), OutboxFull))
    asking.open()
    asking.reply(asking.request())
    success_of(calls[0])
    asking.caller.call("rpc")
    assert asking.caller.outstanding == 2


# --------------------------------------------------------------------------- replies


@pytest.mark.covers("T-RPC-01", "T-PUB-09")
def test_a_reply_that_nobody_waits_for_is_counted(asking: Asking) -> None:
    call, request = asked(asking)
    asking.deliver(b"guessed", BasicProperties(correlation_id="0" * 32))
    asking.deliver(b"to nobody", BasicProperties())
    assert asking.caller.late == 2
    assert is_pending(call)
    asking.reply(request, b"first")
    asking.reply(request, b"second")
    assert success_of(call).body == b"first"
    assert asking.caller.late == 3


def test_a_reply_that_cannot_be_read_is_counted(asking: Asking) -> None:
    call, request = asked(asking)
    asking.delivered = 1
    deliver_raw(asking.peer, asking.number, asking.tag, 1, b"\x04\x00\xffcut short")
    assert asking.caller.late == 1
    asking.reply(request)
    success_of(call)


@pytest.mark.covers("T-RPC-01")
def test_a_reply_before_the_confirm_is_as_good(asking: Asking) -> None:
    call, request = asked(asking)
    asking.reply(request)
    success_of(call)
    flushed = asking.caller.flush()
    assert is_pending(flushed)
    asking.confirm()
    success_of(flushed)


def test_a_failure_on_the_other_side_is_an_error(asking: Asking) -> None:
    call, request = asked(asking)
    asking.reply(request, b"no such thing", headers={"txamqpx-error": "KeyError"})
    error = failure_of(call, RemoteError)
    assert (error.type, error.message, str(error)) == (
        "KeyError",
        "no such thing",
        "KeyError: no such thing",
    )


# --------------------------------------------------------------------------- requests that nobody has


@pytest.mark.covers("T-RPC-02", "T-PUB-04")
def test_a_request_that_reaches_nobody_fails_at_once(asking: Asking) -> None:
    first, request = asked(asking)
    second = asking.caller.call("rpc", b"second")
    other = asking.request()
    asking.return_(request)
    asking.confirm(2, multiple=True)
    error = failure_of(first, NoRoute)
    assert (error.routing_key, error.message.body) == ("rpc", b"2 + 2")
    assert is_pending(second)
    asking.reply(other)
    success_of(second)


def test_a_request_that_is_refused_fails_at_once(asking: Asking) -> None:
    call, _ = asked(asking)
    flushed = asking.caller.flush()
    asking.peer.send(asking.number, BasicNack(1, False, False))
    failure_of(call, Nacked)
    success_of(flushed)


# --------------------------------------------------------------------------- time, and giving up


@pytest.mark.covers("T-PUB-09", "T-RPC-01")
def test_no_reply_is_a_timeout(asking: Asking) -> None:
    call, request = asked(asking, timeout=3.0)
    asking.confirm()
    asking.peer.advance(2.9)
    assert is_pending(call)
    asking.peer.advance(0.1)
    error = failure_of(call, CallTimeout)
    assert str(error) == "no answer to a call to queue 'rpc' within 3 s"
    assert (error.sent, error.blocked) == (True, None)
    asking.reply(request)
    assert asking.caller.late == 1
    assert asking.client.protocol.is_open


@pytest.mark.covers("T-PUB-09")
def test_the_confirm_of_a_call_that_timed_out_is_nobody_elses(asking: Asking) -> None:
    first, _ = asked(asking, timeout=1.0)
    second = asking.caller.call("rpc", b"second", timeout=9.0)
    request = asking.request()
    asking.peer.advance(1.0)
    failure_of(first, CallTimeout)
    flushed = asking.caller.flush()
    asking.confirm(1)
    assert is_pending(flushed)
    asking.confirm(2)
    success_of(flushed)
    asking.reply(request)
    success_of(second)


def test_a_call_that_waits_is_not_sent_after_its_timeout(asking: Asking) -> None:
    call = asking.caller.call("rpc", timeout=1.0)
    later = asking.caller.call("later", timeout=9.0)
    asking.peer.advance(1.0)
    error = failure_of(call, CallTimeout)
    assert not error.sent
    assert str(error).endswith("; it was not sent")
    asking.open()
    asking.request("later")
    asking.peer.expect_nothing()
    assert is_pending(later)


@pytest.mark.covers("T-PUB-09")
def test_a_call_can_be_forgotten(asking: Asking) -> None:
    call, request = asked(asking)
    outcome = Watched(call)
    call.cancel()
    outcome.error(CancelledError)
    asking.reply(request)
    assert (asking.caller.late, asking.caller.outstanding) == (1, 0)
    asking.peer.expect_nothing()


def test_a_call_that_was_not_sent_is_not_sent_when_it_is_forgotten(asking: Asking) -> None:
    call = asking.caller.call("rpc")
    outcome = Watched(call)
    call.cancel()
    outcome.error(CancelledError)
    asking.open()
    asking.peer.expect_nothing()
    success_of(asking.caller.flush())


@pytest.mark.covers("T-BLK-02")
def test_a_blocked_connection_is_named(asking: Asking) -> None:
    first, _ = asked(asking)
    asking.peer.send(0, ConnectionBlocked("low on memory"))
    second = asking.caller.call("rpc", timeout=5.0)
    third = asking.caller.call("third", timeout=50.0)
    asking.peer.expect_nothing()
    asking.peer.advance(5.0)
    error = failure_of(second, CallTimeout)
    assert (error.sent, error.blocked) == (False, "low on memory")
    asking.peer.send(0, ConnectionUnblocked())
    asking.request("third")
    asking.peer.advance(25.0)
    assert failure_of(first, CallTimeout).sent
    assert is_pending(third)


def test_a_blocked_connection_is_asked_for_no_channel(asking: Asking) -> None:
    asking.peer.send(0, ConnectionBlocked("low on memory"))
    asking.caller.call("rpc")
    asking.peer.expect_nothing()
    asking.peer.send(0, ConnectionUnblocked())
    asking.open()
    asking.request()


def test_a_pause_is_kept(asking: Asking) -> None:
    asked(asking)
    asking.peer.send(asking.number, ChannelFlow(False))
    asking.peer.expect(ChannelFlowOk)
    asking.caller.call("later")
    asking.peer.expect_nothing()
    asking.peer.send(asking.number, ChannelFlow(True))
    asking.peer.expect(ChannelFlowOk)
    asking.request("later")


def test_a_full_transport_is_waited_for(asking: Asking) -> None:
    asked(asking)
    with asking.peer.wire.held():
        calls = [asking.caller.call("rpc", bytes(HIGH_WATER // 4)) for _ in range(8)]
        assert asking.peer.protocol.core.outbox.size < 1.5 * HIGH_WATER
        asking.peer.clock.advance(0)
        assert not asking.peer.protocol.writable
        calls += [asking.caller.call("rpc", b"x") for _ in range(2)]
    for _ in calls:
        asking.request()
    asking.peer.expect_nothing()


# --------------------------------------------------------------------------- the channel ends


@pytest.mark.covers("T-PUB-10", "T-CON-16")
def test_the_request_that_costs_the_channel_fails_with_it_and_the_others_at_once(asking: Asking) -> None:
    waits, _ = asked(asking)
    asking.confirm(1)
    culprit = asking.caller.call("rpc", b"culprit", user_id="guest")
    asking.request()
    doubtful = asking.caller.call("doubtful")
    asking.request("doubtful")
    asking.close(406, "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'x'")
    asking.peer.expect(ChannelCloseOk)
    failure_of(culprit, PreconditionFailed)
    error = failure_of(waits, ReplyLost)
    assert isinstance(error.__cause__, PreconditionFailed)
    # What came behind the culprit was not looked at: it is sent again, on a new channel.
    asking.open()
    request = asking.request("doubtful")
    asking.reply(request)
    assert success_of(doubtful).body == b"reply"


def test_those_that_are_sent_again_keep_their_order(asking: Asking) -> None:
    culprit, _ = asked(asking, user_id="guest")
    calls = [asking.caller.call(f"q{number}") for number in range(4)]
    for number in range(4):
        asking.request(f"q{number}")
    calls[1].addErrback(lambda _: None).cancel()
    asking.close(406, "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'x'")
    asking.peer.expect(ChannelCloseOk)
    failure_of(culprit, PreconditionFailed)
    late = asking.caller.call("late")
    asking.open()
    for queue in ("q0", "q2", "q3", "late"):
        asking.request(queue)
    asking.peer.expect_nothing()
    assert is_pending(late)


def test_a_request_is_sent_again_once(asking: Asking) -> None:
    text = "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'x'"
    first, _ = asked(asking, user_id="guest")
    second = asking.caller.call("second", user_id="guest")
    unlucky = asking.caller.call("unlucky")
    for culprit in (first, second):
        asking.peer.wire.pump()
        asking.peer.heard.clear()
        asking.close(406, text)
        failure_of(culprit, PreconditionFailed)
        asking.peer.expect(ChannelCloseOk)
        if culprit is first:
            asking.open()
            asking.request("second")
            asking.request("unlucky")
    assert isinstance(failure_of(unlucky, NotPublished).__cause__, PreconditionFailed)
    asking.peer.expect_nothing()


def test_a_channel_that_ends_for_no_request_of_ours_loses_the_replies(asking: Asking) -> None:
    taken, _ = asked(asking)
    asking.confirm()
    asking.peer.send(asking.number, ChannelClose(541, "INTERNAL_ERROR", 0, 0))
    asking.peer.expect(ChannelCloseOk)
    failure_of(taken, ReplyLost)
    asking.peer.expect_nothing()
    asking.caller.call("rpc")
    asking.open()
    asking.request()


def test_a_reply_queue_that_is_deleted_loses_the_replies() -> None:
    asking = Asking(reply_queue=True)
    call, _ = asked(asking)
    asking.peer.send(asking.number, BasicCancel(asking.tag, True))
    error = failure_of(call, ReplyLost)
    assert "has cancelled consumer" in str(error.__cause__)
    assert "amq.gen-1" in str(error)
    asking.peer.expect(ChannelClose)
    asking.caller.call("rpc")
    asking.open()
    asking.request()


def test_a_channel_that_cannot_be_used_fails_what_waits_for_it(asking: Asking) -> None:
    calls = [asking.caller.call("rpc"), asking.caller.call("rpc")]
    number = asking.peer.expect(ChannelOpen).channel
    asking.peer.send(number, ChannelOpenOk())
    asking.peer.send(number, ChannelClose(403, "ACCESS_REFUSED", 60, 20))
    for call in calls:
        error = failure_of(call, NotPublished)
        assert isinstance(error.__cause__, AccessRefused)


def test_a_channel_that_does_not_come_fails_what_waits_for_it() -> None:
    asking = Asking(parameters={"rpc_timeout": 2.0, "close_timeout": 1.0})
    call = asking.caller.call("rpc")
    asking.peer.advance(2.0)
    assert "no answer to" in str(failure_of(call, NotPublished))
    asking.peer.advance(1.0)
    assert asking.caller.outstanding == 0


def test_no_channel_is_left() -> None:
    asking = Asking()
    taken = []
    while True:
        try:
            taken.append(asking.peer.protocol.new_channel())
        except NoFreeChannels:
            break
    error = failure_of(asking.caller.call("rpc"), NotPublished)
    assert isinstance(error.__cause__, NoFreeChannels)


def test_a_transport_that_takes_nothing_more_fails_what_waits(asking: Asking) -> None:
    outbox = asking.peer.protocol.core.outbox
    most, outbox.most = outbox.most, 0
    error = failure_of(asking.caller.call("rpc"), NotPublished)
    assert isinstance(error.__cause__, OutboxFull)
    outbox.most = most
    asking.peer.expect(ChannelOpen)
    asking.peer.expect(ChannelClose)
    call = asking.caller.call("rpc")
    asking.open()
    asking.reply(asking.request())
    success_of(call)


def test_who_hears_of_a_failure_may_forget_the_next(asking: Asking) -> None:
    first, second = asking.caller.call("rpc"), asking.caller.call("rpc")
    ends = [Watched(second)]
    first.addErrback(lambda _: second.cancel())
    asking.peer.hang_up()
    ends[0].error(CancelledError)


# --------------------------------------------------------------------------- the connection ends


@pytest.mark.covers("T-RPC-05", "T-CON-16")
def test_the_end_of_the_connection_ends_all_calls_at_once(asking: Asking) -> None:
    taken, _ = asked(asking)
    asking.confirm()
    doubtful = asking.caller.call("rpc")
    asking.request()
    asking.peer.send(asking.number, ChannelFlow(False))
    waiting = asking.caller.call("rpc")
    asking.peer.send(0, ConnectionClose(320, "CONNECTION_FORCED", 0, 0))
    for call in (taken, doubtful):
        assert isinstance(failure_of(call, ReplyLost).__cause__, ConnectionForced)
    assert isinstance(failure_of(waiting, NotPublished).__cause__, ConnectionForced)
    later = failure_of(asking.caller.call("rpc"), NotPublished)
    assert isinstance(later.__cause__, ConnectionForced)
    assert asking.peer.clock.getDelayedCalls() == []


@pytest.mark.covers("T-RPC-05")
def test_a_lost_connection_ends_what_was_not_sent() -> None:
    asking = Asking()
    call = asking.caller.call("rpc")
    asking.peer.hang_up()
    assert isinstance(failure_of(call, NotPublished).__cause__, ConnectionLost)
    success_of(asking.caller.flush())


# --------------------------------------------------------------------------- exchanges


def verified(asking: Asking, exchange: str) -> int:
    heard = asking.peer.expect(ChannelOpen)
    asking.peer.send(heard.channel, ChannelOpenOk())
    declare = asking.peer.expect(ExchangeDeclare, heard.channel).method
    assert (declare.exchange, declare.passive) == (exchange, True)
    return heard.channel


@pytest.mark.covers("T-PUB-10")
def test_an_exchange_is_looked_for_before_the_first_request_to_it(asking: Asking) -> None:
    call = asking.caller.call(exchange="x", routing_key="k", body=b"1")
    lane = verified(asking, "x")
    asking.peer.expect_nothing()
    asking.peer.send(lane, ExchangeDeclareOk())
    asking.open()
    method = asking.peer.expect(BasicPublish).method
    assert method == BasicPublish("x", "k", True)
    asking.caller.call(exchange="x")
    asking.peer.expect(BasicPublish)
    assert is_pending(call)


@pytest.mark.covers("T-PUB-10")
def test_a_missing_exchange_costs_nobody_his_reply(asking: Asking) -> None:
    waits, request = asked(asking)
    calls = [asking.caller.call(exchange="x"), asking.caller.call(exchange="x")]
    innocent = asking.caller.call("innocent")
    lane = verified(asking, "x")
    close = ChannelClose(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 40, 10)
    asking.peer.send(lane, close)
    errors = [failure_of(call, NotFound) for call in calls]
    assert [error.exchange for error in errors] == ["x", "x"]
    assert errors[0] is not errors[1]
    asking.peer.expect(ChannelCloseOk)
    asking.request("innocent")
    asking.reply(request)
    success_of(waits)
    assert is_pending(innocent)
    # It may be made meanwhile.
    asking.caller.call(exchange="x")
    verified(asking, "x")


def test_nobody_knows_of_an_exchange_that_is_not_answered_for() -> None:
    asking = Asking(parameters={"rpc_timeout": 2.0})
    call = asking.caller.call(exchange="x")
    verified(asking, "x")
    asking.peer.advance(2.0)
    assert "it is not known whether exchange 'x' is there" in str(failure_of(call, NotPublished))


def test_an_exchange_that_was_deleted_is_looked_for_again(asking: Asking) -> None:
    asking.caller.call(exchange="x")
    lane = verified(asking, "x")
    asking.peer.send(lane, ExchangeDeclareOk())
    asking.open()
    asking.peer.expect(BasicPublish)
    asking.confirm()
    asking.client.exchange_delete("x")
    asking.peer.expect(ExchangeDelete)
    call = asking.caller.call(exchange="x")
    asking.peer.expect(ExchangeDeclare)
    asking.peer.send(lane, ExchangeDeleteOk())
    asking.peer.expect_nothing()
    assert is_pending(call)


def test_an_exchange_that_is_declared_meanwhile_is_looked_for_again(asking: Asking) -> None:
    first = asking.caller.call(exchange="x")
    lane = verified(asking, "x")
    declared = asking.client.exchange_declare("x")
    second = asking.caller.call(exchange="x")
    asking.peer.send(lane, ChannelClose(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 40, 10))
    failure_of(first, NotFound)
    asking.caller.call(exchange="x")
    asking.peer.wire.pump()
    heard = [one.method for one in asking.peer.heard if isinstance(one.method, ExchangeDeclare)]
    assert [method.passive for method in heard] == [False, True]
    assert is_pending(second)
    assert is_pending(declared)


def test_an_exchange_that_somebody_else_deleted_costs_the_channel_once(asking: Asking) -> None:
    asking.caller.call(exchange="x")
    lane = verified(asking, "x")
    asking.peer.send(lane, ExchangeDeclareOk())
    asking.open()
    first = asking.peer.expect(BasicPublish)
    asking.reply(first)
    asking.confirm()
    call = asking.caller.call(exchange="x")
    asking.peer.expect(BasicPublish)
    asking.close(404, "NOT_FOUND - no exchange 'x' in vhost '/'")
    failure_of(call, NotFound)
    asking.peer.expect(ChannelCloseOk)
    asking.caller.call(exchange="x")
    asking.peer.expect(ExchangeDeclare)


def test_an_exchange_that_cannot_be_asked_for(asking: Asking) -> None:
    with asking.peer.wire.held():
        asking.peer.protocol.core.outbox.most = 0
        asking.peer.protocol.core.outbox.append(b"x" * 10)
        failure_of(asking.caller.call(exchange="x"), NotPublished)
        asking.peer.protocol.core.outbox.take()
    assert asking.caller.outstanding == 0


# --------------------------------------------------------------------------- order


def test_a_call_comes_after_what_was_called_before_it(asking: Asking) -> None:
    asking.client.queue_declare("rpc")
    call = asking.caller.call("rpc")
    lane = asking.peer.expect(ChannelOpen).channel
    asking.peer.send(lane, ChannelOpenOk())
    asking.peer.expect(QueueDeclare)
    asking.peer.expect_nothing()
    asking.peer.send(lane, QueueDeclareOk("rpc", 0, 0))
    asking.open()
    asking.request()
    assert is_pending(call)


def test_what_is_called_after_a_call_comes_after_it(asking: Asking) -> None:
    call, _ = asked(asking)
    deleted = asking.client.queue_delete("rpc")
    asking.client.queue_delete("other")
    lane = asking.peer.expect(ChannelOpen).channel
    asking.peer.send(lane, ChannelOpenOk())
    asking.peer.expect(QueueDelete("other"))
    asking.peer.send(lane, QueueDeleteOk(0))
    asking.peer.expect_nothing()
    asking.confirm()  # it has the request, and its reply is another matter
    asking.peer.expect(QueueDelete("rpc"))
    assert is_pending(call)
    assert is_pending(deleted)


def test_an_operation_waits_for_a_call_that_was_not_sent_and_never_for_a_later_one(asking: Asking) -> None:
    asking.client.queue_declare("rpc")
    asking.caller.call("rpc")
    asking.client.queue_purge("rpc")
    asking.caller.call("rpc", b"later")
    lane = asking.peer.expect(ChannelOpen).channel
    asking.peer.send(lane, ChannelOpenOk())
    asking.peer.expect(QueueDeclare)
    asking.peer.send(lane, QueueDeclareOk("rpc", 0, 0))
    asking.open()
    asking.request()
    asking.peer.expect_nothing()
    asking.confirm()
    asking.peer.expect(QueuePurge)
    asking.peer.expect_nothing()
    asking.peer.send(lane, QueuePurgeOk(1))
    assert asking.request().body == b"later"


@pytest.mark.parametrize(
    ("operation", "waits"),
    [
        (lambda client: client.queue_bind("q", "x"), True),
        (lambda client: client.exchange_delete("y"), True),
        (lambda client: client.queue_declare("q"), True),
        (lambda client: client.exchange_declare("y", passive=True), False),
    ],
    ids=["bind", "delete", "declare", "look"],
)
def test_what_may_change_the_way_of_a_request_waits_for_it(
    asking: Asking, operation: Any, waits: bool
) -> None:
    asking.caller.call(exchange="x")
    lane = verified(asking, "x")
    asking.peer.send(lane, ExchangeDeclareOk())
    asking.open()
    asking.peer.expect(BasicPublish)
    operation(asking.client)
    if not waits:
        asking.peer.expect(ExchangeDeclare)
    asking.peer.expect_nothing()
    asking.confirm()
    assert bool(asking.peer.heard) is waits
    asking.peer.heard.clear()


# --------------------------------------------------------------------------- closing


def test_closing_waits_for_replies(asking: Asking) -> None:
    call, request = asked(asking)
    closed = asking.caller.close(10.0)
    assert "the caller was closed" in str(failure_of(asking.caller.call("rpc"), NotPublished))
    assert is_pending(closed)
    asking.reply(request)
    success_of(call)
    asking.peer.expect(ChannelClose)
    success_of(closed)
    success_of(asking.caller.close())
    asking.peer.send(0, ConnectionBlocked(""))


def test_closing_does_not_wait_for_ever(asking: Asking) -> None:
    sent, _ = asked(asking)
    asking.peer.send(asking.number, ChannelFlow(False))
    unsent = asking.caller.call("rpc")
    asking.peer.expect(ChannelFlowOk)
    closed = asking.caller.close(10.0)
    asking.peer.advance(10.0)
    failure_of(sent, ReplyLost)
    failure_of(unsent, NotPublished)
    asking.peer.expect(ChannelClose)
    success_of(closed)


def test_a_caller_that_was_not_used_closes_at_once(asking: Asking) -> None:
    success_of(asking.caller.close())
    asking.peer.expect_nothing()


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), None])
def test_a_time_that_is_none_closes_nothing(asking: Asking, timeout: Any) -> None:
    with pytest.raises((InvalidParameter, TypeError)):
        asking.caller.close(timeout)
    asked(asking)


def test_a_connection_keeps_no_caller_that_is_over(asking: Asking) -> None:
    caller = ref(asking.client.caller())
    over = caller()
    assert over is not None
    success_of(over.close())
    del over
    collect()
    assert caller() is None


def test_a_call_that_is_cancelled_last_ends_the_caller(asking: Asking) -> None:
    call, _ = asked(asking)
    closed = asking.caller.close()
    call.addErrback(lambda _: None).cancel()
    asking.peer.expect(ChannelClose)
    success_of(closed)
