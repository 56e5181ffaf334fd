"""The publisher's side of a channel: messages in, confirms and returns out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from txamqpx.broker.accepting import accept
from txamqpx.broker.message import Message
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Channel
from txamqpx.protocol.frames import END, METHOD
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["PUBLISHING", "Publishing"]

_pack_confirm = struct.Struct(">BHIIQBB").pack

_MANDATORY = 1
_IMMEDIATE = 2


class Publishing:
    """What a channel does with publishes.

    Args:
        channel: The channel.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._route = channel.vhost.route
        self._profile = channel.vhost.broker.profile
        #: The number of the last publish in confirm mode; None: the channel is not in that mode.
        self.last: int | None = None
        # Up to where publishes are confirmed, and what waits to be.
        self._confirmed = 0
        self._refused: list[int] = []
        self._pending = False

    def publish(self, message: Message) -> None:
        """Route a message, and note that it is to be confirmed."""
        channel = self._channel
        if channel.closed:
            return
        try:
            if message.flags & _IMMEDIATE:
                raise Refusal(540, "immediate=true")
            message = accept(message, self._profile)
            queues = self._route(message)
        except Refusal as refusal:
            channel.refuse(refusal, amqp.BasicPublish.index)
            return
        message.channel = None  # type: ignore[assignment]  # or the queues would keep the channel
        if not queues and message.flags & _MANDATORY:
            self._return(message)
        taken = True
        for queue in queues:
            taken &= queue.publish(message)
        if self.last is not None:
            self.last += 1
            if not taken:
                self._refused.append(self.last)
            if not self._pending:
                self._pending = True
                channel.session.at_end(self.flush)

    def _return(self, message: Message) -> None:
        method = amqp.BasicReturn(312, "NO_ROUTE", message.exchange, message.routing_key)
        self._channel.core.send_content(method, message.properties, message.body)

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


class PublishingChannel(Channel, Protocol):
    """A channel, as what is asked of its publishes sees it."""

    @property
    def publishing(self) -> Publishing:
        """Its publishes."""


def _select(channel: PublishingChannel, method: amqp.ConfirmSelect) -> Method:
    if channel.publishing.last is None:
        channel.publishing.last = 0
    return amqp.ConfirmSelectOk()


PUBLISHING: Mapping[int, Callable[[PublishingChannel, Any], Method | None]] = {
    amqp.ConfirmSelect.index: _select,
}
