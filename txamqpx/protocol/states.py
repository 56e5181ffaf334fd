"""Which method may come when.

Two rules.  Everything that decides legality lives in this file.  And nothing here knows
whether *we* are the client or the broker: each row has a half for either sender, and a
machine that could tell the two apart would let us forgive ourselves what we forbid the peer.

A table maps a state to what the client and what the server may send in it, and to the state
that follows; absent means illegal.  The tables speak in the specification's names;
``compile_tables`` turns them into indexes of one protocol version, so that a machine holds the
current row and a step is a single look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import frozen

from txamqpx.spec.base import Method
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect

__all__ = ["ChannelState", "ConnectionState", "Mode", "Role", "Row", "Rows", "Tables", "compile_tables"]


class Role(Enum):
    """Who we are: the one thing that the tables do not know."""

    CLIENT = "client"
    SERVER = "server"


class ConnectionState(Enum):
    """How far the conversation on channel 0 has come; "await" says for what."""

    AWAIT_HEADER = "waiting for the protocol header"
    AWAIT_START = "waiting for connection.start"
    AWAIT_START_OK = "waiting for connection.start-ok"
    AWAIT_TUNE = "waiting for connection.tune"
    AWAIT_SECURE_OK = "waiting for connection.secure-ok"
    AWAIT_TUNE_OK = "waiting for connection.tune-ok"
    AWAIT_OPEN = "waiting for connection.open"
    AWAIT_OPEN_OK = "waiting for connection.open-ok"
    OPEN = "open"
    CLIENT_CLOSING = "being closed by the client"
    SERVER_CLOSING = "being closed by the server"
    CLOSED = "closed"


class ChannelState(Enum):
    """What a channel is doing."""

    CLOSED = "closed"
    OPENING = "being opened"
    OPEN = "open"
    CLIENT_CLOSING = "being closed by the client"
    SERVER_CLOSING = "being closed by the server"


class Mode(Enum):
    """What a channel does with publishes: the two modes exclude each other (RabbitMQ: 406)."""

    PLAIN = "plain"
    CONFIRM = "confirm"
    TRANSACTION = "transaction"


@frozen
class Either:
    """What either side may send in one state, by name, and the state that follows."""

    client: Mapping[str, Enum] = {}
    server: Mapping[str, Enum] = {}


_C = ConnectionState
# Each side may give up at any point, once the other has said its first word.
_LEAVES = {"connection.close": _C.CLIENT_CLOSING}
_REFUSES = {"connection.close": _C.SERVER_CLOSING}

CONNECTION: Mapping[ConnectionState, Either] = {
    _C.AWAIT_HEADER: Either(),
    _C.AWAIT_START: Either(server={"connection.start": _C.AWAIT_START_OK, **_REFUSES}),
    _C.AWAIT_START_OK: Either(client={"connection.start-ok": _C.AWAIT_TUNE, **_LEAVES}, server=_REFUSES),
    _C.AWAIT_TUNE: Either(
        client=_LEAVES,
        server={"connection.secure": _C.AWAIT_SECURE_OK, "connection.tune": _C.AWAIT_TUNE_OK, **_REFUSES},
    ),
    _C.AWAIT_SECURE_OK: Either(client={"connection.secure-ok": _C.AWAIT_TUNE, **_LEAVES}, server=_REFUSES),
    _C.AWAIT_TUNE_OK: Either(client={"connection.tune-ok": _C.AWAIT_OPEN, **_LEAVES}, server=_REFUSES),
    _C.AWAIT_OPEN: Either(client={"connection.open": _C.AWAIT_OPEN_OK, **_LEAVES}, server=_REFUSES),
    _C.AWAIT_OPEN_OK: Either(server={"connection.open-ok": _C.OPEN, **_REFUSES}, client=_LEAVES),
    _C.OPEN: Either(
        client={"connection.update-secret": _C.OPEN, **_LEAVES},
        server={
            "connection.blocked": _C.OPEN,
            "connection.unblocked": _C.OPEN,
            "connection.update-secret-ok": _C.OPEN,
            **_REFUSES,
        },
    ),
    # Closes may cross: each side answers the other's and still waits for its own answer.
    _C.CLIENT_CLOSING: Either(
        client={"connection.close-ok": _C.CLIENT_CLOSING},
        server={"connection.close-ok": _C.CLOSED, "connection.close": _C.CLIENT_CLOSING},
    ),
    _C.SERVER_CLOSING: Either(
        client={"connection.close-ok": _C.CLOSED, "connection.close": _C.SERVER_CLOSING},
        server={"connection.close-ok": _C.SERVER_CLOSING},
    ),
    _C.CLOSED: Either(),
}

#: Stands for every method of the classes that do a channel's work, for whichever side may send it.
WORK = "*"

_S = ChannelState

CHANNEL: Mapping[ChannelState, Either] = {
    _S.CLOSED: Either(client={"channel.open": _S.OPENING}),
    # A client need not wait for open-ok: the server takes its methods in order.
    _S.OPENING: Either(
        client={WORK: _S.OPENING, "channel.close": _S.CLIENT_CLOSING},
        server={"channel.open-ok": _S.OPEN, "channel.close": _S.SERVER_CLOSING},
    ),
    _S.OPEN: Either(
        client={WORK: _S.OPEN, "channel.close": _S.CLIENT_CLOSING},
        server={WORK: _S.OPEN, "channel.close": _S.SERVER_CLOSING},
    ),
    # Whoever was told to close may have sent more before it heard of it.
    _S.CLIENT_CLOSING: Either(
        client={"channel.close-ok": _S.CLIENT_CLOSING},
        server={
            WORK: _S.CLIENT_CLOSING,
            "channel.open-ok": _S.CLIENT_CLOSING,
            "channel.close": _S.CLIENT_CLOSING,
            "channel.close-ok": _S.CLOSED,
        },
    ),
    _S.SERVER_CLOSING: Either(
        client={WORK: _S.SERVER_CLOSING, "channel.close": _S.SERVER_CLOSING, "channel.close-ok": _S.CLOSED},
        server={"channel.close-ok": _S.SERVER_CLOSING},
    ),
}

MODES: Mapping[Mode, Either] = {
    Mode.PLAIN: Either(client={"confirm.select": Mode.CONFIRM, "tx.select": Mode.TRANSACTION}),
    Mode.CONFIRM: Either(client={"confirm.select": Mode.CONFIRM}),
    Mode.TRANSACTION: Either(
        client={
            "tx.select": Mode.TRANSACTION,
            "tx.commit": Mode.TRANSACTION,
            "tx.rollback": Mode.TRANSACTION,
        }
    ),
}

Row = Mapping[int, Enum]


@frozen
class Rows:
    """One state's rows for a machine of one role: what we may send, and what may come."""

    sent: Row
    received: Row


