"""What a client knows of the types of queues: of those that it has declared itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeGuard

from txamqpx import lint
from txamqpx.errors import TopologyError
from txamqpx.server import ServerFacts
from txamqpx.spec.amqp0_9_1 import BasicConsume, BasicGet, QueueDeclare, QueueDelete, QueuePurge
from txamqpx.spec.base import Method

__all__ = ["QueueTypes"]

# How many queues are known; beyond that the oldest is forgotten: names may be made up without end.
MOST = 10_000

_TEACHES: Final = (QueueDeclare, QueueDelete)
_KINDS: Final = {"quorum": "a quorum queue", "stream": "a stream"}


class QueueTypes:
    """The quorum queues and streams that a client has declared.

    RabbitMQ ends the whole connection, and what everybody does on it, over some of what one cannot do with
    them.  Of the queues of others nothing is known, and nothing is said.

    Args:
        server: Who the broker is.  One that is not RabbitMQ may have other types, and other rules.
    """

    def __init__(self, server: ServerFacts | None = None) -> None:
        self._version = None if server is None else server.rabbitmq
        self._known: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, method: Method) -> None:
        """Take note of a request that the broker has agreed to."""
        if self._version is None:
            return
        match method:
            case QueueDeclare(queue=queue, passive=False):
                kind = (method.arguments or {}).get("x-queue-type")
            case QueueDelete(queue=queue):
                kind = None
            case _:
                return
        self._known.pop(queue, None)
        if isinstance(kind, str) and kind in _KINDS:
            self._known[queue] = kind
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def depends(self, method: Method, earlier: Iterable[Method | None]) -> bool:
        """Tell whether ``check`` has to wait for the answers to earlier methods."""
        return self._is_concerned(method) and any(isinstance(one, _TEACHES) for one in earlier)

    def _is_concerned(self, method: Method) -> TypeGuard[BasicConsume | BasicGet | QueueDelete | QueuePurge]:
        conditional = isinstance(method, QueueDelete) and (method.if_unused or method.if_empty)
        return self._version is not None and (
            conditional or isinstance(method, BasicConsume | BasicGet | QueuePurge)
        )

    def check(self, method: Method, prefetch_count: int | None = None) -> None:
        """Refuse what RabbitMQ would end a channel or the connection over.

        Args:
            method: What is about to be sent.
            prefetch_count: The limit under which a consume will be sent; 0 is none.

        Raises:
            TopologyError: It cannot be done with a queue of the type that this client has declared.
        """
        kind = self._known.get(method.queue) if self._is_concerned(method) else None
        if kind is None:
            return
        try:
            lint.check(method, self._version, queue_type=kind, prefetch_count=prefetch_count)
        except TopologyError as error:
            reason = f"{error.reason} (this client has declared the queue as {_KINDS[kind]})"
            raise TopologyError(error.parameter, reason) from None
