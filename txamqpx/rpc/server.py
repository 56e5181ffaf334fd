"""Answers requests: calls a function with each, and sends what it returns to who has asked."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from math import inf
from typing import Any, Protocol, Self, Unpack

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txamqpx.connection import AMQPProtocol
from txamqpx.consumer import Consumer
from txamqpx.consuming.settlement import Requeue, Verdict
from txamqpx.consuming.subscription import Ending
from txamqpx.consuming.terms import ConsumeOptions
from txamqpx.consuming.threaded import in_thread
from txamqpx.errors import (
    AMQPError,
    ContentTooLarge,
    EncodeError,
    InternalError,
    InvalidParameter,
    Nacked,
    NotFound,
    NotPublished,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteError,
    Unroutable,
)
from txamqpx.message import Delivery
from txamqpx.ordering import Operations
from txamqpx.publisher import Publisher
from txamqpx.publishing.outgoing import PropertyFields
from txamqpx.rpc.address import DeadlyAddresses, is_direct, is_well_formed
from txamqpx.rpc.remote import described, failure_reply
from txamqpx.spec.amqp0_9_1 import QueueDeclare

__all__ = ["Server", "ServerHost"]

# Of the process, not of a server: each has killed the connection of one.
_DEADLY = DeadlyAddresses()


class ServerHost(Protocol):
    """Whom a server belongs to: a ``Client``."""

    @property
    def protocol(self) -> AMQPProtocol:
        """The connection."""

    @property
    def operations(self) -> Operations:
        """What orders the calls that name no channel."""

    def publisher(self, *, persistent: bool) -> Publisher:
        """Return a publisher with a channel of its own."""

    def consume(
        self, queue: str, handler: Callable[[Any], object], **options: Unpack[ConsumeOptions]
    ) -> Deferred[Consumer]:
        """Call ``handler`` with each message of a queue."""


class Server:
    """Consumes requests, and replies to them.

    A request is acked once the broker has its reply, so that one which was begun and not answered is given
    to somebody else: a function may be called twice for a request.

    Args:
        client: Whose connection it uses.
        queue: Where the requests come from.
        function: Called with each ``Delivery``; may be a coroutine function, return a Deferred, or run in a
            thread.  It returns bytes, a text, which is sent in UTF-8, or None, which is an empty reply.
        describe: Says what a caller gets to know of an exception.  By default it is the class's name and
            what it says, and the exception is logged here.  It may raise, too: then there is no reply, and
            the consumer deals with the message: by a ``Verdict``, or by ``on_error``.
        check_caller: Whether to ask the broker first if anybody waits for the reply, and not to call the
            function if nobody does.  That costs a round trip for each request.
        **options: The consumer's; see ``Terms``.  ``on_error`` is for what no caller can be told of.

    Raises:
        InvalidParameter: Of the consumer's options there are no batches and no manual acks here.

    Attributes:
        replied: How many replies the broker has taken, those that tell of a failure among them.
        failed: How many requests the function has failed on.
        undeliverable: How many replies reached nobody: who had asked has gone, or gave no address.
        abandoned: How many requests were not looked at, because nobody waited for the reply.
    """

    log = Logger()

    def __init__(
        self,
        client: ServerHost,
        queue: str,
        function: Callable[[Any], object],
        *,
        describe: Callable[[Exception, Delivery], RemoteError] | None = None,
        check_caller: bool = False,
        **options: Unpack[ConsumeOptions],
    ) -> None:
        if options.get("batch") is not None or options.get("ack") == "manual":
            raise InvalidParameter("ack", "requests are taken one by one, and acked when they are answered")
        if not callable(function):
            raise TypeError(f"a function is called with each request, {type(function).__name__} cannot be")
        self.replied = self.failed = self.undeliverable = self.abandoned = 0
        self._queue = queue
        self._operations = client.operations
        self._made_by_rabbitmq = client.protocol.server_properties.get("product") == "RabbitMQ"
        self._describe = describe or self._told_and_described
        self._check_caller = check_caller
        thread = options.pop("thread", False)  # the function is to be there, and not what sends its reply
        self._function = in_thread(function, client.protocol.clock) if thread else function
        self._options = options
        self._client = client
        self._consumer: Consumer | None = None
        self._publisher: Publisher | None = None

    def __repr__(self) -> str:
        return f"<Server of {self._queue!r}, {self.replied} replies>"

    # ----------------------------------------------------------------------- its life

    def start(self) -> Deferred[Self]:
        """Begin to consume.

        Returns:
            A Deferred of this server.  It fails as ``Client.consume`` does.
        """
        started = self._client.consume(self._queue, self._serve, **self._options)
        self._publisher = self._client.publisher(persistent=False)
        return started.addCallbacks(self._started, self._not_started)

    def _started(self, consumer: Consumer) -> Self:
        self._consumer = consumer
        consumer.closed.addCallback(self._consumer_ended)
        return self

    def _consumer_ended(self, reason: Ending) -> None:
        # Nobody may ever close a server whose queue has gone; functions that are at work still reply.
        self._close(None, 30.0)

    def _not_started(self, failure: Failure) -> Failure:
        assert self._publisher is not None
        self._publisher.close()
        return failure

    @property
    def consumer(self) -> Consumer:
        """What consumes the requests, once the server was started."""
        assert self._consumer is not None
        return self._consumer

    @property
    def closed(self) -> Deferred[Ending]:
        """A Deferred, new each time, that fires with the reason once no more requests will come."""
        return self.consumer.closed

    async def __aenter__(self) -> Self:
        """Serve for a block; at its end the server is closed."""
        return self

    async def __aexit__(self, *reason: object) -> None:
        """Close it."""
        await self.close()

    def close(self, timeout: float = 30.0) -> Deferred[None]:
        """Take no more requests, and let those that were begun be answered.

        Args:
            timeout: Seconds after which functions are cancelled and their requests given back.

        Returns:
            A Deferred that fires when all is done.  Closing twice is harmless.

        Raises:
            InvalidParameter: ``timeout`` is no number of seconds; nothing is closed.
        """
        if not 0 <= timeout < inf:
            raise InvalidParameter("timeout", "must be a number of seconds from 0 on")
        return self._close(timeout, timeout)

    def _close(self, at_work: float | None, replies: float) -> Deferred[None]:
        assert self._publisher is not None
        publisher = self._publisher
        return self.consumer.cancel(at_work).addCallback(lambda _: publisher.close(replies))

    # ----------------------------------------------------------------------- one request

    async def _serve(self, delivery: Delivery) -> None:
        reply_to = delivery.properties.reply_to
        if not reply_to:
            await self._result(delivery)
            return
        if self._check_caller and not await self._is_waited_for(reply_to):
            self.abandoned += 1
            return
        try:
            body, fields = _encoded(await self._result(delivery)), PropertyFields()
        except Verdict:
            raise
        except Exception as error:
            if isinstance(error, CancelledError) and self._consumer is not None and self._consumer.abandoned:
                raise  # it was cancelled from here, and somebody else gets the request
            self.failed += 1
            body, fields = failure_reply(self._describe(error, delivery))
        await self._reply(delivery, reply_to, body, fields)

    async def _result(self, delivery: Delivery) -> Any:
        result = self._function(delivery)
        return await result if iscoroutine(result) or isinstance(result, Deferred) else result

    def _told_and_described(self, error: Exception, delivery: Delivery) -> RemoteError:
        if not isinstance(error, RemoteError):
            self.log.failure(
                "failed on a request from {queue}: {delivery}", queue=self._queue, delivery=delivery
            )
        return described(error)

    async def _reply(self, delivery: Delivery, reply_to: str, body: bytes, fields: PropertyFields) -> None:
        """Send a reply, until the broker has it or nobody can have it."""
        if not self._is_usable(reply_to):
            self.undeliverable += 1
            return
        assert self._publisher is not None
        correlation_id = delivery.properties.correlation_id
        if correlation_id is not None:
            fields["correlation_id"] = correlation_id
        # RabbitMQ before 4 returns a mandatory reply from a direct address, although it delivers it; since
        # then it returns none, although nobody may be there.
        mandatory = not is_direct(reply_to)
        try:
            await self._publisher.publish(body, routing_key=reply_to, mandatory=mandatory, **fields)
        except (Unroutable, Nacked, EncodeError) as error:
            self.undeliverable += 1
            self.log.debug("nobody gets the reply to {delivery}: {error}", delivery=delivery, error=error)
        except (PreconditionFailed, ContentTooLarge) as error:
            if "headers" in fields:
                raise
            self.log.warn("the broker refused a reply to {delivery}: {error}", delivery=delivery, error=error)
            refused = RemoteError("ReplyRefused", f"the broker did not take the reply: {error.reply_text}")
            await self._reply(delivery, reply_to, *failure_reply(refused))
        except (NotPublished, OutcomeUnknown) as error:
            self._note_death(error, reply_to)
            raise Requeue(f"the reply could not be sent: {error}") from error
        else:
            self.replied += 1

    # ----------------------------------------------------------------------- who has asked

    def _is_usable(self, reply_to: str) -> bool:
        if not is_direct(reply_to) or not self._made_by_rabbitmq:
            return True
        return is_well_formed(reply_to) and reply_to not in _DEADLY

    async def _is_waited_for(self, reply_to: str) -> bool:
        if not self._is_usable(reply_to):
            return False
        try:
            await self._operations.call(QueueDeclare(queue=reply_to, passive=True))
        except (NotFound, EncodeError):
            return False
        except AMQPError as error:
            # A queue that is exclusive to its owner (405) is there; for the rest the reply will tell.
            self._note_death(error, reply_to)
        return True

    def _note_death(self, error: AMQPError, reply_to: str) -> None:
        if is_direct(reply_to) and isinstance(error.__cause__ or error, InternalError):
            _DEADLY.add(reply_to)


def _encoded(result: object) -> bytes:
    if result is None:
        return b""
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)
    raise TypeError(f"a function returns bytes, a text or None, not {type(result).__name__}")
