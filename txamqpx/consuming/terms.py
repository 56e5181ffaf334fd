"""What a consumer was asked to do: its options, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from attrs import field, frozen

from txamqpx.consuming.batch import Batch
from txamqpx.consuming.settlement import Policy, check_policy
from txamqpx.errors import InvalidParameter
from txamqpx.message import Delivery

__all__ = ["AckMode", "ConsumeOptions", "Terms", "check_prefetch"]

AckMode = Literal["auto", "manual", "early", "none"]

_ACK_MODES = ("auto", "manual", "early", "none")
_MOST = 0xFFFF


class ConsumeOptions(TypedDict, total=False):
    """The options of a consumer, as keywords; ``Terms`` tells what they mean."""

    prefetch: int | None
    concurrency: int
    order_by: Callable[[Delivery], Hashable] | None
    ack: AckMode
    on_error: Policy
    attempts: int
    thread: bool
    batch: Batch | None
    exclusive: bool
    priority: int | None
    consumer_tag: str
    arguments: Mapping[str, Any] | None
    resume: bool
    exchange: str
    binding_keys: Sequence[str | None]
    forgotten_after: float | None
    debug: bool


def check_prefetch(prefetch: int | None, concurrency: int, batch: Batch | None) -> None:
    """Refuse a limit that is none, or under which a handler would wait for ever.

    Raises:
        TypeError: It is no number.
        InvalidParameter: It does not fit, or is too small.
    """
    if prefetch is None:
        return
    if type(prefetch) is not int:
        raise TypeError(f"prefetch is an int or None, not {type(prefetch).__name__}")
    if not 1 <= prefetch <= _MOST:
        raise InvalidParameter(
            "prefetch", f"is from 1 to {_MOST}, or None for no limit at all, not {prefetch}"
        )
    if prefetch < concurrency:
        raise InvalidParameter("prefetch", f"of {prefetch} never lets {concurrency} handlers work at a time")
    if batch is not None and prefetch < batch.size:
        raise InvalidParameter("prefetch", f"of {prefetch} never lets a batch of {batch.size} come about")


def _copied(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(arguments or {})


@frozen
class Terms:
    """The options of a consumer.

    Attributes:
        prefetch: How many deliveries of each queue may be unsettled, 1 to 65535.  None: no limit, so that
            a long queue comes into memory; it has no other name, and 0 is refused.
        concurrency: How many handlers may be at work at a time; more than prefetch is a mistake.
        order_by: Gives a key for each delivery: equal ones are handled one after another, in order.
        ack: "auto": the handler's end settles.  "manual": the handler, or somebody later, settles.
            "early": acked before the handler is called.  "none": the broker forgets what it has sent.
        on_error: What becomes of a message whose handler raises what is no ``Verdict``.  "requeue-once":
            tried again, but dead-lettered if it was given out before.  "requeue": tried again, which on
            classic queues has no end.  "reject": dead-lettered.  "stop": given back, and the consumer
            ends.  Or a function of the failure and the delivery that returns an ``Outcome`` or a
            ``Verdict``.
        attempts: How often a message is tried that asks for ``RetryLater``; then it is dead-lettered.
        thread: Whether handlers run in the reactor's thread pool.
        batch: How many deliveries the handler takes at a time; None: one.
        exclusive: Nobody else may consume from the queue.
        priority: The consumer's, against others of the queue (``x-priority``).
        consumer_tag: ``""``: one is made.
        arguments: More arguments for ``basic.consume``.
        resume: Whether to consume again when the broker has ended it, or its channel.
        exchange: Where to bind the queue to with each of ``binding_keys``; ``""``: nowhere.
        binding_keys: None stands for the queue's own name.
        forgotten_after: Seconds after which a delivery that its handler has left unsettled is warned of,
            in manual mode; None: never.
        debug: Whether to remember where each delivery was settled, for who settles twice.
    """

    prefetch: int | None = 100
    concurrency: int = 1
    order_by: Callable[[Delivery], Hashable] | None = None
    ack: AckMode = "auto"
    on_error: Policy = "requeue-once"
    attempts: int = 5
    thread: bool = False
    batch: Batch | None = None
    exclusive: bool = False
    priority: int | None = None
    consumer_tag: str = ""
    arguments: Mapping[str, Any] = field(default=None, converter=_copied)
    resume: bool = False
    exchange: str = ""
    binding_keys: Sequence[str | None] = (None,)
    forgotten_after: float | None = 300.0
    debug: bool = False

    def __attrs_post_init__(self) -> None:
        if self.ack not in _ACK_MODES:
            raise InvalidParameter("ack", f"is one of {', '.join(_ACK_MODES)}, not {self.ack!r}")
        for name in ("concurrency", "attempts"):
            if type(number := getattr(self, name)) is not int or number < 1:
                raise InvalidParameter(name, f"is a number from 1 on, not {number!r}")
        check_policy(self.on_error)
        if self.order_by is not None and self.batch is not None:
            raise InvalidParameter("order_by", "is for one delivery at a time: a batch has many keys")
        if isinstance(self.binding_keys, str):
            raise TypeError("binding_keys is a sequence of keys, not one")
        if self.resume and self.has_offset:
            raise InvalidParameter("resume", "would read the stream again from the offset that is given")
        check_prefetch(self.prefetch, self.concurrency, self.batch)

    @property
    def has_offset(self) -> bool:
        """Whether it begins at a place in a stream, where it would begin again if it were made again."""
        return "x-stream-offset" in self.arguments

    @property
    def consume_arguments(self) -> dict[str, Any]:
        """What goes with ``basic.consume``."""
        priority = {} if self.priority is None else {"x-priority": self.priority}
        return {**priority, **self.arguments}

    @property
    def is_plain(self) -> bool:
        """Whether a delivery can be handed to the handler as it comes."""
        special = self.thread or self.batch is not None or self.order_by is not None
        return self.ack in ("auto", "none") and not special
