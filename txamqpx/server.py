"""What a broker says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen

__all__ = ["ServerFacts"]


@frozen
class ServerFacts:
    """Who the broker is and what it can do, from its ``connection.start``.

    Attributes:
        product: Such as ``"RabbitMQ"``.
        version: Such as ``"3.10.8"`` or ``"4.3.0-rc.1"``.
        version_info: The numbers that ``version`` begins with, to be compared: ``(3, 10, 8)``.
        capabilities: The names of the extensions that it has, such as ``"publisher_confirms"``.
        cluster_name: The name of its cluster, or of the node.
        properties: All that it said.
    """

    product: str
    version: str
    version_info: tuple[int, ...]
    capabilities: frozenset[str]
    cluster_name: str
    properties: Mapping[str, Any] = field(repr=False)

    @property
    def rabbitmq(self) -> tuple[int, ...] | None:
        """The release of RabbitMQ, such as ``(4, 3, 6)``; None if the broker is another."""
        return self.version_info if self.product == "RabbitMQ" else None

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> Self:
        """Read the ``server-properties``; what a broker leaves out, or gives in another form, is empty."""
        version = _text(properties, "version")
        numbers = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})*", version)
        capabilities = properties.get("capabilities")
        if not isinstance(capabilities, Mapping):
            capabilities = {}
        return cls(
            _text(properties, "product"),
            version,
            tuple(int(number) for number in numbers[0].split(".")) if numbers else (),
            frozenset(name for name, there in capabilities.items() if there is True),
            _text(properties, "cluster_name"),
            dict(properties),
        )


def _text(properties: Mapping[str, Any], name: str) -> str:
    value = properties.get(name)
    return value if isinstance(value, str) else ""
