"""What cannot be done: a refusal ends the channel that asked, or the whole connection."""

from __future__ import annotations

from txamqpx.spec.dialect import AMQP_0_9_1

__all__ = ["Refusal"]

# A reply text is a short string.
_LONGEST = 255
_DOTS = "..."


class Refusal(Exception):
    """A request that a broker answers by closing the channel or the connection.

    Args:
        code: The reply code (section 1.2 of the specification's reference).
        text: What is wrong, without the code's name, which is put in front of it.
        hard: Whether the connection has to go; None: as the specification classes the code.

    Attributes:
        text: The reply text; a long one is cut, and has dots at its end.
    """

    def __init__(self, code: int, text: str, *, hard: bool | None = None) -> None:
        soft = AMQP_0_9_1.soft_errors.get(code)
        name = soft or AMQP_0_9_1.hard_errors[code]
        self.code = code
        whole = f"{name.upper().replace('-', '_')} - {text}" if text else name.upper().replace("-", "_")
        self.text = _cut(whole)
        self.hard = soft is None if hard is None else hard
        super().__init__(f"{code} {self.text}")


def _cut(text: str) -> str:
    raw = text.encode()
    if len(raw) <= _LONGEST:
        return text
    return f"{raw[: _LONGEST - len(_DOTS)].decode('utf-8', 'ignore')}{_DOTS}"
