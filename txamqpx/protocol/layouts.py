"""Whether the arguments of a client's method fill its frame, to the octet, as RabbitMQ wants them to."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from txamqpx.errors import RemoteProtocolError
from txamqpx.spec import amqp0_9_1 as amqp

__all__ = ["LAYOUTS", "Misfit", "NotText", "check_layout"]

_long = struct.Struct(">I").unpack_from

# One letter for a field: its size in octets, or s, S and T for a short string, a long string and a table.
_SIZES = {"1": 1, "2": 2, "4": 4, "8": 8}

#: The fields of what clients send, in wire order, those that are reserved among them; bits that follow each
#: other share an octet.
LAYOUTS: Mapping[int, str] = {
    amqp.ConnectionStartOk.index: "TsSs",
    amqp.ConnectionSecureOk.index: "S",
    amqp.ConnectionTuneOk.index: "242",
    amqp.ConnectionOpen.index: "ss1",
    amqp.ConnectionClose.index: "2s22",
    amqp.ConnectionCloseOk.index: "",
    amqp.ConnectionUpdateSecret.index: "Ss",
    amqp.ChannelOpen.index: "s",
    amqp.ChannelFlow.index: "1",
    amqp.ChannelClose.index: "2s22",
    amqp.ChannelCloseOk.index: "",
    amqp.AccessRequest.index: "s1",
    amqp.ExchangeDeclare.index: "2ss1T",
    amqp.ExchangeDelete.index: "2s1",
    amqp.ExchangeBind.index: "2sss1T",
    amqp.ExchangeUnbind.index: "2sss1T",
    amqp.QueueDeclare.index: "2s1T",
    amqp.QueueBind.index: "2sss1T",
    amqp.QueueUnbind.index: "2sssT",
    amqp.QueuePurge.index: "2s1",
    amqp.QueueDelete.index: "2s1",
    amqp.BasicQos.index: "421",
    amqp.BasicConsume.index: "2ss1T",
    amqp.BasicCancel.index: "s1",
    amqp.BasicPublish.index: "2ss1",
    amqp.BasicGet.index: "2s1",
    amqp.BasicAck.index: "81",
    amqp.BasicReject.index: "81",
    amqp.BasicRecover.index: "1",
    amqp.BasicRecoverAsync.index: "1",
    amqp.BasicNack.index: "81",
    amqp.ConfirmSelect.index: "1",
    amqp.TxSelect.index: "",
    amqp.TxCommit.index: "",
    amqp.TxRollback.index: "",
}


class Misfit(RemoteProtocolError):
    """Arguments run past the end of their frame, or leave some of it over."""


class NotText(RemoteProtocolError):
    """A short string is not UTF-8."""


def check_layout(index: int, data: bytes, offset: int, end: int) -> None:
    """Check the arguments of method ``index``, which begin at ``offset`` and are to end at ``end``.

    What is inside of a table is not looked at.

    Raises:
        Misfit: They do not.
        NotText: They do, but a short string is not UTF-8.
    """
    layout = LAYOUTS.get(index)
    if layout is None:
        return
    names: list[bytes] = []
    for field in layout:
        size = _SIZES.get(field)
        if size is not None:
            offset += size
        elif field == "s" and offset < end:
            size = 1 + data[offset]
            names.append(data[offset + 1 : offset + size])
            offset += size
        elif field != "s" and offset + 4 <= end:
            offset += 4 + _long(data, offset)[0]
        else:
            offset = end + 1
    if offset != end:
        raise Misfit("arguments do not fill their frame", reply_code=501)
    for name in names:
        try:
            name.decode()
        except UnicodeDecodeError:
            raise NotText("a short string is not UTF-8", reply_code=501) from None
