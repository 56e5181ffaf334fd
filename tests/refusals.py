"""How refusals of odd requests are written down: a request, what comes before it, and the answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

from txamqpx.spec.amqp0_9_1 import ExchangeDeclare, QueueDeclare
from txamqpx.spec.base import Request

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
TYPE_NAMES = {int: "signedint", str: "longstr", bool: "bool"}

NAMES = {
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    503: "COMMAND_INVALID",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
HARD = {503, 540, 541}
"""The codes that close the connection."""


@attrs.frozen
class Answer:
    """How a request is refused, or with the code 0 not.

    Attributes:
        code: The reply code.
        text: The reply text without the code's name; `{v}` stands for the virtual host.
    """

    code: int
    text: str

    def reply_text(self, vhost: str) -> str:
        """Return the whole reply text; what is too long for one ends in dots."""
        text = f"{NAMES[self.code]} - " + self.text.replace("{v}", f"vhost '{vhost}'")
        return text if len(text.encode()) <= 255 else f"{text.encode()[:252].decode()}..."


@attrs.frozen
class Case:
    """A request, and what becomes of it.

    Attributes:
        request: What is asked.
        old: What RabbitMQ 3.10 answers.
        new: What RabbitMQ 4.3 answers.
        before: What is asked before that, and granted.
    """

    request: Request[Any]
    old: Answer
    new: Answer
    before: tuple[Request[Any], ...] = ()

    def answer(self, *, is_old: bool) -> Answer:
        """Return what one of the releases answers."""
        return self.old if is_old else self.new


TAKEN = Answer(0, "")


def case(
    request: Request[Any], *before: Request[Any], old: Answer = TAKEN, new: Answer | None = None
) -> Case:
    """Make a case, of both releases unless the newer one has an answer of its own."""
    return Case(request, old, old if new is None else new, before)


def refused(request: Request[Any], code: int, text: str, *before: Request[Any]) -> Case:
    """Make a case of a request that is refused."""
    return case(request, *before, old=Answer(code, text))


def queue(
    name: str = "q",
    *,
    durable: bool = True,
    exclusive: bool = False,
    auto_delete: bool = False,
    passive: bool = False,
    **arguments: Any,
) -> QueueDeclare:
    """Declare a queue; its arguments are written without their `x-`."""
    table = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    return QueueDeclare(
        name,
        durable=durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        passive=passive,
        arguments=table,
    )


def exchange(name: str = "x", kind: str = "direct", alternate: Any = ..., **flags: bool) -> ExchangeDeclare:
    """Declare an exchange."""
    arguments = {} if alternate is ... else {"alternate-exchange": alternate}
    return ExchangeDeclare(name, kind, arguments=arguments, **flags)


def other(request: Request[Any], text: str, *before: Request[Any]) -> Case:
    """Make a case of a queue or an exchange that is there in another shape."""
    name = f"exchange '{request.exchange}'" if isinstance(request, ExchangeDeclare) else "queue 'q'"
    argument, _, values = text.partition(": ")
    return refused(request, 406, f"inequivalent arg '{argument}' for {name} in {{v}}: {values}", *before)


def differs(name: str, first: Any, second: Any, *, kind: str | None = None, **rest: Any) -> list[Case]:
    """Make the cases of an argument with one value or another, or without any."""
    kinds: dict[str, Any] = {} if kind is None else {"queue_type": kind}
    without, one, two = (
        queue(**kinds, **rest, **({} if value is None else {name: value})) for value in (None, first, second)
    )
    full = f"x-{name.replace('_', '-')}"
    told = "the value '{}' of type '{}'".format(
        *(str(first).lower(), "bool") if first is True else (first, TYPE_NAMES[type(first)])
    )
    texts = [str(value).lower() if isinstance(value, bool) else value for value in (first, second)]
    return [
        case(one, one),
        other(two, f"{full}: received '{texts[1]}' but current is '{texts[0]}'", one),
        other(without, f"{full}: received none but current is {told}", one),
        other(one, f"{full}: received {told} but current is none", without),
    ]


def invalid(name: str, values: dict[str, list[Any]], kind: str | None = None, **rest: Any) -> list[Case]:
    """Make cases of an argument's values by the reason for which they are refused; `{}` is the value."""
    kinds: dict[str, Any] = {} if kind is None else {"queue_type": kind}
    argument = f"x-{name.replace('_', '-')}"
    return [
        refused(
            queue(**{**kinds, **rest, name: value}),
            406,
            f"invalid arg '{argument}' for queue 'q' in {{v}}: {reason.replace('{}', str(value))}",
        )
        for reason, each in values.items()
        for value in each
    ]


def foreign(kind: str | None, name: str, *values: Any) -> list[Case]:
    """Make cases of an argument that is for queues of another type, of any value."""
    argument, of = f"x-{name.replace('_', '-')}", f"rabbit_{kind or 'classic'}_queue"
    kinds: dict[str, Any] = {} if kind is None else {"queue_type": kind}
    text = f"invalid arg '{argument}' for queue 'q' in {{v}} of queue type {of}"
    return [refused(queue(**{**kinds, name: value}), 406, text) for value in values or (5,)]


def newer(cases: list[Case]) -> list[Case]:
    """Make cases that RabbitMQ 3.10 takes of those that no release does."""
    return [attrs.evolve(each, old=TAKEN) for each in cases]


def older(cases: list[Case]) -> list[Case]:
    """Make cases that RabbitMQ 4.3 takes of those that no release does."""
    return [attrs.evolve(each, new=TAKEN) for each in cases]
