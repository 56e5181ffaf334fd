"""Each request gets one reply, and is done with when the broker has that."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from tests.logged import LoggedErrors
from tests.rpc.raw import deliver_raw
from tests.rpc.serving import Serving
from txamqpx.consuming.settlement import Reject
from txamqpx.errors import ConsumerCancelled, InvalidParameter, NotFound, NotPublished, RemoteError
from txamqpx.publisher import Publisher
from txamqpx.rpc.server import _DEADLY
from txamqpx.spec.amqp0_9_1 import (
    BasicAck,
    BasicCancel,
    BasicCancelOk,
    BasicNack,
    BasicPublish,
    BasicQosOk,
    BasicReject,
    BasicReturn,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionClose,
    QueueDeclare,
    QueueDeclareOk,
)
from txamqpx.testing import failure_of, is_pending, success_of

DIRECT = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxNzE5NDgyMAAAAwIAAAAAawDqTA==.Ncu4BCR+uioaVGySd3q0Gw=="
FORGED = "amq.rabbitmq.reply-to.garbage"


def upper(delivery: Any) -> bytes:
    return bytes(delivery.body).upper()


# --------------------------------------------------------------------------- a reply


@pytest.mark.covers("J05")
def test_what_a_function_returns_goes_to_who_has_asked_before_the_ack() -> None:
    serving = Serving(upper)
    serving.request(b"hello")
    reply = serving.reply()
    assert (reply.method.routing_key, reply.method.mandatory, reply.body) == ("back", True, b"HELLO")
    assert reply.properties.as_dict() == {"correlation_id": "7"}
    serving.peer.expect_nothing()
    serving.confirm()
    serving.acked()
    server = serving.server
    assert (server.replied, server.failed, server.undeliverable, server.abandoned) == (1, 0, 0, 0)
    assert repr(server) == "<Server of 'rpc', 1 replies>"
    assert not server.closed.called


async def coroutine(delivery: Any) -> str:
    return "grün"


@pytest.mark.parametrize(
    ("function", "body"),
    [
        (coroutine, "grün".encode()),
        (lambda delivery: succeed(None), b""),
        (lambda delivery: bytearray(b"x"), b"x"),
        (lambda delivery: memoryview(b"y"), b"y"),
    ],
    ids=["coroutine and text", "Deferred and None", "bytearray", "memoryview"],
)
def test_what_a_function_may_return(function: Any, body: bytes) -> None:
    serving = Serving(function)
    serving.request()
    assert serving.reply().body == body


def test_a_reply_is_sent_when_it_is_there() -> None:
    result: Deferred[bytes] = Deferred()
    serving = Serving(lambda delivery: result)
    serving.request()
    serving.peer.expect_nothing()
    result.callback(b"late")
    assert serving.reply().body == b"late"


def test_who_sends_no_correlation_id_gets_none() -> None:
    serving = Serving(upper)
    serving.request(correlation_id=None)
    assert serving.reply().properties.as_dict() == {}


@pytest.mark.parametrize("reply_to", [None, ""])
def test_a_request_that_wants_no_reply_is_handled_and_acked(reply_to: str | None) -> None:
    seen: list[bytes] = []
    serving = Serving(lambda delivery: seen.append(delivery.body))
    serving.request(b"do it", reply_to=reply_to)
    serving.acked()
    serving.peer.expect_nothing()
    assert seen == [b"do it"]


def test_a_server_is_closed_with_a_block() -> None:
    serving = Serving(upper)

    async def use() -> None:
        async with serving.server:
            pass

    used = Deferred.fromCoroutine(use())
    serving.peer.expect(BasicCancel)
    serving.peer.send(serving.number, BasicCancelOk(serving.tag))
    success_of(used)
    assert success_of(serving.server.closed) is None


def test_a_server_whose_queue_has_gone_lets_its_channel_go_when_all_is_answered() -> None:
    result: Deferred[bytes] = Deferred()
    serving = Serving(lambda delivery: result)
    serving.request()
    serving.peer.send(serving.number, BasicCancel(serving.tag, True))
    serving.peer.expect(BasicCancel)
    serving.peer.send(serving.number, BasicCancelOk(serving.tag))
    assert isinstance(success_of(serving.server.closed), ConsumerCancelled)
    serving.peer.expect(BasicNack(1, False, True))  # whoever gets it next replies again
    serving.peer.expect(ChannelClose, serving.number)
    result.callback(b"done")
    serving.reply()
    assert len(serving.client.publishers) == 1
    serving.confirm()
    serving.peer.expect(ChannelClose, serving.replies)
    assert serving.client.publishers == []


def test_closing_lets_a_request_be_answered() -> None:
    result: Deferred[bytes] = Deferred()
    serving = Serving(lambda delivery: result)
    serving.request()
    closed = serving.server.close()
    serving.peer.expect(BasicCancel)
    serving.peer.send(serving.number, BasicCancelOk(serving.tag))
    result.callback(b"done")
    serving.reply()
    assert is_pending(closed)
    serving.confirm()
    serving.acked()
    assert serving.replies in [heard.channel for heard in serving.peer.heard]  # closed, too
    success_of(closed)
    assert serving.server.replied == 1


@pytest.mark.parametrize(
    ("function", "options", "error"),
    [
        ("text", {}, TypeError),
        (upper, {"ack": "manual"}, InvalidParameter),
        (upper, {"batch": object()}, InvalidParameter),
        (upper, {"prefetch": 0}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused(function: Any, options: Any, error: type[Exception]) -> None:
    serving = Serving(upper)
    with pytest.raises(error):
        serving.client.serve("rpc", function, **options)
    serving.peer.expect_nothing()


def test_a_queue_that_is_missing_is_the_server_s_end() -> None:
    serving = Serving(upper)
    started = serving.client.serve("missing", upper)
    number = serving.peer.expect(ChannelOpen).channel
    serving.peer.send(number, ChannelOpenOk())
    serving.peer.heard.clear()
    serving.peer.send(number, BasicQosOk())
    publisher = serving.client.publishers[-1]
    assert isinstance(publisher, Publisher)
    serving.peer.send(number, ChannelClose(404, "NOT_FOUND - no queue 'missing' in vhost '/'", 60, 20))
    failure_of(started, NotFound)
    failure_of(publisher.publish(b""), NotPublished)


# --------------------------------------------------------------------------- functions that fail


def broken(delivery: Any) -> bytes:
    raise LookupError("no such thing")


def test_a_failure_is_told_to_who_has_asked_and_to_the_log(logged_errors: LoggedErrors) -> None:
    serving = Serving(broken)
    serving.request()
    reply = serving.reply()
    properties = reply.properties
    assert reply.body == b"no such thing"
    assert properties.headers == {"txamqpx-error": "LookupError"}
    assert (properties.content_type, properties.correlation_id) == ("text/plain", "7")
    serving.confirm()
    serving.acked()
    assert serving.server.failed == 1
    assert len(logged_errors.flush(LookupError)) == 1


def test_a_result_that_is_none_is_a_failure(logged_errors: LoggedErrors) -> None:
    serving = Serving(lambda delivery: 4)
    serving.request()
    assert serving.reply().body == b"a function returns bytes, a text or None, not int"
    assert len(logged_errors.flush(TypeError)) == 1


def test_a_function_may_choose_the_words() -> None:
    async def choosy(delivery: Any) -> bytes:
        raise RemoteError("NoSuchUser", "42")

    serving = Serving(choosy)
    serving.request()
    reply = serving.reply()
    assert ((reply.properties.headers or {})["txamqpx-error"], reply.body) == ("NoSuchUser", b"42")


def test_what_callers_are_told_can_be_chosen() -> None:
    told: list[Any] = []

    def describe(error: Exception, delivery: Any) -> RemoteError:
        told.append((type(error), delivery.body))
        return RemoteError("Failed")

    serving = Serving(broken, describe=describe)
    serving.request(b"x")
    reply = serving.reply()
    assert ((reply.properties.headers or {})["txamqpx-error"], reply.body) == ("Failed", b"")
    assert told == [(LookupError, b"x")]


def test_a_verdict_is_no_reply() -> None:
    def judge(delivery: Any) -> bytes:
        raise Reject("not mine")

    serving = Serving(judge)
    serving.request()
    serving.peer.expect(BasicReject(1, False))
    serving.peer.expect_nothing()


def test_describing_may_end_without_a_reply(logged_errors: LoggedErrors) -> None:
    def describe(error: Exception, delivery: Any) -> RemoteError:
        raise error

    serving = Serving(broken, describe=describe, on_error="requeue")
    serving.request()
    serving.peer.expect(BasicReject(1, True))
    serving.peer.expect_nothing()
    assert len(logged_errors.flush(LookupError)) == 1


def test_a_failure_that_nobody_can_be_told_of_is_the_consumer_s(logged_errors: LoggedErrors) -> None:
    serving = Serving(broken, on_error="reject")
    serving.request(reply_to=None)
    serving.peer.expect(BasicReject(1, False))
    assert len(logged_errors.flush(LookupError)) == 1
    assert serving.server.failed == 0


def test_a_function_that_is_cancelled_gives_no_reply() -> None:
    given_up: list[object] = []
    serving = Serving(lambda delivery: Deferred(given_up.append))
    serving.request()
    serving.server.close(timeout=2.0)
    serving.peer.expect(BasicCancel)
    serving.peer.send(serving.number, BasicCancelOk(serving.tag))
    serving.peer.advance(2.0)
    assert len(given_up) == 1
    serving.peer.expect(BasicNack(1, False, True))
    assert not any(isinstance(heard.method, BasicPublish) for heard in serving.peer.heard)


@pytest.mark.parametrize("closing", [False, True])
def test_a_function_that_cancels_something_itself_has_failed(
    logged_errors: LoggedErrors, closing: bool
) -> None:
    inner: Deferred[bytes] = Deferred()
    serving = Serving(lambda delivery: inner)
    serving.request()
    if closing:
        serving.server.close(timeout=2.0)
        serving.peer.expect(BasicCancel)
        serving.peer.send(serving.number, BasicCancelOk(serving.tag))
    inner.cancel()
    assert (serving.reply().properties.headers or {})["txamqpx-error"] == "CancelledError"
    serving.confirm()
    serving.acked()
    assert serving.server.failed == 1
    assert len(logged_errors.flush(CancelledError)) == 1


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), None])
def test_a_time_that_is_none_closes_nothing(timeout: Any) -> None:
    serving = Serving(lambda delivery: b"reply")
    with pytest.raises((InvalidParameter, TypeError)):
        serving.server.close(timeout)
    serving.request()
    assert serving.reply().body == b"reply"


# --------------------------------------------------------------------------- replies that nobody gets


@pytest.mark.covers("T-RPC-04")
def test_a_reply_to_who_has_gone_is_counted() -> None:
    serving = Serving(upper)
    serving.request()
    reply = serving.reply()
    back = BasicReturn(312, "NO_ROUTE", "", "back")
    serving.peer.send(serving.replies, back, reply.body, reply.properties)
    serving.confirm()
    serving.acked()
    assert (serving.server.replied, serving.server.undeliverable) == (0, 1)


def test_a_reply_that_a_full_queue_refuses_is_counted() -> None:
    serving = Serving(upper)
    serving.request()
    serving.reply()
    serving.peer.send(serving.replies, BasicNack(1, False, False))
    serving.acked()
    assert serving.server.undeliverable == 1


@pytest.mark.covers("T-RPC-04")
def test_a_direct_reply_is_not_mandatory() -> None:
    serving = Serving(upper)
    serving.request(reply_to=DIRECT)
    method = serving.reply().method
    assert (method.routing_key, method.mandatory) == (DIRECT, False)


def test_an_address_that_would_end_the_connection_gets_no_reply() -> None:
    serving = Serving(upper)
    serving.request(reply_to=FORGED)
    serving.acked()
    serving.peer.expect_nothing()
    assert serving.server.undeliverable == 1


def test_another_broker_may_have_other_addresses() -> None:
    serving = Serving(upper, product="another")
    serving.request(reply_to=FORGED)
    assert serving.reply().method.routing_key == FORGED


def test_an_address_that_cannot_be_written_gets_no_reply() -> None:
    serving = Serving(upper)
    serving.request(b"first")
    serving.reply()
    serving.confirm()
    serving.acked()
    properties = b"\x06\x00" + b"\x017" + b"\x01\xff"  # correlation id and reply to
    serving.requested = 2
    deliver_raw(serving.peer, serving.number, serving.tag, 2, properties)
    serving.acked()
    assert serving.server.undeliverable == 1


# --------------------------------------------------------------------------- replies that could not be sent


TOO_LARGE = "PRECONDITION_FAILED - message size 7 is larger than configured max size 5"


def close_replies(serving: Serving, text: str) -> None:
    index = BasicPublish.index
    close = ChannelClose(406 if "406" not in text else 403, text, index >> 16, index & 0xFFFF)
    serving.peer.send(serving.replies, close)
    serving.peer.expect(ChannelCloseOk)


def test_a_reply_that_the_broker_refuses_is_a_failure_to_who_has_asked() -> None:
    serving = Serving(upper)
    serving.request()
    serving.reply()
    close_replies(serving, TOO_LARGE)
    reply = serving.reply()
    assert (reply.properties.headers or {})["txamqpx-error"] == "ReplyRefused"
    assert b"larger than configured" in (reply.body or b"")
    serving.confirm()
    serving.acked()


def test_a_broker_that_refuses_even_that_leaves_it_to_the_consumer(logged_errors: LoggedErrors) -> None:
    serving = Serving(upper)
    serving.request()
    serving.reply()
    close_replies(serving, TOO_LARGE)
    size = len(serving.reply().body or b"")
    close_replies(serving, f"PRECONDITION_FAILED - message size {size} is larger than configured max size 5")
    serving.peer.expect(BasicReject(1, True))
    assert len(logged_errors.flush()) == 1


def test_a_request_whose_reply_is_in_doubt_is_given_to_somebody_again() -> None:
    serving = Serving(upper)
    serving.request()
    serving.reply()
    serving.peer.advance(40.0)
    serving.peer.expect(BasicNack(1, False, True))
    assert serving.server.replied == 0


def test_an_address_on_which_the_connection_died_is_not_used_again() -> None:
    serving = Serving(upper)
    serving.request(reply_to=DIRECT)
    serving.reply()
    serving.peer.send(0, ConnectionClose(541, "INTERNAL_ERROR", 0, 0))
    try:
        assert DIRECT in _DEADLY
        again = Serving(upper)
        again.request(reply_to=DIRECT, redelivered=True)
        again.acked()
        again.peer.expect_nothing()
        assert again.server.undeliverable == 1
    finally:
        _DEADLY.__init__()  # type: ignore[misc]


def test_a_queue_is_not_blamed_for_the_death_of_a_connection() -> None:
    serving = Serving(upper)
    serving.request()
    serving.reply()
    serving.peer.send(0, ConnectionClose(541, "INTERNAL_ERROR", 0, 0))
    assert "back" not in _DEADLY


# --------------------------------------------------------------------------- who waits


def looked(serving: Serving) -> int:
    lane = serving.peer.expect(ChannelOpen).channel
    serving.peer.send(lane, ChannelOpenOk())
    assert serving.peer.expect(QueueDeclare, lane).method.passive
    return lane


@pytest.mark.covers("T-RPC-04")
def test_a_request_for_which_nobody_waits_is_left_alone() -> None:
    seen: list[object] = []
    serving = Serving(seen.append, check_caller=True)
    serving.request()
    lane = looked(serving)
    serving.peer.send(lane, ChannelClose(404, "NOT_FOUND - no queue 'back' in vhost '/'", 50, 10))
    serving.peer.expect(ChannelCloseOk)
    serving.acked()
    assert (seen, serving.server.abandoned) == ([], 1)


@pytest.mark.covers("T-RPC-04")
def test_an_exclusive_queue_is_there() -> None:
    serving = Serving(upper, check_caller=True)
    serving.request()
    lane = looked(serving)
    locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'back' in vhost '/'"
    serving.peer.send(lane, ChannelClose(405, locked, 50, 10))
    serving.peer.expect(ChannelCloseOk)
    assert serving.reply().body == b"REQUEST"


@pytest.mark.covers("T-RPC-04")
def test_a_queue_that_is_there_is_there() -> None:
    serving = Serving(upper, check_caller=True)
    serving.request()
    serving.peer.send(looked(serving), QueueDeclareOk("back", 0, 1))
    assert serving.reply().body == b"REQUEST"


def test_an_address_that_would_end_the_connection_is_not_looked_for() -> None:
    seen: list[object] = []
    serving = Serving(seen.append, check_caller=True)
    serving.request(reply_to=FORGED)
    serving.acked()
    serving.peer.expect_nothing()
    assert (seen, serving.server.abandoned) == ([], 1)


def test_an_address_that_cannot_be_written_is_nobody_s() -> None:
    serving = Serving(upper, check_caller=True)
    deliver_raw(serving.peer, serving.number, serving.tag, 1, b"\x02\x00" + b"\x01\xff")
    serving.requested = 1
    serving.acked()
    assert serving.server.abandoned == 1


def test_a_request_without_an_address_is_looked_at() -> None:
    serving = Serving(upper, check_caller=True)
    serving.request(reply_to=None)
    serving.acked()


def test_several_requests_are_dealt_with_at_a_time() -> None:
    results: list[Deferred[bytes]] = [Deferred() for _ in range(3)]
    pending = iter(results)
    serving = Serving(lambda delivery: next(pending), concurrency=3)
    for number in range(3):
        serving.request(correlation_id=str(number))
    for number in (2, 0, 1):
        results[number].callback(b"done")
        assert serving.reply().properties.correlation_id == str(number)
        serving.confirm()
        serving.peer.expect(BasicAck(number + 1, False))
    assert serving.server.replied == 3