@frozen
class Tables:
    """All rows of one protocol version, for one role."""

    connection: Mapping[Enum, Rows]
    channel: Mapping[Enum, Rows]
    modes: Mapping[Enum, Row]
    #: The methods whose legality depends on the mode.
    moded: frozenset[int]


def compile_tables(role: Role, dialect: Dialect = AMQP_0_9_1) -> Tables:
    """Return the tables in ``dialect``'s indexes; names that it lacks are left out."""

    def row(names: Mapping[str, Enum], *, to_server: bool) -> Row:
        found: dict[int, Enum] = {}
        for name, state in names.items():
            if name == WORK:
                found.update((index, state) for index in _work(dialect, to_server=to_server))
            elif name in dialect.by_name:
                found[dialect.by_name[name].index] = state
        return found

    def rows(either: Either) -> Rows:
        by_client, by_server = row(either.client, to_server=True), row(either.server, to_server=False)
        return Rows(by_client, by_server) if role is Role.CLIENT else Rows(by_server, by_client)

    modes: dict[Enum, Row] = {mode: row(either.client, to_server=True) for mode, either in MODES.items()}
    return Tables(
        connection={state: rows(either) for state, either in CONNECTION.items()},
        channel={state: rows(either) for state, either in CHANNEL.items()},
        modes=modes,
        moded=frozenset(index for one in modes.values() for index in one),
    )


def _work(dialect: Dialect, *, to_server: bool) -> list[int]:
    return [
        index
        for index, method in dialect.methods.items()
        if (method.to_server if to_server else method.to_client) and not _opens_or_closes(method)
    ]


def _opens_or_closes(method: type[Method]) -> bool:
    klass, _, name = method.name.partition(".")
    return klass == "connection" or (klass == "channel" and name in {"open", "open-ok", "close", "close-ok"})
