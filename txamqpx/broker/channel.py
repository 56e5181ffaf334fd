"""A channel, as the broker sees it: what is asked on it, and by whom that is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from txamqpx.broker.consuming import CONSUMING, Consuming
from txamqpx.broker.declaring import DECLARING
from txamqpx.broker.direct_reply import DIRECT_REPLY, ReplyConsumer
from txamqpx.broker.publishing import PUBLISHING, Publishing
from txamqpx.broker.refusal import Refusal
from txamqpx.broker.roles import Connection
from txamqpx.broker.transaction import TRANSACTIONS, Transaction
from txamqpx.broker.vhost import VirtualHost
from txamqpx.protocol.channel import ChannelCore
from txamqpx.protocol.events import Requested
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

__all__ = ["BrokerChannel"]

#: Does what a method asks, and returns the answer, if there is one.
Action = Callable[["BrokerChannel", Any], Method | None]


class BrokerChannel:
    """One channel of a client's connection.

    Args:
        session: The connection.
        core: The channel's core.

    Attributes:
        last_queue: What an empty queue name stands for: the queue that was declared last.
        closed: Whether it is over, for the broker at least.
        transaction: What waits for a commit; None: it is not in transaction mode.
    """

    def __init__(self, session: Connection, core: ChannelCore) -> None:
        self.session = session
        self.core = core
        self.vhost: VirtualHost = session.vhost
        self.last_queue = ""
        self.closed = False
        self.transaction: Transaction | None = None
        self.publishing = Publishing(self)
        self.consuming = Consuming(self)
        self.replies = ReplyConsumer(self)
        core.owner = self

    # ----------------------------------------------------------------------- what is asked

    def requested(self, event: Requested) -> None:
        """Do what a method asks, and answer."""
        method = event.method
        if self.closed:
            return
        try:
            action = ACTIONS.get(method.index)
            if action is None:
                raise Refusal(503, "unimplemented method")
            answer = action(self, method)
        except Refusal as refusal:
            self.refuse(refusal, method.index)
            return
        if answer is not None and not getattr(method, "no_wait", False) and not self.closed:
            self.core.send(answer)

    def acked(self, words: list[tuple[int, bool]]) -> None:
        """Settle deliveries, at once or with the transaction."""
        if self.closed:
            return
        try:
            (self.consuming if self.transaction is None else self.transaction).ack(words)
        except Refusal as refusal:
            self.refuse(refusal, amqp.BasicAck.index)

    def queue_name(self, name: str) -> str:
        """Return what a name stands for: none is that of the queue that was declared last.

        Raises:
            Refusal: 404, none was.
        """
        if not name and not self.last_queue:
            raise Refusal(404, "no previously declared queue")
        return name or self.last_queue

    def demand(self, right: str, kind: str, name: str) -> None:
        """Look whether the user has a right.

        Args:
            right: ``configure``, ``write`` or ``read``.
            kind: Of what: ``exchange`` or ``queue``.
            name: Its name, whether it is there or not.

        Raises:
            Refusal: 403, the user has not.
        """
        vhost, account = self.vhost, self.session.account
        if account is None or not account.may(vhost.name, right, name):
            raise self.denial(right, f"{kind} '{name or 'amq.default'}'")

    def denial(self, right: str, what: str) -> Refusal:
        """Return what the user is told who lacks a right."""
        said = f"{right} access" if self.vhost.broker.profile.rights_have_names else "access"
        where = f"{what} in vhost '{self.vhost.name}'"
        return Refusal(403, f"{said} to {where} refused for user '{self.session.user}'")

    # ----------------------------------------------------------------------- the broker's own words

    def flow(self, active: bool) -> None:
        """Ask the client to pause its publishes, or to go on, unless that is over; RabbitMQ never does."""
        if not self.closed:
            self.core.send(amqp.ChannelFlow(active))

    # ----------------------------------------------------------------------- the end

    def refuse(self, refusal: Refusal, culprit: int = 0) -> None:
        """Close the channel, or the connection, and tell why.

        Args:
            refusal: Why.
            culprit: The index of the method that is to blame; 0: none is.
        """
        self.publishing.flush()
        if refusal.hard:
            # What RabbitMQ stumbles over, it does not say.
            self.session.refuse(refusal, 0 if refusal.code == 541 else culprit)
            return
        self.end()
        self.core.send(amqp.ChannelClose(refusal.code, refusal.text, culprit >> 16, culprit & 0xFFFF))

    def end(self) -> None:
        """Take back what was not settled, and end the consumers: the channel is over."""
        if not self.closed:
            self.closed = True
            if self.transaction is not None:
                self.transaction.roll_back()
            self.replies.end()
            self.consuming.end()


def _flow(channel: BrokerChannel, method: amqp.ChannelFlow) -> Method:
    if not method.active:
        raise Refusal(540, "active=false")
    return amqp.ChannelFlowOk(True)


def _access(channel: BrokerChannel, method: amqp.AccessRequest) -> Method:
    return amqp.AccessRequestOk(1)  # everybody has access to every realm: there are none


ACTIONS: Mapping[int, Action] = {
    amqp.AccessRequest.index: _access,
    amqp.ChannelFlow.index: _flow,
    **DECLARING,
    **PUBLISHING,
    **CONSUMING,
    **TRANSACTIONS,
    **DIRECT_REPLY,
}
