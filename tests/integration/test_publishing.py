"""What becomes of each message that is published to a real broker."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from tests.integration.support import (
    PERSISTENT,
    Connector,
    Inbox,
    Recorder,
    all_of,
    another,
    depth,
    drain,
    failure_of,
    fill,
    get,
    headers_of,
    outcomes,
    soon,
)
from txamqpx.channel import Channel
from txamqpx.errors import (
    AccessRefused,
    EncodeError,
    LocalProtocolError,
    Nacked,
    NoRoute,
    NotFound,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
)
from txamqpx.message import Confirmed
from txamqpx.spec.amqp0_9_1 import BasicProperties

# --------------------------------------------------------------------------- confirmed


@pytest.mark.covers("S35")
@pytest_twisted.ensureDeferred
async def test_a_publish_without_confirms_fires_when_it_is_written(channel: Channel) -> None:
    await channel.queue_declare("jobs", exclusive=True)
    assert await channel.basic_publish(b"one", routing_key="jobs") is None
    assert channel.next_publish_seq_no == 0
    assert await depth(channel, "jobs") == 1


@pytest.mark.covers("S35", "T-PUB-01")
@pytest_twisted.ensureDeferred
async def test_numbers_begin_with_the_first_publish_after_the_select(channel: Channel) -> None:
    """Not with those before it, and not with its answer."""
    await channel.queue_declare("jobs", exclusive=True)
    before = [channel.basic_publish(b"unnumbered", routing_key="jobs") for _ in range(3)]
    selected = channel.confirm_select()
    after = [channel.basic_publish(b"numbered", routing_key="jobs") for _ in range(3)]
    assert channel.next_publish_seq_no == 4
    assert await all_of(before) == [None, None, None]
    confirmed = await all_of(after)
    assert all(isinstance(outcome, Confirmed) and 1 <= outcome.delivery_tag <= 3 for outcome in confirmed)
    await selected
    assert channel.unconfirmed == 0
    assert await depth(channel, "jobs") == 6


@pytest.mark.covers("T-PUB-03", "T-PUB-14")
@pytest_twisted.ensureDeferred
async def test_ten_thousand_in_flight_are_each_confirmed_once(connect: Connector, told: Recorder) -> None:
    channel = await connect.channel(delegate=told, confirms=True)
    await channel.queue_declare("jobs", durable=True)
    sent = [
        channel.basic_publish(str(number).encode(), routing_key="jobs", properties=PERSISTENT, mandatory=True)
        for number in range(10_000)
    ]
    confirmed = await all_of(sent)
    assert all(isinstance(outcome, Confirmed) for outcome in confirmed)
    assert (channel.next_publish_seq_no, channel.unconfirmed) == (10_001, 0)
    assert await depth(channel, "jobs") == 10_000
    # The broker's own words, each number covered once: what "multiple" stands for is no number of its own.
    covered: set[int] = set()
    for _, tag, multiple in (fact for fact in told.told if fact[0] == "publish_confirmed"):
        fresh = {*range(1, tag + 1)} - covered if multiple else {tag}
        assert fresh
        assert not fresh & covered
        covered |= fresh
    assert covered == {*range(1, 10_001)}


@pytest_twisted.ensureDeferred
async def test_waiting_for_all_confirms(publisher: Channel) -> None:
    await publisher.queue_declare("jobs", exclusive=True)
    await soon(publisher.wait_for_confirms())
    sent = [publisher.basic_publish(b"", routing_key="jobs") for _ in range(100)]
    lost = publisher.basic_publish(b"", routing_key="nowhere", mandatory=True)
    await soon(publisher.wait_for_confirms(timeout=60))
    assert publisher.unconfirmed == 0
    assert all(deferred.called for deferred in [*sent, lost])
    await failure_of(lost, NoRoute)


@pytest.mark.covers("S11")
@pytest_twisted.ensureDeferred
async def test_the_delivery_mode_is_there_only_if_it_was_set(publisher: Channel) -> None:
    await publisher.queue_declare("jobs", exclusive=True)
    for mode in (None, 2, 1):
        await publisher.basic_publish(b"", routing_key="jobs", properties=BasicProperties(delivery_mode=mode))
    for mode in (None, 2, 1):
        delivery = await get(publisher, "jobs")
        assert delivery.properties.delivery_mode == mode


@pytest.mark.covers("T-PUB-13", "T-CH-08")
@pytest_twisted.ensureDeferred
async def test_what_is_called_first_happens_first(publisher: Channel) -> None:
    """A declare that nobody waited for comes before the publish that needs it."""
    calls: list[Deferred[Any]] = []
    for number in range(50):
        name = f"jobs {number}"
        calls += [
            publisher.queue_declare(name, exclusive=True),
            publisher.basic_publish(b"in time", routing_key=name, mandatory=True),
            publisher.queue_delete(name),
            publisher.basic_publish(b"late", routing_key=name, mandatory=True),
        ]
    results = await outcomes(calls)
    assert all(isinstance(result, Confirmed) for result in results[1::4])
    assert [result.message_count for result in results[2::4]] == [1] * 50
    assert all(isinstance(result, NoRoute) for result in results[3::4])


# --------------------------------------------------------------------------- what comes back


@pytest.mark.covers("S08", "T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_a_mandatory_message_without_a_queue_comes_back_whole(publisher: Channel) -> None:
    properties = BasicProperties(headers={"a": [1, None]}, message_id="m1", priority=0)
    error = await failure_of(
        publisher.basic_publish(b"body", routing_key="jobs", properties=properties, mandatory=True), NoRoute
    )
    assert (error.reply_code, error.reply_text, error.exchange, error.routing_key) == (
        *(312, "NO_ROUTE", "", "jobs"),
    )
    assert (error.message.body, error.message.properties) == (b"body", properties)
    await publisher.queue_declare("jobs", exclusive=True)
    again = publisher.basic_publish(b"body", routing_key="jobs", properties=properties, mandatory=True)
    assert isinstance(await again, Confirmed)


@pytest_twisted.ensureDeferred
async def test_a_return_without_confirms_is_told_to_the_delegate(channel: Channel, told: Recorder) -> None:
    assert await channel.basic_publish(b"body", routing_key="jobs", mandatory=True) is None
    (message,) = await told.next("message_returned")
    assert (message.reply_code, message.routing_key, message.body) == (312, "jobs", b"body")


@pytest.mark.covers("S09", "T-PUB-04", "F11")
@pytest_twisted.ensureDeferred
async def test_each_return_finds_its_publish(publisher: Channel) -> None:
    """Returns come before the confirm, which may cover the neighbours as well."""
    await publisher.queue_declare("jobs", exclusive=True)
    sent = [
        publisher.basic_publish(
            str(number).encode(), routing_key="nowhere" if number % 3 == 2 else "jobs", mandatory=True
        )
        for number in range(300)
    ]
    for number, outcome in enumerate(await outcomes(sent)):
        if number % 3 == 2:
            assert isinstance(outcome, NoRoute)
            assert outcome.message.body == str(number).encode()
        else:
            assert isinstance(outcome, Confirmed)
    assert await depth(publisher, "jobs") == 200


@pytest.mark.covers("T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_returns_under_one_routing_key_are_told_apart_by_their_bodies(publisher: Channel) -> None:
    """The key's binding comes and goes, so that only some of the equally addressed are routed."""
    await publisher.exchange_declare("events", "direct")
    await publisher.queue_declare("jobs", exclusive=True)
    sent: list[Deferred[Any]] = []
    for number in range(0, 40, 4):
        bodies = [str(number + step).encode() for step in range(4)]
        publisher.queue_bind("jobs", "events", "key")
        sent += [
            publisher.basic_publish(body, exchange="events", routing_key="key", mandatory=True)
            for body in bodies[:2]
        ]
        publisher.queue_unbind("jobs", "events", "key")
        sent += [
            publisher.basic_publish(body, exchange="events", routing_key="key", mandatory=mandatory)
            for body, mandatory in zip(bodies[2:], (True, False), strict=True)
        ]
    for number, outcome in enumerate(await outcomes(sent)):
        assert isinstance(outcome, NoRoute if number % 4 == 2 else Confirmed), number
    assert len(await drain(publisher, "jobs")) == 20


