"""Connections to a real broker through a network that cuts, stalls and crumbles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.faults import Ending, FaultProxy
from tests.integration.support import (
    Connector,
    Inbox,
    Recorder,
    all_of,
    failure_of,
    fill,
    outcomes,
    pause,
    soon,
    until,
)
from txamqpx.channel import Channel
from txamqpx.endpoints import connect_protocol
from txamqpx.errors import (
    AMQPError,
    Closed,
    ConnectionClosed,
    ConnectionLost,
    NotPublished,
    OutboxFull,
    OutcomeUnknown,
    ProbableAuthenticationError,
    VhostAccessDenied,
)
from txamqpx.message import Confirmed
from txamqpx.protocol.frames import METHOD, OVERHEAD, frame
from txamqpx.spec.amqp0_9_1 import ConnectionOpen, ConnectionTuneOk


@pytest.fixture
def proxy(vhost: Vhost, fault_proxy: Callable[[int], FaultProxy]) -> FaultProxy:
    """Stand between the test and the broker."""
    return fault_proxy(vhost.node.ports["amqp"])


@pytest.fixture
def url(vhost: Vhost, proxy: FaultProxy) -> str:
    """Return the URL that leads through the proxy."""
    return vhost.url.replace(f":{proxy.target}/", f":{proxy.port}/")


# --------------------------------------------------------------------------- cut


@pytest.mark.covers("T-HS-05", "T-HS-09", "T-HS-10")
@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_cut_anywhere_fails_by_name(
    proxy: FaultProxy, url: str, ending: Ending
) -> None:
    whole = await soon(connect_protocol(url))
    (link,) = proxy.links
    up, down = link.client.passed, link.broker.passed
    await whole.close()
    for limits in (
        *({"up": octets} for octets in (1, 7, 8, 9, up // 2, up - 40, up - 1)),
        *({"down": octets} for octets in (1, 7, 8, down // 2, down - 21, down - 1)),
    ):
        proxy.cut_after(**limits, ending=ending)
        error = await failure_of(connect_protocol(url), AMQPError)
        assert isinstance(error, ConnectionLost | VhostAccessDenied), (limits, error)
        assert error.__cause__ is not None
    proxy.cut_after()
    await (await soon(connect_protocol(url))).close()


@pytest.mark.covers("T-HS-05")
@pytest_twisted.ensureDeferred
async def test_a_cut_after_the_login_is_most_likely_a_refusal(
    vhost: Vhost, proxy: FaultProxy, url: str
) -> None:
    """A broker that cannot say so hangs up at this very place."""
    whole = await soon(connect_protocol(url))
    (link,) = proxy.links
    behind = frame(METHOD, 0, ConnectionTuneOk(0, 0, 0).encode() + ConnectionOpen(vhost.name).encode())
    proxy.cut_after(up=link.client.passed - len(behind) - OVERHEAD)
    await whole.close()
    error = await failure_of(connect_protocol(url), ProbableAuthenticationError)
    assert not error.retryable


@pytest.mark.covers("T-PUB-08", "T-CLS-05", "T-CLS-07")
@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest_twisted.ensureDeferred
async def test_a_cut_ends_everything_that_waits_once(
    connect: Connector, proxy: FaultProxy, url: str, told: Recorder, ending: Ending
) -> None:
    protocol = await connect(url=url, delegate=told)
    channels = await all_of(protocol.open_channel() for _ in range(5))
    over = protocol.when_closed()
    for channel in channels:
        await channel.confirm_select()
    proxy.stall()
    sent = [channel.basic_publish(b"", routing_key="jobs") for channel in channels for _ in range(20)]
    calls: list[Deferred[Any]] = []
    for channel in channels:
        calls += [channel.queue_declare(f"jobs {number}", exclusive=True) for number in range(20)]
        calls += [channel.basic_consume("jobs", Inbox()), channel.basic_get("jobs")]
        calls += [channel.wait_for_confirms(), protocol.open_channel()]
    closing = channels[0].close()
    proxy.cut(ending)
    reason = await soon(over)
    assert isinstance(reason, ConnectionLost)
    assert reason.retryable
    assert {type(outcome) for outcome in await outcomes(sent)} <= {OutcomeUnknown, NotPublished}
    for error in await outcomes(calls):
        assert error is None or isinstance(error, Closed)
    await outcomes([closing])
    await told.next("connection_closed")
    assert told.names().count("channel_closed") == 10
    assert told.names()[-1] == "connection_closed"


@pytest.mark.covers("T-PUB-08")
@pytest_twisted.ensureDeferred
async def test_what_a_cut_says_of_each_message_is_true(
    connect: Connector, channel: Channel, proxy: FaultProxy, url: str
) -> None:
    """Confirmed is there, not published is not there, and of the rest nobody knows."""
    await fill(channel, "jobs", [])
    there = Inbox()
    await channel.basic_consume("jobs", there, no_ack=True)
    protocol = await connect(url=url)
    publisher = await protocol.open_channel()
    await publisher.confirm_select()
    sent = [publisher.basic_publish(str(n).encode() * 50, routing_key="jobs") for n in range(2000)]
    await until(lambda: sum(deferred.called for deferred in sent) >= 50)
    proxy.cut()
    sent += [publisher.basic_publish(str(n).encode() * 50, routing_key="jobs") for n in range(2000, 4000)]
    results = await outcomes(sent)
    assert {type(result) for result in results} <= {Confirmed, OutcomeUnknown, NotPublished}
    # Whatever the broker read before the cut is in the queue when the queue answers.
    await channel.queue_declare("jobs", passive=True)
    await channel.queue_declare("jobs", passive=True)
    bodies = set(there.bodies)
    for number, result in enumerate(results):
        if not isinstance(result, OutcomeUnknown):
            assert (str(number).encode() * 50 in bodies) == isinstance(result, Confirmed), number


# --------------------------------------------------------------------------- stalled


@pytest.mark.covers("T-BLK-03", "T-PUB-15", "T-HB-05")
@pytest_twisted.ensureDeferred
async def test_a_stalled_line_holds_publishers_back_and_loses_nothing(
    connect: Connector, channel: Channel, proxy: FaultProxy, url: str
) -> None:
    await fill(channel, "jobs", [])
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, no_ack=True)
    protocol = await connect(url=url)
    publisher = await protocol.open_channel()
    proxy.stall()
    sent = []
    body = b"x" * 100_000
    while protocol.writable:
        sent.append(publisher.basic_publish(body, routing_key="jobs"))
        await pause(0)
    waiting = publisher.basic_publish(b"last", routing_key="jobs")
    assert not waiting.called
    proxy.resume()
    await soon(waiting)
    await all_of(sent)
    await inbox.take(len(sent) + 1)
    assert inbox.bodies == [*[body] * len(sent), b"last"]


@pytest.mark.covers("T-BLK-03", "T-PUB-02")
@pytest_twisted.ensureDeferred
async def test_no_more_waits_than_may(
    connect: Connector, channel: Channel, proxy: FaultProxy, url: str
) -> None:
    await fill(channel, "jobs", [])
    protocol = await connect(url=url, max_outbox=2**20)
    publisher = await protocol.open_channel()
    await publisher.confirm_select()
    proxy.stall()
    sent: list[Deferred[Any]] = []
    while not (sent and sent[-1].called):
        sent.append(publisher.basic_publish(b"x" * 10_000, routing_key="jobs"))
        if len(sent) % 10 == 0:
            await pause(0)
    await failure_of(sent.pop(), OutboxFull)
    assert publisher.unconfirmed == len(sent)
    proxy.resume()
    assert all(isinstance(outcome, Confirmed) for outcome in await all_of(sent))
    (answer,) = await outcomes([publisher.queue_declare("jobs", passive=True)])
    assert answer.message_count == len(sent)


@pytest.mark.covers("S43", "T-CLS-01")
@pytest_twisted.ensureDeferred
async def test_a_close_over_a_stalled_line_ends(connect: Connector, proxy: FaultProxy, url: str) -> None:
    protocol = await connect(url=url, close_timeout=0.2)
    channel = await protocol.open_channel()
    proxy.stall()
    waiting = channel.queue_declare("jobs", exclusive=True)
    await soon(protocol.close())
    await failure_of(waiting, ConnectionClosed)
    proxy.resume()


# --------------------------------------------------------------------------- crumbled


@pytest.mark.covers("S48", "T-FR-04")
@pytest.mark.parametrize("longest", [1, 7, 1000])
@pytest_twisted.ensureDeferred
async def test_a_whole_session_in_small_pieces(
    connect: Connector, proxy: FaultProxy, url: str, longest: int
) -> None:
    proxy.shred(longest)
    protocol = await connect(url=url)
    channel = await protocol.open_channel()
    await channel.confirm_select()
    await channel.queue_declare("jobs", exclusive=True)
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox)
    bodies = [b"", b"x", *(bytes(range(256)) * count for count in range(min(longest, 50)))]
    sent = [channel.basic_publish(body, routing_key="jobs", mandatory=True) for body in bodies]
    lost = channel.basic_publish(b"lost", routing_key="nowhere", mandatory=True)
    assert all(isinstance(outcome, Confirmed) for outcome in await all_of(sent))
    error = await failure_of(lost)
    assert error.message.body == b"lost"
    for delivery in await inbox.take(len(bodies)):
        delivery.ack()
    assert inbox.bodies == bodies
    await channel.close()
    await protocol.close()
