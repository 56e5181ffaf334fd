"""What a client has for asking and serving."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.rpc.asking import Asking
from tests.rpc.serving import Serving
from tests.talk import elsewhere
from txamqpx.spec.amqp0_9_1 import BasicCancel, BasicCancelOk, ChannelClose, ConnectionClose
from txamqpx.testing import is_pending, success_of


def test_all_calls_of_a_client_are_of_one_caller() -> None:
    asking = Asking()
    calls = [asking.client.call("rpc", b"one", priority=1), asking.client.call("rpc", b"two", timeout=1.0)]
    asking.open()
    requests = [asking.request() for _ in calls]
    assert [request.body for request in requests] == [b"one", b"two"]
    assert [request.properties.priority for request in requests] == [1, None]
    assert [request.properties.expiration for request in requests] == ["30000", "1000"]
    for call, request in zip(calls, requests, strict=True):
        asking.reply(request)
        success_of(call)
    asking.peer.expect_nothing()
    assert len(asking.client.publishers) == 2  # that of the test, and that of the client


def test_a_caller_is_among_what_an_operation_waits_for() -> None:
    asking = Asking()
    asking.caller.call("rpc")
    flushed = asking.client.flush()
    asking.open()
    asking.request()
    assert is_pending(flushed)
    asking.confirm()
    success_of(flushed)


def test_a_caller_that_is_over_is_not_kept() -> None:
    asking = Asking()
    other = asking.client.caller(reply_queue=True)
    assert asking.client.publishers == [asking.caller, other]
    success_of(other.close())
    assert asking.client.publishers == [asking.caller]
    asking.peer.hang_up()
    assert asking.client.publishers == []


def test_a_client_that_is_closed_waits_for_replies_and_ends_its_caller() -> None:
    asking = Asking()
    call = asking.client.call("rpc")
    asking.open()
    request = asking.request()
    closed = asking.client.close()
    asking.peer.expect_nothing()
    asking.reply(request)
    success_of(call)
    asking.peer.expect(ChannelClose)
    asking.peer.expect(ConnectionClose)
    success_of(closed)


def test_a_client_that_is_closed_lets_a_server_reply() -> None:
    serving = Serving(lambda delivery: result)
    result: Deferred[bytes] = Deferred()
    serving.request()
    closed = serving.client.close()
    serving.peer.expect(BasicCancel)
    serving.peer.send(serving.number, BasicCancelOk(serving.tag))
    result.callback(b"done")
    assert serving.reply().body == b"done"
    serving.confirm()
    serving.acked()
    success_of(closed)


def test_a_call_on_a_foreign_thread_is_refused_before_anything_is_noted() -> None:
    asking = Asking()
    assert "outside the reactor's thread" in str(elsewhere(lambda: asking.caller.call("rpc")))
    assert asking.caller.outstanding == 0
    success_of(asking.caller.flush())
    asking.peer.expect_nothing()
