"""What cannot be done: a refusal ends the channel that asked, or the whole connection."""

from __future__ import annotations

from txamqpx.spec.dialect import AMQP_0_9_1

__all__ = ["Refusal"]


class Refusal(Exception):
    """A request that a broker answers by closing the channel or the connection.

    Args:
        code: The reply code (section 1.2 of the specification's reference).
        text: What is wrong, without the code's name, which is put in front of it.
        hard: Whether the connection has to go; None: as the specification classes the code.

    Attributes:
        text: The whole reply text.
    """

    def __init__(self, code: int, text: str, *, hard: bool | None = None) -> None:
        soft = AMQP_0_9_1.soft_errors.get(code)
        name = soft or AMQP_0_9_1.hard_errors[code]
        self.code = code
        self.text = f"{name.upper().replace('-', '_')} - {text}" if text else name.upper().replace("-", "_")
        self.hard = soft is None if hard is None else hard
        super().__init__(f"{code} {self.text}")
