"""What RabbitMQ says to odd requests about exchanges, queues and bindings, word for word, as it was measured.

`integration/test_declaring.py` holds each broker to it, and `broker/test_declaring.py` the embedded one.
"""

from __future__ import annotations

from tests.queue_cases import QUEUE_CASES, QUORUM
from tests.refusals import MOMENT, Answer, Case, case, exchange, other, queue, refused
from txamqpx.spec.amqp0_9_1 import (
    BasicGet,
    ExchangeBind,
    ExchangeDeclare,
    ExchangeDelete,
    ExchangeUnbind,
    QueueBind,
    QueueDelete,
    QueuePurge,
    QueueUnbind,
)

NO_QUEUE, NO_EXCHANGE = "no queue 'missing' in {v}", "no exchange 'missing' in {v}"
NOT_DECLARED = "no previously declared queue"
DEFAULT = "operation not permitted on the default exchange"
SYSTEM = "deletion of system exchange '{}' in {v} not allowed"
RESERVED = "{} contains reserved prefix 'amq.*'"
IN_USE = "exchange 'x' in {v} in use"
MATCH = "Invalid x-match field value <<{}>>; expected all, any, all-with-x, or any-with-x"
MATCH_TYPE = "Invalid x-match field type {} (value {}); expected longstr"
NO_CONDITIONS = (
    "cannot delete queue 'q' in {v}. queue.delete operations with {} flag set are not supported by quorum "
    "queues"
)


