"""Each rule of the lint beside what the broker does without it.

A request that the lint refuses is refused by the broker, always; what the broker refuses and the lint lets
through is only what depends on more than the request.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.brokers_plugin import Vhost
from tests.integration.lint_cases import CASES, Case, Error
from tests.integration.support import (
    Connector,
    Inbox,
    depth,
    fill,
    is_since,
    outcomes,
    protocol_of,
    release_of,
    streaming,
)
from txamqpx import lint
from txamqpx.channel import Channel
from txamqpx.errors import AMQPError, AMQPNotImplemented, TopologyError
from txamqpx.spec.amqp0_9_1 import BasicConsume, BasicGet, BasicQos, QueueDeclare
from txamqpx.spec.base import Request


def send(channel: Channel, request: Request[Any]) -> Deferred[Any]:
    """Send a request by the channel's call for it, where only that may."""
    if isinstance(request, BasicConsume):
        return channel.basic_consume(
            request.queue, Inbox(), no_ack=request.no_ack, arguments=request.arguments
        )
    if isinstance(request, BasicGet):
        return channel.basic_get(request.queue)
    return channel.call(request)


async def outcome(channel: Channel, request: Request[Any]) -> Error:
    """Return how the broker refuses a request, or None."""
    (result,) = await outcomes([send(channel, request)])
    return type(result) if isinstance(result, AMQPError) else None


def verdict(case: Case, version: tuple[int, ...] | None) -> list[str] | None:
    """Return the lint's warnings, or None if it refuses."""
    try:
        return lint.check(
            case.request, version, queue_type=case.queue_type, prefetch_count=case.prefetch_count
        )
    except TopologyError:
        return None


async def disagreement(case: Case, connect: Connector, release: str) -> str | None:
    """Return in what the broker, the lint and the table are not of one mind."""
    channel = await connect.channel()
    if case.queue_type is not None:
        await channel.queue_declare("jobs", durable=True, arguments={"x-queue-type": case.queue_type})
    await channel.basic_qos(case.prefetch_count)
    answer = await outcome(channel, case.request)
    await clean(channel if channel.is_open else await connect.channel())
    warnings = verdict(case, release_of(connect.vhost.node))
    expected = case.new if release == "4.3" else case.old
    if answer is not expected:
        return f"{case}: the broker says {answer}"
    if (warnings is None) is not (expected is not None and release not in case.silent.split()):
        return f"{case}: the lint says {warnings}"
    if warnings is not None and bool(warnings) is not (release in case.warned.split()):
        return f"{case}: the lint warns of {warnings}"
    return None


async def clean(channel: Channel) -> None:
    """Leave nothing behind for the next case."""
    for queue in ("jobs", "twolines", "x" * 255, "a\0b"):
        await channel.queue_delete(queue)
    for exchange in ("events", "twolines"):
        await channel.exchange_delete(exchange)
    await protocol_of(channel).close()


@pytest.mark.parametrize("subject", CASES)
@pytest_twisted.ensureDeferred
async def test_the_lint_and_the_broker_agree_on(subject: str, vhost: Vhost, connect: Connector) -> None:
    release = "4.3" if is_since(vhost.node, "4.3") else "3.10"
    cases = [case for case in CASES[subject] if vhost.node.has_streams or not case.is_about_streams]
    found = [await disagreement(case, connect, release) for case in cases]
    assert [sentence for sentence in found if sentence] == []


@pytest.mark.parametrize("subject", CASES)
def test_of_an_unknown_release_only_what_all_refuse_is_refused(subject: str) -> None:
    refused = [case for case in CASES[subject] if verdict(case, None) is None]
    assert [case for case in refused if case.old is None or case.new is None] == []


# --------------------------------------------------------------------------- what is only warned of


@pytest.mark.covers("T-QOS-02")
@pytest_twisted.ensureDeferred
async def test_a_limit_for_the_whole_channel(vhost: Vhost, channel: Channel) -> None:
    """Before 4.3 it is one for all consumers; since then each consumer has it for itself."""
    for name in ("a", "b"):
        await fill(channel, name, [b"1", b"2"])
    await channel.basic_qos(1, global_=True)
    inbox = Inbox()
    for name in ("a", "b"):
        await channel.basic_consume(name, inbox)
    for name in ("a", "b", "a", "b"):
        await depth(channel, name)
    version = release_of(vhost.node)
    request = BasicQos(0, 1, True)
    since = is_since(vhost.node, "4.3")
    assert len(inbox.got) == (2 if since else 1)
    assert bool(lint.check(request, version)) is since
    assert lint.check(request, version, allow_deprecated=True) == []
    if since:
        with pytest.raises(TopologyError, match="for each consumer"):
            lint.check(request, version, allow_deprecated=False)


@pytest.mark.covers("T-QOS-02")
@pytest_twisted.ensureDeferred
async def test_a_quorum_queue_and_a_limit_for_the_whole_channel(vhost: Vhost, channel: Channel) -> None:
    await channel.queue_declare("jobs", durable=True, arguments={"x-queue-type": "quorum"})
    await channel.basic_qos(1, global_=True)
    answer = await outcome(channel, BasicConsume("jobs"))
    request = BasicQos(0, 1, True)
    if is_since(vhost.node, "4.3"):
        assert answer is None
        assert len(lint.check(request, release_of(vhost.node), queue_type="quorum")) == 1
    else:
        assert answer is AMQPNotImplemented
        with pytest.raises(TopologyError, match="quorum"):
            lint.check(request, release_of(vhost.node), queue_type="quorum")


@pytest_twisted.ensureDeferred
async def test_a_quorum_queue_drops_what_it_should_refuse(channel: Channel) -> None:
    """It does not know reject-publish-dlx, and does not say so."""
    arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish-dlx"}
    await fill(channel, "jobs", [b"1", b"2", b"3", b"4", b"5"], arguments)
    assert await depth(channel, "jobs") == 1


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
@pytest_twisted.ensureDeferred
async def test_of_a_queue_that_is_there_foreign_arguments_are_ignored(
    vhost: Vhost, channel: Channel, kind: str
) -> None:
    """The lint refuses them nevertheless: on a broker without that queue they would be refused."""
    if kind == "stream":
        streaming(vhost.node)
    own = {"x-queue-type": kind}
    foreign = {"x-max-age": "1h"} if kind == "classic" else {"x-max-priority": 5}
    await channel.queue_declare("jobs", durable=True, arguments=own)
    again = QueueDeclare("jobs", durable=True, arguments=own | foreign)
    assert await outcome(channel, again) is None
    with pytest.raises(TopologyError, match="has no such argument"):
        lint.check(again)


@pytest_twisted.ensureDeferred
async def test_a_queue_from_before_4_3_is_declared_as_it_was(channel: Channel) -> None:
    """Its type has lost an argument since, so that is no more than a warning."""
    await channel.queue_declare("jobs", durable=True)
    as_ever = QueueDeclare(
        "jobs", durable=True, arguments={"x-queue-type": "classic", "x-consumer-timeout": 60_000}
    )
    assert await outcome(channel, as_ever) is None
    assert len(lint.check(as_ever, (4, 3, 6))) == 1


@pytest_twisted.ensureDeferred
async def test_the_broker_takes_line_breaks_out_of_names(channel: Channel) -> None:
    assert (await channel.queue_declare("two\r\nlines", exclusive=True)).queue == "twolines"
    await channel.exchange_declare("two\nlines")
    await channel.exchange_declare("twolines", passive=True)