@pytest.mark.covers("T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_of_messages_equal_in_everything_as_many_fail_as_came_back(publisher: Channel) -> None:
    await publisher.queue_declare("jobs", exclusive=True)
    sent: list[Deferred[Any]] = []
    for bound in (True, False, True):
        publisher.queue_declare("jobs", exclusive=True) if bound else publisher.queue_delete("jobs")
        sent.append(publisher.basic_publish(b"same", routing_key="jobs", mandatory=True))
    kinds = sorted(type(outcome).__name__ for outcome in await outcomes(sent))
    assert kinds == ["Confirmed", "Confirmed", "NoRoute"]


@pytest.mark.covers("T-FR-01")
@pytest_twisted.ensureDeferred
async def test_an_empty_message_comes_back_too(publisher: Channel) -> None:
    error = await failure_of(publisher.basic_publish(b"", routing_key="nowhere", mandatory=True), NoRoute)
    assert error.message.body == b""


@pytest.mark.covers("T-PUB-05")
@pytest_twisted.ensureDeferred
async def test_what_mandatory_does_not_cover(publisher: Channel) -> None:
    """An alternate exchange counts as a route, and who does not ask is not told."""
    await publisher.exchange_declare("rest", "fanout")
    await publisher.queue_declare("rest", exclusive=True)
    await publisher.queue_bind("rest", "rest")
    await publisher.exchange_declare("events", "direct", arguments={"alternate-exchange": "rest"})
    routed = publisher.basic_publish(b"other", exchange="events", routing_key="?", mandatory=True)
    assert isinstance(await routed, Confirmed)
    assert await drain(publisher, "rest") == [b"other"]
    assert isinstance(await publisher.basic_publish(b"gone", routing_key="nowhere"), Confirmed)


# --------------------------------------------------------------------------- refused by a queue


@pytest.mark.covers("S10", "T-PUB-06", "F11")
@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses_and_nothing_else_suffers(connect: Connector, told: Recorder) -> None:
    channel = await connect.channel(delegate=told, confirms=True)
    await channel.queue_declare(
        "one", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    assert isinstance(await channel.basic_publish(b"first", routing_key="one"), Confirmed)
    error = await failure_of(channel.basic_publish(b"second", routing_key="one"), Nacked)
    assert error.retryable
    await told.next("publish_nacked")
    crowd = [channel.basic_publish(b"crowd", routing_key="one") for _ in range(20)]
    assert {type(outcome) for outcome in await outcomes(crowd)} == {Nacked}
    assert await drain(channel, "one") == [b"first"]
    assert isinstance(await channel.basic_publish(b"third", routing_key="one"), Confirmed)


# --------------------------------------------------------------------------- culprits and innocents


@pytest.mark.covers("S06", "S45", "T-PUB-07", "T-PUB-10", "T-CH-11", "T-CH-12")
@pytest_twisted.ensureDeferred
async def test_a_missing_exchange_fails_its_own_publish(publisher: Channel, channel: Channel) -> None:
    """Twice, on two channels; consumers and calls on others go on."""
    await fill(channel, "jobs", [])
    inbox = Inbox()
    await channel.basic_consume("jobs", inbox, no_ack=True)
    for _ in range(2):
        doomed = await another(channel, confirms=True)
        error = await failure_of(doomed.basic_publish(b"", exchange="missing", mandatory=True), NotFound)
        assert (error.reply_code, error.class_id, error.method_id) == (404, 60, 40)
        assert (error.operation, error.exchange, error.by_peer) == ("basic.publish", "missing", True)
        ended = await soon(doomed.when_closed())
        assert isinstance(ended, NotFound)
        assert ended is not error
        assert not doomed.is_open
    await publisher.basic_publish(b"alive", routing_key="jobs", mandatory=True)
    assert [delivery.body for delivery in await inbox.take()] == [b"alive"]


@pytest.mark.covers("T-PUB-07", "T-PUB-10", "T-CH-12")
@pytest_twisted.ensureDeferred
async def test_one_culprit_and_many_innocents(publisher: Channel, channel: Channel) -> None:
    await fill(channel, "jobs", [])
    before = [publisher.basic_publish(b"before", routing_key="jobs") for _ in range(20)]
    culprit = publisher.basic_publish(b"culprit", exchange="missing", routing_key="jobs")
    after = [publisher.basic_publish(b"after", routing_key="jobs") for _ in range(20)]
    declared = publisher.queue_declare("never", exclusive=True)
    results = await outcomes([*before, culprit, *after])
    assert {type(outcome) for outcome in results[:20]} <= {Confirmed, OutcomeUnknown}
    assert type(results[20]) is NotFound
    assert {type(outcome) for outcome in results[21:]} == {NotPublished}
    errors = [outcome for outcome in results if isinstance(outcome, Exception)]
    assert len({id(error) for error in errors}) == len(errors)
    assert all(isinstance(error.__cause__, NotFound) for error in errors if error is not results[20])
    error = await failure_of(declared)
    assert error.retryable
    # Certainly not there, it said.
    assert await drain(channel, "jobs") == [b"before"] * 20


@pytest.mark.covers("T-PUB-10")
@pytest_twisted.ensureDeferred
async def test_a_publish_on_a_channel_that_is_gone_fails_at_once(publisher: Channel) -> None:
    await failure_of(publisher.basic_publish(b"", exchange="missing"), NotFound)
    again = publisher.basic_publish(b"", routing_key="jobs")
    assert again.called
    error = await failure_of(again, NotFound)
    assert error.exchange == "missing"
    other = await another(publisher)
    assert await other.basic_publish(b"", routing_key="jobs") is None


def others(name: str) -> BasicProperties:
    """Return properties that RabbitMQ does not accept."""
    return {
        "user_id": BasicProperties(user_id="somebody else"),
        "cc": BasicProperties(headers={"CC": "no list"}),
        "bcc": BasicProperties(headers={"BCC": 1}),
    }[name]


@pytest.mark.covers("T-PUB-11")
@pytest.mark.parametrize("wrong", ["user_id", "cc", "bcc"])
@pytest_twisted.ensureDeferred
async def test_properties_that_the_broker_refuses(publisher: Channel, channel: Channel, wrong: str) -> None:
    await fill(channel, "jobs", [])
    good = publisher.basic_publish(b"good", routing_key="jobs")
    bad = publisher.basic_publish(b"bad", routing_key="jobs", properties=others(wrong))
    rest = publisher.basic_publish(b"rest", routing_key="jobs")
    first, second, third = await outcomes([good, bad, rest])
    assert isinstance(first, Confirmed | OutcomeUnknown)
    assert isinstance(third, NotPublished | OutcomeUnknown)
    reason = await soon(publisher.when_closed())
    assert isinstance(reason, PreconditionFailed)
    assert reason.operation == "basic.publish"
    # The reply text names a wrong user and nothing else, so that nobody else can be told apart.
    assert isinstance(second, PreconditionFailed if wrong == "user_id" else OutcomeUnknown)
    assert b"bad" not in await drain(channel, "jobs")


@pytest.mark.covers("T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_a_lone_publish_is_always_the_culprit(publisher: Channel) -> None:
    error = await failure_of(publisher.basic_publish(b"", properties=others("cc")), PreconditionFailed)
    assert "CC" in error.reply_text


@pytest.mark.covers("T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_the_own_user_and_further_keys_are_accepted(publisher: Channel) -> None:
    for name in ("to", "copy", "blind"):
        await publisher.queue_declare(name, exclusive=True)
    properties = BasicProperties(user_id="guest", headers={"CC": ["copy"], "BCC": ["blind"]})
    await publisher.basic_publish(b"", routing_key="to", properties=properties, mandatory=True)
    for name in ("to", "copy", "blind"):
        delivery = await get(publisher, name)
        assert delivery.properties == BasicProperties(user_id="guest", headers={"CC": ["copy"]})


@pytest.mark.covers("T-PUB-04")
@pytest_twisted.ensureDeferred
async def test_a_return_without_its_blind_copies_still_finds_its_publish(publisher: Channel) -> None:
    """The broker takes BCC out, so that the properties come back changed."""
    sent = [
        publisher.basic_publish(
            b"", routing_key="nowhere", properties=BasicProperties(headers={"BCC": [name]}), mandatory=True
        )
        for name in ("a", "b")
    ]
    assert [type(outcome) for outcome in await outcomes(sent)] == [NoRoute, NoRoute]


@pytest.mark.covers("T-PUB-10")
@pytest_twisted.ensureDeferred
async def test_an_internal_exchange_refuses(publisher: Channel, channel: Channel) -> None:
    await channel.exchange_declare("inner", "fanout", internal=True)
    sent = [publisher.basic_publish(b"", exchange=name) for name in ("amq.fanout", "inner", "amq.fanout")]
    first, second, third = await outcomes(sent)
    assert isinstance(first, Confirmed | OutcomeUnknown)
    assert isinstance(second, AccessRefused)
    assert isinstance(third, NotPublished)
    assert second.exchange == "inner"


# --------------------------------------------------------------------------- refused by ourselves


@pytest.mark.covers("T-PUB-02", "T-PUB-11", "T-FR-02", "T-FR-08")
@pytest_twisted.ensureDeferred
async def test_what_does_not_fit_leaves_no_trace(publisher: Channel) -> None:
    await publisher.queue_declare("jobs", exclusive=True)
    first = publisher.basic_publish(b"1", routing_key="jobs")
    for arguments in (
        {"routing_key": "ü" * 128},
        {"exchange": "x" * 256},
        {"properties": BasicProperties(headers={"large": "x" * 131072})},
        {"properties": BasicProperties(headers={"x": object()})},
        {"properties": BasicProperties(correlation_id="ü" * 128)},
        {"properties": BasicProperties(priority=256)},
    ):
        with pytest.raises(EncodeError):
            publisher.basic_publish(b"", **arguments)
    with pytest.raises(EncodeError):
        publisher.basic_publish("text", routing_key="jobs")  # type: ignore[arg-type]
    for expiration in ("-1", "soon", "1.5", -1, True, ""):
        with pytest.raises(EncodeError):
            BasicProperties(expiration=expiration)
    assert publisher.next_publish_seq_no == 2
    second = publisher.basic_publish(b"2", routing_key="jobs")
    assert [type(outcome) for outcome in await all_of([first, second])] == [Confirmed, Confirmed]
    assert await drain(publisher, "jobs") == [b"1", b"2"]


@pytest.mark.covers("T-PUB-09")
@pytest_twisted.ensureDeferred
async def test_who_cancels_a_publish_gives_up_the_interest_and_not_the_message(publisher: Channel) -> None:
    await publisher.queue_declare("jobs", exclusive=True)
    sent = [
        publisher.basic_publish(str(number).encode(), routing_key=key, mandatory=True)
        for number, key in enumerate(("jobs", "jobs", "nowhere", "jobs"))
    ]
    for deferred in sent[::2]:
        deferred.cancel()
    assert publisher.unconfirmed == 4
    assert [type(outcome) for outcome in await all_of(sent[1::2])] == [Confirmed, Confirmed]
    for deferred in sent[::2]:
        await failure_of(deferred, CancelledError)
    await soon(publisher.wait_for_confirms())
    assert isinstance(await publisher.basic_publish(b"4", routing_key="jobs"), Confirmed)
    assert await drain(publisher, "jobs") == [b"0", b"1", b"3", b"4"]


@pytest.mark.covers("T-PUB-12")
@pytest_twisted.ensureDeferred
async def test_confirms_and_transactions_exclude_each_other(publisher: Channel, channel: Channel) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        publisher.tx_select()
    assert caught.value.reply_code == 406
    await channel.tx_select()
    with pytest.raises(LocalProtocolError):
        channel.confirm_select()
    for one in (publisher, channel):
        await one.queue_declare("", exclusive=True)


@pytest.mark.covers("T-PUB-11")
@pytest_twisted.ensureDeferred
async def test_an_expiration_reaches_the_broker(publisher: Channel) -> None:
    """The queue hands expired messages on, so that nobody has to guess when it is time."""
    await publisher.queue_declare("late", exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "late"}
    await publisher.queue_declare("jobs", exclusive=True, arguments=arguments)
    inbox = Inbox()
    await publisher.basic_consume("late", inbox, no_ack=True)
    for expiration in (0, "1"):
        properties = BasicProperties(expiration=expiration)
        await publisher.basic_publish(b"", routing_key="jobs", properties=properties)
        (delivery,) = await inbox.take()
        assert delivery.properties.expiration is None
        (death,) = headers_of(delivery)["x-death"]
        assert (death["reason"], death["original-expiration"]) == ("expired", str(expiration))
