from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import chain

import pytest

from txamqpx.protocol.states import (
    CHANNEL,
    CONNECTION,
    MODES,
    WORK,
    ChannelState,
    ConnectionState,
    Either,
    Mode,
    Role,
    compile_tables,
)
from txamqpx.spec.dialect import AMQP_0_9_1, Dialect, from_spec
from txamqpx.spec.xmlspec import bundled

CLIENT, SERVER = compile_tables(Role.CLIENT), compile_tables(Role.SERVER)
BY_NAME = AMQP_0_9_1.by_name


def names(row: Mapping[int, Enum]) -> set[str]:
    return {AMQP_0_9_1.methods[index].name for index in row}


def test_every_state_has_a_row() -> None:
    assert set(CONNECTION) == set(ConnectionState)
    assert set(CHANNEL) == set(ChannelState)
    assert set(MODES) == set(Mode)


def test_the_tables_speak_in_names_of_the_specification() -> None:
    either: list[Either] = [*CONNECTION.values(), *CHANNEL.values(), *MODES.values()]
    spoken = set(chain.from_iterable([*one.client, *one.server] for one in either))
    assert spoken - {WORK} <= BY_NAME.keys()


def test_a_row_lets_a_side_send_only_what_the_other_may_receive() -> None:
    for one in [*CONNECTION.values(), *CHANNEL.values()]:
        assert all(BY_NAME[name].to_server for name in one.client if name != WORK)
        assert all(BY_NAME[name].to_client for name in one.server if name != WORK)


def test_what_one_role_sends_the_other_receives() -> None:
    for ours, theirs in ((CLIENT, SERVER), (SERVER, CLIENT)):
        for mine, yours in ((ours.connection, theirs.connection), (ours.channel, theirs.channel)):
            for state, rows in mine.items():
                assert rows.sent == yours[state].received
                assert rows.received == yours[state].sent


def test_nothing_leads_out_of_a_connection_that_is_closed() -> None:
    rows = CLIENT.connection[ConnectionState.CLOSED]
    assert not rows.sent
    assert not rows.received


def test_every_state_of_a_connection_can_be_reached_and_left() -> None:
    reached = {ConnectionState.AWAIT_HEADER, ConnectionState.AWAIT_START}  # by the protocol header
    while True:
        found = {
            state
            for one in reached
            for state in [*CONNECTION[one].client.values(), *CONNECTION[one].server.values()]
            if isinstance(state, ConnectionState)
        }
        if found <= reached:
            break
        reached |= found
    assert reached == set(ConnectionState)


@pytest.mark.covers("T-HS-10")
def test_a_server_may_close_at_any_point_of_the_handshake() -> None:
    close = BY_NAME["connection.close"].index
    silent = {ConnectionState.AWAIT_HEADER, ConnectionState.CLOSED, ConnectionState.SERVER_CLOSING}
    assert {state for state, rows in CLIENT.connection.items() if close in rows.received} == (
        set(ConnectionState) - silent
    )


@pytest.mark.covers("T-CLS-04")
@pytest.mark.parametrize("state", [ConnectionState.CLIENT_CLOSING, ConnectionState.SERVER_CLOSING])
def test_a_closing_connection_knows_only_closes_and_their_answers(state: ConnectionState) -> None:
    for tables in (CLIENT, SERVER):
        rows = tables.connection[state]
        assert names(rows.sent) | names(rows.received) == {"connection.close", "connection.close-ok"}


@pytest.mark.covers("T-CH-03")
def test_a_channel_that_we_closed_takes_what_the_peer_sent_before_it_knew() -> None:
    rows = CLIENT.channel[ChannelState.CLIENT_CLOSING]
    assert names(rows.sent) == {"channel.close-ok"}
    assert {"basic.deliver", "channel.open-ok", "channel.close", "channel.close-ok"} <= names(rows.received)
    stay = {name for name in names(rows.received) if name != "channel.close-ok"}
    assert {rows.received[BY_NAME[name].index] for name in stay} == {ChannelState.CLIENT_CLOSING}
    assert rows.received[BY_NAME["channel.close-ok"].index] is ChannelState.CLOSED


@pytest.mark.covers("T-CH-08")
def test_a_channel_can_be_used_before_it_is_open_but_only_by_the_client() -> None:
    rows = CLIENT.channel[ChannelState.OPENING]
    assert {"queue.declare", "basic.publish", "channel.close"} <= names(rows.sent)
    assert names(rows.received) == {"channel.open-ok", "channel.close"}


def test_work_is_what_belongs_on_a_channel_and_may_go_that_way() -> None:
    rows = CLIENT.channel[ChannelState.OPEN]
    assert {"basic.publish", "queue.declare", "channel.flow", "basic.cancel-ok"} <= names(rows.sent)
    assert {"basic.deliver", "queue.declare-ok", "channel.flow", "basic.cancel"} <= names(rows.received)
    for row in (rows.sent, rows.received):
        assert not any(name.startswith(("connection.", "channel.open")) for name in names(row))
    assert "basic.deliver" not in names(rows.sent)
    assert "basic.publish" not in names(rows.received)


@pytest.mark.covers("T-PUB-12")
def test_confirms_and_transactions_exclude_each_other() -> None:
    assert names(CLIENT.modes[Mode.PLAIN]) == {"confirm.select", "tx.select"}
    assert names(CLIENT.modes[Mode.CONFIRM]) == {"confirm.select"}
    assert names(CLIENT.modes[Mode.TRANSACTION]) == {"tx.select", "tx.commit", "tx.rollback"}
    assert {AMQP_0_9_1.methods[index].name for index in CLIENT.moded} == {
        "confirm.select",
        "tx.select",
        "tx.commit",
        "tx.rollback",
    }


@pytest.mark.parametrize("version", ["0-8", "0-9"])
def test_an_older_version_has_the_same_tables_without_what_it_lacks(version: str) -> None:
    dialect: Dialect = from_spec(bundled(version))
    tables = compile_tables(Role.CLIENT, dialect)
    spoken = {dialect.methods[index].name for index in tables.channel[ChannelState.OPEN].sent}
    assert {"basic.publish", "queue.declare", "channel.close"} <= spoken
    assert "confirm.select" not in {dialect.methods[index].name for index in tables.moded}
    assert tables.connection[ConnectionState.OPEN].sent.keys() == {dialect.by_name["connection.close"].index}
