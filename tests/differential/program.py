"""Random programs: what clients may ask of a broker, sense and nonsense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs

from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

CONNECTIONS = 2
CHANNELS = 2

QUEUES = ("q0", "q1", "q2") * 8 + ("", "missing")
EXCHANGES = ("e0", "e1", "") * 10 + ("amq.direct", "amq.topic", "amq.fanout", "amq.headers", "missing")
NAMED = ("e0", "e1") * 10 + ("amq.direct", "amq.topic", "amq.fanout", "amq.headers", "missing", "")
KEYS = ("k", "a.b", "q0", "q1", "q2", "q0", "q1", "")
PATTERNS = ("k", "a.*", "#", "*.b", "a.#", "")
NOTHING = amqp.BasicProperties()
TAGS = ("t0", "t1", "t2")
TRANSACTIONAL = (1, 2)
"""The connection and the channel on which there may be transactions."""


@attrs.frozen
class Say:
    """Send a method, with a content if it has one."""

    connection: int
    channel: int
    method: Method
    body: bytes | None = None
    properties: amqp.BasicProperties = NOTHING


@attrs.frozen
class Settle:
    """Settle one of the deliveries that a channel holds, whichever ``pick`` hits."""

    connection: int
    channel: int
    how: str
    pick: float
    multiple: bool
    requeue: bool


@attrs.frozen
class Drop:
    """Hang up without a word."""

    connection: int


Step = Say | Settle | Drop


def program(seed: int, length: int) -> list[Step]:
    """Return a program; the same seed gives the same one."""
    random = Random(seed)
    steps = _beginning(random)
    for number in range(length):
        makers, weights = zip(*_MAKERS.items(), strict=True)
        maker: Callable[[Random, int], Any] = random.choices(makers, weights)[0]
        made = maker(random, number)
        if isinstance(made, Drop | Settle | Say):
            steps.append(made)
        else:
            method, *content = made if isinstance(made, tuple) else (made,)
            steps.append(Say(random.randrange(CONNECTIONS), random.randint(1, CHANNELS), method, *content))
    return steps


def _beginning(random: Random) -> list[Step]:
    """Make a world in which something can happen."""
    steps: list[Step] = []
    for name in ("e0", "e1"):
        kind = random.choice(("direct", "fanout", "topic", "headers"))
        steps.append(Say(0, 1, amqp.ExchangeDeclare(name, kind, durable=True)))
    for name in ("q0", "q1", "q2"):
        steps.append(Say(0, 1, amqp.QueueDeclare(name, durable=True, arguments=_sensible(random))))
        for _ in range(random.randrange(3)):
            key = random.choice(PATTERNS)
            steps.append(Say(0, 1, amqp.QueueBind(name, random.choice(("e0", "e1")), key)))
    for connection in range(CONNECTIONS):
        for channel in range(1, CHANNELS + 1):
            if (connection, channel) == TRANSACTIONAL and _chance(random, 0.5):
                steps.append(Say(connection, channel, amqp.TxSelect()))
            elif _chance(random, 0.5):
                steps.append(Say(connection, channel, amqp.ConfirmSelect()))
            if _chance(random, 0.5):
                steps.append(Say(connection, channel, amqp.BasicQos(0, random.choice((1, 2, 3, 10)))))
            if _chance(random, 0.4):
                steps.append(Say(connection, channel, amqp.BasicConsume(random.choice(QUEUES), "t0")))
    return steps


def _sensible(random: Random) -> dict[str, Any]:
    """Return arguments that a queue can have."""
    arguments: dict[str, Any] = {}
    if _chance(random, 0.4):
        arguments["x-max-length"] = random.choice((1, 2, 3))
        if _chance(random, 0.6):
            arguments["x-overflow"] = random.choice(("drop-head", "reject-publish", "reject-publish-dlx"))
    elif _chance(random, 0.15):
        arguments["x-max-length-bytes"] = random.choice((2, 4, 8))
    if _chance(random, 0.5):
        arguments["x-dead-letter-exchange"] = random.choice(("", "", "e0", "e1", "amq.fanout", "nowhere"))
        if _chance(random, 0.6):
            arguments["x-dead-letter-routing-key"] = random.choice(("q0", "q1", "q2", "k", "dead"))
    if _chance(random, 0.15):
        arguments["x-message-ttl"] = random.choice((0, 10_000_000))
    if _chance(random, 0.2):
        arguments["x-max-priority"] = random.choice((1, 3, 10))
    if _chance(random, 0.15):
        arguments["x-single-active-consumer"] = True
    if _chance(random, 0.25):
        arguments["x-queue-type"] = "quorum"
        arguments.pop("x-max-priority", None)
        if arguments.get("x-overflow") == "reject-publish-dlx":
            del arguments["x-overflow"]
        if _chance(random, 0.5):
            arguments["x-delivery-limit"] = random.choice((0, 1, 2))
    return arguments


def _chance(random: Random, probability: float) -> bool:
    return random.random() < probability


def _declare_queue(random: Random, number: int) -> Method:
    arguments: dict[str, Any] = {}
    for name, values in _QUEUE_ARGUMENTS.items():
        if _chance(random, 0.08):
            arguments[name] = random.choice(values)
    exclusive = _chance(random, 0.2)
    return amqp.QueueDeclare(
        random.choice(QUEUES),
        passive=_chance(random, 0.1),
        durable=_chance(random, 0.85),
        exclusive=exclusive,
        auto_delete=_chance(random, 0.15),
        arguments=arguments,
    )


_QUEUE_ARGUMENTS: Mapping[str, Sequence[Any]] = {
    "x-message-ttl": (0, 10_000_000, 10_000_000, -1, "1"),
    "x-expires": (10_000_000, 0),
    "x-max-length": (0, 1, 2, 3, -1),
    "x-max-length-bytes": (5, 12),
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx", "spill"),
    "x-dead-letter-exchange": ("", "e0", "amq.fanout", "amq.direct", "nowhere", 5),
    "x-dead-letter-routing-key": ("q1", "k", "dead"),
    "x-max-priority": (1, 3, 10, 0, 256),
    "x-single-active-consumer": (True, False),
    "x-queue-type": ("classic", "quorum", "quorum", "unheard"),
    "x-something": (1,),
}


def _delete_queue(random: Random, number: int) -> Method:
    return amqp.QueueDelete(random.choice(QUEUES), _chance(random, 0.3), _chance(random, 0.3))


def _purge(random: Random, number: int) -> Method:
    return amqp.QueuePurge(random.choice(QUEUES))


def _declare_exchange(random: Random, number: int) -> Method:
    arguments: dict[str, Any] = {}
    if _chance(random, 0.25):
        arguments["alternate-exchange"] = random.choice(("e0", "e1", "amq.fanout", "nowhere"))
    return amqp.ExchangeDeclare(
        random.choice(NAMED),
        random.choice(("direct", "fanout", "topic", "headers", "topic")),
        passive=_chance(random, 0.1),
        durable=_chance(random, 0.8),
        auto_delete=_chance(random, 0.15),
        internal=_chance(random, 0.1),
        arguments=arguments,
    )


def _delete_exchange(random: Random, number: int) -> Method:
    return amqp.ExchangeDelete(random.choice(EXCHANGES), _chance(random, 0.4))


_MATCHES: Sequence[Mapping[str, Any]] = (
    {},
    {},
    {"x-match": "any", "h": 1},
    {"x-match": "all", "h": 1, "g": "x"},
    {"h": "x"},
    {"x-match": "any-with-x", "x-h": 1},
)


def _bind(random: Random, number: int) -> Method:
    return amqp.QueueBind(
        random.choice(QUEUES),
        random.choice(NAMED),
        random.choice(PATTERNS),
        arguments=dict(random.choice(_MATCHES)),
    )


def _unbind(random: Random, number: int) -> Method:
    return amqp.QueueUnbind(
        random.choice(QUEUES),
        random.choice(NAMED),
        random.choice(PATTERNS),
        arguments=dict(random.choice(_MATCHES)),
    )


def _bind_exchange(random: Random, number: int) -> Method:
    kind = random.choice((amqp.ExchangeBind, amqp.ExchangeBind, amqp.ExchangeUnbind))
    return kind(random.choice(NAMED), random.choice(NAMED), random.choice(PATTERNS))


def _publish(random: Random, number: int) -> tuple[Any, ...]:
    fields: dict[str, Any] = {}
    if _chance(random, 0.3):
        fields["headers"] = random.choice(({"h": 1}, {"h": "x", "g": "x"}, {"x-h": 1}, {"CC": ["q1", "a.b"]}))
    elif _chance(random, 0.05):
        fields["headers"] = random.choice(({"CC": "q1"}, {"BCC": ["q0"]}, {"CC": ["k"], "BCC": ["q2"]}))
    if _chance(random, 0.2):
        fields["priority"] = random.randrange(6)
    expiration = random.choice(("0", "10000000", "soon", "-1", "")) if _chance(random, 0.08) else None
    if _chance(random, 0.2):
        fields["delivery_mode"] = random.choice((1, 2))
    if _chance(random, 0.03):
        fields["user_id"] = random.choice(("guest", "somebody"))
    method = amqp.BasicPublish(random.choice(EXCHANGES), random.choice(KEYS), _chance(random, 0.3))
    properties = amqp.BasicProperties(**fields)
    if expiration is not None:
        properties._values["expiration"] = expiration  # the class itself would not have it
    return method, b"%d" % number, properties


def _get(random: Random, number: int) -> Method:
    return amqp.BasicGet(random.choice(QUEUES), _chance(random, 0.4))


def _consume(random: Random, number: int) -> Method:
    arguments: dict[str, Any] = {}
    if _chance(random, 0.3):
        arguments["x-priority"] = random.choice((1, 1, 5, 5, -1, 0, "high"))
    return amqp.BasicConsume(
        random.choice(QUEUES),
        random.choice(TAGS),
        no_ack=_chance(random, 0.2),
        exclusive=_chance(random, 0.1),
        arguments=arguments,
    )


def _cancel(random: Random, number: int) -> Method:
    return amqp.BasicCancel(random.choice(TAGS))


def _qos(random: Random, number: int) -> Method:
    return amqp.BasicQos(0, random.choice((0, 1, 2, 3)), _chance(random, 0.15))


def _settle(random: Random, number: int) -> Settle:
    return Settle(
        random.randrange(CONNECTIONS),
        random.randint(1, CHANNELS),
        random.choice(("ack", "ack", "ack", "nack", "nack", "reject", "recover")),
        random.random(),
        _chance(random, 0.3),
        _chance(random, 0.6),
    )


def _mode(random: Random, number: int) -> Method:
    return random.choice((amqp.ConfirmSelect(), amqp.TxSelect(), amqp.TxCommit(), amqp.TxRollback()))


def _finish(random: Random, number: int) -> Say:
    kind = random.choice((amqp.TxCommit, amqp.TxCommit, amqp.TxCommit, amqp.TxRollback, amqp.TxSelect))
    return Say(*TRANSACTIONAL, kind())


def _confirm(random: Random, number: int) -> Method:
    return amqp.ConfirmSelect()


def _close(random: Random, number: int) -> Method:
    return amqp.ChannelClose(200, "enough")


def _drop(random: Random, number: int) -> Drop:
    return Drop(random.randrange(CONNECTIONS))


_MAKERS: Mapping[Callable[[Random, int], Any], float] = {
    _declare_queue: 3,
    _delete_queue: 1,
    _purge: 0.5,
    _declare_exchange: 2,
    _delete_exchange: 0.5,
    _bind: 4,
    _unbind: 1,
    _bind_exchange: 2,
    _publish: 35,
    _get: 8,
    _consume: 6,
    _cancel: 3,
    _qos: 2,
    _settle: 25,
    _mode: 1,
    _finish: 3,
    _confirm: 1,
    _close: 1,
    _drop: 0.5,
}
