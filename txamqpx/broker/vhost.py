"""A virtual host: the names, and what they stand for."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from txamqpx.broker.dead_letter import Burials
from txamqpx.broker.message import Message
from txamqpx.broker.queue import Owner, Queue
from txamqpx.broker.refusal import Refusal

__all__ = ["VirtualHost"]


class VirtualHost:
    """Exchanges, queues and bindings.

    Args:
        name: Its name.
        broker: Whose it is.
    """

    def __init__(self, name: str, broker: Owner) -> None:
        self.name = name
        self.broker = broker
        self.queues: dict[str, Queue] = {}
        #: Where dead letters go.
        self.burials = Burials(self.route_letter)

    # ----------------------------------------------------------------------- queues

    def queue(self, name: str, session: object) -> Queue:
        """Return a queue that ``session`` may use.

        Raises:
            Refusal: 404, there is none; 405, it is another connection's.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise Refusal(404, f"no queue '{name}' in vhost '{self.name}'")
        if queue.owner is not None and queue.owner is not session:
            raise Refusal(
                405,
                f"cannot obtain exclusive access to locked queue '{name}' in vhost '{self.name}'. It could "
                "be originally declared on another connection or the exclusive property value does not match "
                "that of the original declaration.",
            )
        return queue

    def declare_queue(
        self,
        name: str,
        session: object,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Mapping[str, Any],
    ) -> Queue:
        """Return a queue, new or equivalent to the one that there is."""
        if name in self.queues:
            return self.queue(name, session)
        if not name:
            name = f"amq.gen-{base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip('=')}"
        queue = self.queues[name] = Queue(
            name,
            self,
            durable=durable,
            owner=session if exclusive else None,
            auto_delete=auto_delete,
            arguments=arguments,
        )
        return queue

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue and its bindings; return how many messages were ready."""
        count = len(queue.ready)
        del self.queues[queue.name]
        queue.delete()
        return count

    def delete_exclusive(self, session: object) -> None:
        """Delete the queues that end with a connection."""
        for queue in [queue for queue in self.queues.values() if queue.owner is session]:
            self.delete_queue(queue)

    # ----------------------------------------------------------------------- routing

    def route(self, message: Message) -> list[Queue]:
        """Return the queues that a message goes to, each once.

        Raises:
            Refusal: 404, there is no such exchange; 403, it is internal.
        """
        if message.exchange:
            raise Refusal(404, f"no exchange '{message.exchange}' in vhost '{self.name}'")
        queue = self.queues.get(message.routing_key)
        return [] if queue is None else [queue]

    def route_letter(self, letter: Message) -> list[Queue]:
        """Return the queues that a dead letter goes to: none if its exchange is not there."""
        try:
            return self.route(letter)
        except Refusal:
            return []
