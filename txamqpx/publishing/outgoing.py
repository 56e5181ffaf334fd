"""What a publisher makes of a message's properties before anything is sent: checked, with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict
from uuid import uuid4

from txamqpx.errors import EncodeError
from txamqpx.protocol.publishing import content_header
from txamqpx.protocol.tuning import Tuning
from txamqpx.spec.amqp0_9_1 import BasicProperties
from txamqpx.spec.wire import RawTimestamp

__all__ = ["Outgoing", "PropertyFields", "merge_properties"]

#: RabbitMQ routes by these headers too, and closes the channel over one that is no array of texts.
_ROUTING_HEADERS = ("CC", "BCC")

_PERSISTENT = 2

_NOTHING = object()


class PropertyFields(TypedDict, total=False):
    """The properties of a message, as keywords; see ``BasicProperties``."""

    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    delivery_mode: int
    priority: int
    correlation_id: str
    reply_to: str
    expiration: str | int | timedelta
    message_id: str
    timestamp: datetime | RawTimestamp
    type: str
    user_id: str
    app_id: str
    cluster_id: str


class Outgoing:
    """Fills in and checks properties.

    Args:
        persistent: Whether messages that say nothing of it shall outlive the broker's restart.
        message_ids: Whether messages that have no ``message_id`` shall get a new one.
        login: Who we are to the broker; None: it is not known, as with a client certificate.
        impersonate: Whether ``user_id`` may be another: the broker allows it to impersonators.
        tuning: The limits in force.
    """

    def __init__(
        self,
        *,
        persistent: bool,
        message_ids: bool,
        login: str | None,
        impersonate: bool,
        tuning: Tuning,
    ) -> None:
        self._persistent = persistent
        self._message_ids = message_ids
        self._login = login
        self._impersonate = impersonate
        self._tuning = tuning
        #: Whether properties can be foreign at all.
        self.wary = impersonate or login is None
        #: What was prepared last, and what came of it: the same is to be given again to the same.
        self.given: object = _NOTHING
        self.prepared = BasicProperties()

    def merge(self, properties: BasicProperties | None, fields: PropertyFields) -> BasicProperties:
        """Return properties that are to be prepared for each of many messages.

        Raises:
            EncodeError: As ``prepare``.
        """
        merged = merge_properties(properties, fields)
        self._check(self._filled(merged))
        return merged

    def prepare(self, properties: BasicProperties | None, fields: PropertyFields) -> BasicProperties:
        """Return properties that are ready to be sent.

        Raises:
            EncodeError: Something does not fit on the wire, or the broker would close the channel over it.
        """
        ready = self._filled(merge_properties(properties, fields))
        self._check(ready)
        if not fields and not self._message_ids:
            self.given, self.prepared = properties, ready
        return ready

    def _filled(self, properties: BasicProperties) -> BasicProperties:
        missing: PropertyFields = {}
        if self._persistent and properties.delivery_mode is None:
            missing["delivery_mode"] = _PERSISTENT
        if self._message_ids and properties.message_id is None:
            missing["message_id"] = uuid4().hex
        return properties.replace(**missing) if missing else properties

    def _check(self, properties: BasicProperties) -> None:
        content_header(1, properties.class_id, properties, 0, self._tuning)
        user_id = properties.user_id
        if user_id is not None and self._login not in (None, user_id) and not self._impersonate:
            raise EncodeError(
                "must be the name of the login; a user tagged impersonator may send another with impersonate",
                "basic property user_id",
            )
        headers = properties.headers or {}
        for name in _ROUTING_HEADERS:
            keys = headers.get(name, [])
            if not isinstance(keys, list | tuple) or not all(isinstance(key, str) for key in keys):
                raise EncodeError("must be a list of routing keys", f"basic property headers > {name}")

    def is_foreign(self, properties: BasicProperties) -> bool:
        """Tell whether the broker may refuse ``properties``: they name a user who we may not be."""
        return properties.user_id not in (None, self._login)


def merge_properties(properties: BasicProperties | None, fields: PropertyFields) -> BasicProperties:
    """Return ``properties`` with what ``fields`` say in their place.

    Raises:
        EncodeError: These are no properties.
    """
    if properties is None:
        return BasicProperties(**fields)
    if type(properties) is not BasicProperties:
        raise EncodeError(f"must be BasicProperties, not {type(properties).__name__}", "properties")
    return properties.replace(**fields) if fields else properties
