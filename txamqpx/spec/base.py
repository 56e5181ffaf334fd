"""What generated protocol classes stand on.

A method class is a plain value with ``__slots__``; its ``encode`` and ``decode`` are written
out by the generator.  Encoding has a fast way and, once it failed, a slow one that finds the
field to blame: the checks cost nothing while all is well.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

from txamqpx.errors import DecodeError, EncodeError
from txamqpx.spec.wire import ENCODERS

__all__ = [
    "Method",
    "Properties",
    "Request",
    "frozen_table",
    "normal_delivery_mode",
    "normal_expiration",
    "truncated",
]

R = TypeVar("R", bound="Method")


def truncated(what: str) -> DecodeError:
    """Return the error for arguments that run past the end of their frame."""
    return DecodeError(f"{what} is cut short")


class Method:
    """One AMQP method with its arguments."""

    __slots__ = ()

    #: The method's name in the specification, such as ``"queue.declare-ok"``.
    name: ClassVar[str]
    #: Class and method number in one: the class in the upper 16 bits.
    index: ClassVar[int]
    #: A content header and body follow on the wire.
    content: ClassVar[bool] = False
    #: The indexes of the methods that answer this one; empty for those that nobody answers.
    responses: ClassVar[tuple[int, ...]] = ()
    #: Who may receive it.
    to_server: ClassVar[bool] = False
    to_client: ClassVar[bool] = False
    #: The visible fields and their elementary types, in wire order.
    fields: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Fields that no repr may show: credentials.
    secrets: ClassVar[frozenset[str]] = frozenset()

    @property
    def expects_reply(self) -> bool:
        """True if the peer answers this very method; a ``no_wait`` that is set says no."""
        return bool(self.responses)

    def encode(self) -> bytes:
        """Return the payload of the method frame: class, method and arguments.

        Raises:
            EncodeError: A field's value does not fit its type; ``field`` names it.
        """
        raise TypeError(f"{type(self).__name__} is not a method of any specification")

    @classmethod
    def decode(cls, data: bytes, offset: int, end: int) -> Self:
        """Read the arguments from ``data``, from ``offset`` to the frame's payload end at ``end``.

        Bytes left over are tolerated: a later revision may add fields.

        Raises:
            DecodeError: The arguments run past ``end``.
        """
        raise TypeError(f"{cls.__name__} is not a method of any specification")

    def refusal(self, error: EncodeError) -> EncodeError:
        """Return ``error`` again, with the field named that is to blame."""
        for field, kind in self.fields:
            try:
                ENCODERS[kind](getattr(self, field))
            except EncodeError as found:
                inside = f" > {found.field}" if found.field else ""
                return EncodeError(found.reason, f"{self.name} {field}{inside}")
        return error

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field, _ in self.fields)

    __hash__ = None  # type: ignore[assignment]  # a value with tables in it

    def __repr__(self) -> str:
        shown = (
            f"{field}={'<secret>' if field in self.secrets else repr(getattr(self, field))}"
            for field, _ in self.fields
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Request(Method, Generic[R]):
    """A method that the peer answers with an ``R``."""

    __slots__ = ()


class Properties:
    """The content properties of a class: an immutable value.

    Only what was set is there: absent and zero are different things on the wire.  The encoded
    form is kept, so a set of properties that is used for many messages is encoded once.
    """

    __slots__ = ("_encoded", "_values")

    name: ClassVar[str]
    class_id: ClassVar[int]
    #: The properties and their elementary types, in wire order.
    fields: ClassVar[tuple[tuple[str, str], ...]] = ()

    _values: dict[str, Any]
    _encoded: bytes | None

    def encode(self) -> bytes:
        """Return the property flags and the values, as they stand in the content header.

        Raises:
            EncodeError: A value does not fit its type; ``field`` names it.
        """
        if self._encoded is None:
            flags = 0
            pieces = [b""]
            for position, (field, kind) in enumerate(self.fields):
                if field in self._values:
                    flags |= 0x8000 >> position
                    try:
                        pieces.append(ENCODERS[kind](self._values[field]))
                    except EncodeError as error:
                        inside = f" > {error.field}" if error.field else ""
                        raise EncodeError(error.reason, f"{self.name} property {field}{inside}") from None
            pieces[0] = flags.to_bytes(2, "big")
            self._encoded = b"".join(pieces)
        return self._encoded

    @classmethod
    def decode(cls, data: bytes, offset: int, end: int) -> Self:
        """Read flags and values from ``data`` between ``offset`` and ``end``.

        Raises:
            DecodeError: The values run past ``end`` or are malformed, or unknown flags are set.
        """
        raise TypeError(f"{cls.__name__} are not the properties of any specification")

    @classmethod
    def _of(cls, values: dict[str, Any], encoded: bytes | None) -> Self:
        """Wrap decoded ``values`` without a copy, and the form that they had on the wire."""
        self = cls.__new__(cls)
        self._values = values
        self._encoded = encoded
        return self

    @classmethod
    def named(cls, values: Mapping[str, Any]) -> Self:
        """Make properties from names in any spelling: ``delivery_mode``, ``delivery-mode``.

        Raises:
            TypeError: A name is no property of this class.
        """
        return cls(**{name.replace("-", "_").replace(" ", "_"): value for name, value in values.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return a new dict of the properties that are set."""
        return dict(self._values)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with ``changes``; None takes a property away.

        Raises:
            TypeError: A name is no property of this class.
        """
        return type(self)(**{**self._values, **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # headers are a table

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"
        )


def frozen_table(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a read-only copy of ``table``, so that a kept encoding cannot go stale."""
    if not isinstance(table, Mapping):
        raise EncodeError(f"must be a mapping, not {type(table).__name__}", "headers")
    return MappingProxyType(dict(table))


def normal_expiration(value: str | int | timedelta) -> str:
    """Return a message's time to live in the form that brokers want: milliseconds in decimal.

    Args:
        value: Milliseconds as an int or a decimal string, or a ``timedelta``; not negative.

    Raises:
        EncodeError: It is something else; the broker would close the channel (406).
    """
    if isinstance(value, timedelta):
        value = round(value.total_seconds() * 1000)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return value
    raise EncodeError(
        f"must be milliseconds, not negative, or a timedelta: {value!r:.80}", "basic property expiration"
    )


def normal_delivery_mode(value: int) -> int:
    """Return ``value`` if it is 1 (transient) or 2 (persistent)."""
    if value in (1, 2) and not isinstance(value, bool):
        return value
    raise EncodeError(
        f"must be 1 (transient) or 2 (persistent), not {value!r:.80}", "basic property delivery_mode"
    )
