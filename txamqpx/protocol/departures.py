"""What a channel does before it sends certain methods: it may refuse them, and takes note of them.

A refusal comes before anything has changed.  Some methods are refused because RabbitMQ would answer
them by closing the whole connection, over a call that is somebody's slip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from txamqpx.errors import ChannelClosed, ConsumerTagInUse, LocalProtocolError
from txamqpx.protocol.channel import ChannelCore, Consumer, Preparation
from txamqpx.protocol.confirms import ConfirmLedger
from txamqpx.protocol.states import Mode
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.wire import encode_short_string

__all__ = ["CLIENT_PREPARATIONS", "SERVER_PREPARATIONS"]


def _refused(operation: str, why: str, reply_code: int = 540) -> LocalProtocolError:
    return LocalProtocolError(f"{operation}: {why}", reply_code=reply_code, operation=operation)


def _consume(channel: ChannelCore, method: amqp.BasicConsume, consumer: Any) -> None:
    key = encode_short_string(method.consumer_tag)[1:]
    if not key:
        raise _refused(method.name, "needs a consumer tag, as deliveries may overtake the answer", 503)
    if not method.expects_reply:
        raise _refused(method.name, "a consumer whose answer nobody awaits can never be cancelled", 503)
    if key in channel.consumers or _is_being_cancelled(channel, method.consumer_tag):
        raise ConsumerTagInUse(
            f"channel {channel.number} has a consumer {method.consumer_tag!r} already", reply_code=530
        )
    channel.consumers[key] = Consumer(method.consumer_tag, method.no_ack, consumer)


def _is_being_cancelled(channel: ChannelCore, consumer_tag: str) -> bool:
    # A second basic.cancel may be on its way; its answer must not be taken for a new consumer's end.
    return any(
        one.request.index == amqp.BasicCancel.index
        and getattr(one.request, "consumer_tag", "") == consumer_tag
        for one in channel.waiting
    )


def _cancel(channel: ChannelCore, method: amqp.BasicCancel, consumer: Any) -> None:
    if not method.expects_reply:
        raise _refused(method.name, "without an answer nobody knows when deliveries end", 503)
    known = channel.consumers.get(encode_short_string(method.consumer_tag)[1:])
    if known is not None and not known.started:
        # RabbitMQ forgets the tag and then trips over the queue's answer: 3.10 closes the connection
        # (541), 4.3 never answers the consume.
        raise LocalProtocolError(
            f"consumer {known.tag!r} cannot be cancelled before basic.consume is answered",
            operation=method.name,
        )


def _qos(channel: ChannelCore, method: amqp.BasicQos, consumer: Any) -> None:
    if method.prefetch_size:
        raise _refused(method.name, "no broker limits what is unsettled in bytes (prefetch_size)")


def _flow(channel: ChannelCore, method: amqp.ChannelFlow, consumer: Any) -> None:
    if not method.active:
        raise _refused(method.name, "RabbitMQ stops no deliveries: limit them by prefetch, or cancel")


def _settle(channel: ChannelCore, method: amqp.BasicAck | amqp.BasicNack, consumer: Any) -> None:
    channel.unsettled.settle(method.delivery_tag, method.multiple)


def _reject(channel: ChannelCore, method: amqp.BasicReject, consumer: Any) -> None:
    channel.unsettled.settle(method.delivery_tag, False)


def _recover(channel: ChannelCore, method: amqp.BasicRecover, consumer: Any) -> None:
    _require_requeue(method)
    channel.unsettled.recover()


def _recover_async(channel: ChannelCore, method: amqp.BasicRecoverAsync, consumer: Any) -> None:
    _require_requeue(method)
    channel.unsettled.forget()


def _require_requeue(method: amqp.BasicRecover | amqp.BasicRecoverAsync) -> None:
    if not method.requeue:
        raise _refused(method.name, "RabbitMQ gives messages out again only to whomever it likes (requeue)")


def _confirm_select(channel: ChannelCore, method: amqp.ConfirmSelect, consumer: Any) -> None:
    channel.mode = Mode.CONFIRM
    if channel.confirms is None:
        channel.confirms = ConfirmLedger()


def _tx_select(channel: ChannelCore, method: amqp.TxSelect, consumer: Any) -> None:
    if channel.mode is not Mode.TRANSACTION:
        channel.mode = Mode.TRANSACTION
        channel.unsettled.begin()


def _tx_commit(channel: ChannelCore, method: amqp.TxCommit, consumer: Any) -> None:
    channel.unsettled.begin()  # now, as what is settled before the answer belongs to the next transaction


def _tx_rollback(channel: ChannelCore, method: amqp.TxRollback, consumer: Any) -> None:
    channel.unsettled.undo()


def _close(channel: ChannelCore, method: amqp.ChannelClose, consumer: Any) -> None:
    error = ChannelClosed.from_reply(method.reply_code, method.reply_text, by_peer=False)
    channel.error = error
    channel.fail_all(error)
    channel.unsettled.forget()  # the broker gives out again what is not settled by now


#: What a client's methods do before they are sent.
CLIENT_PREPARATIONS: Mapping[int, Preparation] = {
    amqp.BasicConsume.index: _consume,
    amqp.BasicCancel.index: _cancel,
    amqp.BasicQos.index: _qos,
    amqp.ChannelFlow.index: _flow,
    amqp.BasicAck.index: _settle,
    amqp.BasicNack.index: _settle,
    amqp.BasicReject.index: _reject,
    amqp.BasicRecover.index: _recover,
    amqp.BasicRecoverAsync.index: _recover_async,
    amqp.ConfirmSelect.index: _confirm_select,
    amqp.TxSelect.index: _tx_select,
    amqp.TxCommit.index: _tx_commit,
    amqp.TxRollback.index: _tx_rollback,
    amqp.ChannelClose.index: _close,
}

#: A server's ``basic.ack`` confirms a publish and settles nothing of its own.
SERVER_PREPARATIONS: Mapping[int, Preparation] = {amqp.ChannelClose.index: _close}
