"""A channel, as the broker sees it: what is asked on it, and by whom that is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from txamqpx.broker.consuming import CONSUMING, Consuming
from txamqpx.broker.declaring import DECLARING
from txamqpx.broker.publishing import PUBLISHING, Publishing
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Connection
from txamqpx.broker.vhost import VirtualHost
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.events import Requested
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["BrokerChannel"]

#: Does what a method asks, and returns the answer, if there is one.
Action = Callable[["BrokerChannel", Any], Method | None]

# A reply text is a short string; what does not fit is cut.
_LONGEST_TEXT = 255


class BrokerChannel:
    """One channel of a client's connection.

    Args:
        session: The connection.
        core: The channel's core.
    """

    def __init__(self, session: Connection, core: ChannelCore) -> None:
        self.session = session
        self.core = core
        self.vhost: VirtualHost = session.vhost
        #: What an empty queue name stands for: the queue that was declared last.
        self.last_queue = ""
        self.publishing = Publishing(self)
        self.consuming = Consuming(self)
        self.closed = False
        core.owner = self

    def requested(self, event: Requested) -> None:
        """Do what a method asks, and answer."""
        method = event.method
        if self.closed:
            return
        try:
            answer = ACTIONS[method.index](self, method)
        except Refusal as refusal:
            self.refuse(refusal, method.index)
            return
        if answer is not None and not getattr(method, "no_wait", False) and not self.closed:
            self.core.send(answer)

    def queue_name(self, name: str) -> str:
        """Return what a name stands for."""
        if name or not self.last_queue:
            return name
        return self.last_queue

    # ----------------------------------------------------------------------- the end

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close the channel, or the connection, and tell why.

        Args:
            refusal: Why.
            culprit: The index of the method that is to blame; 0: none is.
        """
        if refusal.hard:
            self.session.refuse(refusal, culprit)
            return
        self.publishing.flush()
        self.end()
        text = refusal.text.encode()[:_LONGEST_TEXT].decode("utf-8", "ignore")
        self.core.send(amqp.ChannelClose(refusal.code, text, culprit >> 16, culprit & 0xFFFF))

    def end(self) -> None:
        """Take back what was not settled, and end the consumers: the channel is over."""
        if not self.closed:
            self.closed = True
            self.consuming.end()


def _flow(channel: BrokerChannel, method: amqp.ChannelFlow) -> Method:
    if not method.active:
        raise Refusal(540, "active=false")
    return amqp.ChannelFlowOk(True)


ACTIONS: Mapping[int, Action] = {
    amqp.ChannelFlow.index: _flow,
    **DECLARING,
    **PUBLISHING,
    **CONSUMING,
}
