"""What the lint says, release by release; that the brokers agree is held by ``integration/test_lint.py``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from txamqpx import lint
from txamqpx.entities import Exchange, Queue
from txamqpx.errors import EncodeError, TopologyError
from txamqpx.spec.amqp0_9_1 import (
    BasicConsume,
    BasicGet,
    BasicPublish,
    BasicQos,
    ConfirmSelect,
    ExchangeBind,
    ExchangeDeclare,
    QueueBind,
    QueueDeclare,
    QueueDelete,
    QueuePurge,
)
from txamqpx.spec.base import Method
from txamqpx.spec.wire import RawTimestamp

REFUSED = "refused"
WARNED = "warned"
FINE = "fine"

RELEASES = {"unknown": None, "3.10": (3, 10, 8), "3.12": (3, 12), "4.0": (4, 0, 5), "4.3": (4, 3, 6)}


def verdict(method: Method, version: tuple[int, ...] | None = None, **known: Any) -> str:
    try:
        return WARNED if lint.check(method, version, **known) else FINE
    except TopologyError:
        return REFUSED


def verdicts(method: Method, **known: Any) -> list[str]:
    """Return what is said for each of the releases, from the unknown one on."""
    return [verdict(method, version, **known) for version in RELEASES.values()]


def queue(kind: str | None = None, **arguments: Any) -> QueueDeclare:
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return QueueDeclare("jobs", durable=True, arguments=table | ({"x-queue-type": kind} if kind else {}))


def refusal(method: Method, version: tuple[int, ...] | None = None, **known: Any) -> TopologyError:
    with pytest.raises(TopologyError) as caught:
        lint.check(method, version, **known)
    return caught.value


# --------------------------------------------------------------------------- what differs between releases

TRANSIENT = QueueDeclare("jobs")
GLOBAL = BasicQos(prefetch_count=5, global_=True)
MASTER = queue(queue_master_locator="client-local")


@pytest.mark.parametrize(
    ("allow_deprecated", "expected"),
    [
        (None, [FINE, FINE, FINE, WARNED, WARNED]),
        (True, [FINE] * 5),
        (False, [FINE, FINE, FINE, REFUSED, REFUSED]),
    ],
)
def test_what_is_deprecated_is_as_the_caller_says(allow_deprecated: bool | None, expected: list[str]) -> None:
    for method in (TRANSIENT, GLOBAL):
        assert verdicts(method, allow_deprecated=allow_deprecated) == expected
    # What a 4.3 with its defaults closes the connection over is refused, unless the caller knows better.
    at_last = FINE if allow_deprecated else REFUSED
    assert verdicts(MASTER, allow_deprecated=allow_deprecated) == [*expected[:4], at_last]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (queue(queue_mode="lazy"), [WARNED, FINE, WARNED, WARNED, WARNED]),
        (queue("classic", queue_mode="lazy"), [WARNED, FINE, WARNED, WARNED, WARNED]),
        (queue("quorum", queue_mode="lazy"), [REFUSED] * 5),
        (queue(queue_version=1), [WARNED, FINE, FINE, WARNED, REFUSED]),
        (queue(queue_version=2), [FINE] * 5),
        (queue(ha_mode="all"), [WARNED] * 5),
        (queue("stream", ha_policy="all"), [WARNED] * 5),
        (queue("quorum", consumer_timeout=5), [FINE, WARNED, FINE, FINE, FINE]),
        (queue("classic", consumer_timeout=5), [FINE, WARNED, FINE, FINE, WARNED]),
        (queue("quorum", consumer_timeout="5"), [FINE, WARNED, FINE, FINE, REFUSED]),
        (queue(consumer_timeout=5), [FINE, WARNED, FINE, FINE, FINE]),
        (queue("quorum", delayed_retry_type="all"), [FINE, WARNED, WARNED, WARNED, FINE]),
        (queue("stream", delayed_retry_min=5), [FINE, WARNED, WARNED, WARNED, WARNED]),
        (queue("stream", stream_filter_size_bytes=16), [FINE, WARNED, WARNED, FINE, FINE]),
        (queue("stream", stream_filter_size_bytes=256), [FINE, WARNED, WARNED, FINE, REFUSED]),
        (queue("classic", queue_leader_locator="balanced"), [FINE, REFUSED, FINE, FINE, FINE]),
        (queue("plugged", consumer_timeout=5), [FINE, WARNED, FINE, FINE, FINE]),
    ],
    ids=repr,
)
def test_by_release(method: Method, expected: list[str]) -> None:
    assert verdicts(method) == expected


def test_a_limit_for_the_whole_channel_over_a_quorum_queue() -> None:
    assert verdicts(GLOBAL, queue_type="quorum") == [FINE, REFUSED, REFUSED, REFUSED, WARNED]
    assert verdicts(BasicQos(prefetch_count=5), queue_type="quorum") == [FINE] * 5


# --------------------------------------------------------------------------- what is the same everywhere


@pytest.mark.parametrize(
    ("method", "where", "reason"),
    [
        (
            QueueDeclare("amq.mine", exclusive=True),
            "queue 'amq.mine'",
            "names that begin with amq. are the broker's to give; choose another",
        ),
        (
            queue(expires="5"),
            "queue 'jobs', x-expires",
            "must be a whole number from 1 to 315360000000, not '5'",
        ),
        (queue(max_length=-1), "queue 'jobs', x-max-length", "must be a whole number of at least 0, not -1"),
        (
            queue(overflow="no"),
            "queue 'jobs', x-overflow",
            "must be one of drop-head, reject-publish, reject-publish-dlx, not 'no'",
        ),
        (queue(dead_letter_exchange=1), "queue 'jobs', x-dead-letter-exchange", "must be text, not 1"),
        (
            queue(single_active_consumer=1),
            "queue 'jobs', x-single-active-consumer",
            "must be True or False, not 1",
        ),
        (
            queue("stream", max_age="1W"),
            "queue 'jobs', x-max-age",
            "must be a number above 0 and one of the letters YMDhms, not '1W'",
        ),
        (
            queue("stream", message_ttl=5),
            "queue 'jobs', x-message-ttl",
            "a stream queue has no such argument; leave it out",
        ),
        (
            queue(dead_letter_routing_key="k"),
            "queue 'jobs', x-dead-letter-routing-key",
            "needs x-dead-letter-exchange; say which, '' is one",
        ),
        (
            QueueDeclare("", durable=True, arguments={"x-queue-type": "quorum"}),
            "queue ''",
            "the broker gives no name to a quorum queue; choose one",
        ),
        (
            QueueDeclare("q", arguments={"x-queue-type": "stream"}),
            "queue 'q'",
            "a stream queue is always durable; say durable=True",
        ),
        (
            QueueDeclare("q", durable=True, exclusive=True, arguments={"x-queue-type": "stream"}),
            "queue 'q'",
            "a stream queue cannot be exclusive",
        ),
        (
            QueueDeclare("q", durable=True, auto_delete=True, arguments={"x-queue-type": "quorum"}),
            "queue 'q'",
            "a quorum queue cannot be auto-delete",
        ),
        (
            ExchangeDeclare(""),
            "exchange ''",
            "the default exchange is always there and cannot be declared",
        ),
        (
            ExchangeDeclare("e", ""),
            "exchange 'e'",
            "needs a type: direct, fanout, headers, topic, or a plugin's",
        ),
        (
            ExchangeDeclare("e", arguments={"alternate-exchange": 1}),
            "exchange 'e', alternate-exchange",
            "must be the name of an exchange, not 1",
        ),
        (
            QueueBind("q", ""),
            "binding of queue 'q'",
            "the default exchange has each queue bound by its name, and takes no other bindings",
        ),
        (
            ExchangeBind("", "amq.topic"),
            "binding of exchange ''",
            "the default exchange has each queue bound by its name, and takes no other bindings",
        ),
        (
            BasicConsume("q", arguments={"x-priority": True}),
            "consumer of queue 'q', x-priority",
            "must be a whole number, not True",
        ),
        (
            BasicConsume("q", arguments={"x-stream-offset": "5"}),
            "consumer of queue 'q', x-stream-offset",
            "must be a whole number, an aware datetime, first, last, next, or an age such as 1h, not '5'",
        ),
    ],
    ids=repr,
)
def test_a_refusal_says_what_and_where_and_what_to_do(method: Method, where: str, reason: str) -> None:
    error = refusal(method)
    assert (error.parameter, error.reason) == (where, reason)
    assert str(error) == f"{where}: {reason}"


@pytest.mark.parametrize(
    ("method", "queue_type", "part"),
    [
        (BasicConsume("q", no_ack=True), "stream", "consumed with acks"),
        (BasicConsume("q"), "stream", "needs a prefetch count"),
        (BasicConsume("q", arguments={"x-priority": 1}), "stream", "no priority"),
        (BasicConsume("q", arguments={"x-stream-offset": "first"}), "quorum", "is for streams"),
        (BasicGet("q"), "stream", "gives no single messages"),
        (QueuePurge("q"), "stream", "cannot be purged"),
        (QueueDelete("q", if_empty=True), "quorum", "without a condition"),
        (QueueDelete("q", if_unused=True), "quorum", "without a condition"),
    ],
    ids=repr,
)
def test_what_a_type_of_queue_cannot_do(method: Method, queue_type: str, part: str) -> None:
    count = 0 if "prefetch" in part else 5
    assert part in refusal(method, queue_type=queue_type, prefetch_count=count).reason
    assert lint.check(method, prefetch_count=count) == []
    assert verdict(method, queue_type="classic") == (REFUSED if "streams" in part else FINE)


def test_a_consumer_of_a_stream_without_a_known_limit_is_let_through() -> None:
    assert lint.check(BasicConsume("q", arguments={"x-stream-offset": "1h"}), queue_type="stream") == []


@pytest.mark.covers("T-CON-15")
def test_where_a_consumer_of_a_stream_may_begin() -> None:
    moments = (datetime(2020, 1, 1, tzinfo=UTC), RawTimestamp(5), b"first")
    for good in ("first", "last", "next", "1h", "30D", 0, 5, 2**40, *moments):
        assert verdict(BasicConsume("q", arguments={"x-stream-offset": good}), queue_type="stream") == FINE
    for wrong in ("5", "firsts", "1w", "-1h", "", True, 1.5, None, [1]):
        assert verdict(BasicConsume("q", arguments={"x-stream-offset": wrong})) == REFUSED


@pytest.mark.parametrize(
    ("method", "part"),
    [
        (QueueDeclare("a\nb", durable=True), "line breaks"),
        (ExchangeDeclare("a\rb"), "line breaks"),
        (ExchangeDeclare("e", "odd"), "'odd' is no type of AMQP"),
        (QueueBind("q", "e", arguments={"x-match": "some"}), "is none of all, any"),
        (queue("quorum", delivery_limit="5"), "is no whole number but '5'"),
        (queue("quorum", delayed_retry_type="odd"), "is none of disabled, all, failed, returned"),
        (queue("quorum", overflow="reject-publish-dlx"), "say reject-publish"),
        (queue("quorum", dead_letter_strategy="at-least-once"), "is at-most-once in effect"),
        (queue(delivery_limit=5), "say so: x-queue-type=quorum"),
        (queue(max_age="1h"), "say so: x-queue-type=stream"),
    ],
    ids=repr,
)
def test_a_warning_says_what_will_come_of_it(method: Method, part: str) -> None:
    (warning,) = lint.check(method)
    assert part in warning


def test_all_warnings_are_given() -> None:
    method = QueueDeclare("a\nb", arguments={"x-ha-mode": "all"})
    assert len(lint.check(method, (4, 3, 6))) == 3


# --------------------------------------------------------------------------- what it looks at


def test_of_a_passive_declaration_only_the_name_counts() -> None:
    odd = {"x-queue-type": 1, "x-expires": "no"}
    assert lint.check(QueueDeclare("amq.gen-1", passive=True, arguments=odd)) == []
    assert lint.check(ExchangeDeclare("amq.mine", "", passive=True)) == []
    assert verdict(ExchangeDeclare("", passive=True)) == REFUSED


def test_methods_without_rules_are_right() -> None:
    assert lint.check(ConfirmSelect(), (4, 3)) == []
    assert lint.check(BasicPublish(exchange="e"), (4, 3)) == []


def test_values_are_looked_at_like_their_requests() -> None:
    assert len(lint.check(Queue("q", durable=False), (4, 3))) == 1
    assert lint.check(Exchange("e"), (4, 3)) == []


def test_what_does_not_fit_on_the_wire_is_said_first() -> None:
    for method in (QueueDeclare(None), QueueDeclare("q", arguments=[1])):  # type: ignore[arg-type]
        with pytest.raises(EncodeError):
            lint.check(method)


@pytest.mark.parametrize(
    ("name", "reserved"),
    [("amq.mine", True), ("amq.", True), ("amq.topic", False), ("amq.rabbitmq.trace", False), ("amq", False)],
)
def test_the_names_that_only_the_broker_gives(name: str, reserved: bool) -> None:
    assert lint.is_reserved(name) is reserved
    assert verdict(ExchangeDeclare(name)) == (REFUSED if reserved else FINE)
