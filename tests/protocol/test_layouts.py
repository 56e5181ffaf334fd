"""Whether arguments fill their frames, to the octet."""

import pytest

from txamqpx.protocol.layouts import LAYOUTS, Misfit, NotText, check_layout
from txamqpx.spec import amqp0_9_1 as amqp
from txamqpx.spec.base import Method

LETTERS = {
    "octet": "1",
    "short": "2",
    "long": "4",
    "longlong": "8",
    "shortstr": "s",
    "longstr": "S",
    "table": "T",
}


def clients() -> list[type[Method]]:
    return [method for method in amqp.METHODS if method.to_server and method.index in LAYOUTS]


@pytest.mark.parametrize("method", clients(), ids=lambda method: method.name)
def test_what_clients_send_fits(method: type[Method]) -> None:
    """And not with one octet more or less."""
    data = method().encode()
    check_layout(method.index, b"head" + data[4:] + b"tail", 4, len(data))
    with pytest.raises(Misfit):
        check_layout(method.index, data + b"\0", 4, len(data) + 1)
    if len(data) > 4:
        with pytest.raises(Misfit):
            check_layout(method.index, data, 4, len(data) - 1)


def test_all_that_clients_send_is_known() -> None:
    """But for the answers to what RabbitMQ never asks."""
    unknown = {method.name for method in amqp.METHODS if method.to_server} - {one.name for one in clients()}
    assert unknown == {"channel.flow-ok", "basic.cancel-ok"}


@pytest.mark.parametrize("method", clients(), ids=lambda method: method.name)
def test_visible_fields_are_in_their_order(method: type[Method]) -> None:
    wanted = [LETTERS[kind] for _, kind in method.fields if kind != "bit"]
    letters = iter(LAYOUTS[method.index])
    assert all(letter in letters for letter in wanted)


def test_what_servers_send_is_not_looked_at() -> None:
    check_layout(amqp.QueueDeclareOk.index, b"", 0, 0)


@pytest.mark.parametrize(
    "data",
    [b"\0\0\1q\x08\0\0\1\0", b"\0\0\1q\x08\0\0", b"\0\0\x09q", b"\0\0", b""],
)
def test_a_declare_that_is_cut(data: bytes) -> None:
    with pytest.raises(Misfit):
        check_layout(amqp.QueueDeclare.index, data, 0, len(data))


def test_a_name_that_is_no_text() -> None:
    data = b"\0\0\2\xff\xfe\0"
    with pytest.raises(NotText):
        check_layout(amqp.BasicGet.index, data, 0, len(data))