CASES: dict[str, list[Case]] = {
    **QUEUE_CASES,
    "what is missing": [
        refused(queue("missing", passive=True), 404, NO_QUEUE),
        refused(queue("missing", passive=True, expires=-1, queue_type=1), 404, NO_QUEUE),
        refused(exchange("missing", passive=True), 404, NO_EXCHANGE),
        refused(QueuePurge("missing"), 404, NO_QUEUE),
        refused(BasicGet("missing"), 404, NO_QUEUE),
        refused(QueueBind("missing", "amq.topic", "k"), 404, NO_QUEUE),
        refused(QueueBind("missing", "missing", "k"), 404, NO_EXCHANGE),
        refused(QueueBind("q", "missing", "k"), 404, NO_EXCHANGE, queue()),
        refused(ExchangeBind("missing", "amq.topic"), 404, NO_EXCHANGE),
        refused(ExchangeBind("amq.topic", "missing"), 404, NO_EXCHANGE),
        refused(ExchangeBind("other", "missing"), 404, NO_EXCHANGE),
        case(QueueUnbind("missing", "amq.topic", "k")),
        case(QueueUnbind("missing", "missing", "k")),
        case(QueueUnbind("q", "missing", "k"), queue()),
        case(QueueUnbind("q", "amq.topic", "k"), queue()),
        case(ExchangeUnbind("missing", "amq.topic")),
        case(ExchangeUnbind("amq.topic", "missing")),
        case(ExchangeUnbind("amq.topic", "amq.direct")),
        case(QueueDelete("missing")),
        case(QueueDelete("missing", if_unused=True, if_empty=True)),
        case(ExchangeDelete("missing")),
        case(ExchangeDelete("missing", if_unused=True)),
    ],
    "no name": [
        *(
            refused(request, 404, NOT_DECLARED)
            for request in (
                QueuePurge(""),
                BasicGet(""),
                QueueBind("", "amq.topic", "k"),
                QueueBind("", "missing", ""),
                QueueUnbind("", "amq.topic", "k"),
                QueueDelete(""),
            )
        ),
        refused(queue("", passive=True), 404, "no queue '' in {v}"),
        refused(queue("", passive=True), 404, "no queue '' in {v}", queue()),
        case(QueueBind("", "amq.topic"), queue()),
        case(QueuePurge(""), queue()),
        case(QueueDelete("\n"), queue()),
        case(QueueDelete(""), queue(), QueueDelete("q")),
        refused(QueuePurge(""), 404, "no queue 'q' in {v}", queue(), QueueDelete("q")),
    ],
    "names": [
        refused(queue("amq.mine"), 403, RESERVED.format("queue name 'amq.mine'")),
        refused(queue("amq.gen-abc", expires=-1), 403, RESERVED.format("queue name 'amq.gen-abc'")),
        refused(queue("amq.x", dead_letter_exchange=1), 403, RESERVED.format("queue name 'amq.x'")),
        refused(queue("\namq.\rx"), 403, RESERVED.format("queue name 'amq.x'")),
        refused(queue("amq.mine", passive=True), 404, "no queue 'amq.mine' in {v}"),
        case(QueueDelete("amq.mine")),
        refused(exchange("amq.mine"), 403, RESERVED.format("exchange name 'amq.mine'")),
        refused(exchange("amq."), 403, RESERVED.format("exchange name 'amq.'")),
        refused(exchange("a\nmq.x"), 403, RESERVED.format("exchange name 'amq.x'")),
        refused(exchange("amq.mine", passive=True), 404, "no exchange 'amq.mine' in {v}"),
        refused(ExchangeDelete("amq.mine"), 403, SYSTEM.replace("{}", "amq.mine")),
        refused(ExchangeDelete("amq.\nmine"), 403, SYSTEM.replace("{}", "amq.mine")),
        case(exchange("AMQ.x")),
        case(ExchangeDelete("AMQ.x")),
        case(queue("\nq\r"), queue()),
        case(queue("q\n", passive=True), queue()),
        case(QueueBind("\nq", "amq\n.topic", "k"), queue()),
        refused(QueuePurge("\nq"), 404, "no queue '\nq' in {v}", queue()),
        refused(BasicGet("q\n"), 404, "no queue 'q\n' in {v}", queue()),
        case(ExchangeDelete("x\n"), exchange()),
        refused(queue("a'b", passive=True), 404, "no queue 'a'b' in {v}"),
        refused(queue("ü", passive=True), 404, "no queue 'ü' in {v}"),
        refused(queue("m" * 200, passive=True), 404, f"no queue '{'m' * 200}' in {{v}}"),
    ],
    "exchanges that are there in another shape": [
        case(exchange(), exchange()),
        other(exchange(kind="topic"), "type: received 'topic' but current is 'direct'", exchange()),
        other(exchange(durable=True), "durable: received 'true' but current is 'false'", exchange()),
        other(exchange(auto_delete=True), "auto_delete: received 'true' but current is 'false'", exchange()),
        other(exchange(internal=True), "internal: received 'true' but current is 'false'", exchange()),
        other(exchange(), "internal: received 'false' but current is 'true'", exchange(internal=True)),
        other(
            exchange(alternate="b"),
            "alternate-exchange: received 'b' but current is 'a'",
            exchange(alternate="a"),
        ),
        other(
            exchange(alternate="b"),
            "alternate-exchange: received the value 'b' of type 'longstr' but current is none",
            exchange(),
        ),
        other(
            exchange(),
            "alternate-exchange: received none but current is the value 'b' of type 'longstr'",
            exchange(alternate="b"),
        ),
        other(
            exchange(alternate=1),
            "alternate-exchange: received '1' but current is 'a'",
            exchange(alternate="a"),
        ),
        case(exchange(alternate=b"a"), exchange(alternate="a")),
        case(ExchangeDeclare("x", arguments={"foo": 1}), exchange()),
        case(exchange(kind="nonsense", passive=True, durable=True, alternate=1), exchange()),
        other(
            exchange(kind="topic", durable=True, auto_delete=True, internal=True, alternate="z"),
            "type: received 'topic' but current is 'direct'",
            exchange(),
        ),
        other(
            exchange(durable=True, auto_delete=True, internal=True, alternate="z"),
            "durable: received 'true' but current is 'false'",
            exchange(),
        ),
        other(
            exchange(auto_delete=True, internal=True, alternate="z"),
            "auto_delete: received 'true' but current is 'false'",
            exchange(),
        ),
        other(
            exchange(internal=True, alternate="z"),
            "internal: received 'true' but current is 'false'",
            exchange(),
        ),
    ],
    "exchanges that cannot be": [
        *(
            case(exchange(name, kind), *before, old=Answer(503, text), new=Answer(406, text))
            for name, kind, text, before in (
                ("x", "nonsense", "unknown exchange type 'nonsense'", ()),
                ("x", "nonsense", "unknown exchange type 'nonsense'", (exchange(),)),
                ("x", "x-nonsense", "unknown exchange type 'x-nonsense'", ()),
                ("x", "Direct", "unknown exchange type 'Direct'", ()),
                ("x", "", "invalid exchange type ''", ()),
                ("amq.mine", "nonsense", "unknown exchange type 'nonsense'", ()),
                ("", "nonsense", "unknown exchange type 'nonsense'", ()),
            )
        ),
        *(
            refused(
                exchange(alternate=value),
                406,
                f"invalid type '{name}' for arg 'alternate-exchange' in exchange 'x' in {{v}}",
            )
            for value, name in (
                *((1, "signedint"), (2**40, "long"), (b"a", "binary"), (True, "bool"), (None, "void")),
                *((1.5, "double"), (["a"], "array"), ({"a": 1}, "table"), (MOMENT, "timestamp")),
            )
        ),
        case(exchange(alternate="x")),
        case(exchange(alternate="missing")),
        case(exchange(alternate="")),
    ],
    "the broker's own exchanges": [
        *(
            each
            for name, kind in (
                *(("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic")),
                *(("amq.headers", "headers"), ("amq.match", "headers")),
            )
            for each in (
                case(exchange(name, kind, durable=True)),
                case(exchange(name, passive=True)),
                other(exchange(name, kind), "durable: received 'false' but current is 'true'"),
                other(
                    exchange(name, kind, durable=True, internal=True),
                    "internal: received 'true' but current is 'false'",
                ),
                refused(ExchangeDelete(name), 403, SYSTEM.replace("{}", name)),
                refused(ExchangeDelete(name, if_unused=True), 403, SYSTEM.replace("{}", name)),
            )
        ),
        case(exchange("amq.rabbitmq.trace", "topic", durable=True, internal=True)),
        other(
            exchange("amq.rabbitmq.trace", "topic", durable=True),
            "internal: received 'false' but current is 'true'",
        ),
        other(
            exchange("amq.direct", "topic", durable=True), "type: received 'topic' but current is 'direct'"
        ),
        case(ExchangeBind("x", "amq.rabbitmq.trace", "k"), exchange()),
        case(ExchangeBind("amq.rabbitmq.trace", "x", "k"), exchange()),
    ],
    "the default exchange": [
        *(
            refused(request, 403, DEFAULT, queue(), exchange())
            for request in (
                exchange(""),
                exchange("\r\n"),
                exchange("", passive=True),
                ExchangeDelete(""),
                ExchangeDelete("", if_unused=True),
                QueueBind("q", "", "q"),
                QueueBind("missing", "", "q"),
                QueueUnbind("q", "", "q"),
                ExchangeBind("", "x"),
                ExchangeBind("x", ""),
                ExchangeBind("missing", ""),
                ExchangeBind("", ""),
                ExchangeUnbind("", "x"),
                ExchangeUnbind("x", ""),
            )
        ),
    ],
    "bindings": [
        *(
            refused(request, 406, MATCH.replace("{}", text), queue())
            for value, text in (("some", '"some"'), ("", ""), ("ALL", '"ALL"'))
            for request in (
                QueueBind("q", "amq.headers", arguments={"x-match": value}),
                ExchangeBind("amq.match", "amq.headers", arguments={"x-match": value}),
            )
        ),
        *(
            refused(
                QueueBind("q", "amq.match", arguments={"x-match": value}),
                406,
                MATCH_TYPE.format(name, text),
                queue(),
            )
            for value, name, text in (
                *((1, "signedint", "1"), (None, "void", "undefined"), (b"all", "binary", '<<"all">>')),
                *((True, "bool", "true"), (1.5, "double", "1.5")),
                (["all"], "array", '[{longstr,<<"all">>}]'),
                ({"a": 1}, "table", '[{<<"a">>,signedint,1}]'),
            )
        ),
        *(
            case(QueueBind("q", "amq.match", arguments={"x-match": match} if match else {}), queue())
            for match in ("all", "any", "all-with-x", "any-with-x", None)
        ),
        case(QueueBind("q", "amq.topic", arguments={"x-match": "some"}), queue()),
        case(QueueUnbind("q", "amq.headers", arguments={"x-match": "some"}), queue()),
        *(
            case(
                request,
                queue(),
                new=Answer(
                    406,
                    f"Topic binding key '{key}' uses {key.split('.').count('#')} '#' wildcards, "
                    "at most 2 are allowed",
                ),
            )
            for key in ("#.#.#", "#.a.#.b.#", "#a.#.#.#", "#.#.#.#.a")
            for request in (QueueBind("q", "amq.topic", key), ExchangeBind("amq.fanout", "amq.topic", key))
        ),
        case(QueueBind("q", "amq.topic", "#.a.#"), queue()),
        case(QueueBind("q", "amq.topic", "ü#.#.#"), queue()),
        case(QueueBind("q", "amq.direct", "#.#.#"), queue()),
        case(QueueUnbind("q", "amq.topic", "#.#.#"), queue()),
        case(ExchangeBind("x", "x", "k"), exchange()),
        case(ExchangeBind("x", "y", "k"), exchange(), exchange("y"), ExchangeBind("y", "x", "k")),
        case(ExchangeBind("x", "y", "k"), exchange(), exchange("y"), ExchangeBind("x", "y", "k")),
        case(ExchangeBind("x", "y", "k"), exchange(internal=True), exchange("y")),
    ],
    "deleting": [
        refused(ExchangeDelete("x", if_unused=True), 406, IN_USE, exchange(), queue(), QueueBind("q", "x")),
        refused(
            ExchangeDelete("x", if_unused=True),
            406,
            IN_USE,
            exchange(),
            exchange("y"),
            ExchangeBind("y", "x"),
        ),
        case(ExchangeDelete("x", if_unused=True), exchange(), exchange("y"), ExchangeBind("x", "y")),
        case(ExchangeDelete("x"), exchange(), queue(), QueueBind("q", "x")),
        refused(QueueDelete("q", if_unused=True), 540, NO_CONDITIONS.replace("{}", "if-unused"), QUORUM),
        refused(QueueDelete("q", if_empty=True), 540, NO_CONDITIONS.replace("{}", "if-empty"), QUORUM),
        refused(
            QueueDelete("q", if_empty=True, if_unused=True),
            540,
            NO_CONDITIONS.replace("{}", "if-unused"),
            QUORUM,
        ),
        case(QueueDelete("q", if_empty=True, if_unused=True), queue()),
        case(QueueDelete("q"), QUORUM),
    ],
}
