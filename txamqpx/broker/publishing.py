"""The publisher's side of a channel: messages in, confirms and returns out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from txamqpx.broker.accepting import accept
from txamqpx.broker.fields import Parts, parts_of, properties_of, short_text
from txamqpx.broker.message import Message
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.reply_to import NAME, ReplyTo
from txamqpx.broker.roles import Channel
from txamqpx.errors import DecodeError
from txamqpx.protocol.delivering import hand_over
from txamqpx.protocol.frames import END, METHOD
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["PUBLISHING", "Destination", "Publishes", "Publishing"]

_pack_confirm = struct.Struct(">BHIIQBB").pack

_IMMEDIATE = 2

_DELIVERY_MODE = 0x1000
_REPLY_TO = 0x0200
_USER_ID = 0x0010

_REPLY_TO_HERE = short_text(NAME)


class Destination(Protocol):
    """Where a message goes."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def deleted(self) -> bool:
        """Whether it is gone."""

    def publish(self, message: Message) -> bool:
        """Take a message; return False if it is refused."""


class Waiting(Protocol):
    """A transaction, as publishes see it."""

    def publish(self, message: Message, destinations: Sequence[Destination]) -> None:
        """Keep a message until the commit."""


class Publishing:
    """What a channel does with publishes.

    Args:
        channel: The channel.

    Attributes:
        last: The number of the last publish in confirm mode; None: the channel is not in that mode.
        transaction: Where messages wait for a commit; None: they do not.
    """

    def __init__(self, channel: Publishes) -> None:
        self._channel = channel
        self._vhost = channel.vhost
        self._profile = channel.vhost.broker.profile
        self._note = channel.session.note
        self.last: int | None = None
        self.transaction: Waiting | None = None
        # Exchanges that may be written to: rights that are taken away later are as good as kept, as RabbitMQ
        # keeps what it has found out.
        self._granted: set[str] = set()
        # The last header in which there was nothing to look at, and most messages have the same.
        self._plain = b"\0\0"
        # The flags in the first octet of a header that are for us to look at.
        self._looked_at = (_REPLY_TO | (_DELIVERY_MODE if self._profile.known_delivery_modes else 0)) >> 8
        # Up to where publishes are confirmed, and what waits to be.
        self._confirmed = 0
        self._refused: list[int] = []
        self._pending = False

    # ----------------------------------------------------------------------- messages in

    def publish(self, message: Message) -> None:
        """Route a message, and note that it is to be confirmed."""
        channel = self._channel
        if channel.closed:
            return
        try:
            if message.flags & _IMMEDIATE:
                raise Refusal(540, "immediate=true")
            exchange = message.exchange
            if exchange not in self._granted:
                channel.demand("write", "exchange", exchange)
                self._granted.add(exchange)
            if exchange:
                self._admit(exchange, message.routing_key)
            if message.header != self._plain:
                message = self._checked(message)
            destinations = self._vhost.route(message)
            if not destinations and not exchange:
                self._vhost.replies.check(message.routing_key)
        except Refusal as refusal:
            channel.refuse(refusal, amqp.BasicPublish.index)
            return
        message.channel = None  # type: ignore[assignment]  # or the queues would keep the channel
        noted = self._note(message, self.last is not None)
        if self.last is None:
            if noted:
                hand_on = self.deliver if self.transaction is None else self.transaction.publish
                hand_on(message, destinations)
            return
        self.last += 1
        if not self._pending:
            self._pending = True
            channel.session.at_end(self.flush)
        if not noted or not self.deliver(message, destinations):
            self._refused.append(self.last)

    def _admit(self, exchange: str, routing_key: str) -> None:
        self._vhost.admit(exchange)
        account = self._channel.session.account
        if account is None or not account.topics or self._vhost.exchanges[exchange].kind != "topic":
            return
        if not account.may_use_topic(self._vhost.name, exchange, "write", routing_key):
            raise self._channel.denial("write", f"topic '{routing_key}' in exchange '{exchange}'")

    def deliver(self, message: Message, destinations: Sequence[Destination]) -> bool:
        """Give a message to its destinations, or back if there are none; return False if one refuses it."""
        if message.flags and not self._is_routed(destinations):
            method = amqp.BasicReturn(312, "NO_ROUTE", message.exchange, message.routing_key)
            hand_over(self._channel.core, method, message.header, message.body)
        if len(destinations) == 1:
            destination = destinations[0]
            return not destination.deleted and destination.publish(message)
        taken = True
        with self._vhost.burials:
            for destination in destinations:
                taken &= not destination.deleted and destination.publish(message)
        return taken

    def _is_routed(self, destinations: Sequence[Destination]) -> bool:
        if self._profile.replies_are_queues:
            return bool(destinations)
        return not all(isinstance(one, ReplyTo) for one in destinations)

    # ----------------------------------------------------------------------- properties

    def _checked(self, message: Message) -> Message:
        """Return a message as it is kept, whose properties are not those of the one before.

        Raises:
            Refusal: 406, there is something wrong with them; 541, they are none.
        """
        header, profile = message.header, self._profile
        parts: Parts = {}
        if len(header) > 1 and (header[0] & self._looked_at or header[1] & _USER_ID):
            try:
                parts = parts_of(header)
            except DecodeError:
                raise Refusal(541, "") from None
        if parts.get(_REPLY_TO) == _REPLY_TO_HERE:
            parts[_REPLY_TO] = short_text(self._channel.replies.address)
            message.header = properties_of(parts)
        if not profile.user_id_last:
            self._check_user(parts)
        accepted = accept(message, profile)
        mode = parts.get(_DELIVERY_MODE, b"\1")
        if profile.known_delivery_modes and mode not in (b"\1", b"\2"):
            raise Refusal(406, f"invalid message: {{delivery_mode_unknown,{mode[0]}}}")
        if profile.user_id_last:
            self._check_user(parts)
        if accepted is message and message.header is header:
            self._plain = header
        return accepted

    def _check_user(self, parts: Mapping[int, bytes]) -> None:
        said = parts.get(_USER_ID)
        user = self._channel.session.user
        if said is not None and said[1:] != user.encode():
            name = said[1:].decode("utf-8", "replace")
            raise Refusal(406, f"user_id property set to '{name}' but authenticated user was '{user}'")

    # ----------------------------------------------------------------------- confirms

    def flush(self) -> None:
        """Confirm what came since the last time: one ack for all, but for what was refused."""
        self._pending = False
        if self.last is None or self._channel.closed:
            return
        refused, self._refused = self._refused, []
        for tag in refused:
            self._confirm(tag - 1)
            self._say(amqp.BasicNack.index, tag, False)
            self._confirmed = tag
        self._confirm(self.last)

    def _confirm(self, tag: int) -> None:
        if tag > self._confirmed:
            self._say(amqp.BasicAck.index, tag, tag - self._confirmed > 1)
            self._confirmed = tag

    def _say(self, index: int, tag: int, multiple: bool) -> None:
        core = self._channel.core
        core.connection.outbox.append(_pack_confirm(METHOD, core.number, 13, index, tag, multiple, END))


class Addressed(Protocol):
    """A channel's consumer of replies, as its publishes see it."""

    @property
    def address(self) -> str:
        """Where replies go."""


class Publishes(Channel, Protocol):
    """A channel with a publisher's side."""

    @property
    def publishing(self) -> Publishing:
        """That side of it."""

    @property
    def replies(self) -> Addressed:
        """Where replies to what it publishes go."""


def _select(channel: Publishes, method: amqp.ConfirmSelect) -> Method:
    publishing = channel.publishing
    if publishing.transaction is not None:
        raise Refusal(406, "cannot switch from tx to confirm mode")
    if publishing.last is None:
        publishing.last = 0
    return amqp.ConfirmSelectOk()


PUBLISHING: Mapping[int, Callable[[Any, Any], Method | None]] = {
    amqp.ConfirmSelect.index: _select,
}
