"""The arguments of queues: which there are, which values they take, and whether two declarations agree.

RabbitMQ looks at them in one order when it makes a queue, and in another when it compares a declaration with
the queue that is there: then it does not ask what the new ones would be worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from txamqpx.broker.accepting import LONGEST
from txamqpx.broker.profile import Profile
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.terms import are_same, shown, type_name

__all__ = ["assert_equivalent", "check_arguments", "dead_letter_exchange", "kind_of"]

_TYPE: Final = "x-queue-type"
_DEAD_LETTER_EXCHANGE: Final = "x-dead-letter-exchange"

_MOST_PRIORITIES: Final = 255

_Check = Callable[[Any, Mapping[str, Any], Profile], str | None]
"""Says in Erlang's words what is wrong with a value, among the other arguments; None: nothing."""


# --------------------------------------------------------------------------- what a queue is


def kind_of(arguments: Mapping[str, Any]) -> str:
    """Return the type of queue that arguments ask for, without a look at whether there is one."""
    kind = arguments.get(_TYPE, "classic")
    return kind if isinstance(kind, str) else shown(kind)


def dead_letter_exchange(where: str, arguments: Mapping[str, Any]) -> str | None:
    """Return where dead letters are to go, which is looked at before everything else.

    Raises:
        Refusal: 406, it is no name.
    """
    if _DEAD_LETTER_EXCHANGE not in arguments:
        return None
    exchange = arguments[_DEAD_LETTER_EXCHANGE]
    if not isinstance(exchange, str):
        raise Refusal(
            406, f"invalid type '{type_name(exchange)}' for arg '{_DEAD_LETTER_EXCHANGE}' in {where}"
        )
    return exchange


def check_arguments(where: str, arguments: Mapping[str, Any], profile: Profile) -> None:
    """Look whether a queue can be made with arguments.

    Args:
        where: The queue, in the words of a reply text.
        arguments: What came with ``queue.declare``.
        profile: Which RabbitMQ makes it.

    Raises:
        Refusal: 406, one of them is wrong, or is for queues of other types; 541, one is not allowed any more.
    """
    own = profile.queue_arguments.get(kind_of(arguments), ())
    for name, check in _CHECKS.items():
        if name in arguments and (name in own or name == _TYPE):
            reason = check(arguments[name], arguments, profile)
            if reason is not None:
                raise Refusal(406, f"invalid arg '{name}' for {where}: {reason}")
    known = {name for names in profile.queue_arguments.values() for name in names}
    for name in arguments:
        if name in known and name not in own:
            kind = f"rabbit_{kind_of(arguments)}_queue"
            raise Refusal(406, f"invalid arg '{name}' for {where} of queue type {kind}")
    if "x-queue-master-locator" in arguments and not profile.master_locator:
        raise Refusal(541, _DEPRECATED.format("queue_master_locator"))


_DEPRECATED: Final = (
    "Feature `{}` is deprecated.\nBy default, this feature is not permitted anymore.\n"
    "The feature will be removed from a future major RabbitMQ version, regardless of the configuration; "
    "actual version to be determined.\nTo continue using this feature when it is not permitted by default"
)


# --------------------------------------------------------------------------- values


def _wrong_type(value: Any) -> str:
    return f"{{unacceptable_type,{type_name(value)}}}"


def _number(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    if not isinstance(value, int) or type_name(value) not in {"signedint", "long"}:
        return f'"expected integer, got {type_name(value)}"'
    return f"{{value_negative,{value}}}" if value < 0 else None


def _duration(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    reason = _number(value, arguments, profile)
    return reason or (f"{{value_too_large,{value}}}" if value > LONGEST else None)


def _lease(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    return _count(value, arguments, profile) or _duration(value, arguments, profile)


def _count(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    reason = _number(value, arguments, profile)
    return reason or ("{value_zero,0}" if value == 0 else None)


def _priorities(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    reason = _number(value, arguments, profile)
    return reason or (f"{{max_value_exceeded,{value}}}" if value > _MOST_PRIORITIES else None)


def _version(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    reason = _number(value, arguments, profile)
    return reason or (None if value in profile.queue_versions else f"\"unsupported queue version '{value}'\"")


def _mode(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    if profile.queue_modes is None:
        return None
    if not isinstance(value, str):
        return _wrong_type(value)
    return None if value in profile.queue_modes else f"\"unsupported queue mode '{value}'\""


def _type(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    if not isinstance(value, str):
        return _wrong_type(value)
    if value == "stream":
        return "this broker has no streams"
    return None if value in profile.queue_arguments else f"\"unsupported queue type '{value}'\""


def _dead_letter_key(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    if not isinstance(value, str):
        return _wrong_type(value)
    return None if _DEAD_LETTER_EXCHANGE in arguments else "routing_key_but_no_dlx_defined"


def _flag(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    return None if isinstance(value, bool) else _wrong_type(value)


def _locator(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
    if not isinstance(value, str):
        return _wrong_type(value)
    return None if value in profile.leader_locators else "invalid_queue_locator_arg"


def _one_of(wrong: str, *values: str) -> _Check:
    def check(value: Any, arguments: Mapping[str, Any], profile: Profile) -> str | None:
        if not isinstance(value, str):
            return _wrong_type(value)
        return None if value in values else wrong

    return check


_CHECKS: Final[Mapping[str, _Check]] = {
    _TYPE: _type,
    "x-expires": _lease,
    "x-message-ttl": _duration,
    "x-dead-letter-routing-key": _dead_letter_key,
    "x-dead-letter-strategy": _one_of("invalid_dlx_strategy", "at-most-once", "at-least-once"),
    "x-max-length": _number,
    "x-max-length-bytes": _number,
    "x-max-in-memory-length": _number,
    "x-max-in-memory-bytes": _number,
    "x-max-priority": _priorities,
    "x-overflow": _one_of("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx"),
    "x-queue-mode": _mode,
    "x-queue-version": _version,
    "x-single-active-consumer": _flag,
    "x-consumer-timeout": _number,
    "x-consumer-disconnected-timeout": _number,
    "x-quorum-initial-group-size": _count,
    "x-queue-leader-locator": _locator,
}
"""In the order in which RabbitMQ looks at them."""


# --------------------------------------------------------------------------- comparing


def assert_equivalent(
    where: str, received: Mapping[str, Any], current: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Look whether the arguments of a declaration are those of what is there.

    Args:
        where: What is there, in the words of a reply text.
        received: Those that came.
        current: Those that it has.
        names: Those that count, in order.

    Raises:
        Refusal: 406, one is another.
    """
    for name in names:
        if name in received and name in current:
            new, old = received[name], current[name]
            if not are_same(new, old):
                raise _inequivalent(name, where, _quoted(new), _quoted(old))
        elif name in received:
            raise _inequivalent(name, where, _described(received[name]), "none")
        elif name in current:
            raise _inequivalent(name, where, "none", _described(current[name]))


def _inequivalent(name: str, where: str, received: str, current: str) -> Refusal:
    return Refusal(
        406, f"inequivalent arg '{name}' for {where}: received {received} but current is {current}"
    )


def _quoted(value: Any) -> str:
    return "none" if value is None else f"'{shown(value)}'"


def _described(value: Any) -> str:
    return f"the value '{shown(value)}' of type '{type_name(value)}'"
